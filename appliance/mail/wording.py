"""The shape of what mails say: one `Wording` per kind and language, and what all languages share about a kind.

Texts are Jinja2 templates over a mail's facts. What a language module must have is checked by a test, kind by kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.control import outbox


class Tone(StrEnum):
    """The colour of a mail's band."""

    NEUTRAL = "neutral"
    """The space's own colour."""
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Wording:
    """What a mail of one kind says in one language. `note` is set smaller, below all else."""

    subject: str
    title: str
    paragraphs: tuple[str, ...]
    button: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Language:
    """All that mails say in one language: by kind; labels of facts and columns; words for values; the frame."""

    locale: str
    wordings: Mapping[str, Wording]
    labels: Mapping[str, str]
    words: Mapping[str, str]
    units: tuple[str, ...]
    support: str
    """Before the line of the space that says where help is."""
    automatic: str
    """At the bottom: whom this comes from, and that nobody reads answers."""
    link_hint: str
    """Above the address spelled out, for who cannot press the button."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What all languages share about a kind: tone, facts to list, columns of its table, where its button leads.

    `link` is a path below the appliance's public address, with facts in braces; `{secret}` is the mail's own.
    """

    tone: Tone = Tone.NEUTRAL
    facts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    link: str = ""


_MACHINE: Final = ("client", "machine")
_DELETION: Final = ("what", "name", "by")

SHAPES: Final[Mapping[str, Shape]] = {
    outbox.INVITATION: Shape(facts=("role", "by", "expires_at"), link="/invitation/{secret}"),
    outbox.PASSWORD_RESET: Shape(facts=("address", "expires_at"), link="/password/{secret}"),
    outbox.PASSWORD_CHANGED: Shape(),
    outbox.DEVICE_REQUESTED: Shape(Tone.WARNING, facts=("email", "address")),
    outbox.DEVICE_TO_APPROVE: Shape(Tone.WARNING, facts=("email", "address"), link="/accounts"),
    outbox.DEVICE_APPROVED: Shape(facts=("by", "expires_at"), link="/device/{secret}"),
    outbox.DEVICE_REFUSED: Shape(Tone.WARNING, facts=("by",)),
    outbox.DEVICE_CHANGED: Shape(),
    outbox.RECOVERY_CODE_USED: Shape(Tone.WARNING, facts=("address", "left"), link="/profile"),
    outbox.NEW_ADDRESS: Shape(Tone.WARNING, facts=("at", "address", "browser"), link="/profile"),
    outbox.EMAIL_CHANGED: Shape(Tone.WARNING, facts=("by", "email")),
    outbox.DELETION_REQUESTED: Shape(Tone.BAD, facts=(*_DELETION, "due_at"), link="/"),
    outbox.DELETION_CANCELLED: Shape(facts=_DELETION, link="/"),
    outbox.DELETION_DONE: Shape(facts=("what", "name")),
    outbox.EXPORT_REQUESTED: Shape(Tone.WARNING, facts=("client", "by")),
    outbox.EXPORT_DONE: Shape(Tone.WARNING, facts=("client", "by", "size_bytes", "expires_at")),
    outbox.RESTORE_OPENED: Shape(facts=(*_MACHINE, "at", "email"), link="/machines/{machine_id}"),
    outbox.RESTORE_DONE: Shape(
        Tone.GOOD,
        facts=(*_MACHINE, "at", "by", "restored", "size_bytes", "errors"),
        link="/machines/{machine_id}",
    ),
    outbox.MACHINE_RECOVERED: Shape(Tone.WARNING, facts=(*_MACHINE, "at", "by"), link="/machines/{machine_id}"),
    outbox.KEY_CHANGED: Shape(Tone.WARNING, facts=(*_MACHINE, "at", "by"), link="/machines/{machine_id}"),
    outbox.SYNTHESIS: Shape(
        Tone.GOOD,
        facts=("client", "contract_email", "used_bytes", "allocated_bytes", "used_percent", "end_date"),
        columns=("name", "state", "good_at", "source_bytes", "sent_bytes", "files", "head"),
        link="/contracts/{contract}",
    ),
    outbox.DIGEST: Shape(Tone.WARNING, columns=("client", "name", "what"), link="/alerts"),
    outbox.BACKUP_FAILED: Shape(Tone.BAD, facts=(*_MACHINE, "since", "good_at"), link="/machines/{machine_id}"),
    outbox.BACKUP_WARNINGS: Shape(
        Tone.WARNING, facts=(*_MACHINE, "good_at", "warnings"), link="/machines/{machine_id}"
    ),
    outbox.MACHINE_SILENT: Shape(Tone.BAD, facts=(*_MACHINE, "good_at", "seen_at"), link="/machines/{machine_id}"),
    outbox.NEVER_BACKED_UP: Shape(Tone.WARNING, facts=(*_MACHINE, "since"), link="/machines/{machine_id}"),
    outbox.SUSPICIOUS_CHANGE: Shape(
        Tone.BAD, facts=(*_MACHINE, "since", "snapshot", "percent"), link="/machines/{machine_id}"
    ),
    outbox.DAMAGE_FOUND: Shape(Tone.BAD, facts=(*_MACHINE, "since"), link="/machines/{machine_id}"),
    outbox.SELECTION_SHRUNK: Shape(Tone.WARNING, facts=(*_MACHINE, "since"), link="/machines/{machine_id}"),
    outbox.ONSITE_MISSING: Shape(Tone.WARNING, facts=(*_MACHINE, "since", "days"), link="/machines/{machine_id}"),
    outbox.CONTRACT_OVER_QUOTA: Shape(
        Tone.BAD,
        facts=("client", "contract_email", "used_bytes", "allocated_bytes", "percent"),
        link="/contracts/{contract}",
    ),
    outbox.SPACE_OVER_QUOTA: Shape(
        Tone.BAD, facts=("space", "used_bytes", "allocated_bytes", "percent"), link="/contracts"
    ),
    outbox.CONTRACT_EXPIRING: Shape(
        Tone.WARNING, facts=("client", "contract_email", "end_date", "days"), link="/contracts/{contract}"
    ),
    outbox.CONTRACT_EXPIRED: Shape(
        Tone.BAD, facts=("client", "contract_email", "end_date"), link="/contracts/{contract}"
    ),
    outbox.APPLIANCE_ALARM: Shape(
        Tone.BAD, facts=("since", "used_percent", "free_bytes", "full_date", "detail"), link="/alerts"
    ),
    outbox.TEST: Shape(Tone.GOOD, facts=("at",)),
}
"""By kind."""
