"""The web's side of openers: started for one login and one machine, asked, ended.

Rules: an opener belongs to a session and a machine, and is found by both; it ends after fifteen minutes, when its
person leaves, or by itself. One question at a time each. A download gets an opener of its own, so that browsing goes on
beside it. The number of openers is bounded, the longest unused goes first.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from appliance.control.contracts import Escrow
from appliance.control.database import Database
from appliance.control.machine_keys import find as find_key
from appliance.control.machines import Machine
from appliance.control.scope import Scope
from appliance.errors import KeyModeError
from appliance.opening import words
from appliance.opening.baskets import Basket
from appliance.opening.parcel_sealing import LENGTH
from appliance.settings import Home
from transport.errors import PilulierError
from transport.names import SEALED_LIMIT

LIFE_S: Final = 900.0
WAIT_S: Final = 3.0
GONE: Final = "opener"
"""Code of an OpeningError: the process has ended, open anew."""
BUSY: Final = "busy"
OPENERS_LIMIT: Final = 8
"""Browsing openers at once, some 60 MB each."""
DOWNLOADS_LIMIT: Final = 6
"""Archives that leave at once; fewer than the web process has threads."""
_CHUNK_BYTES: Final = 256 * 1024
log = logging.getLogger("pilulier.opening")
_Answer = TypeVar("_Answer", bound=words.Answer)


class OpeningError(PilulierError):
    """The backups could not be opened or read; `code` is the opener's own."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def beginning(home: Home, db: Database, scope: Scope, machine: Machine) -> words.Begin:
    """What an opener must be told; KeyModeError where the appliance cannot open this machine's backups."""
    held = find_key(db, scope, machine.id)
    if held is None or held.mode is not Escrow.CONFIDED:
        raise KeyModeError("the appliance holds no key that it could open: restore with the agent")
    return words.Begin(
        home=str(home.root),
        folder=str(home.repository(machine.id)),
        machine=machine.id,
        vault=machine.vault,
        public_key=machine.signing_key,
        envelope=held.envelope,
    )


@dataclass(slots=True)
class Opened:
    """A running opener."""

    process: subprocess.Popen[bytes]
    snapshots: list[words.Snapshot]
    began: float
    used: float
    basket: Basket = field(default_factory=Basket)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: words.AnyQuestion, expected: type[_Answer]) -> _Answer:
        """Its answer; OpeningError where it has none, with code BUSY where it is still at the question before.

        Whoever asks ten things at once waits for two of them: each waits in a thread that pages need.
        """
        if not self.lock.acquire(timeout=WAIT_S):
            raise OpeningError(BUSY, "the question before is not answered yet: wait for it")
        try:
            self.used = time.monotonic()
            answer = _ask(self.process, question)
        finally:
            self.lock.release()
        if not isinstance(answer, expected):
            raise OpeningError(GONE, f"the opener answered {type(question).__name__} with {type(answer).__name__}")
        return answer

    def seconds_left(self) -> float:
        """How long it goes on at most."""
        return max(0.0, self.began + LIFE_S - time.monotonic())

    def end(self) -> None:
        """Let it go, with its key."""
        _end(self.process)


def _ask(process: subprocess.Popen[bytes], question: words.AnyQuestion) -> words.AnyAnswer:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(words.frame(question))
        process.stdin.flush()
        answer = words.read_answer(process.stdout.read)
    except (OSError, words.BrokenPipeOfWords) as error:
        raise OpeningError(GONE, f"the opener is gone ({error}): open the backups anew") from None
    if answer is None:
        raise OpeningError(GONE, "the opener has ended: open the backups anew")
    if isinstance(answer, words.Failed):
        raise OpeningError(answer.code, answer.reason)
    return answer


def _process() -> subprocess.Popen[bytes]:
    # -P: what lies in the working directory is not ours to import.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "appliance.opening.opener"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def ask_once(question: words.AnyQuestion, expected: type[_Answer]) -> _Answer:
    """One question to an opener of its own, which ends with the answer; OpeningError where it has none."""
    process = _process()
    try:
        answer = _ask(process, question)
    finally:
        _end(process)
    if not isinstance(answer, expected):
        raise OpeningError(GONE, f"the opener answered {type(question).__name__} with {type(answer).__name__}")
    return answer


def _start(begin: words.Begin) -> tuple[subprocess.Popen[bytes], words.Ready]:
    process = _process()
    try:
        ready = _ask(process, begin)
        if not isinstance(ready, words.Ready):
            raise OpeningError(GONE, "the opener did not become ready")
    except BaseException:
        _end(process)
        raise
    return process, ready


def _end(process: subprocess.Popen[bytes]) -> None:
    # The process first: closing a pipe would wait for a thread that still reads from it.
    process.terminate()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class Openers:
    """The openers of a web process. Thread-safe."""

    def __init__(self) -> None:
        self.downloads = threading.BoundedSemaphore(DOWNLOADS_LIMIT)
        self._lock = threading.Lock()
        self._opened: dict[tuple[str, bytes], Opened] = {}

    def find(self, session_id: str, machine_id: bytes) -> Opened | None:
        """The live opener of a session for a machine; None where there is none any more."""
        with self._lock:
            found = self._opened.get((session_id, machine_id))
            if found is None:
                return None
            if found.process.poll() is not None or time.monotonic() - found.began > LIFE_S:
                del self._opened[session_id, machine_id]
            else:
                return found
        found.end()
        return None

    def open(self, session_id: str, machine_id: bytes, begin: words.Begin) -> Opened:
        """A new opener in place of any other of this session for this machine; OpeningError."""
        process, ready = _start(begin)
        now = time.monotonic()
        opened = Opened(process, ready.snapshots, now, now)
        with self._lock:
            going = [self._opened.pop((session_id, machine_id), None)]
            while len(self._opened) >= OPENERS_LIMIT:
                oldest = min(self._opened, key=lambda key: self._opened[key].used)
                going.append(self._opened.pop(oldest))
            self._opened[session_id, machine_id] = opened
        for one in going:
            if one is not None:
                one.end()
        return opened

    def end(self, session_id: str, machine_id: bytes) -> bool:
        """End one; whether there was one."""
        with self._lock:
            found = self._opened.pop((session_id, machine_id), None)
        if found is not None:
            found.end()
        return found is not None

    def end_session(self, session_id: str) -> None:
        """A person has left: all their openers go."""
        with self._lock:
            going = [self._opened.pop(key) for key in list(self._opened) if key[0] == session_id]
        for one in going:
            one.end()

    def close(self) -> None:
        """End all."""
        with self._lock:
            going = list(self._opened.values())
            self._opened.clear()
        for one in going:
            one.end()


class Download:
    """The bytes of an archive, as an opener of its own writes them. Closing it, read or not, ends the opener.

    Iterating raises OpeningError where the archive was cut short.
    """

    def __init__(self, process: subprocess.Popen[bytes], over: Callable[[], None]) -> None:
        self._process = process
        self._over: Callable[[], None] | None = over

    @property
    def pid(self) -> int:
        """The opener's process id."""
        return self._process.pid

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next part, some hundred kilobytes."""
        assert self._process.stdout is not None
        part = self._process.stdout.read(_CHUNK_BYTES)
        if part:
            return part
        try:
            whole = self._process.wait(10) == 0
        except subprocess.TimeoutExpired:
            whole = False
        self.close()
        if not whole:
            log.error("an archive was cut short: a file did not prove itself, or could not be read")
            raise OpeningError("integrity", "the archive was cut short: a file did not prove itself")
        raise StopIteration

    def close(self) -> None:
        """End the opener; harmless when it has ended."""
        over, self._over = self._over, None
        if over is not None:
            _end(self._process)
            over()


class TooManyDownloadsError(PilulierError):
    """As many archives leave now as there may be at once."""

    code = BUSY


def download(slots: threading.BoundedSemaphore, begin: words.Begin, question: words.Archive) -> Download:
    """An archive on its way; OpeningError where the backups do not open, TooManyDownloadsError without a free slot.

    Each holds a thread of the web process for as long as its reader takes, so their number is bounded: pages must
    always find a thread.
    """
    if not slots.acquire(blocking=False):
        raise TooManyDownloadsError("too many archives are being downloaded: try again in a few minutes")
    try:
        process, _ = _start(begin)
        assert process.stdin is not None
        try:
            process.stdin.write(words.frame(question))
            process.stdin.flush()
        except OSError as error:
            _end(process)
            raise OpeningError(GONE, f"the opener is gone ({error.strerror})") from None
    except BaseException:
        slots.release()
        raise
    return Download(process, slots.release)


class SealedChunks:
    """The chunks of a parcel, as an opener of its own writes them. Closing it, read or not, ends the opener.

    Iterating raises OpeningError where the parcel was cut short.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        if length > SEALED_LIMIT:
            raise OpeningError(GONE, f"the opener wrote a chunk of {length} bytes")
        if length:
            return self._exactly(length)
        raise StopIteration

    def _exactly(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) != count:
            raise OpeningError(GONE, "the parcel was cut short")
        return data

    def close(self) -> None:
        """End the opener."""
        _end(self._process)


def sealed_chunks(begin: words.Begin, question: words.Seal) -> tuple[words.Sealing, SealedChunks]:
    """A parcel on its way; OpeningError where the backups do not open, or the receiving key is not its machine's."""
    process, _ = _start(begin)
    try:
        sealing = _ask(process, question)
        if not isinstance(sealing, words.Sealing):
            raise OpeningError(GONE, f"the opener answered Seal with {type(sealing).__name__}")
    except BaseException:
        _end(process)
        raise
    return sealing, SealedChunks(process)
