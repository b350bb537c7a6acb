"""Media: the marker by which one is known again, and where the configured ones are now.

Owns PATH/pilulier-MACHINE/ on a medium: copy.json, the marker, and repository/. Rule: what has no marker with a known
id is never written to, since an empty mount point looks like an empty disk. Everything here may hang with a NAS, so
callers that must not wait use `found_within`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from agent.onsite.configured import CopyPlace, OnSite
from agent.repository_folder import COPY
from agent.settings import Settings
from agent.system.mounts import mounts
from appliance.store.repository import Repository
from transport.errors import PilulierError, UsageError
from transport.names import RepositoryId, random_id

MARKER: Final = "copy.json"
MARKER_FORMAT: Final = 1
_MARKER_LIMIT: Final = 4096

_T = TypeVar("_T")


class NotAnsweringError(PilulierError):
    """A medium did not answer within its time: a NAS that hangs, a disk that fails."""

    code = "onsite-hangs"


class _Marker(msgspec.Struct, frozen=True):
    format: int
    id: str
    machine: str


@dataclass(frozen=True, slots=True)
class Medium:
    """A medium that is here: the copy it holds, and that copy's repository folder."""

    place: CopyPlace
    folder: Path

    @property
    def repository(self) -> Path:
        """The repository of this machine on it."""
        return self.folder / COPY

    def free_bytes(self) -> int:
        """Room left on the medium. OSError."""
        return shutil.disk_usage(self.folder).free


def folder_on(settings: Settings, path: Path) -> Path:
    """Where this machine's copy lies below a path: several machines may share a NAS."""
    return path / f"pilulier-{settings.machine.hex()}"


def marked(folder: Path, settings: Settings) -> str | None:
    """The id of the copy in a folder of this machine, None where there is none."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        with open(folder / MARKER, "rb") as file:
            marker = msgspec.json.decode(file.read(_MARKER_LIMIT), type=_Marker)
        if marker.format == MARKER_FORMAT and marker.machine == settings.machine.hex():
            return marker.id
    return None


def prepare(settings: Settings, public_key: bytes, path: Path) -> str:
    """Make a new copy below `path`, or take the one that is there; its id. UsageError, StoreError, OSError."""
    if not path.is_dir():
        raise UsageError(f"{path} is no folder: mount the medium, or make the folder, and add it again")
    folder = folder_on(settings, path)
    known = marked(folder, settings)
    if known is not None:
        return known
    repository = folder / COPY
    if repository.is_dir():  # made by an `add` that was cut off before its marker
        with Repository.open(repository, read_only=True) as found:
            if found.vault != settings.vault or found.public_key != public_key:
                raise UsageError(f"{folder} holds the copy of another machine or key: choose another folder")
            medium = found.repository.hex()
    else:
        medium = random_id().hex()
        folder.mkdir(mode=0o700, exist_ok=True)
        Repository.create(
            repository, repository=RepositoryId(bytes.fromhex(medium)), vault=settings.vault, public_key=public_key
        ).close()
    new = folder / f"{MARKER}.new"
    with open(new, "wb") as file:
        file.write(msgspec.json.encode(_Marker(MARKER_FORMAT, medium, settings.machine.hex())))
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, folder / MARKER)
    return medium


def inside_mount(path: Path) -> str:
    """`path` below the mount point it is on, empty where that is the point itself or not known."""
    raw = os.fsencode(path)
    over = [one.point for one in mounts() if raw == one.point or raw.startswith(one.point.rstrip(b"/") + b"/")]
    point = max(over, key=len, default=b"")
    return os.fsdecode(raw[len(point) :].strip(b"/")) if len(point) > 1 else ""


def find(settings: Settings, onsite: OnSite) -> dict[str, Medium]:
    """The configured copies that are here, by id, wherever their medium is mounted now."""
    wanted = {place.id: place for place in onsite.copies}
    found: dict[str, Medium] = {}

    def look(paths: Iterable[str]) -> None:
        for path in dict.fromkeys(paths):
            folder = folder_on(settings, Path(path))
            medium = marked(folder, settings)
            if medium in wanted and medium not in found:
                found[medium] = Medium(wanted[medium], folder)

    look(place.path for place in onsite.copies)
    if len(found) < len(wanted):
        points = [os.fsdecode(one.point) for one in mounts()]
        away = [place for place in onsite.copies if place.id not in found]
        look(os.path.join(point, place.inside) for point in points for place in away)
    return found


def found_within(settings: Settings, onsite: OnSite, patience_s: float) -> dict[str, Medium]:
    """As `find`, each configured path asked beside the others: one that does not answer in time is not here."""
    if not onsite.copies:
        return {}
    found: dict[str, Medium] = {}

    def looking(place: CopyPlace) -> Callable[[], dict[str, Medium]]:
        return lambda: find(settings, msgspec.structs.replace(onsite, copies=(place,)))

    for answer in [_asked(looking(place)) for place in onsite.copies]:
        with contextlib.suppress(queue.Empty):
            got = answer.get(timeout=patience_s)
            if not isinstance(got, BaseException):
                found.update(got)
    # Another disk may stand in the path of one that is away.
    with contextlib.suppress(queue.Empty):
        if len(found) < len(onsite.copies):
            got = _asked(lambda: find(settings, onsite)).get(timeout=patience_s)
            if not isinstance(got, BaseException):
                found.update(got)
    return found


def _asked(question: Callable[[], _T]) -> queue.SimpleQueue[_T | BaseException]:
    answer: queue.SimpleQueue[_T | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(question())
        except BaseException as error:  # the edge of a thread: whoever waits gets it
            answer.put(error)

    threading.Thread(target=ask, name="looking for a medium", daemon=True).start()
    return answer


def within(question: Callable[[], _T], patience_s: float, what: str) -> _T:
    """The answer, or NotAnsweringError after `patience_s`."""
    try:
        got = _asked(question).get(timeout=patience_s)
    except queue.Empty:
        raise NotAnsweringError(f"{what} does not answer: nothing came for {patience_s:.0f} s") from None
    if isinstance(got, BaseException):
        raise got
    return got
