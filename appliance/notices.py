"""From what happened to mails: who is told what, once, in whose language, at what hour.

Rules: an alert is told when it opens and again after a while only where it says so and nobody has answered for it;
each mail and the mark that it was written are one transaction, so that a crash neither loses nor doubles it. A
contract's people get what the contract's preference lets through; admins of the space get what only they can change;
the super-user gets what concerns the appliance. More than a few at once for one person become one digest. In the quiet
hours only what cannot wait leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from appliance.control import alarms, alert_table, disk_readings, outbox, space_settings
from appliance.control.accounts import Account
from appliance.control.alert_table import AlertState, LivingAlert
from appliance.control.contracts import Notify
from appliance.control.database import Database
from appliance.control.deliveries import Delivery
from appliance.control.machine_alerts import AlertKind
from appliance.control.machines import Machine
from appliance.control.outbox import Scalar, Value
from appliance.control.scope import EVERYTHING

DIGEST_FROM: Final = 4
"""So many alerts at once for one person become one mail."""
WEEK_S: Final = 7 * 86400.0
NEVER_HOURS: Final = 36
"""A machine is told as never backed up after so long: its first day is for setting it up."""
_OPENING_AGE_S: Final = 2 * 86400.0
"""Openings of restores older than this are no news, on an appliance that has just learnt to tell them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done about a kind of alert. `level`: the least preference of a contract that lets it through.

    `admins_if_wanted`: the space's admins hear of it where their space says so: what each customer is told already.
    """

    mail: str
    level: Notify
    contract: bool = False
    admins: bool = False
    admins_if_wanted: bool = False
    supers: bool = False
    again_s: float | None = None
    urgent: bool = False


RULES: Final[Mapping[AlertKind, Rule]] = {
    AlertKind.FAILED: Rule(outbox.BACKUP_FAILED, Notify.FAILURES, contract=True, admins_if_wanted=True),
    AlertKind.SUSPICIOUS: Rule(
        outbox.SUSPICIOUS_CHANGE, Notify.FAILURES, contract=True, admins=True, again_s=86400.0, urgent=True
    ),
    AlertKind.SHRUNK: Rule(outbox.SELECTION_SHRUNK, Notify.WARNINGS, contract=True, admins=True),
    AlertKind.ONSITE: Rule(
        outbox.ONSITE_MISSING, Notify.WARNINGS, contract=True, admins_if_wanted=True, again_s=WEEK_S
    ),
    AlertKind.DAMAGE: Rule(outbox.DAMAGE_FOUND, Notify.FAILURES, contract=True, admins=True, supers=True, urgent=True),
    AlertKind.ALARM: Rule(outbox.APPLIANCE_ALARM, Notify.FAILURES, supers=True, again_s=WEEK_S, urgent=True),
    AlertKind.LATE: Rule(
        outbox.MACHINE_SILENT, Notify.FAILURES, contract=True, admins_if_wanted=True, again_s=WEEK_S
    ),
    AlertKind.NEVER: Rule(outbox.NEVER_BACKED_UP, Notify.WARNINGS, contract=True, admins_if_wanted=True),
    AlertKind.EXPIRED: Rule(outbox.CONTRACT_EXPIRED, Notify.WARNINGS, contract=True, admins=True),
    AlertKind.OVER_QUOTA: Rule(
        outbox.CONTRACT_OVER_QUOTA, Notify.WARNINGS, contract=True, admins=True, again_s=WEEK_S
    ),
    AlertKind.WARNINGS: Rule(outbox.BACKUP_WARNINGS, Notify.WARNINGS, contract=True),
    AlertKind.EXPIRING: Rule(outbox.CONTRACT_EXPIRING, Notify.ALL, contract=True, admins=True),
}
_RANK: Final = {Notify.ALL: 0, Notify.WARNINGS: 1, Notify.FAILURES: 2}


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of the day, in the appliance's zone, in which mails wait; none where both are the same."""

    start: int
    end: int

    def until(self, now: float) -> float:
        """When a mail written now may leave."""
        local = datetime.fromtimestamp(now)
        if self.start == self.end:
            return now
        within = (
            self.start <= local.hour < self.end
            if self.start < self.end
            else local.hour >= self.start or local.hour < self.end
        )
        if not within:
            return now
        over = local.replace(hour=self.end, minute=0, second=0, microsecond=0)
        return (over if over > local else over + timedelta(days=1)).timestamp()


NO_QUIET: Final = Quiet(0, 0)


@dataclass(frozen=True, slots=True)
class Person:
    """Who is told, and in which language."""

    email: str
    language: str


@dataclass(frozen=True, slots=True)
class _Note:
    alert: LivingAlert
    rule: Rule
    fields: Mapping[str, Value]


def contract_people(db: Database, contract_id: str) -> list[Person]:
    """The contract's own address, in its space's language, and its customers' accounts in theirs."""
    found = {row["email"]: row["language"] for row in db.rows(
        "SELECT email, language FROM account WHERE contract_id = ? AND state = 'active' ORDER BY email", [contract_id]
    )}  # fmt: skip
    row = db.row(
        "SELECT contract.email, coalesce(space_settings.language, 'fr') AS language FROM contract "
        "LEFT JOIN space_settings ON space_settings.space_id = contract.space_id WHERE contract.id = ?",
        [contract_id],
    )
    if row is not None:
        found.setdefault(row["email"], row["language"])
    return [Person(email, language) for email, language in found.items()]


def _accounts(db: Database, sql: str, parameters: Iterable[object]) -> list[Person]:
    rows = db.rows(
        f"SELECT email, language FROM account WHERE state = 'active' AND {sql} ORDER BY email", [*parameters]
    )
    return [Person(**row) for row in rows]


def admins(db: Database, space_id: str) -> list[Person]:
    """Those who look after a space."""
    return _accounts(db, "role = 'admin' AND space_id = ?", [space_id])


def supers(db: Database) -> list[Person]:
    """Those who run the appliance."""
    return _accounts(db, "role = 'super'", [])


def tell_alerts(db: Database, now: float, quiet: Quiet = NO_QUIET) -> int:
    """Write mails about what is not told yet; how many."""
    due = [one for one in alert_table.living(db, EVERYTHING) if _is_due(one, now)]
    if not due:
        return 0
    with db.write():
        notes: dict[Person, list[_Note]] = {}
        for one in due:
            rule = RULES[one.alert.kind]
            note = _Note(one, rule, _fields(db, one))
            for person in _whom(db, one, rule):
                notes.setdefault(person, []).append(note)
        written = sum(_write(db, person, found, now, quiet) for person, found in notes.items())
        alert_table.mark_told(db, [one.id for one in due], now)
    return written


def _is_due(one: LivingAlert, now: float) -> bool:
    rule = RULES.get(one.alert.kind)
    if rule is None or one.state is not AlertState.OPEN:
        return False
    if one.alert.facts.alarm == alarms.MACHINE_CLOCK:
        return False  # it stands on the pages, and the machine tells its own people
    if one.alert.kind is AlertKind.NEVER and now - one.alert.since < NEVER_HOURS * 3600:
        return False
    if one.told_at is None:
        return True
    return rule.again_s is not None and now - one.told_at >= rule.again_s


def _whom(db: Database, one: LivingAlert, rule: Rule) -> set[Person]:
    people: set[Person] = set()
    alert = one.alert
    if rule.contract and alert.contract_id:
        wanted = db.value("SELECT notify FROM contract WHERE id = ?", [alert.contract_id])
        if wanted is not None and _RANK[rule.level] >= _RANK[Notify(wanted)]:
            people.update(contract_people(db, alert.contract_id))
    wanted_by_admins = rule.admins_if_wanted and space_settings.of_space(db, alert.space_id).tell_admins
    if (rule.admins or wanted_by_admins) and alert.space_id:
        people.update(admins(db, alert.space_id))
    if rule.supers:
        people.update(supers(db))
    return people


def _fields(db: Database, one: LivingAlert) -> dict[str, Value]:
    """The facts of an alert as mails name them."""
    alert = one.alert
    facts: dict[str, Value] = {"client": alert.client_id, "contract": alert.contract_id, "since": alert.since}
    if alert.machine_id is not None:
        row = db.row(
            "SELECT last_seen_at, (SELECT max(received_at) FROM snapshot_statistics WHERE machine_id = machine.id "
            "AND complete = 1) AS good_at FROM machine WHERE id = ?",
            [alert.machine_id],
        )
        facts |= {"machine": alert.machine_name, "machine_id": alert.machine_id.hex()}
        facts |= {"good_at": row["good_at"], "seen_at": row["last_seen_at"]} if row else {}
    for name in ("hours", "warnings", "used_bytes", "allocated_bytes", "percent", "days", "snapshot", "decoys"):
        facts[name] = getattr(alert.facts, name)
    if alert.facts.decoys and not alert.facts.percent:
        facts["percent"] = None  # what gave the alarm was not how much changed
    contract = db.row("SELECT email, end_date FROM contract WHERE id = ?", [alert.contract_id])
    if contract is not None:
        facts |= {"contract_email": contract["email"], "end_date": contract["end_date"]}
    if alert.kind is AlertKind.ALARM:
        facts |= {"alarm": alert.facts.alarm, "detail": alert.facts.text}
        if alert.facts.alarm == alarms.DISK:
            facts |= _disk_facts(db)
    return facts


def _disk_facts(db: Database) -> dict[str, Value]:
    """The disk in figures, which every language can write; they take the place of the sentence."""
    readings = disk_readings.since(db, 0.0)
    if not readings:
        return {}
    newest = readings[-1]
    full = disk_readings.full_at(disk_readings.since(db, newest.at - disk_readings.FORECAST_S))
    return {
        "detail": "",
        "used_percent": newest.used_percent,
        "free_bytes": newest.free_bytes,
        "full_date": datetime.fromtimestamp(full).date().isoformat() if full is not None else "",
    }


def _write(db: Database, person: Person, notes: list[_Note], now: float, quiet: Quiet) -> int:
    """One mail a note, or one digest; how many mails."""
    later = now if any(note.rule.urgent for note in notes) else quiet.until(now)
    spaces = {note.alert.alert.space_id for note in notes}
    space_id = spaces.pop() if len(spaces) == 1 else ""
    if len(notes) >= DIGEST_FROM:
        rows: list[Mapping[str, Scalar]] = [
            {
                "client": note.alert.alert.client_id,
                "name": note.alert.alert.machine_name,
                "what": note.rule.mail,
            }
            for note in notes
        ]
        _mail(db, person, outbox.DIGEST, {"rows": rows}, space_id, now, later)
        return 1
    for note in notes:
        at = now if note.rule.urgent else quiet.until(now)
        _mail(db, person, note.rule.mail, note.fields, note.alert.alert.space_id, now, at)
    return len(notes)


def _mail(
    db: Database, person: Person, kind: str, fields: Mapping[str, Value], space_id: str, now: float, not_before: float
) -> None:
    outbox.add(
        db,
        recipient=person.email,
        kind=kind,
        language=person.language,
        space_id=space_id or None,
        fields=fields,
        now=now,
        not_before=not_before,
    )


def cursor(db: Database, name: str) -> float | None:
    """How far something has come that is told once; None before the first time."""
    found = db.value("SELECT value FROM notice_cursor WHERE name = ?", [name])
    return None if found is None else float(found)


def set_cursor(db: Database, name: str, value: float | None) -> None:
    """In the transaction of the mail; None forgets it."""
    with db.write():
        db.execute("DELETE FROM notice_cursor WHERE name = ?", [name])
        if value is not None:
            db.insert("notice_cursor", {"name": name, "value": value})


def tell_restores(db: Database, now: float) -> int:
    """Mail the contract's people and whoever's code it was about each restore that was opened since the last look."""
    after = cursor(db, "restores") or 0.0
    rows = db.rows(
        "SELECT opening.id, opening.at, opening.email, opening.machine_id, machine.name, contract.id AS contract_id, "
        "contract.client_id, contract.space_id FROM restore_opening AS opening "
        "JOIN machine ON machine.id = opening.machine_id JOIN contract ON contract.id = machine.contract_id "
        "WHERE opening.id > ? AND opening.at > ? ORDER BY opening.id LIMIT 500",
        [after, now - _OPENING_AGE_S],
    )
    if not rows:
        return 0
    written = 0
    with db.write():
        for row in rows:
            fields: dict[str, Value] = {
                "client": row["client_id"],
                "machine": row["name"],
                "machine_id": row["machine_id"].hex(),
                "at": row["at"],
                "email": row["email"],
            }
            people = {*contract_people(db, row["contract_id"]), *_accounts(db, "email = ?", [row["email"]])}
            for person in sorted(people, key=lambda person: person.email):
                _mail(db, person, outbox.RESTORE_OPENED, fields, row["space_id"], now, now)
                written += 1
        set_cursor(db, "restores", rows[-1]["id"])
    return written


def tell_key_changed(db: Database, machine: Machine, *, by: str, now: float) -> None:
    """Mail the contract's people and the space's admins; in the transaction of the change."""
    with db.write():
        row = db.row("SELECT client_id, space_id FROM contract WHERE id = ?", [machine.contract_id])
        if row is None:
            return
        fields: dict[str, Value] = {
            "client": row["client_id"],
            "machine": machine.name,
            "machine_id": machine.hex,
            "at": now,
            "by": by,
        }
        people = {*contract_people(db, machine.contract_id), *admins(db, row["space_id"])}
        for person in sorted(people, key=lambda person: person.email):
            _mail(db, person, outbox.KEY_CHANGED, fields, row["space_id"], now, now)


def tell_delivered(db: Database, machine: Machine, delivery: Delivery, now: float) -> None:
    """Mail the contract's people that what was sent to a machine stands there; in the transaction of the fact."""
    with db.write():
        row = db.row("SELECT client_id, space_id FROM contract WHERE id = ?", [machine.contract_id])
        if row is None:
            return
        fields: dict[str, Value] = {
            "client": row["client_id"],
            "machine": machine.name,
            "machine_id": machine.hex,
            "at": now,
            "by": delivery.sent_by,
            "restored": delivery.files_done,
            "size_bytes": delivery.bytes_done,
            "errors": delivery.errors,
        }
        for person in contract_people(db, machine.contract_id):
            _mail(db, person, outbox.RESTORE_DONE, fields, row["space_id"], now, now)


def tell_recovered(db: Database, machine: Machine, *, by: Account, now: float) -> None:
    """Mail the contract's people, the space's admins and whose code it was; in the transaction of the takeover."""
    with db.write():
        row = db.row("SELECT client_id, space_id FROM contract WHERE id = ?", [machine.contract_id])
        if row is None:
            return
        fields: dict[str, Value] = {
            "client": row["client_id"],
            "machine": machine.name,
            "machine_id": machine.hex,
            "at": now,
            "by": by.email,
        }
        people = {*contract_people(db, machine.contract_id), *admins(db, row["space_id"])}
        people.add(Person(by.email, by.language))
        for person in sorted(people, key=lambda person: person.email):
            _mail(db, person, outbox.MACHINE_RECOVERED, fields, row["space_id"], now, now)


def tell_full_spaces(db: Database, now: float, quiet: Quiet = NO_QUIET) -> int:
    """Mail the admins of each space whose contracts together use more than they were allocated, weekly."""
    rows = db.rows(
        "SELECT space.id, space.name, (SELECT coalesce(sum(allocated_bytes), 0) FROM contract "
        "WHERE contract.space_id = space.id) AS allocated, (SELECT CAST(total(latest.bytes_source) AS INTEGER) "
        "FROM contract JOIN machine ON machine.contract_id = contract.id "
        "JOIN snapshot_statistics AS latest ON latest.machine_id = machine.id AND latest.number = "
        "(SELECT max(number) FROM snapshot_statistics WHERE machine_id = machine.id AND complete = 1) "
        "WHERE contract.space_id = space.id) AS used FROM space"
    )
    written = 0
    for row in rows:
        name = f"space-over-quota:{row['id']}"
        told = cursor(db, name)
        if row["used"] <= row["allocated"]:
            if told is not None:
                set_cursor(db, name, None)
            continue
        if told is not None and now - told < WEEK_S:
            continue
        percent = min(100 * row["used"] // row["allocated"], 10**6) if row["allocated"] else 10**6
        fields: dict[str, Value] = {
            "space": row["name"],
            "used_bytes": row["used"],
            "allocated_bytes": row["allocated"],
            "percent": percent,
        }
        with db.write():
            for person in admins(db, row["id"]):
                _mail(db, person, outbox.SPACE_OVER_QUOTA, fields, row["id"], now, quiet.until(now))
                written += 1
            set_cursor(db, name, now)
    return written
