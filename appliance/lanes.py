"""Lanes: what one machine's worker has before it, and how numbered messages become groups.

A group is made durable by one pair of fsyncs, so a small one is given a few milliseconds to grow. Knows messages by
kind only; who holds the lock, and what becomes of a group, is the exchange's.
"""

from __future__ import annotations

import collections
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from appliance.connections import Connection
from transport import messages as m
from transport.names import Buffer

PUTS: Final = (m.PutSegment, m.PutVersions, m.PutEntries, m.PutDeaths, m.PutMend)
"""Numbered messages."""
GROUP_BYTES: Final = 24 << 20
"""Numbered messages made durable together at most: enough to make an fsync cheap, few enough to bound memory."""
GATHER_BYTES: Final = 8 << 20
GATHER_S: Final = 0.004
GATHER_STEPS: Final = 6


@dataclass(slots=True)
class Task:
    """One message that waits. `size` is what it holds of the byte credit, `wire` what it took on the line."""

    connection: Connection
    message: m.AgentMessage
    payload: Buffer
    size: int
    wire: int


@dataclass(slots=True)
class Lane:
    """One machine's waiting tasks; `busy` while a worker serves them."""

    tasks: collections.deque[Task] = field(default_factory=collections.deque)
    busy: bool = False

    def gather(self, lock: threading.Lock) -> None:
        """Give a small group a few milliseconds to grow: each group costs two fsyncs, a large one no more than that."""
        for _ in range(GATHER_STEPS):
            with lock:
                waiting = list(itertools.islice(self.tasks, 64))
            if (
                not waiting
                or not all(isinstance(task.message, PUTS) for task in waiting)
                or sum(task.size for task in waiting) >= GATHER_BYTES
            ):
                return
            time.sleep(GATHER_S)

    def take_group(self) -> list[Task]:
        """The next task, or as many numbered ones of one connection as make a good group. Called under the lock."""
        if not self.tasks:
            return []
        group = [self.tasks.popleft()]
        size = group[0].size
        while (
            isinstance(group[0].message, PUTS)
            and self.tasks
            and isinstance(self.tasks[0].message, PUTS)
            and self.tasks[0].connection is group[0].connection
            and size < GROUP_BYTES
        ):
            size += self.tasks[0].size
            group.append(self.tasks.popleft())
        return group
