"""What went wrong, in the reader's words, and what to do; and the pages of errors.

The sentences of `PilulierError` are English and for whoever knows the command line: they are shown only as a detail.
"""

from __future__ import annotations

import logging
from typing import Final

from flask import Flask, Response, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from agent.ui.gate import is_fragment
from transport.errors import PilulierError

log = logging.getLogger("pilulier.interface")

_BY_CODE: Final = {
    "unreachable": _l("Le serveur de sauvegarde ne répond pas : vérifiez la connexion Internet, puis réessayez."),
    "interrupted": _l("La connexion au serveur de sauvegarde s’est coupée. Ce qui était envoyé est gardé."),
    "busy": _l("Une autre sauvegarde ou restauration est en cours : attendez qu’elle se termine."),
    "empty-source": _l(
        "Un dossier à sauvegarder a disparu ou s’est vidé : un disque ou un partage réseau est peut-être débranché. "
        "La sauvegarde précédente reste intacte."
    ),
    "empty-selection": _l("Rien n’est choisi : cochez au moins un dossier."),
    "refused": _l("Le serveur de sauvegarde a refusé : le contrat est peut-être suspendu. Appelez votre prestataire."),
    "paused": _l("Le contrat est suspendu : aucune sauvegarde n’est acceptée. Appelez votre prestataire."),
    "not-enrolled": _l("Ce poste n’est pas encore relié à un serveur de sauvegarde : appelez votre prestataire."),
    "settings": _l("Le fichier de réglages de ce poste est endommagé : appelez votre prestataire."),
    "selection": _l("Ce choix de dossiers n’a pas de sens : retirez l’un des deux."),
    "key-file": _l("Un fichier de clé de ce poste manque ou est endommagé : appelez votre prestataire."),
    "integrity": _l(
        "Ce que le serveur a envoyé ne correspond pas à ce qui avait été signé : appelez votre prestataire."
    ),
    "seal": _l("Une partie de la sauvegarde ne s’ouvre pas : elle a été altérée. Appelez votre prestataire."),
    "disk-full": _l("Le disque est plein : faites de la place, puis recommencez au même endroit."),
    "landing": _l("Ce dossier ne peut pas recevoir la restauration : choisissez-en un autre."),
    "no-snapshot": _l("Cette sauvegarde n’est plus conservée : choisissez une autre date."),
    "code-needed": _l("Le quart d’heure est écoulé : donnez un nouveau code."),
    "one-time-code": _l("L’adresse ou le code n’est pas le bon, ou ce code a déjà servi : attendez le suivant."),
    "throttled": _l("Trop d’essais : attendez un quart d’heure avant de réessayer."),
    "cancelled": _l("Arrêtée par vous. Les fichiers déjà complets sont restés en place."),
    "stopped": _l("Arrêtée avant la fin ; ce qui était envoyé est gardé."),
    "onsite-hangs": _l("Ce disque ou ce NAS ne répond pas : vérifiez qu’il est allumé et branché."),
    "canary": _l("Aucun leurre ne peut être posé dans ce dossier, ou retiré : vérifiez vos droits."),
    "usage": _l("Cela ne convient pas ici."),
    "drift": _l("Le suivi de ce poste ne concordait plus : la prochaine sauvegarde le reconstruit d’elle-même."),
}


def explained(code: str) -> str:
    """A failure in plain words, by the code of its error."""
    sentence = _BY_CODE.get(code)
    return str(sentence) if sentence is not None else _("Un imprévu s’est produit.")


def explained_error(error: BaseException) -> str:
    """The same of an error."""
    return explained(error.code if isinstance(error, PilulierError) else "")


def _page(status: int, title: str, sentence: str, detail: str = "") -> ResponseReturnValue:
    if is_fragment():
        return Response(sentence, status, mimetype="text/plain")
    return render_template("failure.html", title=title, sentence=sentence, detail=detail), status


def install(app: Flask) -> None:
    """Let errors have pages."""

    def of_http(error: HTTPException) -> ResponseReturnValue:
        status = error.code or 500
        if status == 404:
            sentence = _("Cette page n’existe pas, ou ce qu’elle montrait n’est plus là.")
            return _page(404, _("Page introuvable"), sentence)
        return _page(status, _("Demande incomprise"), _("Revenez en arrière et réessayez."))

    def of_csrf(_error: CSRFError) -> ResponseReturnValue:
        return _page(400, _("Page trop ancienne"), _("Rechargez la page, puis réessayez."))

    def of_ours(error: PilulierError) -> ResponseReturnValue:
        return _page(503, _("Impossible pour le moment"), explained_error(error), str(error))

    def of_anything(error: Exception) -> ResponseReturnValue:
        log.exception("unexpected %s", type(error).__name__)
        return _page(500, _("Erreur interne"), _("Un imprévu s’est produit ; il est noté dans le journal du service."))

    app.register_error_handler(CSRFError, of_csrf)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(PilulierError, of_ours)
    app.register_error_handler(Exception, of_anything)
