"""Mails with made-up facts, as they look in a space's theme: what an admin sees before customers do.

The facts are nobody's; names and addresses are those that are kept for examples (RFC 2606, RFC 5737).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from typing import Final

from appliance.control import outbox
from appliance.control.outbox import Mail, Scalar, Value
from appliance.control.themes import Logo, Theme
from appliance.errors import NotFoundError
from appliance.mail.composing import Sender, compose
from webui import formats

_DAY: Final = 86400.0
_GB: Final = 10**9
_TOKEN: Final = "exemple"


@dataclass(frozen=True, slots=True)
class Preview:
    """A mail as its reader gets it."""

    sender: str
    subject: str
    html: str
    text: str


def _machine(now: float) -> dict[str, Value]:
    return {
        "client": "Pharmacie du Marché",
        "machine": "COMPTOIR-1",
        "machine_id": "00" * 16,
        "contract": "exemple",
        "since": now - 0.6 * _DAY,
        "good_at": now - 1.6 * _DAY,
        "seen_at": now - 1.5 * _DAY,
        "hours": 38,
        "warnings": 3,
        "percent": 62,
        "snapshot": 118,
    }


def _contract(now: float) -> dict[str, Value]:
    return {
        "client": "Pharmacie du Marché",
        "contract_email": "pharmacie@example.org",
        "contract": "exemple",
        "used_bytes": 394 * _GB,
        "allocated_bytes": 50 * _GB,
        "percent": 788,
        "end_date": (formats.local_day(now) + timedelta(days=17)).isoformat(),
        "days": 17,
    }


def _synthesis(now: float) -> dict[str, Value]:
    machines: Sequence[Mapping[str, Scalar]] = [
        {
            "name": name,
            "state": state,
            "good_at": now - hours * 3600 if hours else None,
            "source_bytes": source,
            "sent_bytes": sent,
            "files_full": full,
            "files_delta": delta,
            "head": head,
        }
        for name, state, hours, source, sent, full, delta, head in (
            ("SERVEUR", "complete", 3.0, 3_864 * 10**6, 154 * 10**6, 29, 112, "KQ7M-2VXA-P3RD"),
            ("COMPTOIR-1", "complete", 2.5, 1_900 * 10**6, 2_400_000, 4, 9, "B4TN-ZQ2L-7HCW"),
            ("BUREAU", "started", 26.0, 1_750 * 10**6, 880 * 10**6, 1_204, 0, "MX5E-W6YJ-RA3S"),
        )
    ]
    used: dict[str, Value] = {"used_bytes": 7_514 * 10**6, "used_percent": 15, "complete": 2, "started": 1}
    return _contract(now) | used | {"machines": machines}


SAMPLES: Final[Mapping[str, Callable[[float], dict[str, Value]]]] = {
    outbox.SYNTHESIS: _synthesis,
    outbox.BACKUP_FAILED: _machine,
    outbox.BACKUP_WARNINGS: _machine,
    outbox.MACHINE_SILENT: _machine,
    outbox.SUSPICIOUS_CHANGE: _machine,
    outbox.CONTRACT_OVER_QUOTA: _contract,
    outbox.CONTRACT_EXPIRING: _contract,
    outbox.CONTRACT_EXPIRED: _contract,
    outbox.RESTORE_OPENED: lambda now: _machine(now) | {"at": now - 60, "email": "pharmacie@example.org"},
    outbox.RESTORE_DONE: lambda now: _machine(now)
    | {"at": now - 60, "by": "admin@example.org", "restored": 214, "size_bytes": 48_200_000, "errors": 0},
    outbox.INVITATION: lambda now: {"role": "customer", "by": "admin@example.org", "expires_at": now + 7 * _DAY},
    outbox.PASSWORD_RESET: lambda now: {"address": "192.0.2.7", "expires_at": now + 3600},
}
"""What can be looked at, in the order of a list."""


def preview(kind: str, language: str, theme: Theme, logo: Logo | None, sender: Sender, *, now: float) -> Preview:
    """A sample mail as it would leave; NotFoundError for a kind without a sample."""
    sample = SAMPLES.get(kind)
    if sample is None:
        raise NotFoundError("there is no sample of this mail")
    # Links are drawn even where no public address is set yet: the page is about how it looks.
    shown = Sender(sender.address or "sauvegarde@example.org", sender.name, sender.public_url or "https://example.org")
    mail = Mail(
        id=0,
        recipient="pharmacie@example.org",
        kind=kind,
        language=language,
        space_id=theme.space_id,
        fields=sample(now),
        created_at=now,
        sent_at=None,
        secret=_TOKEN,
        message_id="<0@example.org>",
    )
    message = compose(mail, theme, logo, shown, now=now, zone=formats.ZONE)
    return Preview(str(message["From"]), str(message["Subject"]), _html(message), _body(message, "plain"))


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if isinstance(part, EmailMessage) else ""


def _html(message: EmailMessage) -> str:
    """The HTML with the logo's bytes in place of its name, as mail programs show it."""
    html = _body(message, "html")
    for part in message.walk():
        cid = part.get("Content-ID")
        if cid is not None:
            data = "".join(str(part.get_payload()).split())
            html = html.replace(f"cid:{cid.strip('<>')}", f"data:{part.get_content_type()};base64,{data}")
    return html
