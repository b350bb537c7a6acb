"""The gate: who may ask for what, before any page is made. Closed by default.

Rules, in this order: the host must be the very address that this process listens on, so that no name that somebody
else's DNS answers leads here; a post must come from a page of ours; then, but for the door itself and the look, a seat
is needed, which only a token gives. CSRF tokens come on top (flask-wtf). The cookie is signed with a key that lives as
long as this process, holds a seat's number only, and is never sent along by another site.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flask import Blueprint, Flask, Response, render_template, request, session
from flask.typing import ResponseReturnValue

from agent import interface
from agent.interface import Serving
from agent.settings import AgentHome

IDLE_S: Final = 1800.0
"""A seat that nobody uses so long is given up."""
OPEN: Final = frozenset({"door.open", "look.file", "static", "bootstrap.static"})
_SEAT: Final = "seat"
_SEATS_LIMIT: Final = 50

FRAMELESS: Final = "frame-ancestors 'none'"
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'"),
        *("connect-src 'self'", "form-action 'self'", "base-uri 'none'", FRAMELESS),
    )
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: browsers would then call the origin of our own posts null.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

door = Blueprint("door", __name__)


class Seats:
    """Who sits before the interface: browsers that showed a token. Any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._looked = clock()
        self.person: Path | None = None
        """The home folder of whoever sat down last."""

    def take(self) -> str:
        """A new seat."""
        with self._lock:
            self._sweep()
            seat = secrets.token_urlsafe(24)
            self._used[seat] = self._looked = self._clock()
            while len(self._used) > _SEATS_LIMIT:
                del self._used[min(self._used, key=self._used.__getitem__)]
            return seat

    def holds(self, seat: str, *, alone: bool) -> bool:
        """Whether it is somebody's. `alone`: a page asks by itself, which is nobody's presence."""
        with self._lock:
            self._sweep()
            if seat not in self._used:
                return False
            if not alone:
                self._used[seat] = self._looked = self._clock()
            return True

    def leave(self, seat: str) -> None:
        """Give it up."""
        with self._lock:
            self._used.pop(seat, None)

    def idle_s(self) -> float:
        """How long ago somebody looked, or this began."""
        with self._lock:
            return self._clock() - self._looked

    def _sweep(self) -> None:
        now = self._clock()
        for seat, used in list(self._used.items()):
            if now - used > IDLE_S:
                del self._used[seat]


def is_fragment() -> bool:
    """Whether a page asks for the part of it that refreshes."""
    return bool(request.headers.get("X-Pilulier-Fragment"))


def install(app: Flask, home: AgentHome, serving: Serving, seats: Seats) -> None:
    """Close the application."""
    host = f"{interface.HOST}:{serving.port}"
    app.config["own_origin"] = f"http://{host}"
    app.extensions["seats"] = seats
    app.extensions["home"] = home

    @app.before_request
    def check() -> ResponseReturnValue | None:
        if request.headers.get("Host") != host:
            return Response("This address is not ours.\n", 421, mimetype="text/plain")
        if request.method not in ("GET", "HEAD") and not _ours():
            return Response("This request came from another page.\n", 403, mimetype="text/plain")
        if request.endpoint in OPEN:
            return None
        # A page that acts by script says so as well, but acting is presence.
        alone = is_fragment() and request.method == "GET"
        if not seats.holds(str(session.get(_SEAT, "")), alone=alone):
            return stranger()
        return None

    @app.after_request
    def dress(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        kept = request.endpoint in ("look.file", "static", "bootstrap.static") and response.status_code in (200, 304)
        response.headers["Cache-Control"] = "private, max-age=86400" if kept else "no-store"
        return response

    def _ours() -> bool:
        """A post of our own pages: browsers say where it came from, in one or both of two ways."""
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        return origin in (None, app.config["own_origin"]) and site in (None, "same-origin")


def stranger() -> ResponseReturnValue:
    """What somebody without a seat gets."""
    if is_fragment():
        return Response(status=401)
    return render_template("closed.html"), 403


@door.get("/open")
def open() -> ResponseReturnValue:
    """Take a seat for a token. A page that goes on by itself, not a redirect: a browser that was led here by another
    program keeps a strict cookie to itself for as long as it is being led."""
    from flask import current_app

    home: AgentHome = current_app.extensions["home"]
    seats: Seats = current_app.extensions["seats"]
    if request.method == "HEAD":  # who only looks uses nothing up
        return Response()
    person = interface.spend(home, request.args.get("token", ""))
    if person is None:
        # Somebody who sits already and opens the same address again needs no other token.
        if seats.holds(str(session.get(_SEAT, "")), alone=False):
            return render_template("opened.html")
        return render_template("closed.html", spent=True), 403
    session.clear()
    session[_SEAT] = seats.take()
    seats.person = person
    return render_template("opened.html")


@door.post("/leave")
def leave() -> ResponseReturnValue:
    """Give the seat up."""
    from flask import current_app

    seats: Seats = current_app.extensions["seats"]
    seats.leave(str(session.get(_SEAT, "")))
    session.clear()
    return render_template("closed.html", left=True)
