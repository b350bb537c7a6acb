"""Handing mails to the mail server: one after the other out of the outbox, each under a lease, each once.

When a mail can arrive twice, and only then: the server took it, and this process or its disk died before that was
written down, or the line before the server's word came through. Both copies have the same Message-ID, by which mail
programs tell. All else is tried again with pauses that grow; a server's final no (RFC 5321: 5yz) to this recipient or
message gives the mail up, anything about the server itself (no connection, no login) stops the round and keeps all.
"""

from __future__ import annotations

import logging
import secrets
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

from appliance.control import outbox, themes
from appliance.control.database import Database
from appliance.control.outbox import Mail, MailState
from appliance.errors import NotFoundError
from appliance.mail import settings as mail_settings
from appliance.mail.composing import compose
from appliance.settings import Home, Settings
from transport.errors import PilulierError

TIMEOUT_S: Final = 30.0
"""Of each answer of the server. A mail takes a handful of them, which a lease outlasts."""
ROUND: Final = 200
"""Mails in one round, so that a round ends."""

log = logging.getLogger("pilulier.mail")


class MailServerError(PilulierError):
    """The mail server cannot be reached, refuses our name and password, or is not who it should be."""

    code = "mail-server"


class MailRefusedError(PilulierError):
    """The mail server refuses this mail; `final` where it would do so again."""

    code = "mail-refused"

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class Round:
    """What became of one round. `stopped` says why it ended before the outbox was empty; empty otherwise."""

    sent: int
    put_off: int
    given_up: int
    stopped: str


class Server:
    """A session with the mail server. Made by `connected`."""

    def __init__(self, smtp: smtplib.SMTP) -> None:
        self._smtp = smtp

    def send(self, message: EmailMessage, recipient: str) -> None:
        """Hand over one message; MailRefusedError, or MailServerError where the session is over."""
        try:
            self._smtp.send_message(message, to_addrs=[recipient])
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = error.recipients[recipient]
            raise MailRefusedError(f"{recipient} is refused: {_said(code, answer)}", final=code // 100 == 5) from None
        except smtplib.SMTPResponseException as error:
            said = _said(error.smtp_code, error.smtp_error)
            if error.smtp_code == 421 or isinstance(error, smtplib.SMTPSenderRefused):
                raise MailServerError(f"the mail server sends us away: {said}") from None
            raise MailRefusedError(f"the message is refused: {said}", final=error.smtp_code // 100 == 5) from None
        except smtplib.SMTPNotSupportedError as error:
            raise MailRefusedError(f"the mail server cannot take this address: {error}", final=True) from None
        except (smtplib.SMTPException, OSError) as error:
            raise MailServerError(f"the mail server broke off: {error or type(error).__name__}") from None


def _said(code: int, answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return f"{code} {' '.join(text.split())[:200]}"


@contextmanager
def connected(home: Home, settings: Settings) -> Iterator[Server]:
    """A session: connected, encrypted and logged in as configured. MailServerError where it cannot be."""
    mail = settings.mail
    where = f"{mail.host}:{mail.port}"
    if not mail.host:
        raise MailServerError("no mail server is configured: see 'pilulier mail set'")
    try:
        trust = ssl.create_default_context(cafile=mail.authority or None)
        smtp: smtplib.SMTP
        if mail.security == "tls":
            smtp = smtplib.SMTP_SSL(mail.host, mail.port, timeout=TIMEOUT_S, context=trust)
        else:
            smtp = smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_S)
    except ssl.SSLError as error:
        raise MailServerError(f"{where} is not to be believed: {error.reason or error}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise MailServerError(f"{where} cannot be reached: {_why(error)}") from None
    try:
        try:
            if mail.security == "starttls":
                smtp.starttls(context=trust)
            if mail.user:
                smtp.login(mail.user, mail_settings.load_password(home))
        except smtplib.SMTPAuthenticationError as error:
            raise MailServerError(
                f"{where} refuses user {mail.user} and its password: {_said(error.smtp_code, error.smtp_error)}"
            ) from None
        except smtplib.SMTPNotSupportedError as error:
            raise MailServerError(f"{where} does not offer what is wanted of it: {error}") from None
        except ssl.SSLError as error:
            raise MailServerError(f"{where} is not to be believed: {error.reason or error}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise MailServerError(f"{where} broke off: {_why(error)}") from None
        yield Server(smtp)
    finally:
        try:
            smtp.quit()
        except (OSError, smtplib.SMTPException):
            smtp.close()


def _why(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _said(error.smtp_code, error.smtp_error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def new_message_id(settings: Settings) -> str:
    """Of a mail that is claimed for the first time (RFC 5322, 3.6.4): random, in the sender's domain."""
    domain = settings.mail.sender.rpartition("@")[2] or socket.gethostname()
    return f"<{secrets.token_hex(16)}@{domain.encode('idna').decode()}>"


def deliver(home: Home, db: Database, *, now: Callable[[], float], pause: Callable[[], None] = lambda: None) -> Round:
    """Send what is due; MailServerError is told in the result, since the mails stay. `pause` stands between mails."""
    sent = put_off = given_up = 0
    settings = home.load_settings()
    stopped = ""
    try:
        with connected(home, settings) as server:
            for _ in range(ROUND):
                pause()
                mail = outbox.claim(db, new_message_id(settings), now())
                if mail is None:
                    break
                try:
                    state = _send(db, server, mail, settings, now)
                except MailServerError as error:
                    outbox.put_off(db, mail, str(error), now())
                    raise
                sent += state is MailState.SENT
                put_off += state is MailState.WAITING
                given_up += state is MailState.GIVEN_UP
    except MailServerError as error:
        stopped = str(error)
        log.warning("%s", stopped)
    return Round(sent, put_off, given_up, stopped)


def _send(db: Database, server: Server, mail: Mail, settings: Settings, now: Callable[[], float]) -> MailState:
    expires = mail.fields.get("expires_at")
    if isinstance(expires, int | float) and expires <= now():
        outbox.give_up(db, mail.id, "its link had expired before it could leave", now())
        return MailState.GIVEN_UP
    if mail.secret and not settings.public_url:
        reason = "it holds a link, and no public address is set: give 'pilulier mail set --public-url'"
        return outbox.put_off(db, mail, reason, now())
    try:
        theme = themes.of_space(db, mail.space_id)
        logo = themes.logo(db, mail.space_id) if mail.space_id and theme.has_logo else None
        message = compose(mail, theme, logo, mail_settings.sender(settings), now=now())
        server.send(message, mail.recipient)
    except MailRefusedError as error:
        log.warning("mail %d (%s): %s", mail.id, mail.kind, error)
        if error.final:
            outbox.give_up(db, mail.id, str(error), now())
            return MailState.GIVEN_UP
        return outbox.put_off(db, mail, str(error), now())
    except (NotFoundError, ValueError, UnicodeError) as error:
        # A mail that cannot be made today may be made by the next version: the others go first.
        log.error("mail %d (%s) cannot be made: %s", mail.id, mail.kind, error)
        return outbox.put_off(db, mail, str(error), now())
    outbox.mark_sent(db, mail.id, now())
    return MailState.SENT


def send_test(home: Home, db: Database, recipient: str, language: str, *, now: Callable[[], float]) -> None:
    """Send one message now, past the outbox; MailServerError or MailRefusedError say what is wrong."""
    settings = home.load_settings()
    at = now()
    mail = Mail(
        id=0,
        recipient=recipient,
        kind=outbox.TEST,
        language=language,
        space_id=None,
        fields={"at": at},
        created_at=at,
        sent_at=None,
        message_id=new_message_id(settings),
    )
    with connected(home, settings) as server:
        server.send(compose(mail, themes.of_space(db, None), None, mail_settings.sender(settings), now=at), recipient)
