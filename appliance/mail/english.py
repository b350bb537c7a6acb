"""What mails say in English."""

from __future__ import annotations

from typing import Final

from appliance.control import outbox
from appliance.mail.english_words import LABELS, WORDS
from appliance.mail.wording import Language, Wording

_NOT_YOU: Final = "If this was not you, tell whoever manages your access at once: they can disable the account."
_SEE_MACHINE: Final = "See the machine"
_SEE_CONTRACT: Final = "See the contract"

LANGUAGE: Final = Language(
    locale="en",
    wordings={
        outbox.INVITATION: Wording(
            "Your access to {{ product }}",
            "Your access is ready",
            (
                "{{ by }} invites you to look after backups in {{ product }}.",
                "Choose a password, then pair an authenticator app (Aegis, FreeOTP, Google Authenticator or another) "
                "with your account. The link is yours alone and works once.",
            ),
            "Activate my access",
            "You did not expect this invitation? Do nothing: no account is made without you.",
        ),
        outbox.PASSWORD_RESET: Wording(
            "Choose a new password",
            "Choose a new password",
            (
                "A new password was asked for on your account. The link works once; you still need your "
                "authenticator app to log in.",
            ),
            "Choose a password",
            "You asked for nothing? Do nothing: your present password stays valid.",
        ),
        outbox.PASSWORD_CHANGED: Wording(
            "Your password was changed",
            "Your password was changed",
            ("All open sessions were ended. Log in with the new password.", _NOT_YOU),
        ),
        outbox.DEVICE_REQUESTED: Wording(
            "A new authenticator was asked for",
            "A new authenticator was asked for",
            (
                "Your password was typed, and then another authenticator was asked for on your account. Somebody "
                "entitled has to agree first; you will then receive a link.",
                _NOT_YOU,
            ),
        ),
        outbox.DEVICE_TO_APPROVE: Wording(
            "To decide: another authenticator for {{ email }}",
            "Another authenticator waits for your word",
            (
                "{{ email }} no longer has their authenticator app and asks to pair another one.",
                "Call this person on a number that you know before you agree: somebody else may have their password.",
            ),
            "Decide",
        ),
        outbox.DEVICE_APPROVED: Wording(
            "Pair your new authenticator",
            "Your request was granted",
            (
                "{{ by }} has agreed. Open the link, type your password and pair your new authenticator app. The "
                "former one stops working then.",
            ),
            "Pair my authenticator",
            _NOT_YOU,
        ),
        outbox.DEVICE_REFUSED: Wording(
            "Your request for another authenticator was refused",
            "Your request was refused",
            ("{{ by }} did not agree to another authenticator for your account. If in doubt, call them.",),
        ),
        outbox.DEVICE_CHANGED: Wording(
            "Your authenticator was changed",
            "Your authenticator was changed",
            (
                "Another authenticator app is paired with your account. Former recovery codes are worthless; new "
                "ones were shown to you.",
                _NOT_YOU,
            ),
        ),
        outbox.RECOVERY_CODE_USED: Wording(
            "A recovery code was used",
            "A recovery code was used",
            (
                "A login to your account was confirmed by a recovery code. Each works once: {{ left }} are left.",
                _NOT_YOU,
            ),
            "See my profile",
        ),
        outbox.NEW_ADDRESS: Wording(
            "A login from a new place",
            "A login from a new place",
            (
                "Somebody logged in to your account from a network where we had not seen you before.",
                "If it was you, all is well. If not, end the open sessions in your profile and change your password.",
            ),
            "See my sessions",
        ),
        outbox.EMAIL_CHANGED: Wording(
            "The address of your account was changed",
            "The address of your account was changed",
            (
                "Your account has another e-mail address from now on; this one no longer opens it.",
                "You know nothing of it? Tell whoever manages your access at once.",
            ),
        ),
        outbox.DELETION_REQUESTED: Wording(
            "Deletion asked for: {{ name }}",
            "Deletion planned for {{ due_at|moment }}",
            (
                "{{ by }} has asked to delete {{ what|article }} “{{ name }}”. After that time its backups are erased "
                "from the disks and cannot be restored any more.",
                "Nothing is erased yet. Until then the request can be cancelled in the interface.",
            ),
            "See the request",
            "This request surprises you? Cancel it, then change your password.",
        ),
        outbox.DELETION_CANCELLED: Wording(
            "Deletion cancelled: {{ name }}",
            "The deletion was cancelled",
            ("{{ by }} has cancelled the deletion of {{ what|article }} “{{ name }}”. Nothing was erased.",),
            "Open {{ product }}",
        ),
        outbox.DELETION_DONE: Wording(
            "Deleted: {{ name }}",
            "The deletion was carried out",
            (
                "The seven days are over: {{ what|article }} “{{ name }}” and its backups are erased, keys included. "
                "The audit log keeps the certificate.",
                "Encrypted safety copies of the server that still hold a trace of it expire by themselves.",
            ),
        ),
        outbox.EXPORT_REQUESTED: Wording(
            "Export asked for: {{ client }}",
            "An export of the backups was asked for",
            (
                "{{ by }} has asked for an export of all backups of contract “{{ client }}”, for another host.",
                "The export stays encrypted and holds no key: without the recovery sheet or the exported key of each "
                "machine it cannot be read.",
            ),
            note=_NOT_YOU,
        ),
        outbox.EXPORT_DONE: Wording(
            "Export ready: {{ client }}",
            "The export of the backups is ready",
            (
                "The export of contract “{{ client }}”, asked for by {{ by }}, can be downloaded by your reseller.",
                "It is encrypted and holds no key. The file LISEZ-MOI in it says how to check and restore it.",
            ),
        ),
        outbox.RESTORE_OPENED: Wording(
            "Restore opened: {{ machine }}",
            "A restore was opened",
            (
                "The backups of “{{ machine }}” were opened with a one-time code of {{ email }}.",
                "If this restore is yours, there is nothing to do. If not, tell your reseller at once.",
            ),
            _SEE_MACHINE,
        ),
        outbox.RESTORE_DONE: Wording(
            "Restore done: {{ machine }}",
            "The files are on “{{ machine }}”",
            (
                "What was sent from the backup server was accepted on “{{ machine }}” and restored there.",
                "It lies in a new folder of its own. Nothing on the machine was replaced: put the files where you need "
                "them.",
            ),
            _SEE_MACHINE,
        ),
        outbox.MACHINE_RECOVERED: Wording(
            "Machine recovered on new hardware: {{ machine }}",
            "A machine goes on on new hardware",
            (
                "“{{ machine }}” goes on on new hardware, approved by {{ by }}. The former installation is refused "
                "from now on; all backups stay readable.",
            ),
            _SEE_MACHINE,
            _NOT_YOU,
        ),
        outbox.KEY_CHANGED: Wording(
            "Key changed: {{ machine }}",
            "The key of a machine was changed",
            (
                "The encryption key of “{{ machine }}” was changed. Earlier backups stay readable.",
                "Print the recovery sheet again from the agent and destroy the former one.",
            ),
            _SEE_MACHINE,
            _NOT_YOU,
        ),
        outbox.SYNTHESIS: Wording(
            "Today's backups: {{ complete }} of {{ machines|length }} complete – {{ client }}",
            "{% if complete == machines|length %}All your machines are backed up{% else %}"
            "{{ complete }} of {{ machines|length }} machines backed up{% endif %}",
            (
                "This is how your backups stand for the last twenty-four hours.",
                "{% if started %}{{ started }} backup{{ 's' if started > 1 }} began and {{ 'are' if started > 1 else "
                "'is' }} not complete yet: the rest goes on where it stopped.{% endif %}",
            ),
            _SEE_CONTRACT,
            "The head code names the latest backup. Keep this message: after a disaster the code proves that the "
            "history you are given is the newest one.",
        ),
        outbox.DIGEST: Wording(
            "{{ rows|length }} alerts to look at",
            "{{ rows|length }} alerts to look at",
            ("Several alerts opened at once; here they are in one message.",),
            "See the alerts",
        ),
        outbox.BACKUP_FAILED: Wording(
            "Backup failed: {{ machine }}",
            "The backup of “{{ machine }}” failed",
            (
                "The last backup did not come to its end. The one before is whole and can be restored.",
                "The next attempt is made by itself. If this message comes again, the machine's log says why; your "
                "support can help.",
            ),
            _SEE_MACHINE,
        ),
        outbox.BACKUP_WARNINGS: Wording(
            "Backup with warnings: {{ machine }}",
            "Backup done, with {{ warnings }} warning{{ 's' if warnings > 1 }}",
            (
                "The backup of “{{ machine }}” is complete, but some files could not be read: mostly because a "
                "program had them open, or because reading them is forbidden. Their former version is kept.",
                "They are listed on the machine, in the agent's log.",
            ),
            _SEE_MACHINE,
        ),
        outbox.MACHINE_SILENT: Wording(
            "No word from {{ machine }} for {{ hours|span }}",
            "“{{ machine }}” has not been backed up for {{ hours|span }}",
            (
                "No complete backup has arrived for so long.",
                "Check that the computer is on and connected, and that the agent runs there. A missed backup is "
                "caught up as soon as it connects again.",
            ),
            _SEE_MACHINE,
        ),
        outbox.NEVER_BACKED_UP: Wording(
            "No backup yet: {{ machine }}",
            "“{{ machine }}” has never been backed up",
            (
                "The machine was enrolled {{ hours|span }} ago, but no backup has arrived.",
                "Choose on the machine what is to be backed up, then start a first backup.",
            ),
            _SEE_MACHINE,
        ),
        outbox.SUSPICIOUS_CHANGE: Wording(
            "To be looked at now: {{ machine }}",
            "An unusual change on “{{ machine }}”",
            (
                "{% if decoys is defined and decoys %}"
                "Decoy documents that nobody has reason to touch were changed, renamed or removed "
                "({{ decoys }}). Ransomware does that; so does somebody who tidies up.{% else %}"
                "{{ percent }} % of the files of the backup before were changed or removed at once. Ransomware does "
                "that; so does a large software update.{% endif %}",
                "Call whoever uses this machine. If in doubt, unplug it from the network. Earlier backups are kept: "
                "nothing is pruned until somebody has acknowledged this alert.",
            ),
            "Look at the alert",
        ),
        outbox.DAMAGE_FOUND: Wording(
            "Damaged data: {{ machine }}",
            "Stored data no longer reads well",
            (
                "The check of stored data has found, in the backups of “{{ machine }}”, data that the disk no longer "
                "gives back as it was.",
                "The next backup sends again what the machine still has. The host must look at the disk.",
            ),
            _SEE_MACHINE,
        ),
        outbox.SELECTION_SHRUNK: Wording(
            "Smaller selection: {{ machine }}",
            "“{{ machine }}” backs up fewer folders than before",
            (
                "Folders or files were taken out of what the machine backs up.",
                "Ask whether this was meant, then accept it on the machine's page.",
            ),
            _SEE_MACHINE,
        ),
        outbox.ONSITE_MISSING: Wording(
            "Copy on site missing: {{ machine }}",
            "“{{ machine }}” has no recent copy on site",
            (
                "The copy that this machine keeps on a NAS or an external disk was not written for {{ days }} days.",
                "Backups to the host go on. Connect the disk again, or check that the NAS is on and has room left: "
                "the next backup brings the copy up to date.",
            ),
            _SEE_MACHINE,
        ),
        outbox.CONTRACT_OVER_QUOTA: Wording(
            "Over the allocated space: {{ client }} at {{ percent }} %",
            "{{ percent }} % of the allocated space is used",
            (
                "Contract “{{ client }}” uses {{ used_bytes|size }} of {{ allocated_bytes|size }} allocated.",
                "Backups go on: being over never stops them. You may allocate more, review what is backed up, or "
                "pause the contract; only a pause refuses backups.",
            ),
            _SEE_CONTRACT,
        ),
        outbox.SPACE_OVER_QUOTA: Wording(
            "Over the allocated space: {{ space }} at {{ percent }} %",
            "{{ percent }} % of the space's volume is used",
            (
                "The contracts of space “{{ space }}” together use {{ used_bytes|size }} of "
                "{{ allocated_bytes|size }} allocated.",
                "Backups go on. The list of contracts shows which are over.",
            ),
            "See the contracts",
        ),
        outbox.CONTRACT_EXPIRING: Wording(
            "Contract ends in {{ days }} day{{ 's' if days > 1 }}: {{ client }}",
            "The contract ends on {{ end_date|day }}",
            (
                "To go on, extend the contract before that day.",
                "After that day backups go on until the contract is paused. To end well: restore what you need, "
                "uninstall the agent on each machine, then ask for the contract to be deleted.",
            ),
            _SEE_CONTRACT,
        ),
        outbox.CONTRACT_EXPIRED: Wording(
            "Contract ended: {{ client }}",
            "The contract ended on {{ end_date|day }}",
            (
                "Backups go on: the end date stops none. Your reseller may extend the contract, or pause it; only a "
                "pause refuses backups. Restores stay possible.",
                "To end well: restore what you need, uninstall the agent on each machine, then ask for the contract "
                "to be deleted.",
            ),
            _SEE_CONTRACT,
        ),
        outbox.APPLIANCE_ALARM: Wording(
            "Backup server: {{ alarm|word }}",
            "{{ alarm|word }}",
            ("The backup server asks for your attention.",),
            "See the alerts",
        ),
        outbox.TEST: Wording(
            "A test message from {{ product }}",
            "Sending mail works",
            ("You asked for this message to check the settings. If it has reached you, all is in order.",),
        ),
    },
    labels=LABELS,
    words=WORDS,
    units=("B", "kB", "MB", "GB", "TB", "PB"),
    support="Need help?",
    automatic="An automatic message from {{ product }}; nobody reads answers to this address.",
    link_hint="If the button does not work, copy this address into your browser:",
)
