"""Orders to mend: pieces of extents go where the order says, and only where damage was proved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.store import mending
from appliance.store.errors import DamagedRecordError
from appliance.store.layout import Layout
from appliance.store.mending import Redirection
from appliance.store.packs import Damage, Found, Identity, PackWalk
from appliance.store.pages import EXTENT, pack_extents, unpack_extents
from appliance.store.records import OVERHEAD_BYTES, Kind, MendRecord, segment_id_of
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from appliance.store.upkeep.checkpoint import Written, write_checkpoint
from appliance.store.upkeep.rebuilding import rebuild
from appliance.store.upkeep.scrub import scrub
from tests.appliance.store_builder import (
    INSTALLATION,
    KEY,
    REPOSITORY,
    VAULT,
    Client,
    assert_snapshots,
    content,
    make_repository,
)
from transport import messages as m
from transport.errors import DecodeError, IntegrityError
from transport.extents import Extent
from transport.keys import SigningKey, verify_mend
from transport.mending import (
    MEND_LABEL,
    MEND_LIMIT,
    REPOINTS_LIMIT,
    MendOrder,
    Repoint,
    SignedMend,
    decode_mend,
    encode_mend,
)
from transport.names import SEGMENT_LIMIT, ZERO_SEGMENT, RepositoryId, SegmentId, VaultId, VersionId

NOW_MS = 1_700_000_000_000
OURS = Identity(REPOSITORY, VAULT, KEY.public)


def named(number: int) -> SegmentId:
    return SegmentId(bytes([number]) * 16)


def order(*repoints: Repoint, **otherwise: object) -> MendOrder:
    whole = MendOrder(MEND_LABEL, VAULT, REPOSITORY, INSTALLATION, 1, list(repoints))
    return msgspec.structs.replace(whole, **otherwise)


# Redirection, against a map of single bytes

Byte = tuple[SegmentId, int]


def spread(packed: bytes) -> list[Byte]:
    """Every byte that these extents name; all bytes of a hole are the same."""
    return [
        (segment, offset + at if segment != ZERO_SEGMENT else 0)
        for segment, offset, length in unpack_extents(packed)
        for at in range(length)
    ]


@st.composite
def _slices(draw: st.DrawFn) -> list[Repoint]:
    """Slices of two damaged segments that do not overlap, in any order."""
    found: list[Repoint] = []
    for damaged in (1, 2):
        cuts = sorted(draw(st.sets(st.integers(0, 40), max_size=6)))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False):
            fresh = draw(st.integers(3, 4))
            found.append(Repoint(named(damaged), start, end - start, named(fresh), draw(st.integers(0, 50))))
    return draw(st.permutations(found))


_EXTENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([named(1), named(2), named(3)]), st.integers(0, 35), st.integers(1, 20)),
        st.tuples(st.just(ZERO_SEGMENT), st.just(0), st.integers(1, 9)),
    ),
    max_size=8,
)


@given(slices=_slices(), extents=_EXTENTS)
def test_every_byte_is_read_where_the_order_says(slices: list[Repoint], extents: list[Extent]) -> None:
    packed = pack_extents(extents)
    mapped: dict[Byte, Byte] = {
        (one.segment, one.offset + at): (one.fresh, one.fresh_offset + at)
        for one in slices
        for at in range(one.length)
    }
    before = spread(packed)
    after = Redirection(slices).redirect(packed)
    assert spread(after) == [mapped.get(byte, byte) for byte in before]
    if not {segment for segment, _, _ in extents} & {one.segment for one in slices}:
        assert after == packed
    assert len(after) // EXTENT.size <= len(extents) + 2 * len(slices) * max(1, len(extents))


def test_slices_that_overlap_are_refused_and_neighbours_are_not() -> None:
    first, second = Repoint(named(1), 0, 10, named(3), 0), Repoint(named(1), 10, 5, named(3), 90)
    assert list(Redirection([second, first]).segments) == [named(1)]
    with pytest.raises(DecodeError, match="overlap"):
        Redirection([first, second, Repoint(named(1), 14, 2, named(4), 0)])


# The order's bytes

GOOD = Repoint(named(1), 0, 10, named(2), 5)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (order(GOOD, label="pilulier/mend/2"), "canonical"),
        (order(), "slices is outside"),
        (order(*[GOOD] * (REPOINTS_LIMIT + 1)), "over|slices is outside"),
        (order(GOOD, vault=VaultId(b"short")), "right length"),
        (order(GOOD, head=-1), "right length"),
        (order(msgspec.structs.replace(GOOD, fresh=named(1))), "cannot be"),
        (order(msgspec.structs.replace(GOOD, segment=ZERO_SEGMENT)), "cannot be"),
        (order(msgspec.structs.replace(GOOD, fresh=SegmentId(b"x" * 15))), "cannot be"),
        (order(msgspec.structs.replace(GOOD, offset=-1)), "out of bounds"),
        (order(msgspec.structs.replace(GOOD, length=0)), "out of bounds"),
        (order(msgspec.structs.replace(GOOD, fresh_offset=SEGMENT_LIMIT - 9)), "out of bounds"),
    ],
)
def test_an_order_out_of_bounds_is_refused(wrong: MendOrder, sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_mend(encode_mend(wrong))


def test_only_whole_canonical_bytes_are_an_order() -> None:
    data = encode_mend(order(GOOD))
    assert decode_mend(data) == order(GOOD)
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            decode_mend(data[:cut])
    longer = data.replace(b"\x01\x91", b"\xcc\x01\x91")  # head 1 before one slice, in two bytes
    assert len(longer) == len(data) + 1
    for wrong in (data + b"\x00", longer, bytes(MEND_LIMIT + 1)):
        with pytest.raises(DecodeError):
            decode_mend(wrong)


def test_the_signature_binds_every_byte_to_the_machine() -> None:
    signed = KEY.sign_mend(order(GOOD))
    assert verify_mend(KEY.public, signed) == order(GOOD)
    other = SigningKey(bytes(32)).sign_mend(order(GOOD))
    moved = SignedMend(encode_mend(order(GOOD, head=2)), signed.signature)
    for wrong in (other, moved, SignedMend(signed.record, bytes(64)), SignedMend(signed.record, b"")):
        with pytest.raises(IntegrityError, match="signature"):
            verify_mend(KEY.public, wrong)


# In a repository


def _is_segment(step: Found | Damage) -> TypeGuard[Found]:
    return isinstance(step, Found) and step.kind == Kind.SEGMENT


@dataclass
class Sick:
    """A repository in which one of two files lies in a damaged segment; `fresh` was sent to mend it."""

    client: Client
    folder: Path
    version: VersionId
    damaged: SegmentId
    sound: SegmentId
    fresh: SegmentId

    def flip(self, segment: SegmentId, place: int = 200) -> None:
        """Damage the segment's record, and have a scrub note it."""
        path = Layout(self.folder).pack(1)
        walk = PackWalk(path, path.stat().st_size, read_data=False)
        places = {segment_id_of(step.payload): step.offset for step in walk if _is_segment(step)}
        data = bytearray(path.read_bytes())
        data[places[segment] + OVERHEAD_BYTES + place] ^= 2
        path.write_bytes(data)
        self.client.repository.close()
        with Access(self.folder, reserve_bytes=0) as access:
            scrub(access, now_ms=lambda: NOW_MS)
        self.client.repository = Repository.open(self.folder, reserve_bytes=0)

    def send(self, plaintext: bytes) -> SegmentId:
        message, payload = self.client.segment(plaintext)
        self.client.stage((message, payload))
        return SegmentId(message.segment)

    def put(self, *repoints: Repoint) -> None:
        self.client.stage((m.PutMend(self.client.next(), KEY.sign_mend(order(*repoints))), b""))

    def may(self, *repoints: Repoint, **otherwise: object) -> bool:
        with self.client.repository.maintaining() as catalog:
            return mending.may_be_done(catalog.connection, OURS, order(*repoints, **otherwise))

    def tables(self) -> list[list[tuple[object, ...]]]:
        with self.client.repository.maintaining() as catalog:
            statements = ("SELECT * FROM page ORDER BY 1", "SELECT * FROM version ORDER BY 1", "SELECT * FROM mend")
            return [catalog.connection.execute(statement).fetchall() for statement in statements]

    def unmended(self) -> set[SegmentId]:
        with self.client.repository.maintaining() as catalog:
            rows = catalog.connection.execute("SELECT segment FROM damage WHERE mended_ms = 0").fetchall()
        return {row[0] for row in rows}


@pytest.fixture
def sick(tmp_path: Path) -> Sick:
    client = Client(make_repository(tmp_path / "r"))
    client.begin()
    version = client.put_file((b"a",), client.random.randbytes(9000))
    (damaged,) = client.segments
    client.put_file((b"b",), client.random.randbytes(5000))
    client.commit()
    (sound,) = set(client.segments) - {damaged}
    found = Sick(client, tmp_path / "r", version, damaged, sound, damaged)
    found.flip(damaged)
    client.begin()
    found.fresh = found.send(b"before" + client.segments[damaged])
    return found


def test_an_order_makes_the_repository_whole_again(sick: Sick) -> None:
    with pytest.raises(DamagedRecordError):
        content(sick.client.repository, sick.version)
    sick.put(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    assert sick.unmended() == set()
    assert_snapshots(sick.client.repository, sick.client)
    assert sick.client.repository.check(read_data=True).mended == 1
    sick.client.commit()
    assert_snapshots(sick.client.repository, sick.client)


@pytest.mark.parametrize("place", [3, 20, 30])
def test_a_mended_record_is_no_finding_whatever_of_it_is_damaged(sick: Sick, place: int) -> None:
    """Its id and its lengths too: a check that reads no data sees nothing else of it."""
    sick.flip(sick.damaged, place)
    sick.client.seq = sick.client.repository.begin(sick.client.session, sick.client.previous)
    sick.put(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    for read_data in (False, True):
        assert sick.client.repository.check(read_data=read_data).ok


def test_half_an_order_leaves_the_rest_to_another(sick: Sick) -> None:
    sick.put(Repoint(sick.damaged, 1000, 3000, sick.fresh, 1006))
    assert sick.unmended() == {sick.damaged}
    assert not sick.client.repository.check(read_data=True).ok
    rest = (Repoint(sick.damaged, 4000, 5000, sick.fresh, 4006), Repoint(sick.damaged, 0, 1000, sick.fresh, 6))
    sick.put(*rest)
    assert sick.unmended() == set()
    assert_snapshots(sick.client.repository, sick.client)


def test_only_damage_that_was_proved_is_mended_and_only_from_what_is_held_and_whole(sick: Sick) -> None:
    assert sick.may(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    for wrong in (
        Repoint(sick.sound, 0, 5000, sick.fresh, 6),  # reads well
        Repoint(named(9), 0, 10, sick.fresh, 6),  # is not held
        Repoint(sick.damaged, 0, 10, named(9), 6),
    ):
        assert not sick.may(wrong)
        assert not sick.may(Repoint(sick.damaged, 0, 9000, sick.fresh, 6), wrong), "one wrong slice spoils the order"
    before = sick.tables()
    sick.put(Repoint(sick.sound, 0, 5000, sick.fresh, 6))
    assert sick.tables() == before, "acknowledged, and left undone"
    walk = PackWalk(Layout(sick.folder).pack(1), Layout(sick.folder).pack(1).stat().st_size, read_data=False)
    assert not [step for step in walk if not isinstance(step, Damage) and step.kind == Kind.MEND]


def test_a_fresh_segment_that_is_damaged_mends_nothing(sick: Sick) -> None:
    sick.flip(sick.fresh)
    assert not sick.may(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    sick.client.seq = sick.client.repository.begin(sick.client.session, sick.client.previous)
    before = sick.tables()
    sick.put(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    assert sick.tables() == before and sick.damaged in sick.unmended()


@pytest.mark.parametrize(
    ("offset", "length", "fresh_offset"), [(0, 9001, 0), (8999, 2, 0), (0, 9000, 7), (0, 1, 9006)]
)
def test_slices_beyond_a_segment_are_refused_with_the_numbers(
    sick: Sick, offset: int, length: int, fresh_offset: int
) -> None:
    before = sick.tables()
    with pytest.raises(DecodeError, match=f"length={length}, segment=900"):
        sick.put(Repoint(sick.damaged, offset, length, sick.fresh, fresh_offset))
    assert sick.tables() == before


def test_overlapping_slices_are_refused_whole(sick: Sick) -> None:
    before = sick.tables()
    with pytest.raises(DecodeError, match="overlap"):
        sick.put(Repoint(sick.damaged, 0, 5000, sick.fresh, 6), Repoint(sick.damaged, 4999, 10, sick.fresh, 5005))
    assert sick.tables() == before


def test_an_order_for_another_repository_or_by_another_key_is_refused(sick: Sick) -> None:
    whole = Repoint(sick.damaged, 0, 9000, sick.fresh, 6)
    before = sick.tables()
    for wrong in (
        KEY.sign_mend(order(whole, repository=RepositoryId(b"another's repos."))),
        KEY.sign_mend(order(whole, vault=VaultId(b"another's vault!"))),
        SigningKey(bytes(32)).sign_mend(order(whole)),
    ):
        with pytest.raises(IntegrityError):
            sick.client.repository.stage([(m.PutMend(sick.client.seq + 1, wrong), b"")], now_ms=NOW_MS)
        with sick.client.repository.maintaining() as catalog, pytest.raises(IntegrityError):
            mending.apply_record(catalog.connection, OURS, MendRecord(NOW_MS, wrong))
    assert sick.tables() == before


def test_an_order_carried_out_twice_changes_nothing_more(sick: Sick) -> None:
    whole = Repoint(sick.damaged, 0, 9000, sick.fresh, 6)
    sick.put(whole)
    after = sick.tables()
    with sick.client.repository.maintaining() as catalog, catalog.transaction() as connection:
        again = MendRecord(NOW_MS + 1, KEY.sign_mend(order(whole)))
        assert mending.apply_record(connection, OURS, again) == 0
    assert sick.tables() == after
    sick.put(whole)
    assert sick.tables() == after


def test_what_was_mended_is_mended_again_when_the_fresh_segment_fails_too(sick: Sick) -> None:
    sick.put(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    sick.client.commit()
    sick.flip(sick.fresh)
    assert sick.unmended() == {sick.fresh}
    with pytest.raises(DamagedRecordError):
        content(sick.client.repository, sick.version)
    sick.client.begin()
    third = sick.send(sick.client.segments[sick.damaged])
    sick.put(Repoint(sick.fresh, 6, 9000, third, 0))
    assert sick.unmended() == set()
    sick.client.commit()
    assert_snapshots(sick.client.repository, sick.client)
    with sick.client.repository.maintaining() as catalog:
        first, second = mending.all_mends(catalog.connection)
    packed = pack_extents([(sick.damaged, 100, 50)])
    assert unpack_extents(second.redirect(first.redirect(packed))) == [(third, 100, 50)]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_rebuilt_catalog_reads_where_the_order_says(sick: Sick, checkpointed: bool) -> None:
    """Behind a checkpoint the order itself is not read any more: what it did is told there."""
    sick.put(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    sick.client.commit()
    after = sick.tables()[1]
    sick.client.repository.close()
    if checkpointed:
        with Access(sick.folder, reserve_bytes=0) as access:
            assert isinstance(write_checkpoint(access), Written)
    Layout(sick.folder).catalog.unlink()
    assert rebuild(sick.folder, now_ms=NOW_MS).ok
    sick.client.repository = Repository.open(sick.folder, reserve_bytes=0)
    assert {row[0]: row[-1] for row in sick.tables()[1]} == {row[0]: row[-1] for row in after}
    assert content(sick.client.repository, sick.version) == sick.client.contents[sick.version]
    assert sick.client.repository.check().ok


MAGIC_BYTE = -OVERHEAD_BYTES + 1
"""Of a segment's payload: a place in its record's head, without which packs alone do not tell what stands there."""


def _otherwise(sick: Sick) -> None:
    """Make the catalog wrong in one place, so that a rebuild replaces it, and close."""
    with sick.client.repository.maintaining() as catalog, catalog.transaction() as connection:
        connection.execute("UPDATE version SET size = size + 1 WHERE id != ?", (sick.version,))
    sick.client.repository.close()


def _mended_anew(sick: Sick) -> None:
    """Send the damaged segment again with an order, as the next backup does."""
    assert sick.client.repository.care() != []
    sick.client.begin()
    fresh = sick.send(sick.client.segments[sick.damaged])
    sick.put(Repoint(sick.damaged, 0, 9000, fresh, 0))
    sick.client.commit()
    assert_snapshots(sick.client.repository, sick.client)
    assert sick.unmended() == set()


@pytest.mark.parametrize("place", [200, MAGIC_BYTE])
def test_a_rebuild_keeps_the_list_of_damage_and_what_can_be_mended(sick: Sick, place: int) -> None:
    if place != 200:  # which the fixture has flipped already
        sick.flip(sick.damaged, place)
    _otherwise(sick)
    report = rebuild(sick.folder, now_ms=NOW_MS + 1)
    assert report.replaced and report.ok == (place == 200)
    sick.client.repository = Repository.open(sick.folder, reserve_bytes=0)
    assert sick.unmended() == {sick.damaged}
    with sick.client.repository.maintaining() as catalog:
        assert catalog.connection.execute("SELECT found_ms FROM damage").fetchall() == [(NOW_MS,)]
    _mended_anew(sick)


def test_mended_damage_is_still_evidence_after_a_rebuild(sick: Sick) -> None:
    sick.put(Repoint(sick.damaged, 0, 9000, sick.fresh, 6))
    sick.client.commit()

    def evidence() -> list[tuple[object, ...]]:
        with sick.client.repository.maintaining() as catalog:
            return catalog.connection.execute("SELECT * FROM damage").fetchall()

    before = evidence()
    _otherwise(sick)
    assert rebuild(sick.folder, now_ms=NOW_MS + 1).replaced
    sick.client.repository = Repository.open(sick.folder, reserve_bytes=0)
    assert evidence() == before != []
    assert sick.client.repository.check(read_data=True).ok


def test_a_rebuild_notes_what_it_comes_upon_and_leaves_a_right_catalog_in_place(sick: Sick) -> None:
    """The head of a record nobody has scrubbed yet is broken: the packs alone no longer tell of that segment."""
    path = Layout(sick.folder).pack(1)
    with sick.client.repository.maintaining() as catalog, catalog.transaction() as connection:
        (place,) = connection.execute("SELECT offset FROM segment WHERE id = ?", (sick.sound,)).fetchone()
    sick.client.repository.close()
    data = bytearray(path.read_bytes())
    data[place + 1] ^= 1
    path.write_bytes(data)
    report = rebuild(sick.folder, now_ms=NOW_MS + 1)
    assert not report.ok and not report.replaced
    sick.client.repository = Repository.open(sick.folder, reserve_bytes=0)
    assert sick.unmended() == {sick.damaged, sick.sound}


def test_without_a_former_catalog_a_rebuild_lists_what_it_comes_upon(sick: Sick) -> None:
    sick.flip(sick.damaged, MAGIC_BYTE)
    sick.client.repository.close()
    Layout(sick.folder).catalog.unlink()
    report = rebuild(sick.folder, now_ms=NOW_MS + 1)
    assert not report.ok and report.replaced
    sick.client.repository = Repository.open(sick.folder, reserve_bytes=0)
    assert sick.unmended() == {None}
