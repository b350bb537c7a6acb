"""Certificates of erasure: listed, shown as a page to print in the reader's language, handed out as a signed file.

The page says what the file says; the file is what the appliance's identity signed.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l

from appliance.control import certificates
from webui import context
from webui.gate import MANAGERS, allow

blueprint = Blueprint("certificates", __name__)

KINDS: Final = {"contract": _l("Contrat"), "machine": _l("Machine"), "space": _l("Espace")}
MODES: Final = {"confided": _l("clé confiée"), "private": _l("clé privée")}


@blueprint.get("/certificates")
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """What was erased, newest first."""
    found = certificates.listed(context.db(), context.scope())
    return render_template("certificates/index.html", certificates=found, kinds=KINDS)


@blueprint.get("/certificates/<certificate>")
@allow(MANAGERS)
def show(certificate: str) -> ResponseReturnValue:
    """One, to read and to print."""
    found = certificates.find(context.db(), context.scope(), certificate)
    return render_template(
        "certificates/show.html", certificate=found, one=found.statement, kinds=KINDS, modes=MODES
    )


@blueprint.get("/certificates/<certificate>/file")
@allow(MANAGERS)
def file(certificate: str) -> ResponseReturnValue:
    """The signed statement, as `pilulier certificate verify` reads it."""
    found = certificates.find(context.db(), context.scope(), certificate)
    answer = Response(certificates.as_file(found.signed), mimetype="application/json")
    answer.headers["Content-Disposition"] = f'attachment; filename="certificate-{found.id}.json"'
    return answer
