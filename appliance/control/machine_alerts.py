"""Alerts: what is wrong now with machines and contracts, each with its kind, its facts and what to do about it.

Derived from the control room, the contracts and the alarms at the moment of asking; nothing is stored. The texts here
are the English originals with named places for facts (`%(hours)d`): the interface translates them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from appliance.control import alarms, control_room, site_copies, space_settings, storms
from appliance.control.contracts import LATEST_COMPLETE
from appliance.control.control_room import RoomRow, State
from appliance.control.database import Database
from appliance.control.scope import Everything, Scope, condition
from appliance.store.upkeep.storms import Storm


class AlertKind(StrEnum):
    """Why something asks for attention, worst first."""

    FAILED = "failed"
    SUSPICIOUS = "suspicious"
    SHRUNK = "shrunk"
    DAMAGE = "damage"
    ALARM = "alarm"
    LATE = "late"
    NEVER = "never"
    EXPIRED = "expired"
    OVER_QUOTA = "over-quota"
    ONSITE = "onsite-missing"
    WARNINGS = "warnings"
    EXPIRING = "expiring"


class Severity(StrEnum):
    """How a page shows it."""

    DANGER = "danger"
    WARNING = "warning"
    INFO = "info"


SEVERITY: Final = {
    AlertKind.FAILED: Severity.DANGER,
    AlertKind.SUSPICIOUS: Severity.DANGER,
    AlertKind.SHRUNK: Severity.WARNING,
    AlertKind.DAMAGE: Severity.DANGER,
    AlertKind.ALARM: Severity.DANGER,
    AlertKind.LATE: Severity.DANGER,
    AlertKind.NEVER: Severity.WARNING,
    AlertKind.EXPIRED: Severity.WARNING,
    AlertKind.OVER_QUOTA: Severity.WARNING,
    AlertKind.ONSITE: Severity.WARNING,
    AlertKind.WARNINGS: Severity.WARNING,
    AlertKind.EXPIRING: Severity.INFO,
}
REASONS: Final = {
    AlertKind.FAILED: "The last backup failed: %(text)s",
    AlertKind.SUSPICIOUS: "%(percent)d %% of the files of the backup before were changed or removed",
    AlertKind.SHRUNK: "What the machine backs up was made smaller %(hours)d hours ago",
    AlertKind.DAMAGE: "Stored data no longer reads well: %(text)s",
    AlertKind.ALARM: "%(text)s",
    AlertKind.LATE: "No complete backup for %(hours)d hours",
    AlertKind.NEVER: "No backup since the machine was enrolled %(hours)d hours ago",
    AlertKind.EXPIRED: "The contract ended %(days)d days ago; backups go on",
    AlertKind.OVER_QUOTA: "%(percent)d %% of the allocated volume is used; backups go on",
    AlertKind.ONSITE: "No copy on site (%(text)s) was written for %(days)d days",
    AlertKind.WARNINGS: "The last backup is complete with %(warnings)d warnings",
    AlertKind.EXPIRING: "The contract ends in %(days)d days",
}
DECOYS: Final = "%(decoys)d decoy documents that nobody has reason to touch were changed, renamed or removed"
"""In the place of SUSPICIOUS's, where it is that."""
ADVICE: Final = {
    AlertKind.FAILED: "Read the machine's log; the next backup tries again by itself.",
    AlertKind.SUSPICIOUS: "Call the customer: this may be ransomware. Older backups are kept as they are.",
    AlertKind.SHRUNK: "Ask the customer whether this was meant, then accept it on the machine's page.",
    AlertKind.DAMAGE: "The next backup sends again what the machine still has; look after the disk of the appliance.",
    AlertKind.ALARM: "Tell whoever runs the appliance.",
    AlertKind.LATE: "Check that the machine is on and connected, and that its agent runs.",
    AlertKind.NEVER: "Choose on the machine what is backed up, and start a first backup.",
    AlertKind.EXPIRED: "Renew the contract, or pause it: only a pause refuses backups.",
    AlertKind.OVER_QUOTA: "Allocate more volume, or agree with the customer on what need not be backed up.",
    AlertKind.ONSITE: "Connect the disk or look after the NAS; backups to the appliance go on.",
    AlertKind.WARNINGS: "Read the machine's log: files that are open or may not be read are named on the machine.",
    AlertKind.EXPIRING: "Renew the contract, or tell the customer how it ends.",
}
_RANK: Final = {kind: rank for rank, kind in enumerate(AlertKind)}


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """Numbers and text of an alert; those that its kind does not speak of are 0 or empty."""

    hours: int = 0
    warnings: int = 0
    used_bytes: int = 0
    allocated_bytes: int = 0
    percent: int = 0
    days: int = 0
    text: str = ""
    snapshot: int = 0
    alarm: str = ""
    """The alarm's own kind, where the alert comes from one."""
    decoys: int = 0
    """Decoy documents that were found changed, renamed or gone."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that asks for attention; `machine_id` is None where it is about a contract or the appliance."""

    kind: AlertKind
    since: float
    machine_id: bytes | None
    machine_name: str
    contract_id: str
    client_id: str
    space_id: str
    facts: AlertFacts

    @property
    def severity(self) -> Severity:
        """How a page shows it."""
        return SEVERITY[self.kind]


def _hours(since: float, now: float) -> int:
    return max(0, int((now - since) // 3600))


def of_machine(row: RoomRow, now: float) -> tuple[AlertKind, float, AlertFacts] | None:
    """What a machine's state says, since when. Pure."""
    match row.state:
        case State.FAILED:
            since = row.last_error_at if row.last_error_at is not None else row.last_at or row.created_at
            return AlertKind.FAILED, since, AlertFacts(hours=_hours(since, now), text=row.last_error)
        case State.LATE:
            since = row.good_at or row.last_at or row.created_at
            return AlertKind.LATE, since, AlertFacts(hours=_hours(since, now))
        case State.NEVER:
            return AlertKind.NEVER, row.created_at, AlertFacts(hours=_hours(row.created_at, now))
        case State.WARNING:
            return AlertKind.WARNINGS, row.good_at or now, AlertFacts(warnings=row.warnings)
    return None


def every(
    db: Database,
    scope: Scope,
    now: float,
    running: frozenset[bytes] = frozenset(),
    space_id: str | None = None,
    machines: list[RoomRow] | None = None,
) -> list[Alert]:
    """All alerts in a scope, worst first, then the oldest. Alarms of the appliance itself are the super-user's.

    `machines` is what `control_room.rows` says of this scope and space, from a caller who has asked already.
    """
    if machines is None:
        machines = control_room.rows(db, scope, now, running, space_id=space_id)
    alerts = []
    for row in machines:
        found = of_machine(row, now)
        if found is not None:
            alerts.append(_about(row, *found))
    by_id = {row.machine_id: row for row in machines if row.state is not State.REVOKED}
    alerts += _with_decoys(_suspicious(db, scope, by_id), decoys_touched(db, scope), by_id)
    alerts += _shrunk(db, scope, by_id, now)
    alerts += _onsite(db, scope, by_id, now)
    alerts += _alarms(db, by_id, whole=isinstance(scope, Everything) and space_id is None)
    alerts += _contracts(db, scope, now, space_id)
    alerts.sort(key=lambda alert: (_RANK[alert.kind], alert.since, alert.client_id, alert.machine_name))
    return alerts


def _about(row: RoomRow, kind: AlertKind, since: float, facts: AlertFacts) -> Alert:
    return Alert(kind, since, row.machine_id, row.name, row.contract_id, row.client_id, row.space_id, facts)


def _suspicious(db: Database, scope: Scope, by_id: dict[bytes, RoomRow]) -> list[Alert]:
    """Machines whose newest counted snapshot looks like an attack (`storms`); by entries where none was measured."""
    where = condition(scope)
    threshold = f"coalesce(space_settings.suspicious_percent, {space_settings.DEFAULT.suspicious_percent})"
    rows = db.rows(
        f"SELECT machine.id AS machine_id, change.entries_before, change.entries_ended, {threshold} AS threshold, "
        "storm.entries_before AS storm_before, storm.files_lost, storm.files_fresh, storm.incompressible_percent, "
        "figures.received_at, figures.number FROM machine JOIN contract ON contract.id = machine.contract_id "
        "LEFT JOIN space_settings ON space_settings.space_id = contract.space_id "
        # CROSS JOIN keeps the order: machine first, then one row of a table that has thousands for each.
        "CROSS JOIN snapshot_change AS change ON change.machine_id = machine.id AND change.number = "
        "(SELECT max(number) FROM snapshot_change WHERE machine_id = machine.id) "
        "JOIN snapshot_statistics AS figures ON figures.machine_id = machine.id AND figures.number = change.number "
        "LEFT JOIN snapshot_storm AS storm ON storm.machine_id = machine.id AND storm.number = change.number "
        f"WHERE {where.sql} AND 200 * coalesce(storm.files_lost, change.entries_ended) >= "
        f"{threshold} * max(1, coalesce(storm.entries_before, change.entries_before))",
        where.parameters,
    )
    found = []
    for row in rows:
        machine = by_id.get(row["machine_id"])
        lost, before = row["files_lost"], row["storm_before"]
        if lost is None:
            lost, before = row["entries_ended"], row["entries_before"]
            suspicious = before >= storms.LEAST_ENTRIES and 100 * lost // before >= row["threshold"]
        else:
            storm = Storm(row["number"], before, lost, row["files_fresh"], row["incompressible_percent"])
            own = storms.usual(db, row["machine_id"], row["number"])
            suspicious = storms.is_suspicious(storm, own, row["threshold"])
        if suspicious and machine is not None:
            facts = AlertFacts(percent=100 * lost // before, snapshot=row["number"])
            found.append(_about(machine, AlertKind.SUSPICIOUS, row["received_at"], facts))
    return found


def decoys_touched(db: Database, scope: Scope, machine_id: bytes | None = None) -> list[Alert]:
    """Machines (or one) with whose newest snapshot their agent told of decoys that were touched."""
    where = condition(scope)
    rows = db.rows(
        "SELECT machine.id AS machine_id, machine.name, contract.id AS contract_id, contract.client_id, "
        "contract.space_id, figures.received_at, seen.number, seen.decoys_touched FROM snapshot_observed AS seen "
        "JOIN machine ON machine.id = seen.machine_id JOIN contract ON contract.id = machine.contract_id "
        "JOIN snapshot_statistics AS figures ON figures.machine_id = seen.machine_id AND figures.number = seen.number "
        "WHERE seen.decoys_touched > 0 AND seen.number = "
        "(SELECT max(number) FROM snapshot_statistics WHERE machine_id = seen.machine_id) "
        f"AND machine.state != 'revoked' AND (? IS NULL OR machine.id = ?) AND {where.sql}",
        [machine_id, machine_id, *where.parameters],
    )
    return [
        Alert(
            AlertKind.SUSPICIOUS,
            row["received_at"],
            row["machine_id"],
            row["name"],
            row["contract_id"],
            row["client_id"],
            row["space_id"],
            AlertFacts(snapshot=row["number"], decoys=row["decoys_touched"]),
        )
        for row in rows
    ]


def _with_decoys(found: list[Alert], touched: list[Alert], by_id: dict[bytes, RoomRow]) -> list[Alert]:
    """One alert for each snapshot: what share of the files changed, and how many decoys were among them."""
    joined = {(alert.machine_id, alert.facts.snapshot): alert for alert in found}
    for alert in touched:
        key = (alert.machine_id, alert.facts.snapshot)
        if alert.machine_id in by_id:
            percent = joined[key].facts.percent if key in joined else 0
            joined[key] = replace(alert, facts=replace(alert.facts, percent=percent))
    return list(joined.values())


def reason_of(alert: Alert) -> str:
    """What is wrong, in an English sentence."""
    text = DECOYS if alert.facts.decoys else REASONS[alert.kind]
    return text % asdict(alert.facts)


def _shrunk(db: Database, scope: Scope, by_id: dict[bytes, RoomRow], now: float) -> list[Alert]:
    """Machines whose selection became smaller, until someone accepts it (`machine_settings.accept_selection`)."""
    where = condition(scope)
    rows = db.rows(
        "SELECT report.machine_id, report.shrunk_at FROM machine_report AS report "
        "JOIN machine ON machine.id = report.machine_id JOIN contract ON contract.id = machine.contract_id "
        f"WHERE report.shrunk_at IS NOT NULL AND {where.sql}",
        where.parameters,
    )
    return [
        _about(
            by_id[row["machine_id"]],
            AlertKind.SHRUNK,
            row["shrunk_at"],
            AlertFacts(hours=_hours(row["shrunk_at"], now)),
        )
        for row in rows
        if row["machine_id"] in by_id
    ]


def _onsite(db: Database, scope: Scope, by_id: dict[bytes, RoomRow], now: float) -> list[Alert]:
    """Machines with a copy on site that was not written for days: the oldest of each."""
    oldest: dict[bytes, site_copies.MissingCopy] = {}
    for gap in sorted(site_copies.missing(db, scope, now), key=lambda gap: -gap.since):
        oldest[gap.machine_id] = gap
    return [
        _about(
            by_id[gap.machine_id],
            AlertKind.ONSITE,
            gap.since,
            AlertFacts(days=int((now - gap.since) // site_copies.DAY_S), text=", ".join(gap.names)),
        )
        for gap in oldest.values()
        if gap.machine_id in by_id
    ]


def _alarms(db: Database, by_id: dict[bytes, RoomRow], *, whole: bool) -> list[Alert]:
    found = []
    for row in db.rows("SELECT kind, machine, text, first_seen_at FROM alarm"):
        facts = AlertFacts(text=row["text"], alarm=row["kind"])
        if row["machine"] in by_id:
            kind = AlertKind.DAMAGE if row["kind"] == alarms.DAMAGE else AlertKind.ALARM
            found.append(_about(by_id[row["machine"]], kind, row["first_seen_at"], facts))
        elif whole and row["machine"] == bytes(16):
            found.append(Alert(AlertKind.ALARM, row["first_seen_at"], None, "", "", "", "", facts))
    return found


def _contracts(db: Database, scope: Scope, now: float, space_id: str | None) -> list[Alert]:
    where = condition(scope)
    rows = db.rows(
        "SELECT contract.id, contract.client_id, contract.space_id, contract.end_date, contract.allocated_bytes, "
        "CAST(total(latest.bytes_source) AS INTEGER) AS used, max(latest.received_at) AS last_at, "
        f"coalesce(space_settings.expiring_days, {space_settings.DEFAULT.expiring_days}) AS expiring_days "
        "FROM contract LEFT JOIN machine ON machine.contract_id = contract.id "
        "LEFT JOIN snapshot_statistics AS latest "
        f"ON latest.machine_id = machine.id AND latest.number = {LATEST_COMPLETE} "
        "LEFT JOIN space_settings ON space_settings.space_id = contract.space_id "
        f"WHERE {where.sql} AND (? IS NULL OR contract.space_id = ?) AND contract.state = 'active' "
        "GROUP BY contract.id",
        [*where.parameters, space_id, space_id],
    )
    today = datetime.fromtimestamp(now, UTC).date()
    alerts = []
    for row in rows:

        def alert(kind: AlertKind, since: float, facts: AlertFacts, row: dict[str, object] = row) -> Alert:
            return Alert(kind, since, None, "", str(row["id"]), str(row["client_id"]), str(row["space_id"]), facts)

        used, allocated = row["used"], row["allocated_bytes"]
        if used > allocated:
            percent = min(100 * used // allocated, 10**6) if allocated else 10**6
            facts = AlertFacts(used_bytes=used, allocated_bytes=allocated, percent=percent)
            alerts.append(alert(AlertKind.OVER_QUOTA, row["last_at"] or now, facts))
        if row["end_date"] is not None:
            end = date.fromisoformat(row["end_date"])
            if end < today:
                over = datetime.combine(end + timedelta(days=1), datetime.min.time(), UTC).timestamp()
                alerts.append(alert(AlertKind.EXPIRED, over, AlertFacts(days=(today - end).days)))
            elif (end - today).days <= row["expiring_days"]:
                alerts.append(alert(AlertKind.EXPIRING, now, AlertFacts(days=(end - today).days)))
    return alerts
