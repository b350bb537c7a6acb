"""The succession of signing keys: its bytes, the order of several, and what it makes of a history."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from msgspec.structs import replace

from tests.support.memory_source import Item, Repository
from transport.commits import FIRST_PREVIOUS, StoredCommit
from transport.errors import DecodeError, IntegrityError
from transport.history import verify_history
from transport.keys import SigningKey, verify_succession
from transport.names import NO_DIGEST, Digest, InstallationId
from transport.signers import Signers
from transport.succession import (
    SUCCESSION_LABEL,
    SUCCESSION_LIMIT,
    SUCCESSIONS_LIMIT,
    SignedSuccession,
    Succession,
    decode_succession,
    encode_succession,
)

APPLIANCE = SigningKey(bytes(range(64, 96)))
SECOND, THIRD, FOURTH = (SigningKey(bytes([number]) * 32) for number in (2, 3, 4))


@dataclass
class Past:
    """A machine's history with its successions; `key` is the present installation's."""

    repository: Repository = field(default_factory=Repository)
    key: SigningKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.repository.signing

    def backup(self) -> None:
        self.repository.signing = self.key
        self.repository.commit([Item(b"/a", bytes([len(self.repository.history)]))])

    def statement(self, successor: SigningKey, approver: SigningKey = APPLIANCE) -> Succession:
        history = self.repository.history
        return Succession(
            label=SUCCESSION_LABEL,
            vault=self.repository.sealer.keys.vault,
            repository=self.repository.id,
            number=len(self.repository.succeeded) + 1,
            after=len(history),
            head=history[-1].signed.hash() if history else NO_DIGEST,
            former=self.key.public,
            successor=successor.public,
            installation=InstallationId(b"I" * 16),
            approver=approver.public,
            approved_ms=1_700_000_000_000,
        )

    def recover(self, successor: SigningKey, approver: SigningKey = APPLIANCE) -> None:
        self.repository.succeeded.append(approver.sign_succession(self.statement(successor, approver)))
        self.key = successor

    @property
    def commits(self) -> list[StoredCommit]:
        return self.repository.history

    @property
    def signed(self) -> list[SignedSuccession]:
        return self.repository.succeeded


@pytest.fixture
def past() -> Past:
    """Two snapshots, then another installation with one, then a third with none yet."""
    past = Past()
    past.backup()
    past.backup()
    past.recover(SECOND)
    past.backup()
    past.recover(THIRD)
    return past


FIRST = SigningKey(bytes(range(1, 33)))


def test_the_bytes_are_strict(past: Past) -> None:
    statement = past.statement(FOURTH)
    data = encode_succession(statement)
    assert decode_succession(data) == statement and len(data) < SUCCESSION_LIMIT // 2
    for wrong in (
        data[:-1],
        data + b"\0",
        b"",
        bytes(SUCCESSION_LIMIT + 1),
        *(
            msgspec.msgpack.encode(replace(statement, **change))
            for change in (
                {"label": "pilulier/succession/2"},
                {"former": b"short"},
                {"vault": b"short"},
                {"number": 0},
                {"number": SUCCESSIONS_LIMIT + 1},
                {"after": -1},
            )
        ),
    ):
        with pytest.raises(DecodeError):
            decode_succession(wrong)


def test_every_turned_bit_is_noticed(past: Past) -> None:
    signed = past.signed[0]
    for at in range(len(signed.record)):
        altered = bytearray(signed.record)
        altered[at] ^= 1
        with pytest.raises((DecodeError, IntegrityError)):
            verify_succession(SignedSuccession(bytes(altered), signed.signature))
    with pytest.raises(IntegrityError):
        verify_succession(SignedSuccession(signed.record, bytes(64)))
    with pytest.raises(IntegrityError, match="who approved it"):
        verify_succession(SECOND.sign_succession(past.statement(FOURTH, APPLIANCE)))


def test_each_key_signs_what_came_in_its_turn(past: Past) -> None:
    signers = Signers.of(None, past.signed)
    assert signers.founding == FIRST.public and signers.current == THIRD.public
    assert [signers.at(number) for number in (1, 2, 3, 4)] == [
        FIRST.public, FIRST.public, SECOND.public, THIRD.public
    ]
    twice = Past()
    twice.recover(SECOND)
    twice.recover(THIRD)
    assert Signers.of(None, twice.signed).at(1) == THIRD.public


def test_no_succession_may_be_left_out_moved_or_repeated(past: Past) -> None:
    first, second = past.signed
    for wrong in ([second], [second, first], [first, first], [first, second, second]):
        with pytest.raises(IntegrityError):
            Signers.of(FIRST.public, wrong)
    with pytest.raises(IntegrityError, match="brings back"):
        Signers.of(None, [*past.signed, APPLIANCE.sign_succession(past.statement(SECOND))])
    with pytest.raises(IntegrityError, match="stands before"):
        Signers.of(None, [*past.signed, APPLIANCE.sign_succession(replace(past.statement(FOURTH), after=2))])
    with pytest.raises(IntegrityError, match="another repository"):
        other = replace(past.statement(FOURTH), repository=b"another machine!")
        Signers.of(None, [*past.signed, APPLIANCE.sign_succession(other)])


def test_the_present_installation_proves_the_whole_history(past: Past) -> None:
    history = verify_history(
        past.commits, THIRD.public, None, successions=past.signed, approver=APPLIANCE.public
    )
    assert len(history.snapshots) == 3 and not history.taken_over
    witnessed = verify_history(past.commits, THIRD.public, past.commits[-1].signed, successions=past.signed)
    assert witnessed.head is not None and witnessed.head.number == 3


def test_a_former_installation_is_told_that_it_was_followed(past: Past) -> None:
    for key, after in ((FIRST, 2), (SECOND, 3)):
        with pytest.raises(IntegrityError, match=f"took over this machine's history after snapshot {after}"):
            verify_history(past.commits, key.public, None, successions=past.signed, approver=APPLIANCE.public)


def test_whoever_holds_an_older_key_file_sees_who_followed(past: Past) -> None:
    history = verify_history(
        past.commits,
        FIRST.public,
        None,
        successions=past.signed,
        approver=APPLIANCE.public,
        may_have_moved_on=True,
    )
    assert [one.successor for one in history.taken_over] == [SECOND.public, THIRD.public]


def test_a_former_key_can_add_nothing(past: Past) -> None:
    past.key = SECOND
    past.backup()
    with pytest.raises(IntegrityError, match="snapshot 4 does not carry"):
        verify_history(past.commits, THIRD.public, None, successions=past.signed)


def test_a_strangers_approval_counts_for_nothing(past: Past) -> None:
    stranger = SigningKey(b"\x77" * 32)
    past.recover(FOURTH, stranger)
    for key in (THIRD, FOURTH):
        with pytest.raises(IntegrityError, match="approved by another appliance"):
            verify_history(
                past.commits,
                key.public,
                None,
                successions=past.signed,
                approver=APPLIANCE.public,
                may_have_moved_on=True,
            )


def test_a_succession_that_the_former_key_signed_needs_no_appliance(past: Past) -> None:
    past.recover(FOURTH, THIRD)
    history = verify_history(
        past.commits, FOURTH.public, None, successions=past.signed, approver=APPLIANCE.public
    )
    assert len(history.snapshots) == 3


def test_another_machines_history_is_refused(past: Past) -> None:
    with pytest.raises(IntegrityError, match="not signed by this machine"):
        verify_history(past.commits, FOURTH.public, None, successions=past.signed, may_have_moved_on=True)


def test_a_history_cut_behind_a_succession_is_rolled_back(past: Past) -> None:
    with pytest.raises(IntegrityError, match="older history"):
        verify_history(past.commits[:2], THIRD.public, None, successions=past.signed)
    with pytest.raises(IntegrityError, match="not signed by this machine"):
        verify_history(past.commits[:2], THIRD.public, None, successions=past.signed[:1])


def test_a_succession_stands_behind_one_snapshot_only(past: Past) -> None:
    other = Past()
    other.backup()
    other.backup()
    moved = replace(past.statement(FOURTH), number=1, after=2, head=Digest(b"\1" * 32), former=FIRST.public)
    with pytest.raises(IntegrityError, match="behind another snapshot 2"):
        verify_history(other.commits, FOURTH.public, None, successions=[APPLIANCE.sign_succession(moved)])
    assert other.commits[0].signed.decoded().previous == FIRST_PREVIOUS
    begun = replace(moved, after=0, head=Digest(b"\1" * 32))
    with pytest.raises(IntegrityError, match="behind another snapshot 0"):
        verify_history([], FOURTH.public, None, successions=[APPLIANCE.sign_succession(begun)])
