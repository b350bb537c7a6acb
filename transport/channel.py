"""The ZeroMQ channel: CURVE sockets, who is on the other end, frames. The only room that knows zmq.

Owns DEALER and ROUTER sockets, the ZAP handler and the start-up self-test. Rules: CURVE without a ZAP handler in the
same context lets every key in (measured), so the handler binds before any ROUTER and a channel whose handler died
serves nobody; an identity is what ZAP answered for this boot (`User-Id = <boot>:<machine>`), never a routing id or
a field; messages have exactly two frames of bounded size. Sockets belong to the thread that polls them; other
threads hand messages over through `post`. RFC 23 (ZMTP), 26 (CurveZMQ), 27 (ZAP).
"""

from __future__ import annotations

import collections
import contextlib
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import zmq
from zmq.utils import z85 as _z85

from transport import messages as m
from transport.errors import PilulierError, ProtocolError, RefusedError, UnreachableError
from transport.line_guard import INCOMING_LIMIT, LineGuard, wire_bytes
from transport.line_pacing import Proxy, pace
from transport.names import MESSAGE_LIMIT, SEALED_LIMIT, Buffer
from transport.peers import Arrival as Arrival
from transport.peers import Peer as Peer
from transport.tunnel import Tunnel

_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_AGENTS = "agents"
_ENROLMENT = "enrolment"
FRAME_LIMIT: Final = max(SEALED_LIMIT, MESSAGE_LIMIT)
ENROLMENT_LIMIT: Final = 8192
"""Largest frame on the enrolment endpoint, where strangers may speak."""
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
"""Plain numbers: pyzmq's flags are enumerations, joined anew at every call."""
_FRAMING_BYTES: Final = 2 * (9 + 33)
"""ZMTP flags and length, and CURVE's nonce and tag, for the two frames of a message."""
_HANDSHAKE_MS: Final = 10_000
_HANDSHAKE_PAUSE_S: Final = 0.3
_STRANGER_INCOMING: Final = 1 << 20
"""Bytes of an unfinished message on the enrolment endpoint."""


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """A CURVE key pair, raw 32 bytes each. The repr shows the public half only."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"CurveKeys(public={self.public.hex()})"


def new_curve_keys() -> CurveKeys:
    """A fresh random key pair."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(_z85.decode(public), _z85.decode(secret))


def z85(key: bytes) -> str:
    """A 32-byte key in Z85 (RFC 32), 40 characters."""
    return _z85.encode(key).decode()


class ChannelError(PilulierError):
    """The channel cannot be opened or kept safe."""


class _BrokenHandshake(RefusedError):
    """The connection was made and ended before both sides knew each other."""


def _secure_server(sock: zmq.Socket[bytes], keys: CurveKeys, domain: str, limit: int) -> None:
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.CURVE_SERVER, 1)
    sock.setsockopt(zmq.CURVE_SECRETKEY, _z85.encode(keys.secret))
    sock.setsockopt_string(zmq.ZAP_DOMAIN, domain)
    sock.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    sock.setsockopt(zmq.MAXMSGSIZE, limit)
    sock.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    sock.setsockopt(zmq.HEARTBEAT_IVL, 30_000)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, 90_000)
    sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # A pipe learns only at every half of this that messages went out: a burst must fit beside as many old ones.
    sock.setsockopt(zmq.SNDHWM, 128)
    sock.setsockopt(zmq.RCVHWM, 64)


class _ZapHandler(threading.Thread):
    """Answers who may connect, from a mapping in memory; binds before any ROUTER does."""

    def __init__(self, context: zmq.Context[Any], boot: str, authorise: Callable[[bytes], str | None]) -> None:
        super().__init__(name="zap", daemon=True)
        self._boot = boot
        self._authorise = authorise
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ZAP_ENDPOINT)

    def run(self) -> None:
        try:
            while True:
                frames = self._socket.recv_multipart()
                self._socket.send_multipart(self._answer(frames))
        except zmq.ContextTerminated:
            pass
        finally:
            self._socket.close(0)

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        def reply(status: bytes, text: bytes, user: str = "") -> list[bytes]:
            request_id = frames[1] if len(frames) > 1 else b""
            return [b"1.0", request_id, status, text, user.encode(), b""]

        if len(frames) != 7 or frames[0] != b"1.0" or frames[5] != b"CURVE" or len(frames[6]) != 32:
            return reply(b"400", b"CURVE only")
        domain, key = frames[2].decode("ascii", "replace"), frames[6]
        if domain == _ENROLMENT:
            return reply(b"200", b"OK", f"{self._boot}:enrolling")
        machine = self._authorise(key) if domain == _AGENTS else None
        if machine is None:
            return reply(b"400", b"unknown or revoked key")
        return reply(b"200", b"OK", f"{self._boot}:{machine}")


class _Door:
    """A listening ROUTER, the monitor that tells of its connections, and their guard."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeys, domain: str, limit: int, incoming_limit: int
    ) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        _secure_server(self.socket, keys, domain, limit)
        self.port = 0
        self.guard = LineGuard(lambda: self.port, incoming_limit=incoming_limit)
        self.monitor: Any = self.socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)

    def bind(self, address: str) -> str:
        """Listen; the address with the port that was chosen."""
        try:
            self.socket.bind(address[:-1] + "*" if address.endswith(":0") else address)
        except zmq.ZMQError as error:
            raise ChannelError(f"cannot listen on {address}: {error.strerror}") from None
        bound = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.port = int(bound.rpartition(":")[2])
        return bound

    def hear_of_lines(self) -> None:
        """Take what the monitor has to say."""
        while self.monitor.poll(0):
            event, fd = _monitored(self.monitor)
            if event == zmq.EVENT_ACCEPTED:
                self.guard.accepted(fd)
            else:
                self.guard.closed(fd)

    def receive(self) -> list[Any] | None:
        """The frames of the next message, None where none waits."""
        try:
            frames = _received(self.socket)
        except zmq.Again:
            return None
        # The metadata is the same on every frame but the routing id, which never travelled.
        size = wire_bytes(*(len(frame) for frame in frames[1:]))
        owner, fd = frames[-1].get("User-Id"), frames[-1].get(zmq.SRCFD)
        if fd not in self.guard:
            self.hear_of_lines()  # it was accepted, and has spoken, since the last look
        self.guard.arrived(fd, frames[0].bytes, owner if isinstance(owner, str) else "", size)
        return frames

    def close(self) -> None:
        """Close the door and its monitor."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)


class ApplianceChannel:
    """The appliance's two doors: agents with known keys, and enrolment."""

    def __init__(self, keys: CurveKeys, authorise: Callable[[bytes], str | None]) -> None:
        self._boot = secrets.token_hex(8)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._zap = _ZapHandler(self._context, self._boot, authorise)
        self._zap.start()
        self._keys = keys
        self._agents = _Door(self._context, keys, _AGENTS, FRAME_LIMIT, INCOMING_LIMIT)
        self._enrolment = _Door(self._context, keys, _ENROLMENT, ENROLMENT_LIMIT, _STRANGER_INCOMING)
        self._posted: collections.deque[tuple[Peer, bytes, Buffer, bool]] = collections.deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._poller = zmq.Poller()
        for door in (self._agents, self._enrolment):
            self._poller.register(door.socket, zmq.POLLIN)
            self._poller.register(door.monitor, zmq.POLLIN)
        self._poller.register(self._wake_out.fileno(), zmq.POLLIN)

    def bind(self, agents: str, enrolment: str) -> tuple[str, str]:
        """Bind both endpoints (port 0 chooses) and return the addresses; ChannelError where one is taken."""
        return self._agents.bind(agents), self._enrolment.bind(enrolment)

    def refuses_strangers(self, address: str, timeout_s: float = 10.0) -> bool:
        """Whether a random key is turned away at `address`: asked at every start, since CURVE alone fails open."""
        probe = AgentChannel(
            [address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")], self._keys.public, new_curve_keys()
        )
        try:
            probe.connect(timeout_s)
        except RefusedError:
            return True
        except UnreachableError:
            return False
        finally:
            probe.close()
        return False

    def post(self, peer: Peer, message: m.Message, payload: Buffer = b"", *, enrolment: bool = False) -> None:
        """Queue an answer from any thread; it is sent by the polling thread in order.

        Encoded here: ValueError for a message that is too long is the caller's, never the polling thread's.
        """
        self._posted.append((peer, m.encode(message), payload, enrolment))
        self.wake()

    def wake(self) -> None:
        """Make `poll` return soon."""
        with contextlib.suppress(OSError):  # a wake-up is already pending, or the channel is closing
            self._wake_in.send(b"\1")

    def send(self, peer: Peer, message: m.Message, payload: Buffer = b"", *, enrolment: bool = False) -> bool:
        """Send now (polling thread only); False where the peer is gone or does not read."""
        return self._send(peer, m.encode(message), payload, enrolment)

    def _send(self, peer: Peer, header: bytes, payload: Buffer, enrolment: bool) -> bool:
        door = self._enrolment if enrolment else self._agents
        try:
            door.socket.send(peer.route, _MORE)
            door.socket.send(header, _MORE)
            door.socket.send(payload, _NOBLOCK, copy=len(payload) < 65536)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        door.guard.sent(peer.route, wire_bytes(len(header), len(payload)))
        return True

    def taken_bytes(self, peer: Peer) -> int | None:
        """Bytes of the wire that the peer's kernel has acknowledged on this connection; None where nobody can say."""
        return self._agents.guard.taken(peer.route)

    def shut(self, peer: Peer, why: str) -> None:
        """End the peer's connection, and what is queued for it."""
        self._agents.guard.shut(peer.route, why)

    def poll(self, timeout_s: float, gone: Callable[[Peer], None]) -> Iterator[Arrival]:
        """Send what was posted, then yield what arrived; `gone` is told of peers that could not be answered."""
        if not self._zap.is_alive():
            raise ChannelError("the ZAP handler died: without it every key would be let in, so nobody is served")
        events = dict(self._poller.poll(int(timeout_s * 1000)))
        if self._wake_out.fileno() in events:
            try:
                while self._wake_out.recv(4096):
                    pass
            except BlockingIOError:
                pass
        self.flush(gone)
        for door, enrolment in ((self._agents, False), (self._enrolment, True)):
            if door.monitor in events:
                door.hear_of_lines()
            frames: list[Any] | None = None
            for _ in range(64 if door.socket in events else 0):
                frames = door.receive()
                if frames is None:
                    break
                arrival = self._arrival(frames, enrolment)
                if arrival is not None:
                    yield arrival
            door.guard.sweep(drained=frames is None)

    def flush(self, gone: Callable[[Peer], None]) -> None:
        """Send everything posted so far."""
        while self._posted:
            peer, header, payload, enrolment = self._posted.popleft()
            if not self._send(peer, header, payload, enrolment):
                gone(peer)

    def _arrival(self, frames: list[Any], enrolment: bool) -> Arrival | None:
        """The message in `frames`; None (dropped) for a wrong frame count or an identity not of this boot."""
        if len(frames) != 3:
            return None
        user = frames[1].get("User-Id")
        if not isinstance(user, str) or not user.startswith(self._boot + ":"):
            return None
        machine = user[len(self._boot) + 1 :]
        address = frames[1].get("Peer-Address") if enrolment else ""
        return Arrival(Peer(frames[0].bytes, machine), frames[1].bytes, frames[2].buffer, enrolment, address or "")

    def close(self) -> None:
        """Close both doors."""
        self._agents.close()
        self._enrolment.close()
        self._wake_in.close()
        self._wake_out.close()
        self._context.term()


def _received(sock: zmq.Socket[bytes]) -> list[Any]:
    """The frames of the next message; zmq.Again where none waits. pyzmq's own loop asks the socket after each frame
    whether another follows, which the frame knows: 6 µs a message became 2 (measured)."""
    frame: Any = sock.recv(_NOBLOCK, copy=False)
    frames = [frame]
    while frame.more:
        frame = sock.recv(_NOBLOCK, copy=False)
        frames.append(frame)
    return frames


def _monitored(monitor: Any) -> tuple[int, int]:
    """The next event of a socket monitor and its value (first frame: u16, u32, host order). pyzmq's own reader is in
    a module that imports asyncio: 25 ms of every start of the agent (measured)."""
    event, value = struct.unpack_from("=HI", monitor.recv_multipart()[0])
    return int(event), int(value)


def _event(monitor: Any) -> int:
    """The next event of a socket monitor."""
    return _monitored(monitor)[0]


class AgentChannel:
    """An agent's connection. One thread only. Counts every byte handed to the socket, framing included."""

    def __init__(
        self, addresses: list[str], server_key: bytes, keys: CurveKeys, proxy: Proxy | None = None
    ) -> None:
        self._addresses = addresses
        self._server_key = server_key
        self._keys = keys
        self._proxy = proxy
        self._tunnel: Tunnel | None = None
        self._rate: float | None = None
        self._descriptor = -1
        """Of the line, as the monitor told it."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: Any = None
        """Tells of the connection's end; without it a broken one is noticed only by silence, a minute later."""
        self.bytes_sent = 0
        self.bytes_received = 0

    def connect(self, timeout_s: float = 10.0) -> None:
        """Connect to the first address that answers, anew if connected before.

        Raises RefusedError where the appliance does not know our key or is not the one we pinned, UnreachableError
        where nothing answers in time.
        """
        failure: PilulierError | None = None
        for address in self._addresses:
            try:
                try:
                    self._open(address, timeout_s)
                except _BrokenHandshake:  # a line that broke just then looks the same; a wrong key does so every time
                    time.sleep(_HANDSHAKE_PAUSE_S)
                    self._open(address, timeout_s)
                return
            except PilulierError as error:
                failure = error if failure is None or isinstance(error, RefusedError) else failure
        raise failure or UnreachableError("no address of the appliance is known")

    def _open(self, address: str, timeout_s: float) -> None:
        self.disconnect()
        if self._proxy is not None:
            self._tunnel = Tunnel(self._proxy, address, timeout_s)
        sock: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.CURVE_SERVERKEY, _z85.encode(self._server_key))
        sock.setsockopt(zmq.CURVE_PUBLICKEY, _z85.encode(self._keys.public))
        sock.setsockopt(zmq.CURVE_SECRETKEY, _z85.encode(self._keys.secret))
        sock.setsockopt(zmq.MAXMSGSIZE, FRAME_LIMIT)
        sock.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        sock.setsockopt(zmq.HEARTBEAT_IVL, 30_000)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, 90_000)
        sock.setsockopt(zmq.RECONNECT_IVL, -1)  # reconnecting is ours: a new DEALER, then resume
        sock.setsockopt(zmq.SNDHWM, 64)
        sock.setsockopt(zmq.RCVHWM, 256)
        wanted = (
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_CONNECTED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CLOSED
        )
        monitor = sock.get_monitor_socket(wanted)
        try:
            sock.connect(self._tunnel.address if self._tunnel is not None else address)
            self._await_handshake(monitor, address, timeout_s)
            self._socket, self._monitor = sock, monitor
            self._apply_pace()
        except zmq.ZMQError as error:
            raise UnreachableError(f"the appliance's address {address} cannot be used: {error.strerror}") from None
        finally:
            if self._socket is None:
                sock.disable_monitor()
                monitor.close(0)
                sock.close(0)
                self.disconnect()

    def _await_handshake(self, monitor: Any, address: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        connected = False
        while (left := deadline - time.monotonic()) > 0:
            if not monitor.poll(int(left * 1000) + 1):
                break
            event, value = _monitored(monitor)
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return
            if event == zmq.EVENT_CONNECTED:
                connected, self._descriptor = True, value
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise RefusedError(
                    f"the appliance at {address} refuses this machine's key: it was revoked or never enrolled there"
                )
            elif connected:
                raise _BrokenHandshake(
                    f"what answers at {address} is not the appliance this machine was enrolled with (its key differs)"
                )
            elif event == zmq.EVENT_CLOSED:
                break
        raise UnreachableError(f"the appliance at {address} does not answer: check the network and that it is running")

    def set_pace(self, bytes_per_s: float | None) -> None:
        """Let the line take at most so many bytes a second from now on, over reconnections too; None for all it can."""
        if bytes_per_s != self._rate:
            self._rate = bytes_per_s
            self._apply_pace()

    def _apply_pace(self) -> None:
        if self._tunnel is not None:
            self._tunnel.pace(self._rate)
        elif self._socket is not None:
            pace(self._descriptor, self._rate)

    def disconnect(self) -> None:
        """Drop the connection and everything queued in it."""
        if self._socket is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            self._socket = self._monitor = None
        if self._tunnel is not None:
            self._tunnel.close()
            self._tunnel = None

    def _ready(self, sock: zmq.Socket[bytes], event: int, timeout_s: float) -> bool:
        """Wait until the socket is ready for `event`; UnreachableError as soon as the connection has ended."""
        if sock.poll(0, event):
            return True
        if timeout_s <= 0 and not self._monitor.poll(0):  # a look between two messages: no poller for that
            return False
        poller = zmq.Poller()
        poller.register(sock, event)
        poller.register(self._monitor, zmq.POLLIN)
        deadline = time.monotonic() + timeout_s
        while True:
            ready = dict(poller.poll(max(0, int((deadline - time.monotonic()) * 1000))))
            if sock in ready:
                return True
            if self._monitor not in ready:
                return False
            told = _event(self._monitor)
            if told in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED) and not sock.poll(0, event):
                self.disconnect()
                raise UnreachableError("the connection to the appliance broke")

    def close(self) -> None:
        """Disconnect for good."""
        self.disconnect()
        self._context.term()

    def send(self, message: m.Message, payload: Buffer = b"", *, timeout_s: float = 60.0) -> None:
        """Send one message; UnreachableError where the connection takes nothing for `timeout_s`."""
        if self._socket is None:
            raise UnreachableError("not connected to the appliance")
        header = m.encode(message)
        sock = self._socket
        if not self._ready(sock, zmq.POLLOUT, timeout_s):
            raise UnreachableError("the connection to the appliance is stuck")
        sock.send(header, _MORE)
        sock.send(payload, _NOBLOCK, copy=len(payload) < 65536)
        self.bytes_sent += len(header) + len(payload) + _FRAMING_BYTES

    def receive_frames(self, timeout_s: float) -> tuple[bytes, Buffer] | None:
        """The next message's two frames, None after `timeout_s` without one."""
        sock = self._socket
        if sock is None:
            raise UnreachableError("not connected to the appliance")
        if not self._ready(sock, zmq.POLLIN, timeout_s):
            return None
        frames = _received(sock)
        if len(frames) != 2:
            raise ProtocolError(f"the appliance sent a message of {len(frames)} frames")
        header, payload = frames[0].bytes, frames[1].buffer
        self.bytes_received += len(header) + len(payload) + _FRAMING_BYTES
        return header, payload

    def receive(self, timeout_s: float) -> tuple[m.ApplianceMessage, Buffer] | None:
        """The next message, decoded; None after `timeout_s` without one."""
        frames = self.receive_frames(timeout_s)
        return None if frames is None else (m.decode_appliance(frames[0]), frames[1])


