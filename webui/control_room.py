"""The control room: the state of every machine at a glance, as a page, as a wall, and in a customer's own words.

One address; a page that refreshes asks for the same one and gets the part that changes. What is shown is bounded:
worst first, in pages of `PER_PAGE` machines, so that a wall of thousands is as quick as one of a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import contract_cards, control_room
from appliance.control.accounts import Role
from appliance.control.control_room import Counts, Customer, LastDay, RoomRow, SpaceVolume, State
from webui import attention, context
from webui.gate import EVERYONE, allow
from webui.rendering import is_fragment

blueprint = Blueprint("control_room", __name__)

PER_PAGE: Final = 150
"""Machines; a customer's stay together, so a page may hold a few more."""
WALL_TILES: Final = 150
SPACES_SHOWN: Final = 12
CALM: Final = frozenset({State.OK, State.RUNNING, State.REVOKED})


@dataclass(frozen=True, slots=True)
class Room:
    """What the page shows. `found` counts the machines that the filters leave."""

    counts: Counts
    day: LastDay
    volumes: list[SpaceVolume]
    used_bytes: int
    allocated_bytes: int
    customers: list[Customer]
    found: int
    page: int
    pages: int

    @property
    def troubled(self) -> list[Customer]:
        """The customers of this page that need a look."""
        return [customer for customer in self.customers if customer.worst not in CALM]

    @property
    def calm(self) -> list[Customer]:
        """The others."""
        return [customer for customer in self.customers if customer.worst in CALM]

    @property
    def share(self) -> float | None:
        """Used of allocated; None where nothing is allocated."""
        return self.used_bytes / self.allocated_bytes if self.allocated_bytes else None


@blueprint.get("/")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """The control room; `state` and `text` filter, `wall` fills a screen."""
    if context.me().role is Role.CUSTOMER:
        return _own()
    wall = bool(request.args.get("wall"))
    text = request.args.get("text", "").strip()[:200]
    state = _state(request.args.get("state", ""))
    room = _room(text, state, _number(request.args.get("page", "")), PER_PAGE if not wall else 10**9)
    template = "control_room/" + ("wall" if wall else "room") + ("_part.html" if is_fragment() else ".html")
    return render_template(
        template,
        title=_("Salle de contrôle"),
        room=room,
        state=state,
        text=text,
        tiles=WALL_TILES,
        shown_spaces=sorted(room.volumes, key=lambda one: -(one.ratio or 0.0))[:SPACES_SHOWN],
    )


def _own() -> ResponseReturnValue:
    """The control room of a customer: the own machines, in plain words."""
    machines = attention.machines()
    scope, now = context.scope(), context.now()
    card = contract_cards.one(context.db(), scope, context.me().contract_id or "", now)
    day = control_room.last_day(context.db(), scope, now)
    template = "control_room/" + ("own_part.html" if is_fragment() else "own.html")
    return render_template(
        template,
        title=_("Vos sauvegardes"),
        machines=machines,
        counts=control_room.counts(machines),
        newest=max((row.good_at for row in machines if row.good_at is not None), default=None),
        card=card,
        day=day,
    )


def _state(word: str) -> State | None:
    return State(word) if word in State.__members__.values() else None


def _number(word: str) -> int:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 7 else 1


def _room(text: str, state: State | None, page: int, per_page: int) -> Room:
    every = attention.machines()
    db, scope, now = context.db(), context.scope(), context.now()
    found = control_room.rows(db, scope, now, attention.running_ids(), text=text) if text else every
    counts = control_room.counts(found)
    if state is not None:
        found = [row for row in found if row.state is state]
    volumes = control_room.volumes(db, scope, every)
    pages = paged(control_room.by_customer(found), per_page)
    page = max(1, min(page, len(pages)))
    return Room(
        counts,
        control_room.last_day(db, scope, now),
        volumes,
        sum(one.used_bytes for one in volumes),
        sum(one.allocated_bytes for one in volumes),
        pages[page - 1],
        len(found),
        page,
        len(pages),
    )


def paged(customers: list[Customer], per_page: int) -> list[list[Customer]]:
    """Customers in pages of about so many machines, none of them torn; one empty page where there is nobody. Pure."""
    pages: list[list[Customer]] = [[]]
    held = 0
    for customer in customers:
        if held >= per_page:
            pages.append([])
            held = 0
        pages[-1].append(customer)
        held += len(customer.machines)
    return pages


@blueprint.app_template_global("attention_since")
def attention_since(row: RoomRow) -> float | None:
    """Since when a machine is in its state, as far as one moment says it."""
    return row.last_error_at if row.state is State.FAILED and row.last_error_at is not None else row.good_at
