"""One connection to the appliance: hello, questions and answers, and what its refusals mean here.

Owns nothing on disk and knows nothing of backups. Every answer is held against the session table; the appliance's
certificate is checked against the identity that the enrolment code pinned before anything else is believed.
"""

from __future__ import annotations

import os
import time
from typing import TypeVar

import msgspec

from agent import __version__
from agent.system.naming import platform_name
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import AgentChannel, CurveKeys
from transport.errors import IntegrityError, PilulierError, ProtocolError, RefusedError, UnreachableError
from transport.keys import verify_certificate
from transport.line_pacing import Proxy
from transport.names import Buffer, InstallationId
from transport.session import Session, answers

_Reply = TypeVar("_Reply", bound=m.Message)

ANSWER_S = 60.0
"""Longest wait for one answer; a commit over a full disk queue may take most of it."""

_FAILURES = {
    "commit-refused",
    "credit",
    "damaged",
    "decode",
    "disk-full",
    "drift",
    "failed",
    "integrity",
    "protocol",
    "store",
    "unknown",
}
"""Refusal codes that are failures of the job (exit 1) rather than a no to this machine or person (exit 4)."""


class ApplianceRefused(RefusedError):
    """The appliance said no."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class ApplianceFailed(PilulierError):
    """The appliance could not do it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def one_line(text: str) -> str:
    """What the appliance says, fit for a terminal and a log: no line breaks, no control or direction characters."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def refusal(answer: m.Refused) -> PilulierError:
    """The error that a Refused stands for on this side."""
    answer = msgspec.structs.replace(answer, reason=one_line(answer.reason), code=one_line(answer.code))
    if answer.code == "reconnect":
        return UnreachableError(answer.reason)
    if answer.code in _FAILURES:
        return ApplianceFailed(answer.code, answer.reason)
    return ApplianceRefused(answer.code, answer.reason)


class Client:
    """A connection that has said hello. One thread at a time."""

    def __init__(
        self,
        addresses: list[str],
        identity: bytes,
        server_key: bytes,
        keys: CurveKeys,
        installation: InstallationId,
        proxy: Proxy | None = None,
    ) -> None:
        self.channel = AgentChannel(addresses, server_key, keys, proxy)
        self._identity = identity
        self._server_key = server_key
        self._installation = installation
        self.session = Session()
        self.welcome: m.Welcome | None = None
        self.last_heard = time.monotonic()

    def connect(self, timeout_s: float = 10.0) -> m.Welcome:
        """Connect (or connect anew) and say hello."""
        self.channel.connect(timeout_s)
        self.session = Session()
        welcome = self.ask(
            m.Hello(PROTOCOL_VERSION, __version__, platform_name(), os.getpid(), self._installation), m.Welcome
        )
        if welcome.certificate.curve_key != self._server_key:
            raise IntegrityError("the appliance certifies another connection key than the one it answers with")
        verify_certificate(self._identity, welcome.certificate)
        self.welcome = welcome
        return welcome

    def say(self, message: m.Message, payload: Buffer = b"") -> None:
        """Send a message that the table allows now."""
        self.session.allowed(message)
        self.channel.send(message, payload)

    def hear(self, timeout_s: float = ANSWER_S) -> tuple[m.ApplianceMessage, Buffer] | None:
        """The next message that is not a heartbeat; pings are answered. None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            got = self.channel.receive(max(0.0, deadline - time.monotonic()))
            if got is None:
                return None
            self.last_heard = time.monotonic()
            if isinstance(got[0], m.Ping):
                self.channel.send(m.Pong())
            elif not isinstance(got[0], m.Pong):
                return got
            if self.last_heard > deadline:  # heartbeats are signs of life, not the answer
                return None

    def ask(self, question: m.Message, expected: type[_Reply], timeout_s: float = ANSWER_S) -> _Reply:
        """Send a question and return its answer; a refusal becomes its error."""
        self.say(question)
        return self.answer(question, expected, timeout_s)

    def answer(self, question: m.Message, expected: type[_Reply], timeout_s: float = ANSWER_S) -> _Reply:
        """The answer to a question that was sent with `say`."""
        got = self.hear(timeout_s)
        if got is None:
            raise UnreachableError(f"the appliance did not answer within {timeout_s:.0f} s")
        answer = got[0]
        if isinstance(answer, m.Refused):
            raise refusal(answer)
        if not isinstance(answer, expected) or not answers(question, answer):
            raise ProtocolError(f"the appliance answered {type(question).__name__} with {type(answer).__name__}")
        self.session.succeeded(question)
        return answer

    def ask_heartbeat(self, timeout_s: float = 20.0) -> None:
        """Wait until the appliance has heard all that was said on this connection; UnreachableError otherwise."""
        self.say(m.Ping())
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            got = self.channel.receive(left_s)
            if got is None:
                break
            self.last_heard = time.monotonic()
            if isinstance(got[0], m.Pong):
                return
            if isinstance(got[0], m.Refused):
                raise refusal(got[0])
            if isinstance(got[0], m.Ping):
                self.channel.send(m.Pong())
        raise UnreachableError(f"the appliance gave no sign of life within {timeout_s:.0f} s")

    def close(self) -> None:
        """End the connection."""
        self.channel.close()
