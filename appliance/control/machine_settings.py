"""Settings that the web wants a machine's agent to have, and what the agent last said of itself.

Rules: what is wanted has a version that grows with each save; each part (selection, schedule) remembers the version
that last changed it, so that an agent takes over what changed and leaves alone what its owner chose since. There is no
place for commands or hooks. The customer may refuse remote settings on the machine: that is the agent's word, kept
here for the web to show. A selection made on the machine itself never comes here: its digest and the number of its
rules do, and whether it became smaller. The language is the machine's own column, and is sent along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from appliance.control.accounts import checked_language
from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.control.text import checked_line, one_line
from appliance.errors import NotFoundError
from transport.errors import UsageError
from transport.names import REMOTE_RULE_LIMIT, REMOTE_RULES_LIMIT
from transport.schedule import Schedule

_WINDOWS_ROOT: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_REASON_LIMIT: Final = 500


class Outcome(StrEnum):
    """What became of the settings that were last sent to a machine."""

    NONE = "none"
    """None were sent yet."""
    APPLIED = "applied"
    REFUSED = "refused"
    """The customer does not allow remote settings."""
    INVALID = "invalid"
    """The machine cannot make sense of them; the report's reason says why."""


class Sync(StrEnum):
    """How what is wanted stands to what the machine has, for a page."""

    NOTHING = "nothing"
    """Nothing is wanted: the machine's own settings count."""
    WAITING = "waiting"
    """The agent has not answered the newest version yet: it is off, not connected, or too old."""
    APPLIED = "applied"
    CHANGED_LOCALLY = "changed-locally"
    """It was applied; since then the selection or the schedule was changed on the machine itself."""
    REFUSED = "refused"
    INVALID = "invalid"


class SelectionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Included paths and excluded paths or patterns, as on the agent's command line."""

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the web wants of a machine; None leaves a part to the machine (a language: to its contract's)."""

    selection: SelectionRules | None = None
    schedule: Schedule | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent says of itself. `version` is the newest wanted version that it has answered, 0 for none.

    `selection` is the SHA-256 of its rules, hex. `selection_version` and `schedule_version` name the wanted version
    from which these stand, 0 where they were set on the machine. `shrunk_at`: when the selection last became smaller,
    None once someone accepted that. Times in seconds since 1970, `at` and `shrunk_at` by the appliance's clock.
    """

    at: float
    version: int
    outcome: Outcome
    reason: str
    remote_allowed: bool
    schedule: Schedule
    schedule_version: int
    language: str
    selection: str
    selection_version: int
    includes: int
    excludes: int
    next_run_at: float | None
    shrunk_at: float | None = None


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """A machine's wanted settings with their version (0: never saved) and versions of parts, and its last report."""

    machine_id: bytes
    version: int
    wanted: Wanted
    selection_version: int
    schedule_version: int
    saved_by: str
    saved_at: float | None
    report: Report | None

    @property
    def remote_allowed(self) -> bool:
        """Whether the machine takes remote settings, as far as it has said."""
        return self.report is None or self.report.remote_allowed

    @property
    def sync(self) -> Sync:
        """How far the machine is with what is wanted."""
        wanted, report = self.wanted, self.report
        if self.version == 0 or (wanted.selection is None and wanted.schedule is None):
            return Sync.NOTHING
        if report is None or report.version < self.version:
            return Sync.WAITING if self.remote_allowed else Sync.REFUSED
        if report.outcome is Outcome.REFUSED or not report.remote_allowed:
            return Sync.REFUSED
        if report.outcome is Outcome.INVALID:
            return Sync.INVALID
        stands = (wanted.selection is None or report.selection_version == self.selection_version) and (
            wanted.schedule is None or report.schedule_version == self.schedule_version
        )
        return Sync.APPLIED if stands else Sync.CHANGED_LOCALLY


_COLUMNS: Final = (
    "machine.id AS machine_id, machine.language, wanted.version, wanted.selection AS wanted_selection, "
    "wanted.selection_version AS wanted_selection_version, wanted.schedule AS wanted_schedule, "
    "wanted.schedule_version AS wanted_schedule_version, wanted.saved_by, wanted.saved_at, "
    "report.at, report.version AS answered, report.outcome, report.reason, report.remote_allowed, report.schedule, "
    "report.schedule_version, report.language AS spoken, lower(hex(report.selection)) AS selection, "
    "report.selection_version, report.includes, report.excludes, report.next_run_at, report.shrunk_at"
)
_FROM: Final = (
    "machine JOIN contract ON contract.id = machine.contract_id "
    "LEFT JOIN machine_settings AS wanted ON wanted.machine_id = machine.id "
    "LEFT JOIN machine_report AS report ON report.machine_id = machine.id"
)


def _rules(text: str | None) -> SelectionRules | None:
    return None if text is None else msgspec.json.decode(text, type=SelectionRules)


def _schedule(text: str | None) -> Schedule | None:
    return None if text is None else msgspec.json.decode(text, type=Schedule)


def _report(row: dict[str, Any]) -> Report | None:
    if row["at"] is None:
        return None
    return Report(
        at=row["at"],
        version=row["answered"],
        outcome=Outcome(row["outcome"]),
        reason=row["reason"],
        remote_allowed=bool(row["remote_allowed"]),
        schedule=msgspec.json.decode(row["schedule"], type=Schedule),
        schedule_version=row["schedule_version"],
        language=row["spoken"],
        selection=row["selection"],
        selection_version=row["selection_version"],
        includes=row["includes"],
        excludes=row["excludes"],
        next_run_at=row["next_run_at"],
        shrunk_at=row["shrunk_at"],
    )


def _settings(row: dict[str, Any]) -> MachineSettings:
    return MachineSettings(
        machine_id=row["machine_id"],
        version=row["version"] or 0,
        wanted=Wanted(_rules(row["wanted_selection"]), _schedule(row["wanted_schedule"]), row["language"]),
        selection_version=row["wanted_selection_version"] or 0,
        schedule_version=row["wanted_schedule_version"] or 0,
        saved_by=row["saved_by"] or "",
        saved_at=row["saved_at"],
        report=_report(row),
    )


def get(db: Database, scope: Scope, machine_id: bytes) -> MachineSettings:
    """The settings of a machine in scope; NotFoundError otherwise."""
    where = condition(scope)
    row = db.row(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE machine.id = ? AND {where.sql}", [machine_id, *where.parameters]
    )
    if row is None:
        raise NotFoundError(f"there is no machine {machine_id.hex()}: see 'pilulier machine list'")
    return _settings(row)


def every(db: Database, scope: Scope) -> dict[bytes, MachineSettings]:
    """The settings of all machines in scope, by machine: one query, for lists."""
    where = condition(scope)
    rows = db.rows(f"SELECT {_COLUMNS} FROM {_FROM} WHERE {where.sql}", where.parameters)
    return {row["machine_id"]: _settings(row) for row in rows}


def checked_rules(include: Iterable[str], exclude: Iterable[str] = ()) -> SelectionRules:
    """Rules as people type them, blank ones dropped; UsageError names the one that makes no sense.

    Only what holds on every system is checked: the agent has the last word, and its reason is shown.
    """
    included = [_checked_rule(text, "an included path") for text in include if text.strip()]
    excluded = [_checked_rule(text, "an excluded path or pattern") for text in exclude if text.strip()]
    for rule in included:
        on_windows = rule[:1] in _WINDOWS_ROOT and rule[1:2] == ":"
        if not rule.startswith("/") and not on_windows:
            raise UsageError(f"{one_line(rule, 80)} is not an absolute path: give it from the root, as on the machine")
    if not included:
        raise UsageError("no path is included: the machine would back nothing up; to stop its backups, pause it")
    for rules, what in ((included, "included paths"), (excluded, "exclusions")):
        if len(rules) > REMOTE_RULES_LIMIT:
            raise UsageError(f"{len(rules)} {what} are more than {REMOTE_RULES_LIMIT}: give fewer, or whole folders")
    return SelectionRules(tuple(dict.fromkeys(included)), tuple(dict.fromkeys(excluded)))


def _checked_rule(text: str, what: str) -> str:
    return checked_line(text, what, REMOTE_RULE_LIMIT)


def save(
    db: Database, scope: Scope, machine_id: bytes, wanted: Wanted, by: str, now: float, *, impose: bool = False
) -> MachineSettings:
    """Want this of a machine in scope; `by` names who, for the page and the machine's log.

    Parts that are as they were keep their version, so the machine's owner may have changed them since: `impose` sends
    them again. UsageError for rules or a language that make no sense.
    """
    if wanted.selection is not None:
        rules = checked_rules(wanted.selection.include, wanted.selection.exclude)
        wanted = Wanted(rules, wanted.schedule, wanted.language)
    language = None if wanted.language is None else checked_language(wanted.language)
    with db.write():
        before = get(db, scope, machine_id)
        version = before.version + 1
        selection_version = _version(before.wanted.selection, wanted.selection, before.selection_version, version)
        schedule_version = _version(before.wanted.schedule, wanted.schedule, before.schedule_version, version)
        if impose:
            selection_version = version if wanted.selection is not None else selection_version
            schedule_version = version if wanted.schedule is not None else schedule_version
        db.execute("UPDATE machine SET language = ? WHERE id = ?", [language, machine_id])
        if version in (selection_version, schedule_version):
            db.execute("DELETE FROM machine_settings WHERE machine_id = ?", [machine_id])
            db.insert(
                "machine_settings",
                {
                    "machine_id": machine_id,
                    "version": version,
                    "selection": _text(wanted.selection),
                    "selection_version": selection_version,
                    "schedule": _text(wanted.schedule),
                    "schedule_version": schedule_version,
                    "saved_by": one_line(by, 254),
                    "saved_at": now,
                },
            )
        return get(db, scope, machine_id)


def _version(before: object, after: object, former: int, version: int) -> int:
    return former if before == after else version


def _text(part: msgspec.Struct | None) -> str | None:
    return None if part is None else msgspec.json.encode(part).decode()


def accept_selection(db: Database, scope: Scope, machine_id: bytes) -> None:
    """Someone has seen that the machine's selection became smaller, and that it is meant: the alert ends."""
    with db.write():
        get(db, scope, machine_id)
        db.execute("UPDATE machine_report SET shrunk_at = NULL WHERE machine_id = ?", [machine_id])


def note(db: Database, machine_id: bytes, report: Report, *, shrunk: bool) -> None:
    """What the agent of this very machine said, for the service; `shrunk` where its selection became smaller.

    An earlier shrinking that nobody accepted stands on, whatever the agent says later.
    """
    with db.write():
        former = db.value("SELECT shrunk_at FROM machine_report WHERE machine_id = ?", [machine_id])
        db.execute("DELETE FROM machine_report WHERE machine_id = ?", [machine_id])
        db.insert(
            "machine_report",
            {
                "machine_id": machine_id,
                "at": report.at,
                "version": report.version,
                "outcome": str(report.outcome),
                "reason": one_line(report.reason, _REASON_LIMIT),
                "remote_allowed": int(report.remote_allowed),
                "schedule": _text(report.schedule),
                "schedule_version": report.schedule_version,
                "language": one_line(report.language, 16),
                "selection": bytes.fromhex(report.selection),
                "selection_version": report.selection_version,
                "includes": report.includes,
                "excludes": report.excludes,
                "next_run_at": report.next_run_at,
                "shrunk_at": former if former is not None and not shrunk else (report.at if shrunk else None),
            },
        )
