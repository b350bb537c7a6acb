"""The words of a recovery sheet, in the languages of Pilulier: for somebody whose computers are gone.

Owns sentences only. `{…}` are filled in by `sheet_page` (in steps, `{head}` alone); commands in a step stand in
backquotes. No step asks for anything that the sheet, a new PC, an account and its authenticator do not give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.system.language import Language


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    title: str
    colon: str
    secret: str
    machine: str
    contract: str
    help: str
    appliance: str
    identity: str
    stored: str
    kept: str
    kept_local: str
    kept_confided: str
    kept_private: str
    keys: str
    epochs: str
    last: str
    last_value: str
    never: str
    made: str
    date: str
    key_lines: str
    address_lines: str
    typing: str
    scan: str
    address_code: str
    steps_title: str
    steps: tuple[str, ...]
    keep_title: str
    keep: tuple[str, ...]


FRENCH: Final = Words(
    title="Fiche de récupération",
    colon="\N{NO-BREAK SPACE}: ",
    secret="Confidentiel : cette fiche ouvre toutes les sauvegardes de ce poste. Gardez-la comme un chéquier signé.",
    machine="Poste",
    contract="Contrat",
    help="Votre assistance (à compléter)",
    appliance="Serveur de sauvegarde",
    identity="Identité du serveur",
    stored="Dépôt · coffre",
    kept="Garde de la clé",
    kept_local="sur ce poste seulement : sans cette fiche, la perte du poste est la perte des sauvegardes",
    kept_confided="clé confiée : le serveur peut aussi l’ouvrir, pour une restauration par le web",
    kept_private="clé privée : le serveur n’en détient qu’une copie fermée par votre phrase secrète",
    keys="Clés successives",
    epochs="{count} (lignes K valables pour tout ce qui a été sauvegardé jusqu’à cette date)",
    last="Dernière sauvegarde, code",
    last_value="n° {number} du {date} — {code}",
    never="aucune pour l’instant",
    made="Fiche établie le",
    date="%d/%m/%Y à %H:%M",
    key_lines="Clé (lignes K)",
    address_lines="Adresse du serveur (lignes A)",
    typing="Majuscules, espaces et tirets ne comptent pas. Il n’y a ni I, ni L, ni O, ni U : lisez 1, 1, 0 et V. "
    "Les deux derniers signes contrôlent la ligne : une faute de frappe est signalée avec son numéro.",
    scan="Le code QR contient les mêmes lignes.",
    address_code="Code d’adresse, à coller après `--appliance`",
    steps_title="Retrouver vos fichiers sur un ordinateur neuf",
    steps=(
        "Installez l’agent Pilulier. Votre assistance peut vous y aider, mais n’a pas besoin de voir cette fiche.",
        "Créez un fichier fiche.txt. Mettez-y le texte lu dans le code QR, ou tapez les lignes K puis A, chacune avec "
        "son numéro. Le fichier de cette fiche, si vous l’avez encore, convient aussi. Sous Linux : "
        "`chmod 600 fiche.txt`",
        "Reprenez le poste, avec votre compte et le code à six chiffres de votre application d’authentification. Ses "
        "fichiers reviennent dans un dossier, les plus récents d’abord : `pilulier-agent recover --key fiche.txt{head} "
        "--account vous@exemple.fr --password-file mot-de-passe.txt --otp 123456 --target DOSSIER`",
        "Le code après --head est celui de la dernière sauvegarde. Celui du dernier courriel quotidien est plus "
        "récent : préférez-le. Si l’historique rendu est plus ancien que ce code, rien n’est repris : appelez votre "
        "assistance.",
        "Pour un autre jour, choisissez-le dans la liste, puis restaurez-le, sans autre code pendant un quart "
        "d’heure : `pilulier-agent snapshots` `pilulier-agent restore --snapshot N --target DOSSIER`",
        "Si le serveur n’existe plus, une copie du dossier du dépôt suffit, sans compte ni réseau : "
        "`pilulier-agent read-repository DOSSIER-DU-DÉPÔT --key fiche.txt --target DOSSIER`",
        "Détruisez fiche.txt, puis imprimez une nouvelle fiche : `pilulier-agent key sheet --out fiche.html`",
    ),
    keep_title="Où la garder",
    keep=(
        "Sur papier, dans un coffre ou chez un tiers de confiance, hors des locaux où se trouve ce poste.",
        "Jamais en photo, par courriel ni sur ce poste : supprimez le fichier une fois la fiche imprimée et relue.",
        "Fiche perdue ou vue par un tiers : changez la clé, puis imprimez une nouvelle fiche. Ce qui a été sauvegardé "
        "avant reste lisible avec l’ancienne. `pilulier-agent key rotate`",
        "Une nouvelle fiche après chaque changement de clé ; les anciennes n’ouvrent pas ce qui suit.",
    ),
)

ENGLISH: Final = Words(
    title="Recovery sheet",
    colon=": ",
    secret="Confidential: this sheet opens every backup of this machine. Keep it as you would a signed cheque.",
    machine="Machine",
    contract="Contract",
    help="Your support (fill in)",
    appliance="Backup server",
    identity="Identity of the server",
    stored="Repository · vault",
    kept="Who holds the key",
    kept_local="this machine alone: without this sheet, losing the machine is losing its backups",
    kept_confided="confided key: the server may open it too, for a restore by the web",
    kept_private="private key: the server only holds a copy closed by your passphrase",
    keys="Successive keys",
    epochs="{count} (the K lines open all that was backed up until this date)",
    last="Last backup, code",
    last_value="no. {number} of {date} — {code}",
    never="none yet",
    made="Sheet made on",
    date="%d/%m/%Y at %H:%M",
    key_lines="Key (K lines)",
    address_lines="Address of the server (A lines)",
    typing="Capitals, spaces and dashes do not matter. There is no I, L, O or U: read 1, 1, 0 and V. "
    "The last two characters check the line: a typing error is told with its number.",
    scan="The QR code holds the same lines.",
    address_code="Address code, to paste after `--appliance`",
    steps_title="Getting your files back on a new computer",
    steps=(
        "Install the Pilulier agent. Your support can do that with you, but has no need to see this sheet.",
        "Make a file sheet.txt. Put into it what the QR code says, or type the K lines, then the A lines, each with "
        "its number. The file of this sheet, if you still have it, will do as well. On Linux: `chmod 600 sheet.txt`",
        "Take the machine over, with your account and the six digits of your authenticator. Its files come back into a "
        "folder, the newest first: `pilulier-agent recover --key sheet.txt{head} --account you@example.org "
        "--password-file password.txt --otp 123456 --target FOLDER`",
        "The code after --head is that of the last backup. The one in the last daily mail is newer: prefer it. If the "
        "history that is given back is older than that code, nothing is taken over: call your support.",
        "For another day, choose it from the list, then restore it, without another code for a quarter of an hour: "
        "`pilulier-agent snapshots` `pilulier-agent restore --snapshot N --target FOLDER`",
        "If the server is gone, a copy of the repository's folder is enough, without account or network: "
        "`pilulier-agent read-repository REPOSITORY-FOLDER --key sheet.txt --target FOLDER`",
        "Destroy sheet.txt, then print a new sheet: `pilulier-agent key sheet --out sheet.html`",
    ),
    keep_title="Where to keep it",
    keep=(
        "On paper, in a safe or with somebody you trust, away from the premises of this machine.",
        "Never as a photograph, in a mail or on this machine: delete the file once the sheet is printed and checked.",
        "Lost, or seen by somebody else: change the key, then print a new sheet. What was backed up before can still "
        "be read with the old one. `pilulier-agent key rotate`",
        "A new sheet after each change of the key; older ones do not open what follows.",
    ),
)

GERMAN: Final = Words(
    title="Wiederherstellungsblatt",
    colon=": ",
    secret="Vertraulich: Dieses Blatt öffnet alle Sicherungen dieses Rechners. Bewahren Sie es auf wie einen "
    "unterschriebenen Scheck.",
    machine="Rechner",
    contract="Vertrag",
    help="Ihr Support (bitte ausfüllen)",
    appliance="Sicherungsserver",
    identity="Identität des Servers",
    stored="Archiv · Tresor",
    kept="Wer den Schlüssel hat",
    kept_local="nur dieser Rechner: Ohne dieses Blatt sind mit dem Rechner auch seine Sicherungen verloren",
    kept_confided="anvertrauter Schlüssel: Auch der Server kann ihn öffnen, für eine Wiederherstellung im Web",
    kept_private="privater Schlüssel: Der Server hat nur eine Kopie, die Ihre Passphrase verschließt",
    keys="Bisherige Schlüssel",
    epochs="{count} (die K-Zeilen öffnen alles, was bis zu diesem Datum gesichert wurde)",
    last="Letzte Sicherung, Code",
    last_value="Nr. {number} vom {date} — {code}",
    never="noch keine",
    made="Blatt erstellt am",
    date="%d.%m.%Y um %H:%M",
    key_lines="Schlüssel (K-Zeilen)",
    address_lines="Adresse des Servers (A-Zeilen)",
    typing="Großschreibung, Leerzeichen und Striche zählen nicht. I, L, O und U gibt es nicht: Lesen Sie 1, 1, 0 und "
    "V. Die letzten zwei Zeichen prüfen die Zeile: Ein Tippfehler wird mit ihrer Nummer gemeldet.",
    scan="Der QR-Code enthält dieselben Zeilen.",
    address_code="Adresscode, nach `--appliance` einzufügen",
    steps_title="Ihre Dateien auf einem neuen Rechner zurückholen",
    steps=(
        "Installieren Sie den Pilulier-Agenten. Ihr Support kann dabei helfen, muss dieses Blatt aber nicht sehen.",
        "Legen Sie eine Datei blatt.txt an. Fügen Sie den Text des QR-Codes ein, oder tippen Sie die K- und dann die "
        "A-Zeilen ab, jede mit ihrer Nummer. Auch die Datei dieses Blatts geht, falls Sie sie noch haben. "
        "Unter Linux: `chmod 600 blatt.txt`",
        "Übernehmen Sie den Rechner, mit Ihrem Konto und den sechs Ziffern Ihrer Authentifizierungs-App. Seine Dateien "
        "kommen in einen Ordner zurück, die neuesten zuerst: `pilulier-agent recover --key blatt.txt{head} "
        "--account sie@beispiel.de --password-file passwort.txt --otp 123456 --target ORDNER`",
        "Der Code nach --head ist der der letzten Sicherung. Der aus der letzten täglichen Mail ist neuer: Nehmen Sie "
        "lieber ihn. Ist die zurückgegebene Historie älter als dieser Code, wird nichts übernommen: Rufen Sie Ihren "
        "Support an.",
        "Einen anderen Tag wählen Sie aus der Liste und stellen ihn wieder her, eine Viertelstunde lang ohne weiteren "
        "Code: `pilulier-agent snapshots` `pilulier-agent restore --snapshot N --target ORDNER`",
        "Gibt es den Server nicht mehr, genügt eine Kopie des Archivordners, ohne Konto und Netz: "
        "`pilulier-agent read-repository ARCHIVORDNER --key blatt.txt --target ORDNER`",
        "Vernichten Sie blatt.txt und drucken Sie ein neues Blatt: `pilulier-agent key sheet --out blatt.html`",
    ),
    keep_title="Wo Sie es aufbewahren",
    keep=(
        "Auf Papier, in einem Tresor oder bei einer Vertrauensperson, nicht in den Räumen dieses Rechners.",
        "Nie als Foto, in einer Mail oder auf diesem Rechner: Löschen Sie die Datei, sobald das Blatt gedruckt und "
        "geprüft ist.",
        "Verloren oder von Fremden gesehen: Wechseln Sie den Schlüssel, dann drucken Sie ein neues Blatt. Was vorher "
        "gesichert wurde, bleibt mit dem alten lesbar. `pilulier-agent key rotate`",
        "Ein neues Blatt nach jedem Schlüsselwechsel; ältere öffnen nicht, was danach kommt.",
    ),
)

WORDS: Final[dict[Language, Words]] = {"fr": FRENCH, "en": ENGLISH, "de": GERMAN}
