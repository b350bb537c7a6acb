"""A real SMTP server on 127.0.0.1 that keeps what it is given: with STARTTLS, a login, and answers a test chooses."""

from __future__ import annotations

import ipaddress
import ssl
from asyncio import Server
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER = "pilulier"
PASSWORD = "open, sesame"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1: one file with it and its key, one with it alone, to be believed."""

    chain: Path
    authority: Path

    @property
    def context(self) -> ssl.SSLContext:
        """For the server's side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain)
        return context


def certificate(folder: Path) -> Certificate:
    """Made anew, valid today."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilulier test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "chain.pem").write_bytes(private + public)
    (folder / "authority.pem").write_bytes(public)
    return Certificate(folder / "chain.pem", folder / "authority.pem")


def _accept(_: Envelope) -> str:
    return "250 taken"


@dataclass(slots=True)
class MailServer:
    """A context manager. `answer_rcpt` and `answer_data` decide what is said to a recipient and to a whole message."""

    tls: Certificate | None = None
    login: bool = False
    answer_rcpt: Callable[[str], str] = field(default=lambda _: "250 ok")
    answer_data: Callable[[Envelope], str] = field(default=_accept)
    taken: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    _controller: Controller | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._controller is not None and isinstance(self._controller.server, Server)
        return int(self._controller.server.sockets[0].getsockname()[1])

    def __enter__(self) -> MailServer:
        options: dict[str, Any] = {}
        if self.tls is not None:
            options |= {"tls_context": self.tls.context, "require_starttls": True}
        if self.login:
            options |= {
                "authenticator": self._authenticate,
                "auth_required": True,
                "auth_require_tls": self.tls is not None,
            }
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0, **options)
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._controller is not None
        self._controller.stop()

    def _authenticate(self, server: SMTP, session: Session, envelope: Envelope, how: str, data: object) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        # Not handled: the library gives the answer.
        return AuthResult(success=right, handled=False)

    # What aiosmtpd calls, by these names.
    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answer_rcpt(address)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self.answer_data(envelope)
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            message = message_from_bytes(envelope.content, policy=default)
            assert isinstance(message, EmailMessage)
            self.taken.append(message)
            self.recipients += envelope.rcpt_tos
        return answer


class _AnyPort(Controller):
    """On whichever port the system gives; its own start asks the configured one, which is 0, whether it answers."""

    def _trigger_server(self) -> None:
        import socket

        assert isinstance(self.server, Server)
        port = self.server.sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
            connection.recv(1024)
