"""Settings that the appliance sends: what is taken over, what is refused, what makes no sense. Pure.

Rules: only where the machine's owner allows it; only parts whose version is newer than what was taken over before, so
that a choice made on the machine since stands until the web changes that part again; all parts of a version or none.
Only a selection, a schedule and a language can come this way: there is no field for a command, and none for the
owner's word.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import msgspec

from agent.errors import SelectionError
from agent.selection import Selection, shown
from agent.settings import RemoteState, Settings
from transport import messages as m

REFUSED = "remote settings are refused on this machine: pilulier-agent remote allow changes that"


def take_over(
    settings: Settings, wanted: m.WantedSettings, exists: Callable[[bytes], bool] = os.path.lexists
) -> Settings:
    """The settings after a word of the appliance, with what became of it in `remote`. The same word twice is one."""
    remote = settings.remote
    if wanted.version <= remote.answered:
        return settings
    if not remote.allowed:
        return _answered(settings, wanted, "refused", REFUSED)
    selection, schedule, reason = settings.selection, settings.schedule, ""
    selection_version, schedule_version = remote.selection_version, remote.schedule_version
    if wanted.selection is not None and wanted.selection_version > remote.applied:
        try:
            selection = Selection.of(
                (rule.encode() for rule in wanted.selection.include),
                (rule.encode() for rule in wanted.selection.exclude),
            )
        except SelectionError as error:
            return _answered(settings, wanted, "invalid", str(error))
        selection_version = wanted.selection_version
        reason = _missing(selection, exists)
    if wanted.schedule is not None and wanted.schedule_version > remote.applied:
        schedule, schedule_version = wanted.schedule, wanted.schedule_version
    answered = _answered(settings, wanted, "applied", reason)
    return dataclasses.replace(
        answered,
        selection=selection,
        schedule=schedule,
        remote=msgspec.structs.replace(
            answered.remote,
            applied=wanted.version,
            selection_version=selection_version,
            schedule_version=schedule_version,
        ),
    )


def _missing(selection: Selection, exists: Callable[[bytes], bool]) -> str:
    """A remark about included paths that are not there. The appliance knows these names: it sent them."""
    missing = [path for path in selection.include if not exists(path)]
    if not missing:
        return ""
    others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"{shown(missing[0])}{others}: not there on this machine now"[:500]


def _answered(settings: Settings, wanted: m.WantedSettings, outcome: str, reason: str) -> Settings:
    remote = msgspec.structs.replace(
        settings.remote, answered=wanted.version, outcome=outcome, reason=reason[:500]
    )
    return dataclasses.replace(settings, remote=remote)


def spoken(settings: Settings, language: str) -> Settings:
    """The settings after the appliance named a language: taken where it is another one than it named before."""
    remote = settings.remote
    if language == remote.language or not remote.allowed:
        return settings
    return dataclasses.replace(
        settings, language=language or settings.language, remote=msgspec.structs.replace(remote, language=language)
    )


def allowed(settings: Settings, yes: bool) -> Settings:
    """The owner's word. Allowing again takes up what was refused meanwhile."""
    remote = settings.remote
    if yes == remote.allowed:
        return settings
    answered = remote.applied if yes else remote.answered
    outcome = remote.outcome if answered == remote.answered or not yes else ("applied" if remote.applied else "none")
    reason = "" if yes else remote.reason
    return dataclasses.replace(
        settings,
        remote=msgspec.structs.replace(remote, allowed=yes, answered=answered, outcome=outcome, reason=reason),
    )


def chosen_here(settings: Settings, *, selection: Selection | None = None, **changes: object) -> Settings:
    """The settings after a choice made on this machine: it stands until the web changes that part."""
    remote: RemoteState = settings.remote
    if selection is not None and selection != settings.selection:
        changes["selection"] = selection
        remote = msgspec.structs.replace(remote, selection_version=0)
    if changes.get("schedule", settings.schedule) != settings.schedule:
        remote = msgspec.structs.replace(remote, schedule_version=0)
    return dataclasses.replace(settings, remote=remote, **changes)  # type: ignore[arg-type]
