"""What the store's crash sweeps put a repository through, one `Workload` for each thing that writes.

`WORKLOADS` is the one place where an engine plugs in: `prepare` makes the baseline, `run` does the work through the
disk it is given and tells the `Machine` of every acknowledgement, `reopen` is how an operator comes back after a crash.
A `Machine` is an agent with a ledger: it knows what was acknowledged and what was only asked for, and can go on after a
crash. Work must be deterministic in its operations: the same seed asks the same of the disk.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.store import catalog, packs
from appliance.store.durable import Disk
from appliance.store.repository import Repository
from tests.appliance.store_builder import REPOSITORY, VAULT, Client, make_repository
from tests.support.invariants import Expected, Tree, expect
from transport import messages as m
from transport.commits import SignedCommit
from transport.names import SegmentId

Item = tuple[m.Message, bytes]

_BIG = b"pages" * 60_000 + bytes(900_000) + b"tail" * 1000
"""Large enough for pages, small in a pack."""

SMALL_PACK_BYTES = 9000
_SMALL_CACHE_KIB = 24
"""So small that SQLite writes pages before the commit: crashes leave hot journals."""


@dataclass(frozen=True)
class Attempt:
    """A commit that was sent and not answered yet."""

    seq: int
    signed: SignedCommit
    tree: Tree


class Machine(Client):
    """One machine's agent and its ledger, through crashes. Its `repository` is replaced after each of them."""

    def __init__(self, repository: Repository | None = None, seed: int = 1) -> None:
        super().__init__(repository, seed)  # type: ignore[arg-type]
        self.created = repository is not None
        """Whether the repository was acknowledged to be there."""
        self.sent: list[Item] = []
        """Of the open session, durable or not."""
        self.received = 0
        """The highest message number that was acknowledged in the open session."""
        self.open = False
        self.attempt: Attempt | None = None
        self.held: dict[SegmentId, bytes] = {}
        """Acknowledged sealed segments that no snapshot took."""
        self.retired: set[int] = set()
        self.leaving: set[int] = set()
        """Asked to be retired, not acknowledged."""

    def clone(self) -> Machine:
        """The same machine at this moment, without a repository."""
        other = copy.copy(self)
        other.repository = None  # type: ignore[assignment]
        other.random = copy.deepcopy(self.random)
        other.added = copy.copy(self.added)
        other.added._hash = self.added._hash.copy()
        for name in ("live", "contents", "segments", "committed", "sent", "held", "retired", "leaving"):
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    def expected(self) -> Expected:
        """What the acknowledgements so far promise."""
        gone = self.retired | self.leaving
        return Expected(
            REPOSITORY,
            VAULT,
            self.keys,
            {number: tree for number, tree in self.committed.items() if number and number not in gone},
            {self.number + 1: self.attempt.tree} if self.attempt else {},
            frozenset(self.retired),
            frozenset(self.leaving),
            self.contents,
            self.held,
            self.session if self.open else None,
            self.received,
        )

    # Every request notes what it asks for before, and what was answered after

    def begin(self, session: bytes | None = None) -> int:
        """A new session."""
        self.open, self.sent, self.received = False, [], 0
        super().begin(session)
        self.open = True
        return self.seq

    def stage(self, *items: Item) -> int:
        """Send a group."""
        self.sent += items
        upto = super().stage(*items)
        self._staged(upto)
        return upto

    def _staged(self, upto: int) -> None:
        for message, payload in self.sent:
            if isinstance(message, m.PutSegment) and self.received < message.seq <= upto:
                self.held[SegmentId(message.segment)] = payload
        self.received = upto

    def commit(self) -> int:
        """Sign and send a commit."""
        signed = self.sign()
        self.attempt = Attempt(self.next(), signed, dict(self.live))
        return self._commit()

    def _commit(self) -> int:
        assert self.attempt is not None
        attempt = self.attempt
        number = self.repository.commit(
            attempt.seq, attempt.signed, received_ms=1000 + self.number, bytes_received=77
        )
        expect(number == self.number + 1, f"snapshot {self.number + 1} was answered as number {number}")
        self.live = dict(attempt.tree)
        self.made(attempt.signed, number)
        self.attempt, self.received = None, attempt.seq
        self.held = {}
        return number

    def resume(self) -> None:
        """Go on with the open session where the repository stands, and finish it with a commit."""
        if not self.open and self.attempt is None and not self.sent:
            return
        upto = self.repository.begin(self.session, self.previous)
        expect(upto >= self.received, f"message {self.received} was acknowledged and {upto} is the last one known")
        self.seq = self.attempt.seq if self.attempt else self.sent[-1][0].seq if self.sent else upto
        rest = [item for item in self.sent if item[0].seq > upto]
        if rest:
            upto = Client.stage(self, *rest)
        self._staged(max(upto, self.received))
        if self.attempt is not None:
            self._commit()
        if self.live != self.committed[self.number]:
            self.commit()

    def go_on(self) -> None:
        """After whatever happened: the open session ends well, and a new one does too."""
        self.resume()
        self.begin()
        self.put_file((b"after the storm",), b"goes on" * 50)
        self.commit()


def _document(machine: Machine, size: int) -> bytes:
    """Half of it compresses."""
    return machine.random.randbytes(size // 2) + bytes(size - size // 2)


def _base(folder: Path) -> Machine:
    """Three snapshots: folders, small files, a paged file with holes and its delta, deaths; several packs."""
    machine = Machine(make_repository(folder))
    machine.begin()
    machine.put_folders((b"a",), (b"b",))
    machine.put_file((b"a", b"f"), _document(machine, 5000))
    machine.put_file((b"b", b"g"), _document(machine, 3000))
    machine.commit()
    machine.begin()
    base = machine.put_file((b"a", b"big"), _BIG)
    machine.commit()
    machine.begin()
    size = len(machine.contents[base])
    version, items = machine.delta(base, [b"new head", (8, 700_000), b"in between", (700_018, size - 700_018)])
    machine.stage(*items, machine.entries(machine.entry((b"a", b"big"), version)))
    machine.stage(machine.deaths(machine.path(b"b", b"g")))
    machine.commit()
    machine.open = False
    machine.sent = []
    machine.repository.close()
    return machine


def open_with(folder: Path, disk: Disk, machine: Machine) -> Repository:
    machine.repository = Repository.open(folder, disk=disk, reserve_bytes=0)
    return machine.repository


# The workloads


def _prepare_nothing(folder: Path) -> Machine:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Machine()


def _create(folder: Path, disk: Disk, machine: Machine) -> None:
    machine.repository = make_repository(folder, disk)
    machine.created = True


def _reopen_or_create(folder: Path, disk: Disk, machine: Machine) -> Repository:
    """A creation that was not acknowledged is begun anew."""
    if not machine.created and not folder.exists():
        _create(folder, disk, machine)
        return machine.repository
    return open_with(folder, disk, machine)


def _ingest(folder: Path, disk: Disk, machine: Machine) -> None:
    """Segments, versions, deltas with pages, entries, deaths; groups; packs that roll; a commit."""
    open_with(folder, disk, machine)
    machine.begin()
    machine.put_folders((b"c",))
    machine.put_file((b"c", b"new"), _document(machine, 6000))
    base = machine.live[machine.path(b"a", b"big")].version_id
    size = len(machine.contents[base])
    version, items = machine.delta(base, [(0, 300_000), b"edit" * 500, 200_000, (400_000, size - 400_000)])
    first, second = machine.whole(_document(machine, 4000)), machine.whole(_document(machine, 900))
    machine.stage(*items, *first[1])
    machine.stage(*second[1], machine.entries(machine.entry((b"a", b"big"), version), machine.entry((b"h",), first[0])))
    machine.stage(machine.deaths(machine.path(b"a", b"f")), machine.entries(machine.entry((b"c", b"i"), second[0])))
    machine.commit()


def _commit_only(folder: Path, disk: Disk, machine: Machine) -> None:
    """A commit over what is staged, and one in which nothing changed."""
    open_with(folder, disk, machine)
    machine.repository.begin(machine.session, machine.previous)
    machine.commit()
    machine.begin()
    machine.commit()


def _prepare_staged(folder: Path) -> Machine:
    """Everything of a snapshot is staged and nothing committed."""
    machine = _base(folder)
    open_with(folder, Disk(), machine)
    machine.begin()
    machine.put_folders((b"c",))
    machine.put_file((b"c", b"n"), _document(machine, 3000))
    machine.stage(machine.deaths(machine.path(b"a", b"f")))
    machine.repository.close()
    return machine


def _checkpoints(folder: Path, disk: Disk, machine: Machine) -> None:
    """Three commits within one session."""
    open_with(folder, disk, machine)
    machine.begin()
    for number in range(3):
        machine.put_file((b"part%d" % number,), _document(machine, 2500))
        machine.commit()


def _resume(folder: Path, disk: Disk, machine: Machine) -> None:
    """The same session goes on after a crash: what is known is skipped, the rest follows."""
    open_with(folder, disk, machine)
    upto = machine.repository.begin(machine.session, machine.previous)
    expect(upto == machine.received, f"{machine.received} was acknowledged, {upto} is known")
    machine.put_file((b"c", b"more"), _document(machine, 2000))
    machine.commit()


def _new_session(folder: Path, disk: Disk, machine: Machine) -> None:
    """Another session than the killed one: what that had staged is dropped, its segments stay."""
    open_with(folder, disk, machine)
    machine.begin()
    machine.put_file((b"other",), _document(machine, 2000))
    machine.commit()


def _prepare_tail(folder: Path) -> Machine:
    """A group and a half behind what counts, as a power cut leaves it, and a pack that nobody knows."""
    machine = _base(folder)
    newest = sorted((folder / "packs").glob("*.pack"))[-1]
    tail = newest.read_bytes()
    with open(newest, "ab") as file:
        file.write(tail[: len(tail) * 2 // 3])
    following = folder / "packs" / f"{int(newest.name[:8]) + 1:08d}.pack"
    following.write_bytes(tail[:200] + bytes(300))
    return machine


def _torn(folder: Path, disk: Disk, machine: Machine) -> None:
    """Opening cuts the tail; a short session follows."""
    open_with(folder, disk, machine)
    machine.begin()
    machine.put_file((b"later",), _document(machine, 500))
    machine.commit()


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work. `pack_bytes` is when packs roll meanwhile."""

    name: str
    about: str
    prepare: Callable[[Path], Machine]
    run: Callable[[Path, Disk, Machine], None]
    reopen: Callable[[Path, Disk, Machine], Repository] = open_with
    pack_bytes: int = SMALL_PACK_BYTES
    nested_step: int = 1
    """Of the places in a recovery, every how many-th a full sweep stops at."""

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """Small packs and a small catalog cache, so that a little work meets every case."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packs, "PACK_BYTES", self.pack_bytes)
            patch.setattr(catalog, "_CACHE_KIB", _SMALL_CACHE_KIB)
            yield


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("create", "a new repository", _prepare_nothing, _create, _reopen_or_create, nested_step=7),
        Workload("ingest", "groups of everything, packs that roll", _base, _ingest),
        Workload("commit", "a commit over what is staged, and an empty one", _prepare_staged, _commit_only),
        Workload("checkpoints", "three commits in one session", _base, _checkpoints),
        Workload("resume", "the same session after a crash", _prepare_staged, _resume),
        Workload("new-session", "another session than the killed one", _prepare_staged, _new_session),
        Workload("torn-tail", "opening with an unacknowledged tail", _prepare_tail, _torn),
    )
}
"""Engines that write add theirs here."""
