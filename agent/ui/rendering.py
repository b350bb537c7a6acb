"""What every template may use: formats, the tabs, which of them is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, request
from flask_babel import lazy_gettext as _l

from agent.ui import disk_tree, formats
from agent.ui.machine import this
from agent.ui.translation import LANGUAGES
from transport.errors import PilulierError


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab: where it leads, what it is called, its icon."""

    endpoint: str
    label: Any
    icon: str

    @property
    def group(self) -> str:
        """Its blueprint, by which the open one is known."""
        return self.endpoint.partition(".")[0]


TABS: Final = (
    Tab("backups.index", _l("Sauvegarde"), "shield-check"),
    Tab("restores.index", _l("Restauration"), "arrow-counterclockwise"),
    Tab("journals.index", _l("Journal"), "journal-text"),
    Tab("settings_page.index", _l("Réglages"), "sliders"),
)


_PARTS: Final = {
    "sent_here": "restores",
    **dict.fromkeys(("safeguards", "limits_page", "copies"), "settings_page"),
}
"""Blueprints whose pages belong to another's tab."""


def install(app: Flask) -> None:
    """Give templates their words."""
    app.jinja_env.filters.update(
        size=formats.size,
        count=formats.count,
        percent=formats.percent,
        duration=formats.duration,
        clock=formats.clock,
        moment=formats.moment,
        plainly=formats.plainly,
        day_long=formats.day_long,
        month=formats.month,
        weekday=formats.weekday,
        weekday_short=formats.weekday_short,
        iso=formats.iso,
        token=disk_tree.token_of,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.context_processor
    def page() -> dict[str, Any]:
        try:
            name = this().settings().name
        except PilulierError:
            name = ""
        return {
            "language": formats.language(),
            "LANGUAGES": LANGUAGES,
            "tabs": TABS,
            "here": _PARTS.get(request.blueprint or "", request.blueprint or ""),
            "machine_name": name,
        }
