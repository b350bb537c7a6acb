"""The nearer copy: which copy on site holds a wanted snapshot, opened for reading with the key alone.

Question: when does a copy stand in for the appliance? **Where its snapshot has the root that the appliance's has**,
since the root covers every name, attribute and version: for the newest, the root of the head this machine remembers;
for a number or a time, the pair that was written down when the copy was made. A copy that is newer than that head was
made while no appliance could be reached, and is taken for the newest. Its history is proved as the appliance's is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agent.enrolling import Enrolled
from agent.ledger import last_head
from agent.onsite.configured import CopyPlace
from agent.onsite.keeping import LOOK_S
from agent.onsite.medium import found_within
from agent.onsite.standing import read_standing
from agent.repository_folder import open_folder
from appliance.store.repository import Repository
from appliance.store.source import RepositorySource
from transport.errors import PilulierError, UsageError
from transport.history import History, Snapshot, choose_snapshot, verify_history
from transport.names import RepositoryId

Origin = Literal["auto", "onsite", "appliance"]


@dataclass(frozen=True, slots=True)
class NearCopy:
    """A copy that is here, its history proved."""

    place: CopyPlace
    repository: Repository
    source: RepositorySource
    snapshots: tuple[Snapshot, ...]
    pairs: dict[int, int]
    """The copy's own number → the appliance's."""

    @property
    def id(self) -> RepositoryId:
        """Under which its commits are signed."""
        return self.repository.repository

    def own(self, remote: int) -> int | None:
        """Its held snapshot that is the appliance's number `remote`."""
        numbers = [own for own, other in self.pairs.items() if other == remote]
        held = [s.number for s in self.snapshots if s.number in numbers and not s.retired]
        return held[-1] if held else None


@dataclass(frozen=True, slots=True)
class Nearer:
    """A snapshot in a copy: the copy's own number, and the appliance's where that is known."""

    copy: NearCopy
    number: int
    remote: int | None


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies that are here, in the order configured, and what was wrong with others."""

    near: tuple[NearCopy, ...]
    remarks: tuple[str, ...]


@contextlib.contextmanager
def opened(machine: Enrolled) -> Iterator[Copies]:
    """Every copy that is here and whose history holds."""
    settings = machine.settings
    found = found_within(settings, settings.onsite, LOOK_S)
    standing = read_standing(machine.home).copies
    near: list[NearCopy] = []
    remarks: list[str] = []
    with contextlib.ExitStack() as stack:
        for place in settings.onsite.copies:
            if place.id not in found:
                continue
            try:
                repository, said = stack.enter_context(open_folder(found[place.id].repository))
                source = RepositorySource(repository)
                history = verify_history(
                    source.commits(),
                    machine.keys.signing.public,
                    None,
                    vault=settings.vault,
                    repository=RepositoryId(bytes.fromhex(place.id)),
                    successions=source.successions(),
                    approver=settings.appliance.identity,
                )
            except PilulierError as error:
                remarks.append(f"copy {place.name} cannot be used: {error}")
                continue
            remarks += [f"copy {place.name}: {text}" for text in said]
            pairs = {own: remote for remote, own in standing[place.id].pairs} if place.id in standing else {}
            near.append(NearCopy(place, repository, source, history.snapshots, pairs))
        yield Copies(tuple(near), tuple(remarks))


def choose(
    machine: Enrolled, copies: Copies, origin: Origin, number: int | None, at_ms: int | None
) -> Nearer | None:
    """The snapshot in a copy that answers; None where the appliance has to.

    With `auto` a number is the appliance's, with `onsite` the copy's own. UsageError where `onsite` cannot be had.
    """
    if origin == "appliance":
        return None
    if origin == "onsite":
        if not copies.near:
            why = "; ".join(copies.remarks) or "none is configured, or none is connected: pilulier-agent onsite list"
            raise UsageError(f"there is no copy on site to read from: {why}")
        newest = max(copies.near, key=lambda copy: copy.snapshots[-1].received_ms if copy.snapshots else -1)
        chosen = choose_snapshot(_history(newest), number=number, at_ms=at_ms)
        return Nearer(newest, chosen.number, newest.pairs.get(chosen.number))
    answers = [answer for copy in copies.near if (answer := _answer(machine, copy, number, at_ms)) is not None]
    return answers[0] if answers else None


def _history(copy: NearCopy) -> History:
    return History(copy.snapshots)


def _answer(machine: Enrolled, copy: NearCopy, number: int | None, at_ms: int | None) -> Nearer | None:
    held = [s for s in copy.snapshots if not s.retired and (at_ms is None or s.received_ms <= at_ms)]
    if not held:
        return None
    if number is not None:
        own = copy.own(number)
        return Nearer(copy, own, number) if own is not None else None
    last, head = held[-1], last_head(machine.home)
    if at_ms is not None:
        # The appliance may hold a later snapshot of before that time, unless the copy has the next one as well.
        remote = copy.pairs.get(last.number)
        following = [s for s in copy.snapshots if s.number == last.number + 1]
        next_remote = copy.pairs.get(following[0].number) if following else None
        level = head is not None and last.record.root == head.decoded().root
        if remote is not None and (next_remote == remote + 1 or (not following and level)):
            return Nearer(copy, last.number, remote)
        return None
    if head is not None and last.record.root == head.decoded().root:
        return Nearer(copy, last.number, copy.pairs.get(last.number, head.decoded().number))
    if last.record.complete and (head is None or last.record.started_ms > head.decoded().ended_ms):
        return Nearer(copy, last.number, None)
    return None
