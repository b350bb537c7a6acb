"""`canary`, `stale`: what each does, and what it shows."""

from __future__ import annotations

import argparse
import os
import time

from agent import canaries
from agent.commands import Row, iso, show, shown_path
from agent.enrolling import enrolled
from agent.settings import AgentHome, exclusive
from agent.stale import StaleFolder, stale_folders

_STATES = {
    "untouched": "untouched",
    "changed": "CHANGED",
    "gone": "GONE",
    "unseen": "could not be looked at",
}


def canary(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`canary place`, `list`, `remove`."""
    machine = enrolled(home)
    key = machine.sealer().keys.content
    folder = os.path.abspath(os.fsencode(options.folder)) if getattr(options, "folder", None) else None
    if options.watching == "place":
        assert folder is not None
        with exclusive(home, "canary"):
            found = canaries.place(home, folder, key)
        lines = [f"{shown_path(one.path)}" for one in found]
        if not machine.settings.selection.selects(folder):
            lines.append("Note: this folder is not selected for backup; its decoys are looked at all the same.")
        rows = [_canary_row(one) for one in found]
        show(as_json, rows, "\n".join(["These decoys lie there now; leave them alone:", *lines]))
    elif options.watching == "remove":
        with exclusive(home, "canary"):
            done = canaries.remove(home, folder, key)
        document: Row = {
            "removed": [shown_path(path) for path in done.removed],
            "left": [shown_path(path) for path in done.left],
        }
        lines = [f"removed {path}" for path in document["removed"]]
        lines += [f"left alone, since it was changed or cannot be reached: {path}" for path in document["left"]]
        show(as_json, document, "\n".join(lines) or "No decoys lie on this machine.")
    else:
        now = canaries.checked(canaries.load(home), key, int(time.time() * 1000))
        rows = [_canary_row(one) for one in now]
        lines = [f"{_STATES[one.state]:<24}{shown_path(one.path)}" for one in now]
        show(as_json, rows, "\n".join(lines) or "No decoys lie on this machine: pilulier-agent canary place FOLDER")
    return 0


def _canary_row(one: canaries.Canary) -> Row:
    return {
        "path": shown_path(one.path),
        "state": one.state,
        "since": iso(one.since_ms),
        "placed": iso(one.placed_ms),
        "told": one.told,
    }


def stale(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`stale`: folders whose files have no fresh copy."""
    enrolled(home)
    found = stale_folders(home)
    lines = [stale_line(one) for one in found]
    show(as_json, stale_rows(found), "\n".join(lines) or "Every file has a fresh copy, by the last complete backup.")
    return 0


def stale_rows(found: list[StaleFolder]) -> list[Row]:
    """Folders as JSON has them; `last_good` null where no good copy was ever made."""
    return [
        {
            "folder": shown_path(one.path),
            "files": one.files,
            "last_good": iso(one.good_ms) if one.good_ms else None,
            "since": iso(one.since_ms),
            "reason": one.reason,
        }
        for one in found
    ]


def stale_line(one: StaleFolder) -> str:
    """A folder in a sentence for people."""
    files = "1 file" if one.files == 1 else f"{one.files} files"
    good = f"last good copy {iso(one.good_ms)}" if one.good_ms else "no good copy yet"
    return f"{shown_path(one.path)}: {files}, {good} ({one.reason})"
