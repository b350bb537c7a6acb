"""Parts of the tab Réglages that guard against loss: decoys against ransomware, and the recovery sheet.

The sheet holds the machine's key in clear, and a counter's PC is often left alone with its screen: it is shown only
within a code's quarter of an hour.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale
from flask_babel import gettext as _

from agent import canaries
from agent.enrolling import enrolled
from agent.recovery_sheet import sheet_of
from agent.settings import exclusive
from agent.sheet_page import page
from agent.system.language import machine_language
from agent.ui.codes import show_code
from agent.ui.disk_tree import path_of, shown_name, token_of
from agent.ui.failures import explained_error
from agent.ui.gate import FRAMELESS
from agent.ui.machine import Machine, this
from transport.errors import PilulierError

blueprint = Blueprint("safeguards", __name__, url_prefix="/settings")

SHEET_POLICY: Final = f"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; {FRAMELESS}"


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder with decoys: how many, and whether somebody touched one."""

    name: str
    token: str
    decoys: int
    touched: bool


def watched(machine: Machine) -> list[Watched]:
    """The folders with decoys, as the last backup saw them."""
    folders: dict[bytes, list[canaries.Canary]] = {}
    for canary in canaries.load(machine.home):
        folders.setdefault(os.path.dirname(canary.path), []).append(canary)
    return [
        Watched(shown_name(folder), token_of(folder), len(found), any(one.touched for one in found))
        for folder, found in sorted(folders.items())
    ]


def offered(machine: Machine) -> list[tuple[str, str]]:
    """Folders that are backed up and have none yet."""
    have = {os.path.dirname(canary.path) for canary in canaries.load(machine.home)}
    chosen = machine.settings().selection.include
    return [(shown_name(path), token_of(path)) for path in chosen if path not in have and os.path.isdir(path)]


@blueprint.post("/decoys")
def decoys() -> ResponseReturnValue:
    """Put decoys into a folder, or take them away."""
    machine = this()
    try:
        folder = path_of(request.form.get("folder", ""))
        key = enrolled(machine.home).sealer().keys.content
        with exclusive(machine.home, "canary"):
            if request.form.get("act") == "remove":
                done = canaries.remove(machine.home, folder, key)
                if done.left:
                    flash(
                        _(
                            "Ces leurres restent en place, modifiés ou hors d’atteinte : %(names)s",
                            names=", ".join(shown_name(path) for path in done.left),
                        ),
                        "warning",
                    )
                else:
                    flash(_("Les leurres ont été retirés."), "success")
            else:
                canaries.place(machine.home, folder, key)
                flash(_("Les leurres sont posés : laissez-les tels quels."), "success")
    except ValueError:
        flash(_("Indiquez un dossier."), "warning")
    except PilulierError as error:
        flash(explained_error(error), "warning")
    return redirect(url_for("settings_page.index", _anchor="decoys"), 303)


@blueprint.get("/sheet")
def sheet() -> ResponseReturnValue:
    """The recovery sheet, to be printed; the code first."""
    machine = this()
    if not machine.restores.open_s():
        return render_template("settings_page/sheet.html", account=machine.account, errors={})
    owner = enrolled(machine.home)
    made = sheet_of(owner, round(time.time() * 1000))
    response = Response(page(made, machine_language(str(get_locale() or ""))), mimetype="text/html")
    response.headers["Content-Security-Policy"] = SHEET_POLICY
    return response


@blueprint.post("/sheet")
def ask_sheet() -> ResponseReturnValue:
    """A code for it."""
    machine = this()
    account = request.form.get("account", "").strip()[:254]
    errors = show_code(machine, account, request.form.get("code", ""))
    if errors:
        return render_template("settings_page/sheet.html", account=account, errors=errors)
    return redirect(url_for(".sheet"), 303)
