"""Reading all files as of one moment: the disks of what is included are frozen while a backup runs.

Owns the order: everything is frozen first, close together; then the backup's process alone sees the frozen folders in
the place of the live ones (`agent.system.namespaces`), so that nothing else of a backup has to know. Disks that cannot
be frozen, and the agent's home, shine through as they are, and the report says which. Programs and hooks run in
everybody's view. Windows has no views: there the paths are looked up (`agent.system.views`); that half was never run.
"""

from __future__ import annotations

import contextlib
import json
import os
import string
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.errors import DatabaseError, VolumeError
from agent.report import Warned
from agent.selection import Selection
from agent.settings import AgentHome
from agent.sources.dumps import Call, found
from agent.sources.volume_kinds import KINDS, Frozen, Mounted, VolumeKind
from agent.sources.vss import Vss
from agent.system import descriptors, namespaces, owners, views

_ASK_S: Final = 60.0
_VSS: Final = Vss()


@dataclass(frozen=True, slots=True)
class Part:
    """A folder on one disk: an included path, or another disk mounted inside one. `kind` None: it cannot be frozen."""

    path: str
    mounted: Mounted
    kind: VolumeKind | None


def mounted_now() -> list[Mounted]:
    """What is mounted, later ones last; DatabaseError where findmnt cannot tell. On Windows the drives."""
    if sys.platform == "win32":
        drives = [f"{letter}:" for letter in string.ascii_uppercase if os.path.exists(f"{letter}:/")]
        return [Mounted(drive, f"{drive}\\", "ntfs") for drive in drives]
    words = ("--json", "--list", "--nofsroot", "--output", "TARGET,SOURCE,FSTYPE")
    told = Call([found("findmnt", "mount"), *words]).run(_ASK_S, limit=1 << 22)
    return [Mounted(row["target"], row["source"] or "", row["fstype"]) for row in json.loads(told)["filesystems"]]


def parts_of(selection: Selection, mounted: Sequence[Mounted]) -> list[Part]:
    """What a backup of this selection reads, disk by disk, outer folders before inner ones. Files are left out."""
    parts: dict[str, Part] = {}
    for raw in sorted(selection.include):
        path = os.fsdecode(raw)
        if not os.path.isdir(path) or os.path.islink(path):
            continue
        over = [one for one in mounted if _within(path, one.target)]
        inside = [one for one in mounted if one.target != path and _within(one.target, path)]
        if over:
            # The last of the longest: a disk that is mounted over another hides it.
            own = max(enumerate(over), key=lambda pair: (len(pair[1].target), pair[0]))[1]
            parts.setdefault(path, Part(path, own, _kind_of(own)))
        for one in inside:
            parts[one.target] = Part(one.target, one, _kind_of(one))
    return [parts[path] for path in sorted(parts)]


def _kind_of(mounted: Mounted) -> VolumeKind | None:
    return next((kind for kind in (*KINDS, _VSS) if kind.fits(mounted)), None)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@contextlib.contextmanager
def frozen(home: AgentHome, selection: Selection, wanted: bool) -> Iterator[tuple[Warned, ...]]:
    """Freeze, show the frozen folders to this thread and those it starts, and take all away at the end.

    Yields what could not be frozen, with the reason: it is read as it is.
    """
    if not wanted:
        yield ()
        return
    with contextlib.ExitStack() as stack:
        yield tuple(_freeze(home, selection, stack))


def _freeze(home: AgentHome, selection: Selection, stack: contextlib.ExitStack) -> list[Warned]:
    if sys.platform != "win32" and (sys.platform != "linux" or not owners.is_administrator()):
        return [Warned(b"/", "no disk was frozen: only root on Linux can do that here")]
    warnings: list[Warned] = []
    stamp = f"{datetime.now():%Y%m%dT%H%M%S}-{os.getpid()}"
    copies: list[Frozen] = []
    live: list[str] = []
    try:
        parts = parts_of(selection, mounted_now())
    except DatabaseError as error:
        return [Warned(b"/", f"no disk was frozen: {error}")]
    for number, part in enumerate(parts):
        try:
            if part.kind is None:
                raise VolumeError(f"{part.mounted.fstype} on {part.mounted.source} has no snapshots")
            if part.path == "/":
                raise VolumeError("the top of all disks cannot be covered: include its folders one by one")
            for copy in part.kind.freeze(part.path, part.mounted, stamp, number):
                stack.callback(_release, copy)
                copies.append(copy)
        except (DatabaseError, VolumeError, OSError) as error:
            live.append(part.path)
            if part.mounted.source.startswith("/"):  # not of what lives in memory
                warnings.append(Warned(os.fsencode(part.path), f"read as it is, its disk was not frozen: {error}"))
    if not copies:
        return warnings
    try:
        if sys.platform == "linux":
            namespaces.enter()
        _cover(copies, [*live, str(home.path)], stack)
    except OSError as error:
        stack.close()
        warnings.append(Warned(b"/", f"no disk was frozen: {(error.strerror or str(error)).lower()}"))
    return warnings


def _cover(copies: list[Frozen], live: list[str], stack: contextlib.ExitStack) -> None:
    """Show the copies; folders inside them that are read as they are shine through, and so does the agent's home."""
    shown = {copy.over: copy.at for copy in copies}
    shown |= {path: path for path in live if any(_within(path, copy.over) for copy in copies)}
    if sys.platform == "win32":
        for over, at in shown.items():
            views.cover(os.fsencode(over), os.fsencode(at))
            stack.callback(views.uncover, os.fsencode(over))
        return
    # By descriptor, all opened first: what is covered hides the way to what comes next.
    with contextlib.ExitStack() as handles:
        sources = {}
        for over, at in shown.items():
            sources[over] = os.open(at, descriptors.READ_FOLDER)
            handles.callback(os.close, sources[over])
        for over in sorted(sources):
            namespaces.bind(descriptors.way_to(sources[over]), os.fsencode(over))
            stack.callback(namespaces.unbind, os.fsencode(over))


def _release(copy: Frozen) -> None:
    """Take a copy away; one that stays is taken away by the next run."""
    with contextlib.suppress(DatabaseError, OSError):
        copy.release()
