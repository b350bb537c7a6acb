"""Attacks on what a running appliance has least of: memory, connections, its log. Against a real `pilulier serve`.

Owns `Attacker`, an enrolled machine that speaks by hand (hand_agent) and through bare ZeroMQ sockets with valid keys,
and `ATTACKS`, each a function that does its worst for some seconds. `Witness` is the honest neighbour: whatever goes
on, its backup and its restore must come out right. The bound is on the peak of the service process (VmHWM).
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import zmq
from zmq.utils import z85

from appliance.connections import CONNECTIONS_PER_MACHINE, WINDOW_BYTES
from tests.support.hand_agent import Connection, HandAgent, Served
from tests.support.processes import Account, House, landed
from tests.support.trees import assert_same
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.enrolment import decode_code
from transport.errors import PilulierError, UnreachableError
from transport.line_guard import LINES_PER_OWNER
from transport.names import NO_VERSION, ROOT, PathId, SegmentId, random_id
from transport.tree import EntryBatch, EntryKind, EntryRecord

LIMIT_BYTES: Final = 512 << 20
COMMIT_S: Final = 900.0
"""Longest wait for the refusal of a commit of a million entries."""
_BATCH: Final = 4000
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Outside:
    """What a hand-made agent must know of an appliance that runs elsewhere."""

    address: str
    enrolment: str
    server_key: bytes


class Attacker:
    """A machine with valid keys and bad intentions. A context manager."""

    def __init__(self, house: House, scale: int = 1) -> None:
        self.house = house
        self.scale = scale
        code = decode_code(house.contract()[1])
        outside = Outside(code.transport[0], code.enrolment[0], code.curve_key)
        self.hand = HandAgent(cast(Served, outside), cast(Any, None), code.token)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4000)
        self._sockets: list[zmq.Socket[bytes]] = []
        self._plain: list[socket.socket] = []

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand.close()
        for sock in self._sockets:
            sock.close(0)
        for plain in self._plain:
            plain.close()
        self._context.term()

    def dealer(self) -> zmq.Socket[bytes]:
        """A bare socket with the machine's keys that reads as little as ZeroMQ allows."""
        sock: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._sockets.append(sock)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RCVHWM, 1)
        sock.setsockopt(zmq.RCVBUF, 65536)
        sock.setsockopt(zmq.SNDTIMEO, 2000)
        sock.setsockopt(zmq.RCVTIMEO, 20_000)
        sock.setsockopt(zmq.RECONNECT_IVL, 200)
        sock.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(self.hand.served.server_key))
        sock.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(self.hand.curve.public))
        sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(self.hand.curve.secret))
        sock.connect(self.hand.served.address)
        return sock

    def plain(self, address: str = "") -> socket.socket:
        """A TCP connection of a stranger."""
        host, _, port = (address or self.hand.served.address).removeprefix("tcp://").rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=10)
        self._plain.append(sock)
        return sock

    def hello(self, sock: zmq.Socket[bytes]) -> None:
        """Say hello on a bare socket."""
        said = m.Hello(PROTOCOL_VERSION, "bare", "test", 1, self.hand.installation)
        sock.send_multipart([m.encode(said), b""])
        answer = m.decode_appliance(sock.recv_multipart()[0])
        assert isinstance(answer, m.Welcome), answer


def many_parts(attacker: Attacker) -> None:
    """Messages of hundreds of parts, each as large as a frame may be: ZeroMQ shows none before all are here."""
    part = bytes(_MIB)
    for _ in range(3 * attacker.scale):
        sock = attacker.dealer()
        with contextlib.suppress(zmq.Again):
            for _ in range(250):
                sock.send(part, zmq.SNDMORE | zmq.NOBLOCK, copy=False)
            sock.send(b"")
    time.sleep(3)


def giant_frames(attacker: Attacker) -> None:
    """Frames far over the limit, on one connection after another."""
    for _ in range(10 * attacker.scale):
        sock = attacker.dealer()
        with contextlib.suppress(zmq.Again):
            sock.send_multipart([b"", bytes(20 * _MIB)])
        time.sleep(0.1)


def beyond_credit(attacker: Attacker) -> None:
    """Segments without waiting for an acknowledgement, from as many connections as there may be."""
    hand = attacker.hand
    segment, sealed = hand.segment(random.Random("credit").randbytes(_MIB))

    def flood(connection: Connection, begin: bool) -> None:
        with contextlib.suppress(PilulierError):
            if begin:
                connection.begin()
            for number in range(1, 120):
                connection.channel.send(m.PutSegment(number, SegmentId(random_id())), sealed, timeout_s=2.0)

    threads = [
        threading.Thread(target=flood, args=(hand.connect(), number == 0), daemon=True)
        for number in range(CONNECTIONS_PER_MACHINE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


def many_connections(attacker: Attacker) -> None:
    """Connections of one machine beyond its bound, silent ones, and strangers that drip their greeting byte by byte."""
    hand = attacker.hand
    served = [hand.connect() for _ in range(CONNECTIONS_PER_MACHINE)]
    hello = m.Hello(PROTOCOL_VERSION, "", "", 0, bytes(16))
    for _ in range(LINES_PER_OWNER - CONNECTIONS_PER_MACHINE):
        assert hand.connect(hello=False).refused(hello) == "busy"
    for _ in range(12):
        with contextlib.suppress(UnreachableError):
            hand.connect(hello=False).refused(hello)
            raise AssertionError("a line beyond all bounds was answered")
    for _ in range(150 * attacker.scale):
        attacker.dealer()
    strangers = [attacker.plain() for _ in range(100 * attacker.scale)]
    for byte in b"\xff\0\0\0\0\0\0\0\1\x7f\3\1CURVE":
        for sock in strangers:
            with contextlib.suppress(OSError):
                sock.send(bytes([byte]))
        time.sleep(0.1)
    served[0].ask(m.Ping(), m.Pong)


_SEGMENTS: Final = 24


def _segments(attacker: Attacker) -> tuple[list[SegmentId], int]:
    """A window full of segments that do not compress, and the sealed size of each."""
    connection = attacker.hand.connect()
    connection.begin()
    rng = random.Random("unread")
    segments = [connection.put_segment(rng.randbytes(_MIB - 100)) for _ in range(_SEGMENTS)]
    connection.answer(m.Acknowledged)
    connection.say(m.BackupEnd())
    connection.channel.close()
    sealed_bytes = len(attacker.hand.segment(rng.randbytes(_MIB - 100))[1])
    assert _SEGMENTS * sealed_bytes <= WINDOW_BYTES + sealed_bytes
    return segments, sealed_bytes


def _restoring(attacker: Attacker) -> zmq.Socket[bytes]:
    """A bare socket in a restore session."""
    sock = attacker.dealer()
    attacker.hello(sock)
    account = attacker.house.account()
    sock.send_multipart([m.encode(m.RestoreOpen(account.email, account.code())), b""])
    opened = m.decode_appliance(sock.recv_multipart()[0])
    assert isinstance(opened, m.RestoreOpened), opened
    return sock


def _last_word(sock: zmq.Socket[bytes]) -> m.Message | None:
    """What the appliance said last on this socket; None where the line was shut before it said anything."""
    word: m.Message | None = None
    with contextlib.suppress(zmq.Again):
        while True:
            sock.setsockopt(zmq.RCVTIMEO, 8000)
            word = m.decode_appliance(sock.recv_multipart()[0])
            if isinstance(word, m.Refused):
                break
    return word


def unread_restore(attacker: Attacker) -> None:
    """A restore that confirms what it never read, window after window: the second time it is found out."""
    segments, sealed_bytes = _segments(attacker)
    sock = _restoring(attacker)
    confirmed = 0
    for _ in range(20 * attacker.scale):
        try:
            sock.send_multipart([m.encode(m.FetchSegments(segments, confirmed)), b""])
        except zmq.Again:
            break
        confirmed += _SEGMENTS * sealed_bytes
        time.sleep(0.2)
    word = _last_word(sock)  # "reconnect" on the line that ZeroMQ makes by itself after the first was shut
    assert not isinstance(word, m.Refused) or word.code in ("protocol", "reconnect"), word


def many_restores(attacker: Attacker) -> None:
    """All the restores that one machine may open, each with a code of its own and none read."""
    segments, _ = _segments(attacker)
    sockets = [_restoring(attacker) for _ in range(CONNECTIONS_PER_MACHINE)]
    for _ in range(4):
        for sock in sockets:
            with contextlib.suppress(zmq.Again):
                sock.send_multipart([m.encode(m.FetchSegments(segments, 0)), b""], zmq.NOBLOCK)
        time.sleep(0.5)


def one_stolen_key(attacker: Attacker) -> None:
    """Everything at once that a key alone opens, over as many lines as can be had: endless messages before and
    after the greeting, a flood beyond credit, listings and samples that nobody reads."""
    hand = attacker.hand
    connection = hand.connect()
    connection.begin()
    rng = random.Random("stolen")
    for _ in range(40):
        connection.put_file(rng.randbytes(_MIB - 100))
    for _ in range(3):
        connection.say(m.PutEntries(connection.next(), hand.entries(*_folders(4000))))
        connection.answer(m.Acknowledged)
    connection.commit()
    listing = [attacker.dealer() for _ in range(CONNECTIONS_PER_MACHINE - 2)]
    for sock in listing:
        attacker.hello(sock)
    flooding = threading.Thread(target=_flood, args=(hand, connection), daemon=True)
    flooding.start()
    part = bytes(_MIB)
    for turn in range(8 * attacker.scale):
        endless = [attacker.dealer() for _ in range(20)] + listing[:2]
        for sock in endless:
            with contextlib.suppress(zmq.Again):
                for _ in range(60):
                    sock.send(part, zmq.SNDMORE | zmq.NOBLOCK, copy=False)
        for sock in listing[2:]:
            with contextlib.suppress(zmq.Again):
                sock.send_multipart([m.encode(m.SampleQuery(100.0)), b""], zmq.NOBLOCK)
                for _ in range(20):
                    sock.send_multipart([m.encode(m.TreeQuery(1, bytes(16))), b""], zmq.NOBLOCK)
        time.sleep(0.5 if turn % 2 else 0.1)
    flooding.join(60)


def _flood(hand: HandAgent, connection: Connection) -> None:
    """Long messages of tiny entries, which take most memory for their bytes, without waiting for any answer."""
    entries = _entries(hand, 8000)
    with contextlib.suppress(PilulierError):
        for _ in range(80):
            connection.channel.send(m.PutEntries(connection.next(), entries), timeout_s=2.0)


def _entries(hand: HandAgent, count: int) -> EntryBatch:
    """Tiny entries, all in the root."""
    return _sealed(
        hand,
        (EntryRecord(PathId(random_id()), ROOT, int(EntryKind.OTHER), 0, NO_VERSION, 0, b"") for _ in range(count)),
    )


def tiny_entries(attacker: Attacker) -> None:
    """Very many entries of a few bytes in one folder, committed under a wrong root so that all of them are read."""
    _many(attacker, lambda count: _entries(attacker.hand, count))


def tiny_folders(attacker: Attacker) -> None:
    """As many folders, each of which the commit has to compute."""
    _many(attacker, lambda count: _sealed(attacker.hand, _folders(count)))


def _many(attacker: Attacker, batch: Callable[[int], EntryBatch]) -> None:
    """Scale 17 is a million and some."""
    connection = attacker.hand.connect()
    connection.begin()
    count = 60_000 * attacker.scale
    for _ in range(0, count, _BATCH):
        connection.say(m.PutEntries(connection.next(), batch(_BATCH)))
        connection.answer(m.Acknowledged)
    signed = attacker.hand.signed(entry_count=count)
    connection.say(m.PutCommit(connection.next(), signed, _figures()))
    answer = connection.hear(COMMIT_S)
    assert isinstance(answer, m.Refused) and answer.code in ("commit-refused", "drift"), answer


def _sealed(hand: HandAgent, records: Iterator[EntryRecord]) -> EntryBatch:
    """Entries whose names nobody opens, counted as added."""
    batch = hand.sealer.seal_entries()
    made = [msgspec.structs.replace(record, sealed=bytes(33)) for record in records]
    for record in made:
        hand.added.entry(record.token())
    return EntryBatch(batch.header, made)


def _figures() -> m.BackupFigures:
    return m.BackupFigures(1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0.1, 0.1, 0)


def unread_listings(attacker: Attacker) -> None:
    """Questions with long answers that nobody reads, from every connection there may be."""
    hand = attacker.hand
    connection = hand.connect()
    connection.begin()
    for _ in range(3):
        connection.say(m.PutEntries(connection.next(), hand.entries(*_folders(4000))))
        connection.answer(m.Acknowledged)
    connection.commit()
    sockets = [attacker.dealer() for _ in range(CONNECTIONS_PER_MACHINE - 1)]
    for sock in sockets:
        attacker.hello(sock)
    question = m.encode(m.TreeQuery(1, bytes(16)))
    for _ in range(60 * attacker.scale):
        for sock in sockets:
            with contextlib.suppress(zmq.Again):
                sock.send_multipart([question, b""], zmq.NOBLOCK)
        time.sleep(0.05)


def _folders(count: int) -> Iterator[EntryRecord]:
    for _ in range(count):
        yield EntryRecord(PathId(random_id()), ROOT, int(EntryKind.FOLDER), 0, NO_VERSION, 0, b"")


def refusals(attacker: Attacker) -> None:
    """Thousands of provoked refusals: the log must not grow with them."""
    connection = attacker.hand.connect()
    for _ in range(1500 * attacker.scale):
        connection.refused(m.BackupBegin(random_id(), random_id() + random_id()))


def log_lines(attacker: Attacker) -> None:
    """Lines for the machine's log as fast as they are taken: each kept one costs a transaction."""
    connection = attacker.hand.connect()
    for _ in range(10 * attacker.scale):
        for _ in range(1000):
            connection.say(m.LogLine("warning", "x", "y" * 400))
        connection.ask(m.SnapshotsQuery(0), m.Snapshots)


ATTACKS: Final[tuple[Callable[[Attacker], None], ...]] = (
    many_parts,
    giant_frames,
    beyond_credit,
    many_connections,
    unread_restore,
    many_restores,
    one_stolen_key,
    tiny_entries,
    tiny_folders,
    unread_listings,
    refusals,
    log_lines,
)


class Witness:
    """An honest machine with a few files."""

    def __init__(self, house: House, root: Path, accounts: int) -> None:
        self._root = root
        self._source = root / "source"
        self._source.mkdir(parents=True)
        (self._source / "base.db").write_bytes(random.Random("witness").randbytes(2 * _MIB))
        self._agent = house.agent(self._source)
        self._accounts = [house.account() for _ in range(accounts)]
        self._times = 0

    def served(self) -> None:
        """One backup of a changed file and one restore, both right."""
        account: Account = self._accounts[self._times % len(self._accounts)]
        self._times += 1
        with open(self._source / "base.db", "r+b") as file:
            file.seek(self._times * 4096)
            file.write(random.Random(self._times).randbytes(300_000))
        report = self._agent.backup()
        assert report["snapshot"] == self._times
        target = self._root / f"target-{self._times}"
        self._agent.restore(target, account)
        assert_same(self._source, landed(target, self._source))


@dataclass(frozen=True, slots=True)
class Survived:
    """What an attack cost the service."""

    name: str
    peak_bytes: int
    seconds: float
    log_lines: int


def survive(house: House, witness: Witness, attack: Callable[[Attacker], None], scale: int = 1) -> Survived:
    """Run the attack while the witness backs up and restores; AssertionError where either goes wrong."""
    house.appliance.forget_peak()
    lines = house.appliance.said().count("\n")
    failure: list[BaseException] = []
    began = time.monotonic()
    with Attacker(house, scale) as attacker:

        def run() -> None:
            try:
                attack(attacker)
            except BaseException as error:  # the edge of a thread: the caller raises it
                failure.append(error)

        thread = threading.Thread(target=run, name=attack.__name__, daemon=True)
        thread.start()
        witness.served()
        thread.join(300 + 60 * scale)
        assert not thread.is_alive(), f"{attack.__name__} did not end"
        if failure:
            raise failure[0]
    peak = house.appliance.usage().peak_bytes
    assert peak < LIMIT_BYTES, f"{attack.__name__}: {peak >> 20} MiB"
    return Survived(attack.__name__, peak, time.monotonic() - began, house.appliance.said().count("\n") - lines)
