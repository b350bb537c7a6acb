"""Enrolment codes as they are handed out: by a command or by a page, the same string for both.

A code names the appliance's addresses and keys and carries a one-time token; it is shown once and kept nowhere. Knows
nothing of how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance import endpoints
from appliance.control import contracts
from appliance.control.contracts import Contract
from appliance.control.database import Database
from appliance.settings import Home
from transport.enrolment import EnrolmentCode


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A code for one machine, until `expires_at` (seconds since 1970). Its repr does not show it."""

    text: str
    expires_at: float

    def command(self, name: str = "NAME") -> str:
        """What is typed on the machine; `name` stands where its name goes."""
        return f"pilulier-agent enrol {self.text} --name {name}"

    def __repr__(self) -> str:
        return f"IssuedCode(expires_at={self.expires_at})"


def issue(home: Home, db: Database, contract: Contract, now: float) -> IssuedCode:
    """Another code of the contract; PausedError where it takes no machine. Belongs into a transaction of the caller."""
    addresses = endpoints.current(home)
    settings = home.load_settings()
    token = contracts.new_token(db, contract, now)
    text = EnrolmentCode(
        transport=[str(endpoints.public(addresses.transport, settings))],
        enrolment=[str(endpoints.public(addresses.enrolment, settings))],
        identity=home.load_identity().public,
        curve_key=home.curve_public(),
        token=token.token,
    ).encode()
    return IssuedCode(text, token.expires_at)
