"""Enrolment on this side, the keys of a machine, and the connection they open.

Keys are made here and never sent; they are written before the first word to the appliance, so that an answer lost on
the way does not burn the code: the same command sends the same keys again and gets the same machine.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from agent import __version__
from agent.client import Client
from agent.enrolment_door import EnrolmentDoor
from agent.errors import NotEnrolledError
from agent.proxy import NO_PROXY, ProxySettings
from agent.proxy_files import keep_password, proxy_of
from agent.settings import AgentHome, ApplianceAddress, Settings, load_settings, save_settings
from agent.system.naming import platform_name
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import CurveKeys, new_curve_keys
from transport.enrolment import decode_code
from transport.errors import KeyFileError, ProtocolError, RefusedError, UsageError
from transport.keys import SigningKey, read_key_file, write_key_file
from transport.names import InstallationId, RepositoryId, VaultId
from transport.sealing import MACHINE_KEY_BYTES, Sealer, vault_keys


@dataclass(frozen=True, slots=True)
class Keys:
    """A machine's secrets. The repr shows none."""

    machine: bytes
    """The keyring: the machine key, and one more for each rotation."""
    signing: SigningKey
    curve: CurveKeys

    def __repr__(self) -> str:
        return f"Keys(signing={self.signing.public.hex()})"


def load_keys(home: AgentHome) -> Keys:
    """The keys of an enrolled machine; KeyFileError that names the file otherwise."""
    machine = read_key_file(home.machine_key)
    seed = read_key_file(home.signing_key)
    curve = read_key_file(home.curve_key)
    for path, data, size in (
        (home.machine_key, machine, MACHINE_KEY_BYTES * max(1, len(machine) // MACHINE_KEY_BYTES)),
        (home.signing_key, seed, 32),
        (home.curve_key, curve, 64),
    ):
        if len(data) != size:
            raise KeyFileError(f"{path} is damaged ({len(data)} bytes instead of {size}): put back a copy of it")
    return Keys(machine, SigningKey(seed), CurveKeys(curve[:32], curve[32:]))


def _make_keys(home: AgentHome) -> Keys:
    """Existing keys, or new ones; a set that is only partly there is an error, never replaced."""
    files = (home.machine_key, home.signing_key, home.curve_key)
    if not any(path.exists() for path in files):
        curve = new_curve_keys()
        write_key_file(home.machine_key, os.urandom(MACHINE_KEY_BYTES))
        write_key_file(home.signing_key, SigningKey.generate().seed)
        write_key_file(home.curve_key, curve.public + curve.secret)
    return load_keys(home)


def derived_id(label: bytes, public: bytes) -> bytes:
    """An id that is as random as the key it comes from, and the same when the request is sent again."""
    return hashlib.sha256(label + public).digest()[:16]


def enrol(
    home: AgentHome,
    code_text: str,
    name: str,
    key_mode: m.KeyMode = "confided",
    proxy: ProxySettings = NO_PROXY,
    proxy_password: str = "",
) -> Settings:
    """Register this machine under an enrolment code; UsageError where it is enrolled already.

    `key_mode` is its owner's choice; the appliance refuses where the contract wants the other one.
    """
    code = decode_code(code_text)
    if not code.enrols:
        raise UsageError("this code only says where the appliance is: ask whoever runs it for an enrolment code")
    try:
        present = load_settings(home)
    except NotEnrolledError:
        pass
    else:
        raise UsageError(
            f"this machine is enrolled already as {present.name} of contract {present.contract}: "
            f"give another --home, or remove {home.path} to begin anew (its keys are then lost)"
        )
    home.create()
    keep_password(home, proxy, proxy_password)
    keys = _make_keys(home)
    vault = VaultId(derived_id(b"pilulier/vault/1", keys.curve.public))
    installation = InstallationId(derived_id(b"pilulier/installation/1", keys.signing.public))
    request = m.Enrol(
        protocol=PROTOCOL_VERSION,
        token=code.token,
        name=name,
        curve_key=keys.curve.public,
        signing_key=keys.signing.public,
        vault=vault,
        installation=installation,
        agent_version=__version__,
        platform=platform_name(),
        key_mode=key_mode,
    )
    with EnrolmentDoor(code, keys.curve, proxy_of(home, proxy)) as door:
        answer = door.ask(request, m.Enrolled, hint=", the code is not lost")
        door.check(answer.certificate)
    settings = Settings(
        machine=RepositoryId(answer.machine),
        name=answer.name,
        contract=answer.contract,
        vault=vault,
        installation=installation,
        appliance=ApplianceAddress(tuple(code.transport), code.identity, code.curve_key, tuple(code.enrolment)),
        key_mode=key_mode,
        proxy=proxy,
    )
    save_settings(home, settings)
    return settings


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An enrolled machine as commands use it."""

    home: AgentHome
    settings: Settings
    keys: Keys

    def sealer(self) -> Sealer:
        """Seals and opens this machine's records."""
        return Sealer(vault_keys(self.keys.machine, self.settings.vault))

    def client(self) -> Client:
        """A client of the appliance, not yet connected."""
        appliance = self.settings.appliance
        return Client(
            list(appliance.endpoints),
            appliance.identity,
            appliance.curve_key,
            self.keys.curve,
            self.settings.installation,
            proxy_of(self.home, self.settings.proxy),
        )


def enrolled(home: AgentHome) -> Enrolled:
    """This machine; NotEnrolledError, SettingsError or KeyFileError with what to do."""
    return Enrolled(home, load_settings(home), load_keys(home))


def check_welcome(machine: Enrolled, welcome: m.Welcome) -> None:
    """ProtocolError unless the appliance speaks of this machine and vault."""
    if welcome.machine != machine.settings.machine or welcome.vault != machine.settings.vault:
        raise ProtocolError("the appliance speaks of another machine than this one")


def check_not_paused(welcome: m.Welcome) -> None:
    """RefusedError where the contract takes no backups now."""
    if welcome.paused:
        raise RefusedError(
            f"contract {welcome.contract} is paused, so no backup is accepted; restores go on. "
            "Ask whoever manages the contract to resume it"
        )
