"""Forms that say who a person is: address, role, the space or contract that the role hangs on, language.

Which choices there are is decided by who fills the form in: nobody is offered a role above, or a place outside of what
they see; what is not offered is refused.
"""

from __future__ import annotations

from typing import Any, Final

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import SelectField, StringField, ValidationError
from wtforms.validators import Length

from appliance.control import accounts, contracts, spaces
from appliance.control.account_changes import Wanted
from appliance.control.accounts import Role
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
    """Who somebody is to be. The fields for a place are filled by `offer`."""

    email = StringField(
        _l("Adresse e-mail"),
        validators=[required(), Length(max=254)],
        render_kw={"type": "email", "autocomplete": "off", "spellcheck": "false", "maxlength": "254"},
    )
    role = SelectField(_l("Rôle"), validators=[required()])
    space = SelectField(_l("Espace"), validate_choice=False)
    contract = SelectField(_l("Contrat"), validate_choice=False)
    language = SelectField(_l("Langue des pages et des e-mails"), choices=list(formats.LANGUAGES.items()))

    def offer(self) -> None:
        """Fill in what the reader may choose among."""
        me, scope, db = context.me(), context.scope(), context.db()
        self.role.choices = [
            (str(role), f"{ROLE_NAMES[role]} – {meaning}")
            for role, meaning in ROLE_MEANING.items()
            if accounts.may_give(me, role)
        ]
        known = spaces.in_scope(db, scope)
        self.space.choices = [(space.id, space.name) for space in known]
        if len(known) > 1:
            self.space.choices.insert(0, (_NONE, _("Choisissez un espace")))
        names = {space.id: space.name for space in known}
        self.contract.choices = [(_NONE, _("Choisissez un contrat"))] + sorted(
            (
                (one.id, f"{one.client_id} – {names[one.space_id]}" if len(known) > 1 else one.client_id)
                for one in contracts.every(db, scope)
                if one.space_id in names
            ),
            key=lambda choice: choice[1].casefold(),
        )

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
            contract_id=self.contract.data if role is Role.CUSTOMER else None,
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
        if self.role.data in (Role.ADMIN, Role.SUPPORT) and not _offered(field):
            raise ValidationError(_("Choisissez l’espace auquel ce compte appartient."))

    def validate_contract(self, field: Any) -> None:
        """One of those offered, where the role hangs on a contract."""
        if self.role.data == Role.CUSTOMER and not _offered(field):
            raise ValidationError(_("Choisissez le contrat que ce client verra."))


def _offered(field: Any) -> bool:
    return bool(field.data) and any(field.data == value for value, _label in field.choices)
