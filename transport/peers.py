"""Who is at the other end of a connection, and what came over it, as the channel proved it; no socket here."""

from __future__ import annotations

from dataclasses import dataclass

from transport.names import Buffer


@dataclass(frozen=True, slots=True)
class Peer:
    """One live connection: where to answer, and which machine the channel proved it to be."""

    route: bytes
    machine: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a peer sent: header bytes not yet decoded, payload."""

    peer: Peer
    header: bytes
    payload: Buffer
    enrolment: bool
    address: str = ""
    """The network address of a stranger, as its socket has it; empty for agents, whose keys say who they are."""

    @property
    def size(self) -> int:
        """Bytes held by this arrival."""
        return len(self.header) + len(self.payload)
