"""Links out of mails: their token goes from the address into the cookie of this browser at once, by a redirect.

So it stands neither in the address bar nor in the history nor in what a page hands on, and a page that was opened by a
link can be sent, reloaded and translated under an address without a secret. The token itself is good once, and stored
as a hash.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from flask import redirect, render_template, session
from flask.typing import ResponseReturnValue

from appliance.control import sessions
from webui import context

_PREFIX: Final = "link-"


class Link(StrEnum):
    """What a kept token is for: one of each at a time."""

    INVITATION = "invitation"
    PASSWORD = "password"
    DEVICE = "device"


def keep(link: Link, token: str, target: str) -> ResponseReturnValue:
    """Take a token out of the address: into the cookie, and on to the page without it."""
    session[_PREFIX + link] = token
    return redirect(target, 303)


def kept(link: Link) -> str:
    """The token of this browser; empty where there is none, which no lookup finds."""
    found = session.get(_PREFIX + link)
    return found if isinstance(found, str) else ""


def used() -> None:
    """A token has done what it was for. Whoever was logged in here is not any more: it may have been another."""
    if context.person() is not None:
        sessions.end(context.db(), context.my_session().id)
    session.clear()


def gone(link: Link) -> ResponseReturnValue:
    """The page of a link that leads nowhere any more: used, expired, replaced, or never one."""
    session.pop(_PREFIX + link, None)
    return render_template("passwords/gone.html", link=link), 404
