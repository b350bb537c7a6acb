"""The gate: closed by default. Every endpoint says who may enter, or it is in the short list of open ones.

Rules: a stranger is led to the login page, from an address that exists or not, so that they learn nothing. Someone of
the wrong role gets 403. Someone of the right role who names another tenant's thing gets 404, which the scope of the
query sees to, not the gate. Under /api/v1 there are no people: a bearer token opens what it is good for and nothing
else does, least of all a cookie, so that no page of another site can act there in somebody's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from flask import Flask, Response, abort, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager

from appliance.control import accounts, api_tokens, sessions
from appliance.control.accounts import Role
from appliance.control.api_tokens import ApiToken, Permission
from appliance.errors import NotFoundError
from webui import context, problems
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
        "api.openapi",
    }
)
"""What a stranger may ask for. Metrics ask for a token of their own."""

API: Final = "/api/v1"
_ROLES: Final = "allowed_roles"
_NEEDS: Final = "needed_permission"
View = TypeVar("View", bound=Callable[..., ResponseReturnValue])


def allow(roles: frozenset[Role]) -> Callable[[View], View]:
    """Say who may enter a view. Goes between the route and the function."""

    def mark(view: View) -> View:
        setattr(view, _ROLES, roles)
        return view

    return mark


def needs(permission: Permission | None) -> Callable[[View], View]:
    """Say what a token must be good for to enter a view of the API; None for any live token."""

    def mark(view: View) -> View:
        setattr(view, _NEEDS, frozenset() if permission is None else frozenset({permission}))
        return view

    return mark


def permissions_of(app: Flask, endpoint: str) -> frozenset[Permission] | None:
    """What a token must be good for to enter; None where no token enters."""
    return getattr(app.view_functions.get(endpoint), _NEEDS, None)


def is_api(path: str) -> bool:
    """Whether an address belongs to the API."""
    return path == API or path.startswith(API + "/")


def roles_of(app: Flask, endpoint: str) -> frozenset[Role]:
    """Who may enter an endpoint; nobody where it does not say."""
    return getattr(app.view_functions.get(endpoint), _ROLES, frozenset())


def unguarded(app: Flask) -> list[str]:
    """Endpoints that are neither open nor say who may enter: the application refuses to start with one."""
    return sorted(
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint not in OPEN
        # Each side of the house has its own way in, and no view has both.
        and (
            permissions_of(app, rule.endpoint) is None
            if is_api(rule.rule)
            else not roles_of(app, rule.endpoint) or permissions_of(app, rule.endpoint) is not None
        )
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
        if is_api(request.path):
            return check_token(app)
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
    if request.headers.get("X-Pilulier-Fragment"):
        # A page that refreshes a part of itself: the script goes to the login page with the whole window.
        return Response(status=401)
    if request.method != "GET":
        return redirect(url_for("login.password"), 303)
    return redirect(url_for("login.password", next=request.full_path.rstrip("?")), 303)


def _shown_token() -> ApiToken | None:
    """The token of the request's Authorization header; nothing else counts."""
    kind, _blank, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not text.strip():
        return None
    return api_tokens.presented(context.db(), text.strip(), address=context.address(), now=context.now())


def check_token(app: Flask) -> ResponseReturnValue | None:
    """The gate's other door, for programs."""
    token = _shown_token()
    if token is None:
        return problems.problem(
            401, "token", "give a live token as 'Authorization: Bearer …'", WWW_Authenticate="Bearer"
        )
    g.api_token = token
    if request.endpoint is None:
        # No view runs: what Flask says of it, 404 or 405, follows.
        return None
    needed = permissions_of(app, request.endpoint)
    if needed is None:
        abort(404)
    if needed - token.permissions:
        missing = ", ".join(sorted(needed - token.permissions))
        return problems.problem(403, "permission", f"this token lacks the permission {missing}")
    return None
