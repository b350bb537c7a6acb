"""Unlocked escrow keys in the memory of the running service, and nowhere else.

Owns the socket in the home through which an operator hands a key over, and an opener takes it. A part of the service
that faces no network holds the keys (`jobs`); they are gone with its process. The socket is 0600 in a folder of 0700,
and the kernel says who speaks (SO_PEERCRED, unix(7)): the owner of the home or root, nobody else.

*What does it protect against?* **A stolen disk, and copies of the home, the appliance's own safety copies included.**
Whoever runs code as the service's own user while a key is unlocked reads backups with it, as the web does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance.errors import EscrowLockedError
from appliance.settings import Home
from transport.escrow import KEY_ID_BYTES, SEED_BYTES, EscrowKey

_LENGTH: Final = struct.Struct(">I")
_LIMIT: Final = 16384
_KEYS_LIMIT: Final = 64
_PATIENCE_S: Final = 5.0
_PEER: Final = struct.Struct("3i")  # pid, uid, gid
log = logging.getLogger("pilulier.escrow")

_Seed = Annotated[bytes, Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
_KeyId = Annotated[bytes, Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]


class Hold(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """Keep these from now on, beside what is held."""

    seeds: Annotated[list[_Seed], Meta(max_length=_KEYS_LIMIT)]


class Give(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """One key, if it is held."""

    key_id: _KeyId


class Drop(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """Forget all."""


class Which(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """The ids of all that is held."""


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The ids that are held now, and the seed that was asked for, empty where it is not held."""

    held: Annotated[list[_KeyId], Meta(max_length=_KEYS_LIMIT)]
    seed: Annotated[bytes, Meta(max_length=SEED_BYTES)] = b""


_Word = Hold | Give | Drop | Which
_words: Final = msgspec.msgpack.Decoder(_Word)
_answers: Final = msgspec.msgpack.Decoder(Answer)


@contextlib.contextmanager
def _address(home: Home) -> Iterator[str]:
    """The socket's path, short enough for any home: a UNIX address has 108 bytes."""
    folder = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{home.escrow_socket.name}"
    finally:
        os.close(folder)


def _send(line: socket.socket, word: _Word | Answer) -> None:
    data = msgspec.msgpack.encode(word)
    line.sendall(_LENGTH.pack(len(data)) + data)


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = line.recv(count - len(data))
        if not part:
            raise OSError("the other side closed the line")
        data += part
    return data


def _receive(line: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    if length > _LIMIT:
        raise OSError(f"a word of {length} bytes")
    return _exactly(line, length)


class Holder:
    """Keeps unlocked keys and serves the socket, in a thread of its own, until it is closed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._keys: dict[bytes, bytes] = {}
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Begin to listen; OSError where that is not possible, SilentHolderError where another may hold the place."""
        if _ask(self._home, Which()) is not None:
            log.warning("another process holds the escrow keys of this home")
            return
        self._home.escrow_socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _address(self._home) as address:
            listener.bind(address)
        os.chmod(self._home.escrow_socket, 0o600)
        listener.listen(16)
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), name="escrow keys", daemon=True).start()

    def close(self) -> None:
        """Forget all keys and take the socket away."""
        self._keys.clear()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self._home.escrow_socket.unlink(missing_ok=True)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return  # closed
            with line:
                line.settimeout(_PATIENCE_S)
                try:
                    _, uid, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
                    if uid not in (os.getuid(), 0):
                        log.error("user %d asked for escrow keys and was sent away", uid)
                        continue
                    _send(line, self._answer(_words.decode(_receive(line))))
                except (OSError, msgspec.MsgspecError) as error:
                    log.warning("a question for escrow keys was not answered: %s", error)

    def _answer(self, word: _Word) -> Answer:
        seed = b""
        match word:
            case Hold(seeds=seeds):
                for one in seeds:
                    self._keys[EscrowKey(one).public.key_id] = one
            case Give(key_id=key_id):
                seed = self._keys.get(key_id, b"")
            case Drop():
                self._keys.clear()
        return Answer(list(self._keys)[:_KEYS_LIMIT], seed)


class SilentHolderError(EscrowLockedError):
    """A service that may hold keys does not answer: what it holds is not known."""


def _ask(home: Home, word: _Word) -> Answer | None:
    """The holder's answer; None where none runs. SilentHolderError where one does and does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line, _address(home) as address:
            line.settimeout(_PATIENCE_S)
            line.connect(address)
            _send(line, word)
            return _answers.decode(_receive(line))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise SilentHolderError(
            f"the service that runs on {home.root} does not answer about the escrow key ({error}): try again; "
            "restarting it locks the key in any case"
        ) from None


def _ask_or_locked(home: Home, word: _Word) -> Answer | None:
    """The same for who only wants a key: one that does not come is locked."""
    try:
        return _ask(home, word)
    except SilentHolderError as error:
        log.warning("%s", error)
        return None


def held(home: Home) -> frozenset[bytes]:
    """The ids of all keys that are unlocked now."""
    answer = _ask_or_locked(home, Which())
    return frozenset() if answer is None else frozenset(answer.held)


def take(home: Home, key_id: bytes) -> EscrowKey | None:
    """An unlocked key; None where it is locked, or no service runs."""
    answer = _ask_or_locked(home, Give(key_id))
    return EscrowKey(answer.seed) if answer is not None and answer.seed else None


def hand_over(home: Home, keys: list[EscrowKey]) -> None:
    """Have the running service hold these; EscrowLockedError where none runs, SilentHolderError where it is silent."""
    if _ask(home, Hold([key.seed for key in keys])) is None:
        raise EscrowLockedError(
            f"no service that could hold the key runs on {home.root}: start it ('pilulier serve'), then unlock"
        )


def drop(home: Home) -> bool:
    """Have the running service forget all; False where none runs. SilentHolderError where it does not say so."""
    return _ask(home, Drop()) is not None
