"""The part of the service that does work by itself: `pilulier jobs work`, and the wake-up for a job that is asked for.

Huey is the wake-up alone: its queue, in jobs.db, may lose or repeat a call without harm, since what is due stands in
the table of jobs and a claim there decides who runs what. Each minute a look at the table calls what is due. The queue
holds JSON, not pickles: nobody who writes that file runs code here. The only room for huey.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from huey import SqliteHuey, crontab
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

from appliance import escrow_holder, job_kinds, job_running, parts, readiness
from appliance.control import job_table
from appliance.control.database import SAFE_WAL, SQLITE_VERSION, Database
from appliance.control.job_table import Job
from appliance.errors import ConflictError, ControlDatabaseError
from appliance.job_running import JobContext, Stopping
from appliance.settings import Home
from transport.errors import PilulierError

WORKERS: Final = 4
"""Two jobs may take hours, prune and scrub; mails and alerts must not wait for them."""
STOP_S: Final = 4.0
"""How long jobs may take to put down their work when the service stops; what takes longer is cut off."""
SKIP_S: Final = 1800.0
"""A job that is due and not needed is written down as skipped so often."""
_LOOK_S: Final = 2.0
"""How long an idle worker waits before it looks at the queue again, at most: each look reads jobs.db."""

log = logging.getLogger("pilulier.jobs")
logging.getLogger("huey").setLevel(logging.WARNING)


class _JsonMessages(Serializer):  # type: ignore[misc]
    """Calls as JSON: ours have names and texts for arguments, nothing else."""

    def _serialize(self, data: Any) -> bytes:
        if not isinstance(data, Message):
            raise TypeError(f"only calls are queued, not {type(data).__name__}")
        return json.dumps(data._asdict()).encode()

    def _deserialize(self, data: bytes) -> Message:
        fields = json.loads(bytes(data))
        return Message(**{name: tuple(value) if name == "args" else value for name, value in fields.items()})


def _queue(home: Home) -> SqliteHuey:
    # Private before SQLite opens it: the file says when which job was asked for.
    os.close(os.open(home.jobs_db, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return SqliteHuey(
        "pilulier",
        filename=str(home.jobs_db),
        # As for the control database: a write-ahead log with several writers is unsafe before SQLite 3.51.3.
        journal_mode="wal" if SQLITE_VERSION >= SAFE_WAL else "truncate",
        timeout=30,
        results=False,
        serializer=_JsonMessages(),
    )


class JobWorker:
    """Wakes and runs what is due until it is told to stop."""

    def __init__(self, home: Home, *, now: Callable[[], float] = time.time) -> None:
        self._home = home
        self._now = now
        self._stopping = Stopping()
        # A pipe, since a signal handler may take no lock.
        self._asked, self._asking = os.pipe2(os.O_CLOEXEC)
        self._pulse = readiness.Pulse()
        self._huey = _queue(home)
        # What was queued before this process began is in the table too, where it matters.
        self._huey.flush()

        @self._huey.task(name="run")  # type: ignore[untyped-decorator]
        def run(name: str) -> None:
            self._run(name)

        @self._huey.periodic_task(crontab(minute="*"), name="look")  # type: ignore[untyped-decorator]
        def look() -> None:
            self._look()

        self._call_run = run
        self._consumer = Consumer(
            self._huey, workers=WORKERS, scheduler_interval=1, max_delay=_LOOK_S, backoff=1.3
        )
        # Signals are the business of whoever runs this.
        self._consumer._set_signal_handlers = lambda: None

    def start(self) -> None:
        """Begin to work, in threads."""
        with Database.open(self._home.control_db) as db:
            now = self._now()
            for name in job_table.reconcile(db, now):
                log.warning("job %s was interrupted; it is done again", name)
            for kind in job_kinds.KINDS.values():
                job_table.know(db, kind.name, kind.schedule.first(now))
        # Its scheduler calls `look` at once, and each minute from then on.
        self._consumer.start()

    def ask_to_stop(self) -> None:
        """End `wait`; for signal handlers and other threads."""
        os.write(self._asking, b"x")

    def wait(self) -> None:
        """Until somebody asks to stop."""
        os.read(self._asked, 1)

    def stop(self) -> bool:
        """Have all jobs put down their work; False where one is left in the middle, to be cut off with this process."""
        self._stopping.set()
        self._consumer.stop_flag.set()
        self._consumer.shutdown_timeout = STOP_S
        return bool(self._consumer._join_workers())

    def _look(self) -> None:
        """Call everything that is due."""
        # From a worker, so that workers which all hang are noticed too.
        self._pulse.beat()
        try:
            with Database.open(self._home.control_db) as db:
                now = self._now()
                job_table.reconcile(db, now)
                for name in job_table.due(db, now):
                    kind = job_kinds.KINDS.get(name)
                    if kind is None:
                        continue  # of another version of this program
                    job = job_table.find(db, name)
                    if job.asked_at is None and kind.needed is not None:
                        context = JobContext(self._home, db, self._now, self._stopping)
                        if not kind.needed(context):
                            # Seldom, since it is an fsync: often enough that nobody takes the job for forgotten.
                            if now - job.next_at > SKIP_S:
                                job_table.skip(db, name, kind.schedule.after(now))
                            continue
                    self._call_run(name)
        except PilulierError as error:
            log.error("the table of jobs cannot be looked at: %s", error)

    def _run(self, name: str) -> None:
        if self._stopping.is_set():
            return
        try:
            run = job_running.run_job(
                self._home, job_kinds.find(name), only_if_due=True, now=self._now, stopping=self._stopping
            )
        except ConflictError:
            return  # called twice, by the look and by who asked for it, or somebody at a command line was quicker
        except PilulierError as error:
            log.error("job %s could not be begun: %s", name, error)
            return
        level = logging.INFO if run.outcome in (job_table.Outcome.DONE, job_table.Outcome.STOPPED) else logging.WARNING
        log.log(level, "job %s: %s, %s", name, run.outcome, run.text)


def work(home: Home, *, on_ready: Callable[[], None]) -> None:
    """Run jobs in the foreground until SIGTERM or SIGINT, or until the service that started this is gone."""
    worker = JobWorker(home)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.ask_to_stop())
    parts.end_with_the_service(worker.ask_to_stop)
    # Here, since this part of the service faces no network.
    holder = escrow_holder.Holder(home)
    try:
        holder.start()
    except OSError as error:
        log.error("escrow keys cannot be unlocked while this runs: %s: %s", home.escrow_socket, error.strerror)
    worker.start()
    on_ready()
    readiness.notify("READY=1")
    worker.wait()
    readiness.notify("STOPPING=1")
    holder.close()
    if not worker.stop():
        log.warning("a job is cut off in the middle; it is done again when the service runs again")


def ask(home: Home, db: Database, name: str, *, by: str, now: float) -> Job:
    """Ask for a run as soon as may be: written down, and the part that works is woken. NotFoundError for no job.

    Without a service running it waits in the table until there is one.
    """
    job_kinds.find(name)
    job_table.know(db, name, job_kinds.find(name).schedule.first(now))
    job = job_table.ask(db, name, by=by, now=now)
    wake(home, name)
    return job


def wake(home: Home, name: str) -> None:
    """Call a job by its name; it runs if the table says that it is due or asked for. Losing this costs a minute."""
    try:
        huey = _queue(home)

        @huey.task(name="run")  # type: ignore[untyped-decorator]
        def run(name: str) -> None:
            raise ControlDatabaseError("this process only calls")

        run(name)
        huey.storage.close()
    except Exception as error:  # the edge of the queue: whatever it says, the table has the wish and is looked at
        log.warning("job %s could not be called at once: %s", name, error)
