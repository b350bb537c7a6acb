"""Serves the pages until SIGTERM, Ctrl+C, or until nobody has looked for half an hour.

Waitress and not gunicorn: threads in one process, no fork, the same on Windows, and 2 MB. Owns the listening socket,
the one address under which pages are found, and the end. Prints nothing.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from waitress.server import create_server

from agent import interface
from agent.interface import Serving
from agent.settings import AgentHome, exclusive
from agent.ui.app import create_app
from agent.ui.machine import Machine

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_THREADS: Final = 6
_LOOK_S: Final = 15.0
_BODY_LIMIT: Final = 1 << 20


class Below:
    """The application below one path; every other address of this port answers nothing."""

    def __init__(self, app: WSGIApplication, prefix: str) -> None:
        self._app = app
        self._prefix = f"/{prefix}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(self._prefix + "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]
        environ["SCRIPT_NAME"] = self._prefix
        environ["PATH_INFO"] = path[len(self._prefix) :]
        return self._app(environ, start_response)


def serve(home: AgentHome, on_ready: Callable[[Serving], None]) -> None:
    """Serve; `on_ready` is told where, once somebody is heard there. BusyError where another one is up.

    Ends by KeyboardInterrupt in the main thread, whoever raises it.
    """
    # Its warnings are of clients that went away.
    logging.getLogger("waitress").setLevel(logging.ERROR)
    with exclusive(home, "local interface", lock=home.interface_lock), socket.socket() as listening:
        machine = Machine(home)
        listening.bind((interface.HOST, 0))
        port = listening.getsockname()[1]
        serving = interface.announce(home, port)
        app = create_app(machine, serving)
        server = create_server(
            Below(app, serving.prefix),
            sockets=[listening],
            threads=_THREADS,
            ident=None,
            max_request_body_size=_BODY_LIMIT,
            max_request_header_size=64 << 10,
            connection_limit=100,
        )
        over = threading.Event()
        threading.Thread(target=_watch, args=(machine, over), name="watching", daemon=True).start()
        try:
            on_ready(serving)
            server.run()
        except KeyboardInterrupt:
            pass
        finally:
            over.set()
            interface.withdraw(home)
            machine.close()
            with contextlib.suppress(OSError):
                server.close()


def _watch(machine: Machine, over: threading.Event) -> None:
    """End the process once nobody looks any more."""
    while not over.wait(_LOOK_S):
        if machine.forgotten():
            _thread.interrupt_main()
            return
