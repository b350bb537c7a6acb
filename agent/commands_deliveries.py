"""`pilulier-agent deliveries`: what was sent here to be restored, and the owner's word about it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from agent.commands import Row, human_bytes, iso, show, shown_path
from agent.enrolling import enrolled
from agent.settings import AgentHome, exclusive

if TYPE_CHECKING:
    from transport import messages as m


def deliveries(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`deliveries [--folder DIR] [list | show N | accept N | refuse N]`."""
    from agent.receiving import choose_folder

    if options.folder is not None:
        choose_folder(home, options.folder)
        if options.receiving is None:
            return _list(home, as_json, ask=False)
    match options.receiving:
        case "show":
            return _show(home, options.number, as_json)
        case "accept":
            return _accept(home, options.number, as_json)
        case "refuse":
            return _refuse(home, options.number, as_json)
    return _list(home, as_json)


def _row(one: m.Delivery) -> Row:
    return {
        "delivery": one.number,
        "state": "accepted" if one.accepted else "waiting",
        "sender": one.sender,
        "machine": one.source or None,
        "snapshot": one.snapshot,
        "snapshot_time": iso(one.snapshot_ms),
        "sent_at": iso(one.created_ms),
        "expires_at": iso(one.expires_ms),
        "files": one.files or None,
        "bytes": one.bytes or None,
    }


def _list(home: AgentHome, as_json: bool, *, ask: bool = True) -> int:
    from agent.deliveries import offered
    from agent.receiving import base_folder, read

    found = offered(enrolled(home)) if ask else read(home).offered
    folder = base_folder(home)
    rows = [_row(one) for one in found]
    lines = [
        f"{row['delivery']:>4}  {row['state']:<8}  from {row['sender']}, {row['sent_at']}: "
        + (f"{row['files']} files, {human_bytes(row['bytes'] or 0)}, " if row["files"] else "")
        + (f"of machine {row['machine']}, " if row["machine"] else "")
        + f"of the backup of {row['snapshot_time']}; until {row['expires_at']}"
        for row in rows
    ]
    lines.append(f"What is accepted lands in a new folder below {folder}.")
    if rows:
        lines.append("pilulier-agent deliveries show N names the files; accept N restores them, refuse N does not.")
    show(as_json, {"folder": str(folder), "deliveries": rows}, "\n".join(["Nothing waits."] * (not rows) + lines))
    return 0


def _show(home: AgentHome, number: int, as_json: bool) -> int:
    from agent.deliveries import content

    found = content(enrolled(home), number)
    names = [shown_path(name) for name in found.names]
    text = "Everything of that backup." if found.everything else "\n".join(names + ["…"] * found.more)
    if found.source:
        text = f"Files of machine {found.source}; their names are sealed until they come."
    document: Row = {"delivery": number, "everything": found.everything, "paths": names, "more": found.more}
    show(as_json, document | {"machine": found.source or None}, text)
    return 0


def _accept(home: AgentHome, number: int, as_json: bool) -> int:
    from agent.commands import show_restored
    from agent.deliveries import accept
    from agent.progress import watched

    with exclusive(home, "restore"), watched("Restoring") as progress:
        landed = accept(enrolled(home), number, progress=progress)
    return show_restored(
        landed.report,
        landed.bytes_received,
        as_json,
        reconnections=landed.reconnections,
        landed={"delivery": number, "folder": str(landed.folder)},
    )


def _refuse(home: AgentHome, number: int, as_json: bool) -> int:
    from agent.deliveries import refuse

    refuse(enrolled(home), number)
    show(as_json, {"delivery": number, "state": "refused"}, f"Delivery {number} is refused; whoever sent it sees that.")
    return 0
