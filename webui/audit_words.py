"""The audit log in the reader's words: what each kind of act is called, and what was changed by it, before and after.

Two tables and a reader of JSON. A kind or a field without a word is shown as it is stored: nothing is hidden for want
of one, and a test names the kinds that the program writes and this table does not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from appliance.control.accounts import Role
from webui import formats
from webui.rendering import ROLE_NAMES

KINDS: Final = {
    "api-token.create": _l("Jeton d’API créé"),
    "api-token.revoke": _l("Jeton d’API révoqué"),
    "webhook.add": _l("Webhook ajouté"),
    "webhook.pause": _l("Webhook mis en pause ou repris"),
    "webhook.test": _l("Essai de webhook demandé"),
    "webhook.remove": _l("Webhook retiré"),
    "login": _l("Connexion"),
    "logout": _l("Déconnexion"),
    "account.add": _l("Compte créé"),
    "account.edit": _l("Compte modifié"),
    "account.invite": _l("Invitation envoyée"),
    "account.invite-cancel": _l("Invitation annulée"),
    "account.role": _l("Rôle du compte changé"),
    "account.state": _l("Compte activé ou désactivé"),
    "account.disable": _l("Compte désactivé"),
    "account.enable": _l("Compte réactivé"),
    "account.language": _l("Langue du compte changée"),
    "account.recovery-codes": _l("Codes de secours renouvelés"),
    "account.password": _l("Mot de passe changé"),
    "account.sessions": _l("Sessions du compte fermées"),
    "device.request": _l("Téléphone perdu : remplacement demandé"),
    "device.replace": _l("Application d’authentification remplacée"),
    "device.approve": _l("Téléphone perdu : remplacement accepté"),
    "device.refuse": _l("Téléphone perdu : remplacement refusé"),
    "alert.acknowledge": _l("Alerte prise en compte"),
    "clock.accept": _l("Heure de l’appliance acceptée"),
    "contract.add": _l("Contrat créé"),
    "contract.edit": _l("Contrat modifié"),
    "contract.pause": _l("Contrat mis en pause"),
    "contract.resume": _l("Contrat repris"),
    "contract.delete": _l("Suppression du contrat demandée"),
    "contract.export": _l("Contrat exporté"),
    "contract.export-fetch": _l("Export de contrat téléchargé"),
    "contract.code": _l("Code d’enrôlement créé"),
    "contract.codes-withdraw": _l("Codes d’enrôlement retirés"),
    "deletion.carried-out": _l("Suppression effectuée"),
    "deletion.cancel": _l("Suppression annulée"),
    "escrow.rotate": _l("Clé de séquestre renouvelée"),
    "escrow.protect": _l("Clé de séquestre mise sous phrase secrète"),
    "escrow.unlock": _l("Clé de séquestre déverrouillée"),
    "escrow.lock": _l("Clé de séquestre verrouillée"),
    "escrow.unprotect": _l("Phrase secrète de la clé de séquestre retirée"),
    "job.start": _l("Tâche lancée"),
    "machine.accept": _l("Sélection réduite acceptée"),
    "machine.accept-selection": _l("Sélection réduite acceptée"),
    "machine.backup": _l("Sauvegarde demandée"),
    "machine.delete": _l("Suppression de la machine demandée"),
    "machine.key-kept": _l("Clé de la machine confiée"),
    "machine.language": _l("Langue de la machine changée"),
    "machine.move": _l("Machine déplacée vers un autre contrat"),
    "machine.recover": _l("Machine reprise sur un nouveau matériel"),
    "machine.recover-open": _l("Reprise d’une machine commencée"),
    "machine.rename": _l("Machine renommée"),
    "machine.revoke": _l("Machine révoquée"),
    "machine.settings": _l("Réglages de la machine changés"),
    "metrics.token": _l("Jeton des mesures créé"),
    "repo.hold": _l("Sauvegarde protégée de l’effacement"),
    "repo.prune": _l("Anciennes sauvegardes effacées"),
    "repo.rebuild": _l("Catalogue reconstruit"),
    "repo.release": _l("Protection d’une sauvegarde levée"),
    "repo.scrub": _l("Relecture des données stockées"),
    "appliance.restored": _l("Appliance remise en place depuis sa copie de sécurité"),
    "safety.key": _l("Clé des copies de sécurité affichée"),
    "safety.set": _l("Copies de sécurité de l’appliance réglées"),
    "contract.crossings": _l("Envois entre machines autorisés ou interdits"),
    "delivery.accept": _l("Envoi accepté sur la machine"),
    "delivery.cancel": _l("Envoi annulé"),
    "delivery.done": _l("Envoi restauré sur la machine"),
    "delivery.failed": _l("Envoi interrompu sur la machine"),
    "delivery.refuse": _l("Envoi refusé sur la machine"),
    "delivery.seal": _l("Fichiers scellés à nouveau pour une autre machine"),
    "delivery.send": _l("Restauration envoyée vers la machine"),
    "restore.close": _l("Sauvegardes refermées"),
    "restore.download": _l("Fichiers téléchargés"),
    "machine.resync": _l("Machine reprise après restauration de son disque"),
    "restore.open": _l("Sauvegardes ouvertes pour restauration"),
    "mail.set": _l("Envoi des e-mails réglé"),
    "mail.retry": _l("E-mail renvoyé"),
    "mail.test": _l("E-mail d’essai envoyé"),
    "space.add": _l("Espace créé"),
    "space.delete": _l("Suppression de l’espace demandée"),
    "space.logo": _l("Logo de l’espace changé"),
    "space.rename": _l("Espace renommé"),
    "space.settings": _l("Réglages de l’espace changés"),
    "space.theme": _l("Apparence de l’espace changée"),
}
FIELDS: Final = {
    "accent": _l("Couleur des liens et boutons"),
    "allocated_bytes": _l("Espace alloué"),
    "by": _l("Par"),
    "client_id": _l("Client"),
    "colour": _l("Couleur des bandeaux"),
    "contract": _l("Contrat"),
    "contract_id": _l("Contrat"),
    "created_at": _l("Création"),
    "delete_requested_at": _l("Suppression demandée"),
    "crossings": _l("Envois entre machines"),
    "delivery": _l("Envoi"),
    "due_at": _l("Effective"),
    "email": _l("Adresse e-mail"),
    "end_date": _l("Date de fin"),
    "escrow": _l("Garde de la clé"),
    "exclude": _l("Exclus"),
    "expiring_days": _l("Alerte avant la date de fin (jours)"),
    "floor_days": _l("Jours toujours conservés"),
    "host": _l("Serveur"),
    "include": _l("Inclus"),
    "keep_daily": _l("Une par jour (jours)"),
    "keep_days": _l("Conservation (jours)"),
    "keep_monthly": _l("Une par mois (jours)"),
    "keep_weekly": _l("Une par semaine (jours)"),
    "keep_yearly": _l("Une par an (jours)"),
    "language": _l("Langue"),
    "open_days": _l("Jours d’ouverture"),
    "tell_admins": _l("Échecs dits aux administrateurs"),
    "late_hours": _l("En retard après (heures)"),
    "logo": _l("Logo"),
    "machine_quota": _l("Nombre de machines"),
    "name": _l("Nom"),
    "notify": _l("Notifications"),
    "number": _l("Numéro"),
    "password": _l("Mot de passe"),
    "permissions": _l("Droits"),
    "events": _l("Événements"),
    "expires_at": _l("Expiration"),
    "paused": _l("En pause"),
    "port": _l("Port"),
    "product_name": _l("Nom du produit"),
    "public_url": _l("Adresse publique"),
    "quiet_from": _l("Heures calmes, de"),
    "quiet_until": _l("Heures calmes, à"),
    "sender_name": _l("Nom d’expéditeur"),
    "sent": _l("Parti"),
    "authority": _l("Certificats acceptés"),
    "reason": _l("Motif"),
    "recipient": _l("Destinataire"),
    "role": _l("Rôle"),
    "schedule": _l("Horaires"),
    "security": _l("Chiffrement"),
    "selection": _l("Sélection"),
    "session": _l("Session"),
    "sessions": _l("Sessions fermées"),
    "sender": _l("Expéditeur"),
    "snapshot": _l("Sauvegarde"),
    "space": _l("Espace"),
    "space_id": _l("Espace"),
    "start_date": _l("Date de début"),
    "state": _l("État"),
    "support_line": _l("Ligne d’assistance"),
    "suspicious_percent": _l("Changements suspects à partir de (%)"),
    "totp": _l("Application d’authentification"),
    "user": _l("Utilisateur"),
}
VALUES: Final = {
    ("state", "active"): _l("actif"),
    ("state", "paused"): _l("en pause"),
    ("state", "disabled"): _l("désactivé"),
    ("state", "revoked"): _l("révoqué"),
    ("state", "deleting"): _l("suppression prévue"),
    ("escrow", "confided"): _l("confiée"),
    ("escrow", "private"): _l("privée"),
    ("notify", "all"): _l("toutes"),
    ("notify", "warnings"): _l("avertissements et échecs"),
    ("notify", "failures"): _l("échecs seulement"),
    ("by", "link"): _l("lien reçu par e-mail"),
    ("password", "changed"): _l("changé"),
    ("password", "removed"): _l("effacé"),
    ("password", "as before"): _l("inchangé"),
    ("security", "none"): _l("aucun"),
}
_ACTORS: Final = {
    "system": _l("Pilulier lui-même"),
    "command line": _l("Ligne de commande"),
    "token": _l("Programme, par l’API"),
}
_OBJECTS: Final = {
    "api-token": _l("jeton d’API"),
    "webhook": _l("webhook"),
    "account": _l("compte"),
    "appliance": _l("appliance"),
    "contract": _l("contrat"),
    "job": _l("tâche"),
    "mail": _l("e-mail"),
    "machine": _l("machine"),
    "space": _l("espace"),
}
_LENGTH: Final = 600


@dataclass(frozen=True, slots=True)
class Change:
    """One field; `before` and `after` are None where that side does not speak of it."""

    label: str
    before: str | None
    after: str | None


def kind_word(kind: str) -> str:
    """What an act is called."""
    return str(KINDS.get(kind, kind))


def role_word(role: str) -> str:
    """In what right somebody acted."""
    if role in _ACTORS:
        return str(_ACTORS[role])
    return str(ROLE_NAMES[Role(role)]) if role in set(Role) else role


def object_word(kind: str) -> str:
    """What sort of thing an act was about."""
    return str(_OBJECTS.get(kind, kind))


def changes(before: str | None, after: str | None) -> list[Change]:
    """What differs between two sides of JSON; all of one side where the other is missing."""
    old, new = _fields(before), _fields(after)
    names = [*old, *(name for name in new if name not in old)]
    both = before is not None and after is not None
    return [
        Change(_label(name), _written(name, old), _written(name, new))
        for name in names
        if not both or old.get(name, _NOTHING) != new.get(name, _NOTHING)
    ]


_NOTHING: Final = object()


def _fields(text: str | None) -> dict[str, Any]:
    """The fields of one side, those of an object within by dotted names; anything else under the name ""."""
    if text is None:
        return {}
    value = json.loads(text)
    return dict(_flat("", value))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), below)
    else:
        yield name, value


def _label(name: str) -> str:
    last = name.rpartition(".")[2]
    return str(FIELDS.get(last, last))


def _written(name: str, side: dict[str, Any]) -> str | None:
    if name not in side:
        return None
    text = _value(name.rpartition(".")[2], side[name])
    return text if len(text) <= _LENGTH else text[:_LENGTH] + "…"


def _value(name: str, value: Any) -> str:
    match value:
        case None:
            return formats.NOTHING
        case bool():
            return str(_("oui") if value else _("non"))
        case list():
            return ", ".join(_value(name, one) for one in value) or formats.NOTHING
        case int() | float() if name.endswith("_bytes"):
            return formats.size(value)
        case int() | float() if name.endswith("_at") and 0 < value < 2**33:
            return formats.moment(value)
        case int() | float():
            return str(value)
    text = str(value)
    if name.endswith("_date"):
        try:
            return formats.day(date.fromisoformat(text))
        except ValueError:
            return text
    if name == "role" and text in set(Role):
        return str(ROLE_NAMES[Role(text)])
    if name == "language":
        return formats.LANGUAGES.get(text, text) or formats.NOTHING
    return str(VALUES.get((name, text), text)) or formats.NOTHING
