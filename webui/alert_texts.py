"""What an alert says to its reader: what is wrong, with figures, and what to do; for staff and for a customer.

Pure but for the reader's language. Sentences are made here from an alert's facts. What a machine or the appliance said
in its own words (English, from a log) is kept apart as `quote`, so that a page shows it as a quotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext

from appliance.control import alarms
from appliance.control.machine_alerts import Alert, AlertKind, Severity
from webui import formats


@dataclass(frozen=True, slots=True)
class Told:
    """An alert in words."""

    reason: str
    advice: str
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of alert is called, its icon."""

    label: Any
    icon: str


KINDS: Final = {
    AlertKind.FAILED: Kind(_l("Sauvegarde en échec"), "x-octagon-fill"),
    AlertKind.SUSPICIOUS: Kind(_l("Changements inhabituels"), "shield-exclamation"),
    AlertKind.SHRUNK: Kind(_l("Sélection réduite"), "funnel-fill"),
    AlertKind.DAMAGE: Kind(_l("Données endommagées"), "hdd-fill"),
    AlertKind.ALARM: Kind(_l("Alarme de l’appliance"), "megaphone-fill"),
    AlertKind.LATE: Kind(_l("Sauvegarde en retard"), "clock-fill"),
    AlertKind.NEVER: Kind(_l("Jamais sauvegardée"), "dash-circle-fill"),
    AlertKind.EXPIRED: Kind(_l("Contrat échu"), "calendar-x"),
    AlertKind.OVER_QUOTA: Kind(_l("Espace dépassé"), "pie-chart-fill"),
    AlertKind.ONSITE: Kind(_l("Copie sur site manquante"), "device-hdd-fill"),
    AlertKind.WARNINGS: Kind(_l("Sauvegarde avec avertissements"), "exclamation-triangle-fill"),
    AlertKind.EXPIRING: Kind(_l("Contrat bientôt échu"), "calendar-event"),
}
SEVERITIES: Final = {
    Severity.DANGER: Kind(_l("À traiter maintenant"), "x-octagon-fill"),
    Severity.WARNING: Kind(_l("À vérifier"), "exclamation-triangle-fill"),
    Severity.INFO: Kind(_l("À prévoir"), "info-circle-fill"),
}


def tell(alert: Alert, now: float, *, customer: bool) -> Told:
    """The alert for its reader."""
    advice = _customers_advice(alert) if customer else _advice(alert)
    return Told(str(_reason(alert, now)), str(advice), _quote(alert, customer=customer))


def _quote(alert: Alert, *, customer: bool) -> str:
    # A customer is not told what concerns the host's machines; of the own, what their agent said.
    if customer and alert.kind in (AlertKind.ALARM, AlertKind.DAMAGE):
        return ""
    return alert.facts.text


def _reason(alert: Alert, now: float) -> Any:
    facts = alert.facts
    moment = _("%(day)s à %(time)s", day=formats.day(alert.since), time=formats.clock_time(alert.since))
    lasting = formats.duration(max(60.0, now - alert.since))
    match alert.kind:
        case AlertKind.FAILED if facts.text:
            return _("La dernière sauvegarde a échoué le %(moment)s.", moment=moment)
        case AlertKind.FAILED:
            return _("La sauvegarde du %(moment)s est restée incomplète, et aucune ne l’a suivie.", moment=moment)
        case AlertKind.SUSPICIOUS if facts.decoys:
            return ngettext(
                "Un document leurre, que personne n’a de raison de toucher, a été modifié, renommé ou supprimé, à la "
                "sauvegarde du %(moment)s.",
                "%(num)s documents leurres, que personne n’a de raison de toucher, ont été modifiés, renommés ou "
                "supprimés, à la sauvegarde du %(moment)s.",
                facts.decoys,
                moment=moment,
            )
        case AlertKind.SUSPICIOUS:
            return _(
                "%(percent)s %% des fichiers ont été modifiés ou supprimés d’un coup, à la sauvegarde du %(moment)s.",
                percent=formats.count(facts.percent),
                moment=moment,
            )
        case AlertKind.SHRUNK:
            return _("Des dossiers sauvegardés jusque-là ne le sont plus depuis le %(moment)s.", moment=moment)
        case AlertKind.ONSITE:
            return ngettext(
                "La copie sur site n’a plus été écrite depuis un jour (%(moment)s).",
                "La copie sur site n’a plus été écrite depuis %(num)s jours (%(moment)s).",
                facts.days,
                moment=moment,
            )
        case AlertKind.DAMAGE:
            return _("Une relecture a trouvé des données enregistrées qui ne se lisent plus bien.")
        case AlertKind.ALARM:
            return _alarm(facts.alarm)
        case AlertKind.LATE:
            return _("Aucune sauvegarde complète depuis %(time)s (%(moment)s).", time=lasting, moment=moment)
        case AlertKind.NEVER:
            return _("Aucune sauvegarde depuis que la machine a été enrôlée, il y a %(time)s.", time=lasting)
        case AlertKind.EXPIRED:
            return ngettext(
                "Le contrat est échu depuis hier ; les sauvegardes continuent.",
                "Le contrat est échu depuis %(num)s jours ; les sauvegardes continuent.",
                facts.days,
            )
        case AlertKind.OVER_QUOTA if facts.allocated_bytes:
            return _(
                "%(used)s utilisés sur %(allocated)s alloués, soit %(percent)s %% ; les sauvegardes continuent.",
                used=formats.size(facts.used_bytes),
                allocated=formats.size(facts.allocated_bytes),
                percent=formats.count(facts.percent),
            )
        case AlertKind.OVER_QUOTA:
            return _(
                "%(used)s utilisés alors que rien n’est alloué ; les sauvegardes continuent.",
                used=formats.size(facts.used_bytes),
            )
        case AlertKind.WARNINGS:
            return ngettext(
                "La dernière sauvegarde est complète, mais un fichier n’a pas pu être lu.",
                "La dernière sauvegarde est complète, mais %(number)s fichiers n’ont pas pu être lus.",
                facts.warnings,
                number=formats.count(facts.warnings),
            )
        case AlertKind.EXPIRING if facts.days == 0:
            return _("Le contrat se termine aujourd’hui.")
        case AlertKind.EXPIRING:
            return ngettext("Le contrat se termine demain.", "Le contrat se termine dans %(num)s jours.", facts.days)


def _alarm(kind: str) -> Any:
    known = {
        alarms.CLOCK: _("L’horloge de l’appliance n’est pas fiable : rien n’est purgé tant que cela dure."),
        alarms.SCRUB_LATE: _("La relecture des données enregistrées a pris du retard."),
        alarms.DISK: _("Le disque des sauvegardes se remplit."),
        alarms.MAIL: _("Des e-mails attendent et ne partent pas."),
        alarms.MACHINE_CLOCK: _("L’horloge de la machine n’est pas à l’heure."),
    }
    return known.get(kind, _("L’appliance signale un problème."))


def _advice(alert: Alert) -> Any:
    match alert.kind:
        case AlertKind.FAILED:
            return _(
                "Lisez le log de la machine. L’agent réessaiera de lui-même ; si l’échec se répète, appelez le client."
            )
        case AlertKind.SUSPICIOUS:
            return _(
                "Appelez le client : ce peut être un rançongiciel. Les sauvegardes d’avant sont gardées, et rien n’est "
                "purgé tant que personne n’a pris cette alerte en charge."
            )
        case AlertKind.SHRUNK:
            return _("Demandez au client si c’était voulu, puis acceptez la sélection sur la page de la machine.")
        case AlertKind.ONSITE:
            return _(
                "Demandez au client de rebrancher le disque ou de vérifier le NAS. "
                "Les sauvegardes chez l’hébergeur continuent."
            )
        case AlertKind.DAMAGE:
            return _(
                "La prochaine sauvegarde renverra ce que la machine a encore. "
                "Faites contrôler le disque de l’appliance."
            )
        case AlertKind.ALARM:
            return _alarm_advice(alert.facts.alarm)
        case AlertKind.LATE:
            return _("Vérifiez que la machine est allumée, reliée à Internet, et que son agent tourne.")
        case AlertKind.NEVER:
            return _("Choisissez ce que la machine sauvegarde, puis lancez une première sauvegarde.")
        case AlertKind.EXPIRED:
            return _("Renouvelez le contrat, ou mettez-le en pause : seule une pause arrête les sauvegardes.")
        case AlertKind.OVER_QUOTA:
            return _("Allouez plus d’espace, ou convenez avec le client de ce qui n’a pas à être sauvegardé.")
        case AlertKind.WARNINGS:
            return _("Le log de la machine nomme les fichiers : souvent un logiciel les tenait ouverts.")
        case AlertKind.EXPIRING:
            return _("Renouvelez le contrat, ou dites au client comment il se termine.")


def _alarm_advice(kind: str) -> Any:
    known = {
        alarms.CLOCK: _("Remettez l’appliance à l’heure (NTP)."),
        alarms.SCRUB_LATE: _("Regardez les tâches de l’appliance et la charge de son disque."),
        alarms.DISK: _("Ajoutez de la place avant que les nouvelles sauvegardes soient refusées."),
        alarms.MAIL: _("Vérifiez les réglages SMTP et envoyez un e-mail d’essai."),
        alarms.MACHINE_CLOCK: _(
            "Faites remettre la machine à l’heure. Les sauvegardes continuent, datées par l’appliance."
        ),
    }
    return known.get(kind, _("Prévenez la personne qui exploite l’appliance."))


def _customers_advice(alert: Alert) -> Any:
    match alert.kind:
        case AlertKind.FAILED:
            return _("La prochaine sauvegarde réessaiera d’elle-même. Si l’échec se répète, appelez votre prestataire.")
        case AlertKind.SUSPICIOUS:
            return _(
                "Si vous n’avez rien changé de tel, appelez tout de suite votre prestataire : ce peut être un "
                "rançongiciel. Vos sauvegardes d’avant sont gardées."
            )
        case AlertKind.SHRUNK:
            return _("Si ce n’était pas voulu, ouvrez l’agent sur la machine et cochez à nouveau ces dossiers.")
        case AlertKind.ONSITE:
            return _(
                "Rebranchez le disque, ou vérifiez que le NAS est allumé et qu’il lui reste de la place. "
                "Vos sauvegardes chez l’hébergeur continuent."
            )
        case AlertKind.DAMAGE | AlertKind.ALARM:
            return _("Votre prestataire en est averti ; laissez la machine allumée pour la prochaine sauvegarde.")
        case AlertKind.LATE:
            return _("Allumez la machine, reliez-la à Internet, et laissez-la allumée à l’heure de la sauvegarde.")
        case AlertKind.NEVER:
            return _("Ouvrez l’agent sur la machine et choisissez les dossiers à sauvegarder.")
        case AlertKind.EXPIRED | AlertKind.EXPIRING:
            return _("Voyez avec votre prestataire pour le renouveler.")
        case AlertKind.OVER_QUOTA:
            return _("Voyez avec votre prestataire : plus d’espace, ou moins de dossiers à sauvegarder.")
        case AlertKind.WARNINGS:
            return _("Fermez vos logiciels avant l’heure de la sauvegarde ; le journal nomme les fichiers.")
