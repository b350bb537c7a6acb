"""What may be done to a machine: name, language, contract, revocation, deletion, a backup asked for now.

Each act is one transaction with its line in the audit log. Moving, revoking and deleting ask for a code: a move hands
its backups to other people, a revocation cannot be taken back, a deletion waits seven days and can.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import SelectField, StringField
from wtforms.fields import SelectChoice

from appliance.control import acts, backup_requests, contract_cards, contracts, deletions, machine_settings, machines
from appliance.control.contract_cards import Card
from appliance.control.deletions import Kind
from appliance.control.machines import NAME_LIMIT, Machine, MachineState
from appliance.errors import (
    ConflictError,
    KeyModeError,
    MachineQuotaError,
    NotFoundError,
    PausedError,
    RemoteRefusedError,
    ThrottledError,
)
from transport.errors import RefusedError, UsageError
from webui import context, formats
from webui.forms import CodeForm, Form, confirmed, has_grant, required, say, spend
from webui.gate import MANAGERS, allow
from webui.machines import of_address, room_row

blueprint = Blueprint("machine_acts", __name__)

MOVE: Final = "machine.move"
REVOKE: Final = "machine.revoke"
DELETE: Final = "machine.delete"


class NameForm(Form):
    """Another name."""

    name = StringField(_l("Nom"), validators=[required()], render_kw={"maxlength": "100", "autofocus": True})


class LanguageForm(Form):
    """Another language; empty for the contract's."""

    language = SelectField(_l("Langue"))


def language_choices() -> list[SelectChoice]:
    """The languages that an agent speaks, and none: its space's."""
    spoken = [SelectChoice(code, name) for code, name in formats.LANGUAGES.items()]
    return [SelectChoice("", _("Celle de l’espace")), *spoken]


class MoveForm(CodeForm):
    """Another contract."""

    contract = SelectField(_l("Nouveau contrat"), validate_choice=False)


def _back(machine: Machine) -> ResponseReturnValue:
    return redirect(url_for("machines.detail", machine=machine.hex), 303)


@blueprint.route("/machines/<machine>/rename", methods=["GET", "POST"])
@allow(MANAGERS)
def rename(machine: str) -> ResponseReturnValue:
    """Changer nom."""
    found = of_address(machine)
    form = NameForm(name=found.name)
    if form.validate_on_submit():
        db = context.db()
        try:
            with db.write():
                after = machines.rename(db, found, form.name.data)
                if after.name != found.name:
                    names = {"before": {"name": found.name}, "after": {"name": after.name}}
                    acts.note(db, context.actor(), "machine.rename", after, now=context.now(), **names)
        except ConflictError:
            say(form.name, _("Une autre machine de ce contrat porte ce nom : choisissez-en un autre."))
        except UsageError:
            say(form.name, _("Un nom sur une ligne, de %(limit)s caractères au plus.", limit=NAME_LIMIT))
        else:
            flash(_("La machine s’appelle maintenant %(name)s.", name=after.name), "success")
            return _back(after)
    return render_template("machines/rename.html", form=form, machine=found)


@blueprint.route("/machines/<machine>/language", methods=["GET", "POST"])
@allow(MANAGERS)
def language(machine: str) -> ResponseReturnValue:
    """Changer langue."""
    found = of_address(machine)
    form = LanguageForm(language=found.language or "")
    form.language.choices = language_choices()
    if form.validate_on_submit():
        db = context.db()
        with db.write():
            after = machines.set_language(db, found, form.language.data or None)
            if after.language != found.language:
                languages = {"before": {"language": found.language}, "after": {"language": after.language}}
                acts.note(db, context.actor(), "machine.language", after, now=context.now(), **languages)
        flash(_("La langue de %(name)s est enregistrée.", name=after.name), "success")
        return _back(after)
    return render_template("machines/language.html", form=form, machine=found)


@blueprint.route("/machines/<machine>/move", methods=["GET", "POST"])
@allow(MANAGERS)
def move(machine: str) -> ResponseReturnValue:
    """Changer contrat: among those that the reader may see."""
    found = of_address(machine)
    if deletions.of_object(context.db(), context.scope(), Kind.MACHINE, found.hex) is not None:
        # The request for it names the contract that it was made in, whose people were told.
        flash(_("Cette machine est à supprimer : annulez d’abord sa suppression."), "error")
        return _back(found)
    form = MoveForm()
    targets = _targets(found)
    names = {card.id: card for card in targets}
    form.contract.choices = [
        SelectChoice("", _("Choisissez un contrat")),
        *(SelectChoice(card.id, _named(card)) for card in targets),
    ]
    if form.validate_on_submit():
        chosen = names.get(form.contract.data)
        if chosen is None:
            say(form.contract, _("Choisissez un contrat de la liste."))
        elif confirmed(form, MOVE, found.hex):
            try:
                after = _move(found, chosen.id)
            except MachineQuotaError:
                say(form.contract, _("Ce contrat a déjà toutes ses machines : augmentez d’abord son quota."))
            except PausedError:
                say(form.contract, _("Ce contrat est en pause et n’accepte pas de machine."))
            except KeyModeError:
                say(
                    form.contract,
                    _(
                        "La clé de cette machine est confiée et ce contrat veut des clés privées : "
                        "lancez d’abord pilulier-agent key protect sur la machine."
                    ),
                )
            else:
                flash(
                    _(
                        "La machine %(name)s appartient maintenant à %(client)s.",
                        name=after.name,
                        client=chosen.client_id,
                    ),
                    "success",
                )
                return _back(after)
    here = contracts.find(context.db(), context.scope(), found.contract_id)
    granted = has_grant(MOVE, found.hex)
    return render_template("machines/move.html", form=form, machine=found, contract=here, granted=granted)


def _targets(machine: Machine) -> list[Card]:
    """The other contracts of the reader's scope, by client."""
    found: list[Card] = []
    page, pages = 1, 1
    while page <= pages:
        part = contract_cards.search(
            context.db(), context.scope(), context.now(), page=page, per_page=contract_cards.PER_PAGE_LIMIT
        )
        found += [card for card in part.cards if card.id != machine.contract_id]
        page, pages = page + 1, part.pages
    return found


def _named(card: Card) -> str:
    """A contract in a list: clients may have two, and spaces clients of the same name."""
    return f"{card.client_id} – {card.email} ({card.id})"


def _move(machine: Machine, contract_id: str) -> Machine:
    db, now = context.db(), context.now()
    with db.write():
        if not spend(MOVE, machine.hex):
            abort(409)
        target = contracts.find(db, context.scope(), contract_id)
        if target.id != contract_id:
            raise NotFoundError("this contract is gone")
        moved = {
            "before": {"contract": machine.contract_id, "name": machine.name},
            "after": {"contract": target.id},
        }
        # One line on each side: a tenant reads the log of their own contracts only.
        acts.note(db, context.actor(), "machine.move", machine, now=now, **moved)
        after = machines.move(db, machine, target)
        acts.note(db, context.actor(), "machine.move", after, now=now, **moved)
        return after


@blueprint.route("/machines/<machine>/revoke", methods=["GET", "POST"])
@allow(MANAGERS)
def revoke(machine: str) -> ResponseReturnValue:
    """Révoquer: it may never connect again, its backups stay."""
    found = of_address(machine)
    if found.state is MachineState.REVOKED:
        return _back(found)
    form = CodeForm()
    if form.validate_on_submit() and confirmed(form, REVOKE, found.hex):
        db = context.db()
        with db.write():
            if not spend(REVOKE, found.hex):
                abort(409)
            after = machines.revoke(db, found)
            states = {"before": {"state": str(found.state)}, "after": {"state": str(after.state)}}
            acts.note(db, context.actor(), "machine.revoke", after, now=context.now(), **states)
        flash(_("La machine %(name)s est révoquée : elle ne se connectera plus.", name=found.name), "warning")
        return _back(found)
    return render_template("machines/revoke.html", form=form, machine=found, granted=has_grant(REVOKE, found.hex))


@blueprint.route("/machines/<machine>/delete", methods=["GET", "POST"])
@allow(MANAGERS)
def delete(machine: str) -> ResponseReturnValue:
    """What a deletion does and when, and the request for it."""
    db, now = context.db(), context.now()
    found = of_address(machine)
    form = CodeForm()
    waiting = deletions.of_object(db, context.scope(), Kind.MACHINE, found.hex)
    if waiting is None and form.validate_on_submit() and confirmed(form, DELETE, found.hex):
        with db.write():
            if not spend(DELETE, found.hex):
                abort(409)
            asked = deletions.request(db, context.scope(), Kind.MACHINE, found.hex, by=context.me().email, now=now)
            acts.note(db, context.actor(), "machine.delete", found, now=now, after={"due_at": asked.due_at})
        flash(
            _(
                "La suppression de %(name)s est prévue le %(day)s. D’ici là, elle peut être annulée.",
                name=found.name,
                day=formats.moment(asked.due_at),
            ),
            "warning",
        )
        return _back(found)
    return render_template(
        "machines/delete.html",
        form=form,
        machine=found,
        row=room_row(found),
        granted=has_grant(DELETE, found.hex),
        waiting=waiting,
        due_at=now + deletions.WAIT_S,
    )


@blueprint.post("/machines/<machine>/backup")
@allow(MANAGERS)
def backup(machine: str) -> ResponseReturnValue:
    """Sauvegarder maintenant: the agent takes it up within a minute, if it runs."""
    db, now = context.db(), context.now()
    found = of_address(machine)
    try:
        with db.write():
            before = backup_requests.get(db, context.scope(), found.id, now)
            request = backup_requests.ask(db, context.scope(), found.id, context.me().email, now)
            if before is None or request.number != before.number:
                acts.note(db, context.actor(), "machine.backup", found, now=now)
    except PausedError:
        flash(_("Le contrat est en pause : reprenez-le avant de demander une sauvegarde."), "error")
    except RemoteRefusedError:
        flash(_("Le client refuse les ordres à distance : la sauvegarde se lance sur la machine."), "error")
    except ThrottledError:
        flash(_("Une sauvegarde vient d’être demandée : réessayez dans cinq minutes."), "error")
    except RefusedError:
        flash(_("Cette machine est révoquée : elle ne se sauvegarde plus."), "error")
    else:
        flash(_("Sauvegarde demandée : la machine s’y met dans la minute, si elle est allumée."), "success")
    return _back(found)


@blueprint.post("/machines/<machine>/accept-selection")
@allow(MANAGERS)
def accept_selection(machine: str) -> ResponseReturnValue:
    """Someone asked the customer: the smaller selection is meant, the alert ends."""
    db = context.db()
    found = of_address(machine)
    with db.write():
        machine_settings.accept_selection(db, context.scope(), found.id)
        acts.note(db, context.actor(), "machine.accept-selection", found, now=context.now())
    flash(_("La sélection réduite est acceptée : l’alerte est levée."), "success")
    return _back(found)
