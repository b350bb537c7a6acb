"""Writing contracts: a new one, and changing one.

Rules: what a contract keeps can be lengthened here and not shortened, since a stolen account must not be able to
thin out history: shortening is for `pilulier contract edit`, on the box itself. Who holds the keys is settled with the
first machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import RadioField, SelectField, StringField
from wtforms.fields import SelectChoice
from wtforms.validators import ValidationError

from appliance import enrolment_codes
from appliance.control import acts, contract_cards, contracts, space_settings
from appliance.control.contracts import Changes, Contract, Escrow, Notify
from appliance.control.text import checked_email, checked_line
from appliance.errors import ConflictError, NotFoundError
from appliance.store.upkeep.retention import LONGEST_DAYS, Policy
from transport.errors import UsageError
from webui import context
from webui.contracts import choosable_spaces, keep_code, of_address
from webui.fields import CountField, DayField, GigabytesField
from webui.forms import Form, required, say
from webui.gate import MANAGERS, allow
from webui.states import ESCROWS, NOTIFICATIONS, opening_choices

blueprint = Blueprint("contract_forms", __name__)

_ALLOCATED_LIMIT: Final = 9_000 * 10**12
_MACHINES_LIMIT: Final = 100_000


class ContractForm(Form):
    """What every contract has. `space` is asked only of who may choose one."""

    space = SelectField(_l("Espace"), validate_choice=False)
    client_id = StringField(_l("Client"), validators=[required()], render_kw={"maxlength": "100"})
    email = StringField(
        _l("Adresse e-mail"), validators=[required()], render_kw={"type": "email", "autocomplete": "off"}
    )
    allocated = GigabytesField(_l("Espace alloué"), validators=[required()], render_kw={"inputmode": "decimal"})
    machines = CountField(_l("Machines allouées"), validators=[required()], render_kw={"inputmode": "numeric"})
    end_date = DayField(_l("Date de fin"))
    escrow = RadioField(
        _l("Clés des machines"), choices=[SelectChoice(str(one), label) for one, label in ESCROWS.items()]
    )

    def validate_client_id(self, field: Any) -> None:
        """One line of text."""
        try:
            checked_line(field.data or "", "the client id", 100)
        except UsageError:
            raise ValidationError(_("Un nom ou un numéro, sur une ligne, de 100 caractères au plus.")) from None

    def validate_email(self, field: Any) -> None:
        """An address."""
        try:
            checked_email(field.data or "")
        except UsageError:
            raise ValidationError(_("Ce n’est pas une adresse e-mail, par exemple contact@pharmacie.fr.")) from None

    def validate_allocated(self, field: Any) -> None:
        """Within what the database keeps."""
        if field.data is not None and field.data > _ALLOCATED_LIMIT:
            raise ValidationError(_("C’est trop : au plus 9 000 000 Go."))

    def validate_machines(self, field: Any) -> None:
        """Within what the database keeps."""
        if field.data is not None and field.data > _MACHINES_LIMIT:
            raise ValidationError(_("C’est trop : au plus 100 000 machines."))


class EditForm(ContractForm):
    """What can be changed later."""

    start_date = DayField(_l("Date de début"), validators=[required()])
    notify = SelectField(
        _l("Messages au client"), choices=[SelectChoice(str(one), label) for one, label in NOTIFICATIONS.items()]
    )
    late_hours = CountField(_l("En retard après"), render_kw={"inputmode": "numeric"})
    open_days = SelectField(_l("Jours d’ouverture"))
    keep_days = CountField(_l("Conservation"), validators=[required()], render_kw={"inputmode": "numeric"})

    def validate_end_date(self, field: Any) -> None:
        """Not before the start."""
        if field.data is not None and self.start_date.data is not None and field.data < self.start_date.data:
            raise ValidationError(_("La fin précède le début."))

    def validate_late_hours(self, field: Any) -> None:
        """Up to a year."""
        if field.data is not None and not 1 <= field.data <= contracts.LATE_HOURS_LIMIT:
            raise ValidationError(_("Entre 1 et 8 760 heures, ou rien pour le réglage de l’espace."))


@blueprint.route("/contracts/new", methods=["GET", "POST"])
@allow(MANAGERS)
def new() -> ResponseReturnValue:
    """A new contract, and the code of its first machine."""
    choosable = choosable_spaces()
    form = ContractForm(
        allocated=contracts.DEFAULT_ALLOCATED_BYTES,
        machines=contracts.DEFAULT_MACHINE_QUOTA,
        escrow=str(Escrow.CONFIDED),
        space=choosable[0].id if choosable else "",
    )
    form.space.choices = [SelectChoice(space.id, space.name) for space in choosable]
    if form.validate_on_submit():
        space_id = _space(form)
        if space_id is None:
            say(form.space, _("Choisissez l’un des espaces."))
        else:
            contract = _add(form, space_id)
            return redirect(url_for("contracts.detail", contract_id=contract.id), 303)
    return render_template("contracts/new.html", form=form, spaces=choosable)


def _space(form: ContractForm) -> str | None:
    """The space of the new contract: the reader's own, or the chosen one."""
    own = context.me().space_id or context.focus()
    if own is not None:
        return own
    return form.space.data if form.space.data in [choice.value for choice in form.space.choices] else None


def _add(form: ContractForm, space_id: str) -> Contract:
    db, now = context.db(), context.now()
    settings = space_settings.of_space(db, space_id)
    namesakes = contract_cards.search(db, context.scope(), now, text=form.client_id.data.strip(), space_id=space_id)
    with db.write():
        contract = contracts.add(
            db,
            space_id=space_id,
            client_id=form.client_id.data,
            email=form.email.data,
            now=now,
            allocated_bytes=form.allocated.data,
            machine_quota=form.machines.data,
            end_date=form.end_date.data,
            escrow=Escrow(form.escrow.data),
            retention=Policy(keep_days=settings.keep_days, floor_days=settings.floor_days),
        )
        code = enrolment_codes.issue(context.home(), db, contract, now)
        acts.note(db, context.actor(), "contract.add", contract, now=now, after=acts.changed_from_nothing(contract))
    keep_code(contract.id, code)
    flash(_("Le contrat de %(client)s est créé.", client=contract.client_id), "success")
    if any(card.client_id.lower() == contract.client_id.lower() for card in namesakes.cards):
        flash(_("Ce client avait déjà un contrat : celui-ci s’y ajoute."), "warning")
    return contract


@blueprint.route("/contracts/<contract_id>/edit", methods=["GET", "POST"])
@allow(MANAGERS)
def edit(contract_id: str) -> ResponseReturnValue:
    """Change a contract."""
    contract = of_address(contract_id)
    form = EditForm(
        client_id=contract.client_id,
        email=contract.email,
        allocated=contract.allocated_bytes,
        machines=contract.machine_quota,
        start_date=contract.start_date,
        end_date=contract.end_date,
        escrow=str(contract.escrow),
        notify=str(contract.notify),
        late_hours=contract.late_hours,
        open_days=contract.open_days or "",
        keep_days=contract.retention.keep_days,
    )
    form.space.choices = []
    form.open_days.choices = [SelectChoice("", _("Ceux de l’espace")), *opening_choices(contract.open_days)]
    has_machines = contracts.usage(context.db(), contract.id).machines_total > 0
    if has_machines:
        # Their keys are what they are: the form does not show the field, and a crafted one changes nothing.
        form.escrow.data = str(contract.escrow)
    if form.validate_on_submit() and _lengthens(form, contract):
        try:
            _change(form, contract_id)
        except ConflictError:
            say(form.escrow, _("Une machine vient d’être enrôlée : le choix des clés ne change plus."))
        else:
            flash(_("Le contrat est modifié."), "success")
            return redirect(url_for("contracts.detail", contract_id=contract.id), 303)
    settings = space_settings.of_space(context.db(), contract.space_id)
    return render_template(
        "contracts/edit.html", form=form, contract=contract, has_machines=has_machines, settings=settings
    )


def _lengthens(form: EditForm, contract: Contract) -> bool:
    """Whether what is kept does not get shorter; if it does, the form says why not."""
    if contract.retention.keep_days <= form.keep_days.data <= LONGEST_DAYS:
        return True
    say(
        form.keep_days,
        _(
            "Entre %(least)s et %(most)s jours : raccourcir la conservation se fait sur le serveur lui-même.",
            least=contract.retention.keep_days,
            most=LONGEST_DAYS,
        ),
    )
    return False


def _change(form: EditForm, contract_id: str) -> None:
    db, now = context.db(), context.now()
    with db.write():
        before = contracts.find(db, context.scope(), contract_id)
        if before.id != contract_id:
            raise NotFoundError("this contract is gone")
        escrow = Escrow(form.escrow.data)
        if escrow is not before.escrow and contracts.usage(db, before.id).machines_total:
            raise ConflictError("the contract has machines whose keys are as they are")
        changes = Changes(
            client_id=form.client_id.data,
            email=form.email.data,
            allocated_bytes=form.allocated.data,
            machine_quota=form.machines.data,
            start_date=form.start_date.data,
            end_date=form.end_date.data,
            no_end_date=form.end_date.data is None,
            escrow=escrow,
            retention=replace(before.retention, keep_days=max(before.retention.keep_days, form.keep_days.data)),
            notify=Notify(form.notify.data),
            late_hours=form.late_hours.data,
            no_late_hours=form.late_hours.data is None,
            open_days=form.open_days.data or None,
            no_open_days=not form.open_days.data,
        )
        after = contracts.edit(db, before, changes)
        old, new = acts.changed(before, after)
        if new:
            acts.note(db, context.actor(), "contract.edit", after, now=now, before=old, after=new)
