"""A plausible mail of every kind, and how one looks: its HTML in a real browser.

`.venv/bin/python -m tests.support.mail_samples --out DIR [--language fr] [--width 700]` draws them all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from appliance.control import outbox, themes
from appliance.control.outbox import Mail, Scalar, Value
from appliance.control.themes import Logo, Theme
from appliance.mail.composing import LANGUAGES, Sender, compose
from appliance.mail.wording import SHAPES

NOW: Final = 1_795_600_000.0
"""25 November 2026, about noon in Paris."""
PARIS: Final = ZoneInfo("Europe/Paris")
SECRET: Final = "s3cr3t-token_0123456789abcdef"
SUPPORT: Final = "01 23 45 67 89 · support@revendeur.example"
THEME: Final = Theme("s1", "Pharma Sauvegarde", "#12497a", "#0f5c9a", SUPPORT, None)
SENDER: Final = Sender("sauvegarde@revendeur.example", "", "https://sauvegarde.revendeur.example")

_MACHINE: Final[Mapping[str, Value]] = {
    "client": "PHARM-0042",
    "machine": "COMPTOIR-1",
    "machine_id": "5f" * 16,
    "contract": "cabcdefghjk",
    "since": NOW - 50_000,
    "good_at": NOW - 140_000,
    "seen_at": NOW - 130_000,
    "hours": 40,
    "warnings": 3,
    "percent": 62,
    "snapshot": 118,
}
_CONTRACT: Final[Mapping[str, Value]] = {
    "client": "PHARM-0042",
    "contract_email": "pharmacie.centrale@example.org",
    "contract": "cabcdefghjk",
    "used_bytes": 394_600_000_000,
    "allocated_bytes": 50_000_000_000,
    "percent": 789,
    "end_date": "2026-12-12",
    "days": 17,
}
_MACHINES: Final[Sequence[Mapping[str, Scalar]]] = [
    {"name": "SERVEUR", "state": "complete", "good_at": NOW - 9_000, "source_bytes": 3_864_000_000,
     "sent_bytes": 154_000_000, "files_full": 29, "files_delta": 112, "head": "KQ7M-2VXA-P3RD"},
    {"name": "COMPTOIR-1", "state": "complete", "good_at": NOW - 8_000, "source_bytes": 1_900_000_000,
     "sent_bytes": 2_400_000, "files_full": 4, "files_delta": 9, "head": "B4TN-ZQ2L-7HCW"},
    {"name": "COMPTOIR-2", "state": "started", "good_at": NOW - 94_000, "source_bytes": 1_750_000_000,
     "sent_bytes": 880_000_000, "files_full": 1_204, "files_delta": 0, "head": "MX5E-W6YJ-RA3S"},
    {"name": "PORTABLE-TITULAIRE", "state": "none", "good_at": None, "source_bytes": None,
     "sent_bytes": None, "files_full": 0, "files_delta": 0, "head": ""},
]  # fmt: skip

FIELDS: Final[Mapping[str, Mapping[str, Value]]] = {
    outbox.INVITATION: {"role": "admin", "by": "claire.martin@revendeur.example", "expires_at": NOW + 172_800},
    outbox.PASSWORD_RESET: {"address": "203.0.113.7", "expires_at": NOW + 3_600},
    outbox.PASSWORD_CHANGED: {},
    outbox.DEVICE_REQUESTED: {"email": "pharmacie.centrale@example.org", "address": "203.0.113.7"},
    outbox.DEVICE_TO_APPROVE: {"email": "pharmacie.centrale@example.org", "address": "203.0.113.7"},
    outbox.DEVICE_APPROVED: {"by": "claire.martin@revendeur.example", "expires_at": NOW + 86_400},
    outbox.DEVICE_REFUSED: {"by": "claire.martin@revendeur.example"},
    outbox.DEVICE_CHANGED: {},
    outbox.RECOVERY_CODE_USED: {"left": 7, "address": "203.0.113.7"},
    outbox.NEW_ADDRESS: {"at": NOW - 60, "address": "198.51.100.23", "browser": "Mozilla/5.0 (X11) Firefox/140.0"},
    outbox.EMAIL_CHANGED: {"by": "claire.martin@revendeur.example", "email": "nouvelle@example.org"},
    outbox.DELETION_REQUESTED: {"what": "contract", "name": "PHARM-0042", "by": "claire.martin@revendeur.example",
                                "due_at": NOW + 604_800},
    outbox.DELETION_CANCELLED: {"what": "machine", "name": "COMPTOIR-1", "by": "claire.martin@revendeur.example",
                                "due_at": NOW + 604_800},
    outbox.DELETION_DONE: {"what": "contract", "name": "PHARM-0042", "by": "pilulier", "due_at": NOW},
    outbox.EXPORT_REQUESTED: {"client": "PHARM-0042", "contract": "c0042", "by": "claire.martin@revendeur.example"},
    outbox.EXPORT_DONE: {"client": "PHARM-0042", "contract": "c0042", "by": "claire.martin@revendeur.example",
                         "size_bytes": 48_200_000_000, "expires_at": NOW + 604_800},
    outbox.RESTORE_OPENED: {**_MACHINE, "at": NOW - 30, "email": "pharmacie.centrale@example.org"},
    outbox.RESTORE_DONE: {**_MACHINE, "at": NOW - 30, "by": "claire.martin@revendeur.example", "restored": 214,
                          "size_bytes": 48_200_000, "errors": 0},
    outbox.MACHINE_RECOVERED: {**_MACHINE, "at": NOW - 30, "by": "claire.martin@revendeur.example"},
    outbox.KEY_CHANGED: {**_MACHINE, "at": NOW - 30, "by": "claire.martin@revendeur.example"},
    outbox.SYNTHESIS: {**_CONTRACT, "used_bytes": 7_514_000_000, "used_percent": 15, "complete": 2, "started": 1,
                       "machines": _MACHINES},
    outbox.DIGEST: {
        "rows": [
            {"client": "PHARM-0042", "name": "COMPTOIR-1", "what": "backup-failed"},
            {"client": "PHARM-0042", "name": "SERVEUR", "what": "machine-silent"},
            {"client": "LABO-7", "name": "", "what": "contract-over-quota"},
            {"client": "DENT-12", "name": "ACCUEIL", "what": "suspicious-change"},
        ]
    },
    outbox.BACKUP_FAILED: _MACHINE,
    outbox.BACKUP_WARNINGS: _MACHINE,
    outbox.MACHINE_SILENT: _MACHINE,
    outbox.NEVER_BACKED_UP: _MACHINE,
    outbox.SUSPICIOUS_CHANGE: _MACHINE,
    outbox.DAMAGE_FOUND: _MACHINE,
    outbox.SELECTION_SHRUNK: _MACHINE,
    outbox.ONSITE_MISSING: _MACHINE | {"days": 9},
    outbox.CONTRACT_OVER_QUOTA: _CONTRACT,
    outbox.SPACE_OVER_QUOTA: {"space": "Pharma Sud", "used_bytes": 5_200_000_000_000,
                              "allocated_bytes": 4_000_000_000_000, "percent": 130},
    outbox.CONTRACT_EXPIRING: _CONTRACT,
    outbox.CONTRACT_EXPIRED: _CONTRACT,
    outbox.APPLIANCE_ALARM: {"alarm": "disk", "since": NOW - 7_200,
                             "used_percent": 92, "free_bytes": 1_900_000_000_000, "full_date": "2026-12-20"},
    outbox.TEST: {"at": NOW},
}  # fmt: skip
"""By kind; a kind without a sample fails a test."""


def mail(kind: str, language: str = "fr", fields: Mapping[str, Value] | None = None) -> Mail:
    """A mail of the outbox, claimed."""
    secret = SECRET if "{secret}" in SHAPES[kind].link else None
    return Mail(
        id=7,
        recipient="pharmacie.centrale@example.org",
        kind=kind,
        language=language,
        space_id="s1",
        fields=FIELDS[kind] if fields is None else fields,
        created_at=NOW,
        sent_at=None,
        secret=secret,
        message_id="<7.abc@revendeur.example>",
        attempts=1,
    )


def message(
    kind: str,
    language: str = "fr",
    *,
    theme: Theme = THEME,
    logo: Logo | None = None,
    fields: Mapping[str, Value] | None = None,
) -> EmailMessage:
    """The message made of it."""
    return compose(mail(kind, language, fields), theme, logo, SENDER, now=NOW, zone=PARIS)


def html_of(made: EmailMessage) -> str:
    """Its HTML, with the logo's bytes in place of its cid, as a mail program shows it."""
    body = made.get_body(("html",))
    assert isinstance(body, EmailMessage)
    html = str(body.get_content())
    for part in made.walk():
        cid = part.get("Content-ID")
        if cid is not None:
            data = "".join(str(part.get_payload()).split())
            html = html.replace(f"cid:{cid.strip('<>')}", f"data:{part.get_content_type()};base64,{data}")
    return html


def text_of(made: EmailMessage) -> str:
    """Its plain text."""
    body = made.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


BROWSER: Final = "/usr/bin/chromium"
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def draw(pages: Iterable[tuple[str, str]], folder: Path, width: int) -> dict[str, int]:
    """A picture of each (name, html) in the folder; by name, how many pixels it is wider than the window."""
    from playwright.sync_api import sync_playwright

    overflow = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 300}, java_script_enabled=True)
        for name, html in pages:
            page.set_content(html, wait_until="load")
            overflow[name] = int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
            page.screenshot(path=str(folder / f"{name}.png"), full_page=True)
        browser.close()
    return overflow


def main() -> None:
    """Draw all kinds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--language", default="fr", choices=sorted(LANGUAGES))
    parser.add_argument("--width", default=760, type=int)
    parser.add_argument("--kind", action="append")
    given = parser.parse_args()
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = given.kind or list(FIELDS)
    logo = themes.encoded_anew(_picture())
    logos = {outbox.SYNTHESIS: logo}
    pages = [(kind, html_of(message(kind, given.language, logo=logos.get(kind)))) for kind in kinds]
    print({name: over for name, over in draw(pages, folder, given.width).items() if over > 0})


def _picture() -> bytes:
    import io

    from PIL import Image, ImageDraw

    drawn = Image.new("RGB", (360, 80), "white")
    ImageDraw.Draw(drawn).rounded_rectangle((4, 4, 76, 76), 16, fill="#12497a")
    ImageDraw.Draw(drawn).text((96, 22), "Pharma Sauvegarde", fill="#12497a", font_size=28)
    output = io.BytesIO()
    drawn.save(output, "PNG")
    return output.getvalue()


if __name__ == "__main__":
    main()
