"""Admission: how many connections a machine may have, and which of them may begin a backup.

A pulled cable leaves a connection that looks alive for a minute and more. A new beginning of the same installation does
not wait for that: the former connection is asked for a sign of life, and gives way where it gives none in a few
seconds. An agent runs one backup at a time, so a former one that is silent is dead. Polling thread only; sends through
what it is given and knows no socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.connections import CONNECTIONS_PER_MACHINE, Connection
from transport.channel import Arrival, Peer

PROBE_S: Final = 4.0
"""A connection in a backup that says nothing for so long, asked whether it lives, gives way to a new beginning."""
WAITING_BYTES: Final = 4 << 20
_MESSAGE_BYTES: Final = 512


@dataclass(slots=True)
class _Waiting:
    """A beginning that waits for a sign of life of another connection, and what was sent on its heels."""

    asked: float
    former: Connection
    arrivals: list[Arrival]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to carry out now on `connection`; `refused` where the beginning itself, left out here, is not to be."""

    connection: Connection
    arrivals: list[Arrival]
    refused: bool


class Admission:
    """Looks at the live `connections`; `ping` tells whether a peer could be written to, `gone` forgets one."""

    def __init__(
        self, connections: dict[bytes, Connection], ping: Callable[[Peer], bool], gone: Callable[[Peer], None]
    ) -> None:
        self._connections = connections
        self._ping = ping
        self._gone = gone
        self._waiting: dict[bytes, _Waiting] = {}

    def full(self, peer: Peer) -> bool:
        """Whether the machine has all the connections it may have; those whose peers are gone do not count."""
        others = [c for c in self._connections.values() if c.peer.machine == peer.machine and not c.overdrawn]
        if len(others) < CONNECTIONS_PER_MACHINE:
            return False
        for other in others:
            if not self._ping(other.peer):
                self._gone(other.peer)
        return sum(not other.overdrawn for other in others) >= CONNECTIONS_PER_MACHINE

    def former(self, connection: Connection, session: bytes) -> Connection | None:
        """Another live connection of this machine in a backup, just asked whether it lives; resumed ones give way."""
        for other in list(self._connections.values()):
            if other is connection or other.peer.machine != connection.peer.machine or other.backup is None:
                continue
            if other.overdrawn or other.put_failed:
                continue  # nothing of it is taken any more
            if other.backup == session or not self._ping(other.peer):
                self._give_way(other)
            else:
                return other
        return None

    def _give_way(self, former: Connection) -> None:
        former.overdrawn = True
        former.backup = None
        self._gone(former.peer)

    def wait(self, connection: Connection, former: Connection, arrival: Arrival) -> bool:
        """Let a beginning wait for the former connection's word; False where it may not: another installation's."""
        if former.installation != connection.installation:
            return False
        if any(waiting.former is former for waiting in self._waiting.values()):
            return False
        self._waiting[connection.peer.route] = _Waiting(time.monotonic(), former, [arrival])
        return True

    def waits(self, peer: Peer) -> bool:
        """Whether a beginning of this connection waits: what follows it waits with it."""
        return peer.route in self._waiting

    def follow(self, arrival: Arrival) -> bool:
        """Keep what was sent on the heels of a beginning; False beyond WAITING_BYTES."""
        arrivals = self._waiting[arrival.peer.route].arrivals
        if sum(waiting.size + _MESSAGE_BYTES for waiting in arrivals) + arrival.size >= WAITING_BYTES:
            return False
        arrivals.append(arrival)
        return True

    def forget(self, peer: Peer) -> None:
        """The connection is gone."""
        self._waiting.pop(peer.route, None)

    def decided(self) -> list[Decision]:
        """Beginnings that wait no longer: the former connection spoke, or is gone, or had its time."""
        now = time.monotonic()
        decisions = []
        for route, waiting in list(self._waiting.items()):
            connection, former = self._connections.get(route), waiting.former
            ended = former.backup is None or former.overdrawn or former.put_failed
            spoke = not ended and former.heard > waiting.asked
            late = now - waiting.asked > PROBE_S and former.inflight_bytes == 0
            if not (ended or spoke or late) and connection is not None:
                continue
            del self._waiting[route]
            if connection is None:
                continue
            if not ended and not spoke:
                self._give_way(former)
            decisions.append(Decision(connection, waiting.arrivals[1:] if spoke else waiting.arrivals, spoke))
        return decisions
