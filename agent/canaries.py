"""Canary files: where decoy documents lie on this machine, and whether anything has touched them.

Owns canaries.json in the agent's home: each canary's path, size and keyed MAC, and what was found. Its bytes are read
and compared at each backup. Touched is one that was changed, or is gone while its folder is there; what cannot be
looked at (its folder is not there, a disk that is not mounted) is unseen and accuses nobody. A finding is told once:
with the first commit that the appliance has confirmed.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from agent.selection import shown
from agent.settings import AgentHome
from agent.system import descriptors
from transport.contents import chunk_digest, small_file_macs
from transport.errors import PilulierError, UsageError

State = Literal["untouched", "changed", "gone", "unseen"]
_READ_LIMIT: Final = 256 * 1024
"""More than a decoy ever has."""
_LIMIT_BYTES: Final = 4 << 20


class CanaryError(PilulierError):
    """A decoy cannot be written or removed; the sentence says where and why."""

    code = "canary"


class Canary(msgspec.Struct, frozen=True):
    """One decoy. Times in milliseconds since 1970; `since_ms` of its state; `told`: the appliance knows of it."""

    path: bytes
    size: int
    mac: bytes
    placed_ms: int
    state: State = "untouched"
    since_ms: int = 0
    told: bool = False

    @property
    def touched(self) -> bool:
        """Whether somebody had their hands on it."""
        return self.state in ("changed", "gone")


@dataclass(frozen=True, slots=True)
class Removal:
    """What `remove` did: canaries that are gone now, and files that it left because they are no decoys any more."""

    removed: tuple[bytes, ...]
    left: tuple[bytes, ...]


def load(home: AgentHome) -> list[Canary]:
    """All canaries of this machine; none where the file cannot be read, which costs a watch and no data."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError), open(home.canaries, "rb") as file:
        return msgspec.json.decode(file.read(_LIMIT_BYTES), type=list[Canary])
    return []


def save(home: AgentHome, canaries: list[Canary]) -> None:
    """Replace canaries.json, whole or not at all; OSError where the disk does not take it."""
    new = home.canaries.with_name(f"{home.canaries.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(canaries))
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, home.canaries)


def _mac_of(key: bytes, content: bytes) -> bytes:
    return small_file_macs(key)(len(content), chunk_digest(content) if content else b"")


def look(canary: Canary, key: bytes) -> State:
    """What became of a canary's file."""
    try:
        descriptor = os.open(canary.path, descriptors.READ)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != canary.size:
                return "changed"
            content = b""
            while len(content) < min(canary.size, _READ_LIMIT) and (more := os.read(descriptor, _READ_LIMIT)):
                content += more
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return "gone" if os.path.isdir(os.path.dirname(canary.path)) else "unseen"
    except OSError as error:
        linked = os.path.islink(canary.path)  # O_NOFOLLOW: somebody put a link in its place
        return "changed" if linked or isinstance(error, IsADirectoryError) else "unseen"
    return "untouched" if _mac_of(key, content) == canary.mac else "changed"


def checked(canaries: list[Canary], key: bytes, now_ms: int) -> list[Canary]:
    """The canaries as they are now; a touched one that was put back right is untouched again."""
    found = []
    for canary in canaries:
        state = look(canary, key)
        if state == "unseen" and canary.touched:
            state = canary.state
        if state != canary.state:
            told = canary.told and state in ("changed", "gone")
            canary = msgspec.structs.replace(canary, state=state, since_ms=now_ms, told=told)
        found.append(canary)
    return found


def place(
    home: AgentHome,
    folder: bytes,
    key: bytes,
    *,
    chance: random.Random | None = None,
    now: Callable[[], float] = time.time,
) -> list[Canary]:
    """Put decoys into a folder, in the place of touched ones; the canaries that lie there now.

    UsageError where it is no folder, CanaryError where it cannot be written to. Untouched ones stay as they are.
    """
    if not os.path.isdir(folder) or os.path.islink(folder):
        raise UsageError(f"{shown(folder)} is not a folder of this machine")
    now_ms = int(now() * 1000)
    chance = chance or random.SystemRandom()
    known = checked(load(home), key, now_ms)
    here = [one for one in known if os.path.dirname(one.path) == folder]
    if here and not any(one.touched for one in here):
        return here
    kept = [one for one in known if one not in here or not one.touched]
    from agent import decoys  # what makes documents is loaded by no backup

    taken = frozenset(os.fsdecode(name) for name in os.listdir(folder))
    made = decoys.make(chance, taken, datetime.fromtimestamp(now(), UTC).year)
    placed = [
        Canary(
            os.path.join(folder, os.fsencode(decoy.name)), len(decoy.content), _mac_of(key, decoy.content), now_ms,
            since_ms=now_ms,
        )
        for decoy in made
    ]  # fmt: skip
    # Known before they are there: a decoy that nobody watches would be a riddle to its finder.
    save(home, [*kept, *placed])
    try:
        for canary, decoy in zip(placed, made, strict=True):
            _write(canary.path, decoy.content, now() - chance.uniform(30, 700) * 86400)
    except OSError as error:
        save(home, kept)
        for canary in placed:
            with contextlib.suppress(OSError):
                os.unlink(canary.path)
        raise CanaryError(f"no decoy can be written in {shown(folder)}: {error.strerror}") from None
    return [one for one in kept if os.path.dirname(one.path) == folder] + placed


def _write(path: bytes, content: bytes, at: float) -> None:
    """A new file with an old date, as it would have been among the folder's own."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.utime(path, (at, at))


def remove(home: AgentHome, folder: bytes | None, key: bytes) -> Removal:
    """Take the decoys of a folder (of all) away again. What is not what was placed, or cannot be looked at now, is left
    alone, and said."""
    now_ms = int(time.time() * 1000)
    known = checked(load(home), key, now_ms)
    going = [one for one in known if folder is None or os.path.dirname(one.path) == folder]
    if folder is not None and not going:
        raise UsageError(f"no decoys lie in {shown(folder)}: pilulier-agent canary list shows where some do")
    removed, left = [], []
    for canary in going:
        if canary.state == "untouched":
            try:
                os.unlink(canary.path)
            except OSError as error:
                raise CanaryError(f"{shown(canary.path)} cannot be removed: {error.strerror}") from None
            removed.append(canary.path)
        elif canary.state == "changed":
            left.append(canary.path)
        elif canary.state == "unseen":  # on a disk that is not there now: known still, or it would lie there for ever
            left.append(canary.path)
            continue
        save(home, [one for one in known if one is not canary])
        known = [one for one in known if one is not canary]
    return Removal(tuple(removed), tuple(left))


class Watch:
    """The canaries during one backup: what is to be told with a commit, and that it was told."""

    def __init__(self, home: AgentHome, key: bytes) -> None:
        self._home = home
        self._key = key
        self._canaries = load(home)

    def look(self, now_ms: int) -> tuple[Canary, ...]:
        """Look at all; those that were touched and not told of yet."""
        self._canaries = checked(self._canaries, self._key, now_ms)
        return tuple(one for one in self._canaries if one.touched and not one.told)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._canaries)

    def told(self) -> None:
        """The appliance has confirmed what `look` gave. A disk that does not take this has it told once more."""
        found = [
            msgspec.structs.replace(one, told=True) if one.touched else one for one in self._canaries
        ]
        if found != load(self._home):
            with contextlib.suppress(OSError):
                save(self._home, found)
        self._canaries = found
