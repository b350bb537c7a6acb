"""What notices on the screen say, in the languages of the machine's owner. Words alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from agent.system.language import Language


class News(StrEnum):
    """What there is to tell. `{since}` and `{reason}` are filled in."""

    FAILED = "failed"
    LATE = "late"
    FINE_AGAIN = "fine-again"
    DECOYS = "decoys"


WORDS: Final[dict[Language, dict[News, tuple[str, str]]]] = {
    "fr": {
        News.FAILED: (
            "La sauvegarde a échoué",
            "{reason} Elle sera retentée d’elle-même. Si l’échec se répète, appelez votre prestataire.",
        ),
        News.LATE: (
            "La sauvegarde attend",
            "Le serveur de sauvegarde est injoignable et la sauvegarde prévue le {since} n’a pas pu partir. Vérifiez "
            "la connexion à Internet ; elle partira dès que la ligne sera revenue.",
        ),
        News.FINE_AGAIN: ("La sauvegarde fonctionne à nouveau", "La dernière sauvegarde est complète."),
        News.DECOYS: (
            "Alerte : rançongiciel possible",
            "Des documents leurres ont été modifiés, renommés ou supprimés. En cas de doute, débranchez cette machine "
            "du réseau et appelez votre prestataire. Vos sauvegardes d’avant sont gardées.",
        ),
    },
    "en": {
        News.FAILED: (
            "The backup failed",
            "{reason} It is tried again by itself. If it goes on failing, call your provider.",
        ),
        News.LATE: (
            "The backup waits",
            "The backup server cannot be reached, and the backup due on {since} could not leave. Check the Internet "
            "connection; it leaves as soon as the line is back.",
        ),
        News.FINE_AGAIN: ("The backup works again", "The last backup is complete."),
        News.DECOYS: (
            "Alert: this may be ransomware",
            "Decoy documents were changed, renamed or removed. If in doubt, unplug this machine from the network and "
            "call your provider. Your earlier backups are kept.",
        ),
    },
    "de": {
        News.FAILED: (
            "Die Sicherung ist fehlgeschlagen",
            "{reason} Sie wird von selbst wiederholt. Schlägt sie weiter fehl, rufen Sie Ihren Dienstleister an.",
        ),
        News.LATE: (
            "Die Sicherung wartet",
            "Der Sicherungsserver ist nicht erreichbar, und die am {since} fällige Sicherung konnte nicht beginnen. "
            "Prüfen Sie die Internetverbindung; sie beginnt, sobald die Leitung wieder steht.",
        ),
        News.FINE_AGAIN: ("Die Sicherung läuft wieder", "Die letzte Sicherung ist vollständig."),
        News.DECOYS: (
            "Warnung: vielleicht Erpressungssoftware",
            "Lockdokumente wurden geändert, umbenannt oder gelöscht. Trennen Sie diesen Rechner im Zweifel vom Netz "
            "und rufen Sie Ihren Dienstleister an. Ihre früheren Sicherungen bleiben erhalten.",
        ),
    },
}
REASONS: Final[dict[str, dict[Language, str]]] = {
    "empty-source": {
        "fr": "Un dossier à sauvegarder est vide ou absent : un disque est-il débranché ?",
        "en": "A folder to back up is empty or missing: is a disk unplugged?",
        "de": "Ein zu sichernder Ordner ist leer oder fehlt: Ist ein Datenträger abgezogen?",
    },
    "other-disk": {
        "fr": "Un dossier à sauvegarder se trouve sur un autre disque qu’avant : est-ce le bon ?",
        "en": "A folder to back up is on another disk than before: is it the right one?",
        "de": "Ein zu sichernder Ordner liegt auf einem anderen Datenträger als bisher: Ist es der richtige?",
    },
    "refused": {
        "fr": "Le serveur de sauvegarde la refuse : le contrat est peut-être en pause.",
        "en": "The backup server refuses it: the contract may be paused.",
        "de": "Der Sicherungsserver lehnt sie ab: Vielleicht ruht der Vertrag.",
    },
    "hook": {
        "fr": "Un programme qui doit la précéder a échoué.",
        "en": "A program that must run before it failed.",
        "de": "Ein Programm, das vorher laufen muss, ist fehlgeschlagen.",
    },
    "unreachable": {
        "fr": "Le serveur de sauvegarde est injoignable.",
        "en": "The backup server cannot be reached.",
        "de": "Der Sicherungsserver ist nicht erreichbar.",
    },
}
"""By the code of what ended a backup; others go without a reason, which stands in the journal."""
OTHER_REASON: Final[dict[Language, str]] = {
    "fr": "Le journal de l’agent dit pourquoi.",
    "en": "The agent’s journal says why.",
    "de": "Das Protokoll des Agenten sagt, warum.",
}
