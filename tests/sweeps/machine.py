"""An agent with a ledger, through crashes: what it may rely on, and what it only asked for.

`Machine` notes every request before it is made and every acknowledgement when it comes, so that after a crash it can
say what must be there (`expected`) and go on (`resume`, `go_on`) as a real agent would. Talks to the repository's
façade directly; knows nothing of disks.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

from appliance.store.repository import Repository
from tests.appliance.store_builder import INSTALLATION, KEY, REPOSITORY, VAULT, Client
from tests.support.invariants import Expected, Tree, expect
from transport import messages as m
from transport.commits import SignedCommit
from transport.keys import SigningKey
from transport.mending import MEND_LABEL, MendOrder, Repoint, decode_mend
from transport.names import SegmentId

Item = tuple[m.Message, bytes]


@dataclass(frozen=True)
class Attempt:
    """A commit that was sent and not answered yet."""

    seq: int
    signed: SignedCommit
    tree: Tree


class Machine(Client):
    """One machine's agent and its ledger, through crashes. Its `repository` is replaced after each of them."""

    def __init__(self, repository: Repository | None = None, seed: int = 1) -> None:
        super().__init__(repository, seed)  # type: ignore[arg-type]
        self.created = repository is not None
        """Whether the repository was acknowledged to be there."""
        self.sent: list[Item] = []
        """Of the open session, durable or not."""
        self.received = 0
        """The highest message number that was acknowledged in the open session."""
        self.open = False
        self.attempt: Attempt | None = None
        self.held: dict[SegmentId, bytes] = {}
        """Acknowledged sealed segments that no snapshot took."""
        self.retired: set[int] = set()
        self.leaving: set[int] = set()
        """Asked to be retired, not acknowledged."""
        self.sweeping = False
        self.damaged: set[SegmentId] = set()
        """What the disk damaged, mended or not."""
        self.unmended: set[SegmentId] = set()
        self.signers = [KEY.public]
        """Acknowledged, oldest first."""
        self.successor: SigningKey | None = None
        """The key of an installation that was asked for and not acknowledged."""
        self.left: set[SegmentId] = set()
        """Acknowledged in uploads that ended without a snapshot."""

    def clone(self) -> Machine:
        """The same machine at this moment, without a repository."""
        other = copy.copy(self)
        other.repository = None  # type: ignore[assignment]
        other.random = random.Random()
        other.random.setstate(self.random.getstate())
        other.added = copy.copy(self.added)
        other.added._hash = self.added._hash.copy()
        for name in (
            *("live", "contents", "segments", "committed", "sent"),
            *("held", "retired", "leaving", "damaged", "unmended", "left", "signers"),
        ):
            setattr(other, name, copy.copy(getattr(self, name)))
        return other

    def expected(self) -> Expected:
        """What the acknowledgements so far promise."""
        gone = self.retired | self.leaving
        return Expected(
            REPOSITORY,
            VAULT,
            self.keys,
            {number: tree for number, tree in self.committed.items() if number and number not in gone},
            {self.number + 1: self.attempt.tree} if self.attempt else {},
            frozenset(self.retired),
            frozenset(self.leaving),
            self.contents,
            self.held,
            self.session if self.open else None,
            self.received,
            self.sweeping,
            frozenset(self.damaged),
            frozenset(self.unmended),
            frozenset(self.left),
            tuple(self.signers),
            self.successor.public if self.successor else None,
        )

    def mend(self) -> None:
        """Send again what is damaged, in two fresh segments each, and sign the order to read it there."""
        items: list[Item] = []
        repoints: list[Repoint] = []
        for segment in sorted(self.unmended):
            plain = self.segments[segment]
            cut = len(plain) // 3
            for at, part in ((0, plain[:cut]), (cut, plain[cut:])):
                message, payload = self.segment(b"before" + part)
                items.append((message, payload))
                repoints.append(Repoint(segment, at, len(part), SegmentId(message.segment), len(b"before")))
        self.stage(*items)
        order = MendOrder(MEND_LABEL, VAULT, REPOSITORY, INSTALLATION, self.number, repoints)
        self.stage((m.PutMend(self.next(), self.key.sign_mend(order)), b""))

    def succeed(self) -> None:
        """This machine is recovered: another installation, with a key of its own, takes over and begins its upload."""
        if self.successor is None:
            self.successor = SigningKey(self.random.randbytes(32))
        self.repository.succeed(self.succession(self.successor), received_ms=self.clock_ms)
        self.key, self.successor = self.successor, None
        self.signers.append(self.key.public)
        self.successions += 1
        self.begin()

    # Every request notes what it asks for before, and what was answered after

    def begin(self, session: bytes | None = None) -> int:
        """A new session."""
        self.open, self.sent, self.received = False, [], 0
        self.left |= set(self.held)
        super().begin(session)
        self.open = True
        return self.seq

    def stage(self, *items: Item) -> int:
        """Send a group."""
        self.sent += items
        upto = super().stage(*items)
        self._staged(upto)
        return upto

    def _staged(self, upto: int) -> None:
        for message, payload in self.sent:
            if isinstance(message, m.PutSegment) and self.received < message.seq <= upto:
                self.held[SegmentId(message.segment)] = payload
            if isinstance(message, m.PutMend) and self.received < message.seq <= upto:
                self.unmended -= {repoint.segment for repoint in decode_mend(message.mend.record).repoints}
        self.received = upto

    def commit(self) -> int:
        """Sign and send a commit."""
        signed = self.sign()
        self.attempt = Attempt(self.next(), signed, dict(self.live))
        return self._commit()

    def _commit(self) -> int:
        assert self.attempt is not None
        attempt = self.attempt
        number = self.repository.commit(
            attempt.seq, attempt.signed, received_ms=1000 + self.number, bytes_received=77
        )
        expect(number == self.number + 1, f"snapshot {self.number + 1} was answered as number {number}")
        self.live = dict(attempt.tree)
        self.made(attempt.signed, number)
        self.attempt, self.received = None, attempt.seq
        self.held = {}
        return number

    def resume(self) -> None:
        """Go on with the open session where the repository stands, and finish it with a commit."""
        if not self.open and self.attempt is None and not self.sent:
            return
        upto = self.repository.begin(self.session, self.previous)
        expect(upto >= self.received, f"message {self.received} was acknowledged and {upto} is the last one known")
        self.seq = self.attempt.seq if self.attempt else self.sent[-1][0].seq if self.sent else upto
        rest = [item for item in self.sent if item[0].seq > upto]
        if rest:
            upto = Client.stage(self, *rest)
        self._staged(max(upto, self.received))
        if self.attempt is not None:
            self._commit()
        if self.live != self.committed[self.number]:
            self.commit()

    def go_on(self) -> None:
        """After whatever happened: the open session ends well, and a new one does too."""
        if self.successor is not None:
            self.succeed()
        self.resume()
        self.begin()
        self.put_file((b"after the storm",), b"goes on" * 50)
        self.commit()
