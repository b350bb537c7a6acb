"""The gate: closed by default. Every endpoint says who may enter, or it is in the short list of open ones.

Rules: a stranger is led to the login page, from an address that exists or not, so that they learn nothing; under
/api/v1 they get 401 as problem+json. Someone of the wrong role gets 403. Someone of the right role who names another
tenant's thing gets 404, which the scope of the query sees to, not the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from flask import Flask, Response, abort, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager

from appliance.control import accounts, sessions
from appliance.control.accounts import Role
from appliance.errors import NotFoundError
from webui import context
from webui.context import Person

EVERYONE: Final = frozenset(Role)
STAFF: Final = frozenset({Role.SUPER, Role.ADMIN, Role.SUPPORT})
MANAGERS: Final = frozenset({Role.SUPER, Role.ADMIN})
OPERATORS: Final = frozenset({Role.SUPER})

OPEN: Final = frozenset(
    {
        *("static", "bootstrap.static", "theme.stylesheet", "theme.logo", "health.healthz", "health.metrics"),
        *("login.password", "login.code", "login.language"),
        *("password.forgotten", "password.choose", "invitation.accept", "device.request", "device.replace"),
    }
)
"""What a stranger may ask for. Metrics ask for a token of their own."""

API: Final = "/api/v1"
_ROLES: Final = "allowed_roles"
View = TypeVar("View", bound=Callable[..., ResponseReturnValue])


def allow(roles: frozenset[Role]) -> Callable[[View], View]:
    """Say who may enter a view. Goes between the route and the function."""

    def mark(view: View) -> View:
        setattr(view, _ROLES, roles)
        return view

    return mark


def roles_of(app: Flask, endpoint: str) -> frozenset[Role]:
    """Who may enter an endpoint; nobody where it does not say."""
    return getattr(app.view_functions.get(endpoint), _ROLES, frozenset())


def unguarded(app: Flask) -> list[str]:
    """Endpoints that are neither open nor say who may enter: the application refuses to start with one."""
    return sorted(
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint not in OPEN and not roles_of(app, rule.endpoint)
    )


def load_person(token: str) -> Person | None:
    """Who a cookie's token belongs to; None where its session has ended."""
    database = context.db()
    # A page that refreshes by itself is nobody's presence; a wall is meant to be watched from afar.
    alone = bool(request.headers.get("X-Pilulier-Fragment")) and "wall" not in request.args
    session = sessions.find(database, token, context.now(), touch=not alone)
    if session is None:
        return None
    try:
        return Person(accounts.find(database, session.account_id), session, token)
    except NotFoundError:
        return None


def install(app: Flask) -> None:
    """Close the application."""
    manager = LoginManager(app)
    # Sessions live in the database, with their own idle time and end: flask-login's guesses by address and browser
    # would log people out whose telephone changes networks.
    manager.session_protection = None
    manager.user_loader(load_person)

    @app.before_request
    def check() -> ResponseReturnValue | None:
        endpoint = request.endpoint
        if endpoint in OPEN:
            return None
        who = context.person()
        if who is None:
            return stranger()
        if endpoint is None:
            abort(404)
        if who.account.role not in roles_of(app, endpoint):
            abort(403)
        return None


def stranger() -> ResponseReturnValue:
    """What somebody who is not logged in gets."""
    if request.path == API or request.path.startswith(API + "/"):
        answer = jsonify(type="about:blank", title="Unauthorized", status=401, detail="give a token")
        answer.status_code = 401
        answer.content_type = "application/problem+json"
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    if request.headers.get("X-Pilulier-Fragment"):
        # A page that refreshes a part of itself: the script goes to the login page with the whole window.
        return Response(status=401)
    if request.method != "GET":
        return redirect(url_for("login.password"), 303)
    return redirect(url_for("login.password", next=request.full_path.rstrip("?")), 303)
