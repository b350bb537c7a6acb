"""Adding, listing, checking and removing copies: what the command line and the local interface call.

`add_copy`, `list_copies`, `remove_copy`, `check_copies` and `set_warn_days` are whole tasks; each raises UsageError
with a sentence for a person.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent.enrolling import enrolled
from agent.onsite import medium, room
from agent.onsite.configured import KEEP_DAYS, LONGEST_DAYS, CopyPlace, OnSite
from agent.onsite.standing import CopyStanding, read_standing
from agent.settings import AgentHome, Settings, change_settings, load_settings
from appliance.store.repository import Repository
from appliance.store.upkeep.check import CheckReport
from transport.errors import UsageError

LOOK_S: Final = 10.0
"""How long a medium is looked for while a person waits."""
SMALLEST_LIMIT_BYTES: Final = 96 << 20
_SIZE: Final = re.compile(r"\s*([0-9]+(?:[.,][0-9]+)?)\s*([kmgt]?)i?[bo]?\s*", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True, slots=True)
class CopyShown:
    """A configured copy as it stands now. Bytes are -1 where its medium is not here and nothing is known."""

    place: CopyPlace
    standing: CopyStanding
    folder: Path | None
    """Its repository's folder; None where the medium is not here."""
    used_bytes: int
    free_bytes: int


def bytes_of(text: str) -> int:
    """`500GB`, `2 TB`, `750000000`; UsageError for anything else, and for what is too small for any copy."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"--limit {text!r} is no size: write 500GB, for instance")
    size = int(float(match[1].replace(",", ".")) * _UNITS[match[2].lower()])
    if size < SMALLEST_LIMIT_BYTES:
        raise UsageError(f"--limit {text} is too small: a copy needs {SMALLEST_LIMIT_BYTES} bytes at least")
    return size


def add_copy(
    home: AgentHome, path: Path, *, name: str = "", keep_days: int | None = None, limit_bytes: int = 0
) -> CopyPlace:
    """Configure a copy in a folder and prepare its medium; a medium that is known already gets the new settings."""
    machine = enrolled(home)
    path = Path(os.path.abspath(path))
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{os.fsencode(path)!r} is no path in UTF-8: choose another folder") from None
    if keep_days is not None and not 1 <= keep_days <= LONGEST_DAYS:
        raise UsageError(f"--keep-days {keep_days} is out of range: give 1 to {LONGEST_DAYS}")
    if len(name) > 64:
        raise UsageError("--name is too long: 64 letters at most")
    _apart(machine.settings, home, path)
    known = medium.within(
        lambda: medium.prepare(machine.settings, machine.keys.signing.public, path), LOOK_S, str(path)
    )
    inside = medium.within(lambda: medium.inside_mount(path), LOOK_S, str(path))
    made: list[CopyPlace] = []

    def change(settings: Settings) -> Settings:
        others = [place for place in settings.onsite.copies if place.id != known]
        before = next((place for place in settings.onsite.copies if place.id == known), None)
        taken = [place.name for place in others]
        if name and name in taken:
            raise UsageError(f"another copy is called {name}: choose another name")
        made[:] = [
            CopyPlace(
                id=known,
                name=name or (before.name if before else _free_name(path, taken)),
                path=str(path),
                inside=inside,
                keep_days=keep_days or (before.keep_days if before else KEEP_DAYS),
                limit_bytes=limit_bytes or (before.limit_bytes if before else 0),
            )
        ]
        return _with(settings, (*others, *made))

    change_settings(home, change)
    return made[0]


def _apart(settings: Settings, home: AgentHome, path: Path) -> None:
    """A copy may lie neither in the agent's home nor in what is backed up: it would be backed up into itself."""
    raw = os.path.realpath(os.fsencode(path))
    if raw == os.fsencode(home.path) or raw.startswith(os.fsencode(home.path) + b"/"):
        raise UsageError(f"{path} is in the agent's own folder: choose a folder on another disk")
    if settings.selection.selects(os.fsencode(medium.folder_on(settings, path))):
        raise UsageError(
            f"{path} is itself backed up: leave it out with select exclude {path}, or choose another folder"
        )


def _with(settings: Settings, copies: tuple[CopyPlace, ...]) -> Settings:
    return dataclasses.replace(settings, onsite=msgspec.structs.replace(settings.onsite, copies=copies))


def _free_name(path: Path, taken: list[str]) -> str:
    base = path.name[:48] or "copy"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def list_copies(home: AgentHome, *, patience_s: float = LOOK_S) -> list[CopyShown]:
    """The configured copies, in the order added."""
    settings = load_settings(home)
    standing = read_standing(home).copies
    found = medium.found_within(settings, settings.onsite, patience_s)
    shown = []
    for place in settings.onsite.copies:
        known = standing.get(place.id, CopyStanding())
        here = found.get(place.id)
        used, free = -1, known.free_bytes
        if here is not None:
            with contextlib.suppress(OSError, medium.NotAnsweringError):
                used, free = medium.within(
                    lambda here=here: (room.used_bytes(here.repository), here.free_bytes()),  # type: ignore[misc]
                    patience_s,
                    place.name,
                )
        shown.append(CopyShown(place, known, here.repository if here is not None else None, used, free))
    return shown


def remove_copy(home: AgentHome, name: str) -> CopyPlace:
    """Configure a copy no more; its medium is left as it is."""
    removed: list[CopyPlace] = []

    def change(settings: Settings) -> Settings:
        removed[:] = [_named(settings.onsite, name)]
        return _with(settings, tuple(place for place in settings.onsite.copies if place.id != removed[0].id))

    change_settings(home, change)
    return removed[0]


def _named(onsite: OnSite, name: str) -> CopyPlace:
    for place in onsite.copies:
        if name in (place.name, place.id):
            return place
    there = ", ".join(place.name for place in onsite.copies) or "none"
    raise UsageError(f"there is no copy called {name}: there are {there}")


def check_copies(
    home: AgentHome, name: str | None = None, *, read_data: bool = False
) -> list[tuple[CopyPlace, CheckReport | None]]:
    """Check the copies that are here, or one: the report of each, None where its medium is not here."""
    settings = load_settings(home)
    asked = (_named(settings.onsite, name),) if name else settings.onsite.copies
    found = medium.found_within(settings, settings.onsite, LOOK_S)
    checked: list[tuple[CopyPlace, CheckReport | None]] = []
    for place in asked:
        here = found.get(place.id)
        if here is None:
            checked.append((place, None))
            continue
        with Repository.open(here.repository, read_only=True) as repository:
            checked.append((place, repository.check(read_data=read_data)))
    return checked


def set_warn_days(home: AgentHome, days: int) -> int:
    """After how many days without a written copy an alert is raised."""
    if not 1 <= days <= LONGEST_DAYS:
        raise UsageError(f"{days} days are out of range: give 1 to {LONGEST_DAYS}")

    def change(settings: Settings) -> Settings:
        return dataclasses.replace(settings, onsite=msgspec.structs.replace(settings.onsite, warn_days=days))

    return change_settings(home, change).onsite.warn_days
