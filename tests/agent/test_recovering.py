"""A recovery whose appliance lies: each lie gets one sentence, and the blank machine stays blank."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import recovering
from agent.enrolment_door import EnrolmentDoor
from agent.key_files import RepositoryKey
from agent.recovering import RolledBackError, Wanted, WrongKeyError, open_session, recover
from agent.settings import AgentHome, load_settings
from agent.settings_keeping import taken_back
from tests.support.memory_source import Item, Repository
from transport import messages as m
from transport.channel import CurveKeys
from transport.commits import head_code
from transport.enrolment import NO_TOKEN, EnrolmentCode
from transport.errors import IntegrityError, PilulierError, SealError, UsageError
from transport.escrow import EscrowPublic, wrap_confided
from transport.keys import SigningKey
from transport.names import NO_DIGEST, InstallationId, RepositoryId
from transport.schedule import Schedule
from transport.sealing import vault_keys
from transport.succession import SUCCESSION_LABEL, SignedSuccession, Succession

IDENTITY, SERVER = SigningKey(b"\x11" * 32), b"\x22" * 32
CODE = EnrolmentCode(["tcp://192.0.2.1:1"], ["tcp://192.0.2.1:2"], IDENTITY.public, SERVER, NO_TOKEN)
KEYRING = bytes(range(32))


@dataclass
class Host:
    """An appliance that answers as a fair one would, and lets a test change each answer."""

    repository: Repository = field(default_factory=Repository)
    offer: Callable[[m.RecoverOffered], m.Message] = lambda offered: offered
    show: Callable[[m.Snapshots], m.Message] = lambda page: page
    taken: Callable[[m.Recovered], m.Message] = lambda recovered: recovered
    asked: list[m.Message] = field(default_factory=list)

    def answer(self, question: m.Message) -> m.Message:
        self.asked.append(question)
        history = self.repository.history
        head = history[-1].signed if history else None
        vault, machine = self.repository.sealer.keys.vault, self.repository.id
        match question:
            case m.RecoverOpen(wrap_to=wrap_to):
                envelope = wrap_confided(EscrowPublic(wrap_to), KEYRING, machine, vault) if wrap_to else b""
                settings = m.FormerSettings(["/srv"], ["*.tmp"], Schedule((750,)), "de", b"")
                offered = m.RecoverOffered(
                    *(b"t" * 16, 600, machine, "comptoir-1", "pharmacie", vault, IDENTITY.certify(SERVER, 1)),
                    *(self.repository.signing.public, list(self.repository.succeeded), head, "confided", envelope),
                    settings,
                )
                return self.offer(offered)
            case m.RecoverHistory(after=after):
                page = history[after : after + 2]
                return self.show(m.Snapshots(page, after + 2 < len(history), list(self.repository.succeeded)))
            case m.RecoverTake():
                return self.taken(m.Recovered(self.succession(question), b"s" * 16, 900))
        raise AssertionError(question)

    def succession(self, take: m.RecoverTake, approver: SigningKey = IDENTITY, **changes: Any) -> SignedSuccession:
        history = self.repository.history
        statement = Succession(
            *(SUCCESSION_LABEL, self.repository.sealer.keys.vault, self.repository.id, 1, len(history)),
            history[-1].signed.hash() if history else NO_DIGEST,
            *(self.repository.signing.public, take.signing_key, InstallationId(take.installation), approver.public, 5),
        )
        return approver.sign_succession(msgspec.structs.replace(statement, **changes))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Three snapshots; whoever knocks at its door meets it."""
    host = Host()
    for number in range(3):
        host.repository.commit([Item(b"/srv/file", b"content %d" % number)])

    class Door(EnrolmentDoor):
        def __init__(self, code: EnrolmentCode, keys: CurveKeys, *_: object, **__: object) -> None:
            self._code = code

        def __enter__(self) -> Door:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def ask(self, question: m.Message, *expected: Any, timeout_s: float = 0, hint: str = "") -> Any:
            answer = m.decode_enrolment_reply(m.encode(host.answer(m.decode_enrolment(m.encode(question)))))
            assert isinstance(answer, expected), answer
            return answer

    monkeypatch.setattr(recovering, "EnrolmentDoor", Door)
    return host


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return AgentHome(tmp_path / "home")


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{"code": CODE, "account": "a@b", "password": "secret", "one_time_code": "123456", **changes})


def key_of(host: Host, **changes: Any) -> RepositoryKey:
    found = {
        "machine_key": KEYRING,
        "repository": host.repository.id,
        "vault": host.repository.sealer.keys.vault,
        "public_key": host.repository.signing.public,
        "identity": IDENTITY.public,
    }
    return RepositoryKey(**{**found, **changes})


def blank(home: AgentHome) -> bool:
    return not home.config.exists() and not home.machine_key.exists() and not home.recovery.exists()


def test_a_fair_host_gives_the_machine_back(host: Host, home: AgentHome) -> None:
    recovery = recover(home, wanted())
    settings = load_settings(home)
    assert settings == recovery.machine.settings and settings.machine == host.repository.id
    assert settings.selection.include == (b"/srv",) and settings.schedule == Schedule((750,))
    assert settings.language == "de" and settings.key_mode == "confided"
    assert home.machine_key.read_bytes() == KEYRING and home.machine_key.stat().st_mode & 0o077 == 0
    assert open_session(home) == b"s" * 16 and home.recovery.stat().st_mode & 0o077 == 0
    assert open_session(home, lambda: 2**40) is None and not home.recovery.exists()
    assert len([one for one in host.asked if isinstance(one, m.RecoverHistory)]) == 2
    (taken,) = [one for one in host.asked if isinstance(one, m.RecoverTake)]
    assert taken.head == host.repository.history[-1].signed.hash()
    assert "secret" not in repr(wanted()) and KEYRING.hex() not in repr(recovery)
    with pytest.raises(UsageError, match="enrolled already"):
        recover(home, wanted())


def test_a_second_attempt_brings_the_same_keys(host: Host, home: AgentHome) -> None:
    def silent(recovered: m.Recovered) -> m.Message:
        raise PilulierError("the answer was lost")

    host.taken = silent
    with pytest.raises(PilulierError, match="lost"):
        recover(home, wanted())
    host.taken = lambda recovered: recovered
    recover(home, wanted())
    first, second = [one for one in host.asked if isinstance(one, m.RecoverTake)]
    assert (first.curve_key, first.signing_key, first.installation) == (
        second.curve_key,
        second.signing_key,
        second.installation,
    )


def test_a_key_in_hand_is_not_confided_because_the_appliance_says_so(host: Host, home: AgentHome) -> None:
    recovery = recover(home, wanted(key=key_of(host)))
    assert recovery.machine.settings.key_mode == "local"
    (opened,) = [one for one in host.asked if isinstance(one, m.RecoverOpen)]
    assert opened.wrap_to == b""


def _other_identity(host: Host) -> None:
    host.offer = lambda o: msgspec.structs.replace(o, certificate=SigningKey(b"\x44" * 32).certify(SERVER, 1))


def _other_server(host: Host) -> None:
    host.offer = lambda o: msgspec.structs.replace(o, certificate=IDENTITY.certify(b"\x33" * 32, 1))


def _foreign_history(host: Host) -> None:
    forged = Repository()
    forged.signing = SigningKey(b"\x55" * 32)
    forged.commit([Item(b"/srv/file", b"forged")])
    host.show = lambda page: m.Snapshots(forged.history, False, [])


def _another_machines_history(host: Host) -> None:
    other = Repository()
    other.id = RepositoryId(b"X" * 16)
    other.commit([Item(b"/srv/file", b"another's")])
    host.show = lambda page: m.Snapshots(other.history, False, [])


def _unapproved_takeover(host: Host) -> None:
    """Somebody else's installation, approved by nobody that the code names."""
    stranger, other = SigningKey(b"\x66" * 32), SigningKey(b"\x77" * 32)
    take = m.RecoverTake(b"t" * 16, NO_DIGEST, b"c" * 32, other.public, b"i" * 16, "", "")
    host.repository.succeeded = [host.succession(take, stranger)]


def _succession_of_another_key(host: Host) -> None:
    def lie(recovered: m.Recovered) -> m.Message:
        take = host.asked[-1]
        assert isinstance(take, m.RecoverTake)
        other = SigningKey(b"\x77" * 32)
        return msgspec.structs.replace(recovered, succession=host.succession(take, successor=other.public))

    host.taken = lie


def _succession_by_a_stranger(host: Host) -> None:
    def lie(recovered: m.Recovered) -> m.Message:
        take = host.asked[-1]
        assert isinstance(take, m.RecoverTake)
        return msgspec.structs.replace(recovered, succession=host.succession(take, SigningKey(b"\x88" * 32)))

    host.taken = lie


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (_other_identity, "not certified by the identity"),
        (_other_server, "certifies another key"),
        (_foreign_history, "does not carry this machine's signature"),
        (_another_machines_history, "belongs to another machine"),
        (_unapproved_takeover, "approved by another appliance"),
        (_succession_of_another_key, "another installation than this one"),
        (_succession_by_a_stranger, "another installation than this one"),
    ],
)
def test_a_liar_gets_nowhere(host: Host, home: AgentHome, lie: Callable[[Host], None], told: str) -> None:
    lie(host)
    with pytest.raises(IntegrityError, match=told):
        recover(home, wanted())
    assert blank(home)


def test_an_envelope_for_somebody_else_opens_nothing(host: Host, home: AgentHome) -> None:
    from transport.escrow import EscrowKey

    other = EscrowKey.generate().public
    vault = host.repository.sealer.keys.vault
    for machine, public in ((host.repository.id, other), (RepositoryId(b"X" * 16), None)):

        def offer(
            offered: m.RecoverOffered, machine: RepositoryId = machine, public: EscrowPublic | None = public
        ) -> m.Message:
            (opened,) = [one for one in host.asked if isinstance(one, m.RecoverOpen)]
            to = public or EscrowPublic(opened.wrap_to)
            return msgspec.structs.replace(offered, envelope=wrap_confided(to, KEYRING, machine, vault))

        host.offer = offer
        host.asked.clear()
        with pytest.raises(SealError):
            recover(home, wanted())
        assert blank(home)


def test_another_machines_key_file_is_named(host: Host, home: AgentHome) -> None:
    for change in ({"repository": RepositoryId(b"X" * 16)}, {"vault": b"Y" * 16}):
        with pytest.raises(WrongKeyError, match="another machine's than comptoir-1"):
            recover(home, wanted(key=key_of(host, **change)))
    with pytest.raises(IntegrityError, match="not signed by this machine|does not carry"):
        recover(home, wanted(key=key_of(host, public_key=b"\x99" * 32)))
    assert blank(home) and not any(isinstance(one, m.RecoverTake) for one in host.asked)


def test_an_older_key_than_the_data_is_named_before_anything_happens(host: Host, home: AgentHome) -> None:
    host.repository.sealer = type(host.repository.sealer)(
        vault_keys(KEYRING + os.urandom(32), host.repository.sealer.keys.vault)
    )
    record = msgspec.structs.replace(
        host.repository.history[-1].signed.decoded(), number=4, epoch=2, previous=host.repository.head.hash()
    )
    signed = host.repository.signing.sign_commit(record)
    host.repository.history.append(msgspec.structs.replace(host.repository.history[-1], signed=signed))
    with pytest.raises(WrongKeyError, match="older than the machine's last change of key"):
        recover(home, wanted(key=key_of(host)))
    assert blank(home)


def test_the_head_code_finds_a_cut_history(host: Host, home: AgentHome) -> None:
    codes = [head_code(one.signed.hash()) for one in host.repository.history]
    newest = codes[-1]
    host.repository.history.pop()
    with pytest.raises(RolledBackError, match="older than your code"):
        recover(home, wanted(head=newest))
    with pytest.raises(UsageError, match="12 letters"):
        recover(home, wanted(head="ABCD"))
    assert blank(home) and not any(isinstance(one, m.RecoverTake) for one in host.asked)
    recovery = recover(home, wanted(head=f" {codes[0].lower().replace('-', ' ')} "))
    assert recovery.newer == 1


def test_a_host_that_never_ends_is_left(host: Host, home: AgentHome) -> None:
    host.show = lambda page: m.Snapshots([], True, [])
    with pytest.raises(PilulierError, match="announced more snapshots"):
        recover(home, wanted())


def test_a_machine_that_never_backed_up_is_recovered_too(host: Host, home: AgentHome) -> None:
    host.repository.history.clear()
    recovery = recover(home, wanted())
    assert recovery.head is None and load_settings(home).name == "comptoir-1"


def test_settings_that_were_sealed_come_before_what_the_appliance_knows(host: Host, home: AgentHome) -> None:
    from agent.settings_keeping import _PLACE, kept_of

    machine = recover(home, wanted()).machine
    own = msgspec.msgpack.encode(kept_of(machine.settings))
    sealed = bytes(machine.sealer().seal_segment(_PLACE, own.replace(b"/srv", b"/own")))
    former = m.FormerSettings(["/lied"], [], Schedule((1,)), "en", sealed)
    taken = taken_back(machine.settings, former, machine.sealer())
    assert taken.selection.include == (b"/own",) and taken.schedule == machine.settings.schedule
    altered = msgspec.structs.replace(former, sealed=sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert taken_back(machine.settings, altered, machine.sealer()).selection.include == (b"/lied",)
    relative = m.FormerSettings(["not/absolute"], [], None, "", b"")
    assert taken_back(machine.settings, relative, machine.sealer()).selection == machine.settings.selection
