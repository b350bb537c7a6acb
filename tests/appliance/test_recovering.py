"""The door for recoveries, knocked at by hand: who gets in, what changes when, and what becomes of who was there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pyotp
import pytest

from appliance import escrow, recovering
from appliance.control import accounts, audit, contracts, former_settings, machine_keys, machines, passwords, throttling
from appliance.control.accounts import Role
from appliance.control.scope import EVERYTHING
from appliance.opening import clients
from tests.support.hand_agent import ANSWER_S, Connection, HandAgent, Served
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import AgentChannel, CurveKeys, new_curve_keys
from transport.errors import RefusedError, SealError
from transport.escrow import EscrowKey, unwrap_confided, wrap_confided, wrap_private
from transport.keys import SigningKey, verify_certificate, verify_succession
from transport.names import NO_DIGEST, InstallationId, random_id

PASSWORD = "correct horse battery staple 42"
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_N", 2)
        opened = Served(tmp_path_factory.mktemp("appliance") / "home")
        yield opened
        opened.close()
        assert opened.code == 0


@pytest.fixture
def lost(served: Served) -> Iterator[HandAgent]:
    """A machine with a snapshot and a confided key; afterwards the appliance still serves."""
    agent = served.machine()
    agent.connect().backup()
    envelope = wrap_confided(escrow.ensure(served.home), KEY, agent.machine, agent.vault)
    machine_keys.put(served.db, agent.machine, envelope, time.time())
    yield agent
    agent.close()
    assert served.alive
    with served.repository(agent) as repository:
        assert repository.check(read_data=True).ok


class Stranger:
    """New hardware: keys of its own, one account of the machine's contract, and a connection to the door."""

    def __init__(self, served: Served, machine: HandAgent, role: Role = Role.CUSTOMER) -> None:
        self.served = served
        self.machine = machine
        self.curve: CurveKeys = new_curve_keys()
        self.signing = SigningKey.generate()
        self.installation = InstallationId(random_id())
        self.escrow = EscrowKey.generate()
        self.email = f"{random_id().hex()}@example.org"
        self.secret = self.account(machine.contract.id if role is Role.CUSTOMER else None, role)

    def account(self, contract: str | None, role: Role) -> str:
        made = accounts.add(
            self.served.db, email=self.email, role=role, password=PASSWORD, contract_id=contract, now=time.time()
        )
        return made.totp.secret

    def ask(self, question: m.Message) -> m.Message:
        channel = AgentChannel([self.served.enrolment], self.served.server_key, self.curve)
        try:
            channel.connect()
            channel.send(question)
            frames = channel.receive_frames(ANSWER_S)
            assert frames is not None
            return m.decode_enrolment_reply(frames[0])
        finally:
            channel.close()

    def opening(self, **changes: object) -> m.RecoverOpen:
        code = pyotp.TOTP(self.secret).now()
        question = m.RecoverOpen(PROTOCOL_VERSION, self.email, PASSWORD, code, "", self.escrow.public.data)
        return msgspec.structs.replace(question, **changes)

    def open(self) -> m.RecoverOffered:
        answer = self.ask(self.opening())
        assert isinstance(answer, m.RecoverOffered), answer
        return answer

    def taking(self, offered: m.RecoverOffered) -> m.RecoverTake:
        head = offered.head.hash() if offered.head is not None else NO_DIGEST
        return m.RecoverTake(
            offered.ticket, head, self.curve.public, self.signing.public, self.installation, "new", "test"
        )

    def recover(self) -> m.Recovered:
        answer = self.ask(self.taking(self.open()))
        assert isinstance(answer, m.Recovered), answer
        return answer

    def refused(self, question: m.Message) -> str:
        answer = self.ask(question)
        assert isinstance(answer, m.Refused) and answer.code != "failed", answer
        return answer.code

    def takes_its_place(self) -> HandAgent:
        """The machine as it goes on with these keys."""
        self.machine.curve, self.machine.signing = self.curve, self.signing
        self.machine.installation = self.installation
        return self.machine


def test_what_is_offered_opens_only_for_who_asked(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    offered = stranger.open()
    verify_certificate(served.home.load_identity().public, offered.certificate)
    assert (offered.machine, offered.vault, offered.key_mode) == (lost.machine, lost.vault, "confided")
    assert offered.founding == lost.signing.public and not offered.successions
    assert unwrap_confided(stranger.escrow, offered.envelope, lost.machine, lost.vault) == KEY
    assert KEY not in offered.envelope
    with pytest.raises(SealError):
        unwrap_confided(EscrowKey.generate(), offered.envelope, lost.machine, lost.vault)
    page = stranger.ask(m.RecoverHistory(offered.ticket, 0))
    assert isinstance(page, m.Snapshots) and [one.signed for one in page.commits] == [offered.head]
    # Nothing has changed by all that.
    lost.connect().backup()


def test_a_key_in_hand_leaves_the_confided_one_closed(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    offered = stranger.ask(stranger.opening(wrap_to=b""))
    assert isinstance(offered, m.RecoverOffered) and not offered.envelope
    (act,) = audit.search(served.db, EVERYTHING, kind="machine.recover-open").acts[:1]
    assert act.after == '{"key": "confided"}' and act.email == stranger.email and act.address == "127.0.0.1"


def test_a_private_key_leaves_as_its_owner_wrapped_it(served: Served, lost: HandAgent) -> None:
    envelope = wrap_private("quatre mots et un cheval", KEY, lost.machine, lost.vault, memory_kib=64, passes=1, lanes=1)
    machine_keys.put(served.db, lost.machine, envelope, time.time())
    offered = Stranger(served, lost).open()
    assert (offered.key_mode, offered.envelope) == ("private", envelope)
    machine_keys.destroy(served.db, lost.machine)
    offered = Stranger(served, lost).open()
    assert (offered.key_mode, offered.envelope) == ("local", b"")


def test_the_new_installation_goes_on_and_the_old_one_is_cut_off(served: Served, lost: HandAgent) -> None:
    attending, uploading = lost.connect(), lost.connect()
    uploading.begin()
    uploading.put_file(b"half of a backup")
    stranger = Stranger(served, lost)
    recovered = stranger.recover()
    succession = verify_succession(recovered.succession)
    assert succession.successor == stranger.signing.public and succession.after == 1
    assert succession.approver == served.home.load_identity().public
    # What it sends from now on is dropped, and its line ends.
    uploading.say(m.PutCommit(uploading.next(), lost.signed(), _figures()))
    for connection in (attending, uploading):
        connection.say(m.Ping())
    with served.repository(lost) as repository:
        assert repository.head_number == 1
    with pytest.raises(RefusedError):
        lost.connect()
    machine = stranger.takes_its_place()
    machine.live.clear()
    machine.connections.clear()
    fresh = machine.connect()
    welcome = fresh.agent.connect(hello=False).hello()
    assert welcome.head is not None and welcome.head.hash() == machine.previous
    for connection in (attending, uploading):
        connection.channel.close()


def _figures() -> m.BackupFigures:
    return m.BackupFigures(1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0.5, 0.25, 0)


def test_the_former_key_signs_nothing_even_over_the_new_line(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    stranger.recover()
    former = lost.signing
    machine = stranger.takes_its_place()
    machine.signing = former
    machine.live = {}
    line = machine.connect()
    line.begin()
    line.say(m.PutDeaths(line.next(), []))
    assert isinstance(line.hear(), m.Refused)
    with served.repository(machine) as repository:
        machine.live = {}
        assert repository.signers().current == stranger.signing.public


def test_the_web_reads_on_before_and_after_the_first_backup(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    stranger.recover()
    machine = machines.get(served.db, lost.machine)
    begin = clients.beginning(served.home, served.db, EVERYTHING, machine)
    openers = clients.Openers()
    try:
        assert [one.number for one in openers.open("somebody", machine.id, begin).snapshots] == [1]
        assert begin.public_key == stranger.signing.public
        agent = stranger.takes_its_place()
        agent.connect().backup(b"on new hardware")
        assert [one.number for one in openers.open("somebody", machine.id, begin).snapshots] == [1, 2]
    finally:
        openers.end_session("somebody")


def test_restores_need_no_other_code_for_a_while(served: Served, lost: HandAgent) -> None:
    stranger, other = Stranger(served, lost), served.machine()
    recovered = stranger.recover()
    other.connect()
    assert other.connections[0].refused(m.RestoreResume(recovered.session)) == "code-needed"
    machine = stranger.takes_its_place()
    for _ in range(2):
        line = machine.connect()
        opened = line.ask(m.RestoreResume(recovered.session), m.RestoreOpened)
        assert opened.session == recovered.session
        line.channel.close()
    other.close()


def test_a_lost_answer_is_given_again(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    offered = stranger.open()
    first, second = (stranger.ask(stranger.taking(offered)) for _ in range(2))
    assert isinstance(first, m.Recovered) and isinstance(second, m.Recovered)
    assert first.succession == second.succession and first.session != second.session
    lines = audit.search(served.db, EVERYTHING, kind="machine.recover").acts
    assert sum(act.object_id == lost.machine.hex() for act in lines) == 1, "one takeover is one line"


def test_a_takeover_that_a_crash_cut_short_is_finished_by_the_next_attempt(
    served: Served, lost: HandAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository knows the new key and the control database does not: nobody can write until somebody recovers."""
    stranger, other = Stranger(served, lost), Stranger(served, lost)

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the power went")

    offered = stranger.open()
    with monkeypatch.context() as patch:
        patch.setattr(machines, "take_over", crash)
        answer = stranger.ask(stranger.taking(offered))
        assert isinstance(answer, m.Refused) and answer.code == "failed"
    line = lost.connect()
    line.begin()
    line.put_file()
    line.say(m.PutCommit(line.next(), lost.signed(), _figures()))
    assert line.answer(m.Refused).code == "integrity"
    assert isinstance(stranger.ask(stranger.taking(offered)), m.Recovered)
    other.recover()
    with served.repository(lost) as repository:
        assert [one.successor for one in repository.signers().successions] == [
            stranger.signing.public,
            other.signing.public,
        ]
    machine = other.takes_its_place()
    machine.connections.clear()
    machine.live.clear()
    line.channel.close()
    assert machine.connect().agent.machine == lost.machine


def test_a_control_database_from_before_the_takeover_gives_the_former_pc_nothing(
    served: Served, lost: HandAgent
) -> None:
    """Its keys connect again, and the packs still say that another installation signs; a recovery mends it."""
    stranger, again = Stranger(served, lost), Stranger(served, lost)
    stranger.recover()
    with served.db.write():
        served.db.execute(
            "UPDATE machine SET curve_key = ?, signing_key = ?, installation = ? WHERE id = ?",
            [lost.curve.public, lost.signing.public, lost.installation, lost.machine],
        )
    served.exchange._directory.reload(served.channel.wake)
    line = lost.connect()
    line.begin()
    line.put_file(b"by whoever has the former PC")
    line.say(m.PutCommit(line.next(), lost.signed(), _figures()))
    assert line.answer(m.Refused).code == "integrity"
    again.recover()
    with served.repository(lost) as repository:
        assert repository.head_number == 1 and repository.signers().current == again.signing.public


def test_a_head_that_moved_changes_nothing(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    offered = stranger.open()
    lost.connect().backup(b"meanwhile")
    assert stranger.refused(stranger.taking(offered)) == "stale-head"
    lost.connect().backup(b"still in charge")


def test_keys_that_are_somebody_elses_change_nothing(served: Served, lost: HandAgent) -> None:
    stranger, neighbour = Stranger(served, lost), served.machine()
    offered = stranger.open()
    taking = stranger.taking(offered)
    assert stranger.refused(msgspec.structs.replace(taking, curve_key=neighbour.curve.public)) == "conflict"
    assert stranger.refused(msgspec.structs.replace(taking, signing_key=lost.signing.public)) == "protocol"
    with served.repository(lost) as repository:
        assert not repository.successions()
    lost.connect().backup(b"still in charge")
    neighbour.connect().backup()
    neighbour.close()


def test_a_ticket_is_needed_and_ends(served: Served, lost: HandAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Stranger(served, lost)
    assert stranger.refused(m.RecoverHistory(random_id(), 0)) == "ticket"
    offered = stranger.open()
    assert stranger.refused(msgspec.structs.replace(stranger.taking(offered), ticket=random_id())) == "ticket"
    recoveries = served.exchange._enroller.recoveries
    now = recoveries._clock()
    monkeypatch.setattr(recoveries, "_clock", lambda: now + recovering.TICKET_S + 1)
    assert stranger.refused(stranger.taking(offered)) == "ticket"
    lost.connect().backup(b"still in charge")


def test_a_ticket_is_for_one_installation(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    taking = stranger.taking(stranger.open())
    taken = stranger.ask(taking)
    assert isinstance(taken, m.Recovered) and isinstance(stranger.ask(taking), m.Recovered), "an answer may be lost"
    other = msgspec.structs.replace(taking, signing_key=Stranger(served, lost).signing.public)
    assert stranger.refused(other) == "ticket"
    with served.repository(lost) as repository:
        assert len(repository.successions()) == 1


@pytest.mark.parametrize("before_the_takeover", [True, False])
def test_a_revocation_ends_a_customer_s_recovery(served: Served, lost: HandAgent, before_the_takeover: bool) -> None:
    stranger = Stranger(served, lost)
    taking = stranger.taking(stranger.open())
    if not before_the_takeover:
        assert isinstance(stranger.ask(taking), m.Recovered)
    machines.revoke(served.db, machines.get(served.db, lost.machine))
    assert stranger.refused(taking) == "revoked"
    assert machines.get(served.db, lost.machine).state is machines.MachineState.REVOKED


def test_an_account_that_loses_its_right_meanwhile_takes_nothing(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    offered = stranger.open()
    account = next(one for one in _accounts(served) if one.email == stranger.email)
    accounts.set_state(served.db, account, accounts.AccountState.DISABLED)
    assert stranger.refused(stranger.taking(offered)) == "ticket"
    lost.connect().backup(b"still in charge")


def _accounts(served: Served) -> list[accounts.Account]:
    return [accounts.find(served.db, row["id"]) for row in served.db.rows("SELECT id FROM account")]


def test_who_may_not_learns_nothing(served: Served, lost: HandAgent) -> None:
    stranger, neighbour = Stranger(served, lost), served.machine()
    assert stranger.refused(stranger.opening(password="another one altogether")) == "login"
    assert stranger.refused(stranger.opening(account="nobody@example.org")) == "login"
    assert stranger.refused(stranger.opening(code="000000")) == "one-time-code"
    other = Stranger(served, neighbour)
    answer = other.ask(other.opening(machine=lost.machine.hex()))
    assert isinstance(answer, m.Refused) and answer.code == "not-found" and "PC" in answer.reason
    support = Stranger(served, lost, Role.SUPER)
    several = support.ask(support.opening())
    assert isinstance(several, m.RecoverChoice) and any(lost.machine.hex() in name for name in several.machines)
    chosen = Stranger(served, lost, Role.SUPER)
    assert isinstance(chosen.ask(chosen.opening(machine=lost.machine.hex())), m.RecoverOffered)
    assert stranger.refused(stranger.opening(protocol=99)) == "protocol"
    neighbour.close()


def test_a_code_works_once(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    question = stranger.opening()
    assert isinstance(stranger.ask(question), m.RecoverOffered)
    assert stranger.refused(question) == "one-time-code"


def test_guesses_are_throttled_by_account_and_by_address(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)

    def forget() -> None:
        with served.db.write():
            served.db.execute("DELETE FROM attempt")

    for _ in range(throttling.ATTEMPTS):
        assert stranger.refused(stranger.opening(password="guess")) == "login"
    assert stranger.refused(stranger.opening()) == "throttled"
    forget()
    for number in range(throttling.PASSWORDS_FROM_ADDRESS):
        stranger.refused(stranger.opening(account=f"nobody-{number}@example.org"))
    assert stranger.refused(stranger.opening()) == "throttled"
    forget()
    for _ in range(throttling.ATTEMPTS):
        assert stranger.refused(stranger.opening(code="000000")) == "one-time-code"
    assert stranger.refused(stranger.opening()) == "throttled"
    forget()


def test_a_revoked_machine_comes_back_only_by_who_looks_after_it(served: Served, lost: HandAgent) -> None:
    machines.revoke(served.db, machines.get(served.db, lost.machine))
    customer = Stranger(served, lost)
    assert customer.refused(customer.opening()) == "revoked"
    admin = Stranger(served, lost, Role.SUPER)
    offered = admin.ask(admin.opening(machine=lost.machine.hex()))
    assert isinstance(offered, m.RecoverOffered)
    contract = contracts.edit(served.db, lost.contract, contracts.Changes(machine_quota=0))
    assert admin.refused(admin.taking(offered)) == "machine-quota"
    contracts.edit(served.db, contract, contracts.Changes(machine_quota=5))
    with served.repository(lost) as repository:
        assert not repository.successions()
    assert isinstance(admin.ask(admin.taking(offered)), m.Recovered)
    assert machines.get(served.db, lost.machine).state is machines.MachineState.ACTIVE
    admin.takes_its_place().connect()


def test_settings_come_back_as_they_were_left(served: Served, lost: HandAgent) -> None:
    line = lost.connect()
    line.ask(m.PutSettings(b"sealed, whatever it says"), m.Noted)
    line.ask(m.PutSettings(b"sealed anew"), m.Noted)
    offered = Stranger(served, lost).open()
    assert offered.settings.sealed == b"sealed anew" and offered.settings.include == []
    assert former_settings.of_machine(served.db, lost.machine) == offered.settings
    assert contracts.of_machine(served.db, lost.machine).client_id == offered.contract


def test_the_door_reads_nothing_longer_than_it_must(served: Served, lost: HandAgent) -> None:
    stranger = Stranger(served, lost)
    assert stranger.refused(m.Ping()) == "protocol"
    assert isinstance(stranger.open(), m.RecoverOffered)
    assert replace(lost.curve) == lost.curve and isinstance(lost.connect(), Connection)
