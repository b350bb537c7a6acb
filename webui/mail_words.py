"""What each kind of mail is called, for the pages that list, preview and set them."""

from __future__ import annotations

from typing import Final

from flask_babel import lazy_gettext as _l

from appliance.control import outbox

KINDS: Final = {
    outbox.SYNTHESIS: _l("Synthèse quotidienne"),
    outbox.DIGEST: _l("Alertes regroupées"),
    outbox.BACKUP_FAILED: _l("Sauvegarde en échec"),
    outbox.BACKUP_WARNINGS: _l("Sauvegarde avec avertissements"),
    outbox.MACHINE_SILENT: _l("Machine silencieuse"),
    outbox.NEVER_BACKED_UP: _l("Machine jamais sauvegardée"),
    outbox.SUSPICIOUS_CHANGE: _l("Changements suspects"),
    outbox.SELECTION_SHRUNK: _l("Sélection réduite"),
    outbox.ONSITE_MISSING: _l("Copie sur site manquante"),
    outbox.DAMAGE_FOUND: _l("Données endommagées"),
    outbox.CONTRACT_OVER_QUOTA: _l("Contrat au-delà de l’espace alloué"),
    outbox.SPACE_OVER_QUOTA: _l("Espace au-delà de l’espace alloué"),
    outbox.CONTRACT_EXPIRING: _l("Contrat bientôt échu"),
    outbox.CONTRACT_EXPIRED: _l("Contrat échu"),
    outbox.RESTORE_OPENED: _l("Restauration ouverte"),
    outbox.RESTORE_DONE: _l("Restauration terminée"),
    outbox.KEY_CHANGED: _l("Clé de machine changée"),
    outbox.MACHINE_RECOVERED: _l("Machine reprise sur un nouveau matériel"),
    outbox.APPLIANCE_ALARM: _l("Alarme de l’appliance"),
    outbox.DELETION_REQUESTED: _l("Suppression demandée"),
    outbox.DELETION_CANCELLED: _l("Suppression annulée"),
    outbox.DELETION_DONE: _l("Suppression effectuée"),
    outbox.EXPORT_REQUESTED: _l("Export demandé"),
    outbox.EXPORT_DONE: _l("Export prêt"),
    outbox.INVITATION: _l("Invitation"),
    outbox.PASSWORD_RESET: _l("Mot de passe oublié"),
    outbox.PASSWORD_CHANGED: _l("Mot de passe changé"),
    outbox.EMAIL_CHANGED: _l("Adresse e-mail changée"),
    outbox.NEW_ADDRESS: _l("Connexion depuis un nouvel endroit"),
    outbox.DEVICE_REQUESTED: _l("Téléphone perdu : demande reçue"),
    outbox.DEVICE_TO_APPROVE: _l("Téléphone perdu : demande à examiner"),
    outbox.DEVICE_APPROVED: _l("Téléphone perdu : demande acceptée"),
    outbox.DEVICE_REFUSED: _l("Téléphone perdu : demande refusée"),
    outbox.DEVICE_CHANGED: _l("Application d’authentification changée"),
    outbox.RECOVERY_CODE_USED: _l("Code de secours utilisé"),
    outbox.TEST: _l("E-mail d’essai"),
}


def kind_word(kind: str) -> str:
    """What a kind is called; itself where a newer version wrote it."""
    return str(KINDS.get(kind, kind))
