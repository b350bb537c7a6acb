"""A hostile agent against a running exchange: whatever it says, others are served and no repository is hurt."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pyotp
import pytest

from appliance import admission, delivery, exchange
from appliance.connections import CONNECTIONS_PER_MACHINE, WINDOW_BYTES
from appliance.connections import Connection as Live
from appliance.control import accounts, contracts, passwords
from appliance.control.accounts import Role
from appliance.restoring import RestoreSessions
from appliance.store.repository import Repository
from tests.support.hand_agent import FIGURES, Connection, HandAgent, Served, file_entry
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import FRAME_LIMIT, Peer
from transport.commits import COMMIT_LIMIT, FIRST_PREVIOUS, SignedCommit, StoredCommit
from transport.errors import ProtocolError, UnreachableError
from transport.extents import Copy, Fragment, Operation, VersionRecord, Zero, encode_operations
from transport.keys import SigningKey
from transport.line_guard import LINES_PER_OWNER
from transport.names import FILE_LIMIT, MESSAGE_LIMIT, NO_VERSION, ROOT, Digest, PathId, SegmentId, VersionId, random_id
from transport.sealing import SEGMENT_OVERHEAD
from transport.succession import SUCCESSIONS_LIMIT, SignedSuccession
from transport.tree import BatchHeader, EntryBatch, EntryKind, EntryRecord


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_N", 2)
        opened = Served(tmp_path_factory.mktemp("appliance") / "home")
        yield opened
        opened.close()
        assert opened.code == 0


@pytest.fixture(scope="module")
def good(served: Served) -> Iterator[HandAgent]:
    agent = served.machine()
    yield agent
    agent.close()


def backs_up(agent: HandAgent) -> None:
    """An honest backup on a connection of its own; what a failed test left open is ended first."""
    agent.close()
    agent.connect().backup()
    agent.close()


@pytest.fixture
def hostile(served: Served, good: HandAgent) -> Iterator[HandAgent]:
    """A machine that may do anything; afterwards all is still well."""
    agent = served.machine()
    yield agent
    agent.close()
    assert served.alive
    backs_up(good)
    for machine in (agent, good):
        report = served.repository(machine).check(read_data=True)
        assert report.ok, report.errors
    assert served.repository(agent).head_number == agent.number


def figures_commit(connection: Connection, signed: SignedCommit) -> m.PutCommit:
    return m.PutCommit(connection.next(), signed, FIGURES)


# What the table forbids


def empty_batch() -> EntryBatch:
    return EntryBatch(BatchHeader(1, bytes(32), bytes(32)), [])


UPLOADS: list[m.Message] = [
    m.PutSegment(1, random_id()),
    m.PutVersions(1, []),
    m.PutEntries(1, empty_batch()),
    m.PutDeaths(1, []),
    m.PutCommit(1, SignedCommit(b"", b""), FIGURES),
    m.HeldQuery(bytes(16)),
    m.HasVersions([]),
    m.BackupEnd(),
]
FETCHES: list[m.Message] = [m.FetchSegments([], 0), m.ExtentsQuery([], 0)]
HELLO = m.Hello(PROTOCOL_VERSION, "", "", 0, bytes(16))


def named(message: m.Message) -> str:
    return type(message).__name__


@pytest.mark.parametrize(
    "message", [*UPLOADS, *FETCHES, m.SnapshotsQuery(0), m.Ping(), m.RestoreOpen("", "")], ids=named
)
def test_nothing_before_hello(hostile: HandAgent, message: m.Message) -> None:
    assert hostile.connect(hello=False).refused(message) == "reconnect"


@pytest.mark.parametrize("message", [*UPLOADS, *FETCHES, HELLO], ids=named)
def test_upload_and_data_need_their_session(hostile: HandAgent, message: m.Message) -> None:
    assert hostile.connect().refused(message) == "protocol"


@pytest.mark.parametrize(
    "message",
    [*FETCHES, HELLO, m.RestoreOpen("", ""), m.SampleQuery(1), m.ResyncOpen("", "", bytes(16))],
    ids=named,
)
def test_a_backup_session_gives_no_data(hostile: HandAgent, message: m.Message) -> None:
    connection = hostile.connect()
    connection.begin()
    assert connection.refused(message) == "protocol"


def test_after_a_breach_nothing_is_heard(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.refused(m.BackupEnd())
    for message in (m.Ping(), m.SnapshotsQuery(0), m.BackupBegin(random_id(), FIRST_PREVIOUS)):
        connection.say(message)
    assert connection.hear(0.3) is None
    hostile.connect().backup()


def test_another_protocol_is_told_so(hostile: HandAgent) -> None:
    connection = hostile.connect(hello=False)
    assert connection.refused(m.Hello(PROTOCOL_VERSION + 1, "", "", 0, bytes(16))) == "protocol"
    connection.hello()


# Malformed messages


@pytest.mark.parametrize(
    "message", [m.Ping(), m.SnapshotsQuery(0), m.BackupBegin(random_id(), FIRST_PREVIOUS)], ids=named
)
def test_only_segments_carry_a_payload(hostile: HandAgent, message: m.Message) -> None:
    assert hostile.connect().refused(message, b"x" * 1000) == "decode"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        b"\x91" * 5000,
        b"\xdf\xff\xff\xff\xff",
        m.encode(m.Ping()) + b"\0",
        msgspec.msgpack.encode({"type": "Ping", "more": 1}),
        msgspec.msgpack.encode({"type": "Welcome"}),
        msgspec.msgpack.encode({"type": "SampleQuery", "percent": float("nan")}),
        msgspec.msgpack.encode({"type": "SnapshotsQuery", "after": -1}),
        msgspec.msgpack.encode({"type": "HeldQuery", "after": bytes(17)}),
        b"\xa5" * (MESSAGE_LIMIT + 1),
    ],
    ids=range(11),
)
def test_malformed_headers(hostile: HandAgent, header: bytes) -> None:
    connection = hostile.connect()
    assert connection.channel._socket is not None
    connection.channel._socket.send_multipart([header, b""])
    answer = connection.hear()
    assert isinstance(answer, m.Refused)
    assert answer.code == "decode"


def test_wrong_frame_counts_are_dropped(hostile: HandAgent) -> None:
    connection = hostile.connect()
    assert connection.channel._socket is not None
    for count in (1, 3, 50):
        connection.channel._socket.send_multipart([m.encode(m.SnapshotsQuery(0))] * count)
    connection.ask(m.Ping(), m.Pong)


def test_a_frame_over_the_limit_ends_the_connection(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    connection.say(m.PutSegment(1, random_id()), bytes(FRAME_LIMIT + 1))
    with contextlib.suppress(UnreachableError):
        assert connection.hear(0.3) is None
    again = hostile.connect()
    assert again.begin().held_count == 0


def test_entries_that_grow_when_decoded(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    tiny = EntryRecord(PathId(b""), PathId(b""), 0, 0, VersionId(b""), 0, b"")
    batch = EntryBatch(BatchHeader(1, bytes(32), bytes(32)), [tiny] * 50_000)
    assert connection.refused(m.PutEntries(1, batch)) == "decode"


# Segments and numbers


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[:10],
        lambda whole: whole[:SEGMENT_OVERHEAD],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: b"X" + whole[1:],
        lambda whole: whole[:6] + b"\xff" + whole[7:],
        lambda whole: whole[:12] + b"\xff\xff\xff\xff" + whole[16:],
        lambda whole: whole[:12] + bytes(4) + whole[16:],
        lambda whole: bytes(FRAME_LIMIT - 100),
    ],
    ids=["empty", "short", "no-body", "cut", "longer", "magic", "codec", "huge", "none", "zeros"],
)
def test_a_payload_that_is_no_sealed_segment(hostile: HandAgent, spoil: Callable[[bytes], bytes]) -> None:
    connection = hostile.connect()
    connection.begin()
    segment, whole = hostile.segment(random_id())
    assert connection.refused(m.PutSegment(1, segment), spoil(whole)) == "decode"
    assert hostile.connect().begin().held_count == 0


@pytest.mark.parametrize("together", [True, False])
def test_a_segment_id_is_used_once(hostile: HandAgent, together: bool) -> None:
    connection = hostile.connect()
    connection.begin()
    segment, whole = hostile.segment()
    connection.say(m.PutSegment(1, segment), whole)
    if not together:
        connection.answer(m.Acknowledged)
    assert connection.refused(m.PutSegment(2, segment), whole) == "protocol"
    assert connection.hear(0.1) is None


def test_the_zero_segment_cannot_be_sent(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    assert connection.refused(m.PutSegment(1, bytes(16)), hostile.segment()[1]) == "protocol"


@pytest.mark.parametrize("numbers", [(0,), (2,), (1, 3), (1, 2**53), (2, 1)])
def test_numbers_with_gaps(hostile: HandAgent, numbers: tuple[int, ...]) -> None:
    connection = hostile.connect()
    connection.begin()
    for number in numbers:
        connection.say(m.PutSegment(number, random_id()), hostile.segment()[1])
    if numbers == (0,):
        assert connection.answer(m.Acknowledged).upto == 0
        connection.say(m.BackupEnd())
        connection.channel.close()
    else:
        assert connection.answer(m.Refused).code == "protocol"
    assert hostile.connect().begin().held_count < len(numbers)


def test_a_repeated_number_replaces_nothing(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    first, whole = hostile.segment()
    other, another = hostile.segment()
    connection.say(m.PutSegment(1, first), whole)
    assert connection.answer(m.Acknowledged).upto == 1
    connection.say(m.PutSegment(1, other), another)
    assert connection.answer(m.Acknowledged).upto == 1
    assert connection.ask(m.HeldQuery(bytes(16)), m.Held).segments == [first]


def test_after_a_refused_number_nothing_is_taken(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    connection.refused(m.PutDeaths(1, [PathId(random_id())]))
    connection.say(m.PutSegment(1, random_id()), hostile.segment()[1])
    connection.say(m.PutCommit(2, hostile.signed(), FIGURES))
    assert connection.hear(0.3) is None
    assert hostile.connect().begin().held_count == 0


# Versions


def version(
    operations: list[Operation] | bytes, size: int, base: VersionId = NO_VERSION, base_size: int = 0, more: bool = False
) -> VersionRecord:
    encoded = operations if isinstance(operations, bytes) else encode_operations(operations)
    return VersionRecord(VersionId(random_id()), size, base, base_size, encoded, more)


BAD_VERSIONS: dict[str, Callable[[SegmentId, VersionId], VersionRecord]] = {
    "copy beyond the base": lambda s, v: version([Copy(1, 12)], 12, v, 12),
    "copy far beyond": lambda s, v: version([Copy(2**64 - 1, 2**64 - 1)], 12, v, 12),
    "copy without base": lambda s, v: version([Copy(0, 12)], 12),
    "unknown base": lambda s, v: version([Copy(0, 12)], 12, VersionId(random_id()), 12),
    "forged base size": lambda s, v: version([Copy(0, 500)], 500, v, 1000),
    "base size beyond SQLite": lambda s, v: version([Copy(0, 500)], 500, v, 2**64 - 1),
    "negative base size": lambda s, v: version([Copy(0, 12)], 12, v, -1),
    "unknown segment": lambda s, v: version([Fragment(SegmentId(random_id()), 0, 12)], 12),
    "beyond the segment's length": lambda s, v: version([Fragment(s, 1, 12)], 12),
    "beyond any segment": lambda s, v: version([Fragment(s, 2**32 - 1, 2**32 - 1)], 2**33),
    "zero segment": lambda s, v: version([Fragment(SegmentId(bytes(16)), 0, 12)], 12),
    "nothing of a segment": lambda s, v: version([Fragment(s, 0, 0)], 0),
    "huge": lambda s, v: version([Zero(FILE_LIMIT + 1)], FILE_LIMIT + 1),
    "beyond SQLite": lambda s, v: version([Zero(2**63)], 2**63),
    "negative": lambda s, v: version([], -1),
    "too much": lambda s, v: version([Zero(11), Zero(2**64 - 1)], 12),
    "too little": lambda s, v: version([Zero(11)], 12),
    "hole of nothing": lambda s, v: version([Zero(0)], 0),
    "unknown operation": lambda s, v: version(b"\x09", 1),
    "cut operation": lambda s, v: version(encode_operations([Zero(5)])[:-1], 5),
    "reserved id": lambda s, v: msgspec.structs.replace(version([Zero(5)], 5), version_id=NO_VERSION),
    "short id": lambda s, v: msgspec.structs.replace(version([Zero(5)], 5), version_id=VersionId(b"short")),
    "held already": lambda s, v: msgspec.structs.replace(version([Zero(5)], 5), version_id=v),
    "half of it too long": lambda s, v: version([Zero(6)], 5, more=True),
    "half with huge base": lambda s, v: version([Zero(1)], 5, v, 2**64 - 1, more=True),
}


@pytest.mark.parametrize("name", BAD_VERSIONS)
def test_versions_out_of_bounds(hostile: HandAgent, name: str) -> None:
    connection = hostile.connect()
    connection.begin()
    segment = connection.put_segment(b"twelve bytes")
    held = connection.put_version([Fragment(segment, 0, 12)])
    while connection.answer(m.Acknowledged).upto < 2:
        pass
    bad = BAD_VERSIONS[name](segment, held)
    assert connection.refused(m.PutVersions(connection.next(), [bad])) in ("decode", "protocol")
    fresh = hostile.connect()
    fresh.begin()
    kept = fresh.ask(m.HasVersions([bad.version_id]), m.Versions).held
    assert kept == ([held] if bad.version_id == held else [])


def test_a_version_of_the_largest_size_costs_nothing(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    huge = connection.put_version([Zero(FILE_LIMIT)])
    connection.say(m.PutEntries(connection.next(), hostile.entries(file_entry(huge, FILE_LIMIT))))
    connection.commit()


def test_copies_of_copies_stay_bounded(hostile: HandAgent) -> None:
    """Each version doubles the extents of the last: forty of them would make 2**40."""
    connection = hostile.connect()
    connection.begin()
    segment = connection.put_segment(b"twelve bytes")
    size = 4
    last = connection.put_version([Fragment(segment, 0, 2), Fragment(segment, 5, 2)])
    for _ in range(40):
        double = version([Copy(0, size), Copy(0, size)], 2 * size, last, size)
        connection.say(m.PutVersions(connection.next(), [double]))
        last, size = double.version_id, 2 * size
        answer = connection.hear(60.0)
        while isinstance(answer, m.Acknowledged) and answer.upto < connection.seq:
            answer = connection.hear(60.0)
        if isinstance(answer, m.Refused):
            assert answer.code in ("decode", "protocol")
            return
    pytest.fail("it went on for ever")


# Entries and deaths


def changed(**changes: object) -> Callable[[EntryRecord], EntryRecord]:
    return lambda record: msgspec.structs.replace(record, **changes)


BAD_ENTRIES: dict[str, Callable[[EntryRecord], EntryRecord]] = {
    "unknown parent": changed(parent_id=PathId(random_id())),
    "version not held": changed(version_id=VersionId(random_id())),
    "wrong size": changed(size=11),
    "no version": changed(version_id=NO_VERSION),
    "huge size": changed(size=2**64 - 1),
    "the root": changed(path_id=ROOT),
    "unknown kind": changed(kind=7),
    "folder with content": changed(kind=int(EntryKind.FOLDER)),
    "link with content": changed(kind=int(EntryKind.OTHER)),
    "short path id": changed(path_id=PathId(b"short")),
    "long parent id": changed(parent_id=PathId(bytes(17))),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_entries_that_do_not_hold_together(hostile: HandAgent, name: str) -> None:
    connection = hostile.connect()
    connection.begin()
    _, entry = connection.put_file(b"twelve bytes")
    bad = BAD_ENTRIES[name](msgspec.structs.replace(entry, path_id=PathId(random_id())))
    connection.say(m.PutEntries(connection.next(), hostile.entries(bad)))
    signed = hostile.signed(root=Digest(bytes(32))) if bad.path_id == ROOT else hostile.signing.sign_commit(
        msgspec.structs.replace(hostile_record(hostile), entry_count=2)
    )
    assert connection.refused(figures_commit(connection, signed)) in ("decode", "protocol", "commit-refused")
    hostile.live.clear()


def test_an_entry_of_less_than_nothing(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    batch = hostile.entries(file_entry(NO_VERSION, 0))
    batch = EntryBatch(batch.header, [msgspec.structs.replace(batch.entries[0], size=-1)])
    assert connection.refused(m.PutEntries(1, batch)) == "decode"


def hostile_record(agent: HandAgent) -> Any:
    """The next commit, with a root that only a tree without breaks would have."""
    try:
        return agent.record()
    except (KeyError, ValueError):
        return msgspec.structs.replace(agent.record(), root=Digest(bytes(32)))


def test_an_entry_within_itself(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    one, two = PathId(random_id()), PathId(random_id())
    for path, parent in ((one, two), (two, one)):
        folder = EntryRecord(path, parent, int(EntryKind.FOLDER), 0, NO_VERSION, 0, b"")
        connection.say(m.PutEntries(connection.next(), hostile.entries(folder)))
    assert connection.refused(figures_commit(connection, hostile.signed())) == "commit-refused"


def test_the_same_path_twice_in_a_batch(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    _, entry = connection.put_file(b"twelve bytes")
    other = connection.put_version([Zero(5)])
    twice = msgspec.structs.replace(entry, version_id=other, size=5)
    connection.say(m.PutEntries(connection.next(), hostile.entries(entry, twice)))
    connection.commit()


def test_deaths_of_what_never_lived(hostile: HandAgent, good: HandAgent) -> None:
    backs_up(good)
    for paths in ([PathId(random_id())], [next(iter(good.live))], [], [ROOT], [PathId(b"short")]):
        connection = hostile.connect()
        connection.begin()
        assert connection.refused(m.PutDeaths(1, paths)) in ("protocol", "decode")
        connection.say(m.BackupEnd())
        hostile.close()


def test_a_path_dies_once(hostile: HandAgent) -> None:
    connection = hostile.connect()
    _, entry = connection.backup()
    connection.begin()
    assert connection.refused(m.PutDeaths(1, [entry.path_id, entry.path_id])) == "protocol"
    connection = hostile.connect()
    connection.begin()
    connection.say(m.PutDeaths(1, [entry.path_id]))
    assert connection.refused(m.PutDeaths(2, [entry.path_id])) == "protocol"


# Commits

BAD_COMMITS: dict[str, tuple[dict[str, object], str]] = {
    "another vault": ({"vault": random_id()}, "integrity"),
    "another repository": ({"repository": random_id()}, "integrity"),
    "number too high": ({"number": 3}, "stale-head"),
    "number again": ({"number": 1}, "stale-head"),
    "number beyond SQLite": ({"number": 2**64 - 1}, "stale-head"),
    "another predecessor": ({"previous": Digest(bytes(range(32)))}, "stale-head"),
    "from the beginning": ({"previous": FIRST_PREVIOUS}, "stale-head"),
    "another root": ({"root": Digest(bytes(32))}, "drift"),
    "another count": ({"entry_count": 3}, "drift"),
    "count beyond SQLite": ({"entry_count": 2**64 - 1}, "drift"),
    "other additions": ({"added": Digest(bytes(32))}, "drift"),
    "negative count": ({"entry_count": -1}, "decode"),
    "another label": ({"label": "pilulier/commit/2"}, "decode"),
    "longer than allowed": ({"agent_version": "x" * COMMIT_LIMIT}, "decode"),
}


@pytest.mark.parametrize("name", BAD_COMMITS)
def test_commits_that_lie(hostile: HandAgent, name: str) -> None:
    changes, code = BAD_COMMITS[name]
    connection = hostile.connect()
    connection.backup()
    connection.begin()
    connection.put_file()
    assert connection.refused(figures_commit(connection, hostile.signed(**changes))) == code


def test_a_forged_signature(hostile: HandAgent, good: HandAgent) -> None:
    record = hostile.record()
    right = hostile.signing.sign_commit(record)
    forged = (
        SigningKey.generate().sign_commit(record),
        good.signing.sign_commit(record),
        SignedCommit(right.record, right.signature[:-1] + bytes([right.signature[-1] ^ 1])),
        SignedCommit(right.record, b""),
    )
    for signed in forged:
        connection = hostile.connect()
        connection.begin()
        assert connection.refused(figures_commit(connection, signed)) == "integrity"
        hostile.close()


def test_an_old_commit_again(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    connection.put_file()
    old = hostile.signed()
    connection.ask(figures_commit(connection, old), m.Committed)
    hostile.stands(old)
    connection.put_file(b"another")
    connection.commit()
    assert connection.refused(figures_commit(connection, old)) == "stale-head"


def test_a_commit_made_by_another_machine(hostile: HandAgent, good: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    connection.put_file()
    stolen = good.signing.sign_commit(
        msgspec.structs.replace(hostile.record(), vault=good.vault, repository=good.machine)
    )
    assert connection.refused(figures_commit(connection, stolen)) == "integrity"


@pytest.mark.parametrize("times", [(0, 0), (2**53, 1), (-(2**62), 2**62)])
def test_back_dating_changes_nothing(served: Served, hostile: HandAgent, times: tuple[int, int]) -> None:
    connection = hostile.connect()
    connection.begin()
    signed = hostile.signed(started_ms=times[0], ended_ms=times[1])
    before_ms = int(time.time() * 1000)
    connection.ask(figures_commit(connection, signed), m.Committed)
    hostile.stands(signed)
    (stored,) = connection.ask(m.SnapshotsQuery(0), m.Snapshots).commits
    assert before_ms <= stored.received_ms <= int(time.time() * 1000)


def test_figures_that_are_no_numbers(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    signed = hostile.signed()
    figures = msgspec.structs.replace(FIGURES, seconds=float("nan"), transfer_seconds=float("inf"), bytes_source=2**53)
    connection.ask(m.PutCommit(1, signed, figures), m.Committed)
    hostile.stands(signed)


# Other machines, other connections


def test_what_belongs_to_another_machine_is_not_there(hostile: HandAgent, good: HandAgent) -> None:
    good.close()
    session = random_id()
    theirs = good.connect()
    theirs.begin(session)
    held, entry = theirs.put_file()
    theirs.answer(m.Acknowledged)
    connection = hostile.connect()
    begun = connection.begin(session)
    assert begun.received_upto == begun.held_count == 0
    assert connection.ask(m.HeldQuery(bytes(16)), m.Held).segments == []
    assert connection.ask(m.HasVersions([entry.version_id]), m.Versions).held == []
    taken = version([Fragment(held, 0, 12)], 12)
    assert connection.refused(m.PutVersions(1, [taken])) in ("decode", "protocol")
    theirs.commit()
    theirs.say(m.BackupEnd())
    restoring = hostile.connect()
    restoring.open_restore()
    restoring.say(m.FetchSegments([held], 0))
    missing = restoring.answer(m.SegmentMissing)
    assert missing.segment == held
    assert restoring.refused(m.ExtentsQuery([entry.version_id], 0)) == "unknown"


def test_two_backups_of_one_machine(hostile: HandAgent) -> None:
    first, second = hostile.connect(), hostile.connect()
    first.begin()
    second.say(m.BackupBegin(random_id(), hostile.previous))
    while (answer := second.hear(0.1)) is None:
        first.say(m.Pong())  # a sign of life: a silent one would give way
    assert isinstance(answer, m.Refused)
    assert answer.code == "busy"
    first.put_file()
    first.commit()
    first.say(m.BackupEnd())
    first.ask(m.Ping(), m.Pong)
    second.backup()


def test_two_backups_begun_at_the_same_moment(hostile: HandAgent) -> None:
    """The second must not slip in before the first is answered: their numbers would mix."""
    connections = [hostile.connect() for _ in range(4)]
    for connection in connections:
        connection.say(m.BackupBegin(random_id(), hostile.previous))
    answers: list[m.ApplianceMessage] = []
    for connection in connections:
        while (answer := connection.hear(0.1)) is None:
            for other in connections:
                other.say(m.Pong())  # a sign of life: a silent one would give way
        answers.append(answer)
    assert sorted(type(answer).__name__ for answer in answers) == ["BackupBegun", "Refused", "Refused", "Refused"]


def test_a_dead_connection_gives_way_to_a_new_session(hostile: HandAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pulled cable the old connection looks alive: it is asked, and what it staged is dropped."""
    monkeypatch.setattr(admission, "PROBE_S", 0.3)
    dead, new = hostile.connect(), hostile.connect()
    dead.begin()
    dead.put_segment()
    dead.answer(m.Acknowledged)
    assert new.begin().received_upto == 0
    dead.put_segment()
    assert not isinstance(dead.hear(0.3), m.Acknowledged)
    new.put_file()
    new.commit()


def test_another_installation_never_takes_a_silent_one_s_place(
    served: Served, hostile: HandAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PROBE_S", 0.3)
    first, clone = hostile.connect(), hostile.connect(hello=False)
    first.begin()
    clone.ask(m.Hello(PROTOCOL_VERSION, "hand", "test", 1, random_id()), m.Welcome)
    assert clone.refused(m.BackupBegin(random_id(), hostile.previous)) == "busy"
    first.put_file()
    first.commit()


def test_what_follows_a_beginning_that_waits(hostile: HandAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is carried out after the beginning, in order, or dropped with it; a flood of it is cut off."""
    monkeypatch.setattr(admission, "PROBE_S", 0.3)
    hostile.connect().begin()
    new = hostile.connect()
    new.say(m.BackupBegin(random_id(), hostile.previous))
    new.put_file()
    new.answer(m.BackupBegun)
    new.commit()
    monkeypatch.setattr(admission, "PROBE_S", 20.0)
    flooding = hostile.connect()
    flooding.say(m.BackupBegin(random_id(), hostile.previous))
    segment, sealed = hostile.segment()
    payload = sealed + bytes(1 << 20)
    assert flood(flooding, ((m.PutSegment(n, segment), payload) for n in range(1, 20))).code == "credit"


def test_a_session_taken_up_elsewhere_leaves_the_old_connection_deaf(hostile: HandAgent) -> None:
    session = random_id()
    old, new = hostile.connect(), hostile.connect()
    old.begin(session)
    old.put_segment()
    old.answer(m.Acknowledged)
    assert new.begin(session).received_upto == 1
    old.put_segment()
    assert not isinstance(old.hear(0.3), m.Acknowledged)
    new.put_file()
    new.commit()


def test_a_refused_beginning_takes_what_follows_with_it(served: Served, hostile: HandAgent) -> None:
    """A paused contract's agent that does not wait for the answer must not write into its former session."""
    hostile.connect().backup()
    contract = contracts.pause(served.db, hostile.contract)
    deadline = time.monotonic() + 20
    connection = hostile.connect(hello=False)
    while not connection.hello().paused:
        assert time.monotonic() < deadline
        connection = hostile.connect(hello=False)
    number = 4  # the former session's next
    segment, whole = hostile.segment()
    connection.say(m.BackupBegin(random_id(), hostile.previous))
    connection.say(m.PutSegment(number + 1, segment), whole)
    connection.say(m.PutCommit(number + 1, hostile.signed(), FIGURES))
    connection.say(m.PutCommit(number + 2, hostile.signed(), FIGURES))
    assert connection.answer(m.Refused).code == "paused"
    while (answer := connection.hear(0.3)) is not None:
        assert isinstance(answer, m.Refused)
    assert served.repository(hostile).head_number == hostile.number
    assert served.repository(hostile).held_count() == 0
    contracts.resume(served.db, contract)


# Restoring without a right


def test_wrong_codes_are_throttled(served: Served, hostile: HandAgent, good: HandAgent) -> None:
    connection = hostile.connect()
    email, code = served.account()
    codes = [connection.refused(m.RestoreOpen(f"nobody-{n}@example.org", "000000")) for n in range(7)]
    assert codes == ["one-time-code"] * 5 + ["throttled"] * 2
    assert connection.refused(m.RestoreOpen(email, code)) == "throttled"
    assert connection.refused(m.ResyncOpen(email, code, random_id())) == "throttled"
    for _ in range(60):
        assert connection.refused(m.RestoreOpen("nobody@example.org", "000000")) == "throttled"
    assert connection.refused(m.FetchSegments([], 0)) == "protocol"
    logged = served.db.value("SELECT count(*) FROM attempt WHERE machine_id = ?", [hostile.machine])
    assert logged <= 30, "a flood of attempts must not fill the database"
    good.connect().open_restore()


def test_no_right_to_the_contract(served: Served, hostile: HandAgent, good: HandAgent) -> None:
    made = accounts.add(
        served.db,
        email=f"{random_id().hex()}@example.org",
        role=Role.CUSTOMER,
        password="correct horse battery staple 42",
        now=time.time(),
        contract_id=good.contract.id,
    )
    code = pyotp.TOTP(made.totp.secret).now()
    assert hostile.connect().refused(m.RestoreOpen(made.account.email, code)) == "one-time-code"


def test_a_code_works_once(served: Served, hostile: HandAgent) -> None:
    email, code = served.account()
    hostile.connect().ask(m.RestoreOpen(email, code), m.RestoreOpened)
    assert hostile.connect().refused(m.RestoreOpen(email, code)) == "one-time-code"


def test_a_restore_session_belongs_to_its_connection(hostile: HandAgent) -> None:
    segment, _ = hostile.connect().backup()
    hostile.connect().open_restore()
    assert hostile.connect().refused(m.FetchSegments([segment], 0)) == "protocol"


@pytest.mark.parametrize(
    "message",
    [
        m.FetchSegments([], 1),
        m.FetchSegments([], 2**53),
        m.FetchSegments([SegmentId(random_id())] * (m.FETCH_LIMIT + 1), 0),
        m.FetchSegments([SegmentId(bytes(MESSAGE_LIMIT - 200))], 0),
        m.FetchSegments([SegmentId(b"")], 0),
        m.ExtentsQuery([VersionId(bytes(MESSAGE_LIMIT - 200))], 0),
        m.ExtentsQuery([VersionId(random_id())], 2**53),
    ],
    ids=range(7),
)
def test_restores_that_ask_for_too_much(hostile: HandAgent, message: m.Message) -> None:
    connection = hostile.connect()
    connection.open_restore()
    assert connection.refused(message) in ("protocol", "decode", "unknown")


def test_unconfirmed_bytes_end_the_flow() -> None:
    """The window without a socket: it is left to 24 MiB, then nothing flows until bytes are confirmed."""

    class Store:
        def read_segment(self, segment: SegmentId, *, summed: bool = True) -> bytes:
            return bytes(1 << 20)

    store = cast(Repository, Store())
    live = Live(Peer(b"route", "machine"))
    sessions = RestoreSessions()
    sessions.open(live, "account")
    ids = [SegmentId(random_id()) for _ in range(m.FETCH_LIMIT)]
    delivery.want(m.FetchSegments(ids, 0), live, sessions)
    assert sum(len(payload) for _, payload in delivery.deliver(live, store, sessions)) == WINDOW_BYTES
    for _ in range(3):
        delivery.want(m.FetchSegments(ids, 0), live, sessions)
    with pytest.raises(ProtocolError, match="at once"):
        delivery.want(m.FetchSegments(ids, 0), live, sessions)
    with pytest.raises(ProtocolError, match="confirmed"):
        delivery.want(m.FetchSegments([], WINDOW_BYTES + 1), live, sessions)
    assert list(delivery.deliver(live, store, sessions)) == []


def resume(opened: m.RestoreOpened) -> m.RestoreResume:
    return m.RestoreResume(opened.session)


def test_a_restore_goes_on_over_another_connection_of_the_same_agent(hostile: HandAgent) -> None:
    """And no longer over the former one, whether or not that is still there."""
    segment, _ = hostile.connect().backup()
    first = hostile.connect()
    opened = first.open_restore()
    second = hostile.connect()
    assert second.ask(resume(opened), m.RestoreOpened).session == opened.session
    second.say(m.FetchSegments([segment], 0))
    assert second.answer(m.SegmentData).segment == segment
    with pytest.raises((AssertionError, UnreachableError)):
        first.ask(m.FetchSegments([segment], 0), m.SegmentData)
    second.channel.close()
    third = hostile.connect()
    third.ask(resume(opened), m.RestoreOpened)
    third.say(m.FetchSegments([segment], 0))
    assert third.answer(m.SegmentData).segment == segment


def test_a_stolen_key_resumes_nothing_without_the_secret(hostile: HandAgent) -> None:
    segment, _ = hostile.connect().backup()
    opened = hostile.connect().open_restore()
    thief = hostile.connect()
    for guess in (bytes(16), random_id(), opened.session[:15] + bytes([opened.session[15] ^ 1])):
        assert thief.refused(m.RestoreResume(guess)) == "code-needed"
    assert thief.refused(m.FetchSegments([segment], 0)) == "protocol"


def test_another_machine_or_installation_resumes_nothing(hostile: HandAgent, good: HandAgent) -> None:
    hostile.connect().backup()
    opened = hostile.connect().open_restore()
    assert good.connect().refused(resume(opened)) == "code-needed"
    clone = hostile.connect(hello=False)
    clone.ask(m.Hello(PROTOCOL_VERSION, "hand", "test", 1, random_id()), m.Welcome)
    assert clone.refused(resume(opened)) == "code-needed"


def test_a_restore_ends_with_the_right_to_it(served: Served, hostile: HandAgent) -> None:
    hostile.connect().backup()
    email, code = served.account()
    opened = hostile.connect().ask(m.RestoreOpen(email, code), m.RestoreOpened)
    accounts.set_state(served.db, accounts.find(served.db, email), accounts.AccountState.DISABLED)
    assert hostile.connect().refused(resume(opened)) == "code-needed"
    accounts.set_state(served.db, accounts.find(served.db, email), accounts.AccountState.ACTIVE)
    assert hostile.connect().refused(resume(opened)) == "code-needed"


def test_what_no_kernel_took_cannot_be_confirmed(
    served: Served, hostile: HandAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The true counts are the kernel's (tests/transport/test_line_guard.py); here it says that nothing was taken."""
    segment, sealed = hostile.connect().backup()[0], len(hostile.segment()[1])
    connection = hostile.connect()
    connection.open_restore()
    connection.say(m.FetchSegments([segment], 0))
    connection.answer(m.SegmentData)
    connection.say(m.FetchSegments([segment], sealed))
    connection.answer(m.SegmentData)
    monkeypatch.setattr(served.channel, "taken_bytes", lambda peer: 0)
    assert connection.refused(m.FetchSegments([segment], 2 * sealed)) == "protocol"
    connection.say(m.FetchSegments([segment], 0))
    assert connection.hear(0.2) is None, "nothing more of it is read"


def test_samples_end_for_the_day(hostile: HandAgent) -> None:
    connection = hostile.connect()
    connection.begin()
    for number in range(40):
        connection.put_file(b"file %d" % number)
    connection.commit()
    connection.say(m.BackupEnd())
    seen = 0
    for percent in itertools.islice(itertools.cycle((100.0, 0.0, 50.0)), 30):
        count = connection.ask(m.SampleQuery(percent), m.Sample).count
        for _ in range(count):
            connection.answer(m.SegmentData)
        seen += count
    assert 0 < seen <= 96
    assert connection.ask(m.SampleQuery(100.0), m.Sample).count == 0


def test_a_page_of_long_commits_fits_a_message() -> None:
    class Store:
        def commits(self, after: int, limit: int) -> list[StoredCommit]:
            return [StoredCommit(SignedCommit(bytes(COMMIT_LIMIT), bytes(64)), 2**53, 2**53, False)] * limit

        def successions(self) -> list[SignedSuccession]:
            return [SignedSuccession(bytes(400), bytes(64))] * SUCCESSIONS_LIMIT

    page = delivery.snapshots(m.SnapshotsQuery(0), cast(Repository, Store()))
    assert page.more
    assert page.commits
    m.encode(page)


# Floods


@pytest.fixture
def held_up(hostile: HandAgent, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hostile machine's worker is stuck, as on a slow disk, until the test ends."""
    free = threading.Event()
    machine = hostile.machine.hex()
    carry_out = exchange.Exchange._carry_out

    def slowly(self: exchange.Exchange, of: str, tasks: list[Any]) -> None:
        if of == machine and not isinstance(tasks[0].message, (m.Hello, m.BackupBegin)):
            free.wait(60)
        carry_out(self, of, tasks)

    monkeypatch.setattr(exchange.Exchange, "_carry_out", slowly)
    yield
    free.set()


def waiting_bytes(served: Served, agent: HandAgent) -> int:
    lane = served.exchange._lanes[agent.machine.hex()]
    return sum(task.size for task in list(lane.tasks))


def flood(connection: Connection, messages: Iterator[tuple[m.Message, bytes]]) -> m.Refused:
    """Send without reading until the appliance says that it is enough."""
    for message, payload in messages:
        try:
            connection.channel.send(message, payload, timeout_s=5.0)
        except UnreachableError:
            break
        answer = connection.hear(0.0)
        if isinstance(answer, m.Refused):
            return answer
    answer = connection.hear()
    assert isinstance(answer, m.Refused)
    return answer


def test_a_flood_beyond_credit_is_cut_off(
    served: Served, hostile: HandAgent, good: HandAgent, held_up: None
) -> None:
    connection = hostile.connect()
    credit = connection.begin().credit_bytes
    payload = hostile.segment()[1] + bytes(1 << 20)
    pieces = (credit + (12 << 20)) // len(payload)
    messages: Iterator[tuple[m.Message, bytes]] = (
        (m.PutSegment(number, random_id()), payload) for number in range(1, pieces + 1)
    )
    assert flood(connection, messages).code == "credit"
    assert waiting_bytes(served, hostile) <= credit + (4 << 20)
    backs_up(good)


@pytest.mark.parametrize(
    "message", [m.SnapshotsQuery(0), m.LogLine("info", "x", "y" * 500), m.SampleQuery(1)], ids=named
)
def test_a_flood_of_questions_is_cut_off(
    served: Served, hostile: HandAgent, good: HandAgent, held_up: None, message: m.Message
) -> None:
    connection = hostile.connect()
    assert flood(connection, ((message, b"") for _ in range(20_000))).code == "credit"
    assert waiting_bytes(served, hostile) <= 4 << 20
    backs_up(good)


def test_credit_is_back_before_the_agent_hears_of_it(
    served: Served, hostile: HandAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_bytes: list[int] = []
    post = served.exchange._channel.post

    def listening(peer: Peer, message: m.Message, *rest: Any, **named: Any) -> None:
        if isinstance(message, m.Acknowledged):
            open_bytes.append(served.exchange._connections[peer.route].inflight_bytes)
        post(peer, message, *rest, **named)

    monkeypatch.setattr(served.exchange._channel, "post", listening)
    connection = hostile.connect()
    connection.begin()
    segment, payload = hostile.segment(bytes(range(256)) * 4096)
    connection.ask(m.PutSegment(connection.next(), segment), m.Acknowledged, payload)
    assert open_bytes == [0]


def test_answers_that_nobody_reads(hostile: HandAgent, good: HandAgent) -> None:
    connection = hostile.connect()
    connection.backup(b"x" * 1000)
    for _ in range(3000):
        try:
            connection.channel.send(m.TreeQuery(1, bytes(16)), timeout_s=1.0)
        except UnreachableError:
            break
    backs_up(good)


def test_many_connections_of_one_machine(hostile: HandAgent, good: HandAgent) -> None:
    """So many are served; as many more are told so until one of them ends, and beyond that lines are shut."""
    connections = [hostile.connect() for _ in range(CONNECTIONS_PER_MACHINE)]
    for _ in range(LINES_PER_OWNER - CONNECTIONS_PER_MACHINE):
        assert hostile.connect(hello=False).refused(HELLO) == "busy"
    for _ in range(14):
        with pytest.raises(UnreachableError):
            hostile.connect(hello=False).refused(HELLO)
    for connection in connections:
        connection.ask(m.Ping(), m.Pong)
    connections[0].channel.close()
    hostile.connections.remove(connections[0])
    hostile.connect().ask(m.Ping(), m.Pong)
    backs_up(good)
