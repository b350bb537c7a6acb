"""What happened and what happens, by the API: snapshots and their figures, logs, alerts, backups under way, acts.

Reads, but for answering for an alert. Lists are of the token’s scope, in pages, newest or oldest first as each says.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import structs

from appliance.control import alert_table, api_tokens, audit, log_search, reports, running, spaces
from appliance.control.alert_table import LivingAlert
from appliance.control.log_search import LogFilter
from appliance.control.reports import Backup, Window
from appliance.errors import NotFoundError
from transport.errors import UsageError
from webui import context
from webui.api import cursors, nouns
from webui.api.contracts import by
from webui.api.contracts import of_id as contract_of_id
from webui.api.machines import of_id as machine_of_id
from webui.api.nouns import ActsWanted, AlertsWanted, LogsWanted, SnapshotsWanted, StatisticsWanted, moment
from webui.api.nouns import moment_or_none as sometime
from webui.api.operations import operation

READ, WRITE, AUDIT = api_tokens.Permission.READ, api_tokens.Permission.WRITE, api_tokens.Permission.AUDIT
_DAYS: Final = 30
_DAYS_LIMIT: Final = 1100
_POSITION: Final = re.compile(r"-?0x[0-9a-f.]{1,20}p[+-]?[0-9]{1,4}_[0-9a-f]{32}_[0-9]{1,18}")
_FAR: Final = 4e9
"""Seconds since 1970 that no clock shows: the end of a search without one."""


@operation("GET", "/token", "Show the token that asks", group="Token", needs_permission=None, answer=nouns.TokenShown)
def show_token() -> nouns.TokenShown:
    """What it may do, in which space, until when. Any live token may ask this."""
    token = context.my_token()
    return nouns.TokenShown(
        id=token.id,
        name=token.name,
        prefix=token.prefix,
        space_id=token.space_id,
        permissions=sorted(token.permissions),
        created_at=moment(token.created_at),
        expires_at=moment(token.expires_at),
    )


def _spaces() -> list[nouns.Space]:
    return [
        nouns.Space(
            id=card.space.id,
            name=card.space.name,
            created_at=moment(card.space.created_at),
            contracts=card.contracts,
            machines=card.machines,
            used_bytes=card.used_bytes,
            allocated_bytes=card.allocated_bytes,
        )
        for card in spaces.cards(context.db(), context.scope())
    ]


@operation("GET", "/spaces", "List spaces", group="Spaces", needs_permission=READ, answer=nouns.Spaces)
def list_spaces() -> nouns.Spaces:
    """Those that the token sees: its own."""
    return nouns.Spaces(items=_spaces())


@operation("GET", "/spaces/<space_id>", "Show a space", group="Spaces", needs_permission=READ, answer=nouns.Space)
def show_space(space_id: str) -> nouns.Space:
    """A space with what it holds."""
    for one in _spaces():
        if one.id == space_id:
            return one
    raise NotFoundError("there is no such space here")


def _machine(machine_id: str | None) -> bytes | None:
    return None if machine_id is None else machine_of_id(machine_id).id


def _contract(contract_id: str | None) -> str | None:
    return None if contract_id is None else contract_of_id(contract_id).id


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _snapshot(one: Backup) -> nouns.Snapshot:
    known = structs.asdict(one.figures)
    return nouns.Snapshot(
        machine_id=one.machine_id.hex(),
        machine_name=one.machine_name,
        contract_id=one.contract_id,
        client_id=one.client_id,
        number=one.number,
        received_at=moment(one.received_at),
        complete=one.complete,
        source_bytes=known.pop("bytes_source"),
        read_bytes=known.pop("bytes_read"),
        sent_bytes=known.pop("bytes_sent"),
        agent_version=one.agent_version,
        platform=one.platform,
        **{name: value for name, value in known.items() if name != "bytes_received"},
    )


@operation("GET", "/snapshots", "List snapshots", group="Snapshots", needs_permission=READ, query=SnapshotsWanted,
           answer=nouns.SnapshotPage)  # fmt: skip
def list_snapshots(query: SnapshotsWanted) -> nouns.SnapshotPage:
    """Every snapshot that was received with its figures, newest first, also where retention has removed it since; which
    can be restored is answered when a restore is opened."""
    position = "" if query.cursor is None else cursors.decode("snapshots", query.cursor)
    if position and not _POSITION.fullmatch(position):
        raise UsageError("this cursor is not one of this list: begin without one, and pass on `next` as it is")
    since, until = _seconds(query.since), _seconds(query.until)
    window = Window(
        since if since is not None else 0.0,
        until if until is not None else _FAR,
        contract_id=_contract(query.contract_id),
        machine_id=_machine(query.machine_id),
    )
    page = reports.rows(context.db(), context.scope(), window, cursor=position, limit=query.limit)
    return nouns.SnapshotPage(
        items=[_snapshot(one) for day in page.days for one in day.rows],
        next=cursors.encode("snapshots", page.next) if page.next else None,
    )


@operation("GET", "/statistics", "Show figures by day", group="Snapshots", needs_permission=READ,
           query=StatisticsWanted, answer=nouns.Statistics)  # fmt: skip
def show_statistics(query: StatisticsWanted) -> nouns.Statistics:
    """Of a machine, a contract or the whole space; days are those of UTC."""
    today = datetime.fromtimestamp(context.now(), UTC).date()
    until = query.until or today
    since = query.since or until - timedelta(days=min(_DAYS, until.toordinal()) - 1)
    if not 0 <= (until - since).days < _DAYS_LIMIT:
        raise UsageError(f"from {since} to {until} is no period of 1 to {_DAYS_LIMIT} days")
    begin = datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp()
    end = datetime(until.year, until.month, until.day, tzinfo=UTC).timestamp() + 86400.0
    window = Window(begin, end, contract_id=_contract(query.contract_id), machine_id=_machine(query.machine_id))
    return nouns.Statistics(
        items=[
            nouns.StatisticsDay(
                day=one.day,
                backups=one.backups,
                sent_bytes=one.bytes_sent,
                source_bytes=one.bytes_source,
                seconds=one.seconds,
                transfer_seconds=one.transfer_seconds,
            )
            for one in reports.series(context.db(), context.scope(), window)
        ]
    )


@operation("GET", "/logs", "Read the logs of machines", group="Logs", needs_permission=READ, query=LogsWanted,
           answer=nouns.LogPage)  # fmt: skip
def list_logs(query: LogsWanted) -> nouns.LogPage:
    """Newest first. Narrowed to a machine or a contract it is fastest."""
    page = log_search.search(
        context.db(),
        context.scope(),
        LogFilter(
            machine_id=_machine(query.machine_id),
            contract_id=_contract(query.contract_id),
            levels=frozenset({query.level} if query.level else ()),
            text=query.text,
            since=_seconds(query.since),
            until=_seconds(query.until),
        ),
        before=cursors.number("logs", query.cursor),
        limit=query.limit,
    )
    return nouns.LogPage(
        items=[
            nouns.LogLine(
                id=line.id,
                at=moment(line.at),
                level=line.level,
                module=line.module,
                text=line.text,
                machine_id=line.machine_id.hex(),
                machine_name=line.machine_name,
                contract_id=line.contract_id,
            )
            for line in page.lines
        ],
        next=None if page.next is None else cursors.encode("logs", str(page.next)),
    )


def _alert(one: LivingAlert) -> nouns.Alert:
    about = one.alert
    return nouns.Alert(
        number=one.id,
        kind=about.kind,
        severity=about.severity,
        state=one.state,
        since=moment(about.since),
        opened_at=moment(one.opened_at),
        machine_id=None if about.machine_id is None else about.machine_id.hex(),
        machine_name=about.machine_name,
        contract_id=about.contract_id or None,
        client_id=about.client_id,
        acknowledged_at=sometime(one.acknowledged_at),
        acknowledged_by=one.acknowledged_by,
        resolved_at=sometime(one.resolved_at),
        facts={name: value for name, value in asdict(about.facts).items() if isinstance(value, int | str) and value},
    )


@operation("GET", "/alerts", "List alerts", group="Alerts", needs_permission=READ, query=AlertsWanted,
           answer=nouns.AlertPage)  # fmt: skip
def list_alerts(query: AlertsWanted) -> nouns.AlertPage:
    """What is not resolved, oldest first; written down by a look at all machines every few minutes."""
    after = cursors.number("alerts", query.cursor) or 0
    found = [
        one
        for one in alert_table.living(context.db(), context.scope())
        if one.id > after and (query.state is None or one.state == query.state)
    ]
    found.sort(key=lambda one: one.id)
    page = found[: query.limit]
    return nouns.AlertPage(
        items=[_alert(one) for one in page],
        next=cursors.encode("alerts", str(page[-1].id)) if len(found) > query.limit else None,
    )


@operation("POST", "/alerts/<int(max=9007199254740992):number>/acknowledge", "Answer for an alert", group="Alerts",
           needs_permission=WRITE, answer=nouns.Alert)  # fmt: skip
def acknowledge_alert(number: int) -> nouns.Alert:
    """Somebody has seen it. It stays until it is resolved; one that was answered for before stays as it is."""
    db, now = context.db(), context.now()
    before = alert_table.find(db, context.scope(), number)
    done = alert_table.acknowledge(db, context.scope(), number, by=by(), now=now)
    if before.acknowledged_at is None:
        audit.write(
            db,
            context.actor(),
            "alert.acknowledge",
            now=now,
            object_kind=str(done.alert.kind),
            object_id=str(done.id),
            object_name=done.alert.machine_name or done.alert.client_id,
            space_id=done.alert.space_id or None,
            contract_id=done.alert.contract_id or None,
        )
    return _alert(done)


@operation("GET", "/running", "List backups under way", group="Machines", needs_permission=READ,
           answer=nouns.RunningBackups)  # fmt: skip
def list_running() -> nouns.RunningBackups:
    """What agents say of themselves, a few seconds old."""
    return nouns.RunningBackups(
        items=[
            nouns.RunningBackup(
                machine_id=one.machine_id.hex(),
                machine_name=one.machine_name,
                contract_id=one.contract_id,
                client_id=one.client_id,
                phase=one.phase,
                files_done=one.files_done,
                files_total=one.files_total,
                done_bytes=one.bytes_done,
                total_bytes=one.bytes_total,
                rate_bytes_s=one.rate_bytes_s,
                left_s=one.seconds_left,
                started_at=moment(one.started_at),
                updated_at=moment(one.updated_at),
            )
            for one in running.listed(context.db(), context.scope(), context.home().running_file, context.now())
        ]
    )


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@operation("GET", "/audit", "Read the audit log", group="Audit", needs_permission=AUDIT, query=ActsWanted,
           answer=nouns.ActPage)  # fmt: skip
def list_acts(query: ActsWanted) -> nouns.ActPage:
    """Newest first: who did what in the space, people, programs and commands."""
    page = audit.search(
        context.db(),
        context.scope(),
        text=query.text,
        kind=query.kind,
        since=_seconds(query.since),
        until=_seconds(query.until),
        before=cursors.number("audit", query.cursor),
        limit=query.limit,
    )
    return nouns.ActPage(
        items=[
            nouns.Act(
                line=act.line,
                at=moment(act.at),
                who=act.email,
                role=act.role,
                address=act.address,
                kind=act.kind,
                object_kind=act.object_kind,
                object_id=act.object_id,
                object_name=act.object_name,
                contract_id=act.contract_id,
                before=_value(act.before),
                after=_value(act.after),
            )
            for act in page.acts
        ],
        next=None if page.next is None else cursors.encode("audit", str(page.next)),
    )
