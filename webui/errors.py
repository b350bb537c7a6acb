"""Error pages: what went wrong, in the reader's language, and where to go on.

Rules: a page of the house's own look, never a traceback; a control error that no view expected becomes the page of its
kind, with a request number that the log repeats; under /api/v1 both are problem documents.
Views catch what they expect and say it beside the field instead: the sentences of `appliance` are English and for
operators.
"""

from __future__ import annotations

import logging

from flask import Flask, g, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from appliance.errors import ConflictError, NotFoundError, ThrottledError
from transport.errors import PilulierError, RefusedError, UsageError
from webui import problems, request_ids
from webui.gate import is_api

log = logging.getLogger("pilulier.web")


def _said(status: int) -> tuple[str, str]:
    """Title and sentence of a status."""
    known = {
        400: (_("Demande incomprise"), _("Il manque quelque chose : revenez en arrière et réessayez.")),
        403: (_("Accès refusé"), _("Votre compte n’y donne pas droit : adressez-vous à votre administrateur.")),
        404: (_("Page introuvable"), _("Cette page n’existe pas, ou ce qu’elle montrait a été supprimé.")),
        405: (_("Demande incomprise"), _("Cette adresse ne s’ouvre pas ainsi : passez par le menu.")),
        409: (_("Déjà modifié"), _("Cela a changé entre-temps : rechargez la page et réessayez.")),
        413: (_("Fichier trop volumineux"), _("Le fichier envoyé dépasse la limite : choisissez-en un plus petit.")),
        429: (_("Trop d’essais"), _("Trop de tentatives : attendez quelques minutes avant de réessayer.")),
    }
    return known.get(
        status,
        (_("Erreur interne"), _("Un imprévu s’est produit. Il est noté dans le journal du serveur.")),
    )


def page(status: int, reference: str = "") -> ResponseReturnValue:
    """The page of a status."""
    title, sentence = _said(status)
    return render_template("error.html", title=title, sentence=sentence, reference=reference, status=status), status


def status_of(error: PilulierError) -> int:
    """The status that a control error amounts to when no view expected it."""
    match error:
        case NotFoundError():
            return 404
        case ConflictError():
            return 409
        case ThrottledError():
            return 429
        case RefusedError():
            return 403
        case UsageError():
            return 400
    return 500


def install(app: Flask) -> None:
    """Answer errors with pages."""

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> ResponseReturnValue:
        if error.response is not None:
            return error.response
        if is_api(request.path):
            answer = problems.of_status(error.code or 500)
            allowed = getattr(error, "valid_methods", None)
            if allowed:
                answer.headers["Allow"] = ", ".join(sorted(allowed))
            return answer
        return page(error.code or 500)

    @app.errorhandler(CSRFError)
    def csrf(error: CSRFError) -> ResponseReturnValue:
        title, sentence = _("Formulaire expiré"), _("Cette page est restée ouverte trop longtemps : rechargez-la.")
        return render_template("error.html", title=title, sentence=sentence, reference="", status=400), 400

    @app.errorhandler(PilulierError)
    def ours(error: PilulierError) -> ResponseReturnValue:
        if is_api(request.path):
            return problems.of_error(error) if problems.status_of(error) < 500 else unforeseen(error)
        status = status_of(error)
        return page(status) if status < 500 else unforeseen(error)

    @app.errorhandler(Exception)
    def unforeseen(error: Exception) -> ResponseReturnValue:
        reference = request_ids.current()
        # The address of a mailed link holds its token: of those the log names the rule only.
        secret = "token" in (request.view_args or {})
        where = request.url_rule if secret else request.path
        log.error("%s %s failed", request.method, where, exc_info=error)
        if is_api(request.path):
            return problems.unforeseen(reference)
        # The page must not trip over what the error tripped over.
        g.pop("theme", None)
        return page(500, reference)
