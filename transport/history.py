"""The history of a machine: a chain of signed commits, proved before anything below it is believed.

Owns the walk of the chain and the choice of a snapshot by number or time. Rules kept: numbers without a gap,
each commit names the hash of the one before, signatures of this machine only (of the installation whose turn it was,
where others followed it), and the last head that this machine knows of must stand in the chain: a host that shows an
older history is noticed here. Needs no data key; must not know sockets or files.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from transport.commits import FIRST_PREVIOUS, CommitRecord, SignedCommit, StoredCommit
from transport.errors import IntegrityError, UsageError
from transport.keys import verify_commit
from transport.names import NO_DIGEST, RepositoryId, VaultId
from transport.signers import Signers
from transport.succession import SignedSuccession, Succession


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A commit whose place in the history is proved; `received_ms` and `retired` are the appliance's word only."""

    record: CommitRecord
    signed: SignedCommit
    received_ms: int
    bytes_received: int
    retired: bool

    @property
    def number(self) -> int:
        """Its place in the history, from 1."""
        return self.record.number


@dataclass(frozen=True, slots=True)
class History:
    """A verified chain, oldest first; empty before the first backup."""

    snapshots: tuple[Snapshot, ...]
    taken_over: tuple[Succession, ...] = ()
    """By which installations it went on since the key by which it was asked for; for people to see."""

    @property
    def head(self) -> Snapshot | None:
        """The newest snapshot."""
        return self.snapshots[-1] if self.snapshots else None

    def held(self) -> list[Snapshot]:
        """The snapshots whose trees the appliance still keeps, oldest first."""
        return [snapshot for snapshot in self.snapshots if not snapshot.retired]


_LATEST_MS: Final = 253_402_300_799_999
"""The last moment of year 9999: beyond it no calendar goes, and a host that says so means to break the reader."""
_ROLLED_BACK = (
    "the appliance shows an older history than this machine has seen{detail}: nothing was restored; "
    "ask whoever runs the appliance whether it was restored from its own backup"
)


def verify_history(
    commits: Iterable[StoredCommit],
    public_key: bytes,
    witness: SignedCommit | None,
    *,
    vault: VaultId | None = None,
    repository: RepositoryId | None = None,
    successions: Sequence[SignedSuccession] = (),
    approver: bytes | None = None,
    may_have_moved_on: bool = False,
) -> History:
    """The history, once signatures, numbering and hash chain hold and the witness stands in it.

    `public_key` is the key of an installation of this machine, this one's own or a former one's. `witness` is the last
    head this machine knows of. Commits older than it are proved by the hash chain that ends in it and every newer one
    by its own signature too (a year of continuous backups has 35,000 of them, at 0.1 ms each); without a witness every
    signature is checked. IntegrityError names what fails.

    Installations that came after `public_key` are refused unless it `may_have_moved_on`: then they stand in
    `taken_over`. With `approver`, the identity of the appliance, no other one's word counts for any succession.
    """
    known = witness.decoded().number if witness is not None else 0
    witness_hash = witness.hash() if witness is not None else NO_DIGEST
    signers = Signers.of(None if successions else public_key, successions)
    taken_over = _taken_over(signers, public_key, approver, may_have_moved_on)
    snapshots: list[Snapshot] = []
    previous = FIRST_PREVIOUS
    signers.check_place(0, previous)
    for number, stored in enumerate(commits, start=1):
        record = stored.signed.decoded()
        if record.number != number:
            raise IntegrityError(f"the history jumps: snapshot {record.number} stands where {number} belongs")
        if record.previous != previous:
            raise IntegrityError(f"the history is broken: snapshot {number} does not continue snapshot {number - 1}")
        if number >= known:
            verify_commit(signers.at(number), stored.signed)
        if vault is not None and record.vault != vault:
            raise IntegrityError(f"snapshot {number} belongs to another vault ({record.vault.hex()})")
        if repository is not None and record.repository != repository:
            raise IntegrityError(f"snapshot {number} belongs to another machine ({record.repository.hex()})")
        if not 0 <= stored.received_ms <= _LATEST_MS:
            told = stored.received_ms
            raise IntegrityError(f"snapshot {number} was received at a time that no clock shows ({told} ms)")
        previous = stored.signed.hash()
        if number == known and previous != witness_hash:
            raise IntegrityError(_ROLLED_BACK.format(detail=f" (snapshot {number} is another one)"))
        signers.check_place(number, previous)
        snapshots.append(
            Snapshot(record, stored.signed, stored.received_ms, stored.bytes_received, stored.retired)
        )
    last_needed = max([known, *(succession.after for succession in signers.successions)])
    if len(snapshots) < last_needed:
        detail = f" (it ends at snapshot {len(snapshots)}, snapshot {last_needed} was acknowledged)"
        raise IntegrityError(_ROLLED_BACK.format(detail=detail))
    return History(tuple(snapshots), taken_over)


def _taken_over(
    signers: Signers, public_key: bytes, approver: bytes | None, may_have_moved_on: bool
) -> tuple[Succession, ...]:
    """The successions behind `public_key`; IntegrityError where none may be, or a stranger approved one."""
    for succession in signers.successions:
        if approver is not None and not succession.by_former_key and succession.approver != approver:
            raise IntegrityError(f"succession {succession.number} was approved by another appliance than this one")
    later = signers.after(public_key)
    if later and not may_have_moved_on:
        raise IntegrityError(
            f"another installation took over this machine's history after snapshot {later[0].after} "
            f"({iso_time(later[0].approved_ms)}): this one can go on no further"
        )
    return later


def iso_time(milliseconds: int) -> str:
    """ISO 8601 in UTC, to the second."""
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=milliseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def choose_snapshot(history: History, *, number: int | None = None, at_ms: int | None = None) -> Snapshot:
    """The snapshot of that number, the newest received at or before `at_ms`, or the newest of all.

    UsageError names what can be asked for instead. IntegrityError where the newest is hidden as retired: "retired" is
    the appliance's word alone, and would otherwise roll a machine back in silence.
    """
    if number is not None and at_ms is not None:
        raise UsageError("name a snapshot by its number or by a time, not by both")
    head = history.head
    if head is not None and head.retired and number is None and (at_ms is None or head.received_ms <= at_ms):
        raise IntegrityError(
            f"the appliance says that it no longer holds snapshot {head.number}, the newest, which no retention drops: "
            "an older one was not taken in its place; name one by its number to have it all the same"
        )
    held = history.held()
    if not held:
        if history.snapshots:
            raise IntegrityError(f"the appliance says that it holds none of {len(history.snapshots)} snapshots")
        raise UsageError("this machine has no snapshot yet: run a backup first")
    first, last = held[0], held[-1]
    available = (
        f"available: {first.number} ({iso_time(first.received_ms)})"
        if first is last
        else f"available: {first.number} ({iso_time(first.received_ms)}) to {last.number} "
        f"({iso_time(last.received_ms)})"
    )
    if number is not None:
        if not 1 <= number <= len(history.snapshots):
            raise UsageError(f"there is no snapshot {number}; {available}")
        chosen = history.snapshots[number - 1]
        if chosen.retired:
            raise UsageError(f"snapshot {number} is past its retention and no longer held; {available}")
        return chosen
    if at_ms is None:
        return last
    before = [snapshot for snapshot in held if snapshot.received_ms <= at_ms]
    if not before:
        raise UsageError(f"there is no snapshot of {iso_time(at_ms)} or before; {available}")
    return max(before, key=lambda snapshot: (snapshot.received_ms, snapshot.number))
