"""What mails say in German."""

from __future__ import annotations

from typing import Final

from appliance.control import outbox
from appliance.mail.german_words import LABELS, WORDS
from appliance.mail.wording import Language, Wording

_NOT_YOU: Final = (
    "Waren Sie das nicht, informieren Sie sofort die Person, die Ihre Zugänge verwaltet: Sie kann das Konto sperren."
)
_SEE_MACHINE: Final = "Zum Rechner"
_SEE_CONTRACT: Final = "Zum Vertrag"

LANGUAGE: Final = Language(
    locale="de",
    wordings={
        outbox.INVITATION: Wording(
            "Ihr Zugang zu {{ product }}",
            "Ihr Zugang ist bereit",
            (
                "{{ by }} lädt Sie ein, Datensicherungen in {{ product }} zu begleiten.",
                "Wählen Sie ein Passwort und verbinden Sie eine Authentifizierungs-App (Aegis, FreeOTP, Google "
                "Authenticator oder eine andere) mit Ihrem Konto. Der Link ist persönlich und gilt nur einmal.",
            ),
            "Zugang aktivieren",
            "Sie haben diese Einladung nicht erwartet? Tun Sie nichts: Ohne Sie entsteht kein Konto.",
        ),
        outbox.PASSWORD_RESET: Wording(
            "Neues Passwort wählen",
            "Neues Passwort wählen",
            (
                "Für Ihr Konto wurde ein neues Passwort angefordert. Der Link gilt nur einmal; zum Anmelden brauchen "
                "Sie weiterhin Ihre Authentifizierungs-App.",
            ),
            "Passwort wählen",
            "Sie haben nichts angefordert? Tun Sie nichts: Ihr jetziges Passwort bleibt gültig.",
        ),
        outbox.PASSWORD_CHANGED: Wording(
            "Ihr Passwort wurde geändert",
            "Ihr Passwort wurde geändert",
            ("Alle offenen Sitzungen wurden beendet. Melden Sie sich mit dem neuen Passwort an.", _NOT_YOU),
        ),
        outbox.DEVICE_REQUESTED: Wording(
            "Neues Authentifizierungsgerät angefordert",
            "Ein neues Gerät wurde angefordert",
            (
                "Ihr Passwort wurde eingegeben und danach ein neues Authentifizierungsgerät für Ihr Konto "
                "angefordert. Eine berechtigte Person muss zuerst zustimmen; dann erhalten Sie einen Link.",
                _NOT_YOU,
            ),
        ),
        outbox.DEVICE_TO_APPROVE: Wording(
            "Zu entscheiden: neues Gerät für {{ email }}",
            "Ein neues Gerät wartet auf Ihre Zustimmung",
            (
                "{{ email }} hat keinen Zugriff mehr auf die Authentifizierungs-App und möchte eine andere verbinden.",
                "Rufen Sie die Person unter einer Ihnen bekannten Nummer an, bevor Sie zustimmen: Jemand anders könnte "
                "ihr Passwort haben.",
            ),
            "Entscheiden",
        ),
        outbox.DEVICE_APPROVED: Wording(
            "Verbinden Sie Ihr neues Gerät",
            "Ihre Anfrage wurde angenommen",
            (
                "{{ by }} hat zugestimmt. Öffnen Sie den Link, geben Sie Ihr Passwort ein und verbinden Sie Ihre neue "
                "Authentifizierungs-App. Die bisherige gilt dann nicht mehr.",
            ),
            "Gerät verbinden",
            _NOT_YOU,
        ),
        outbox.DEVICE_REFUSED: Wording(
            "Ihre Anfrage für ein neues Gerät wurde abgelehnt",
            "Ihre Anfrage wurde abgelehnt",
            ("{{ by }} hat keinem neuen Gerät für Ihr Konto zugestimmt. Rufen Sie im Zweifel diese Person an.",),
        ),
        outbox.DEVICE_CHANGED: Wording(
            "Ihr Authentifizierungsgerät wurde geändert",
            "Ihr Gerät wurde geändert",
            (
                "Eine neue Authentifizierungs-App ist mit Ihrem Konto verbunden. Die bisherigen Notfallcodes gelten "
                "nicht mehr; neue wurden Ihnen angezeigt.",
                _NOT_YOU,
            ),
        ),
        outbox.RECOVERY_CODE_USED: Wording(
            "Ein Notfallcode wurde benutzt",
            "Ein Notfallcode wurde benutzt",
            (
                "Eine Anmeldung an Ihrem Konto wurde mit einem Notfallcode bestätigt. Jeder gilt nur einmal: Es "
                "bleiben {{ left }}.",
                _NOT_YOU,
            ),
            "Zu meinem Profil",
        ),
        outbox.NEW_ADDRESS: Wording(
            "Anmeldung von einem neuen Ort",
            "Anmeldung von einem neuen Ort",
            (
                "Jemand hat sich aus einem Netz an Ihrem Konto angemeldet, in dem wir Sie noch nicht gesehen haben.",
                "Waren Sie es, ist alles in Ordnung. Wenn nicht, beenden Sie in Ihrem Profil die offenen Sitzungen und "
                "ändern Sie Ihr Passwort.",
            ),
            "Meine Sitzungen ansehen",
        ),
        outbox.EMAIL_CHANGED: Wording(
            "Die Adresse Ihres Kontos wurde geändert",
            "Die Adresse Ihres Kontos wurde geändert",
            (
                "Ihr Konto trägt jetzt eine andere E-Mail-Adresse; mit dieser ist keine Anmeldung mehr möglich.",
                "Sie wissen nichts davon? Informieren Sie sofort die Person, die Ihre Zugänge verwaltet.",
            ),
        ),
        outbox.DELETION_REQUESTED: Wording(
            "Löschung beantragt: {{ name }}",
            "Löschung vorgesehen am {{ due_at|moment }}",
            (
                "{{ by }} hat die Löschung beantragt: {{ what|article }} „{{ name }}“. Danach sind die Sicherungen von "
                "den Datenträgern gelöscht und können nicht mehr wiederhergestellt werden.",
                "Noch ist nichts gelöscht. Bis dahin lässt sich der Antrag in der Oberfläche zurücknehmen.",
            ),
            "Antrag ansehen",
            "Dieser Antrag überrascht Sie? Nehmen Sie ihn zurück und ändern Sie dann Ihr Passwort.",
        ),
        outbox.DELETION_CANCELLED: Wording(
            "Löschung zurückgenommen: {{ name }}",
            "Die Löschung wurde zurückgenommen",
            ("{{ by }} hat die Löschung zurückgenommen: {{ what|article }} „{{ name }}“. Nichts wurde gelöscht.",),
            "{{ product }} öffnen",
        ),
        outbox.DELETION_DONE: Wording(
            "Gelöscht: {{ name }}",
            "Die Löschung ist ausgeführt",
            (
                "Die sieben Tage sind vorbei: {{ what|article }} „{{ name }}“ samt allen Sicherungen und Schlüsseln "
                "ist gelöscht. Das Audit-Protokoll bewahrt den Nachweis.",
                "Verschlüsselte Sicherheitskopien des Servers, die noch Spuren davon enthalten, verfallen von selbst.",
            ),
        ),
        outbox.EXPORT_REQUESTED: Wording(
            "Export angefordert: {{ client }}",
            "Ein Export der Sicherungen wurde angefordert",
            (
                "{{ by }} hat einen Export aller Sicherungen des Vertrags „{{ client }}“ für einen anderen Anbieter "
                "angefordert.",
                "Der Export bleibt verschlüsselt und enthält keinen Schlüssel: Ohne das Wiederherstellungsblatt oder "
                "den exportierten Schlüssel jedes Rechners ist er nicht lesbar.",
            ),
            note=_NOT_YOU,
        ),
        outbox.EXPORT_DONE: Wording(
            "Export fertig: {{ client }}",
            "Der Export der Sicherungen ist fertig",
            (
                "Der von {{ by }} angeforderte Export des Vertrags „{{ client }}“ kann von Ihrem Händler "
                "heruntergeladen werden.",
                "Er ist verschlüsselt und enthält keinen Schlüssel. Die Datei LISEZ-MOI darin beschreibt, wie er "
                "geprüft und wiederhergestellt wird.",
            ),
        ),
        outbox.RESTORE_OPENED: Wording(
            "Wiederherstellung geöffnet: {{ machine }}",
            "Eine Wiederherstellung wurde geöffnet",
            (
                "Die Sicherungen von „{{ machine }}“ wurden mit dem Einmalcode von {{ email }} geöffnet.",
                "Ist es Ihre eigene Wiederherstellung, müssen Sie nichts tun. Wenn nicht, informieren Sie sofort Ihren "
                "Händler.",
            ),
            _SEE_MACHINE,
        ),
        outbox.RESTORE_DONE: Wording(
            "Wiederherstellung fertig: {{ machine }}",
            "Die Dateien liegen auf „{{ machine }}“",
            (
                "Was vom Sicherungsserver geschickt wurde, wurde auf „{{ machine }}“ angenommen und dort "
                "wiederhergestellt.",
                "Es liegt in einem eigenen, neuen Ordner. Auf dem Rechner wurde nichts ersetzt: Legen Sie die Dateien "
                "dorthin, wo Sie sie brauchen.",
            ),
            _SEE_MACHINE,
        ),
        outbox.MACHINE_RECOVERED: Wording(
            "Rechner auf neuer Hardware übernommen: {{ machine }}",
            "Ein Rechner läuft auf neuer Hardware weiter",
            (
                "„{{ machine }}“ läuft auf neuer Hardware weiter, freigegeben von {{ by }}. Die frühere Installation "
                "wird nicht mehr angenommen; alle Sicherungen bleiben lesbar.",
            ),
            _SEE_MACHINE,
            _NOT_YOU,
        ),
        outbox.KEY_CHANGED: Wording(
            "Schlüssel geändert: {{ machine }}",
            "Der Schlüssel eines Rechners wurde geändert",
            (
                "Der Schlüssel von „{{ machine }}“ wurde geändert. Frühere Sicherungen bleiben lesbar.",
                "Drucken Sie das Notfallblatt im Agenten neu aus und vernichten Sie das alte.",
            ),
            _SEE_MACHINE,
            _NOT_YOU,
        ),
        outbox.SYNTHESIS: Wording(
            "Sicherungen des Tages: {{ complete }} von {{ machines|length }} vollständig – {{ client }}",
            "{% if complete == machines|length %}Alle Ihre Rechner sind gesichert{% else %}"
            "{{ complete }} von {{ machines|length }} Rechnern gesichert{% endif %}",
            (
                "So stehen Ihre Sicherungen der letzten vierundzwanzig Stunden.",
                "{% if started %}{{ started }} Sicherung{{ 'en haben' if started > 1 else ' hat' }} begonnen und "
                "{{ 'sind' if started > 1 else 'ist' }} noch nicht vollständig: Der Rest folgt von dort aus."
                "{% endif %}",
            ),
            _SEE_CONTRACT,
            "Der Kopfcode bezeichnet die letzte Sicherung. Bewahren Sie diese Nachricht auf: Nach einem Schadensfall "
            "beweist der Code, dass man Ihnen den neuesten Stand zurückgibt.",
        ),
        outbox.DIGEST: Wording(
            "{{ rows|length }} Warnungen zur Durchsicht",
            "{{ rows|length }} Warnungen zur Durchsicht",
            ("Mehrere Warnungen sind gleichzeitig aufgetreten; hier stehen sie in einer Nachricht.",),
            "Warnungen ansehen",
        ),
        outbox.BACKUP_FAILED: Wording(
            "Sicherung fehlgeschlagen: {{ machine }}",
            "Die Sicherung von „{{ machine }}“ ist fehlgeschlagen",
            (
                "Die letzte Sicherung kam nicht zum Ende. Die vorige ist unversehrt und kann wiederhergestellt werden.",
                "Der nächste Versuch erfolgt von selbst. Kommt diese Nachricht wieder, steht der Grund im Protokoll "
                "des Rechners; Ihr Support hilft Ihnen.",
            ),
            _SEE_MACHINE,
        ),
        outbox.BACKUP_WARNINGS: Wording(
            "Sicherung mit Hinweisen: {{ machine }}",
            "Gesichert, mit {{ warnings }} Hinweis{{ 'en' if warnings > 1 }}",
            (
                "Die Sicherung von „{{ machine }}“ ist vollständig, doch einige Dateien waren nicht lesbar: meist, "
                "weil ein Programm sie geöffnet hielt, oder mangels Rechten. Ihre vorige Fassung bleibt erhalten.",
                "Ihre Liste steht auf dem Rechner, im Protokoll des Agenten.",
            ),
            _SEE_MACHINE,
        ),
        outbox.MACHINE_SILENT: Wording(
            "Nichts von {{ machine }} seit {{ hours|span }}",
            "„{{ machine }}“ wird seit {{ hours|span }} nicht mehr gesichert",
            (
                "So lange ist keine vollständige Sicherung eingetroffen.",
                "Prüfen Sie, ob der Rechner eingeschaltet und mit dem Internet verbunden ist und ob der Agent dort "
                "läuft. Eine versäumte Sicherung wird nachgeholt, sobald er sich wieder verbindet.",
            ),
            _SEE_MACHINE,
        ),
        outbox.NEVER_BACKED_UP: Wording(
            "Noch keine Sicherung: {{ machine }}",
            "„{{ machine }}“ wurde noch nie gesichert",
            (
                "Der Rechner ist seit {{ hours|span }} angemeldet, aber es kam noch keine Sicherung an.",
                "Wählen Sie auf dem Rechner aus, was gesichert werden soll, und starten Sie eine erste Sicherung.",
            ),
            _SEE_MACHINE,
        ),
        outbox.SUSPICIOUS_CHANGE: Wording(
            "Sofort zu prüfen: {{ machine }}",
            "Ungewöhnliche Änderung auf „{{ machine }}“",
            (
                "{% if decoys is defined and decoys %}"
                "Lockdokumente, die niemand anzufassen braucht, wurden geändert, umbenannt oder "
                "gelöscht ({{ decoys }}). So wirkt Erpressungssoftware; wer aufräumt, allerdings auch.{% else %}"
                "{{ percent }} % der Dateien der vorigen Sicherung wurden auf einmal geändert oder gelöscht. So wirkt "
                "Erpressungssoftware; ein großes Update allerdings auch.{% endif %}",
                "Rufen Sie an, wer diesen Rechner benutzt. Trennen Sie ihn im Zweifel vom Netz. Frühere Sicherungen "
                "bleiben erhalten: Nichts wird bereinigt, bis jemand diese Warnung bestätigt hat.",
            ),
            "Warnung prüfen",
        ),
        outbox.DAMAGE_FOUND: Wording(
            "Beschädigte Daten: {{ machine }}",
            "Gespeicherte Daten sind nicht mehr lesbar",
            (
                "Die Kontrolle hat in den Sicherungen von „{{ machine }}“ Daten gefunden, die der Datenträger nicht "
                "mehr unverändert zurückgibt.",
                "Die nächste Sicherung schickt noch einmal, was der Rechner noch hat. Der Betreiber muss den "
                "Datenträger prüfen.",
            ),
            _SEE_MACHINE,
        ),
        outbox.SELECTION_SHRUNK: Wording(
            "Kleinere Auswahl: {{ machine }}",
            "„{{ machine }}“ sichert weniger Ordner als zuvor",
            (
                "Ordner oder Dateien wurden aus dem herausgenommen, was der Rechner sichert.",
                "Fragen Sie nach, ob das so gewollt ist, und bestätigen Sie es dann auf der Seite des Rechners.",
            ),
            _SEE_MACHINE,
        ),
        outbox.ONSITE_MISSING: Wording(
            "Kopie vor Ort fehlt: {{ machine }}",
            "„{{ machine }}“ hat keine aktuelle Kopie vor Ort",
            (
                "Die Kopie dieses Rechners auf einem NAS oder einer externen Festplatte wurde seit {{ days }} Tagen "
                "nicht mehr geschrieben.",
                "Die Sicherungen beim Betreiber laufen weiter. Schließen Sie den Datenträger wieder an, oder prüfen "
                "Sie, ob das NAS läuft und noch Platz hat: Die nächste Sicherung bringt die Kopie auf den neuesten "
                "Stand.",
            ),
            _SEE_MACHINE,
        ),
        outbox.CONTRACT_OVER_QUOTA: Wording(
            "Speicherplatz überschritten: {{ client }} bei {{ percent }} %",
            "{{ percent }} % des vereinbarten Speicherplatzes sind belegt",
            (
                "Der Vertrag „{{ client }}“ belegt {{ used_bytes|size }} von vereinbarten "
                "{{ allocated_bytes|size }}.",
                "Die Sicherungen laufen weiter: Eine Überschreitung hält sie nie auf. Sie können mehr Platz "
                "vereinbaren, die Auswahl überdenken oder den Vertrag pausieren; nur eine Pause lehnt Sicherungen ab.",
            ),
            _SEE_CONTRACT,
        ),
        outbox.SPACE_OVER_QUOTA: Wording(
            "Speicherplatz überschritten: {{ space }} bei {{ percent }} %",
            "{{ percent }} % des Volumens sind belegt",
            (
                "Die Verträge des Bereichs „{{ space }}“ belegen zusammen {{ used_bytes|size }} von vereinbarten "
                "{{ allocated_bytes|size }}.",
                "Die Sicherungen laufen weiter. Die Liste der Verträge zeigt, welche darüber liegen.",
            ),
            "Zu den Verträgen",
        ),
        outbox.CONTRACT_EXPIRING: Wording(
            "Vertragsende in {{ days }} Tag{{ 'en' if days > 1 }}: {{ client }}",
            "Der Vertrag endet am {{ end_date|day }}",
            (
                "Um fortzufahren, verlängern Sie den Vertrag vor diesem Tag.",
                "Danach laufen die Sicherungen weiter, bis der Vertrag pausiert wird. Um geordnet aufzuhören: Stellen "
                "Sie wieder her, was Sie brauchen, deinstallieren Sie den Agenten auf jedem Rechner und beantragen Sie "
                "dann die Löschung des Vertrags.",
            ),
            _SEE_CONTRACT,
        ),
        outbox.CONTRACT_EXPIRED: Wording(
            "Vertrag beendet: {{ client }}",
            "Der Vertrag endete am {{ end_date|day }}",
            (
                "Die Sicherungen laufen weiter: Das Enddatum hält keine auf. Ihr Händler kann den Vertrag verlängern "
                "oder pausieren; nur eine Pause lehnt sie ab. Wiederherstellungen bleiben möglich.",
                "Um geordnet aufzuhören: Stellen Sie wieder her, was Sie brauchen, deinstallieren Sie den Agenten auf "
                "jedem Rechner und beantragen Sie dann die Löschung des Vertrags.",
            ),
            _SEE_CONTRACT,
        ),
        outbox.APPLIANCE_ALARM: Wording(
            "Sicherungsserver: {{ alarm|word }}",
            "{{ alarm|word }}",
            ("Der Sicherungsserver braucht Ihre Aufmerksamkeit.",),
            "Warnungen ansehen",
        ),
        outbox.TEST: Wording(
            "Testnachricht von {{ product }}",
            "Der Versand funktioniert",
            ("Sie haben diese Nachricht zur Prüfung der Einstellungen angefordert. Ist sie da, ist alles in Ordnung.",),
        ),
    },
    labels=LABELS,
    words=WORDS,
    units=("B", "kB", "MB", "GB", "TB", "PB"),
    support="Brauchen Sie Hilfe?",
    automatic="Automatische Nachricht von {{ product }}; Antworten an diese Adresse liest niemand.",
    link_hint="Wenn die Schaltfläche nicht reagiert, kopieren Sie diese Adresse in Ihren Browser:",
)
