"""How the local interface is reached: by whoever can write into the agent's home, and by nobody else.

A token is a file: its name is the SHA-256 of what stands in the address, and whoever removes it has spent it. So a
token works once, whichever process made it, and the address that a browser remembers opens nothing.

*Who serves the interface?* **A process of its own, started by the running service where there is one, else the command
`ui` itself.** The service starts it on a wish (a file and a knock), so that `ui` returns at once and the window may
outlive the terminal; a service that runs for months keeps none of its memory, since the process ends when nobody looks
any more. Without a service `ui` serves in the foreground: then nothing is left behind that nobody started. The
alternative, Flask inside the service, would cost each machine 20 MB for a page that is opened once a month. Knows no
web library.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agent.errors import BusyError
from agent.settings import AgentHome, exclusive
from agent.system.people import home_of_the_person
from agent.system.program import this_program

log = logging.getLogger("pilulier.service")

HOST: Final = "127.0.0.1"
TOKEN_S: Final = 600.0
"""How long an address waits to be opened."""
_TOKEN_BYTES: Final = 32
_LOOK_S: Final = 0.05


class Serving(msgspec.Struct, frozen=True):
    """Where the interface listens. Every address begins with `prefix`, which nobody guesses.

    Browsers send a cookie to every port of a host, but only below its path: another user's server on this machine, to
    which somebody is lured, never sees ours.
    """

    pid: int
    port: Annotated[int, Meta(ge=1, le=65535)]
    prefix: str


def _server_file(home: AgentHome) -> Path:
    return home.interface / "server.json"


def _wish_file(home: AgentHome) -> Path:
    return home.interface / "wish"


def _tokens(home: AgentHome) -> Path:
    return home.interface / "tokens"


def prepare(home: AgentHome) -> None:
    """Make the folders, readable by their owner only."""
    for folder in (home.interface, _tokens(home)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def announce(home: AgentHome, port: int) -> Serving:
    """Say where this process listens; the caller holds the interface's lock."""
    prepare(home)
    serving = Serving(os.getpid(), port, secrets.token_urlsafe(16))
    new = _server_file(home).with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(serving))
    os.replace(new, _server_file(home))
    return serving


def withdraw(home: AgentHome) -> None:
    """Nobody listens any more."""
    with contextlib.suppress(OSError):
        _server_file(home).unlink()


def running(home: AgentHome) -> Serving | None:
    """The interface that is up; None where none is."""
    if not home.interface_lock.exists():
        return None
    try:
        with exclusive(home, "look at the interface", lock=home.interface_lock):
            return None
    except BusyError:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(_server_file(home).read_bytes(), type=Serving)
    return None


def new_address(home: AgentHome, serving: Serving) -> str:
    """An address that opens the interface once; tokens that nobody used in time go.

    The token's file says whose home folder is meant: the service that serves the pages does not know who asked.
    """
    prepare(home)
    with contextlib.suppress(OSError):
        for old in _tokens(home).iterdir():
            if _age_s(old) > TOKEN_S:
                old.unlink()
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with open(os.open(_tokens(home) / _digest(token), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(os.fsencode(home_of_the_person()))
    return f"http://{HOST}:{serving.port}/{serving.prefix}/open?token={token}"


def spend(home: AgentHome, token: str) -> Path | None:
    """The home folder of whoever asked for this token, where it opens the interface; it does so once."""
    path = _tokens(home) / _digest(token)
    try:
        young, person = _age_s(path) <= TOKEN_S, os.fsdecode(path.read_bytes())
        path.unlink()  # of two that come together one removes it
    except OSError:
        return None
    return Path(person) if young else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _age_s(path: Path) -> float:
    return abs(time.time() - path.stat().st_mtime)


# the service's part


def wish(home: AgentHome) -> None:
    """Ask the service for an interface; a knock has to follow."""
    prepare(home)
    _wish_file(home).touch(0o600)


def wait_for(home: AgentHome, seconds: float) -> Serving | None:
    """The interface that somebody was asked for, once it is up; None where none comes in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        serving = running(home)
        if serving is not None:
            return serving
        time.sleep(_LOOK_S)
    return None


def command(home: AgentHome) -> list[str]:
    """How the process is started."""
    return [*this_program(), "--home", str(home.path), "--json", "ui", "--serve"]


class Opener:
    """The service's side: starts an interface where one is wished for."""

    def __init__(self, home: AgentHome) -> None:
        self._home = home
        self._child: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Someone knocked: perhaps for this."""
        try:
            _wish_file(self._home).unlink()
        except OSError:
            return
        if self._child is not None and self._child.poll() is None:
            return
        try:
            # Nothing is ever written to it: its end tells the child that this service is gone, however it went.
            self._child = subprocess.Popen(command(self._home), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        except OSError as error:
            log.error("the local interface could not be started: %s", error)

    def close(self) -> None:
        """The service ends, and its interface with it."""
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
