"""Delivery: listings for anyone who holds a machine's key, segments only inside a restore session.

Runs on worker threads, one at a time per machine. A restore session opens with an account's one-time code and
is held by one connection (`restoring`); what flows back is bounded by a window that the agent's confirmations move on.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from typing import Final

from appliance.connections import RESTORE_S, WINDOW_BYTES, Connection
from appliance.control import acts, audit, machine_logs, machines, restores
from appliance.control.accounts import Account
from appliance.control.database import Database
from appliance.control.machines import AuthorisedMachine
from appliance.control.restores import Purpose
from appliance.control.scope import EVERYTHING
from appliance.errors import ThrottledError
from appliance.granting import ParcelGrant
from appliance.restoring import CodeNeededError, RestoreSession, RestoreSessions
from appliance.store.repository import Repository
from transport import messages as m
from transport.commits import StoredCommit
from transport.errors import PilulierError, ProtocolError, RefusedError
from transport.names import MESSAGE_LIMIT, Buffer, PathId, SegmentId, VersionId, checked_id

_PAGE_BYTES: Final = MESSAGE_LIMIT * 7 // 10
_EXTENTS_PER_MESSAGE: Final = 20_000
_COMMITS_PER_MESSAGE: Final = 500
_WANTED_LIMIT: Final = 4 * m.FETCH_LIMIT
_SAMPLE_LIMIT: Final = 32
_RESUMPTIONS_TOLD: Final = 10
"""Of one restore, in the machine's log."""
_SAMPLES_PER_DAY: Final = 96
"""Segments a machine may see without a code in a day: enough to prove a backup alive, too few to carry one off."""

_samples: dict[bytes, tuple[int, int]] = {}
_ATTEMPTS_PER_WINDOW: Final = 30
_ATTEMPTS_WINDOW_S: Final = 15 * 60.0
_attempts: dict[bytes, collections.deque[float]] = {}


def snapshots(message: m.SnapshotsQuery, repository: Repository) -> m.Snapshots:
    """A page of the commit chain."""
    commits = repository.commits(message.after, _COMMITS_PER_MESSAGE + 1)
    room = _PAGE_BYTES
    page: list[StoredCommit] = []
    for commit in commits[:_COMMITS_PER_MESSAGE]:
        room -= len(commit.signed.record) + len(commit.signed.signature) + 40
        if page and room < 0:
            break
        page.append(commit)
    return m.Snapshots(page, len(commits) > len(page), repository.successions())


def children(message: m.ChildrenQuery, repository: Repository) -> m.Entries:
    """A page of a folder."""
    return m.Entries(
        repository.children(message.snapshot, PathId(message.folder), PathId(message.after), _PAGE_BYTES)
    )


def tree(message: m.TreeQuery, repository: Repository) -> m.Entries:
    """A page of a whole snapshot."""
    return m.Entries(repository.tree(message.snapshot, PathId(message.after), _PAGE_BYTES))


def open_restore(
    message: m.RestoreOpen,
    connection: Connection,
    machine: AuthorisedMachine,
    database: Database,
    sessions: RestoreSessions,
) -> m.RestoreOpened:
    """Check account, right and code (which works once), and open the window."""
    slow_down(machine.machine_id)
    account = _verified(message, machine, database, Purpose.RESTORE)
    _note(database, machine, account, "restore.open", "info", "restore", f"Restore opened by {account.email}")
    return opened(sessions.open(connection, account.id))


def resume_restore(
    message: m.RestoreResume,
    connection: Connection,
    machine: AuthorisedMachine,
    database: Database,
    sessions: RestoreSessions,
) -> tuple[m.RestoreOpened, Connection | None]:
    """Go on with a restore whose line broke, and the connection that held it until now, if it is still there."""
    session, former = sessions.resume(message.session, connection)
    if not restores.may_still_restore(database, session.account_id, machine.machine_id):
        sessions.end(session)
        raise CodeNeededError("the account that opened this restore may not restore this machine any more")
    if session.resumed <= _RESUMPTIONS_TOLD:
        text = "A restore goes on over a new connection"
        machine_logs.add(
            database, machine.machine_id, level="info", module="restore", text=text, now=time.time()
        )
    return opened(session), former


def opened(session: RestoreSession) -> m.RestoreOpened:
    """What an agent is told of its session."""
    return m.RestoreOpened(RESTORE_S, WINDOW_BYTES, session.secret)


def _verified(
    message: m.RestoreOpen | m.ResyncOpen, machine: AuthorisedMachine, database: Database, purpose: Purpose
) -> Account:
    """The account whose code it was; a refusal stands in the machine's log too, where its people look."""
    now = time.time()
    try:
        return restores.verify_restore_code(
            database, message.account, message.code, machine.machine_id, now, purpose
        )
    except RefusedError as error:
        text = f"{purpose.capitalize()} refused for {message.account[:254]} ({error.code})"
        machine_logs.add(database, machine.machine_id, level="warning", module=str(purpose), text=text, now=now)
        raise


def _note(
    database: Database, machine: AuthorisedMachine, account: Account, kind: str, level: str, module: str, text: str
) -> None:
    """What a code opened by the machine's own agent, for the audit log and the machine's."""
    now = time.time()
    with database.write():
        acts.note(
            database,
            audit.actor_of(account, ""),
            kind,
            machines.find(database, EVERYTHING, machine.machine_id.hex()),
            now=now,
            after={"by": "pilulier-agent"},
        )
        machine_logs.add(database, machine.machine_id, level=level, module=module, text=text, now=now)


def resync(
    message: m.ResyncOpen, machine: AuthorisedMachine, repository: Repository, database: Database
) -> m.Resynced:
    """Let an installation that fell behind (a PC restored from an image) continue, after a code."""
    slow_down(machine.machine_id)
    account = _verified(message, machine, database, Purpose.RESYNC)
    machines.set_installation(database, machine.machine_id, message.installation)
    said = f"A new installation took over, approved by {account.email}"
    _note(database, machine, account, "machine.resync", "warning", "resync", said)
    return m.Resynced(repository.head)


def slow_down(machine_id: bytes) -> None:
    """ThrottledError where a machine tries codes, or begins deliveries, faster than any person: each is a row, an
    fsync, a walk through a catalog."""
    now = time.monotonic()
    tries = _attempts.setdefault(machine_id, collections.deque(maxlen=_ATTEMPTS_PER_WINDOW))
    if len(tries) == _ATTEMPTS_PER_WINDOW and now - tries[0] < _ATTEMPTS_WINDOW_S:
        raise ThrottledError("too much was tried from this machine: try again in some minutes")
    tries.append(now)


def extents(
    message: m.ExtentsQuery, connection: Connection, repository: Repository, sessions: RestoreSessions
) -> m.Extents:
    """Extent pages of the asked versions, as many as fit one message."""
    grant = sessions.held_by(connection).grant
    versions = [VersionId(version) for version in message.versions]
    if grant is not None:
        grant.check_versions(versions)
    pages = repository.extent_pages(versions, message.start, _EXTENTS_PER_MESSAGE)
    if grant is not None:
        grant.shown(pages)
    return m.Extents(pages)


def want(message: m.FetchSegments, connection: Connection, sessions: RestoreSessions) -> ParcelGrant | None:
    """Queue segments and take the agent's word for what arrived; ProtocolError beyond the bounds. The parcel that they
    are to come from, where it is one."""
    grant = sessions.held_by(connection).grant
    if not connection.confirmed_bytes <= message.received_bytes <= connection.delivered_bytes:
        raise ProtocolError(
            f"{message.received_bytes} bytes confirmed of {connection.delivered_bytes} delivered"
        )
    if len(connection.wanted) + len(message.segments) > _WANTED_LIMIT:
        raise ProtocolError(f"more than {_WANTED_LIMIT} segments asked for at once")
    for segment in message.segments:
        checked_id(segment, "a segment id")
    if grant is not None:
        grant.check_segments([SegmentId(segment) for segment in message.segments])
    sessions.confirmed(connection, message.received_bytes)
    connection.wanted.extend(message.segments)
    return grant if isinstance(grant, ParcelGrant) else None


def deliver(
    connection: Connection, repository: Repository, sessions: RestoreSessions, parcel: ParcelGrant | None = None
) -> Iterator[tuple[m.SegmentData | m.SegmentMissing, Buffer]]:
    """Segments in the order asked, as far as the windows reach."""
    while connection.wanted and sessions.room(connection):
        segment = connection.wanted.popleft()
        # The agent opens each seal, names what does not open, and restores the rest: summing it up here as well was a
        # fifth of a restore's CPU on this side (measured) and found nothing more. Samples are summed.
        answer = _segment(segment, repository, summed=False) if parcel is None else _chunk(segment, parcel)
        sessions.delivered(connection, len(answer[1]))
        yield answer


def _segment(
    segment: SegmentId, repository: Repository, *, summed: bool = True
) -> tuple[m.SegmentData | m.SegmentMissing, Buffer]:
    try:
        return m.SegmentData(segment), repository.read_segment(segment, summed=summed)
    except PilulierError as error:
        return m.SegmentMissing(segment, str(error)[:500]), b""


def _chunk(segment: SegmentId, parcel: ParcelGrant) -> tuple[m.SegmentData | m.SegmentMissing, Buffer]:
    try:
        return m.SegmentData(segment), parcel.read(segment)
    except (PilulierError, OSError) as error:
        return m.SegmentMissing(segment, str(error)[:500]), b""


def sample(
    message: m.SampleQuery, machine: AuthorisedMachine, repository: Repository
) -> list[tuple[m.Message, Buffer]]:
    """A few segments of our choice, within the machine's daily allowance."""
    today = int(time.time() // 86400)
    day, used = _samples.get(machine.machine_id, (today, 0))
    if day != today:
        day, used = today, 0
    chosen: list[SegmentId] = []
    if used < _SAMPLES_PER_DAY:  # counting reads the whole catalog: a question that gets nothing costs one as well
        live = repository.stats().segments
        count = min(_SAMPLE_LIMIT, _SAMPLES_PER_DAY - used, -(-int(live * message.percent) // 100))
        chosen = repository.sample(count) if count > 0 else []
        _samples[machine.machine_id] = (day, used + max(1, len(chosen)))
    return [(m.Sample(len(chosen)), b""), *(_segment(segment, repository) for segment in chosen)]
