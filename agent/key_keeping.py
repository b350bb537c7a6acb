"""What becomes of this machine's key outside of it: confided to the appliance, private to a passphrase, or local.

*Who decides?* **The machine's owner, here, never the appliance.** The mode is chosen at enrolment, or changed by a
command typed on this machine; a contract that says otherwise is refused at enrolment and shown later, but no answer of
the appliance makes an agent wrap its key to anybody. A machine enrolled before there was a choice stays local.

The envelope for a passphrase is made once and kept in the keys folder, since the passphrase is not. A confided key is
wrapped anew whenever the appliance has another escrow key, which its identity must have signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from agent.client import Client
from agent.enrolling import Enrolled, check_welcome
from agent.settings import AgentHome, KeptAs, change_settings
from transport import messages as m
from transport.errors import IntegrityError, KeyFileError, PilulierError, UsageError
from transport.keys import read_key_file, verify_escrow, write_key_file
from transport.sealing import MACHINE_KEY_BYTES, rotated

_UNREACHED: Final = "the next backup tries again"
_ENVELOPE_LIMIT: Final = 4096


class _Left(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """keys/left.json: the digest of the envelope that was left last, and how many keys were in it."""

    envelope: str
    keys: int


def _left(home: AgentHome) -> _Left:
    try:
        return msgspec.json.decode(read_key_file(home.left_key, 1024), type=_Left)
    except (KeyFileError, msgspec.MsgspecError, UnicodeDecodeError):
        return _Left("", 0)  # left again: one message, nothing lost


def keep_key(machine: Enrolled, client: Client, welcome: m.Welcome) -> str | None:
    """See to it that the appliance holds what this machine's owner wants it to; a remark where it could not be done.

    Costs no message where nothing has to change. Never raises for what the appliance answers: a backup goes on.
    """
    try:
        envelope = _wanted(machine, client, welcome.key)
        if envelope is not None:
            _leave(machine, client, envelope)
    except PilulierError as error:
        return f"the key of this machine could not be left with the appliance ({error}); {_UNREACHED}"
    return None


def _leave(machine: Enrolled, client: Client, envelope: bytes) -> None:
    client.ask(m.PutKey(envelope), m.Noted)
    left = _Left(hashlib.sha256(envelope).hexdigest(), len(machine.keys.machine) // MACHINE_KEY_BYTES)
    write_key_file(machine.home.left_key, msgspec.json.encode(left) + b"\n")


def _wanted(machine: Enrolled, client: Client, kept: m.KeptKey) -> bytes | None:
    """The envelope to send; None where the appliance holds it already, or is to hold none."""
    match machine.settings.key_mode:
        case "confided":
            left = _left(machine.home)
            held = kept.envelope.hex() == left.envelope and left.keys == len(machine.keys.machine) // MACHINE_KEY_BYTES
            if not kept.escrow_key or (kept.envelope and held and kept.wrapped_to == kept.escrow_key):
                return None
            offer = client.ask(m.EscrowQuery(), m.EscrowOffer).escrow
            verify_escrow(machine.settings.appliance.identity, offer)
            # Loaded when needed: HPKE's modules cost a backup without changes a tenth of its time.
            from transport.escrow import EscrowPublic, wrap_confided

            public = EscrowPublic(offer.public)
            if public.key_id != kept.escrow_key:
                raise IntegrityError("the appliance offers another escrow key than the one it names")
            return wrap_confided(public, machine.keys.machine, machine.settings.machine, machine.settings.vault)
        case "private":
            envelope = read_key_file(machine.home.wrapped_key, _ENVELOPE_LIMIT)
            return None if hashlib.sha256(envelope).digest() == kept.envelope else envelope
        case "local":
            return None


def protect(machine: Enrolled, passphrase: str) -> Enrolled:
    """From now on the appliance holds the key under this passphrase alone; SealError where it is too short.

    The key itself stays: what was confided before may have been opened before.
    """
    from transport.escrow import wrap_private

    envelope = wrap_private(passphrase, machine.keys.machine, machine.settings.machine, machine.settings.vault)
    write_key_file(machine.home.wrapped_key, envelope)
    return _changed(machine, "private")


def rotate(machine: Enrolled, passphrase: str | None) -> Enrolled:
    """Begin a new epoch: what is sealed from now on needs a key that did not exist before; old snapshots stay readable.

    The appliance gets the new envelope first, so that nothing is ever sealed under a key that only this PC has where
    its owner wanted another copy. Raises what the connection raises; then nothing has changed. A private key needs its
    passphrase, since the envelope holds all keys.
    """
    settings = machine.settings
    keyring = rotated(machine.keys.machine)
    newer = replace(machine, keys=replace(machine.keys, machine=keyring))
    if settings.key_mode == "private":
        if passphrase is None:
            raise UsageError("this key is private: give --passphrase-file F, its passphrase wraps the new one too")
        from transport.escrow import unwrap_private, wrap_private

        old = read_key_file(machine.home.wrapped_key, _ENVELOPE_LIMIT)
        # Of a mistyped passphrase nobody would know until the fire.
        unwrap_private(passphrase, old, settings.machine, settings.vault)
        envelope = wrap_private(passphrase, keyring, settings.machine, settings.vault)
        _left_by(newer, lambda client, welcome: envelope)
        write_key_file(machine.home.wrapped_key, envelope)
    elif settings.key_mode == "confided":
        _left_by(newer, lambda client, welcome: _wanted(newer, client, m.KeptKey("confided", welcome.key.escrow_key)))
    write_key_file(machine.home.machine_key, keyring)
    return newer


def confide(machine: Enrolled) -> Enrolled:
    """From now on the appliance may open this machine's backups too."""
    return _changed(machine, "confided")


def _changed(machine: Enrolled, mode: KeptAs) -> Enrolled:
    settings = change_settings(machine.home, lambda settings: replace(settings, key_mode=mode))
    return replace(machine, settings=settings)


def passphrase_from(path: str) -> str:
    """The passphrase on a file's only line; KeyFileError where it cannot be read or has several."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(4097)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KeyFileError(f"{path} cannot be read ({reason}): give a file with one line, the passphrase") from None
    lines = text.strip("\r\n").splitlines()
    if len(lines) != 1 or len(text) > 4096:
        raise KeyFileError(f"{path} has {len(lines)} lines: the passphrase stands on the only one")
    return lines[0]


def check_passphrase(passphrase: str) -> None:
    """SealError where it is too short: said before an enrolment code is spent on it."""
    from transport.escrow import checked_passphrase

    checked_passphrase(passphrase)


def _left_by(machine: Enrolled, make: Callable[[Client, m.Welcome], bytes | None]) -> None:
    """Connect and leave an envelope; raises where that is not possible."""
    client = machine.client()
    try:
        welcome = client.connect()
        check_welcome(machine, welcome)
        envelope = make(client, welcome)
        if envelope is not None:
            _leave(machine, client, envelope)
    finally:
        client.close()


def leave_key(machine: Enrolled) -> str | None:
    """Connect, and see to it that the appliance holds what it is to hold; a remark where it could not be done."""
    client = machine.client()
    try:
        welcome = client.connect()
        check_welcome(machine, welcome)
        return keep_key(machine, client, welcome)
    except PilulierError as error:
        return f"the key of this machine could not be left with the appliance ({error}); {_UNREACHED}"
    finally:
        client.close()
