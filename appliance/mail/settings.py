"""How mails leave: the mail server's settings, checked before they are kept, and its password, which is no setting.

The password lies in a file of the home that only its owner reads, or comes as the systemd credential `mail-password`,
which goes before it. It is never shown again, logged or put on a command line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from appliance.control.text import checked_email, checked_line
from appliance.mail.composing import Sender
from appliance.settings import Home, MailSettings, Settings
from transport.errors import UsageError
from transport.keys import read_key_file, write_key_file

PASSWORD_LIMIT: Final = 1024
_CREDENTIAL: Final = "mail-password"
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9a-fA-F:]{2,45}")
_LOOPBACK: Final = ("localhost", "127.", "::1")


def checked(mail: MailSettings) -> MailSettings:
    """The settings, if mails could leave by them; UsageError that says what is wrong."""
    if not mail.host:
        return MailSettings()
    if not _HOST.fullmatch(mail.host):
        raise UsageError(f"{mail.host!r} is not the name or address of a mail server")
    if not 1 <= mail.port <= 65535:
        raise UsageError(f"port {mail.port} is out of range: mail servers listen on 587, 465 or 25")
    if mail.security == "none" and not mail.host.startswith(_LOOPBACK):
        raise UsageError(
            "mails hold links that open accounts: without TLS they may only go to a server on this machine; give "
            "starttls or tls"
        )
    if not mail.sender:
        raise UsageError("mails need an address to come from: give --sender")
    if mail.authority and not Path(mail.authority).is_absolute():
        raise UsageError(f"{mail.authority} is not an absolute path to a file of certificates")
    return msgspec.structs.replace(
        mail,
        sender=checked_email(mail.sender),
        sender_name=checked_line(mail.sender_name, "the sender's name", 80) if mail.sender_name.strip() else "",
        user=checked_line(mail.user, "the user", 254) if mail.user.strip() else "",
    )


def checked_url(text: str) -> str:
    """The public address of the web interface, without a slash at its end; empty for none. UsageError otherwise."""
    url = text.strip().rstrip("/")
    if not url:
        return ""
    parts = urlsplit(url)
    local = (parts.hostname or "").startswith(_LOOPBACK)
    if parts.scheme not in (("https", "http") if local else ("https",)) or not parts.hostname:
        raise UsageError(f"{text!r} is not an address of the form https://HOST: links in mails begin with it")
    if parts.query or parts.fragment or parts.username or len(url) > 300 or not re.fullmatch(r"[!-~]+", url):
        raise UsageError(f"{text!r} has more than host, port and path: links in mails begin with it")
    return url


def save(home: Home, mail: MailSettings | None = None, *, public_url: str | None = None) -> Settings:
    """Keep new settings; None leaves what is there. UsageError, and nothing kept, for what could not work."""
    mail = None if mail is None else checked(mail)
    url = None if public_url is None else checked_url(public_url)
    with home.settings_locked():
        settings = home.load_settings()
        changed = msgspec.structs.replace(
            settings,
            mail=settings.mail if mail is None else mail,
            public_url=settings.public_url if url is None else url,
        )
        if changed != settings:
            home.save_settings(changed)
        return changed


def save_password(home: Home, password: str) -> None:
    """Keep the mail server's password; an empty one takes it away."""
    if not password:
        home.mail_password.unlink(missing_ok=True)
        return
    if len(password.encode()) > PASSWORD_LIMIT or "\n" in password or "\0" in password:
        raise UsageError(f"the mail server's password is one line of at most {PASSWORD_LIMIT} bytes")
    write_key_file(home.mail_password, password.encode())


def has_password(home: Home) -> bool:
    """Whether there is one, for pages that do not show it."""
    credential = _credential()
    return (credential is not None and credential.exists()) or home.mail_password.exists()


def load_password(home: Home) -> str:
    """The mail server's password, empty where there is none; KeyFileError where its file is open to others."""
    credential = _credential()
    if credential is not None and credential.exists():
        # systemd keeps it readable by this service alone, under modes of its own.
        return credential.read_text(encoding="utf-8").rstrip("\n")
    if not home.mail_password.exists():
        return ""
    return read_key_file(home.mail_password, PASSWORD_LIMIT).decode()


def _credential() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) / _CREDENTIAL if folder else None


def changed(mail: MailSettings, **changes: object) -> MailSettings:
    """The settings with some of them changed, unchecked: `checked` and `save` see to that."""
    return msgspec.structs.replace(mail, **changes)


def shown(settings: Settings) -> dict[str, object]:
    """What may be shown and written down: all but the password, which is not among the settings."""
    return {"mail": msgspec.structs.asdict(settings.mail), "public_url": settings.public_url}


def sender(settings: Settings) -> Sender:
    """Whom mails come from."""
    return Sender(settings.mail.sender, settings.mail.sender_name, settings.public_url)
