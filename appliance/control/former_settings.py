"""What a machine's agent had set, kept for the day on which new hardware recovers it.

Three sources, none of which the appliance makes up: the selection that an admin sent and the agent still has, the
schedule that it reported last, and the agent's own settings, sealed under the machine's key (paths are names, and names
never come here in clear). There is no field for a command or a hook: those are set on the machine alone.
"""

from __future__ import annotations

from appliance.control import machine_settings
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from transport.messages_recovery import FormerSettings


def keep(db: Database, machine_id: bytes, sealed: bytes, now: float) -> None:
    """Keep an agent's settings, as it sealed them, in place of those before."""
    with db.write():
        db.execute("DELETE FROM sealed_settings WHERE machine_id = ?", [machine_id])
        db.insert("sealed_settings", {"machine_id": machine_id, "sealed": sealed, "received_at": now})


def of_machine(db: Database, machine_id: bytes) -> FormerSettings:
    """All that is known of a machine's settings."""
    known = machine_settings.get(db, EVERYTHING, machine_id)
    report, wanted = known.report, known.wanted.selection
    stands = wanted is not None and (report is None or report.selection_version == known.selection_version)
    return FormerSettings(
        include=list(wanted.include) if wanted is not None and stands else [],
        exclude=list(wanted.exclude) if wanted is not None and stands else [],
        schedule=known.wanted.schedule if report is None else report.schedule,
        language=known.wanted.language or (report.language if report is not None else ""),
        sealed=db.value("SELECT sealed FROM sealed_settings WHERE machine_id = ?", [machine_id]) or b"",
    )
