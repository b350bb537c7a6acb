"""The appliance's door for strangers, as seen from outside: a few questions, each answered with a message or a no.

Owns one connection to the enrolment endpoint and the check that what answers is the appliance that the code names: its
CURVE key by the connection itself, its identity by the certificate. Of a machine it knows the key it knocks with alone.
"""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from agent.client import refusal
from transport import messages as m
from transport.channel import AgentChannel, CurveKeys
from transport.enrolment import EnrolmentCode
from transport.errors import IntegrityError, ProtocolError, UnreachableError
from transport.keys import Certificate, verify_certificate
from transport.line_pacing import Proxy

_Reply = TypeVar("_Reply", bound=m.Message)


class EnrolmentDoor:
    """A connection to it; a context manager."""

    def __init__(self, code: EnrolmentCode, keys: CurveKeys, proxy: Proxy | None = None) -> None:
        self._code = code
        self._channel = AgentChannel(code.enrolment, code.curve_key, keys, proxy)

    def __enter__(self) -> EnrolmentDoor:
        try:
            self._channel.connect()
        except BaseException:
            self._channel.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def ask(self, question: m.Message, *expected: type[_Reply], timeout_s: float = 30.0, hint: str = "") -> _Reply:
        """The answer, of an expected kind; a refusal becomes its error. `hint` goes behind what silence says."""
        self._channel.send(question)
        frames = self._channel.receive_frames(timeout_s)
        if frames is None:
            raise UnreachableError(f"the appliance did not answer: try again{hint}")
        answer = m.decode_enrolment_reply(frames[0])
        if isinstance(answer, m.Refused):
            raise refusal(answer)
        if not isinstance(answer, expected):
            raise ProtocolError(f"the appliance answered {type(question).__name__} with {type(answer).__name__}")
        return answer

    def check(self, certificate: Certificate) -> None:
        """IntegrityError unless the identity of the code vouches for the key that answers here."""
        if certificate.curve_key != self._code.curve_key:
            raise IntegrityError("the appliance certifies another key than the one in the enrolment code")
        verify_certificate(self._code.identity, certificate)
