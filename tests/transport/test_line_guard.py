"""Lines held against the kernel's own counts: real sockets, and what is shut is seen from the other end."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from appliance.connections import CREDIT_BYTES, WINDOW_BYTES
from transport import line_guard
from transport.channel import FRAME_LIMIT
from transport.line_guard import LineGuard, wire_bytes


class Listening:
    """A listening socket, its guard, and pairs of ends."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.guard = LineGuard(lambda: self.port, incoming_limit=100_000, lines_limit=5)
        self.ends: list[socket.socket] = []

    def line(self) -> tuple[socket.socket, socket.socket]:
        """Far end and near end of an accepted connection."""
        far = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        near, _ = self.listener.accept()
        self.ends += [far, near]
        self.guard.accepted(near.fileno())
        return far, near

    def sweep(self) -> None:
        """At once, whenever the last was."""
        self.guard._ticked = 0.0
        self.guard.sweep(drained=True)

    def close(self) -> None:
        for sock in (*self.ends, self.listener):
            sock.close()


@pytest.fixture
def listening() -> Iterator[Listening]:
    opened = Listening()
    yield opened
    opened.close()


def read(near: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(near.recv(min(size, 65536)))


def is_shut(far: socket.socket) -> bool:
    try:
        return far.recv(1) == b""
    except ConnectionError:
        return True


def test_what_arrives_and_is_never_delivered_shuts_the_line(listening: Listening) -> None:
    far, near = listening.line()
    other, other_near = listening.line()
    for end, at in ((far, near), (other, other_near)):
        end.sendall(bytes(90_000))
        read(at, 90_000)
    listening.guard.arrived(other_near.fileno(), b"route", "machine", 90_000)
    listening.sweep()
    assert listening.guard.shut_count == 0
    for end, at in ((far, near), (other, other_near)):
        end.sendall(bytes(20_000))
        read(at, 20_000)
    listening.sweep()
    assert listening.guard.shut_count == 1
    assert is_shut(far)
    other_near.sendall(b"x")
    assert other.recv(1) == b"x"


def test_answers_that_are_not_taken_shut_the_machine_s_lines(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_guard, "OUTGOING_LIMIT", 1 << 20)
    ends = [listening.line() for _ in range(2)]
    for number, (far, near) in enumerate(ends):
        route = b"%d" % number
        far.sendall(bytes(50))
        listening.guard.arrived(near.fileno(), route, f"machine {number}", 50)
        listening.guard.sent(route, 800_000)
    listening.sweep()
    assert listening.guard.shut_count == 0
    listening.guard.sent(b"0", 800_000)  # more than its peer's kernel ever acknowledged
    listening.sweep()
    assert listening.guard.shut_count == 1
    assert is_shut(ends[0][0])
    ends[1][1].sendall(b"x")
    assert ends[1][0].recv(1) == b"x"


def test_taken_answers_do_not_count(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_guard, "OUTGOING_LIMIT", 1 << 20)
    far, near = listening.line()
    listening.guard.arrived(near.fileno(), b"r", "machine", 0)
    for _ in range(40):
        near.sendall(bytes(50_000))
        read(far, 50_000)
        listening.guard.sent(b"r", 50_000)
    listening.sweep()
    assert listening.guard.shut_count == 0


def test_what_the_other_kernel_acknowledged_is_known_at_once(listening: Listening) -> None:
    far, near = listening.line()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.guard.arrived(near.fileno(), b"r", "machine", 0)
    assert listening.guard.taken(b"other") is None
    near.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += near.send(bytes(50_000))
    taken = listening.guard.taken(b"r")
    assert taken is not None and taken < sent
    far.sendall(b"x")  # which carries the acknowledgement of whatever came
    read(far, taken)
    assert (listening.guard.taken(b"r") or 0) >= taken


def test_a_line_that_has_not_said_a_word_may_send_little(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_guard, "UNSPOKEN_BYTES", 10_000)
    far, near = listening.line()
    spoken, spoken_near = listening.line()
    listening.guard.arrived(spoken_near.fileno(), b"r", "machine", 0)
    for end, at in ((far, near), (spoken, spoken_near)):
        end.sendall(bytes(20_000))
        read(at, 20_000)
    listening.sweep()
    assert listening.guard.shut_count == 1 and is_shut(far)


def test_of_too_many_lines_that_say_nothing_the_oldest_are_shut(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_guard, "UNSPOKEN_LINES", 2)
    lines = [listening.line() for _ in range(2)]
    listening.guard.arrived(lines[0][1].fileno(), b"r", "machine", 10)
    lines += [listening.line() for _ in range(2)]
    assert listening.guard.shut_count == 1 and is_shut(lines[1][0])
    for far, near in (lines[0], *lines[2:]):
        near.sendall(b"x")
        assert far.recv(1) == b"x"


def test_one_machine_has_so_many_lines(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_guard, "LINES_PER_OWNER", 2)
    lines = [listening.line() for _ in range(4)]
    for number, (_, near) in enumerate(lines):
        listening.guard.arrived(near.fileno(), b"%d" % number, "machine" if number < 3 else "other", 10)
    assert listening.guard.shut_count == 1 and is_shut(lines[2][0])


def test_one_machine_has_one_line_s_bytes_unfinished(listening: Listening) -> None:
    """However many lines it sends them over; another machine's stay."""
    lines = [listening.line() for _ in range(3)]
    for number, (far, near) in enumerate(lines):
        listening.guard.arrived(near.fileno(), b"%d" % number, "machine" if number < 2 else "other", 0)
        far.sendall(bytes(70_000))
        read(near, 70_000)
    listening.sweep()
    assert listening.guard.shut_count == 1
    assert not is_shut_now(lines[2])


def is_shut_now(ends: tuple[socket.socket, socket.socket]) -> bool:
    far, near = ends
    try:
        near.sendall(b"x")
        return far.recv(1) != b"x"
    except OSError:
        return True


def test_beyond_the_pool_the_largest_unread_answers_go_first(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_guard, "OUTGOING_POOL", 20 << 20)
    lines = [listening.line() for _ in range(3)]
    for number, (_, near) in enumerate(lines):
        route = b"%d" % number
        listening.guard.arrived(near.fileno(), route, f"machine {number}", 0)
        listening.guard.sent(route, (number + 6) << 20)
    listening.sweep()
    assert listening.guard.shut_count == 1 and is_shut(lines[2][0])


def test_a_silent_line_is_shut(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    far, _ = listening.line()
    speaking, near = listening.line()
    listening.guard.arrived(near.fileno(), b"r", "machine", 10)
    monkeypatch.setattr(line_guard, "SILENT_S", 0.0)
    listening.sweep()
    assert listening.guard.shut_count == 1
    assert is_shut(far)


def test_one_line_too_many_is_shut_at_once(listening: Listening) -> None:
    lines = [listening.line() for _ in range(6)]
    assert len(listening.guard) == 5
    assert is_shut(lines[5][0])


def test_a_descriptor_in_other_use_is_left_alone(listening: Listening) -> None:
    _, near = listening.line()
    number = near.fileno()
    near.close()
    foreign, kept = socket.socketpair()
    with foreign, kept:
        listening.guard.accepted(foreign.fileno())
        listening.sweep()
        foreign.sendall(b"x")
        assert kept.recv(1) == b"x"
    listening.guard.accepted(number)
    listening.sweep()
    assert len(listening.guard) == 0
    assert listening.guard.shut_count == 0


def test_the_tail_of_a_former_line_is_not_counted(listening: Listening) -> None:
    _, near = listening.line()
    listening.guard.arrived(near.fileno(), b"new", "machine", 100)
    listening.guard.arrived(near.fileno(), b"old", "other", 1 << 30)
    assert listening.guard._lines[near.fileno()].delivered == 100


def test_honest_agents_stay_within_the_bounds() -> None:
    assert line_guard.INCOMING_LIMIT >= CREDIT_BYTES + 2 * FRAME_LIMIT
    assert line_guard.OUTGOING_LIMIT >= 2 * WINDOW_BYTES


def test_sizes_on_the_wire() -> None:
    """RFC 23: one byte of flags, one or eight of length; RFC 26: 33 bytes around each frame."""
    assert wire_bytes(0) == 35
    assert wire_bytes(222) == 257
    assert wire_bytes(223) == 265
    assert wire_bytes(100, 1 << 20) == 135 + (1 << 20) + 42
