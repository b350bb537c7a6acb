"""First bytes of the web interface's pages over 2,000 machines: `make bench`, or

    python -m tests.benchmarks.web_pages --machines 2000 --rounds 15 --home /somewhere/to/keep

Fills a home with demonstration data (kept where `--home` names a folder, so that the next run starts at once), serves
it by gunicorn as `pilulier serve` does, logs in with password and code, and asks for each page in turn, one request at
a time, on a connection that stays open as a browser's does. What is timed is from the request to the first byte of
the answer's body. Exit code 1 where the median of a page is over the limit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlencode, urlsplit

import pyotp

from appliance import demo_data
from appliance.control.database import Database
from appliance.settings import Home, Settings, initialising

LIMIT_S: Final = 0.3
SUPER: Final = "super@pilulier.example"
ADMIN: Final = "admin@officine-sauvegarde.example"
_READY_S: Final = 60.0
REFRESHING: Final = frozenset({"control room, refresh"})
"""Asked for as a page asks by itself: the part that changes alone."""
_TOKEN: Final = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')
PAGES: Final = {
    "control room": "/",
    "control room, refresh": "/",
    "contracts": "/contracts",
    "contracts, table": "/contracts?view=table",
    "alerts": "/alerts",
    "running": "/running",
    "statistics": "/statistics",
    "charts of 90 days": "/statistics/charts?days=90",
    "audit": "/audit",
    "settings": "/settings",
    "logs": "/logs",
    "logs, text": "/logs?text=dump",
}
OPERATORS_PAGES: Final = {"system": "/system", "repositories": "/system/repositories"}
"""For the super-user alone."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One page's first bytes, in seconds, and what the page weighs."""

    page: str
    who: str
    first_bytes_s: tuple[float, ...]
    size_bytes: int

    @property
    def median_s(self) -> float:
        """The middle one."""
        return median(self.first_bytes_s)


def build(root: Path, machines: int) -> dict[str, str]:
    """A home with so many machines; the TOTP secrets of its accounts."""
    secrets = root.with_name(root.name + ".secrets.json")
    if not secrets.exists():
        # What the demonstration makes follows from these, and they are read when it begins.
        demo_data.CONTRACTS, demo_data.MACHINES = machines * 2 // 5, machines  # type: ignore[misc]
        with initialising(root, Settings()) as home:
            Database.create(home.control_db).close()
        with Database.open(root / "control.db") as db:
            made = demo_data.build(db, 0, time.time())
        secrets.write_text(json.dumps({one.email: one.totp_secret for one in made.accounts}), encoding="utf-8")
    found: dict[str, str] = json.loads(secrets.read_text(encoding="utf-8"))
    return found


class Visitor:
    """One person's connection and cookies."""

    def __init__(self, address: str) -> None:
        self.line = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        self.cookies: dict[str, str] = {}

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, *, fragment: bool = False
    ) -> tuple[int, float, bytes]:
        """The status, the seconds to the body's first byte, the body."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if fragment:
            headers["X-Pilulier-Fragment"] = "1"
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = time.perf_counter()
        self.line.request(method, path, urlencode(form) if form is not None else None, headers)
        answer = self.line.getresponse()
        first = answer.read(1)
        taken = time.perf_counter() - began
        body = first + answer.read()
        for header in answer.headers.get_all("Set-Cookie", []):
            self.cookies.update({name: morsel.value for name, morsel in SimpleCookie(header).items()})
        return answer.status, taken, body

    def log_in(self, email: str, secret: str) -> None:
        """Through both pages."""
        token = self._token("/login")
        self.ask("POST", "/login", {"csrf_token": token, "email": email, "password": demo_data.PASSWORD})
        token = self._token("/login/code")
        status, _, body = self.ask(
            "POST", "/login/code", {"csrf_token": token, "code": pyotp.TOTP(secret).at(int(time.time()) + 30)}
        )
        if status != 303:
            raise SystemExit(f"{email} could not log in ({status}): {body[:200]!r}")

    def _token(self, path: str) -> str:
        status, _, body = self.ask("GET", path)
        found = _TOKEN.search(body.decode())
        if found is None:
            raise SystemExit(f"{path} has no form ({status})")
        return found.group(1)


def measure(address: str, secrets: dict[str, str], rounds: int) -> list[Taken]:
    """Every page, as the super-user and as the admin of the largest space."""
    taken = []
    for who in (SUPER, ADMIN):
        visitor = Visitor(address)
        visitor.log_in(who, secrets[who])
        for page, path in (PAGES | OPERATORS_PAGES if who == SUPER else PAGES).items():
            times, size = [], 0
            # The first answer compiles the page's template: it is asked for and not counted.
            for number in range(rounds + 1):
                status, first_byte_s, body = visitor.ask("GET", path, fragment=page in REFRESHING)
                if status != 200:
                    raise SystemExit(f"{path} answers {status}")
                size = len(body)
                if number:
                    times.append(first_byte_s)
            taken.append(Taken(page, who.partition("@")[0], tuple(times), size))
    return taken


def serve_and_measure(root: Path, secrets: dict[str, str], rounds: int) -> list[Taken]:
    """The figures of a home, served for as long as it takes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "webui.serving", "--home", str(root), "--bind", f"127.0.0.1:{port}"]
    )
    try:
        until = time.monotonic() + _READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the web interface did not come up") from None
                time.sleep(0.05)
        return measure(f"http://127.0.0.1:{port}", secrets, rounds)
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    """Build, serve, measure, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--home", type=Path, help="keep the home here, or use the one that is here")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    chosen = parser.parse_args()
    scratch = None if chosen.home else Path(tempfile.mkdtemp(prefix="pilulier-web-"))
    try:
        root = chosen.home or scratch / "home"  # type: ignore[operator]
        secrets = build(root, chosen.machines)
        Home.open(root)
        taken = serve_and_measure(root, secrets, chosen.rounds)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch)
    print(f"First byte over {chosen.machines} machines, limit {LIMIT_S * 1000:.0f} ms, {chosen.rounds} requests a page")
    print(f"{'page':<26} {'as':<6} {'median':>9} {'worst':>9} {'page size':>10}")
    for one in taken:
        print(
            f"{one.page:<26} {one.who:<6} {one.median_s * 1000:6.0f} ms {max(one.first_bytes_s) * 1000:6.0f} ms "
            f"{one.size_bytes / 1000:7.0f} kB{'' if one.median_s <= LIMIT_S else '   OVER THE LIMIT'}"
        )
    if chosen.out is not None:
        rows = [
            {"page": one.page, "as": one.who, "first_bytes_s": one.first_bytes_s, "size_bytes": one.size_bytes}
            for one in taken
        ]
        chosen.out.write_text(json.dumps({"machines": chosen.machines, "pages": rows}, indent=1), encoding="utf-8")
    return int(any(one.median_s > LIMIT_S for one in taken))


if __name__ == "__main__":
    sys.exit(main())
