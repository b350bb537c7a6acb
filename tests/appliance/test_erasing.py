"""Deletions carried out: what is due goes from disk and database, and nothing else does, wherever it is cut off."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from appliance import erasing
from appliance.control import (
    audit,
    certificates,
    clock,
    deletions,
    machine_keys,
    machine_logs,
    machines,
    outbox,
    spaces,
    statistics,
)
from appliance.control.clock import Reading
from appliance.control.deletions import WAIT_S, Deletion, Kind, Outcome
from appliance.control.scope import EVERYTHING, OneSpace
from appliance.erasing import Carried, Refused, carry_out_due
from appliance.errors import NotFoundError
from appliance.settings import Home, Settings, initialising
from appliance.store.layout import Layout
from appliance.store.turns import WriterTurn
from tests.support.command_line import Shell
from tests.support.control_house import NOW, House, build, figures
from tests.support.dated_history import write_history
from transport.errors import IntegrityError, UsageError
from transport.escrow import EscrowKey, wrap_confided
from transport.keys import SigningKey
from transport.names import RepositoryId, VaultId

LATER = Reading(NOW + WAIT_S, "boot", 1000.0 + WAIT_S)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with initialising(tmp_path / "home", Settings()) as made:
        (made.root / "control.db").unlink(missing_ok=True)
    return made


@pytest.fixture
def house(home: Home, monkeypatch: pytest.MonkeyPatch) -> House:
    house = build(home.root, monkeypatch)
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        write_history(home.repository(machine.id), [int(NOW * 1000)])
        statistics.record(house.db, machine.id, 1, complete=True, figures=figures(), now=NOW)
        machine_logs.add(house.db, machine.id, level="error", module="x", text="x", now=NOW)
    # What the machines' records noted stands beside this computer's own boot.
    clock.accept(house.db, Reading(NOW, "boot", 1000.0))
    return house


def ask(house: House, kind: Kind, object_id: str) -> Deletion:
    return deletions.request(house.db, EVERYTHING, kind, object_id, by="admin@example.org", now=NOW)


def present(home: Home) -> set[str]:
    return {path.name for path in home.repositories.iterdir() if path.is_dir()}


def rows(house: House) -> dict[str, int]:
    """Rows by table, of what may be deleted."""
    tables = ("machine", "snapshot_statistics", "machine_log", "enrol_token", "contract", "account", "space")
    return {name: house.db.value(f"SELECT count(*) AS n FROM {name}") for name in tables}


def test_a_machine_goes_with_all_that_hangs_on_it(house: House, home: Home) -> None:
    before = rows(house)
    ask(house, Kind.MACHINE, house.machine.hex)
    assert carry_out_due(home, house.db, Reading(NOW + WAIT_S - 1, "boot", 1000.0 + WAIT_S)) == []
    outcome, = carry_out_due(home, house.db, LATER)
    assert isinstance(outcome, Carried) and outcome.deletion.outcome is Outcome.DONE
    (erased,) = outcome.repositories
    assert erased.machine == house.machine.hex and erased.files >= 2 and erased.bytes > 0
    assert present(home) == {house.neighbour_machine.hex, house.elsewhere_machine.hex}
    gone = {name: before[name] - count for name, count in rows(house).items()}
    assert gone == {"machine": 1, "snapshot_statistics": 1, "machine_log": 1, "enrol_token": 1,
                    "contract": 0, "account": 0, "space": 0}  # fmt: skip
    # The certificate, in a chain that holds, and a mail to those concerned.
    (act,) = audit.search(house.db, EVERYTHING, kind="deletion.carried-out").acts
    assert act.object_id == house.machine.hex and act.after is not None
    assert json.loads(act.after)["repositories"] == [
        {"machine": erased.machine, "files": erased.files, "bytes": erased.bytes}
    ]
    assert audit.verify(house.db).ok and house.db.integrity_problems() == []
    told = {mail.recipient for mail in outbox.pending(house.db) if mail.kind == outbox.DELETION_DONE}
    assert told == {"admin@example.org", "customer@example.org", "ours@example.org"}
    assert carry_out_due(home, house.db, LATER) == []


def test_a_contract_and_a_space(house: House, home: Home) -> None:
    ask(house, Kind.CONTRACT, house.ours.id)
    ask(house, Kind.SPACE, house.elsewhere.space_id)
    outcomes = carry_out_due(home, house.db, LATER)
    assert len(outcomes) == 2 and all(isinstance(one, Carried) for one in outcomes)
    assert present(home) == {house.neighbour_machine.hex}
    assert rows(house)["machine"] == rows(house)["contract"] == 1
    # Our customer went with the contract; those of the space that stays did not.
    assert house.db.value("SELECT count(*) AS n FROM account WHERE email = 'customer@example.org'") == 0
    assert [space.name for space in spaces.every(house.db)] == ["near"] and rows(house)["account"] == 3
    assert house.db.integrity_problems() == []


def test_one_in_use_stays_due_and_holds_up_no_other(
    house: House, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "WAIT_S", 0.0)
    ask(house, Kind.MACHINE, house.machine.hex)
    ask(house, Kind.MACHINE, house.neighbour_machine.hex)
    busy = WriterTurn(Layout(home.repository(house.machine.id)))
    try:
        refused, carried = sorted(carry_out_due(home, house.db, LATER), key=lambda one: isinstance(one, Carried))
    finally:
        busy.close()
    assert isinstance(refused, Refused) and "being written by another process" in refused.reason
    assert isinstance(carried, Carried)
    # Nobody backs up into what is about to go.
    assert machines.get(house.db, house.machine.id).state is machines.MachineState.REVOKED
    (again,) = carry_out_due(home, house.db, LATER)
    assert isinstance(again, Carried) and present(home) == {house.elsewhere_machine.hex}


@pytest.mark.parametrize("cut", ["renamed", "removed"])
def test_what_was_cut_off_is_finished(house: House, home: Home, cut: str) -> None:
    ask(house, Kind.MACHINE, house.machine.hex)
    folder = home.repository(house.machine.id)
    aside = folder.rename(folder.with_name(folder.name + erasing.ASIDE))
    if cut == "removed":
        shutil.rmtree(aside)
    (outcome,) = carry_out_due(home, house.db, LATER)
    assert isinstance(outcome, Carried) and len(outcome.repositories) == (cut == "renamed")
    assert present(home) == {house.neighbour_machine.hex, house.elsewhere_machine.hex}
    assert rows(house)["machine"] == 2


def test_a_clock_that_jumps_deletes_nothing(house: House, home: Home) -> None:
    ask(house, Kind.MACHINE, house.machine.hex)
    # The count of time that nobody sets says that two seconds have passed.
    (refused,) = carry_out_due(home, house.db, Reading(NOW + 50 * 86400, "boot", 1002.0))
    assert isinstance(refused, Refused) and "clock cannot be believed" in refused.reason
    assert len(present(home)) == 3


def test_a_certificate_names_each_key_and_holds_against_the_identity(house: House, home: Home) -> None:
    keyring, vault = bytes(32), VaultId(house.machine.vault)
    envelope = wrap_confided(EscrowKey.generate().public, keyring, RepositoryId(house.machine.id), vault)
    machine_keys.put(house.db, house.machine.id, envelope, NOW)
    deletion = ask(house, Kind.CONTRACT, house.ours.id)
    assert certificates.listed(house.db, EVERYTHING) == []
    carry_out_due(home, house.db, LATER)
    (found,) = certificates.listed(house.db, EVERYTHING)
    one = found.statement
    assert found.id == one.certificate == deletion.id and one.kind == "contract" and one.name == house.ours.client_id
    (machine,) = one.machines
    assert machine.machine == house.machine.hex and machine.files >= 2 and machine.bytes > 0
    assert machine.key is not None and machine.key.mode == "confided"
    assert machine.key.sha256 == hashlib.sha256(envelope).hexdigest()
    assert one.copies_gone_at == one.erased_at + (one.copies_kept_days + 1) * 86400
    assert house.db.value("SELECT count(*) AS n FROM machine_key") == 0
    identity = home.load_identity().public
    file = certificates.as_file(found.signed)
    assert certificates.verified(file, identity) == one
    with pytest.raises(IntegrityError, match="another appliance"):
        certificates.verified(file, SigningKey.generate().public)
    for wrong in (file.replace(b"ours", b"hers", 1), file.replace(deletion.id.encode(), b"d0", 1)):
        if wrong != file:
            with pytest.raises((IntegrityError, UsageError)):
                certificates.verified(wrong, identity)
    with pytest.raises(UsageError, match="no certificate"):
        certificates.verified(b"{}", identity)
    admins = OneSpace(house.ours.space_id)
    assert certificates.find(house.db, admins, deletion.id) == found
    with pytest.raises(NotFoundError):
        certificates.find(house.db, OneSpace(house.elsewhere.space_id), deletion.id)


def test_a_certificate_is_there_if_and_only_if_the_keys_are_gone(
    house: House, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletion = ask(house, Kind.CONTRACT, house.ours.id)

    def fails(*_: object) -> int:
        raise OSError("the disk went away")

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "erase_rows", fails)
        (outcome,) = carry_out_due(home, house.db, LATER)
    assert isinstance(outcome, Refused) and certificates.listed(house.db, EVERYTHING) == []
    (outcome,) = carry_out_due(home, house.db, LATER)
    assert isinstance(outcome, Carried)
    (found,) = certificates.listed(house.db, EVERYTHING)
    assert found.id == deletion.id and found.statement.machines[0].files == 0, "its folder was gone already"


def test_a_certificate_is_handed_out_and_verified_by_command(
    house: House, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deletion = ask(house, Kind.CONTRACT, house.ours.id)
    carry_out_due(home, house.db, LATER)
    file = str(tmp_path / "certificate.json")
    shell, elsewhere = Shell(home.root, capsys), Shell(tmp_path / "no home", capsys)
    assert shell("--json", "certificate", "list").document[0]["certificate"] == deletion.id
    shown = shell("--json", "certificate", "show", deletion.id, "--out", file).document
    assert shown["machines"][0]["machine"] == house.machine.hex
    assert house.machine.hex in shell("certificate", "show", deletion.id).out
    assert shell("--json", "certificate", "verify", file).document["ok"]
    options = ("certificate", "verify", file, "--identity")
    assert elsewhere("--json", *options, home.load_identity().public.hex()).document["ok"]
    assert "another appliance" in elsewhere(*options, "00" * 32).sentence
    assert "64 hexadecimal digits" in elsewhere(*options, "x").sentence
    assert "exists already" in shell("certificate", "show", deletion.id, "--out", file).sentence
