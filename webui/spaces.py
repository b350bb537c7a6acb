"""Spaces, a reseller's tenants: what each holds, adding, renaming, deleting in seven days, and entering one.

For those who run the box. Entering narrows what a super-user sees to one space until they leave it.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import StringField, ValidationError
from wtforms.validators import Length

from appliance.control import acts, deletions, spaces
from appliance.control.deletions import Deletion, Kind
from appliance.control.scope import EVERYTHING, OneSpace
from appliance.control.spaces import Space, SpaceCard
from appliance.control.text import checked_line
from appliance.errors import ConflictError, NotFoundError
from transport.errors import UsageError
from webui import context, formats
from webui.forms import CodeForm, Form, confirmed, has_grant, required, say, spend
from webui.gate import OPERATORS, allow
from webui.rendering import safe_next

blueprint = Blueprint("spaces", __name__)

DELETE: Final = "space.delete"
NAME_LIMIT: Final = 100
_NAME_KEYS: Final = {"autocomplete": "off", "maxlength": str(NAME_LIMIT), "autofocus": True}


class NameForm(Form):
    """What a space is called."""

    name = StringField(_l("Nom de l’espace"), validators=[required(), Length(max=NAME_LIMIT)], render_kw=_NAME_KEYS)

    def validate_name(self, field: Any) -> None:
        """One line of plain text."""
        try:
            field.data = checked_line(field.data, "the name of a space", NAME_LIMIT)
        except UsageError:
            raise ValidationError(_("Ce nom contient des caractères qui ne s’impriment pas : retapez-le.")) from None


class DeleteForm(CodeForm):
    """The name once more, so that the wrong card's button destroys nothing."""

    name = StringField(
        _l("Tapez le nom de l’espace pour confirmer"),
        validators=[required(), Length(max=NAME_LIMIT)],
        render_kw=_NAME_KEYS,
    )


def _of_address(space_id: str) -> Space:
    """The space that an address names by its id; NotFoundError otherwise."""
    for space in spaces.in_scope(context.db(), OneSpace(space_id)):
        return space
    raise NotFoundError("there is no such space")


def _card(space_id: str) -> SpaceCard:
    for card in spaces.cards(context.db(), OneSpace(space_id)):
        return card
    raise NotFoundError("there is no such space")


def _waiting() -> dict[str, Deletion]:
    """The spaces that are to be deleted, by id."""
    found = deletions.pending(context.db(), EVERYTHING)
    return {deletion.object_id: deletion for deletion in found if deletion.kind is Kind.SPACE}


@blueprint.get("/spaces")
@allow(OPERATORS)
def index() -> ResponseReturnValue:
    """Every space as a card, also while one is entered."""
    return render_template(
        "spaces/index.html",
        title=_("Gestion des espaces"),
        cards=spaces.cards(context.db(), context.full_scope()),
        waiting=_waiting(),
    )


@blueprint.route("/spaces/new", methods=["GET", "POST"])
@allow(OPERATORS)
def add() -> ResponseReturnValue:
    """A new tenant."""
    form, db = NameForm(), context.db()
    if form.validate_on_submit():
        try:
            with db.write():
                space = spaces.add(db, form.name.data, context.now())
                acts.note(db, context.actor(), "space.add", space, now=context.now())
        except ConflictError:
            say(form.name, _("Un espace porte déjà ce nom : choisissez-en un autre."))
        else:
            flash(
                _("L’espace %(name)s est créé : entrez-y pour choisir son apparence, puis invitez-y un administrateur.",
                  name=space.name),
                "success",
            )  # fmt: skip
            return redirect(url_for("spaces.index"), 303)
    return render_template("spaces/name.html", title=_("Nouvel espace"), form=form, space=None)


@blueprint.route("/spaces/<space_id>/rename", methods=["GET", "POST"])
@allow(OPERATORS)
def rename(space_id: str) -> ResponseReturnValue:
    """Another name."""
    space, db = _of_address(space_id), context.db()
    form = NameForm(name=space.name)
    if form.validate_on_submit():
        try:
            with db.write():
                after = spaces.rename(db, space, form.name.data)
                if after.name != space.name:
                    before, now = {"name": space.name}, {"name": after.name}
                    acts.note(db, context.actor(), "space.rename", after, now=context.now(), before=before, after=now)
        except ConflictError:
            say(form.name, _("Un espace porte déjà ce nom : choisissez-en un autre."))
        else:
            flash(_("L’espace s’appelle maintenant %(name)s.", name=after.name), "success")
            return redirect(url_for("spaces.index"), 303)
    return render_template("spaces/name.html", title=_("Renommer l’espace"), form=form, space=space)


@blueprint.route("/spaces/<space_id>/delete", methods=["GET", "POST"])
@allow(OPERATORS)
def delete(space_id: str) -> ResponseReturnValue:
    """What a deletion does and when, and the request for it."""
    card, db, now = _card(space_id), context.db(), context.now()
    if space_id in _waiting():
        return redirect(url_for("spaces.index"), 303)
    form = DeleteForm()
    if form.validate_on_submit() and _names(form, card.space) and confirmed(form, DELETE, space_id):
        with db.write():
            if not spend(DELETE, space_id):
                abort(409)
            asked = deletions.request(db, EVERYTHING, Kind.SPACE, space_id, by=context.me().email, now=now)
            acts.note(
                db, context.actor(), "space.delete", card.space, now=now, after={"due_at": formats.iso(asked.due_at)}
            )
        flash(
            _("La suppression de %(name)s est prévue le %(day)s. D’ici là, elle peut être annulée.",
              name=card.space.name, day=formats.moment(asked.due_at)),
            "warning",
        )  # fmt: skip
        return redirect(url_for("spaces.index"), 303)
    return render_template(
        "spaces/delete.html",
        title=_("Supprimer l’espace %(name)s", name=card.space.name),
        card=card,
        form=form,
        granted=has_grant(DELETE, space_id),
        due_at=now + deletions.WAIT_S,
    )


def _names(form: DeleteForm, space: Space) -> bool:
    """Whether the space's name was typed; the form says otherwise."""
    if " ".join(form.name.data.split()).casefold() == " ".join(space.name.split()).casefold():
        return True
    say(form.name, _("Ce n’est pas le nom de cet espace : tapez « %(name)s ».", name=space.name))
    return False


@blueprint.post("/spaces/<space_id>/keep")
@allow(OPERATORS)
def keep(space_id: str) -> ResponseReturnValue:
    """Take a deletion back. Keeping destroys nothing, so it asks for no code."""
    space, db, waiting = _of_address(space_id), context.db(), _waiting().get(space_id)
    if waiting is None:
        raise NotFoundError("this deletion was cancelled or carried out already")
    with db.write():
        deletions.cancel(db, EVERYTHING, waiting.id, by=context.me().email, now=context.now())
        acts.note(db, context.actor(), "deletion.cancel", space, now=context.now())
    flash(_("La suppression de %(name)s est annulée.", name=space.name), "success")
    return redirect(url_for("spaces.index"), 303)


@blueprint.post("/focus")
@allow(OPERATORS)
def focus() -> ResponseReturnValue:
    """Narrow what the super-user sees to one space, or widen it to all again."""
    chosen = request.form.get("space", "")
    known = {space.id for space in spaces.every(context.db())}
    if chosen in known:
        session[context.FOCUS] = chosen
    else:
        session.pop(context.FOCUS, None)
    return redirect(safe_next(request.form.get("next")) or url_for("control_room.index"), 303)
