"""Recovery on this side: from an address, an account and a key to a machine that goes on where the old one ended.

Order: this installation's own signing and CURVE keys are written first (asked again after a lost answer, the same keys
get the same answer); then person and machine are told; then key and history are proved, the head code of a sheet or
mail included; and only then the appliance is asked to let this installation take over, which cuts the old one off.
Whatever is wrong before that changes nothing. config.json comes last: with it the machine is there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from agent import __version__
from agent.enrolling import Enrolled, Keys, derived_id
from agent.enrolment_door import EnrolmentDoor
from agent.errors import NotEnrolledError
from agent.key_files import RepositoryKey
from agent.ledger import Ledger
from agent.proxy import NO_PROXY, ProxySettings
from agent.proxy_files import keep_password, proxy_of
from agent.resync import rebuild
from agent.settings import AgentHome, ApplianceAddress, KeptAs, Settings, load_settings, save_settings
from agent.settings_keeping import opened, taken_back, to_set_again
from agent.state import LastRun, write_state
from agent.system.naming import platform_name
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import CurveKeys, new_curve_keys
from transport.commits import HEAD_CODE_LETTERS, StoredCommit, head_code
from transport.enrolment import EnrolmentCode
from transport.errors import IntegrityError, KeyFileError, PilulierError, ProtocolError, RefusedError, UsageError
from transport.history import History, Snapshot, verify_history
from transport.keys import SigningKey, read_key_file, write_key_file
from transport.names import NO_DIGEST, InstallationId, RepositoryId, VaultId
from transport.sealing import MACHINE_KEY_BYTES, Sealer, vault_keys
from transport.signers import Signers
from transport.succession import Succession

_TAKE_S: Final = 120.0
"""For the takeover: maintenance of the machine's repository may have to give way first."""
_OPEN_S: Final = 60.0


class RolledBackError(RefusedError):
    """The history that is given back is not the one that the head code was printed for."""

    code = "rolled-back"


class WrongKeyError(RefusedError):
    """The key in hand is another machine's, too old, or not the right passphrase."""

    code = "wrong-key"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person gives. Its repr shows no secret."""

    code: EnrolmentCode
    account: str
    password: str
    one_time_code: str
    machine: str = ""
    key: RepositoryKey | None = None
    passphrase: str | None = None
    head: str = ""
    """The head code of a recovery sheet or a mail; empty where there is none."""
    proxy: ProxySettings = NO_PROXY
    proxy_password: str = ""

    def __repr__(self) -> str:
        return f"Wanted({self.account}, {self.machine or 'the only machine'})"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovered machine, and the history that was proved for it."""

    machine: Enrolled
    history: History
    newer: int | None
    """Snapshots behind the one that the head code names; None where none was given."""
    to_set_again: tuple[str, ...] = ()
    """What the machine had that only a person sets: databases to dump, hooks."""

    @property
    def head(self) -> Snapshot | None:
        """The newest snapshot."""
        return self.history.head


class _OpenSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """recovery.json: restores need no other code until then (seconds since 1970, this machine's clock)."""

    session: str
    until: float


def recover(home: AgentHome, wanted: Wanted) -> Recovery:
    """Make this blank machine the one that is recovered. UsageError where something is missing or several machines
    could be meant, RefusedError where somebody says no; nothing has changed anywhere then."""
    _check_blank(home)
    home.create()
    signing, curve = _own_keys(home)
    keep_password(home, wanted.proxy, wanted.proxy_password)
    with EnrolmentDoor(wanted.code, curve, proxy_of(home, wanted.proxy)) as door:
        offered, keyring = _open(door, wanted)
        commits = _commits(door, offered.ticket)
        pinned = wanted.key.public_key if wanted.key is not None else None
        history = verify_history(
            commits,
            pinned or offered.founding,
            None,
            vault=VaultId(offered.vault),
            repository=RepositoryId(offered.machine),
            successions=offered.successions,
            approver=wanted.code.identity,
            may_have_moved_on=True,
        )
        newer = _check_head(history, wanted.head)
        _check_epoch(history, keyring)
        installation = InstallationId(derived_id(b"pilulier/installation/1", signing.public))
        head = history.head.signed.hash() if history.head is not None else NO_DIGEST
        taken = door.ask(
            m.RecoverTake(
                *(offered.ticket, head, curve.public, signing.public, installation, __version__, platform_name())
            ),
            m.Recovered,
            timeout_s=_TAKE_S,
            hint=" with a new code, nothing is lost",
        )
    _check_succession(offered, taken, signing, wanted.code.identity)
    machine = _settle(home, wanted, offered, taken, keyring, installation, Keys(keyring, signing, curve))
    again = to_set_again(opened(offered.settings, machine.sealer()))
    _note_last(home, history)
    return Recovery(machine, history, newer, again)


def _check_blank(home: AgentHome) -> None:
    try:
        present = load_settings(home)
    except NotEnrolledError:
        return
    raise UsageError(
        f"this machine is enrolled already as {present.name} of contract {present.contract}: "
        f"give another --home, or remove {home.path} if nothing of it is needed"
    )


def _own_keys(home: AgentHome) -> tuple[SigningKey, CurveKeys]:
    """Those of an attempt before, or new ones."""
    if not (home.signing_key.exists() and home.curve_key.exists()):
        if home.machine_key.exists():
            raise UsageError(f"{home.keys} holds part of another machine's keys: give another --home")
        curve = new_curve_keys()
        write_key_file(home.signing_key, SigningKey.generate().seed)
        write_key_file(home.curve_key, curve.public + curve.secret)
    seed, pair = read_key_file(home.signing_key), read_key_file(home.curve_key)
    if len(seed) != 32 or len(pair) != 64:
        raise KeyFileError(f"{home.keys} holds damaged keys: give another --home")
    return SigningKey(seed), CurveKeys(pair[:32], pair[32:])


# who, which machine, which key


def _open(door: EnrolmentDoor, wanted: Wanted) -> tuple[m.RecoverOffered, bytes]:
    # Loaded when needed: HPKE's modules take a moment, and a key in hand needs none of them.
    from transport.escrow import EscrowKey, unwrap_confided, unwrap_private

    own = EscrowKey.generate() if wanted.key is None else None
    answer: m.Message = door.ask(
        m.RecoverOpen(
            protocol=PROTOCOL_VERSION,
            account=wanted.account,
            password=wanted.password,
            code=wanted.one_time_code,
            machine=wanted.machine,
            wrap_to=b"" if own is None else own.public.data,
        ),
        m.RecoverOffered,
        m.RecoverChoice,
        timeout_s=_OPEN_S,
    )
    if isinstance(answer, m.RecoverChoice):
        raise UsageError(
            f"this account sees several machines: recover again with a new code and --machine, one of: "
            f"{', '.join(answer.machines)}"
        )
    assert isinstance(answer, m.RecoverOffered)
    door.check(answer.certificate)
    machine, vault = RepositoryId(answer.machine), VaultId(answer.vault)
    if wanted.key is not None:
        if wanted.key.repository not in (None, machine) or wanted.key.vault not in (None, vault):
            raise WrongKeyError(f"this key is another machine's than {answer.name}: give the key of {answer.name}")
        return answer, wanted.key.machine_key
    if answer.key_mode == "private":
        if wanted.passphrase is None:
            raise UsageError(
                f"the key of {answer.name} is private: recover again with a new code and --passphrase-file F, "
                "or with --key FILE"
            )
        try:
            return answer, unwrap_private(wanted.passphrase, answer.envelope, machine, vault)
        except PilulierError as error:
            raise WrongKeyError(str(error)) from None
    if answer.key_mode == "local" or own is None:
        raise WrongKeyError(
            f"the appliance holds no key of {answer.name}: only --key FILE opens its backups, the file that key export "
            "wrote or the text of its recovery sheet"
        )
    return answer, unwrap_confided(own, answer.envelope, machine, vault)


def _commits(door: EnrolmentDoor, ticket: bytes) -> list[StoredCommit]:
    found: list[StoredCommit] = []
    while True:
        page = door.ask(m.RecoverHistory(ticket, len(found)), m.Snapshots)
        found += page.commits
        if not page.more:
            return found
        if not page.commits:
            raise ProtocolError("the appliance announced more snapshots and sent none")


# what must be true before anything is taken over


def _check_head(history: History, given: str) -> int | None:
    """How many snapshots are newer than the one whose code is given; RolledBackError where none has it."""
    wanted = "".join(letter for letter in given.upper() if letter.isalnum())
    if not wanted:
        return None
    if len(wanted) != HEAD_CODE_LETTERS:
        raise UsageError(f"a head code has {HEAD_CODE_LETTERS} letters and digits, as ABCD-EFGH-IJKL: copy all of it")
    for newer, snapshot in enumerate(reversed(history.snapshots)):
        if head_code(snapshot.signed.hash()).replace("-", "") == wanted:
            return newer
    shown = head_code(history.head.signed.hash()) if history.head is not None else "none"
    raise RolledBackError(
        f"no snapshot that the appliance shows has the head code {given.strip()} (its newest has {shown}): its history "
        "is older than your code, or another machine's; nothing was recovered, ask whoever runs the appliance"
    )


def _check_epoch(history: History, keyring: bytes) -> None:
    epochs = len(keyring) // MACHINE_KEY_BYTES
    if history.head is not None and history.head.record.epoch > epochs:
        raise WrongKeyError(
            f"this key is older than the machine's last change of key ({epochs} of {history.head.record.epoch}): give "
            "a file or sheet made after it"
        )


def _check_succession(
    offered: m.RecoverOffered, taken: m.Recovered, signing: SigningKey, identity: bytes
) -> Succession:
    """IntegrityError unless this installation's key is now the one in force."""
    signed = [one for one in offered.successions if one != taken.succession]
    signers = Signers.of(offered.founding, [*signed, taken.succession])
    last = signers.successions[-1]
    if signers.current != signing.public or (not last.by_former_key and last.approver != identity):
        raise IntegrityError("the appliance answers with the succession of another installation than this one")
    return last


# afterwards


def _settle(
    home: AgentHome,
    wanted: Wanted,
    offered: m.RecoverOffered,
    taken: m.Recovered,
    keyring: bytes,
    installation: InstallationId,
    keys: Keys,
) -> Enrolled:
    write_key_file(home.machine_key, keyring)
    session = _OpenSession(taken.session.hex(), time.time() + taken.seconds)
    write_key_file(home.recovery, msgspec.json.encode(session) + b"\n")
    code = wanted.code
    settings = Settings(
        machine=RepositoryId(offered.machine),
        name=offered.name,
        contract=offered.contract,
        vault=VaultId(offered.vault),
        installation=installation,
        appliance=ApplianceAddress(tuple(code.transport), code.identity, code.curve_key, tuple(code.enrolment)),
        key_mode=_way_of_keeping(wanted),
        proxy=wanted.proxy,
    )
    settings = taken_back(settings, offered.settings, Sealer(vault_keys(keyring, settings.vault)))
    if settings.key_mode == "private":
        if offered.key_mode == "private":
            write_key_file(home.wrapped_key, offered.envelope)
        else:  # its owner gives the passphrase once more: key protect
            settings = replace(settings, key_mode="local")
    save_settings(home, settings)
    return Enrolled(home, settings, keys)


def _note_last(home: AgentHome, history: History) -> None:
    """For `status`, and for whoever looks when the last backup was."""
    head = history.head
    if head is not None:
        record = head.record
        state = "complete" if record.complete else "partial"
        write_state(home, LastRun(head.number, record.ended_ms, state, began_ms=record.started_ms))


def _way_of_keeping(wanted: Wanted) -> KeptAs:
    """How the key was kept, as far as the way shows by which it came: never because the appliance says so, which would
    have a key confided to it that was not."""
    return "local" if wanted.key is not None else "confided" if wanted.passphrase is None else "private"


def fill_ledger(recovery: Recovery) -> None:
    """Bring the ledger to the recovered head, so that the next backup sends what changed and nothing else."""
    if recovery.head is None:
        return
    machine, client = recovery.machine, recovery.machine.client()
    try:
        client.connect()
        with Ledger.open(machine.home) as ledger:
            rebuild(machine, client, ledger, recovery.head.signed)
    finally:
        client.close()


def open_session(home: AgentHome, clock: Callable[[], float] = time.time) -> bytes | None:
    """What opens a restore without another code, for some minutes after a recovery; None where that is over."""
    try:
        found = msgspec.json.decode(read_key_file(home.recovery, 1024), type=_OpenSession)
        session = bytes.fromhex(found.session)
    except (KeyFileError, msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None
    if clock() < found.until:
        return session
    with contextlib.suppress(OSError):
        os.unlink(home.recovery)
    return None
