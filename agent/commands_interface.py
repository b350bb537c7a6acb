"""`ui`: an address that opens the local interface once."""

from __future__ import annotations

import _thread
import argparse
import contextlib
import json
import logging
import signal
import sys
import threading
from types import ModuleType
from typing import Final

from agent import interface
from agent.errors import BusyError
from agent.knocking import knock, service_runs
from agent.settings import AgentHome, load_settings
from transport.errors import UsageError

WAIT_S: Final = 20.0
"""For an interface that the service was asked for: a slow PC imports for some seconds."""


def ui(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """Print the address. Where no service runs this command serves it, until Ctrl+C or half an hour without anybody."""
    load_settings(home)
    try:
        from agent.ui import serving
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the local interface needs {error.name}, which is not installed: pip install 'pilulier[agent]'"
        ) from None
    if options.serve:
        threading.Thread(target=_end_with_the_service, name="service-watch", daemon=True).start()
        return _serve(home, serving, as_json=as_json, quiet=True)
    found = interface.running(home)
    if found is None and service_runs(home):
        interface.wish(home)
        knock(home)
        found = interface.wait_for(home, WAIT_S)
    if found is not None:
        _say(interface.new_address(home, found), as_json)
        return 0
    return _serve(home, serving, as_json=as_json, quiet=False)


def _end_with_the_service() -> None:
    """The service holds the other end of our input: where it is gone, so is what it started."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.buffer.read()
    _thread.interrupt_main()


def _serve(home: AgentHome, serving: ModuleType, *, as_json: bool, quiet: bool) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s", force=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def ready(serving: interface.Serving) -> None:
        if not quiet:
            _say(interface.new_address(home, serving), as_json)
            print("Serving it here until Ctrl+C, since no pilulier-agent run does.", file=sys.stderr)

    try:
        serving.serve(home, ready)
    except BusyError:
        if quiet:
            return 0
        found = interface.wait_for(home, WAIT_S)  # somebody else was quicker
        if found is None:
            raise
        _say(interface.new_address(home, found), as_json)
    except KeyboardInterrupt:
        pass
    return 0


def _say(address: str, as_json: bool) -> None:
    """On one line, at once: whoever reads it waits for it."""
    print(json.dumps({"url": address}) if as_json else address, flush=True)
    if not as_json:
        print("It opens once, within ten minutes, in a browser on this machine.", file=sys.stderr)
