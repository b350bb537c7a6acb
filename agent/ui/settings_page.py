"""The tab Réglages: language, and what the appliance may set from afar."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, cast, get_args

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import refresh

from agent import __version__, receiving
from agent.knocking import knock, service_runs
from agent.notice_settings import NoticeSettings, Shown
from agent.notice_words import WORDS, News
from agent.remote_settings import allowed
from agent.settings import change_settings
from agent.system import desktop
from agent.system.language import machine_language
from agent.ui import limits_page, safeguards
from agent.ui.machine import this
from agent.ui.translation import LANGUAGES
from transport.errors import UsageError

blueprint = Blueprint("settings_page", __name__, url_prefix="/settings")


def _facts() -> dict[str, Any]:
    machine = this()
    settings = machine.settings()
    return {
        "settings": settings,
        "chosen_language": settings.language,
        "system_language": LANGUAGES[machine_language()],
        "service": service_runs(machine.home),
        "version": __version__,
        "home_folder": str(machine.home.path),
        "watched": safeguards.watched(machine),
        "offered": safeguards.offered(machine),
        "copies": [],
        "asked": not settings.onsite.copies,
        "windows": limits_page.lines(settings.limits),
        "day_choices": [(code, name) for code, (_days, name) in limits_page.DAYS.items()],
        "received": str(receiving.base_folder(machine.home, settings)),
    }


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The tab."""
    return render_template("settings_page/index.html", **_facts())


@blueprint.post("/language")
def language() -> ResponseReturnValue:
    """Another language."""
    wanted = request.form.get("language", "")
    if wanted == "" or wanted in LANGUAGES:
        change_settings(this().home, lambda settings: dataclasses.replace(settings, language=wanted))
        knock(this().home)
        refresh()
        flash(_("Langue enregistrée."), "success")
    return redirect(url_for(".index"), 303)


@blueprint.post("/received")
def received() -> ResponseReturnValue:
    """Where restores that are sent here get their folders."""
    typed = request.form.get("folder", "").strip()[:4096]
    if not os.path.isabs(typed) or "\0" in typed:
        flash(_("Donnez le chemin complet, depuis la racine."), "warning")
    else:
        try:
            receiving.choose_folder(this().home, typed)
        except UsageError:
            flash(_("Ce dossier ne peut pas être créé : choisissez-en un autre."), "warning")
        else:
            flash(_("Dossier enregistré."), "success")
    return redirect(url_for(".index", _anchor="received"), 303)


@blueprint.post("/notices")
def notices() -> ResponseReturnValue:
    """What is shown on this machine's screen; or one shown now, to see whether it can be."""
    machine = this()
    if "test" in request.form:
        title, body = WORDS[machine_language(machine.settings().language)][News.FINE_AGAIN]
        if desktop.show(desktop.Notice(title, body)):
            flash(_("Un message vient d’apparaître à l’écran de ce poste."), "success")
        else:
            flash(_("Aucun écran ne l’a pris : personne n’a de session ouverte sur ce poste."), "warning")
        return redirect(url_for(".index", _anchor="notices"), 303)
    wanted = request.form.get("shown", "")
    if wanted in get_args(Shown):
        shown = NoticeSettings(cast(Shown, wanted))
        change_settings(machine.home, lambda settings: dataclasses.replace(settings, notices=shown))
        knock(machine.home)
        flash(_("Réglage enregistré."), "success")
    return redirect(url_for(".index", _anchor="notices"), 303)


@blueprint.post("/remote")
def remote() -> ResponseReturnValue:
    """Whether the appliance may set what is backed up and when, and start backups."""
    yes = request.form.get("allowed") == "yes"
    change_settings(this().home, lambda settings: allowed(settings, yes))
    knock(this().home)
    flash(
        _("Votre prestataire peut régler ce poste à distance.")
        if yes
        else _("Seul ce poste décide de ce qui est sauvegardé, et quand."),
        "success",
    )
    return redirect(url_for(".index"), 303)
