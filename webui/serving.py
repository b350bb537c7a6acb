"""Serves the web interface with gunicorn: a process, some threads, until SIGTERM. `pilulier serve` starts it.

    python -m webui.serving --home DIR --bind HOST:PORT [--certificate F --key F | --behind-proxy]

One worker process: pages are short, and throttling, sessions and all else live in the database. Threads let a slow
reader of a long export wait for itself alone. The control socket of newer gunicorns stays off: nothing needs it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gunicorn.app.base import BaseApplication

from appliance.parts import end_with_the_service, say_ready
from appliance.settings import Home

THREADS: Final = 16
TIMEOUT_S: Final = 120


@dataclass(frozen=True, slots=True)
class Served:
    """How the interface is reached. `behind_proxy`: TLS ends at a proxy on this machine, which says who asks."""

    home: Path
    bind: str
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by TLS."""
        return bool(self.certificate) or self.behind_proxy


class Server(BaseApplication):  # type: ignore[misc]  # untyped base
    """gunicorn, told by us and by nothing else: no configuration file, no command line, no environment."""

    def __init__(self, served: Served) -> None:
        self.served = served
        super().__init__()

    def load_config(self) -> None:
        """The few settings that differ from gunicorn's own."""
        settings: dict[str, Any] = {
            "bind": self.served.bind,
            "worker_class": "webui.worker.Worker",
            "workers": 1,
            "threads": THREADS,
            "timeout": TIMEOUT_S,
            "graceful_timeout": 8,
            "keepalive": 15,
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "warning",
            # In the worker, once the application stands: the listening socket alone answers nobody.
            "post_worker_init": lambda _: say_ready(sys.stdout),
            "certfile": self.served.certificate or None,
            "keyfile": self.served.key or None,
            # What a proxy says is read by our own middleware, which trusts one hop and only if told so.
            "forwarded_allow_ips": "",
            "proc_name": "pilulier-web",
            "limit_request_line": 4094,
            "limit_request_fields": 60,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)
        if "no_control_socket" in self.cfg.settings:
            self.cfg.set("no_control_socket", True)

    def load(self) -> Any:
        """The application, made in the worker: no database connection crosses a fork.

        Loaded here and not above: the process that only watches the worker stays 30 MB smaller.
        """
        from webui.app import create_app
        from webui.proxies import BehindProxy

        app = create_app(Home.open(self.served.home), secure=self.served.secure)
        if self.served.behind_proxy:
            return BehindProxy(app)
        return app


def parse(arguments: list[str]) -> Served:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m webui.serving", allow_abbrev=False)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--certificate", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--behind-proxy", action="store_true")
    return Served(**vars(parser.parse_args(arguments)))


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM, or until the service that started this is gone."""
    server = Server(parse(arguments))
    end_with_the_service(lambda: os.kill(os.getpid(), signal.SIGTERM))
    server.run()


if __name__ == "__main__":
    main(sys.argv[1:])
