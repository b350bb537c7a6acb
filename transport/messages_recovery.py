"""What is said when a machine is recovered, on the enrolment endpoint, by a peer that no key identifies yet; and what
an agent leaves behind for that day.

Three questions: who are you and which machine (password and one-time code), what is its history, and, once that is
proved on the new hardware, take over. Only the last one changes anything. PROTOCOL.md tells the order and why.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from transport.commits import SignedCommit
from transport.keys import Certificate
from transport.message_types import Count, Hash, Id, Language, Message, RemoteRule, Text
from transport.names import REMOTE_RULES_LIMIT
from transport.schedule import Schedule
from transport.succession import SUCCESSIONS_LIMIT, SignedSuccession

NAMES_LIMIT: Final = 1000
"""Machines named in one `RecoverChoice`."""
SEALED_SETTINGS_LIMIT: Final = 65_536
"""Bytes of an agent's settings, sealed under its machine's key."""


class RecoverOpen(Message, frozen=True):
    """Agent, on the enrolment endpoint: open the recovery of a machine with an account's password and one-time code."""

    protocol: int
    account: Text
    password: Annotated[str, Meta(max_length=1024)]
    code: Annotated[str, Meta(max_length=32)]
    machine: Annotated[str, Meta(max_length=100)]
    """Its name or id; empty where the account sees only one."""
    wrap_to: Annotated[bytes, Meta(max_length=2048)]
    """The public half of a key pair that lives as long as this recovery: a confided machine key is wrapped to it. Empty
    where the key is in hand, and so is not opened."""


class RecoverChoice(Message, frozen=True):
    """Appliance: the account sees several machines, these; recover again with the name of one and a new code."""

    machines: Annotated[list[Text], Meta(max_length=NAMES_LIMIT)]


class FormerSettings(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the machine had, as far as the appliance knows: an admin's selection, the schedule that was reported last,
    and the machine's own settings as it sealed them (empty where it never did)."""

    include: Annotated[list[RemoteRule], Meta(max_length=REMOTE_RULES_LIMIT)]
    exclude: Annotated[list[RemoteRule], Meta(max_length=REMOTE_RULES_LIMIT)]
    schedule: Schedule | None
    language: Language
    sealed: Annotated[bytes, Meta(max_length=SEALED_SETTINGS_LIMIT)]


class RecoverOffered(Message, frozen=True):
    """Appliance: this machine may be recovered, for `seconds`; `ticket` is secret. `founding` is its first signing key.

    `envelope` is the machine key: wrapped to `wrap_to` (confided), with its owner's passphrase (private), or empty.
    """

    ticket: Id
    seconds: Count
    machine: Id
    name: Text
    contract: Text
    vault: Id
    certificate: Certificate
    founding: Hash
    successions: Annotated[list[SignedSuccession], Meta(max_length=SUCCESSIONS_LIMIT)]
    head: SignedCommit | None
    key_mode: Literal["confided", "private", "local"]
    """What is held of the key: an envelope of either kind, or nothing."""
    envelope: Annotated[bytes, Meta(max_length=4096)]
    settings: FormerSettings


class RecoverHistory(Message, frozen=True):
    """Agent: the commits numbered above `after`, before anything is taken over; answered with `Snapshots`."""

    ticket: Id
    after: Count


class RecoverTake(Message, frozen=True):
    """Agent: the history is proved and the key opens; from now on these keys and this installation are the machine's.

    `head` is the hash of the newest commit that was proved (32 zero bytes for none).
    """

    ticket: Id
    head: Hash
    curve_key: Hash
    signing_key: Hash
    installation: Id
    agent_version: Text
    platform: Text


class PutSettings(Message, frozen=True):
    """Agent: its settings, sealed under its machine's key, for the day on which new hardware recovers it."""

    sealed: Annotated[bytes, Meta(min_length=1, max_length=SEALED_SETTINGS_LIMIT)]


class Recovered(Message, frozen=True):
    """Appliance: done, durable; the former installation is cut off. `session` is secret: `RestoreResume` takes it, for
    `seconds` and without another code."""

    succession: SignedSuccession
    session: Id
    seconds: Count
