"""schedule.json: the scheduler's books on disk, so that a run that is owed outlives the service, and `status` knows.

A file that cannot be read is begun anew: what is lost is at most one missed run.
"""

from __future__ import annotations

import contextlib
import os
from datetime import tzinfo

import msgspec

from agent import scheduler
from agent.knocking import service_runs
from agent.scheduler import Books, Clock
from agent.settings import AgentHome, Settings


def load_books(home: AgentHome) -> Books:
    """The books; new ones where there are none that can be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(home.books.read_bytes(), type=Books)
    return Books()


def save_books(home: AgentHome, books: Books) -> None:
    """Replace schedule.json, whole or not at all; OSError where the disk does not take it."""
    new = home.books.with_name(home.books.name + ".new")
    with open(new, "wb") as file:
        file.write(msgspec.json.encode(books))
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, home.books)


def next_run(home: AgentHome, settings: Settings, now: float, zone: tzinfo) -> float | None:
    """When a backup begins by itself; None where none does: no service runs, no times, nothing selected."""
    if not settings.has_source or not service_runs(home):
        return None
    return scheduler.next_run(load_books(home), settings.schedule, Clock(now, zone))
