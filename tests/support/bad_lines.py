"""Lines that fail at one chosen byte, and trials that count what a failure cost.

Owns `BadLine`, a TcpProxy that cuts, flips, holds or stalls at byte n of a direction, and `Trials`: one agent that
changes its files and backs up over such a line, again and again, with what must be true afterwards. The programs are
real processes; nothing here looks into what flows. Raises `Loss` where something was lost, stored twice or sent again
without need.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.faults import TcpProxy, folder_bytes
from tests.support.invariants import Loss, PackReader
from tests.support.processes import Account, House, Outcome, landed
from tests.support.trees import Node, describe, differences
from transport.enrolment import decode_code

_CHUNK_BYTES: Final = 32 << 10
_ABRUPTLY: Final = struct.pack("ii", 1, 0)
SEGMENT_BYTES: Final = (1 << 20) + 4096
"""One sealed segment: what a resumption may send again at most of what was durable."""
_CONNECTION_BYTES: Final = 16 << 10
"""Handshake, greeting, questions and framing of one more connection."""
ACCOUNTS: Final = 20
IMPATIENT: Final = (sys.executable, "-m", "tests.support.impatient")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at byte `at` of a direction, counted from when the line was armed, over all its connections.

    `cut`: the connection ends (`abruptly` with a reset) · `flip`: the byte arrives with one bit changed · `stall`: the
    connection stays open and carries nothing for `stall_s` (None: never again).
    """

    kind: str
    at: int
    upwards: bool
    abruptly: bool = False
    stall_s: float | None = None

    def __str__(self) -> str:
        return f"{self.kind} at byte {self.at} {'to' if self.upwards else 'from'} the appliance"


class BadLine(TcpProxy):
    """A TcpProxy with at most one armed fault; `then` is called in the moment it happens, on the line's own thread."""

    def __init__(self, target: str, bytes_s: int = 0, delay_s: float = 0.0) -> None:
        super().__init__(target, bytes_s)
        self.delay_s = delay_s
        self.fault: Fault | None = None
        self.happened = threading.Event()
        self.sent_at_fault = 0
        self._then: Callable[[], None] = lambda: None
        self._passed = {True: 0, False: 0}
        self._stalled: set[socket.socket] = set()

    def arm(self, fault: Fault | None, then: Callable[[], None] = lambda: None) -> None:
        """Count from here; what happened before is forgotten."""
        with self._lock:
            self.fault, self._then = fault, then
            self._passed = {True: 0, False: 0}
            self.happened.clear()

    def passed(self, upwards: bool) -> int:
        """Bytes that went through in a direction since the line was armed."""
        return self._passed[upwards]

    def _pass(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while data := self._read(source):
                if self.delay_s:
                    time.sleep(self.delay_s)
                data = self._meet(data, source, sink, upwards)
                self._wait_out(source, sink)
                sink.sendall(data)
                with self._lock:
                    if upwards:
                        self.sent_bytes += len(data)
                    else:
                        self.received_bytes += len(data)
                if self.bytes_s:
                    time.sleep(len(data) / self.bytes_s)
        except (OSError, ValueError):  # a closed socket has no number to wait for
            pass
        self._finish(source, sink)

    def _read(self, source: socket.socket) -> bytes:
        """Wait in turns: a reset leaves at the close, and a thread within recv would hold it back."""
        while not select.select([source], [], [], 0.02)[0]:
            pass
        return source.recv(_CHUNK_BYTES)

    def _meet(self, data: bytes, source: socket.socket, sink: socket.socket, upwards: bool) -> bytes:
        """Count these bytes; where the fault is among them, let it happen. OSError ends the connection."""
        with self._lock:
            start = self._passed[upwards]
            self._passed[upwards] += len(data)
            fault = self.fault
            if fault is None or fault.upwards != upwards or not start <= fault.at < start + len(data):
                return data
            self.fault = None
            self._passed[upwards] = fault.at
        before = data[: fault.at - start]
        if fault.kind == "flip":
            data = before + bytes([data[len(before)] ^ 0x20]) + data[len(before) + 1 :]
        else:
            sink.sendall(before)
            with self._lock:
                if upwards:
                    self.sent_bytes += len(before)
                else:
                    self.received_bytes += len(before)
            data = data[len(before) :]
        self.sent_at_fault = self.sent_bytes
        self._then()
        if fault.kind == "stall":
            with self._lock:
                self._stalled.update((source, sink))
            self.happened.set()
            deadline = None if fault.stall_s is None else time.monotonic() + fault.stall_s
            while not self._ended and (deadline is None or time.monotonic() < deadline):
                time.sleep(0.02)
            with self._lock:
                self._stalled -= {source, sink}
        elif fault.kind == "cut":
            if fault.abruptly:
                for sock in (source, sink):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
                    sock.close()
            self.happened.set()
            raise OSError("cut")
        self.happened.set()
        return data

    def _wait_out(self, source: socket.socket, sink: socket.socket) -> None:
        """The other direction of a stalled connection carries nothing either."""
        while not self._ended and (source in self._stalled or sink in self._stalled):
            time.sleep(0.02)


@dataclass(slots=True)
class Counts:
    """What a sweep saw."""

    points: int = 0
    met: int = 0
    resumed: int = 0
    told: int = 0
    """Runs that ended with a sentence (the line broke before the appliance had greeted) and succeeded when repeated."""
    killed: int = 0
    sent_again_bytes: int = 0
    """Most that travelled after a fault beyond what was not durable by then."""
    stored_again_bytes: int = 0
    """Most that a disturbed run stored beyond an undisturbed one."""
    restored: int = 0


class Trials:
    """One machine over a bad line. Each trial changes the same amount of files, so that sessions are alike."""

    def __init__(self, house: House, root: Path, *, accounts: int = ACCOUNTS) -> None:
        self.house = house
        self.root = root
        self.source = root / "source"
        self.counts = Counts()
        self.snapshots: dict[int, dict[bytes, Node]] = {}
        self._trial = 0
        self._make()
        self.agent = house.agent(self.source)
        self.packs = house.repository(self.agent) / "packs"
        self._accounts = [house.account() for _ in range(accounts)]
        self._restores = 0
        self.line = BadLine(house.appliance.address)
        self.line.__enter__()
        self.agent.by_way_of(self.line.address)
        self._backed_up(self.agent.command("backup"))
        self._measure()

    def close(self) -> None:
        """End the line."""
        self.line.__exit__(None, None, None)

    def _make(self) -> None:
        rng = random.Random("bad lines")
        self.source.mkdir()
        (self.source / "base.db").write_bytes(rng.randbytes(3 << 20))
        for number in range(30):
            (self.source / f"note-{number:02d}").write_bytes(rng.randbytes(3000))

    def change(self) -> None:
        """A delta, a new scan, changed, new and deleted notes, a renamed one: the same sizes each time."""
        self._trial += 1
        rng = random.Random(f"bad lines, {self._trial}")
        with open(self.source / "base.db", "r+b") as file:
            for page in range(8):  # always the same places: scattered ones would lengthen the extent list each time
                file.seek(page * 90 * 4096)
                file.write(rng.randbytes(200))
        (self.source / "scan").write_bytes(rng.randbytes(1_600_000))
        for number in range(8):
            (self.source / f"note-{number:02d}").write_bytes(rng.randbytes(3000))
        for old in self.source.glob("new-*"):
            old.unlink()
        (self.source / f"new-{self._trial}").write_bytes(rng.randbytes(500))
        moved = sorted(self.source.glob("moved-*"))[:1] or [self.source / "note-29"]
        moved[0].rename(self.source / f"moved-{self._trial:04d}")

    def _measure(self) -> None:
        """Undisturbed sessions: bytes each way, and what is stored. The larger of two counts."""
        self.sent = self.received = self.grown = 0
        for _ in range(2):
            self.change()
            before = folder_bytes(self.packs)
            self.line.arm(None)
            self._backed_up(self.agent.command("backup"))
            self.sent = max(self.sent, self.line.passed(True))
            self.received = max(self.received, self.line.passed(False))
            self.grown = max(self.grown, folder_bytes(self.packs) - before)

    def _backed_up(self, outcome: Outcome) -> None:
        number = outcome.document["snapshot"]
        if number != len(self.snapshots) + 1:
            raise Loss(f"snapshot {number} after {len(self.snapshots)}: {outcome.told()}")
        self.snapshots[number] = describe(self.source)

    def run(self, fault: Fault, *, kill: bool = False, restore: bool = True) -> None:
        """One backup with this fault in it, `kill`: and the agent's death in the same moment; Loss where it costs."""
        self.change()
        before = folder_bytes(self.packs)
        durable = passed = 0

        def at_fault() -> None:
            nonlocal durable, passed
            passed = self.line.passed(True)
            durable = folder_bytes(self.packs) - before
            if kill:
                running.signal(9)  # type: ignore[arg-type]

        self.line.arm(fault, at_fault)
        # A stalled line is known by silence alone, and so is a flipped bit in a length.
        self.agent.under = () if fault.kind == "cut" or fault.stall_s is not None else IMPATIENT
        running = self.agent.start("backup")
        outcome = running.wait()
        met = self.line.happened.is_set()
        self.line.arm(None)
        self.agent.under = ()
        where = f"{fault}{', agent killed' if kill else ''}"
        if outcome.code != 0:
            self._check_told(outcome, where, killed=kill and met)
            outcome = self.agent.command("backup")
            if kill and outcome.document["snapshot"] == len(self.snapshots) + 2:
                self.snapshots[len(self.snapshots) + 1] = describe(self.source)  # it had done all when it died
        self._backed_up(outcome)
        again = self.line.sent_bytes - self.line.sent_at_fault - (self.sent - durable) if met else 0
        grown = folder_bytes(self.packs) - before - self.grown
        # Durable is not acknowledged: what a dead agent was not told of in time, it sends again.
        if again > SEGMENT_BYTES + _CONNECTION_BYTES + (durable if kill else 0):
            raise Loss(f"{where}: {again} bytes travelled again, {durable} were durable")
        # What a killed agent had sent may be durable though it never heard of it: that, at most one group, comes again.
        if grown > (passed if kill else 0) + _CONNECTION_BYTES:
            raise Loss(f"{where}: {grown} bytes more are stored than undisturbed")
        self.counts.points += 1
        self.counts.met += met
        self.counts.killed += kill and met
        self.counts.resumed += outcome.document["reconnections"] > 0
        self.counts.sent_again_bytes = max(self.counts.sent_again_bytes, again)
        self.counts.stored_again_bytes = max(self.counts.stored_again_bytes, grown)
        if restore:
            self.restore(len(self.snapshots))

    def go_on(self) -> None:
        """After a loss: take what stands for right and the present state for the next snapshot."""
        self.line.arm(None)
        self.agent.command("backup", expect=None)
        rows = self.agent.command("snapshots").document
        newest = max((row["snapshot"] for row in rows), default=0)
        for number in range(len(self.snapshots) + 1, newest + 1):
            self.snapshots[number] = describe(self.source)

    def _check_told(self, outcome: Outcome, where: str, *, killed: bool) -> None:
        if killed and outcome.code == -9:
            return
        if outcome.code not in (1, 5) or len(outcome.stderr.strip().splitlines()) != 1:
            raise Loss(f"{where}: {outcome.told()}")
        self.counts.told += 1

    def account(self) -> Account:
        """One whose code of this moment was not used yet."""
        self._restores += 1
        return self._accounts[self._restores % len(self._accounts)]

    def restore(self, number: int) -> None:
        """A snapshot is what was backed up, to the byte."""
        target = self.root / f"target-{self._restores}"
        self.agent.restore(target, self.account(), snapshot=number)
        different = differences(self.snapshots[number], describe(landed(target, self.source)))
        if different:
            raise Loss(f"snapshot {number}: {different[:3]}")
        self.counts.restored += 1

    def finish(self) -> None:
        """Every snapshot is listed once, every record whole, no segment stored twice."""
        rows = self.agent.command("snapshots").document
        if sorted(row["snapshot"] for row in rows) != list(range(1, len(self.snapshots) + 1)):
            raise Loss(f"{len(self.snapshots)} backups, and these snapshots: {[row['snapshot'] for row in rows]}")
        checked = self.house.appliance.command("repo", "check", self.agent.machine, "--read-data", expect=(0, 1))
        if not checked.document["ok"]:
            raise Loss(f"repo check: {checked.document['errors'][:3]}")
        PackReader(self.house.repository(self.agent))

    # enrolment

    def enrol(self, fault: Fault | None) -> tuple[int, int]:
        """A new machine enrols over a line with this fault, repeated where it failed; bytes each way undisturbed."""
        contract, text = self.house.contract()
        code = decode_code(text)
        with BadLine(code.enrolment[0]) as line:
            line.arm(fault)
            bad = type(code)(code.transport, [line.address], code.identity, code.curve_key, code.token).encode()
            number = len(list(self.root.glob("enrolled-*")))
            agent = type(self.agent)(self.root / f"enrolled-{number}")
            outcome = agent.command("enrol", bad, "--name", "poste", expect=(0, 1, 4, 5))
            if outcome.code != 0:
                if len(outcome.stderr.strip().splitlines()) != 1 or not line.happened.is_set():
                    raise Loss(f"enrolment, {fault}: {outcome.told()}")
                self.counts.told += 1
            self.counts.points += 1
            self.counts.met += line.happened.is_set()
            passed = line.passed(True), line.passed(False)
            line.arm(None)
            if outcome.code != 0:
                agent.enrol(bad, "poste")
        machines = self.house.appliance.command("machine", "list", "--contract", contract).document
        if len(machines) != 1:
            raise Loss(f"enrolment, {fault}: {len(machines)} machines")
        return passed


def sweep_of(points: int, sent: int, received: int) -> list[tuple[Fault, bool]]:
    """Faults over a whole session, and whether the agent dies with each: half of them in either direction.

    Upwards half fall into the small messages at both ends, the others evenly into the data. Every fifth cut is a
    reset, every sixth fault a flipped bit, every fourth takes the agent along.
    """
    down = points // 2
    up = points - down
    ends = up // 2
    places = [(at * received // down, False) for at in range(down)]
    head, tail = ends // 2, ends - ends // 2
    places += [(at * 2400 // max(1, head), True) for at in range(head)]
    places += [(sent - 300 - at * 6000 // max(1, tail), True) for at in range(tail)]
    middle = up - ends
    places += [(2400 + (at + 1) * (sent - 8400) // (middle + 1), True) for at in range(middle)]
    return [
        (
            Fault("flip" if number % 6 == 5 else "cut", max(0, at), upwards, abruptly=number % 5 == 4),
            number % 4 == 3,
        )
        for number, (at, upwards) in enumerate(places)
    ]
