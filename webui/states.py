"""The states of machines and contracts as pages show them: a word, an icon, a colour, always the three together.

One table for each, so that no page calls a late machine by another name. Knows no page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Flask
from flask_babel import lazy_gettext as _l

from appliance.control.contracts import ContractState
from appliance.control.control_room import State


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is shown: `kind` ends the class `state-…`, `label` is the word, `icon` one of Bootstrap's."""

    kind: str
    label: Any
    icon: str


MACHINES: Final = {
    State.FAILED: Look("failed", _l("Échec"), "x-octagon-fill"),
    State.LATE: Look("late", _l("En retard"), "clock-fill"),
    State.NEVER: Look("never", _l("Jamais sauvegardée"), "dash-circle-fill"),
    State.WARNING: Look("warning", _l("Avertissements"), "exclamation-triangle-fill"),
    State.RUNNING: Look("running", _l("En cours"), "arrow-repeat"),
    State.OK: Look("ok", _l("À jour"), "check-circle-fill"),
    State.REVOKED: Look("revoked", _l("Révoquée"), "slash-circle"),
}
CONTRACTS: Final = {
    ContractState.ACTIVE: Look("ok", _l("Actif"), "check-circle-fill"),
    ContractState.PAUSED: Look("warn", _l("En pause"), "pause-circle-fill"),
    ContractState.EXPIRED: Look("warn", _l("Échu"), "calendar-x"),
    ContractState.DELETING: Look("bad", _l("Suppression prévue"), "trash3-fill"),
}


def install(app: Flask) -> None:
    """Give templates the tables: `{{ look(MACHINE_STATES[row.state]) }}` with the macro of parts.html."""
    app.jinja_env.globals.update(MACHINE_STATES=MACHINES, CONTRACT_STATES=CONTRACTS)
