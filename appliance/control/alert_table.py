"""Alerts with a life: open, acknowledged by somebody, resolved, and what there was before.

What is wrong now is found by `machine_alerts` (derived, pure); `sync` holds that against the rows: what is new opens,
what is no longer found is resolved, what lasts is seen again. Rule of its own: a suspicious change is resolved only
once somebody has acknowledged it, however calm the snapshots after it are, and until then nothing of that machine is
pruned. An alert that comes again after its resolution is a new row.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from appliance.control.database import Database
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.scope import Everything, Scope, over
from appliance.control.text import one_line
from appliance.errors import NotFoundError

SEEN_S: Final = 3600.0
"""How often "still so" is written down: each write is an fsync."""
PAGE_LIMIT: Final = 500
_RANK: Final = {kind: rank for rank, kind in enumerate(AlertKind)}


class AlertState(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class LivingAlert:
    """One row. `told_at`: when a mail about it was last written. Times in seconds since 1970."""

    id: int
    alert: Alert
    opened_at: float
    seen_at: float
    told_at: float | None
    acknowledged_at: float | None
    acknowledged_by: str | None
    resolved_at: float | None

    @property
    def state(self) -> AlertState:
        """Where it stands."""
        if self.resolved_at is not None:
            return AlertState.RESOLVED
        return AlertState.OPEN if self.acknowledged_at is None else AlertState.ACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Synced:
    """What changed: how many opened and how many were resolved."""

    opened: int
    resolved: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What is wrong now and who answers for it. `number` is None until the row of a new alert is written."""

    alert: Alert
    number: int | None
    acknowledged_at: float | None
    acknowledged_by: str | None

    @property
    def key(self) -> str:
        """Tells it from the others of its kind."""
        return key_of(self.alert)

    @property
    def open(self) -> bool:
        """Whether nobody has answered for it yet."""
        return self.acknowledged_at is None


def key_of(alert: Alert) -> str:
    """What tells an alert from others of its kind; the same for as long as it is the same trouble."""
    whose = alert.machine_id.hex() if alert.machine_id is not None else alert.contract_id or alert.space_id
    if alert.kind is AlertKind.SUSPICIOUS:
        return f"{whose}:{alert.facts.snapshot}"
    return f"{whose}:{alert.facts.alarm}" if alert.facts.alarm else whose


_FACTS: Final = frozenset(field.name for field in dataclasses.fields(AlertFacts))


def _living(row: dict[str, Any]) -> LivingAlert:
    # Facts of an older program may have other names.
    facts = {name: value for name, value in json.loads(row["facts"]).items() if name in _FACTS}
    return LivingAlert(
        id=row["id"],
        alert=Alert(
            kind=AlertKind(row["kind"]),
            since=row["since"],
            machine_id=row["machine_id"],
            machine_name=row["machine_name"],
            contract_id=row["contract_id"],
            client_id=row["client_id"],
            space_id=row["space_id"],
            facts=AlertFacts(**facts),
        ),
        opened_at=row["opened_at"],
        seen_at=row["seen_at"],
        told_at=row["told_at"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=row["acknowledged_by"],
        resolved_at=row["resolved_at"],
    )


def first_suspicious(db: Database, machine_id: bytes) -> int | None:
    """The number of the first snapshot in whose change nobody has yet seen something harmless; None without one.

    Acknowledged is not harmless: somebody looks into it, and restores meanwhile. What is resolved is over.
    """
    rows = db.rows(
        "SELECT facts FROM alert WHERE machine_id = ? AND kind = ? AND resolved_at IS NULL",
        [machine_id, str(AlertKind.SUSPICIOUS)],
    )
    numbers = [number for row in rows if (number := json.loads(row["facts"]).get("snapshot"))]
    return min(numbers, default=None)


def sync(db: Database, found: Iterable[Alert], now: float) -> Synced:
    """Hold what is wrong now, in every space, against the rows."""
    now_wrong = {(alert.kind, key_of(alert)): alert for alert in found}
    unresolved = db.rows("SELECT * FROM alert WHERE resolved_at IS NULL")
    rows = {(AlertKind(row["kind"]), row["key"]): row for row in unresolved}
    opened = [alert for key, alert in now_wrong.items() if key not in rows]
    over_now = [
        row
        for key, row in rows.items()
        if key not in now_wrong and (key[0] is not AlertKind.SUSPICIOUS or row["acknowledged_at"] is not None)
    ]
    lasting = [
        (row["id"], alert)
        for key, row in rows.items()
        if (alert := now_wrong.get(key)) is not None
        and (now - row["seen_at"] >= SEEN_S or json.loads(row["facts"])["text"] != alert.facts.text)
    ]
    if not (opened or over_now or lasting):
        return Synced(0, 0)
    with db.write():
        for alert in opened:
            _open(db, alert, now)
        for row in over_now:
            db.execute("UPDATE alert SET resolved_at = ? WHERE id = ? AND resolved_at IS NULL", [now, row["id"]])
        for number, alert in lasting:
            db.execute(
                "UPDATE alert SET seen_at = ?, facts = ?, machine_name = ?, client_id = ?, contract_id = ?, "
                "space_id = ? WHERE id = ?",
                [now, _facts(alert), alert.machine_name, alert.client_id, alert.contract_id, alert.space_id, number],
            )
    return Synced(len(opened), len(over_now))


def _open(db: Database, alert: Alert, now: float) -> int:
    """The number of the alert's row, which may have been written between the look and the lock."""
    key = key_of(alert)
    found = db.value("SELECT id FROM alert WHERE kind = ? AND key = ? AND resolved_at IS NULL", [str(alert.kind), key])
    if found is not None:
        return int(found)
    db.insert("alert", {**_columns(alert), "key": key, "opened_at": now, "seen_at": now})
    return int(db.value("SELECT last_insert_rowid() AS id"))


def open_now(db: Database, alert: Alert, now: float) -> int:
    """Write an alert's row before the next look around; its number. One that stands already stays as it is."""
    with db.write():
        return _open(db, alert, now)


def _facts(alert: Alert) -> str:
    return json.dumps(dataclasses.asdict(alert.facts), ensure_ascii=False, sort_keys=True)


def _columns(alert: Alert) -> dict[str, object]:
    return {
        "kind": str(alert.kind),
        "machine_id": alert.machine_id,
        "machine_name": alert.machine_name,
        "contract_id": alert.contract_id,
        "client_id": alert.client_id,
        "space_id": alert.space_id,
        "facts": _facts(alert),
        "since": alert.since,
    }


def _where(scope: Scope) -> tuple[str, tuple[str, ...]]:
    """Alerts of the appliance itself hang on no space: they are for those who see everything."""
    if isinstance(scope, Everything):
        return "1", ()
    where = over(scope, space="alert.space_id", contract="alert.contract_id")
    return where.sql, where.parameters


def living(db: Database, scope: Scope) -> list[LivingAlert]:
    """What is not resolved in a scope, oldest first."""
    sql, parameters = _where(scope)
    rows = db.rows(f"SELECT * FROM alert WHERE resolved_at IS NULL AND {sql} ORDER BY opened_at, id", parameters)
    return [_living(row) for row in rows]


def standing(db: Database, scope: Scope, found: Iterable[Alert]) -> list[Standing]:
    """What `machine_alerts.every` found in the same scope, with what the rows say of it; worst first, then the oldest.

    A suspicious change that nobody has acknowledged is among them however calm the machine has been since.
    """
    rows = {(one.alert.kind, key_of(one.alert)): one for one in living(db, scope)}
    result = []
    for alert in found:
        row = rows.pop((alert.kind, key_of(alert)), None)
        if row is None:
            result.append(Standing(alert, None, None, None))
        else:
            result.append(Standing(alert, row.id, row.acknowledged_at, row.acknowledged_by))
    result += [
        Standing(row.alert, row.id, None, None)
        for row in rows.values()
        if row.alert.kind is AlertKind.SUSPICIOUS and row.acknowledged_at is None
    ]
    result.sort(key=lambda one: (_RANK[one.alert.kind], one.alert.since, one.alert.client_id, one.alert.machine_name))
    return result


def acknowledge_standing(db: Database, scope: Scope, one: Standing, *, by: str, now: float) -> LivingAlert:
    """Answer for what stands in the scope; its row is written if none was yet."""
    with db.write():
        number = _open(db, one.alert, now) if one.number is None else one.number
        return acknowledge(db, scope, number, by=by, now=now)


def history(
    db: Database,
    scope: Scope,
    *,
    machine_id: bytes | None = None,
    contract_id: str | None = None,
    limit: int = 100,
) -> list[LivingAlert]:
    """Alerts in a scope whatever their state, newest first; of one machine or contract where given."""
    sql, given = _where(scope)
    parameters: list[object] = [*given]
    for column, value in (("machine_id", machine_id), ("contract_id", contract_id)):
        if value is not None:
            sql += f" AND {column} = ?"
            parameters.append(value)
    rows = db.rows(
        f"SELECT * FROM alert WHERE {sql} ORDER BY id DESC LIMIT ?", [*parameters, max(1, min(limit, PAGE_LIMIT))]
    )
    return [_living(row) for row in rows]


def find(db: Database, scope: Scope, number: int) -> LivingAlert:
    """One alert; NotFoundError where there is none of this number in the scope."""
    sql, parameters = _where(scope)
    row = db.row(f"SELECT * FROM alert WHERE id = ? AND {sql}", [number, *parameters])
    if row is None:
        raise NotFoundError(f"there is no alert {number} here")
    return _living(row)


def acknowledge(db: Database, scope: Scope, number: int, *, by: str, now: float) -> LivingAlert:
    """Somebody has seen it and answers for it; harmless where somebody had before. A frozen prune goes on from then.

    NotFoundError where there is none of this number in the scope.
    """
    with db.write():
        find(db, scope, number)
        db.execute(
            "UPDATE alert SET acknowledged_at = ?, acknowledged_by = ? WHERE id = ? AND acknowledged_at IS NULL",
            [now, one_line(by, 254), number],
        )
        return find(db, scope, number)


def mark_told(db: Database, numbers: Iterable[int], now: float) -> None:
    """A mail about these was written, in the transaction of that mail."""
    with db.write():
        for number in numbers:
            db.execute("UPDATE alert SET told_at = ? WHERE id = ?", [now, number])


def pruning_is_frozen(db: Database, machine_id: bytes) -> bool:
    """Whether a suspicious change of this machine waits for somebody to acknowledge it."""
    row = db.row(
        "SELECT 1 AS found FROM alert WHERE kind = ? AND machine_id = ? AND acknowledged_at IS NULL "
        "AND resolved_at IS NULL",
        [str(AlertKind.SUSPICIOUS), machine_id],
    )
    return row is not None
