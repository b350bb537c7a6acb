"""The channel over real sockets: strangers, revoked keys, impostors, frames of the wrong shape."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq
from zmq.utils import z85

from transport import messages as m
from transport.channel import (
    FRAME_LIMIT,
    AgentChannel,
    ApplianceChannel,
    ChannelError,
    Peer,
    new_curve_keys,
)
from transport.errors import RefusedError, UnreachableError

MACHINE = "ab" * 16


class Echo:
    """An appliance that answers every message with Pong and notes who spoke."""

    def __init__(self) -> None:
        self.keys = new_curve_keys()
        self.known: dict[bytes, str] = {}
        self.channel = ApplianceChannel(self.keys, self.known.get)
        self.agents, self.enrolment = self.channel.bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
        self.heard: list[tuple[str, int, bool]] = []
        self.gone: list[Peer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for arrival in self.channel.poll(0.05, self.gone.append):
                self.heard.append((arrival.peer.machine, arrival.size, arrival.enrolment))
                self.channel.send(arrival.peer, m.Pong(), enrolment=arrival.enrolment)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.channel.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    appliance = Echo()
    yield appliance
    appliance.close()


def test_a_known_machine_is_heard_under_its_own_name(echo: Echo) -> None:
    keys = new_curve_keys()
    echo.known[keys.public] = MACHINE
    channel = AgentChannel([echo.agents], echo.keys.public, keys)
    channel.connect()
    channel.send(m.PutSegment(1, b"s" * 16), b"x" * 1000)
    got = channel.receive(5)
    assert got is not None and got[0] == m.Pong()
    assert echo.heard[0][0] == MACHINE
    assert channel.bytes_sent > 1000 and channel.bytes_received > 0
    channel.close()


def test_a_strangers_key_is_refused_and_heard_nowhere(echo: Echo) -> None:
    assert echo.channel.refuses_strangers(echo.agents)
    channel = AgentChannel([echo.agents], echo.keys.public, new_curve_keys())
    with pytest.raises(RefusedError, match="revoked or never enrolled"):
        channel.connect(5)
    channel.close()
    assert echo.heard == []


def test_a_key_that_was_revoked_cannot_come_back(echo: Echo) -> None:
    keys = new_curve_keys()
    echo.known[keys.public] = MACHINE
    channel = AgentChannel([echo.agents], echo.keys.public, keys)
    channel.connect()
    del echo.known[keys.public]
    with pytest.raises(RefusedError):
        channel.connect(5)
    channel.close()


def test_an_impostor_of_the_appliance_is_told_apart_from_silence(echo: Echo) -> None:
    keys = new_curve_keys()
    channel = AgentChannel([echo.agents], new_curve_keys().public, keys)
    with pytest.raises(RefusedError, match="not the appliance"):
        channel.connect(5)
    channel.close()
    silent = AgentChannel(["tcp://127.0.0.1:1"], echo.keys.public, keys)
    with pytest.raises(UnreachableError, match="does not answer"):
        silent.connect(2)
    silent.close()


def test_addresses_are_tried_in_order(echo: Echo) -> None:
    keys = new_curve_keys()
    echo.known[keys.public] = MACHINE
    channel = AgentChannel(["tcp://127.0.0.1:1", echo.agents], echo.keys.public, keys)
    channel.connect(5)
    channel.close()


def test_plain_and_null_clients_get_nowhere(echo: Echo) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.connect(echo.agents)
    sock.send_multipart([m.encode(m.Ping()), b""])
    assert not sock.poll(500)
    sock.close()
    context.term()
    assert echo.heard == []


def _raw(echo: Echo, public: bytes, secret: bytes, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(echo.keys.public))
    sock.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(public))
    sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(secret))
    sock.connect(echo.agents)
    return sock


def test_wrong_frame_counts_and_giant_frames_are_dropped(echo: Echo) -> None:
    keys = new_curve_keys()
    echo.known[keys.public] = MACHINE
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sock = _raw(echo, keys.public, keys.secret, context)
    for frames in ([b"one"], [b"1", b"2", b"3"], [b""] * 50):
        sock.send_multipart(frames)
    sock.send_multipart([m.encode(m.Ping()), b""])
    assert sock.poll(5000) and len(echo.heard) == 1
    sock.recv_multipart()
    sock.send_multipart([b"h", b"x" * (FRAME_LIMIT + 1)])
    assert not sock.poll(300) and len(echo.heard) == 1
    sock.close()
    context.term()


def test_the_enrolment_door_hears_strangers_but_only_small_words(echo: Echo) -> None:
    channel = AgentChannel([echo.enrolment], echo.keys.public, new_curve_keys())
    channel.connect()
    channel.send(m.Ping())
    assert channel.receive_frames(5) is not None
    assert echo.heard[0][0] == "enrolling" and echo.heard[0][2]
    channel.send(m.Ping(), b"x" * 10_000)
    with pytest.raises(UnreachableError, match="broke"):
        channel.receive_frames(5)
    assert len(echo.heard) == 1
    channel.close()


def test_a_dead_zap_handler_ends_the_service() -> None:
    keys = new_curve_keys()
    channel = ApplianceChannel(keys, lambda key: None)
    channel.bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    alive = channel._zap.is_alive
    channel._zap.is_alive = lambda: False  # type: ignore[method-assign]
    with pytest.raises(ChannelError, match="nobody is served"):
        list(channel.poll(0, lambda peer: None))
    assert alive()
    channel.close()


def test_a_taken_port_is_named(echo: Echo) -> None:
    other = ApplianceChannel(new_curve_keys(), lambda key: None)
    with pytest.raises(ChannelError, match="cannot listen on"):
        other.bind(echo.agents, "tcp://127.0.0.1:0")
    other.close()


def test_secrets_do_not_show() -> None:
    keys = new_curve_keys()
    assert keys.secret.hex() not in repr(keys)
