"""Machines in alert: what is wrong, since when, with figures, and what to do; who answers for it; what there was.

Lists what `attention` found for the menu's number, so the two never differ. Whoever may change contracts may take an
alert in charge; it stays in sight until it is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance.control import alert_table, audit
from appliance.control.accounts import Role
from appliance.control.alert_table import AlertState, LivingAlert, Standing
from appliance.control.control_room import RoomRow
from appliance.control.machine_alerts import AlertKind, Severity
from webui import alert_texts, attention, context
from webui.alert_texts import KINDS, SEVERITIES, Told
from webui.gate import EVERYONE, MANAGERS, allow
from webui.rendering import is_fragment, safe_next

blueprint = Blueprint("alerts", __name__)

PER_PAGE: Final = 60
HISTORY: Final = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """One alert on the page: how it stands, its words, and its machine as the control room knows it."""

    standing: Standing
    told: Told
    machine: RoomRow | None


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts of one severity, or those in somebody's charge (None)."""

    severity: Severity | None
    alerts: list[Shown]


@blueprint.get("/alerts")
@allow(EVERYONE)
def index() -> ResponseReturnValue:
    """What is wrong now; `kind`, `severity` and `text` filter."""
    every = attention.alerts()
    kind, severity = _kind(request.args.get("kind", "")), _severity(request.args.get("severity", ""))
    text = request.args.get("text", "").strip()[:200]
    found = [one for one in every if _matches(one, text) and (kind is None or one.alert.kind is kind)]
    counts = {level: sum(1 for one in found if one.open and one.alert.severity is level) for level in Severity}
    in_charge = sum(1 for one in found if not one.open)
    if severity is not None:
        found = [one for one in found if one.open and one.alert.severity is severity]
    found.sort(key=lambda one: (not one.open, list(Severity).index(one.alert.severity)))
    pages = max(1, -(-len(found) // PER_PAGE))
    page = max(1, min(_number(request.args.get("page", "")), pages))
    return render_template(
        "alerts/part.html" if is_fragment() else "alerts/index.html",
        title=_("Machines en alerte"),
        groups=_groups(found[(page - 1) * PER_PAGE : page * PER_PAGE]),
        counts=counts,
        in_charge=in_charge,
        kind=kind,
        kinds={one.alert.kind for one in every},
        severity=severity,
        text=text,
        page=page,
        pages=pages,
        KINDS=KINDS,
        SEVERITIES=SEVERITIES,
    )


@blueprint.get("/alerts/history")
@allow(EVERYONE)
def history() -> ResponseReturnValue:
    """What there was, newest first."""
    found = alert_table.history(context.db(), context.scope(), limit=HISTORY)
    return render_template("alerts/history.html", title=_("Historique des alertes"), alerts=found, KINDS=KINDS)


@blueprint.post("/alerts/acknowledge")
@allow(MANAGERS)
def acknowledge() -> ResponseReturnValue:
    """Take an alert in charge."""
    kind, key = _kind(request.form.get("kind", "")), request.form.get("key", "")
    back = redirect(safe_next(request.form.get("next")) or url_for("alerts.index"), 303)
    one = next((one for one in attention.alerts() if one.alert.kind is kind and one.key == key), None)
    if kind is None:
        abort(400)
    if one is None:
        flash(_("Cette alerte n’est plus là : elle s’est résolue entre-temps."), "info")
        return back
    if one.open:
        _take(one)
        flash(
            _(
                "%(alert)s : prise en charge par %(who)s. Elle disparaîtra quand elle sera résolue.",
                alert=one.alert.machine_name or one.alert.client_id or KINDS[kind].label,
                who=context.me().email,
            ),
            "success",
        )
    return back


def _take(one: Standing) -> None:
    db, me = context.db(), context.me()
    with db.write():
        done = alert_table.acknowledge_standing(db, context.scope(), one, by=me.email, now=context.now())
        audit.write(
            db,
            context.actor(),
            "alert.acknowledge",
            now=context.now(),
            object_kind=str(done.alert.kind),
            object_id=str(done.id),
            object_name=done.alert.machine_name or done.alert.client_id,
            space_id=done.alert.space_id or None,
            contract_id=done.alert.contract_id or None,
        )


def _groups(found: list[Standing]) -> list[Group]:
    now, customer = context.now(), context.me().role is Role.CUSTOMER
    machines = {row.machine_id: row for row in attention.machines()}
    groups: list[Group] = []
    for one in found:
        severity = one.alert.severity if one.open else None
        if not groups or groups[-1].severity is not severity:
            groups.append(Group(severity, []))
        told = alert_texts.tell(one.alert, now, customer=customer)
        groups[-1].alerts.append(Shown(one, told, machines.get(one.alert.machine_id or b"")))
    return groups


def _matches(one: Standing, text: str) -> bool:
    return text.lower() in f"{one.alert.machine_name} {one.alert.client_id}".lower()


def _kind(word: str) -> AlertKind | None:
    return AlertKind(word) if word in AlertKind.__members__.values() else None


def _severity(word: str) -> Severity | None:
    return Severity(word) if word in Severity.__members__.values() else None


def _number(word: str) -> int:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 7 else 1


@blueprint.app_template_global("ended_as")
def ended_as(one: LivingAlert) -> str:
    """How an alert of the history stands, in a word."""
    words = {
        AlertState.OPEN: _("Ouverte"),
        AlertState.ACKNOWLEDGED: _("Prise en charge"),
        AlertState.RESOLVED: _("Résolue"),
    }
    return str(words[one.state])
