"""The states of machines and contracts as pages show them: a word, an icon, a colour, always the three together.

And what can be chosen for a contract, in words. One table for each, so that no page calls a late machine by another
name. Knows no page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Flask
from flask_babel import lazy_gettext as _l
from wtforms.fields import SelectChoice

from appliance.control import opening_days
from appliance.control.contracts import ContractState, Escrow, Notify
from appliance.control.control_room import State
from appliance.control.crossings import Why
from appliance.control.deliveries import DeliveryState


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is shown: `kind` ends the class `state-…`, `label` is the word, `icon` one of Bootstrap's.

    `tone` ends the class `tile-…`; `short` is for badges in narrow rows, `plural` for a count of many.
    """

    kind: str
    label: Any
    icon: str
    tone: str = "idle"
    short: Any = ""
    plural: Any = ""


MACHINES: Final = {
    State.FAILED: Look("failed", _l("Échec"), "x-octagon-fill", "bad"),
    State.LATE: Look("late", _l("En retard"), "clock-fill", "warn"),
    State.NEVER: Look(
        "never", _l("Jamais sauvegardée"), "dash-circle-fill", "warn", _l("Jamais"), _l("Jamais sauvegardées")
    ),
    State.WARNING: Look(
        "warning", _l("Avertissements"), "exclamation-triangle-fill", "warn", plural=_l("Avec avertissements")
    ),
    State.RUNNING: Look("running", _l("En cours"), "arrow-repeat", "busy"),
    State.OK: Look("ok", _l("À jour"), "check-circle-fill", "well"),
    State.REVOKED: Look("revoked", _l("Révoquée"), "slash-circle", plural=_l("Révoquées")),
}
CONTRACTS: Final = {
    ContractState.ACTIVE: Look("ok", _l("Actif"), "check-circle-fill"),
    ContractState.PAUSED: Look("warn", _l("En pause"), "pause-circle-fill"),
    ContractState.EXPIRED: Look("warn", _l("Échu"), "calendar-x"),
    ContractState.DELETING: Look("bad", _l("À supprimer"), "trash3-fill"),
}

DELIVERIES: Final = {
    DeliveryState.WAITING: Look("busy", _l("Attend l’accord sur la machine"), "hourglass-split"),
    DeliveryState.ACCEPTED: Look("busy", _l("Acceptée"), "hand-thumbs-up"),
    DeliveryState.RUNNING: Look("running", _l("En cours"), "arrow-repeat"),
    DeliveryState.DONE: Look("ok", _l("Restaurée"), "check-circle-fill"),
    DeliveryState.FAILED: Look("failed", _l("Interrompue"), "x-octagon-fill"),
    DeliveryState.REFUSED: Look("warn", _l("Refusée sur la machine"), "slash-circle"),
    DeliveryState.CANCELLED: Look("none", _l("Annulée"), "x-circle"),
    DeliveryState.EXPIRED: Look("none", _l("Expirée"), "calendar-x"),
}
NOT_SEALED: Final = {
    Why.APART: _l("les deux machines ne sont plus dans le même contrat"),
    Why.FORBIDDEN: _l("le contrat n’autorise pas les envois entre machines"),
    Why.REVOKED: _l("la machine qui reçoit est révoquée"),
    Why.OVER: _l("l’envoi est terminé"),
    Why.SENDER: _l("la personne qui a envoyé ne gère plus ce contrat"),
    Why.ROOM: _l("l’appliance n’a pas la place de préparer cet envoi"),
    Why.LARGE: _l("l’envoi est plus gros que prévu"),
    Why.UNREADABLE: _l("les sauvegardes n’ont pas pu être ouvertes ou lues sur l’appliance"),
}
"""Why one machine’s files were not sealed for another: what a delivery’s reason means then."""
ESCROWS: Final = {Escrow.CONFIDED: _l("Clé confiée"), Escrow.PRIVATE: _l("Clé privée")}
ESCROW_MEANING: Final = {
    Escrow.CONFIDED: _l(
        "Une copie scellée de la clé est confiée à l’hébergeur, qui peut aider à restaurer si le client perd la sienne."
    ),
    Escrow.PRIVATE: _l(
        "Seul le client détient la clé : s’il la perd, personne ne peut rouvrir ses sauvegardes, l’hébergeur non plus."
    ),
}
NOTIFICATIONS: Final = {
    Notify.ALL: _l("Tout : le bilan de chaque jour, les avertissements et les échecs"),
    Notify.WARNINGS: _l("Les avertissements et les échecs"),
    Notify.FAILURES: _l("Les échecs seulement"),
}

OPENINGS: Final = {
    opening_days.EVERY_DAY: _l("Tous les jours"),
    opening_days.checked("mon-sat"): _l("Du lundi au samedi"),
    opening_days.checked("tue-sat"): _l("Du mardi au samedi"),
    opening_days.checked("mon-fri"): _l("Du lundi au vendredi"),
}


def opening(days: str) -> str:
    """Opening days in words."""
    return str(OPENINGS.get(days) or _l("D’autres jours, choisis sur le serveur"))


def opening_choices(current: str | None) -> list[SelectChoice]:
    """The usual weeks, and what `pilulier contract edit` has set where it is another one."""
    choices = [SelectChoice(days, label) for days, label in OPENINGS.items()]
    if current and current not in OPENINGS:
        choices.append(SelectChoice(current, _l("D’autres jours, choisis sur le serveur")))
    return choices


PHASES: Final = {
    "scanning": _l("Parcours des dossiers"),
    "reading": _l("Lecture des fichiers"),
    "sending": _l("Envoi"),
    "committing": _l("Enregistrement"),
}
"""What agents call the phases of a backup."""


def phase(word: str) -> str:
    """A phase in the reader's language; what an agent of another version calls one is shown as it is."""
    return str(PHASES.get(word, word)) or "–"


def install(app: Flask) -> None:
    """Give templates the tables: `{{ look(MACHINE_STATES[row.state]) }}` with the macro of parts.html."""
    app.jinja_env.globals.update(
        MACHINE_STATES=MACHINES,
        CONTRACT_STATES=CONTRACTS,
        NOT_SEALED=NOT_SEALED,
        ESCROWS=ESCROWS,
        ESCROW_MEANING=ESCROW_MEANING,
        NOTIFICATIONS=NOTIFICATIONS,
        opening=opening,
        phase=phase,
    )
