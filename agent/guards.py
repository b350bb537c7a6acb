"""What a backup looks out for beside its files, and to whom it says so: the person, the appliance, the next run.

Owns guards.json (which disks the folders stood on, what was told once and need not be told again) and the order of the
looks: before anything is staged, with each folder, before each commit, after the last one. What refuses a backup can be
overruled by a person with `--allow-empty`, never by the schedule. Each question's own rule is a module of its own:
`canaries`, `collisions`, `stale`, `system.mounts`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from agent import canaries, stale
from agent.collisions import collision
from agent.errors import OtherDiskError
from agent.report import Figures
from agent.scanner import Listing
from agent.selection import Selection, shown
from agent.settings import AgentHome
from agent.state import last_files, read_last
from agent.system.mounts import Mount, below, identity_of, mounts
from transport import messages as m
from transport.messages_guards import AHEAD_LIMIT_S

CLOCK_SLACK_S: Final = 300
LOST_LEAST: Final = 50
LOST_PERCENT: Final = 40
"""So many files gone at once are told at the machine too, not only by the appliance's alert."""
TOLD_KEPT: Final = 5000
CLOCK: Final = b"(clock)"
SOURCE: Final = b"(selection)"
"""What a warning is about where it is about no path."""


class Place(msgspec.Struct, frozen=True):
    """A folder that is a disk of its own, or an included path; `disk` as `identity_of` tells."""

    path: bytes
    disk: str


class Memory(msgspec.Struct, frozen=True):
    """guards.json."""

    places: list[Place] = []
    told: list[bytes] = []
    """Folders whose colliding names were told."""


def load(home: AgentHome) -> Memory:
    """What is remembered; nothing where the file cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(home.guards.read_bytes(), type=Memory)
    return Memory()


def _save(home: AgentHome, memory: Memory) -> None:
    with contextlib.suppress(OSError):  # what is forgotten is told once more
        new = home.guards.with_name(f"{home.guards.name}.{os.getpid()}")
        new.write_bytes(msgspec.json.encode(memory))
        os.replace(new, home.guards)


@dataclass(frozen=True, slots=True)
class Moved:
    """A folder on another disk than at the last complete run: how many of its known names are still there."""

    path: bytes
    known: int
    present: int

    @property
    def refuses(self) -> bool:
        """Most of what was there is not."""
        return 2 * self.present < self.known

    def sentence(self) -> str:
        """For the person."""
        return (
            f"{shown(self.path)} is on another disk than at the last backup, and {self.known - self.present} of the "
            f"{self.known} files and folders that stood in it are not there"
        )


def places_of(selection: Selection, mounted: Iterable[Mount]) -> list[Place]:
    """The included paths and the disks that are mounted inside them, as they stand now."""
    mounted = list(mounted)
    points = {path: identity_of(path, mounted) for path in selection.include}
    for path in selection.include:
        for mount in below(path, mounted):
            if selection.selects(mount.point):
                points.setdefault(mount.point, mount.identity)
    return [Place(path, disk) for path, disk in sorted(points.items()) if disk]


def moved_places(
    before: Iterable[Place],
    selection: Selection,
    mounted: Iterable[Mount],
    presence: Callable[[bytes], tuple[int, int]],
) -> list[Moved]:
    """Which of the former places are on another disk now. `presence` counts a folder's known names, and those of them
    that are there; it is asked for these alone."""
    mounted = list(mounted)
    found = []
    for place in before:
        disk = identity_of(place.path, mounted)
        if disk and disk != place.disk and selection.selects(place.path):
            known, present = presence(place.path)
            if known:
                found.append(Moved(place.path, known, present))
    return found


def clock_ahead_s(told_ms: int, now: float) -> int:
    """How far this machine's clock is before the appliance's, whole seconds; 0 where the appliance does not tell."""
    limit = AHEAD_LIMIT_S
    return max(-limit, min(limit, round(now - told_ms / 1000))) if told_ms else 0


def clock_sentence(ahead_s: int, now: float) -> str:
    """What a person should know of a clock that is far off; empty for one that is right enough."""
    if abs(ahead_s) <= CLOCK_SLACK_S:
        return ""
    right = datetime.fromtimestamp(now - ahead_s, UTC).strftime("%Y-%m-%d %H:%M")
    return (
        f"this machine's clock is {'ahead' if ahead_s > 0 else 'behind'}: by the appliance's it is {right} UTC. "
        "Backups go on, but at the wrong time of day: set the clock"
    )


class Guards:
    """The guards of one backup. One thread."""

    def __init__(
        self,
        home: AgentHome,
        selection: Selection,
        content_key: bytes,
        figures: Figures,
        *,
        ahead_s: int = 0,
        now: Callable[[], float] = time.time,
        mounted: Callable[[], list[Mount]] = mounts,
    ) -> None:
        self._home = home
        self._selection = selection
        self._figures = figures
        self._now = now
        self._mounted = mounted
        self._ahead_s = ahead_s
        self._canaries = canaries.Watch(home, content_key)
        self._accused: set[bytes] = set()
        self._memory = load(home)
        self._told = set(self._memory.told)
        self._cloud = 0
        self._stale: dict[bytes, str] = {}
        self._had: set[bytes] = set()

    # before anything is staged

    def before(self, presence: Callable[[bytes], tuple[int, int]], *, allow: bool) -> None:
        """Refuse where a disk is not the one it was (OtherDiskError), unless `allow`; tell of a clock that is off."""
        sentence = clock_sentence(self._ahead_s, self._now())
        if sentence:
            self._figures.warn(CLOCK, sentence)
        found = moved_places(self._memory.places, self._selection, self._mounted(), presence)
        refusing = [one for one in found if one.refuses]
        if refusing and not allow:
            raise OtherDiskError(
                f"{'; '.join(one.sentence() for one in refusing)}: is a disk not mounted? If this is the right one, "
                "run backup --allow-empty"
            )
        for one in found:
            if not one.refuses:
                self._figures.warn(one.path, "it is on another disk than at the last backup, with the same files")

    def say_first(self) -> None:
        """What the machine's log on the appliance is to hold, once the session is open."""
        if abs(self._ahead_s) > CLOCK_SLACK_S:
            side = "ahead of" if self._ahead_s > 0 else "behind"
            minutes = abs(self._ahead_s) // 60
            self._figures.say("warning", "clock", f"The machine's clock is {minutes} minutes {side} the appliance's")

    # with each folder

    def folder(self, listing: Listing) -> None:
        """Look at one folder as it was listed."""
        if listing.cloud:
            self._cloud += listing.cloud
            what = "1 file is" if listing.cloud == 1 else f"{listing.cloud} files are"
            self._figures.warn(
                listing.path, f"{what} only in the cloud (placeholders): not downloaded, and not backed up from here"
            )
        if len(listing.children) > 1 and listing.path not in self._told:
            found = collision([child.name for child in listing.children])
            if found is not None:
                self._told.add(listing.path)
                first, second = (shown(name) for name in found)
                self._figures.warn(
                    listing.path,
                    f"{first} and {second} differ by case alone: a restore to Windows or macOS keeps one of such names "
                    "(told once a folder)",
                )

    def stale(self, path: bytes, reason: str, *, had: bool) -> None:
        """A file has no fresh copy; `had`: there is an older one."""
        self._stale[path] = reason
        if had:
            self._had.add(path)

    # before each commit, and after it

    def observed(self) -> m.Observed:
        """What the appliance is to hear with a commit."""
        touched = self._canaries.look(int(self._now() * 1000))
        for canary in touched:
            if canary.path not in self._accused:
                self._accused.add(canary.path)
                what = "was changed" if canary.state == "changed" else "is gone, or has another name"
                self._figures.warn(canary.path, f"this decoy {what}: is ransomware at work? Call for help, if in doubt")
        if touched:
            count = len(touched)
            what = "1 decoy was" if count == 1 else f"{count} decoys were"
            text = f"{what} changed, renamed or removed: this may be ransomware"
            self._figures.say("warning", "canary", text)
        return m.Observed(self._canaries.count, len(touched), self._ahead_s, len(self._stale), self._cloud)

    def lost(self) -> None:
        """Say it where many files are gone at once; before the last commit."""
        before, gone = last_files(self._home), self._figures.lost
        if gone >= LOST_LEAST and 100 * gone >= LOST_PERCENT * before > 0:
            self._figures.warn(
                SOURCE, f"{gone} of the {before} files of the last backup are gone: were they meant to be removed?"
            )

    def committed(self) -> None:
        """The appliance has confirmed what it was told last."""
        self._canaries.told()

    def done(self, began_ms: int) -> None:
        """The run is complete: remember it for the next one. `began_ms`: when it began, for what is stale."""
        last = read_last(self._home)
        good_ms = last.began_ms if last.state == "complete" else 0
        stale.save(
            self._home,
            stale.after_run(
                stale.load(self._home), self._stale, had=frozenset(self._had), last_good_ms=good_ms, now_ms=began_ms
            ),
        )
        memory = Memory(places_of(self._selection, self._mounted()), sorted(self._told)[:TOLD_KEPT])
        if memory != self._memory:
            _save(self._home, memory)
