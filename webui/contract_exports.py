"""Reversibility in the web: asking for the export of a contract behind a code, and fetching it while it is kept.

What is exported is sealed and holds no key, so fetching it opens nothing; both acts have their line all the same.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from appliance import export_job, jobs
from appliance.control import acts, contract_cards, contract_exports
from appliance.control.contract_exports import KEPT_DAYS, ExportState
from appliance.errors import ConflictError, NotFoundError
from webui import context, formats
from webui.contracts import of_address
from webui.forms import CodeForm, confirmed, has_grant, spend
from webui.gate import MANAGERS, allow

blueprint = Blueprint("contract_exports", __name__)
EXPORT: Final = "contract.export"


@blueprint.route("/contracts/<contract_id>/export", methods=["GET", "POST"])
@allow(MANAGERS)
def index(contract_id: str) -> ResponseReturnValue:
    """What an export is, the request for one, and those that can be fetched."""
    db, now = context.db(), context.now()
    contract = of_address(contract_id)
    form = CodeForm()
    found = contract_exports.of_contract(db, context.scope(), contract_id)
    waits = any(one.state is ExportState.WAITING for one in found)
    if not waits and form.validate_on_submit() and confirmed(form, EXPORT, contract_id):
        try:
            with db.write():
                if not spend(EXPORT, contract_id):
                    abort(409)
                asked = contract_exports.ask(db, contract, by=context.me().email, now=now)
                acts.note(db, context.actor(), "contract.export", contract, now=now, after={"export": asked.id})
        except ConflictError:
            flash(_("Un export de ce contrat est déjà en cours."), "warning")
        else:
            jobs.wake(context.home(), "exports")
            flash(_("L’export est demandé : il sera prêt ici, et un e-mail le dira."), "success")
        return redirect(url_for("contract_exports.index", contract_id=contract_id), 303)
    return render_template(
        "contracts/export.html",
        contract=contract,
        card=contract_cards.one(db, context.scope(), contract_id, now),
        form=form,
        granted=has_grant(EXPORT, contract_id),
        exports=found,
        waits=waits,
        kept_days=KEPT_DAYS,
    )


@blueprint.get("/contracts/<contract_id>/export/<export>")
@allow(MANAGERS)
def fetch(contract_id: str, export: str) -> ResponseReturnValue:
    """The tar, in parts where a download goes on after a broken line."""
    db = context.db()
    contract = of_address(contract_id)
    found = contract_exports.find(db, context.scope(), contract_id, export)
    path = export_job.file_of(context.home(), found.id)
    if found.state is not ExportState.DONE or not path.is_file():
        raise NotFoundError("this export is not there any more")
    # Each request: a part of it is asked for as easily as the whole.
    with db.write():
        told = {"export": found.id}
        acts.note(db, context.actor(), "contract.export-fetch", contract, now=context.now(), after=told)
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in contract.client_id)[:40]
    day = formats.local_day(found.requested_at).isoformat()
    return send_file(
        path,
        mimetype="application/x-tar",
        as_attachment=True,
        download_name=f"export-{safe}-{day}.tar",
        conditional=True,
        etag=found.id,
    )
