"""Forms: the base that all share, and the one-time code that dangerous acts ask for.

Rules: what was typed stays; an error stands beside its field, in the reader's language; a control error that belongs to
a field is put there by `say`. A code is checked last, so that a slip elsewhere does not use it up, and once it was
right it need not be typed again for five minutes for the same act on the same object.
"""

from __future__ import annotations

import math
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext
from flask_wtf import FlaskForm
from wtforms import Field, StringField
from wtforms.validators import InputRequired, Length

from appliance.control import stepup
from appliance.errors import OneTimeCodeError, ThrottledError
from webui import context


class Form(FlaskForm):  # type: ignore[misc]  # untyped base
    """Every form of the interface. CSRF comes with FlaskForm."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        """WTForms' own messages come from our catalogs, as French sentences of ours where it matters."""

        locales = ("fr",)

    @property
    def problems(self) -> list[str]:
        """What concerns the form as a whole."""
        return [str(error) for error in self.form_errors]


def say(field: Field, sentence: str) -> None:
    """Put an error beside a field."""
    field.errors = [*field.errors, sentence]


def required(sentence: Any = None) -> InputRequired:
    """A field that must not be empty."""
    return InputRequired(sentence or _l("À remplir."))


def too_many(error: ThrottledError) -> str:
    """What to say to who tried too often: how long to wait, where that is known."""
    if error.wait_s <= 0:
        return str(_("Trop d’essais : réessayez dans quelques minutes."))
    return str(
        ngettext(
            "Trop d’essais : réessayez dans %(num)d minute.",
            "Trop d’essais : réessayez dans %(num)d minutes.",
            math.ceil(error.wait_s / 60),
        )
    )


class CodeForm(Form):
    """A form whose act needs a fresh code of the authenticator."""

    code = StringField(
        _l("Code à 6 chiffres de votre application d’authentification"),
        validators=[Length(max=20)],
        render_kw={"inputmode": "numeric", "autocomplete": "one-time-code", "maxlength": "10", "spellcheck": "false"},
    )


def has_grant(action: str, object_id: str) -> bool:
    """Whether the code for this act was typed already, so that the form need not ask again."""
    return stepup.holds(context.db(), context.me().id, context.my_session().id, action, object_id, context.now())


def confirmed(form: CodeForm, action: str, object_id: str, *, recovery: bool = False) -> bool:
    """Whether a fresh code stands behind this act on this object; if not, the form says why. Ask when all else is well.

    `recovery`: a recovery code will do, see `stepup`. The grant is spent by `spend`, in the transaction of the act.
    """
    if has_grant(action, object_id):
        return True
    try:
        stepup.grant(
            context.db(),
            context.me(),
            context.my_session().id,
            action,
            object_id,
            form.code.data or "",
            address=context.address(),
            now=context.now(),
            recovery=recovery,
        )
    except OneTimeCodeError:
        say(form.code, _("Ce code n’est pas le bon, ou il a déjà servi : attendez le suivant."))
        return False
    except ThrottledError as error:
        say(form.code, too_many(error))
        return False
    return True


def spend(action: str, object_id: str) -> bool:
    """Whether there was a grant; it is gone with this. Belongs into the transaction of the act."""
    return stepup.consume(context.db(), context.me().id, context.my_session().id, action, object_id, context.now())
