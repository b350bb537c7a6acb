"""What the pages about accounts share: lines of the audit log, names of states, names of browsers.

Knows accounts and no page.
"""

from __future__ import annotations

from typing import Final

from flask_babel import lazy_gettext as _l

from appliance.control import acts, audit
from appliance.control.accounts import Account, AccountState
from webui import context

STATES: Final = {AccountState.ACTIVE: _l("Actif"), AccountState.DISABLED: _l("Désactivé")}

_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
"""In this order: each also says the names of those below it."""
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def note(
    kind: str, account: Account, *, by: Account | None = None, before: object = None, after: object = None
) -> None:
    """A line about an account in the audit log, in the act's transaction; `by`: who acts where nobody is logged in."""
    actor = context.actor() if by is None else audit.actor_of(by, context.address())
    acts.note(context.db(), actor, kind, account, now=context.now(), before=before, after=after)


def browser_name(user_agent: str) -> str:
    """What a session was opened with, as its person would say it: "Firefox · Windows"; empty where it does not say."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return " · ".join(part for part in (browser, system) if part)


def is_telephone(user_agent: str) -> bool:
    """Whether it looks like a telephone: for the icon beside the name."""
    return any(mark in user_agent for mark in ("iPhone", "Mobile", "Android"))
