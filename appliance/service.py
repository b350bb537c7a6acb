"""`pilulier serve`: puts the service together and runs it in the foreground until SIGTERM.

Owns the order of starting (home lock, keys, database, channel, self-test, parts, ready) and of stopping. The exchange
with agents runs here; web and jobs are parts, processes of their own that are started before `on_ready` and stopped
after the exchange. A part that does not come up keeps nobody from backing up.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import time
from collections.abc import Callable
from typing import Final

from appliance import endpoints, escrow, log_lines, readiness, web_part
from appliance.control.database import Database
from appliance.control.running import Board
from appliance.directory import Directory
from appliance.endpoints import Overrides, Prepared
from appliance.enrolling import Enroller
from appliance.exchange import Exchange
from appliance.parts import Part, Parts, own_command
from appliance.repositories import Repositories
from appliance.settings import Home
from transport.allocator import collect_seldom, keep_large_buffers
from transport.channel import ApplianceChannel, ChannelError

log = logging.getLogger("pilulier.service")


JOBS: Final = "jobs"
_FILES: Final = 65_536
READY_S: Final = 30.0
"""How long the parts may take until they do their work; agents are served after that whatever they do."""


def _parts(home: Home, prepared: Prepared) -> list[Part]:
    return [
        Part(JOBS, own_command(home.root, "jobs", "work")),
        web_part.part(home, prepared.addresses.web, prepared.settings),
    ]


def serve(
    home: Home,
    *,
    listen: str | None = None,
    web: str | None = None,
    with_parts: bool = True,
    on_ready: Callable[[dict[str, str]], None],
) -> int:
    """Run all services; returns 0 after SIGTERM or SIGINT, 1 after something that must not be survived.

    `on_ready` is called once, with the addresses, when agents are served. Without `with_parts` the exchange runs alone.
    """
    keep_large_buffers()
    collect_seldom()
    _allow_many_files()
    with home.serving():
        prepared = endpoints.prepare_to_serve(home, Overrides(listen=listen, web=web))
        for notice in (*prepared.notices, *web_part.notices(prepared.addresses.web, prepared.settings)):
            log.warning("%s", notice)
        identity = home.load_identity()
        curve = home.load_curve_keys()
        certificate = identity.certify(curve.public, int(time.time() * 1000))

        def open_database() -> Database:
            return Database.open(home.control_db)

        database = open_database()
        directory = Directory(database)
        channel = ApplianceChannel(curve, directory.authorise)
        try:
            addresses = prepared.addresses
            bound, _ = channel.bind(str(addresses.transport), str(addresses.enrolment))
            if not channel.refuses_strangers(bound):
                raise ChannelError("the start-up test failed: a stranger's key was not refused, so nobody is served")
            enroller = Enroller(home, open_database, certificate, channel, lambda: directory.reload(channel.wake))
            exchange = Exchange(
                *(channel, directory, Repositories(home.repositories), enroller, certificate, open_database),
                board=Board(home.running_file),
                spread_window_s=home.load_settings().spread_minutes * 60,
                escrow=escrow.certificate(home, identity),
                beat=readiness.Pulse().beat,
            )
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: exchange.stop())
            where = {"transport": str(addresses.transport), "enrolment": str(addresses.enrolment)}
            web_is_free = endpoints.is_free(addresses.web)
            parts = Parts(_parts(home, prepared) if with_parts else [])
            with parts:
                late = parts.wait_ready(READY_S, None if web_is_free else {JOBS})
                for name in late:
                    why = f": another program has {addresses.web.host_port}, give another --web"
                    why = why if name == web_part.NAME and not web_is_free else ""
                    log.error("%s did not come up%s; agents are served without it", name, why)
                if with_parts and web_part.NAME not in late:
                    where["web"] = web_part.address(addresses.web, prepared.settings)
                on_ready(where)
                readiness.notify("READY=1")
                code = exchange.run()
                readiness.notify("STOPPING=1")
                return code
        finally:
            channel.close()
            database.close()


def _allow_many_files() -> None:
    """Each agent that attends holds a connection, and 1,024 files, the usual limit by hand, are soon used up."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now == resource.RLIM_INFINITY or now >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the service's log to stderr, one line a record, for journald or a terminal."""
    log_lines.to_stderr(level)
