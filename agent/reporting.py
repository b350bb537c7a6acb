"""What the appliance is told of this machine's settings, and what it was told last.

Rule: of a selection that was made on this machine only its digest, the number of its rules and whether it became
smaller leave it. The last reported selection stands in reported.json, so that a smaller one is noticed whoever made
it, and whether or not a service ran meanwhile.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from agent.client import Client
from agent.selection import Selection
from agent.settings import AgentHome, Settings
from agent.shrinking import shrinks
from transport import messages as m
from transport.errors import RefusedError


class Reported(msgspec.Struct, frozen=True):
    """What the appliance noted last: the message, and the rules that its digest stands for."""

    report: m.SettingsReport
    include: list[bytes]
    exclude: list[bytes]


def last_reported(home: AgentHome) -> Reported | None:
    """None where nothing was reported yet, or it is not known any more."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(home.reported.read_bytes(), type=Reported)
    return None


def report_of(settings: Settings, next_run: float | None, before: Reported | None) -> m.SettingsReport:
    """What is to be said now. Pure."""
    selection, remote = settings.selection, settings.remote
    return m.SettingsReport(
        version=remote.answered,
        outcome=remote.outcome,
        reason=remote.reason,
        remote_allowed=remote.allowed,
        schedule=settings.schedule,
        schedule_version=remote.schedule_version,
        language=settings.language[:16],
        selection=selection.digest(),
        selection_version=remote.selection_version,
        includes=len(selection.include),
        excludes=len(selection.exclude),
        shrunk=before is not None and shrinks(_selection(before), selection),
        next_run_ms=int(next_run * 1000) if next_run is not None and next_run > 0 else 0,
    )


def _selection(before: Reported) -> Selection:
    return Selection(tuple(before.include), tuple(before.exclude))


def report_if_changed(home: AgentHome, settings: Settings, client: Client, next_run: float | None) -> bool:
    """Tell the appliance, on a connection that is ready, where it was not told so before; whether it was told.

    Being told to wait (reported too often) is no reason to fail: it is said again with the next change.
    """
    before = last_reported(home)
    report = report_of(settings, next_run, before)
    if before is not None and report == msgspec.structs.replace(before.report, shrunk=False):
        return False
    try:
        client.ask(report, m.Noted, 20.0)
    except RefusedError:
        return False
    selection = settings.selection
    stored = msgspec.json.encode(Reported(report, list(selection.include), list(selection.exclude)))
    new = home.reported.with_name(f"{home.reported.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # it is said once more then, which harms nobody
        new.write_bytes(stored)
        os.replace(new, home.reported)
    return True
