"""What a request knows: who asks, what they may see, the time, the database, the look of their space.

The one place where views get these. Rules: the scope comes from the account that the session names, never from an
address or a form; a super-user may narrow it to one space for a while, nobody can widen it. A request of the API is
asked by a token, which the gate has found, and by no person. A connection belongs to
the thread that opened it and outlives requests, since opening one costs more than most pages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app, g, request, session
from flask_login import current_user

from appliance.control import accounts, api_tokens, audit, spaces, themes
from appliance.control.accounts import Account, Role
from appliance.control.api_tokens import ApiToken
from appliance.control.audit import Actor
from appliance.control.database import Database
from appliance.control.scope import Everything, OneSpace, Scope
from appliance.control.sessions import Session
from appliance.control.themes import Theme
from appliance.opening.clients import Openers
from appliance.settings import Home

_KEY: Final = "pilulier"
FOCUS: Final = "focus"
"""In the cookie: the space to which a super-user narrowed the view. Worth nothing to anybody else."""


@dataclass(slots=True)
class Person:
    """Who is logged in, and by which session. `token` is what the cookie holds."""

    account: Account
    session: Session
    token: str

    is_authenticated: bool = True
    is_active: bool = True
    is_anonymous: bool = False

    def get_id(self) -> str:
        """What flask-login keeps in the cookie: the session's token, so that a copied cookie dies at logout."""
        return self.token

    def __repr__(self) -> str:
        return f"Person({self.account.id}, …)"


class Appliance:
    """What the application serves: a home and a clock, one database connection a thread."""

    __slots__ = ("_local", "clock", "home", "openers", "secure")

    def __init__(self, home: Home, clock: Callable[[], float], *, secure: bool) -> None:
        self.home, self.clock, self.secure = home, clock, secure
        self.openers = Openers()
        """Processes that hold a machine's key while somebody restores."""
        self._local = threading.local()

    def database(self) -> Database:
        """This thread's connection."""
        found = getattr(self._local, "database", None)
        if found is None:
            found = self._local.database = Database.open(self.home.control_db)
        return cast(Database, found)

    def close(self) -> None:
        """End this thread's connection, if it has one."""
        found = getattr(self._local, "database", None)
        if found is not None:
            found.close()
            self._local.database = None


def install(app: Flask, appliance: Appliance) -> None:
    """Give the application what it serves."""
    app.extensions[_KEY] = appliance


def appliance() -> Appliance:
    """What this application serves."""
    return cast(Appliance, current_app.extensions[_KEY])


def db() -> Database:
    """The control database."""
    return appliance().database()


def home() -> Home:
    """The appliance's home."""
    return appliance().home


def now() -> float:
    """The time of this request, seconds since 1970: the same from its first line to its last."""
    if "now" not in g:
        g.now = appliance().clock()
    return cast(float, g.now)


def token() -> ApiToken | None:
    """The token that asks, in a request of the API; None in all others."""
    return cast("ApiToken | None", g.get("api_token"))


def my_token() -> ApiToken:
    """The token that asks; only in the API, behind the gate."""
    found = token()
    assert found is not None, "a view of the API stands behind the gate"
    return found


def person() -> Person | None:
    """Who asks; None for a stranger, and for a token whatever cookies come with it."""
    if token() is not None:
        return None
    user = current_user._get_current_object()
    return user if isinstance(user, Person) else None


def me() -> Account:
    """The account that asks; only behind the gate."""
    found = person()
    assert found is not None, "a view that asks who it serves stands behind the gate"
    return found.account


def my_session() -> Session:
    """The session that asks; only behind the gate."""
    found = person()
    assert found is not None
    return found.session


def address() -> str:
    """Where the request comes from, as the server or a trusted proxy says."""
    return request.remote_addr or ""


def actor() -> Actor:
    """Who acts, for the audit log."""
    program = token()
    if program is not None:
        return api_tokens.actor_of(program, address())
    return audit.actor_of(me(), address())


def full_scope() -> Scope:
    """All that the account, or the token, may see."""
    program = token()
    if program is not None:
        return program.scope
    return accounts.scope_of(me())


def scope() -> Scope:
    """What this view shows: all that the account may see, or the space to which a super-user narrowed it."""
    full = full_scope()
    if isinstance(full, Everything) and focus() is not None:
        return OneSpace(cast(str, focus()))
    return full


def focus() -> str | None:
    """The space to which a super-user narrowed the view; None for all, and for everybody else."""
    who = person()
    chosen = session.get(FOCUS)
    if who is None or who.account.role is not Role.SUPER or not isinstance(chosen, str):
        return None
    if "focus" not in g:
        g.focus = chosen if any(space.id == chosen for space in spaces.every(db())) else None
    return cast("str | None", g.focus)


def is_manager() -> bool:
    """Whether the account may change contracts and machines of its scope."""
    return me().role in (Role.SUPER, Role.ADMIN)


def theme() -> Theme:
    """The look of the page: of the account's space, of the space in focus, else the default."""
    if "theme" not in g:
        who = person()
        space_id = None if who is None else focus() or accounts.space_of(db(), who.account)
        g.theme = themes.of_space(db(), space_id)
    return cast(Theme, g.theme)


def show_theme_of(space_id: str | None) -> None:
    """Dress a page that a stranger sees, an invitation for instance, in a space's theme."""
    g.theme = themes.of_space(db(), space_id)
