"""What the web wants of a machine: what it backs up, when, in which language.

Parses the form, shows what a selection would leave out before it is saved, saves. Commands and hooks have no field
here, nor a place anywhere behind it. Whether the machine takes this over is the agent's and the customer's matter.
"""

from __future__ import annotations

import re
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, RadioField, SelectField, SelectMultipleField, StringField, TextAreaField
from wtforms.fields import SelectChoice

from appliance.control import acts, machine_settings
from appliance.control.machine_settings import MachineSettings, SelectionRules, Sync, Wanted
from appliance.control.machines import Machine
from appliance.control.selection_changes import Loss, loss
from transport.errors import UsageError
from transport.names import REMOTE_RULE_LIMIT, REMOTE_RULES_LIMIT
from transport.schedule import DAYS, EVERY_DAY, TIMES_LIMIT, Schedule
from webui import context
from webui.forms import Form, say
from webui.gate import MANAGERS, allow
from webui.machine_acts import language_choices
from webui.machines import DAY_NAMES, SYNCS, of_address

blueprint = Blueprint("machine_settings", __name__)

MACHINE: Final = "machine"
WEB: Final = "web"
_WHO: Final = [SelectChoice(MACHINE, _l("La machine décide")), SelectChoice(WEB, _l("Réglé ici"))]
_ABSOLUTE: Final = re.compile(r"/|[A-Za-z]:[/\\]")
_SPLIT: Final = re.compile(r"[,;\s]+")


class SettingsForm(Form):
    """All that can be set from here. `confirm` is asked for once the selection would leave something out."""

    selection_by = RadioField(_l("Ce qui est sauvegardé"), choices=_WHO)
    include = TextAreaField(_l("Dossiers et fichiers à sauvegarder"), render_kw={"rows": "4", "spellcheck": "false"})
    exclude = TextAreaField(_l("À exclure"), render_kw={"rows": "3", "spellcheck": "false"})
    schedule_by = RadioField(_l("Quand"), choices=_WHO)
    times = StringField(_l("Heures"), render_kw={"placeholder": "12:30, 19:00", "spellcheck": "false"})
    days = SelectMultipleField(_l("Jours"), choices=[SelectChoice(str(day), DAY_NAMES[day]) for day in EVERY_DAY])
    continuous = BooleanField(_l("Suivre les modifications en continu"))
    language = SelectField(_l("Langue"))
    impose = BooleanField(_l("Remplacer ce qui a été modifié sur la machine"))
    confirm = BooleanField(_l("Oui, réduire ce qui est sauvegardé"))


def _filled(settings: MachineSettings) -> dict[str, Any]:
    """What the form shows at first: what is wanted, else what the machine reports of its schedule."""
    wanted, report = settings.wanted, settings.report
    schedule = wanted.schedule or (report.schedule if report is not None else Schedule())
    selection = wanted.selection
    return {
        "selection_by": MACHINE if selection is None else WEB,
        "include": "" if selection is None else "\n".join(selection.include),
        "exclude": "" if selection is None else "\n".join(selection.exclude),
        "schedule_by": MACHINE if wanted.schedule is None else WEB,
        "times": ", ".join(schedule.times),
        "days": [str(day) for day in schedule.weekdays],
        "continuous": schedule.continuous,
        "language": wanted.language or "",
    }


@blueprint.route("/machines/<machine>/settings", methods=["GET", "POST"])
@allow(MANAGERS)
def edit(machine: str) -> ResponseReturnValue:
    """The form, and saving it."""
    found = of_address(machine)
    settings = machine_settings.get(context.db(), context.scope(), found.id)
    form = SettingsForm(data=_filled(settings))
    form.language.choices = language_choices()
    lost = Loss((), ())
    if form.validate_on_submit():
        selection, schedule = _selection(form), _schedule(form)
        if not form.include.errors and not form.exclude.errors and not form.times.errors and not form.days.errors:
            wanted = Wanted(selection, schedule, form.language.data or None)
            lost = loss(settings.wanted.selection, selection)
            if lost and not form.confirm.data:
                say(form.confirm, _("Cochez cette case si c’est bien ce que vous voulez."))
            else:
                _save(found, wanted, impose=bool(form.impose.data))
                flash(
                    _("Réglages enregistrés : la machine les prend dans la minute, si elle est connectée."), "success"
                )
                return redirect(url_for("machines.detail", machine=found.hex), 303)
    return render_template(
        "machines/settings.html",
        form=form,
        machine=found,
        settings=settings,
        lost=lost,
        may_impose=settings.sync is Sync.CHANGED_LOCALLY,
        SYNCS=SYNCS,
    )


def _lines(text: str | None) -> list[str]:
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def _selection(form: SettingsForm) -> SelectionRules | None:
    """The rules that were typed, None where the machine decides; errors stand beside their fields."""
    if form.selection_by.data != WEB:
        return None
    include, exclude = _lines(form.include.data), _lines(form.exclude.data)
    if not include:
        say(form.include, _("Indiquez au moins un dossier : sans cela, plus rien ne serait sauvegardé."))
    for line in include:
        if not _ABSOLUTE.match(line):
            say(
                form.include,
                _("« %(path)s » n’est pas un chemin complet, comme C:/Officine ou /srv/officine.", path=line),
            )
    for field, lines in ((form.include, include), (form.exclude, exclude)):
        if len(lines) > REMOTE_RULES_LIMIT or any(len(line) > REMOTE_RULE_LIMIT for line in lines):
            say(
                field,
                _(
                    "Au plus %(lines)s lignes de %(letters)s caractères : indiquez des dossiers entiers.",
                    lines=REMOTE_RULES_LIMIT,
                    letters=REMOTE_RULE_LIMIT,
                ),
            )
    if form.include.errors or form.exclude.errors:
        return None
    try:
        return machine_settings.checked_rules(include, exclude)
    except UsageError:
        say(form.include, _("Un de ces chemins contient des caractères qui ne se lisent pas : retapez-le."))
        return None


def _schedule(form: SettingsForm) -> Schedule | None:
    """The schedule that was typed, None where the machine decides; errors stand beside their fields."""
    if form.schedule_by.data != WEB:
        return None
    times = [time for time in _SPLIT.split(form.times.data or "") if time]
    if not form.days.data:
        say(form.days, _("Choisissez au moins un jour."))
    if not times and not form.continuous.data:
        say(form.times, _("Indiquez au moins une heure, par exemple 12:30, 19:00."))
    if len(times) > TIMES_LIMIT:
        say(form.times, _("Au plus %(limit)s heures par jour.", limit=TIMES_LIMIT))
    if form.days.errors or form.times.errors:
        return None
    try:
        days = [DAYS[int(day)] for day in form.days.data]
        return Schedule.of(times, days, continuous=bool(form.continuous.data))
    except UsageError:
        say(form.times, _("Écrivez des heures comme 12:30 ou 19h00, séparées par des virgules."))
        return None


def _told(wanted: Wanted) -> dict[str, object]:
    """For the audit log."""
    selection, schedule = wanted.selection, wanted.schedule
    return {
        "selection": selection and {"include": list(selection.include), "exclude": list(selection.exclude)},
        "schedule": schedule and {"times": schedule.times, "days": schedule.days, "continuous": schedule.continuous},
        "language": wanted.language,
    }


def _save(machine: Machine, wanted: Wanted, *, impose: bool) -> None:
    db, now = context.db(), context.now()
    with db.write():
        before = machine_settings.get(db, context.scope(), machine.id)
        after = machine_settings.save(db, context.scope(), machine.id, wanted, context.me().email, now, impose=impose)
        old, new = _told(before.wanted), _told(after.wanted)
        if impose:
            new["imposed"] = True
        if old != new:
            acts.note(db, context.actor(), "machine.settings", machine, now=now, before=old, after=new)
