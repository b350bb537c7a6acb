"""`pilulier-agent onsite`: copies beside the appliance, and what is told of them. Owns words alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent.onsite.writing import CopyOutcome, CopyState
from agent.settings import AgentHome

Row = dict[str, Any]


def onsite(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`onsite add|list|remove|check|alert`."""
    handlers = {"add": _add, "list": _list, "remove": _remove, "check": _check, "alert": _alert}
    return handlers[options.copying](options, home, as_json)


def rows_of(copies: tuple[CopyOutcome, ...]) -> list[Row]:
    """What became of copies in a run, for JSON."""
    return [
        {
            "name": c.name,
            "id": c.id,
            "state": str(c.state),
            "snapshot": c.snapshot,
            "bytes_written": c.bytes_written,
            "reason": c.reason,
        }
        for c in copies
    ]


def lines_of(copies: tuple[CopyOutcome, ...]) -> list[str]:
    """The same for people."""
    from agent.commands import human_bytes

    lines = []
    for copy in copies:
        if copy.state is CopyState.WRITTEN:
            line = f"Copy on site {copy.name}: snapshot {copy.snapshot}, {human_bytes(copy.bytes_written)} written"
            lines.append(f"{line} ({copy.reason})." if copy.reason else f"{line}.")
        else:
            lines.append(f"Copy on site {copy.name}: {copy.state} ({copy.reason}).")
    return lines


def _add(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import show
    from agent.onsite.keeping import add_copy, bytes_of

    limit = bytes_of(options.limit) if options.limit else 0
    place = add_copy(home, Path(options.path), name=options.name, keep_days=options.keep_days, limit_bytes=limit)
    show(
        as_json,
        {"id": place.id, "name": place.name, "path": place.path, "keep_days": place.keep_days, "limit": limit},
        f"Copy {place.name} on {place.path}: the next backup writes it. The medium is known by its mark, wherever it "
        "is mounted.",
    )
    return 0


def _list(_: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import human_bytes, iso, show
    from agent.onsite.keeping import list_copies

    copies = list_copies(home)
    rows: list[Row] = [
        {
            "id": c.place.id,
            "name": c.place.name,
            "path": str(c.folder or c.place.path),
            "here": c.folder is not None,
            "state": c.standing.state or "never written",
            "reason": c.standing.reason,
            "snapshot": c.standing.snapshot,
            "written_at": iso(c.standing.written_ms) if c.standing.written_ms else None,
            "bytes_used": c.used_bytes,
            "bytes_free": c.free_bytes if c.free_bytes >= 0 else None,
            "keep_days": c.place.keep_days,
            "limit": c.place.limit_bytes,
        }
        for c in copies
    ]
    lines = [
        f"{row['name']:<16} {'here' if row['here'] else 'not there':<10} "
        f"{'written ' + row['written_at'] if row['written_at'] else 'never written':<29} "
        + (f"{human_bytes(row['bytes_free'])} free  " if row["bytes_free"] is not None else "")
        + row["path"]
        for row in rows
    ]
    show(as_json, rows, "\n".join(lines) or "No copy on site: pilulier-agent onsite add PATH")
    return 0


def _remove(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import show
    from agent.onsite.keeping import remove_copy

    place = remove_copy(home, options.name)
    said = f"Copy {place.name} is written no more. What its medium holds stays, and can be read with the key."
    show(as_json, {"id": place.id, "name": place.name}, said)
    return 0


def _check(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import show
    from agent.onsite.keeping import check_copies

    reports = check_copies(home, options.name, read_data=options.read_data)
    rows: list[Row] = [
        {
            "name": place.name,
            "here": report is not None,
            "ok": report.ok if report is not None else None,
            "records_checked": report.records_checked if report is not None else 0,
            "bytes_read": report.bytes_read if report is not None else 0,
            "errors": [
                {"pack": e.pack, "offset": e.offset, "kind": e.kind, "detail": e.detail} for e in report.errors
            ]
            if report is not None
            else [],
        }
        for place, report in reports
    ]
    lines = [
        f"{row['name']}: not there" if not row["here"]
        else f"{row['name']}: {row['records_checked']} records, " + ("sound" if row["ok"] else "DAMAGED")
        for row in rows
    ]  # fmt: skip
    lines += [f"  {e['pack']} at {e['offset']}: {e['detail']}" for row in rows for e in row["errors"]]
    show(as_json, rows, "\n".join(lines) or "No copy on site: pilulier-agent onsite add PATH")
    return 1 if any(row["ok"] is False for row in rows) else 0


def _alert(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    from agent.commands import show
    from agent.onsite.keeping import set_warn_days

    days = set_warn_days(home, options.days)
    show(as_json, {"warn_days": days}, f"An alert is raised where no copy was written for {days} days.")
    return 0
