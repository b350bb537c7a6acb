"""The way through a proxy: whatever the proxy does, the answer is an error with its reason, and the process lives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.socks_server import SocksServer
from tests.transport.test_channel import MACHINE, Echo
from transport import messages as m
from transport.channel import AgentChannel, new_curve_keys
from transport.errors import RefusedError, UnreachableError
from transport.line_pacing import Proxy

KEYS = new_curve_keys()


@pytest.fixture
def echo() -> Iterator[Echo]:
    appliance = Echo()
    yield appliance
    appliance.close()


def channel_to(echo: Echo, proxy: Proxy, address: str = "") -> AgentChannel:
    echo.known[KEYS.public] = MACHINE
    return AgentChannel([address or echo.agents], echo.keys.public, KEYS, proxy)


@pytest.mark.parametrize("users", [{}, {"anna": "pass word"}])
def test_all_goes_through_it(echo: Echo, users: dict[str, str]) -> None:
    user, password = next(iter(users.items())) if users else ("", "")
    with SocksServer(users) as server:
        channel = channel_to(echo, Proxy(server.address, user, password))
        for _ in range(2):  # and anew
            channel.connect()
            channel.send(m.PutSegment(1, b"s" * 16), b"x" * 900_000)
            got = channel.receive(10)
            assert got is not None and got[0] == m.Pong()
        assert server.seen.bytes_up > 1_800_000 and len(server.seen.targets) == 2
        assert server.seen.users == ([user] * 2 if users else [])
        channel.close()
    assert "secret" not in repr(Proxy("h:1", "u", "secret"))


def test_a_proxy_that_needs_nobody_takes_who_has_a_name(echo: Echo) -> None:
    with SocksServer() as server:
        channel = channel_to(echo, Proxy(server.address, "anna", "secret"))
        channel.connect()
        assert server.seen.users == [] and len(server.seen.targets) == 1
        channel.close()


def test_a_line_that_the_proxy_cuts_is_noticed(echo: Echo) -> None:
    with SocksServer() as server:
        channel = channel_to(echo, Proxy(server.address))
        channel.connect()
        server.cut()
        with pytest.raises(UnreachableError, match="broke"):
            channel.receive(10)
        channel.connect()
        channel.close()


def test_a_name_is_looked_up_by_the_proxy(echo: Echo) -> None:
    with SocksServer() as server:
        channel = channel_to(echo, Proxy(server.address), echo.agents.replace("127.0.0.1", "localhost"))
        channel.connect()
        channel.close()
        assert server.seen.targets[0][0] == "localhost"


def test_a_wrong_key_is_refused_through_it_as_without_it(echo: Echo) -> None:
    with SocksServer() as server:
        channel = AgentChannel([echo.agents], echo.keys.public, new_curve_keys(), Proxy(server.address))
        with pytest.raises(RefusedError, match="revoked or never enrolled"):
            channel.connect(5)
        channel.close()


class Answering:
    """A port that answers whatever comes with the same bytes, and hangs up."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with line:
                for answer in self._answers:
                    line.recv(1000)
                    line.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


HELLO = b"\x05\x00"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((), "hung up|reset"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "something else"),
        ((b"\x05\x01",), "was not offered"),
        ((b"\x05\xff",), "wants a user and a password"),
        ((HELLO,), "hung up|reset"),
        ((HELLO, b"\x05\x02\x00\x01" + bytes(6)), "rules do not allow"),
        ((HELLO, b"\x05\x05\x00\x03\x04name" + bytes(2)), "the appliance refused"),
        ((HELLO, b"\x05\x63\x00\x04" + bytes(18)), "its reason 99"),
        ((HELLO, b"\x05\x00\x00\x09" + bytes(6)), "damaged"),
        ((HELLO, b"\x04\x00\x00\x01" + bytes(6)), "damaged"),
        ((HELLO, b"\x05\x00\x00\x01" + bytes(3)), "hung up|reset"),
    ],
)
def test_every_refusal_has_its_sentence(echo: Echo, answers: tuple[bytes, ...], said: str) -> None:
    proxy = Answering(*answers)
    channel = channel_to(echo, Proxy(proxy.address))
    with pytest.raises(UnreachableError, match=said):
        channel.connect(5)
    channel.close()
    proxy.close()


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        (lambda: Proxy("127.0.0.1:1"), "cannot be reached: Connection refused"),
        (lambda: Proxy("no-such-host.invalid:1080"), "cannot be reached"),
    ],
)
def test_a_proxy_that_is_not_there(echo: Echo, proxy: Callable[[], Proxy], said: str) -> None:
    channel = channel_to(echo, proxy())
    with pytest.raises(UnreachableError, match=said):
        channel.connect(2)
    channel.close()


def test_a_proxy_that_says_nothing_takes_no_longer_than_it_may(echo: Echo) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    channel = channel_to(echo, Proxy(f"127.0.0.1:{silent.getsockname()[1]}"))
    with pytest.raises(UnreachableError, match="timed out"):
        channel.connect(0.2)
    channel.close()
    silent.close()


def test_wrong_words_for_the_proxy(echo: Echo) -> None:
    with SocksServer({"anna": "right"}) as server:
        for proxy, said in (
            (Proxy(server.address), "wants a user"),
            (Proxy(server.address, "anna", "wrong"), "does not accept the user or the password"),
        ):
            channel = channel_to(echo, proxy)
            with pytest.raises(UnreachableError, match=said):
                channel.connect(5)
            channel.close()
        assert server.seen.targets == [] and server.seen.refused == 2
