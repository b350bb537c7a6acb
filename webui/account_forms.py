"""Forms that say who a person is: address, role, the space or contract that the role hangs on, language.

Which choices there are is decided by who fills the form in: nobody is offered a role above, or a place outside of what
they see; what is not offered is refused.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import SelectField, StringField, ValidationError
from wtforms.fields import SelectChoice
from wtforms.validators import Length

from appliance.control import accounts, contract_cards, spaces
from appliance.control.account_changes import Wanted
from appliance.control.accounts import Role
from appliance.control.contract_cards import ContractName
from appliance.control.text import checked_email
from transport.errors import UsageError
from webui import context, formats
from webui.forms import CodeForm, required
from webui.rendering import ROLE_NAMES

_NONE: Final = ""
ROLE_MEANING: Final = {
    Role.CUSTOMER: _l("son contrat"),
    Role.SUPPORT: _l("lecture de l’espace"),
    Role.ADMIN: _l("tout l’espace"),
    Role.SUPER: _l("toute l’appliance"),
}


class PersonForm(CodeForm):
    """Who somebody is to be. The fields for a place are filled by `offer`, before anything else."""

    contracts: dict[str, str]
    """Ids by what is offered."""

    email = StringField(
        _l("Adresse e-mail"),
        validators=[required(), Length(max=254)],
        render_kw={"type": "email", "autocomplete": "off", "spellcheck": "false", "maxlength": "254"},
    )
    role = SelectField(_l("Rôle"), validators=[required()])
    space = SelectField(_l("Espace"), validate_choice=False)
    contract = StringField(
        _l("Contrat"),
        validators=[Length(max=300)],
        render_kw={"list": "contract-names", "autocomplete": "off", "spellcheck": "false"},
    )
    language = SelectField(
        _l("Langue des pages et des e-mails"), choices=[SelectChoice(*one) for one in formats.LANGUAGES.items()]
    )

    def offer(self) -> None:
        """Fill in what the reader may choose among."""
        me, scope, db = context.me(), context.scope(), context.db()
        self.role.choices = [
            SelectChoice(str(role), f"{ROLE_NAMES[role]} – {meaning}")
            for role, meaning in ROLE_MEANING.items()
            if accounts.may_give(me, role)
        ]
        known = spaces.in_scope(db, scope)
        self.space.choices = [SelectChoice(space.id, space.name) for space in known]
        if len(known) > 1:
            self.space.choices.insert(0, SelectChoice(_NONE, _("Choisissez un espace")))
        self.contracts = contract_labels(contract_cards.names(db, scope), with_space=len(known) > 1)
        for label, contract_id in self.contracts.items():
            if self.contract.data == contract_id:
                self.contract.data = label

    @property
    def wanted_role(self) -> Role:
        """The role that was chosen, after validation."""
        return Role(self.role.data)

    def wanted(self) -> Wanted:
        """All of it, after validation."""
        role = self.wanted_role
        return Wanted(
            email=self.email.data,
            role=role,
            space_id=self.space.data if role in (Role.ADMIN, Role.SUPPORT) else None,
            contract_id=self.contracts[self.contract.data] if role is Role.CUSTOMER else None,
            language=self.language.data,
        )

    def validate_email(self, field: Any) -> None:
        """Of the form of an address."""
        try:
            field.data = checked_email(field.data)
        except UsageError:
            raise ValidationError(_("Ce n’est pas une adresse e-mail : écrivez par exemple nom@exemple.fr.")) from None

    def validate_space(self, field: Any) -> None:
        """One of those offered, where the role hangs on a space."""
        if self.role.data in (Role.ADMIN, Role.SUPPORT) and not (
            field.data and any(field.data == choice.value for choice in field.choices)
        ):
            raise ValidationError(_("Choisissez l’espace auquel ce compte appartient."))

    def validate_contract(self, field: Any) -> None:
        """One of those offered, where the role hangs on a contract; capitals do not matter."""
        typed = (field.data or "").strip()
        if self.role.data != Role.CUSTOMER or typed in self.contracts:
            field.data = typed
            return
        alike = [label for label in self.contracts if label.casefold() == typed.casefold()]
        if len(alike) == 1:
            field.data = alike[0]
        elif typed and any(label.casefold().startswith(typed.casefold() + " (") for label in self.contracts):
            raise ValidationError(_("Plusieurs contrats portent ce nom : choisissez l’une des lignes proposées."))
        else:
            raise ValidationError(_("Choisissez le contrat que ce client verra, parmi ceux proposés."))


def contract_labels(names: list[ContractName], *, with_space: bool) -> dict[str, str]:
    """Ids of contracts by what is shown of them; those called alike are told apart by e-mail, at the worst by id."""

    def plain(one: ContractName) -> str:
        return f"{one.client_id} – {one.space_name}" if with_space else one.client_id

    def longer(one: ContractName) -> str:
        return f"{plain(one)} ({one.email})"

    plain_count, longer_count = Counter(map(plain, names)), Counter(map(longer, names))
    labels: dict[str, str] = {}
    for one in names:
        if plain_count[plain(one)] == 1:
            labels[plain(one)] = one.id
        elif longer_count[longer(one)] == 1:
            labels[longer(one)] = one.id
        else:
            labels[f"{plain(one)} ({one.id})"] = one.id
    return labels
