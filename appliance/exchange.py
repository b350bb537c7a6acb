"""The exchange with agents: one thread that owns the channel, workers that own the repositories.

The polling thread decodes headers, checks each message against the session table, the machine's present right to
be here and its byte credit, and hands work to a pool in which a machine has one worker at a time. Numbered messages
that wait together become one group (one fsync). A failed fsync or a dead ZAP handler ends the process: nothing more
is acknowledged.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from appliance import attendance, delivery, intake, restore_desk
from appliance.admission import Admission
from appliance.connections import (
    CONNECTIONS_PER_MACHINE,
    HEARTBEAT_S,
    IDLE_S,
    LOG_LINES,
    LOG_LINES_S,
    SLACK_BYTES,
    Allowance,
    Connection,
    Warnings,
)
from appliance.control.database import Database
from appliance.control.machines import AuthorisedMachine
from appliance.control.running import Board
from appliance.directory import Directory
from appliance.enrolling import Enroller
from appliance.lanes import PUTS, Lane, Task
from appliance.repositories import Repositories
from appliance.restoring import RestoreSessions
from appliance.store.errors import FatalDiskError
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import ApplianceChannel, Arrival, Peer
from transport.errors import DecodeError, PilulierError, ProtocolError
from transport.keys import Certificate, EscrowCertificate
from transport.names import Buffer, InstallationId, SessionId
from transport.session import State

log = logging.getLogger("pilulier.exchange")

WORKERS: Final = 4
POLL_S: Final = 0.1
"""How long a line may do what it likes, with nothing else going on, before its guard looks at it."""
_QUIET: Final = (m.Progress, m.LogLine, m.Pong, m.BackupEnd)
ENTRY_BYTES: Final = 60
"""An entry cannot be shorter (three ids and a tag): what claims to is made to grow in memory when decoded."""


class Exchange:
    """Serves agents until `stop`; `run` returns the exit code."""

    def __init__(
        self,
        channel: ApplianceChannel,
        directory: Directory,
        repositories: Repositories,
        enroller: Enroller,
        certificate: Certificate,
        open_database: Callable[[], Database],
        board: Board | None = None,
        spread_window_s: int = 0,
        escrow: EscrowCertificate | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._channel = channel
        self._directory = directory
        self._repositories = repositories
        self._enroller = enroller
        self._certificate = certificate
        self._open_database = open_database
        self._board = board
        self._spread_window_s = spread_window_s
        self._escrow = escrow
        self._beat = beat
        self._local = threading.local()
        self._connections: dict[bytes, Connection] = {}
        self._admission = Admission(self._connections, lambda peer: channel.send(peer, m.Ping()), self._gone)
        self._warnings = Warnings(log)
        self._log_lines = Allowance(LOG_LINES, LOG_LINES_S)
        self._restores = RestoreSessions()
        self._condemned: collections.deque[Peer] = collections.deque()
        """Connections that the next sweep ends, with what is queued for them."""
        enroller.recoveries.attach(self._restores, self._connections, self._condemned)
        self._reports = Allowance(attendance.REPORTS, attendance.REPORTS_S)
        self._lanes: dict[str, Lane] = collections.defaultdict(Lane)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="worker")
        self._stopping = threading.Event()
        self._fatal: BaseException | None = None

    def stop(self) -> None:
        """End `run` soon; safe from a signal handler."""
        self._stopping.set()

    def run(self) -> int:
        """Serve; 0 after `stop`, 1 after something that must not be survived."""
        swept = time.monotonic()
        try:
            while not self._stopping.is_set() and self._fatal is None:
                self._beat()
                self._directory.refresh()
                for arrival in self._channel.poll(POLL_S, self._gone):
                    self._arrived(arrival)
                self._take_decisions()
                self._repositories.give_way()
                if self._board is not None:
                    self._board.flush(time.time())
                if time.monotonic() - swept > 5.0:
                    swept = time.monotonic()
                    self._sweep()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._repositories.close()  # before who may wait for one of them: a takeover
            self._enroller.close()
            if self._board is not None:
                self._board.close()
            if self._fatal is None:
                self._channel.flush(lambda peer: None)
        if self._fatal is not None:
            log.critical("stopping: %s", self._fatal)
            return 1
        return 0

    def _database(self) -> Database:
        database: Database | None = getattr(self._local, "database", None)
        if database is None:
            database = self._local.database = self._open_database()
        return database

    # the polling thread

    def _gone(self, peer: Peer) -> None:
        self._admission.forget(peer)
        connection = self._connections.pop(peer.route, None)
        if connection is not None:
            self._backup_over(connection)
            connection.overdrawn = True  # what it still has queued is not carried out: nobody would hear the answer
            self._restores.gone(connection)

    def _show(self, connection: Connection, progress: m.Progress) -> None:
        connection.progress = progress
        if self._board is not None and connection.backup is not None:
            p = progress
            self._board.note(
                *(connection.peer.machine, p.phase, p.files_done, p.files_total, p.bytes_done, p.bytes_total),
                now=time.time(),
            )

    def _backup_over(self, connection: Connection) -> None:
        if self._board is not None and connection.backup is not None:
            self._board.drop(connection.peer.machine)

    def _sweep(self) -> None:
        """Forget connections that fell silent; close repositories that nobody uses."""
        now = time.monotonic()
        for connection in list(self._connections.values()):
            silent_s = now - connection.heard
            dead = silent_s > IDLE_S and connection.inflight_bytes == 0
            if dead or (silent_s > HEARTBEAT_S and not self._channel.send(connection.peer, m.Ping())):
                self._gone(connection.peer)
            elif self._board is not None and connection.backup is not None:
                self._board.alive(connection.peer.machine, time.time())
        # A machine that only attends needs no repository: thousands do, for days.
        busy = {c.peer.machine for c in self._connections.values() if not c.attends}
        busy.update(machine for machine, lane in self._lanes.items() if lane.busy)
        self._repositories.close_idle(frozenset(busy))
        self._restores.sweep()
        while self._condemned:
            peer = self._condemned.popleft()
            self._gone(peer)
            self._channel.shut(peer, "it lied about what it received, or its restore goes on over another line")

    def _arrived(self, arrival: Arrival) -> None:
        if arrival.enrolment:
            self._enroller.request(arrival)
            return
        peer = arrival.peer
        connection = self._connections.get(peer.route)
        if connection is None:
            full = self._admission.full(peer)
            connection = self._connections[peer.route] = Connection(peer)
            if full:
                self._refuse(connection, "busy", f"this machine has {CONNECTIONS_PER_MACHINE} connections open already")
                connection.overdrawn = True
        connection.heard = time.monotonic()
        if connection.overdrawn:
            return
        if self._admission.waits(peer):
            if not self._admission.follow(arrival):
                self._overdraw(connection)
            return
        if connection.session.state in (State.NEW, State.READY) and not connection.attends:
            # What decides is about to be asked: a pause or a revocation of a moment ago must already count. Thousands
            # that only attend would have all machines read again after each commit: they wait half a second.
            self._directory.refresh(at_once=True)
        if not self._directory.active(peer.machine):
            self._refuse(connection, "revoked", "this machine was revoked: ask whoever manages the contract")
            return
        message: m.AgentMessage | None = None
        try:
            message = m.decode_agent(arrival.header)
            if arrival.payload and not isinstance(message, m.PutSegment):
                raise DecodeError(f"{type(message).__name__} carries {len(arrival.payload)} bytes of payload")
            if isinstance(message, m.PutEntries) and len(message.batch.entries) * ENTRY_BYTES > len(arrival.header):
                raise DecodeError(f"{len(message.batch.entries)} entries in {len(arrival.header)} bytes")
            connection.session.allowed(message)
        except ProtocolError as error:
            if connection.put_failed and isinstance(message, (*PUTS, m.PutCommit)):
                return  # sent on the heels of a beginning that was refused: that answer is on its way
            self._warnings.warn(f"machine {peer.machine}", str(error))
            # A connection that fell silent was forgotten: its agent says hello again and goes on where it was.
            forgotten = connection.session.state is State.NEW and not isinstance(error, DecodeError)
            self._refuse(connection, "reconnect" if forgotten else error.code, str(error))
            connection.overdrawn = True
            return
        self._dispatch(connection, message, arrival)

    def _dispatch(self, connection: Connection, message: m.AgentMessage, arrival: Arrival) -> None:
        """Answer at once what needs no disk; queue the rest for the machine's worker."""
        if isinstance(message, m.Ping):
            self._channel.send(connection.peer, m.Pong())
            return
        if isinstance(message, m.Pong):
            return
        connection.attends = attendance.attends(connection, message)
        if isinstance(message, m.Attend):
            machine = self._directory.machine(connection.peer.machine)
            answer = attendance.attended(connection, machine, self._spread_window_s, time.time())
            if not self._channel.send(connection.peer, answer):
                self._gone(connection.peer)
            return
        if isinstance(message, m.Progress):
            self._show(connection, message)
            return
        if isinstance(message, m.Hello):
            if message.protocol != PROTOCOL_VERSION:
                self._refuse(
                    connection, "protocol", f"this appliance speaks protocol {PROTOCOL_VERSION}: update the agent"
                )
                return
            connection.hello = message
            connection.installation = InstallationId(message.installation)
        elif isinstance(message, m.BackupBegin):
            former = self._admission.former(connection, message.session)
            if former is not None:
                if not self._admission.wait(connection, former, arrival):
                    self._refuse_busy(connection)
                return
            connection.backup = SessionId(message.session)  # from now on, so that of two at the same moment one waits
            self._show(connection, m.Progress("starting", 0, 0, 0, 0))
        elif isinstance(message, m.BackupEnd):
            self._backup_over(connection)
            connection.backup = None
        elif isinstance(message, restore_desk.OPENINGS):
            connection.taken_before = self._channel.taken_bytes(connection.peer) or 0
        elif isinstance(message, m.FetchSegments) and not self._was_taken(connection, message.received_bytes):
            return
        task = Task.of(connection, message, arrival.header, arrival.payload)
        if connection.inflight_bytes + task.size > connection.credit_bytes + SLACK_BYTES:
            self._overdraw(connection)
            return
        with self._lock:
            connection.inflight_bytes += task.size
        # The table moves on when the message is accepted; a worker that refuses it moves it back.
        if not isinstance(message, restore_desk.OPENINGS):
            connection.session.succeeded(message)
        self._queue(task)

    def _was_taken(self, connection: Connection, received_bytes: int) -> bool:
        """Whether the peer's kernel has acknowledged what the peer says it has; a liar is told so, and soon shut.

        What says so carries its kernel's acknowledgement of all that came before, so an honest agent is always behind.
        """
        taken = self._channel.taken_bytes(connection.peer)
        if taken is None or received_bytes <= taken - connection.taken_before:
            return True
        reason = f"confirms {received_bytes} bytes of which {taken - connection.taken_before} were taken"
        self._warnings.warn(f"machine {connection.peer.machine}", reason)
        self._refuse(connection, "protocol", reason)
        connection.overdrawn = True
        self._restores.gone(connection)
        self._condemned.append(connection.peer)
        return False

    def _take_decisions(self) -> None:
        """Go on with beginnings that waited."""
        for decision in self._admission.decided():
            if decision.refused:
                self._refuse_busy(decision.connection)
                decision.connection.put_failed = True  # what was sent on its heels is dropped with it
            for arrival in decision.arrivals:
                self._arrived(arrival)

    def _refuse_busy(self, connection: Connection) -> None:
        self._refuse(connection, "busy", "a backup of this machine is running already, from another connection")

    def _overdraw(self, connection: Connection) -> None:
        self._warnings.warn(f"machine {connection.peer.machine}", "sent beyond its credit")
        self._refuse(connection, "credit", "more bytes were sent than the appliance gave credit for")
        connection.overdrawn = True

    def _refuse(self, connection: Connection, code: str, reason: str, seq: int = 0) -> None:
        if not self._channel.send(connection.peer, m.Refused(code, reason[:500], seq)):
            self._gone(connection.peer)

    def _queue(self, task: Task) -> None:
        machine = task.connection.peer.machine
        with self._lock:
            lane = self._lanes[machine]
            lane.tasks.append(task)
            if lane.busy:
                return
            lane.busy = True
        self._pool.submit(self._serve_lane, machine, lane)

    # workers

    def _serve_lane(self, machine: str, lane: Lane) -> None:
        while True:
            lane.gather(self._lock)
            with self._lock:
                tasks = lane.take_group()
                if not tasks or self._fatal is not None or self._stopping.is_set():
                    lane.busy = False
                    return
            try:
                self._carry_out(machine, tasks)
            except FatalDiskError as error:
                self._fatal = error
                self._channel.wake()
            except Exception as error:  # the edge of a worker: one machine's trouble must not end the others
                log.exception("machine %s: unexpected %s", machine, type(error).__name__)
                self._answer_failure(tasks, "failed", "the appliance met an unexpected error; its log has the details")
            finally:
                self._repositories.done(machine)
                self._give_back(tasks)

    def _give_back(self, tasks: list[Task]) -> None:
        """These bytes do not count any more, once."""
        with self._lock:
            for task in tasks:
                task.connection.inflight_bytes -= task.size
                task.size = 0

    def _carry_out(self, machine: str, tasks: list[Task]) -> None:
        connection = tasks[0].connection
        message = tasks[0].decoded()
        authorised = self._directory.machine(machine)
        if authorised is None or connection.overdrawn:
            return
        if isinstance(message, (*PUTS, m.PutCommit)) and connection.put_failed:
            return
        try:
            if isinstance(message, PUTS):
                connection.wire_bytes += sum(task.wire for task in tasks)
                staged: Any = [(task.decoded(), task.payload) for task in tasks]
                done = intake.put(staged, self._repositories.get(machine))
                # Before the word is out: an agent that hears it at once may send as much again before this thread runs.
                self._give_back(tasks)
                self._post(connection, done)
            else:
                self._single(connection, authorised, message)
        except FatalDiskError:
            raise
        except PilulierError as error:
            self._warnings.warn(f"machine {machine}", f"{type(message).__name__}: {error}")
            self._answer_failure(tasks, error.code, str(error))

    def _answer_failure(self, tasks: list[Task], code: str, reason: str) -> None:
        connection, message = tasks[0].connection, tasks[0].decoded()
        if isinstance(message, (*PUTS, m.PutCommit)):
            connection.put_failed = True
        if isinstance(message, m.BackupBegin):
            connection.put_failed = True  # numbered messages sent on the heels of it would land in the former session
            self._backup_over(connection)
            connection.backup = None
            connection.session.back_to_ready()
        if not isinstance(message, _QUIET):
            seq = message.seq if isinstance(message, (*PUTS, m.PutCommit)) else 0
            self._channel.post(connection.peer, m.Refused(code, reason[:500], seq))

    def _post(self, connection: Connection, message: m.Message, payload: Buffer = b"") -> None:
        self._channel.post(connection.peer, message, payload)

    def _single(self, connection: Connection, machine: AuthorisedMachine, message: m.AgentMessage) -> None:
        """Everything that is not grouped."""
        if isinstance(message, m.LogLine):
            if self._log_lines.take(connection.peer.machine):
                intake.log_line(message, machine, self._database())
            return
        if isinstance(message, attendance.WRITTEN):
            may = self._reports.take(connection.peer.machine)
            self._post(connection, attendance.written(message, connection, machine, self._database(), may=may))
            return
        repository = self._repositories.get(connection.peer.machine)
        if isinstance(message, restore_desk.WORDS):
            former = restore_desk.serve(
                message,
                connection,
                machine,
                repository,
                self._database(),
                self._restores,
                lambda answer, payload: self._post(connection, answer, payload),
            )
            if former is not None:
                former.overdrawn = True  # nobody is at its other end
                self._condemned.append(former.peer)
            return
        match message:
            case m.Hello():
                self._post(connection, attendance.welcome(machine, repository.head, self._certificate, self._escrow))
                intake.hello(message, machine, self._database())
            case m.BackupBegin():
                installation = connection.installation or machine.installation
                others = [c for c in list(self._connections.values()) if c.backup is not None and c is not connection]
                promised = sum(other.credit_bytes for other in others)
                self._post(connection, intake.begin(message, connection, machine, installation, repository, promised))
            case m.EscrowQuery():
                self._post(connection, attendance.escrow_offer(self._escrow))
            case m.HeldQuery():
                self._post(connection, intake.held(message, repository))
            case m.HasVersions():
                self._post(connection, intake.has_versions(message, repository))
            case m.CareQuery():
                self._post(connection, m.Care(repository.care()))
            case m.PutCommit():
                self._post(connection, intake.commit(message, connection, machine, repository, self._database()))
            case m.SnapshotsQuery():
                self._post(connection, delivery.snapshots(message, repository))
            case m.ChildrenQuery():
                self._post(connection, delivery.children(message, repository))
            case m.TreeQuery():
                self._post(connection, delivery.tree(message, repository))
            case m.SampleQuery():
                for answer, payload in delivery.sample(message, machine, repository):
                    self._post(connection, answer, payload)
            case m.ResyncOpen():
                resynced = delivery.resync(message, machine, repository, self._database())
                self._directory.reload(self._channel.wake)  # the next connection must meet the new installation
                connection.installation = InstallationId(message.installation)
                self._post(connection, resynced)
            case m.BackupEnd():
                connection.credit_bytes = 0  # others may have it; the table has moved on already
