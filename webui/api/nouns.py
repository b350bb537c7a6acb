"""What the API speaks of: the typed bodies of its requests and answers, from which its document is made.

Rules: times are RFC 3339 in UTC, days ISO 8601, sizes bytes; names end in `_at`, `_bytes`, `_s`, `_hours`. Answers may
gain fields in v1, requests may gain optional ones; nothing else changes. Knows no request.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.control.alert_table import AlertState
from appliance.control.api_tokens import Permission
from appliance.control.backup_requests import RequestState
from appliance.control.control_room import State
from appliance.control.machine_alerts import AlertKind, Severity
from appliance.control.machine_settings import Sync
from appliance.store.upkeep.retention import LONGEST_DAYS
from transport.names import REMOTE_RULE_LIMIT, REMOTE_RULES_LIMIT
from transport.schedule import DAYS, TIMES_LIMIT

PAGE_LIMIT: Final = 200

Id = Annotated[str, Meta(min_length=1, max_length=60)]
MachineId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Line = Annotated[str, Meta(min_length=1, max_length=100)]
Email = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
Text = Annotated[str, Meta(max_length=200)]
Bytes = Annotated[int, Meta(ge=0, le=2**53)]
Machines = Annotated[int, Meta(ge=0, le=100_000)]
Days = Annotated[int, Meta(ge=1, le=LONGEST_DAYS)]
Hours = Annotated[int, Meta(ge=1, le=24 * 365)]
Moment = Annotated[datetime, Meta(tz=True)]
Day = Annotated[str, Meta(pattern="^(mon|tue|wed|thu|fri|sat|sun)$")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_LIMIT)]
Cursor = Annotated[str, Meta(max_length=200)]
Number = Annotated[int, Meta(ge=0, le=2**53)]


def moment(at: float) -> datetime:
    """Seconds since 1970 as a time."""
    return datetime.fromtimestamp(at, UTC)


def moment_or_none(at: float | None) -> datetime | None:
    """The same for what may not have happened."""
    return None if at is None else moment(at)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is answered."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is asked: a field that is not known is refused, since it may be a slip in a known one."""


class Listing(Asked, frozen=True, kw_only=True):
    """How much of a list, and from where: `cursor` is `next` of the page before."""

    limit: Limit = 100
    cursor: Cursor | None = None


class TokenShown(Answer, frozen=True, kw_only=True):
    """The token that asks."""

    id: str
    name: str
    prefix: str
    space_id: str
    permissions: list[Permission]
    created_at: datetime
    expires_at: datetime


class Space(Answer, frozen=True, kw_only=True):
    """A tenant, with what it holds. Volumes are the source bytes of latest complete snapshots."""

    id: str
    name: str
    created_at: datetime
    contracts: int
    machines: int
    used_bytes: int
    allocated_bytes: int


class Spaces(Answer, frozen=True, kw_only=True):
    """The spaces that the token sees: its own."""

    items: list[Space]


class Machine(Answer, frozen=True, kw_only=True):
    """An enrolled machine, and how its backups stand."""

    id: str
    name: str
    contract_id: str
    client_id: str
    space_id: str
    state: State
    last_snapshot: int | None
    last_snapshot_at: datetime | None
    last_complete_at: datetime | None
    source_bytes: int
    warnings: int
    last_error: str
    last_error_at: datetime | None
    last_seen_at: datetime | None
    agent_version: str
    platform: str
    language: str | None
    created_at: datetime
    deletion_due_at: datetime | None


class MachinePage(Answer, frozen=True, kw_only=True):
    """Some machines; `next` is the cursor of the page after, null on the last."""

    items: list[Machine]
    next: str | None


class MachinesWanted(Listing, frozen=True, kw_only=True):
    """Which machines."""

    contract_id: Id | None = None
    state: State | None = None
    text: Text = ""


class MachineChanges(Asked, frozen=True, kw_only=True):
    """What to change of a machine; a language of null is its space's."""

    name: Line | UnsetType = UNSET
    language: Annotated[str, Meta(min_length=2, max_length=8)] | None | UnsetType = UNSET


class MachineMove(Asked, frozen=True, kw_only=True):
    """The contract that a machine is to belong to."""

    contract_id: Id


class BackupAsked(Answer, frozen=True, kw_only=True):
    """The newest request for a backup of a machine: its agent takes it up within a minute, if it runs."""

    number: int
    requested_by: str
    requested_at: datetime
    state: RequestState
    answered_at: datetime | None
    reason: str


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Included paths and excluded paths or patterns, absolute as on the machine."""

    include: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=REMOTE_RULE_LIMIT)]],
        Meta(min_length=1, max_length=REMOTE_RULES_LIMIT),
    ]
    exclude: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=REMOTE_RULE_LIMIT)]], Meta(max_length=REMOTE_RULES_LIMIT)
    ] = []


class Times(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of day as HH:MM, and days as mon … sun; the machine's own local time.

    `continuous`: changes are followed as they happen as well, at any hour."""

    times: Annotated[
        list[Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]], Meta(max_length=TIMES_LIMIT)
    ]
    days: Annotated[
        list[Day], Meta(min_length=1, max_length=7)
    ] = msgspec.field(default_factory=lambda: list(DAYS))
    continuous: bool = False


class SettingsWanted(Asked, frozen=True, kw_only=True):
    """What a machine is to do; null leaves a part to the machine. `impose` replaces what was changed on it since.

    `allow_loss` must be true where the selection would back up less than the one before.
    """

    selection: Selection | None
    schedule: Times | None
    language: Annotated[str, Meta(min_length=2, max_length=8)] | None = None
    impose: bool = False
    allow_loss: bool = False


class MachineSettings(Answer, frozen=True, kw_only=True):
    """What is wanted of a machine, and how far it is with that."""

    version: int
    selection: Selection | None
    schedule: Times | None
    language: str | None
    saved_by: str
    saved_at: datetime | None
    sync: Sync
    remote_allowed: bool
    next_run_at: datetime | None
    reason: str


class Snapshot(Answer, frozen=True, kw_only=True):
    """One backup with the figures that its agent counted. Retention may have removed it since."""

    machine_id: str
    machine_name: str
    contract_id: str
    client_id: str
    number: int
    received_at: datetime
    complete: bool
    files_total: int
    files_full: int
    files_delta: int
    files_unchanged: int
    files_moved: int
    files_deleted: int
    source_bytes: int
    read_bytes: int
    sent_bytes: int
    seconds: float
    transfer_seconds: float
    warnings: int
    agent_version: str
    platform: str


class SnapshotPage(Answer, frozen=True, kw_only=True):
    """Some snapshots, newest first; `next` is the cursor of the page after, null on the last."""

    items: list[Snapshot]
    next: str | None


class SnapshotsWanted(Listing, frozen=True, kw_only=True):
    """Which snapshots: `since` is included, `until` is not."""

    machine_id: MachineId | None = None
    contract_id: Id | None = None
    since: Moment | None = None
    until: Moment | None = None


class StatisticsWanted(Asked, frozen=True, kw_only=True):
    """Of what, from which day (included) to which (included); the last 30 days where they are left out."""

    machine_id: MachineId | None = None
    contract_id: Id | None = None
    since: date | None = None
    until: date | None = None


class StatisticsDay(Answer, frozen=True, kw_only=True):
    """One day in UTC. `source_bytes` is the volume held that day."""

    day: date
    backups: int
    sent_bytes: int
    source_bytes: int
    seconds: float
    transfer_seconds: float


class Statistics(Answer, frozen=True, kw_only=True):
    """One entry a day, oldest first, from the first with something to show."""

    items: list[StatisticsDay]


class LogLine(Answer, frozen=True, kw_only=True):
    """One line of a machine's log. No file name stands in one."""

    id: int
    at: datetime
    level: str
    module: str
    text: str
    machine_id: str
    machine_name: str
    contract_id: str


class LogPage(Answer, frozen=True, kw_only=True):
    """Some lines, newest first. A page may be empty and still have a `next`: the search goes on there."""

    items: list[LogLine]
    next: str | None


class LogsWanted(Listing, frozen=True, kw_only=True):
    """Which lines."""

    machine_id: MachineId | None = None
    contract_id: Id | None = None
    level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] | None = None
    text: Text = ""
    since: Moment | None = None
    until: Moment | None = None


class Alert(Answer, frozen=True, kw_only=True):
    """Something that asks for attention."""

    number: int
    kind: AlertKind
    severity: Severity
    state: AlertState
    since: datetime
    opened_at: datetime
    machine_id: str | None
    machine_name: str
    contract_id: str | None
    client_id: str
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    facts: dict[str, int | str]


class AlertPage(Answer, frozen=True, kw_only=True):
    """Some alerts that are not resolved, oldest first; `next` is the cursor of the page after, null on the last."""

    items: list[Alert]
    next: str | None


class AlertsWanted(Listing, frozen=True, kw_only=True):
    """Which alerts."""

    state: Annotated[str, Meta(pattern="^(open|acknowledged)$")] | None = None


class RunningBackup(Answer, frozen=True, kw_only=True):
    """A backup under way, a few seconds old. `left_s` is null where the pace says nothing yet."""

    machine_id: str
    machine_name: str
    contract_id: str
    client_id: str
    phase: str
    files_done: int
    files_total: int
    done_bytes: int
    total_bytes: int
    rate_bytes_s: float
    left_s: float | None
    started_at: datetime
    updated_at: datetime


class RunningBackups(Answer, frozen=True, kw_only=True):
    """The backups under way, by client and machine."""

    items: list[RunningBackup]


class Act(Answer, frozen=True, kw_only=True):
    """A line of the audit log. `before` and `after` hold what changed, as JSON."""

    line: int
    at: datetime
    who: str
    role: str
    address: str
    kind: str
    object_kind: str
    object_id: str
    object_name: str
    contract_id: str | None
    before: Any
    after: Any


class ActPage(Answer, frozen=True, kw_only=True):
    """Some acts, newest first; `next` is the cursor of the page after, null on the last."""

    items: list[Act]
    next: str | None


class ActsWanted(Listing, frozen=True, kw_only=True):
    """Which acts."""

    kind: Annotated[str, Meta(max_length=80)] | None = None
    text: Text = ""
    since: Moment | None = None
    until: Moment | None = None
