"""What asks for attention in the reader's scope, asked for once a request, and its number in the menu of every page.

Rules: the number is counted at most once in `COUNT_LIFE_S` for each scope, since a wall of 2,000 machines costs more
to judge than most pages to build; any act by the web makes it count anew. A page that has asked for the machines or
alerts of its scope anyway lets the number follow from them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, cast

from flask import Flask, Response, current_app, g, request

from appliance.control import alert_table, control_room, machine_alerts, running
from appliance.control.alert_table import Standing
from appliance.control.control_room import RoomRow
from appliance.control.machine_alerts import Severity
from appliance.control.scope import Scope
from webui import context

COUNT_LIFE_S: Final = 15.0
_KEY: Final = "pilulier-attention"
_SCOPES_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class _Counted:
    at: float
    number: int


class _Counts:
    """The numbers last counted, by scope; shared by the threads of the process."""

    __slots__ = ("_lock", "_numbers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[Scope, _Counted] = {}

    def get(self, scope: Scope, now: float) -> int | None:
        with self._lock:
            found = self._numbers.get(scope)
        return found.number if found is not None and 0 <= now - found.at < COUNT_LIFE_S else None

    def put(self, scope: Scope, number: int, now: float) -> None:
        with self._lock:
            if len(self._numbers) >= _SCOPES_KEPT:
                self._numbers.clear()
            self._numbers[scope] = _Counted(now, number)

    def forget(self) -> None:
        with self._lock:
            self._numbers.clear()


def _counts() -> _Counts:
    return cast(_Counts, current_app.extensions[_KEY])


def install(app: Flask) -> None:
    """Give the application its memory of counts."""
    app.extensions[_KEY] = _Counts()

    @app.after_request
    def acted(response: Response) -> Response:
        if request.method != "GET":
            _counts().forget()
        return response


def _once(name: str, ask: Any) -> Any:
    if name not in g:
        setattr(g, name, ask())
    return getattr(g, name)


def running_ids() -> frozenset[bytes]:
    """The machines with a backup under way, in every scope."""
    return cast(
        "frozenset[bytes]", _once("running_ids", lambda: running.ids(context.home().running_file, context.now()))
    )


def machines() -> list[RoomRow]:
    """The machines in the reader's scope as the control room judges them, worst first."""
    return cast(
        "list[RoomRow]",
        _once("room_rows", lambda: control_room.rows(context.db(), context.scope(), context.now(), running_ids())),
    )


def alerts() -> list[Standing]:
    """The alerts in the reader's scope, worst first, and who answers for them."""

    def ask() -> list[Standing]:
        scope, now = context.scope(), context.now()
        derived = machine_alerts.every(context.db(), scope, now, running_ids(), machines=machines())
        found = alert_table.standing(context.db(), scope, derived)
        _counts().put(scope, _number(found), now)
        return found

    return cast("list[Standing]", _once("room_alerts", ask))


def number() -> int:
    """How many alerts ask for attention and have nobody who answers for them, for the menu."""
    if "room_alerts" not in g:
        known = _counts().get(context.scope(), context.now())
        if known is not None:
            return known
    return _number(alerts())


def _number(found: list[Standing]) -> int:
    return sum(1 for one in found if one.open and one.alert.severity is not Severity.INFO)
