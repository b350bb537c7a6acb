"""Deliveries at a running exchange: what a machine gets without a code, and what it never does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from appliance import spool
from appliance.control import accounts, audit, crossings, deliveries, machine_logs, machines
from appliance.control.accounts import Account, Role
from appliance.control.deliveries import Chosen, Delivery, DeliveryState
from appliance.control.scope import EVERYTHING
from appliance.errors import ConflictError
from tests.support.faults import wait_until
from tests.support.hand_agent import Connection, HandAgent, Served
from transport import messages as m
from transport.names import InstallationId, PathId, SegmentId, VaultId, VersionId, random_id
from transport.parcels import Wrapping, chunk_id
from transport.tree import EntryRecord


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("handing") / "home")
    yield served
    served.close()
    assert served.code == 0


@pytest.fixture
def machine(served: Served) -> Iterator[HandAgent]:
    machine = served.machine()
    yield machine
    machine.close()


def sender(served: Served, role: Role = Role.ADMIN) -> Account:
    """Somebody of the machine's space."""
    email = f"{random_id().hex()}@example.org"
    space = served.space.id if role is Role.ADMIN else None
    return accounts.add(
        served.db, email=email, role=role, password="correct horse battery staple 42", now=time.time(), space_id=space
    ).account


def send(
    served: Served, machine: HandAgent, *paths: PathId, by: Account | None = None, now: float | None = None
) -> Delivery:
    account = by or sender(served)
    return deliveries.send(
        served.db,
        machine.machine,
        Chosen(tuple(paths)),
        snapshot=1,
        snapshot_at=5.0,
        files=1,
        size_bytes=3,
        account_id=account.id,
        by=account.email,
        now=time.time() if now is None else now,
    )


def two_files(machine: HandAgent) -> tuple[Connection, tuple[SegmentId, EntryRecord], tuple[SegmentId, EntryRecord]]:
    """A backup of two files of their own segments."""
    line = machine.connect()
    line.begin()
    first, second = line.put_file(b"wanted"), line.put_file(b"not wanted")
    line.commit()
    line.say(m.BackupEnd())
    return line, first, second


def state(served: Served, machine: HandAgent, number: int = 1) -> DeliveryState:
    return deliveries.find(served.db, EVERYTHING, machine.machine, number, time.time()).state


def test_a_delivery_gives_its_files_and_no_others(served: Served, machine: HandAgent) -> None:
    line, (segment, entry), (other_segment, other) = two_files(machine)
    assert line.ask(m.DeliveriesQuery(), m.Deliveries).deliveries == []
    sent = send(served, machine, entry.path_id)
    (offer,) = line.ask(m.DeliveriesQuery(), m.Deliveries).deliveries
    assert (offer.number, offer.sender, offer.accepted, offer.files) == (1, sent.sent_by, False, 1)
    assert line.ask(m.SelectionQuery(1), m.DeliveredSelection).paths == [entry.path_id]

    assert line.refused(m.DeliveryOpen(1)) == "conflict", "nobody said yes on the machine"
    line.ask(m.DeliveryAnswer(1, True), m.Noted)
    line.ask(m.DeliveryOpen(1), m.RestoreOpened)
    assert state(served, machine) is DeliveryState.RUNNING
    assert line.refused(m.ExtentsQuery([other.version_id], 0)) == "outside-grant"
    assert line.refused(m.ExtentsQuery([VersionId(random_id())], 0)) == "outside-grant"
    assert line.refused(m.FetchSegments([segment], 0)) == "outside-grant", "before its extents were asked for"
    line.ask(m.ExtentsQuery([entry.version_id], 0), m.Extents)
    assert line.refused(m.FetchSegments([segment, other_segment], 0)) == "outside-grant"
    assert line.ask(m.FetchSegments([segment], 0), m.SegmentData).segment == segment

    line.ask(m.DeliveryReport(1, "done", 1, 6, 0, ""), m.Noted)
    assert state(served, machine) is DeliveryState.DONE
    assert line.refused(m.ExtentsQuery([entry.version_id], 0)) == "code-needed", "it is over"
    kinds = [act.kind for act in audit.search(served.db, EVERYTHING, text=machine.machine.hex()).acts]
    assert kinds[:2] == ["delivery.done", "delivery.accept"]
    texts = [one.text for one in machine_logs.of_machine(served.db, machine.machine)]
    assert any("1 files restored" in text for text in texts)


def test_it_may_be_begun_again_until_it_is_done_and_by_one_line_at_a_time(served: Served, machine: HandAgent) -> None:
    line, (segment, entry), _ = two_files(machine)
    send(served, machine, entry.path_id)
    line.ask(m.DeliveryAnswer(1, True), m.Noted)
    line.ask(m.DeliveryOpen(1), m.RestoreOpened)
    line.ask(m.ExtentsQuery([entry.version_id], 0), m.Extents)
    second = machine.connect()
    second.ask(m.DeliveryOpen(1), m.RestoreOpened)
    assert line.refused(m.FetchSegments([segment], 0)) == "code-needed", "the newer line has it"
    second.ask(m.DeliveryReport(1, "failed", 0, 0, 0, "no room"), m.Noted)
    assert state(served, machine) is DeliveryState.FAILED
    third = machine.connect()
    third.ask(m.DeliveryOpen(1), m.RestoreOpened)
    third.ask(m.DeliveryReport(1, "done", 1, 6, 0, ""), m.Noted)
    assert machine.connect().refused(m.DeliveryOpen(1)) == "conflict"


def test_refused_cancelled_expired_and_unknown_ones_open_nothing(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    send(served, machine, entry.path_id)
    line.ask(m.DeliveryAnswer(1, False), m.Noted)
    send(served, machine, entry.path_id)
    line.ask(m.DeliveryAnswer(2, True), m.Noted)
    deliveries.cancel(served.db, EVERYTHING, machine.machine, 2, time.time())
    send(served, machine, entry.path_id, now=time.time() - deliveries.LIFE_S - 1)
    assert [line.refused(m.DeliveryOpen(number)) for number in (1, 2, 3, 4)] == [
        *("conflict", "conflict", "conflict", "not-found")
    ]
    assert line.refused(m.DeliveryAnswer(3, True)) == "conflict" and state(served, machine, 3) is DeliveryState.EXPIRED
    assert line.ask(m.DeliveriesQuery(), m.Deliveries).deliveries == []


def test_a_machine_sees_and_opens_its_own_alone(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    send(served, machine, entry.path_id)
    other = served.machine()
    theirs = other.connect()
    assert theirs.ask(m.DeliveriesQuery(), m.Deliveries).deliveries == []
    for word in (m.SelectionQuery(1), m.DeliveryAnswer(1, True)):
        assert theirs.refused(word) == "not-found"
    assert theirs.refused(m.DeliveryOpen(1)) == "not-found"
    assert state(served, machine) is DeliveryState.WAITING
    other.close()


def test_a_copy_of_the_machine_gets_nothing(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    send(served, machine, entry.path_id)
    line.ask(m.DeliveryAnswer(1, True), m.Noted)
    machine.installation = InstallationId(random_id())
    copy = machine.connect()
    assert copy.refused(m.DeliveriesQuery()) == "installation" and copy.refused(m.DeliveryOpen(1)) == "installation"


def test_who_has_lost_the_machine_has_sent_nothing(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    admin = sender(served)
    send(served, machine, entry.path_id, by=admin)
    line.ask(m.DeliveryAnswer(1, True), m.Noted)
    accounts.set_state(served.db, admin, accounts.AccountState.DISABLED)
    assert line.refused(m.DeliveryOpen(1)) == "code-needed"


def test_nothing_is_reported_that_was_not_begun(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    send(served, machine, entry.path_id)
    assert line.refused(m.DeliveryReport(1, "done", 1, 1, 0, "")) == "conflict"
    assert state(served, machine) is DeliveryState.WAITING


def test_nobody_begins_or_ends_deliveries_without_end(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    send(served, machine, entry.path_id)
    line.ask(m.DeliveryAnswer(1, True), m.Noted)
    line.ask(m.DeliveryOpen(1), m.RestoreOpened)
    said = []
    for _ in range(40):
        answer = line.ask(m.DeliveryReport(1, "failed", 0, 0, 0, "x"), m.Noted | m.Refused)  # type: ignore[type-var]
        said.append("noted" if isinstance(answer, m.Noted) else answer.code)
    assert set(said) == {"noted", "throttled"} and said[-1] == "throttled"
    lines = audit.search(served.db, EVERYTHING, text=machine.machine.hex(), kind="delivery.failed").acts
    assert len(lines) == said.count("noted") < 30


def test_attending_tells_of_what_waits(served: Served, machine: HandAgent) -> None:
    line, (_, entry), _ = two_files(machine)
    assert line.ask(m.Attend(), m.Attended).delivery == 0
    send(served, machine, entry.path_id)
    wait_until(lambda: line.ask(m.Attend(), m.Attended).delivery == 1, "the delivery")
    line.ask(m.DeliveryAnswer(1, False), m.Noted)
    wait_until(lambda: line.ask(m.Attend(), m.Attended).delivery == 0, "its end")


def crossing(served: Served, machine: HandAgent) -> HandAgent:
    """Another machine of the contract, whose file is sent to `machine`."""
    source = served.machine(machine.contract)
    account = sender(served)
    deliveries.send(
        served.db, machine.machine, Chosen((PathId(b"p" * 16),)), snapshot=1, snapshot_at=5.0, files=1, size_bytes=3,
        account_id=account.id, by=account.email, now=time.time(), source_id=source.machine,
    )  # fmt: skip
    return source


def yes(machine: HandAgent, key: bytes, number: int = 1, signed_for: int = 1) -> m.DeliveryAnswer:
    return m.DeliveryAnswer(number, True, key, machine.signing.sign_receiving(machine.machine, signed_for, key))


def spooled(served: Served, machine: HandAgent, *chunks: bytes) -> None:
    """A parcel as the job leaves it."""
    with spool.ParcelFile(served.home, machine.machine, 1, 1 << 20) as file:
        for chunk in chunks:
            file.add(chunk)
        file.keep()
    wanted = crossings.to_seal(served.db, time.time())
    assert wanted is not None and wanted.target.id == machine.machine
    assert crossings.was_sealed(served.db, wanted, Wrapping(b"envelope", VaultId(b"v" * 16)), len(chunks))


def test_another_machines_files_come_as_they_were_sealed_and_nothing_else(served: Served, machine: HandAgent) -> None:
    line, (segment, entry), _ = two_files(machine)
    source = crossing(served, machine)
    (offer,) = line.ask(m.DeliveriesQuery(), m.Deliveries).deliveries
    assert offer.source == "PC-2"
    assert line.refused(m.DeliveryAnswer(1, True)) == "conflict", "a yes needs a key"
    assert line.refused(yes(machine, b"key", signed_for=2)) == "integrity"
    assert line.refused(m.DeliveryAnswer(1, True, b"key", b"x" * 64)) == "integrity"
    assert state(served, machine) is DeliveryState.WAITING
    line.ask(yes(machine, b"key"), m.Noted)
    assert line.ask(m.ParcelQuery(1), m.Parcel) == m.Parcel(1, b"", b"", 0, "")
    assert line.refused(m.DeliveryOpen(1)) == "conflict", "not sealed yet"
    spooled(served, machine, b"first", b"second")
    assert line.ask(m.ParcelQuery(1), m.Parcel) == m.Parcel(1, b"envelope", b"v" * 16, 2, "")

    assert line.refused(m.DeliveryOpen(1)) == "conflict", "what is not allowed any more is not handed out either"
    crossings.allow(served.db, machine.contract, allowed=True)
    line.ask(m.DeliveryOpen(1), m.RestoreOpened)
    assert line.refused(m.ExtentsQuery([entry.version_id], 0)) == "outside-grant"
    for wrong in (segment, chunk_id(0), chunk_id(3), SegmentId(b"\xff" * 16)):
        assert line.refused(m.FetchSegments([wrong], 0)) == "outside-grant"
    line.say(m.FetchSegments([chunk_id(2), chunk_id(1)], 0))
    received = [line.channel.receive(20.0) for _ in range(2)]
    assert [bytes(got[1]) for got in received if got is not None] == [b"second", b"first"]
    line.ask(m.DeliveryReport(1, "done", 1, 3, 0, ""), m.Noted)
    assert not spool.path_of(served.home, machine.machine, 1).exists()
    kinds = [act.kind for act in audit.search(served.db, EVERYTHING, text=source.machine.hex()).acts]
    assert "delivery.done" in kinds, "both sides read it"
    source.close()


def test_nobody_else_gets_the_parcel(served: Served, machine: HandAgent) -> None:
    line, _, _ = two_files(machine)
    source = crossing(served, machine)
    line.ask(yes(machine, b"key"), m.Noted)
    spooled(served, machine, b"first")
    for other in (source, served.machine()):
        theirs = other.connect()
        assert theirs.refused(m.ParcelQuery(1)) == "not-found" and theirs.refused(m.DeliveryOpen(1)) == "not-found"
        other.close()


def test_another_key_makes_the_sealed_parcel_worthless(served: Served, machine: HandAgent) -> None:
    line, _, _ = two_files(machine)
    source = crossing(served, machine)
    line.ask(yes(machine, b"key"), m.Noted)
    wanted = crossings.to_seal(served.db, time.time())
    assert wanted is not None and wanted.key == b"key"
    line.ask(yes(machine, b"another"), m.Noted)
    assert not crossings.was_sealed(served.db, wanted, Wrapping(b"envelope", VaultId(b"v" * 16)), 1)
    again = crossings.to_seal(served.db, time.time())
    assert again is not None and again.key == b"another"
    crossings.was_not_sealed(served.db, again, crossings.Why.ROOM)
    assert line.ask(m.ParcelQuery(1), m.Parcel).reason == crossings.SENTENCES[crossings.Why.ROOM]
    source.close()


def test_what_may_be_sealed_is_looked_at_again(served: Served, machine: HandAgent) -> None:
    line, _, _ = two_files(machine)
    source = crossing(served, machine)
    line.ask(yes(machine, b"key"), m.Noted)
    wanted = crossings.to_seal(served.db, time.time())
    assert wanted is not None

    def refusal() -> str:
        with pytest.raises(ConflictError) as caught:
            crossings.check(served.db, wanted, time.time())
        return str(caught.value)

    assert "does not allow" in refusal()
    crossings.allow(served.db, machine.contract, allowed=True)
    crossings.check(served.db, wanted, time.time())
    admin = accounts.find(served.db, wanted.delivery.account_id)
    accounts.set_state(served.db, admin, accounts.AccountState.DISABLED)
    assert "does not manage" in refusal()
    accounts.set_state(served.db, admin, accounts.AccountState.ACTIVE)
    accounts.set_role(served.db, admin, Role.SUPPORT, space_id=served.space.id)
    assert "does not manage" in refusal()
    accounts.set_role(served.db, admin, Role.ADMIN, space_id=served.space.id)
    deliveries.cancel(served.db, EVERYTHING, machine.machine, 1, time.time())
    assert "is over" in refusal()
    machines.revoke(served.db, machines.get(served.db, machine.machine))
    assert "revoked" in refusal()
    source.close()
