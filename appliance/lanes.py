"""Lanes: what each machine has waiting for a worker, and which of it makes one group.

Numbered messages that wait together are made durable together: each group costs two fsyncs, a large one no more than
that. A group is bounded by what it takes in memory once decoded. Who holds the lock, and what becomes of a group, is
the exchange's.
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
GROUP_BYTES: Final = 24 << 20
"""Numbered messages made durable together at most: enough to make an fsync cheap, few enough to bound memory."""
GATHER_BYTES: Final = 8 << 20
GATHER_S: Final = 0.004
GATHER_STEPS: Final = 6
TASK_BYTES: Final = 512
"""Charged for each waiting message beside its own bytes, so that a flood of tiny ones ends too."""
LONG_BYTES: Final = 32 << 10
GROWTH: Final = 8
"""Times its bytes that a message of tiny entries takes when it is decoded (measured: 7)."""


@dataclass(slots=True)
class Task:
    """A message that waits. A long one waits as it came: decoded it would take many times as much memory."""

    connection: Connection
    kind: type[m.AgentMessage]
    message: m.AgentMessage | None
    header: bytes
    payload: Buffer
    size: int
    """What it takes of its connection's credit."""
    wire: int

    @classmethod
    def of(cls, connection: Connection, message: m.AgentMessage, header: bytes, payload: Buffer) -> Task:
        """A message that has just arrived."""
        wire = len(header) + len(payload)
        long = len(header) > LONG_BYTES
        kept, raw = (None, header) if long else (message, b"")
        return cls(connection, type(message), kept, raw, payload, wire + TASK_BYTES, wire)

    @property
    def numbered(self) -> bool:
        """Whether it may share a group."""
        return issubclass(self.kind, PUTS)

    @property
    def weight(self) -> int:
        """Bytes of memory while it is carried out."""
        return self.size + GROWTH * len(self.header)

    def decoded(self) -> m.AgentMessage:
        """The message."""
        return m.decode_agent(self.header) if self.message is None else self.message


@dataclass(slots=True)
class Lane:
    """One machine's waiting tasks; `busy` while a worker serves them."""

    tasks: collections.deque[Task] = field(default_factory=collections.deque)
    busy: bool = False

    def gather(self, lock: threading.Lock) -> None:
        """Give a small group a few milliseconds to grow."""
        for _ in range(GATHER_STEPS):
            with lock:
                waiting = list(itertools.islice(self.tasks, 64))
            numbered = bool(waiting) and all(task.numbered for task in waiting)
            if not numbered or sum(task.size for task in waiting) >= GATHER_BYTES:
                return
            time.sleep(GATHER_S)

    def take_group(self) -> list[Task]:
        """The next task, or as many numbered ones of one connection as make a good group. Called under the lock."""
        if not self.tasks:
            return []
        group = [self.tasks.popleft()]
        weight = group[0].weight
        while (
            group[0].numbered
            and self.tasks
            and self.tasks[0].numbered
            and self.tasks[0].connection is group[0].connection
            and weight < GROUP_BYTES
        ):
            weight += self.tasks[0].weight
            group.append(self.tasks.popleft())
        return group
