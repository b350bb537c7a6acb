"""The audit log: who did what, when and from where; searched, exported, its chain walked.

An admin reads the lines of their own space, a super-user all of them or those of the space in focus. Reading leaves no
line of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from flask import Blueprint, Response, render_template, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import StringField, ValidationError
from wtforms.validators import Length

from appliance.control import audit
from appliance.control.audit import Act, Verification
from webui import audit_words, context, formats
from webui.forms import Form
from webui.gate import MANAGERS, allow
from webui.tables import Cell, csv_stream

blueprint = Blueprint("audit", __name__)
PER_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Search:
    """What the address asks for. `problem` says what was wrong with its dates."""

    text: str
    kind: str
    email: str
    first: date | None
    last: date | None
    problem: str

    @property
    def terms(self) -> dict[str, Any]:
        """The words that `audit.search` and `audit.export` take."""
        return {
            "text": self.text,
            "kind": self.kind or None,
            "email": self.email or None,
            "since": None if self.first is None else formats.day_begins(self.first),
            "until": None if self.last is None else formats.day_begins(self.last + timedelta(days=1)),
        }

    @property
    def query(self) -> dict[str, str]:
        """The words of an address that asks for the same."""
        known = {"text": self.text, "kind": self.kind, "who": self.email}
        known |= {"from": str(self.first or ""), "to": str(self.last or "")}
        return {name: value for name, value in known.items() if value}

    @property
    def is_narrowed(self) -> bool:
        """Whether anything is asked for at all."""
        return bool(self.query)


def _date(name: str) -> date | None:
    text = request.args.get(name, "").strip()
    found = date.fromisoformat(text) if text else None
    if found and not 1970 < found.year < 9999:
        raise ValueError(text)
    return found


def _search() -> Search:
    problem = ""
    first = last = None
    try:
        first, last = _date("from"), _date("to")
    except ValueError:
        problem = _("Cette date n’en est pas une : choisissez-la dans le calendrier.")
    if first and last and first > last:
        problem = _("La période commence après sa fin : inversez les deux dates.")
        first = last = None
    text, kind, who = (request.args.get(name, "").strip()[:200] for name in ("text", "kind", "who"))
    return Search(text, kind, who, first, last, problem)


@blueprint.get("/audit")
@allow(MANAGERS)
def index() -> ResponseReturnValue:
    """Acts, newest first."""
    db, scope, chosen = context.db(), context.scope(), _search()
    before = request.args.get("before", type=int)
    if before is not None and not 0 < before < 2**62:
        before = None
    page = audit.search(db, scope, **chosen.terms, before=before, limit=PER_PAGE)
    kinds = sorted(((kind, audit_words.kind_word(kind)) for kind in audit.kinds(db, scope)), key=lambda pair: pair[1])
    return render_template(
        "audit/list.html",
        title=_("Journal d’audit"),
        chosen=chosen,
        page=page,
        before=before,
        kinds=kinds,
        authors=audit.authors(db, scope),
        words=audit_words,
    )


@blueprint.get("/audit.csv")
@allow(MANAGERS)
def export_csv() -> ResponseReturnValue:
    """What the search finds, oldest first, for spreadsheets."""
    columns = (
        *(_("Ligne"), _("Date"), _("Compte"), _("Rôle"), _("Adresse"), _("Acte"), _("Code de l’acte"), _("Objet")),
        *(_("Nom"), _("Identifiant"), _("Avant"), _("Après"), _("Empreinte")),
    )

    def row(act: Act) -> list[Cell]:
        return [
            *(act.line, formats.stamp(act.at), act.email, audit_words.role_word(act.role), act.address),
            *(audit_words.kind_word(act.kind), act.kind, audit_words.object_word(act.object_kind)),
            *(act.object_name, act.object_id, act.before, act.after, act.hash.hex()),
        ]

    acts = audit.export(context.db(), context.scope(), **_search().terms)
    return csv_stream(f"audit-{_today()}.csv", columns, map(row, acts))


@blueprint.get("/audit.json")
@allow(MANAGERS)
def export_json() -> ResponseReturnValue:
    """The same as JSON: every column of the chain, so that others can check it (`appliance/control/audit.py`)."""
    acts = audit.export(context.db(), context.scope(), **_search().terms)
    answer = Response(stream_with_context(_array(acts)), mimetype="application/json")
    answer.headers["Content-Disposition"] = f'attachment; filename="audit-{_today()}.json"'
    return answer


def _today() -> str:
    return formats.local_day(context.now()).isoformat()


def _array(acts: Iterator[Act]) -> Iterator[str]:
    """A JSON array, an act a line. Times are whole milliseconds, as they were hashed."""
    start = "[\n"
    for act in acts:
        known = {
            name: getattr(act, name)
            for name in (
                *("line", "account_id", "email", "role", "address", "kind", "object_kind", "object_id", "object_name"),
                *("space_id", "contract_id", "before", "after"),
            )
        }
        known |= {"at_ms": round(act.at * 1000), "hash": act.hash.hex()}
        yield start + json.dumps(known, ensure_ascii=False, sort_keys=True)
        start = ",\n"
    yield "[]\n" if start == "[\n" else "\n]\n"


class VerifyForm(Form):
    """A head that somebody noted, if they did."""

    head = StringField(
        _l("Empreinte notée lors d’une vérification précédente (facultatif)"),
        validators=[Length(max=100)],
        render_kw={"spellcheck": "false", "autocomplete": "off"},
    )

    def validate_head(self, field: Any) -> None:
        """64 hexadecimal digits, or nothing."""
        text = field.data or ""
        try:
            right = not text.strip() or len(bytes.fromhex(text)) == 32
        except ValueError:
            right = False
        if not right:
            raise ValidationError(_("Une empreinte compte 64 chiffres hexadécimaux : recopiez-la telle quelle."))


@blueprint.route("/audit/verify", methods=["GET", "POST"])
@allow(MANAGERS)
def verify() -> ResponseReturnValue:
    """Walk the whole chain; changes nothing, and says which line is the first that does not hold."""
    form = VerifyForm()
    found: Verification | None = None
    if form.validate_on_submit():
        known = bytes.fromhex(form.head.data) if (form.head.data or "").strip() else None
        found = audit.verify(context.db(), known)
    return render_template("audit/verify.html", title=_("Vérifier le journal d’audit"), form=form, found=found)
