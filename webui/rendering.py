"""What every template may use: formats, icons, the menu, who is logged in.

Owns the menu's entries and who sees them; the gate, not the menu, decides who may enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from flask import Flask, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from appliance.control import spaces
from appliance.control.accounts import Role
from appliance.control.spaces import Space
from webui import attention, context, formats, places
from webui.gate import EVERYONE, MANAGERS, OPERATORS, STAFF
from webui.icons import icon


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a menu: where it leads (an endpoint), what it is called, its icon, who sees it."""

    endpoint: str
    label: Any
    icon: str
    roles: frozenset[Role]

    @property
    def group(self) -> str:
        """The blueprint, by which the present entry is known."""
        return self.endpoint.partition(".")[0]


MENU: Final = (
    Entry("control_room.index", _l("Salle de contrôle"), "grid-1x2", EVERYONE),
    Entry("contracts.index", _l("Gestion des contrats"), "collection", STAFF),
    Entry("contracts.index", _l("Mon contrat"), "file-earmark-text", EVERYONE - STAFF),
    Entry("running.index", _l("Sauvegardes en cours"), "arrow-repeat", EVERYONE),
    Entry("alerts.index", _l("Machines en alerte"), "exclamation-triangle", EVERYONE),
    Entry("statistics.index", _l("Statistiques"), "bar-chart-line", EVERYONE),
    Entry("logs.index", _l("Logs"), "journal-text", EVERYONE),
    Entry("settings.index", _l("Réglages"), "sliders", MANAGERS),
    Entry("audit.index", _l("Journal d’audit"), "clock-history", MANAGERS),
)
TOP: Final = (
    Entry("spaces.index", _l("Gestion des espaces"), "building", OPERATORS),
    Entry("accounts.index", _l("Gestion des comptes"), "people", MANAGERS),
    Entry("system.index", _l("Super utilisateur"), "hdd-rack", OPERATORS),
)
PARTS: Final = {
    **dict.fromkeys(("machines", "machine_acts", "machine_settings"), "contracts"),
    **dict.fromkeys(("contract_forms", "contract_acts", "monthly"), "contracts"),
    **dict.fromkeys(("account_invitations", "account_requests"), "accounts"),
    "api_tokens": "settings",
}
"""Blueprints whose pages belong to the menu entry of another."""
ROLE_NAMES: Final = {
    Role.SUPER: _l("Super utilisateur"),
    Role.ADMIN: _l("Administrateur"),
    Role.SUPPORT: _l("Technicien support"),
    Role.CUSTOMER: _l("Client"),
}


def _visible(entries: tuple[Entry, ...]) -> list[Entry]:
    role = context.me().role
    return [entry for entry in entries if role in entry.roles]


def _spaces_to_choose() -> list[Space]:
    return spaces.every(context.db())


def safe_next(target: str | None) -> str | None:
    """A place within this interface to go on to after a login; None for everything else."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or len(target) > 2000:
        return None
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or any(ord(letter) < 32 for letter in target) or "\\" in target:
        return None
    return target


def is_fragment() -> bool:
    """Whether a page asks for the part of it that refreshes."""
    return bool(request.headers.get("X-Pilulier-Fragment"))


def url_with(**changes: object) -> str:
    """This page's address with some of its query changed; None takes a word away."""
    query: dict[str, object] = dict(request.args.items())
    query.update(changes)
    # Put together here: `url_for` would take some words of an address that anybody may write (`_scheme`) for its own.
    return _with_query(request.script_root + request.path, query)


def url_same(endpoint: str) -> str:
    """Another page's address with this page's query."""
    return _with_query(url_for(endpoint), dict(request.args.items()))


def _with_query(path: str, query: dict[str, object]) -> str:
    kept = {name: value for name, value in query.items() if value is not None and value != ""}
    return quote(path) + (f"?{urlencode(kept)}" if kept else "")


def install(app: Flask) -> None:
    """Give templates their words."""
    app.jinja_env.filters.update(
        size=formats.size,
        gigabytes=formats.gigabytes,
        count=formats.count,
        percent=formats.percent,
        duration=formats.duration,
        moment=formats.moment,
        moment_full=formats.moment_full,
        clock_time=formats.clock_time,
        clock_second=formats.clock_second,
        day=formats.day,
        day_long=formats.day_long,
        iso=formats.iso,
        month_name=lambda day: formats.month_name(day.year, day.month),
        ago=lambda at: formats.ago(at, context.now()),
    )
    app.jinja_env.globals.update(
        icon=icon,
        url_with=url_with,
        url_same=url_same,
        LANGUAGES=formats.LANGUAGES,
        ROLE_NAMES=ROLE_NAMES,
        timedelta=timedelta,
        to_machine=places.machine,
        to_contract=places.contract,
        to_statistics=places.statistics,
        to_logs=places.logs,
    )
    attention.install(app)
    app.jinja_env.add_extension("jinja2.ext.do")
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.context_processor
    def page() -> dict[str, Any]:
        who = context.person()
        common = {"theme": context.theme(), "now": context.now(), "language": formats.language()}
        if who is None:
            return {**common, "me": None}
        return {
            **common,
            "me": who.account,
            "may_manage": context.is_manager(),
            "is_super": who.account.role is Role.SUPER,
            "is_staff": who.account.role in STAFF,
            "menu": _visible(MENU),
            "top_menu": _visible(TOP),
            "here": PARTS.get(request.blueprint or "", request.blueprint or ""),
            "focus": context.focus(),
            "attention": attention.number,
            "spaces_to_choose": _spaces_to_choose,
            "zone_name": _("heure de Paris"),
        }
