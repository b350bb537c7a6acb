"""What mails say in French, as a professional would write it to another."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from appliance.control import outbox
from appliance.mail.french_words import LABELS, WORDS
from appliance.mail.wording import Language, Wording

_TIGHT: Final = re.compile(r" ([;:!?%»])")
_SPACED: Final = str.maketrans({"'": "’"})
_EXPRESSION: Final = re.compile(r"(\{\{.*?\}\}|\{%.*?%\})")


def typographic(text: str) -> str:
    """No-break spaces before double signs and inside quotation marks, curved apostrophes; expressions stay."""

    def set_right(part: str) -> str:
        if _EXPRESSION.fullmatch(part):
            return part
        return _TIGHT.sub("\N{NO-BREAK SPACE}\\1", part).replace("« ", "«\N{NO-BREAK SPACE}").translate(_SPACED)

    return "".join(set_right(part) for part in _EXPRESSION.split(text))


def _set(wording: Wording) -> Wording:
    return replace(
        wording,
        subject=typographic(wording.subject),
        title=typographic(wording.title),
        paragraphs=tuple(map(typographic, wording.paragraphs)),
        button=typographic(wording.button),
        note=typographic(wording.note),
    )


_NOT_YOU: Final = (
    "Si ce n'est pas vous, prévenez sans attendre la personne qui gère vos accès : elle peut désactiver le compte."
)
_SEE_MACHINE: Final = "Voir la machine"
_SEE_CONTRACT: Final = "Voir le contrat"

_WORDINGS: Final = {
    outbox.INVITATION: Wording(
        "Votre accès à {{ product }}",
        "Votre accès est prêt",
        (
            "{{ by }} vous invite à suivre des sauvegardes dans {{ product }}.",
            "Choisissez un mot de passe, puis associez à votre compte une application d'authentification (Aegis, "
            "FreeOTP, Google Authenticator ou une autre). Le lien est personnel et ne sert qu'une fois.",
        ),
        "Activer mon accès",
        "Vous n'attendiez pas cette invitation ? Ne faites rien : aucun compte n'est créé sans vous.",
    ),
    outbox.PASSWORD_RESET: Wording(
        "Choisir un nouveau mot de passe",
        "Choisir un nouveau mot de passe",
        (
            "Un nouveau mot de passe a été demandé pour votre compte. Le lien ne sert qu'une fois ; votre "
            "application d'authentification reste nécessaire pour vous connecter.",
        ),
        "Choisir un mot de passe",
        "Vous n'avez rien demandé ? Ne faites rien : votre mot de passe actuel reste valable.",
    ),
    outbox.PASSWORD_CHANGED: Wording(
        "Votre mot de passe a été changé",
        "Votre mot de passe a été changé",
        ("Toutes les sessions ouvertes ont été fermées. Connectez-vous avec le nouveau mot de passe.", _NOT_YOU),
    ),
    outbox.DEVICE_REQUESTED: Wording(
        "Demande d'un nouvel appareil d'authentification",
        "Un nouvel appareil a été demandé",
        (
            "Votre mot de passe a été saisi, puis un nouvel appareil d'authentification a été demandé pour votre "
            "compte. Une personne habilitée doit d'abord donner son accord ; vous recevrez alors un lien.",
            _NOT_YOU,
        ),
    ),
    outbox.DEVICE_TO_APPROVE: Wording(
        "À décider : nouvel appareil pour {{ email }}",
        "Un nouvel appareil attend votre accord",
        (
            "{{ email }} ne dispose plus de son application d'authentification et demande à en associer une autre.",
            "Appelez cette personne au numéro que vous lui connaissez avant d'accepter : quelqu'un d'autre pourrait "
            "avoir son mot de passe.",
        ),
        "Décider",
    ),
    outbox.DEVICE_APPROVED: Wording(
        "Associez votre nouvel appareil",
        "Votre demande est acceptée",
        (
            "{{ by }} a accepté votre demande. Ouvrez le lien, saisissez votre mot de passe et associez votre nouvelle "
            "application d'authentification. L'ancienne cesse alors de fonctionner.",
        ),
        "Associer mon appareil",
        _NOT_YOU,
    ),
    outbox.DEVICE_REFUSED: Wording(
        "Votre demande de nouvel appareil est refusée",
        "Votre demande est refusée",
        ("{{ by }} n'a pas accepté de nouvel appareil pour votre compte. En cas de doute, appelez cette personne.",),
    ),
    outbox.DEVICE_CHANGED: Wording(
        "Votre appareil d'authentification a été changé",
        "Votre appareil a été changé",
        (
            "Une nouvelle application d'authentification est associée à votre compte. Les anciens codes de secours ne "
            "valent plus rien ; de nouveaux vous ont été montrés.",
            _NOT_YOU,
        ),
    ),
    outbox.RECOVERY_CODE_USED: Wording(
        "Un code de secours a été utilisé",
        "Un code de secours a été utilisé",
        (
            "Une connexion à votre compte a été confirmée par un code de secours. Chaque code ne sert qu'une fois : il "
            "vous en reste {{ left }}.",
            _NOT_YOU,
        ),
        "Voir mon profil",
    ),
    outbox.NEW_ADDRESS: Wording(
        "Connexion depuis un nouvel endroit",
        "Connexion depuis un nouvel endroit",
        (
            "Quelqu'un s'est connecté à votre compte depuis un réseau où nous ne vous avions pas encore vu.",
            "Si c'est vous, tout va bien. Sinon, fermez les sessions ouvertes dans votre profil et changez de mot de "
            "passe.",
        ),
        "Voir mes sessions",
    ),
    outbox.EMAIL_CHANGED: Wording(
        "L'adresse de votre compte a été changée",
        "L'adresse de votre compte a été changée",
        (
            "Votre compte porte désormais une autre adresse de messagerie ; celle-ci n'y donne plus accès.",
            "Vous n'en savez rien ? Prévenez sans attendre la personne qui gère vos accès.",
        ),
    ),
    outbox.DELETION_REQUESTED: Wording(
        "Suppression demandée : {{ name }}",
        "Suppression prévue le {{ due_at|moment }}",
        (
            "{{ by }} a demandé la suppression de {{ what|article }} « {{ name }} ». Passé ce délai, les sauvegardes "
            "sont effacées des disques et ne peuvent plus être restaurées.",
            "Rien n'est encore effacé. Jusque-là, la demande peut être annulée depuis l'interface.",
        ),
        "Voir la demande",
        "Cette demande vous surprend ? Annulez-la, puis changez de mot de passe.",
    ),
    outbox.DELETION_CANCELLED: Wording(
        "Suppression annulée : {{ name }}",
        "La suppression est annulée",
        ("{{ by }} a annulé la suppression de {{ what|article }} « {{ name }} ». Rien n'a été effacé.",),
        "Ouvrir {{ product }}",
    ),
    outbox.DELETION_DONE: Wording(
        "Suppression effectuée : {{ name }}",
        "La suppression est effectuée",
        (
            "Le délai de sept jours est écoulé : {{ what|article }} « {{ name }} » et ses sauvegardes sont effacés, "
            "clés comprises. Le journal d'audit en garde l'attestation.",
            "Les copies de sécurité chiffrées du serveur qui en contiennent encore une trace expirent d'elles-mêmes.",
        ),
    ),
    outbox.EXPORT_REQUESTED: Wording(
        "Export demandé : {{ client }}",
        "Un export des sauvegardes est demandé",
        (
            "{{ by }} a demandé l'export de toutes les sauvegardes du contrat « {{ client }} », pour un autre "
            "hébergeur.",
            "L'export reste chiffré et ne contient aucune clé : sans la fiche de récupération ou la clé exportée de "
            "chaque machine, il est illisible.",
        ),
        note=_NOT_YOU,
    ),
    outbox.EXPORT_DONE: Wording(
        "Export prêt : {{ client }}",
        "L'export des sauvegardes est prêt",
        (
            "L'export du contrat « {{ client }} », demandé par {{ by }}, peut être téléchargé par votre revendeur.",
            "Il est chiffré et ne contient aucune clé. Le fichier LISEZ-MOI qu'il contient explique comment le "
            "vérifier et le restaurer.",
        ),
    ),
    outbox.RESTORE_OPENED: Wording(
        "Restauration ouverte : {{ machine }}",
        "Une restauration a été ouverte",
        (
            "Les sauvegardes de « {{ machine }} » ont été ouvertes avec le code à usage unique de {{ email }}.",
            "Si cette restauration est la vôtre, vous n'avez rien à faire. Sinon, prévenez votre revendeur sans "
            "attendre.",
        ),
        _SEE_MACHINE,
    ),
    outbox.RESTORE_DONE: Wording(
        "Restauration terminée : {{ machine }}",
        "Les fichiers sont sur « {{ machine }} »",
        (
            "Ce qui a été envoyé depuis le serveur de sauvegarde a été accepté sur « {{ machine }} », puis restauré.",
            "Les fichiers se trouvent dans un nouveau dossier, à part. Rien n'a été remplacé sur la machine : "
            "rangez-les là où vous en avez besoin.",
        ),
        _SEE_MACHINE,
    ),
    outbox.MACHINE_RECOVERED: Wording(
        "Machine reprise sur un nouveau matériel : {{ machine }}",
        "Une machine a été reprise sur un nouveau matériel",
        (
            "« {{ machine }} » continue sur un nouveau matériel, avec l'accord de {{ by }}. L'ancienne installation "
            "n'est plus acceptée ; toutes les sauvegardes restent lisibles.",
        ),
        _SEE_MACHINE,
        _NOT_YOU,
    ),
    outbox.KEY_CHANGED: Wording(
        "Clé changée : {{ machine }}",
        "La clé d'une machine a été changée",
        (
            "La clé de chiffrement de « {{ machine }} » a été changée. Les sauvegardes antérieures restent lisibles.",
            "Imprimez de nouveau la fiche de secours depuis l'agent et détruisez l'ancienne.",
        ),
        _SEE_MACHINE,
        _NOT_YOU,
    ),
    outbox.SYNTHESIS: Wording(
        "Sauvegardes du jour : {{ complete }} sur {{ machines|length }} complètes – {{ client }}",
        "{% if complete == machines|length %}Toutes vos machines sont sauvegardées"
        "{% else %}{{ complete }} machine{{ 's' if complete > 1 }} sur {{ machines|length }} sauvegardée"
        "{{ 's' if complete > 1 }}{% endif %}",
        (
            "Voici l'état de vos sauvegardes pour les dernières vingt-quatre heures.",
            "{% if started %}{{ started }} sauvegarde{{ 's ont' if started > 1 else ' a' }} commencé sans être "
            "encore complète{{ 's' if started > 1 }} : la suite reprend où elle s'est arrêtée.{% endif %}",
        ),
        _SEE_CONTRACT,
        "Le code de tête désigne la dernière sauvegarde. Gardez ce message : après un sinistre, ce code prouve que "
        "l'historique que l'on vous rend est bien le plus récent.",
    ),
    outbox.DIGEST: Wording(
        "{{ rows|length }} alertes à regarder",
        "{{ rows|length }} alertes à regarder",
        ("Plusieurs alertes se sont ouvertes en même temps ; les voici en un seul message.",),
        "Voir les alertes",
    ),
    outbox.BACKUP_FAILED: Wording(
        "Échec de sauvegarde : {{ machine }}",
        "La sauvegarde de « {{ machine }} » a échoué",
        (
            "La dernière sauvegarde ne s'est pas terminée. La précédente reste intacte et peut être restaurée.",
            "La prochaine tentative se fait toute seule. Si ce message se répète, le journal de la machine dit "
            "pourquoi ; votre support peut vous aider.",
        ),
        _SEE_MACHINE,
    ),
    outbox.BACKUP_WARNINGS: Wording(
        "Sauvegarde avec avertissements : {{ machine }}",
        "Sauvegarde faite, avec {{ warnings }} avertissement{{ 's' if warnings > 1 }}",
        (
            "La sauvegarde de « {{ machine }} » est complète, mais certains fichiers n'ont pas pu être lus : ouverts "
            "par un logiciel, le plus souvent, ou d'accès interdit. Leur version précédente est gardée.",
            "Leur liste se trouve sur la machine, dans le journal de l'agent.",
        ),
        _SEE_MACHINE,
    ),
    outbox.MACHINE_SILENT: Wording(
        "Sans nouvelles de {{ machine }} depuis {{ hours|span }}",
        "« {{ machine }} » n'est plus sauvegardée depuis {{ hours|span }}",
        (
            "Aucune sauvegarde complète n'est arrivée depuis ce délai.",
            "Vérifiez que l'ordinateur est allumé, relié à Internet, et que l'agent y fonctionne. Une sauvegarde "
            "manquée est rattrapée dès qu'il se reconnecte.",
        ),
        _SEE_MACHINE,
    ),
    outbox.NEVER_BACKED_UP: Wording(
        "Pas encore de sauvegarde : {{ machine }}",
        "« {{ machine }} » n'a encore jamais été sauvegardée",
        (
            "La machine est enregistrée depuis {{ hours|span }}, mais aucune sauvegarde n'est arrivée.",
            "Choisissez sur la machine ce qui doit être sauvegardé, puis lancez une première sauvegarde.",
        ),
        _SEE_MACHINE,
    ),
    outbox.SUSPICIOUS_CHANGE: Wording(
        "À vérifier sans attendre : {{ machine }}",
        "Changement inhabituel sur « {{ machine }} »",
        (
            "{% if decoys is defined and decoys %}"
            "Des documents leurres, que personne n'a de raison de toucher, ont été modifiés, renommés "
            "ou supprimés ({{ decoys }}). Un rançongiciel produit cet effet ; une personne qui fait du rangement "
            "aussi.{% else %}"
            "{{ percent }} % des fichiers de la sauvegarde précédente ont été modifiés ou supprimés d'un coup. Un "
            "rançongiciel produit cet effet ; une mise à jour importante aussi.{% endif %}",
            "Appelez la personne qui utilise cette machine. En cas de doute, débranchez-la du réseau. Les sauvegardes "
            "antérieures sont gardées : rien ne sera purgé avant que quelqu'un ait pris acte de cette alerte.",
        ),
        "Examiner l'alerte",
    ),
    outbox.DAMAGE_FOUND: Wording(
        "Données endommagées : {{ machine }}",
        "Des données stockées ne se relisent plus",
        (
            "La relecture de contrôle a trouvé, dans les sauvegardes de « {{ machine }} », des données que le disque "
            "ne rend plus correctement.",
            "La prochaine sauvegarde renvoie ce que la machine possède encore. L'hébergeur doit examiner le disque.",
        ),
        _SEE_MACHINE,
    ),
    outbox.SELECTION_SHRUNK: Wording(
        "Sélection réduite : {{ machine }}",
        "« {{ machine }} » sauvegarde moins de dossiers qu'avant",
        (
            "Des dossiers ou des fichiers ont été retirés de ce que la machine sauvegarde.",
            "Demandez si c'est voulu, puis acceptez le changement sur la page de la machine.",
        ),
        _SEE_MACHINE,
    ),
    outbox.ONSITE_MISSING: Wording(
        "Copie sur site manquante : {{ machine }}",
        "« {{ machine }} » n'a plus de copie récente sur place",
        (
            "La copie que cette machine tient sur un NAS ou un disque externe n'a plus été écrite depuis "
            "{{ days }} jours.",
            "Les sauvegardes chez l'hébergeur continuent. Rebranchez le disque, ou vérifiez que le NAS est allumé et "
            "qu'il lui reste de la place : la prochaine sauvegarde remettra la copie à jour.",
        ),
        _SEE_MACHINE,
    ),
    outbox.CONTRACT_OVER_QUOTA: Wording(
        "Espace dépassé : {{ client }} à {{ percent }} %",
        "{{ percent }} % de l'espace alloué sont utilisés",
        (
            "Le contrat « {{ client }} » utilise {{ used_bytes|size }} pour {{ allocated_bytes|size }} alloués.",
            "Les sauvegardes continuent : un dépassement ne les arrête jamais. Vous pouvez allouer plus d'espace, "
            "revoir ce qui est sauvegardé, ou mettre le contrat en pause ; seule une pause refuse les sauvegardes.",
        ),
        _SEE_CONTRACT,
    ),
    outbox.SPACE_OVER_QUOTA: Wording(
        "Espace dépassé : {{ space }} à {{ percent }} %",
        "{{ percent }} % du volume de l'espace sont utilisés",
        (
            "Les contrats de l'espace « {{ space }} » utilisent ensemble {{ used_bytes|size }} pour "
            "{{ allocated_bytes|size }} alloués.",
            "Les sauvegardes continuent. La liste des contrats montre ceux qui dépassent.",
        ),
        "Voir les contrats",
    ),
    outbox.CONTRACT_EXPIRING: Wording(
        "Fin de contrat dans {{ days }} jour{{ 's' if days > 1 }} : {{ client }}",
        "Le contrat prend fin le {{ end_date|day }}",
        (
            "Pour continuer, il suffit de prolonger le contrat avant cette date.",
            "Après cette date, les sauvegardes continuent tant que le contrat n'est pas mis en pause. Pour arrêter "
            "proprement : restaurez ce dont vous avez besoin, désinstallez l'agent sur chaque machine, puis demandez "
            "la suppression du contrat.",
        ),
        _SEE_CONTRACT,
    ),
    outbox.CONTRACT_EXPIRED: Wording(
        "Contrat terminé : {{ client }}",
        "Le contrat a pris fin le {{ end_date|day }}",
        (
            "Les sauvegardes continuent : la date de fin n'en arrête aucune. Votre revendeur peut prolonger le "
            "contrat, ou le mettre en pause ; seule une pause les refuse. Les restaurations restent possibles.",
            "Pour arrêter proprement : restaurez ce dont vous avez besoin, désinstallez l'agent sur chaque machine, "
            "puis demandez la suppression du contrat.",
        ),
        _SEE_CONTRACT,
    ),
    outbox.APPLIANCE_ALARM: Wording(
        "Serveur de sauvegarde : {{ alarm|word }}",
        "{{ alarm|word }}",
        ("Le serveur de sauvegarde demande votre attention.",),
        "Voir les alertes",
    ),
    outbox.TEST: Wording(
        "Message d'essai de {{ product }}",
        "L'envoi de messages fonctionne",
        ("Vous avez demandé ce message pour vérifier les réglages. S'il vous est bien parvenu, tout est en ordre.",),
    ),
}

LANGUAGE: Final = Language(
    locale="fr",
    wordings={kind: _set(wording) for kind, wording in _WORDINGS.items()},
    labels=LABELS,
    words=WORDS,
    units=("o", "ko", "Mo", "Go", "To", "Po"),
    support="Besoin d’aide\N{NO-BREAK SPACE}?",
    automatic=typographic("Message automatique de {{ product }} ; personne ne lit les réponses à cette adresse."),
    link_hint=typographic("Si le bouton ne répond pas, copiez cette adresse dans votre navigateur :"),
)
