"""Contracts, enrolment, machines, statistics and logs."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest

from appliance.control import contracts, machine_logs, machines, spaces, statistics
from appliance.control.contracts import Changes, ContractState
from appliance.control.machines import MachineState
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.errors import ConflictError, EnrolCodeError, MachineQuotaError, NotFoundError, PausedError
from appliance.store.upkeep.changes import SnapshotChange
from appliance.store.upkeep.retention import Policy
from tests.support.control_house import NOW, House, build, enrol, figures, keys
from transport.errors import UsageError

DAY = 86400.0


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def attempt(house: House, token: bytes, seed: int = 9, name: str = "PC", now: float = NOW) -> machines.Machine:
    return machines.enrol(house.db, token, name=name, agent_version="1", platform="Linux", now=now, **keys(seed))


def test_token_enrols_one_machine_and_is_not_stored(house: House) -> None:
    token = contracts.new_token(house.db, house.ours, NOW).token
    machine = attempt(house, token)
    assert (machine.contract_id, machine.state, machine.name) == (house.ours.id, MachineState.ACTIVE, "PC")
    assert token not in house.path.read_bytes()
    with pytest.raises(EnrolCodeError, match="used already") as caught:
        attempt(house, token, seed=10)
    assert (caught.value.code, caught.value.exit_code) == ("enrol-code", 4)


def test_lost_answer_does_not_burn_the_code(house: House) -> None:
    token = contracts.new_token(house.db, house.ours, NOW).token
    first = attempt(house, token)
    assert attempt(house, token, now=NOW + 8 * DAY) == first
    machines.revoke(house.db, first)
    with pytest.raises(EnrolCodeError, match="used already"):
        attempt(house, token)


def test_wrong_and_expired_codes_have_their_own_sentences(house: House) -> None:
    with pytest.raises(EnrolCodeError, match="unknown here"):
        attempt(house, bytes(16))
    token = contracts.new_token(house.db, house.ours, NOW)
    assert token.expires_at == NOW + 7 * DAY
    with pytest.raises(EnrolCodeError, match="expired on 2027-01-22"):
        attempt(house, token.token, now=NOW + 7 * DAY)
    assert attempt(house, token.token, now=NOW + 7 * DAY - 1).name == "PC"


def test_paused_contract_takes_no_machine_and_keeps_the_code(house: House) -> None:
    token = contracts.new_token(house.db, house.ours, NOW).token
    paused = contracts.pause(house.db, house.ours)
    with pytest.raises(PausedError):
        attempt(house, token)
    with pytest.raises(PausedError):
        contracts.new_token(house.db, paused, NOW)
    contracts.resume(house.db, paused)
    assert attempt(house, token).contract_id == house.ours.id


def test_quota_refuses_and_a_revoked_machine_makes_room(house: House) -> None:
    contract = contracts.edit(house.db, house.ours, Changes(machine_quota=2))
    enrol(house.db, contract, 20, "PC-2")
    token = contracts.new_token(house.db, contract, NOW).token
    with pytest.raises(MachineQuotaError, match=r"machine quota reached \(2 of 2\): ask") as caught:
        attempt(house, token)
    assert caught.value.code == "machine-quota"
    machines.revoke(house.db, house.machine)
    assert attempt(house, token).contract_id == contract.id


def test_names_are_cleaned_and_get_a_suffix_within_a_contract(house: House) -> None:
    names = [
        enrol(house.db, house.ours, seed, name).name for seed, name in ((30, "pc-1"), (31, "PC-1"), (32, "x\x1b\n"))
    ]
    assert names == ["pc-1-2", "PC-1-3", "x"]
    assert house.neighbour_machine.name == "PC-1"


def test_a_key_enrols_once(house: House) -> None:
    token = contracts.new_token(house.db, house.neighbour, NOW).token
    with pytest.raises(ConflictError, match="enrolled already"):
        attempt(house, token, seed=1)


def test_authorised_are_the_active_ones_with_what_the_service_needs(house: House) -> None:
    machines.revoke(house.db, house.elsewhere_machine)
    contracts.pause(house.db, house.neighbour)
    contracts.edit(house.db, house.ours, Changes(allocated_bytes=999))
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(1000), now=NOW)
    found = machines.authorised(house.db)
    assert set(found) == {house.machine.curve_key, house.neighbour_machine.curve_key}
    ours, neighbour = found[house.machine.curve_key], found[house.neighbour_machine.curve_key]
    assert (ours.machine_id, ours.client_id, ours.paused, ours.over_quota) == (house.machine.id, "ours", False, True)
    assert (neighbour.paused, neighbour.over_quota) == (True, False)


def test_scopes_bound_every_list_and_lookup(house: House) -> None:
    near, own = OneSpace(house.ours.space_id), OneContract(house.ours.id)
    for scope, clients in ((EVERYTHING, ["ours", "next", "away"]), (near, ["ours", "next"]), (own, ["ours"])):
        assert [contract.client_id for contract in contracts.every(house.db, scope)] == clients
        assert [overview.client_id for overview in machines.overviews(house.db, scope)] == clients
    for scope in (near, own):
        with pytest.raises(NotFoundError):
            contracts.find(house.db, scope, house.elsewhere.id)
        with pytest.raises(NotFoundError):
            machines.find(house.db, scope, house.elsewhere_machine.hex)
        assert machines.overviews(house.db, scope, house.elsewhere.id) == []


def test_machines_are_found_by_id_prefix_and_name(house: House) -> None:
    assert machines.find(house.db, EVERYTHING, house.machine.hex.upper()) == house.machine
    assert machines.find(house.db, EVERYTHING, house.machine.hex[:12]) == house.machine
    with pytest.raises(ConflictError, match="several machines"):
        machines.find(house.db, EVERYTHING, "PC-1")
    for wrong in ("", "%", "nothing", house.machine.hex[:3]):
        with pytest.raises(NotFoundError):
            machines.find(house.db, EVERYTHING, wrong)


def test_move_keeps_the_machine_under_a_free_name(house: House) -> None:
    moved = machines.move(house.db, house.machine, house.neighbour)
    assert (moved.id, moved.name, moved.contract_id) == (house.machine.id, "PC-1-2", house.neighbour.id)
    assert contracts.of_machine(house.db, house.machine.id).id == house.neighbour.id
    full = contracts.edit(house.db, house.elsewhere, Changes(machine_quota=1))
    with pytest.raises(MachineQuotaError):
        machines.move(house.db, moved, full)


def test_seen_and_installation(house: House) -> None:
    machines.seen(house.db, house.machine.id, agent_version="2\n", platform="Windows", now=NOW + 5)
    machines.set_installation(house.db, house.machine.id, b"i" * 16)
    machine = machines.get(house.db, house.machine.id)
    assert (machine.last_seen_at, machine.agent_version, machine.installation) == (NOW + 5, "2", b"i" * 16)
    with pytest.raises(NotFoundError):
        machines.set_installation(house.db, bytes(16), b"i" * 16)


def test_contract_states_rank_and_expiry_is_derived(house: House) -> None:
    last_day = date(2027, 1, 15)
    contract = contracts.edit(house.db, house.ours, Changes(end_date=last_day))
    noon = NOW
    assert contract.state(noon) is ContractState.ACTIVE
    assert contract.state(noon + DAY) is ContractState.EXPIRED
    assert contracts.pause(house.db, contract).state(noon + DAY) is ContractState.PAUSED
    assert contracts.edit(house.db, contract, Changes(no_end_date=True)).end_date is None


def test_delete_waits_for_machines_and_resume_takes_it_back(house: House) -> None:
    waiting = contracts.delete(house.db, house.ours, NOW)
    assert waiting is not None and waiting.paused and waiting.state(NOW) is ContractState.DELETING
    assert contracts.resume(house.db, waiting).state(NOW) is ContractState.ACTIVE
    space = spaces.default(house.db)
    empty = contracts.add(house.db, space_id=space.id, client_id="empty", email="e@x.org", now=NOW)
    contracts.new_token(house.db, empty, NOW)
    assert contracts.delete(house.db, empty, NOW) is None
    assert house.db.integrity_problems() == []


def test_bad_contracts_are_refused_by_sentence(house: House) -> None:
    for changes in (
        Changes(allocated_bytes=-1),
        Changes(machine_quota=10**9),
        Changes(email="nonsense"),
        Changes(client_id=" "),
        Changes(start_date=date(2027, 1, 2), end_date=date(2027, 1, 1)),
    ):
        with pytest.raises(UsageError):
            contracts.edit(house.db, house.ours, changes)
    with pytest.raises(ConflictError, match="exists already"):
        spaces.add(house.db, "NEAR", NOW)


def test_used_counts_the_latest_snapshot_of_each_machine(house: House) -> None:
    second = enrol(house.db, house.ours, 40, "PC-2")
    for machine, number, size in ((house.machine, 1, 5000), (house.machine, 2, 300), (second, 7, 40)):
        statistics.record(house.db, machine.id, number, complete=True, figures=figures(size), now=NOW + number)
    assert contracts.used_bytes(house.db, house.ours.id) == 340
    assert contracts.used_bytes(house.db, house.neighbour.id) == 0
    machines.revoke(house.db, second)
    usage = contracts.usage(house.db, house.ours.id)
    assert (usage.used_bytes, usage.machines_active, usage.machines_total) == (340, 1, 2)


def test_statistics_are_recorded_once_per_snapshot(house: House) -> None:
    assert statistics.latest(house.db, house.machine.id) is None
    for now, size in ((NOW, 1), (NOW + 9, 2)):
        statistics.record(house.db, house.machine.id, 1, complete=False, figures=figures(size), now=now)
    (row,) = statistics.of_machine(house.db, house.machine.id)
    assert (row.received_at, row.complete, row.figures) == (NOW, False, figures(2))
    overview = machines.overviews(house.db, OneContract(house.ours.id))[0]
    assert (overview.last_snapshot, overview.last_snapshot_at, overview.bytes_source) == (1, NOW, 2)


def test_figures_of_a_lying_agent_harm_nothing(house: House) -> None:
    odd = msgspec.structs.replace(figures(2**53), seconds=float("nan"), transfer_seconds=float("inf"))
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=odd, now=NOW)
    kept = statistics.latest(house.db, house.machine.id)
    assert kept is not None and (kept.figures.seconds, kept.figures.transfer_seconds) == (0.0, 0.0)
    assert contracts.used_bytes(house.db, house.ours.id) == 2**53
    assert machines.authorised(house.db)[house.machine.curve_key].over_quota


def test_log_lines_are_one_line_bounded_and_trimmed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_logs.add(
        house.db,
        house.machine.id,
        level="FATAL\n",
        module="scan\x1bner",
        text="a\r\n2027 error: b" + "x" * 900,
        now=NOW,
    )
    (line,) = machine_logs.of_machine(house.db, house.machine.id)
    assert (line.level, line.module) == ("info", "scanner")
    assert line.text.startswith("a 2027 error: bxx") and len(line.text) == 500
    monkeypatch.setattr(machine_logs, "KEPT_LINES", 10)
    monkeypatch.setattr(machine_logs, "_TRIM_EVERY", 5)
    machine_logs.add_many(
        house.db, house.machine.id, [machine_logs.LogEntry(NOW + n, "warning", "m", str(n)) for n in range(40)]
    )
    kept = machine_logs.of_machine(house.db, house.machine.id)
    assert len(kept) <= 15 and kept[-1].text == "39"


def test_a_contract_keeps_never_less_than_its_floor(house: House) -> None:
    assert house.ours.retention == Policy(keep_days=90, floor_days=7)
    kept = Policy(keep_days=30, floor_days=14, keep_daily=60, keep_weekly=20, keep_monthly=12, keep_yearly=3)
    edited = contracts.edit(house.db, house.ours, Changes(retention=kept))
    assert edited.retention == kept == contracts.of_machine(house.db, house.machine.id).retention
    assert contracts.edit(house.db, edited, Changes(email="new@example.org")).retention == kept
    with pytest.raises(UsageError, match="a floor of 31 days is more than the 30 days that are kept"):
        contracts.edit(house.db, edited, Changes(retention=Policy(keep_days=30, floor_days=31)))
    floors = {machine.machine_id: machine.retention_floor_days for machine in machines.authorised(house.db).values()}
    assert floors[house.machine.id] == 14 and floors[house.neighbour_machine.id] == 7


def test_counted_changes_stand_as_first_counted(house: House) -> None:
    first, second = SnapshotChange(1, 0, 0), SnapshotChange(2, 100, 90)
    statistics.record_changes(house.db, house.machine.id, [first, second])
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(2, 100, 3), SnapshotChange(3, 100, 1)])
    assert statistics.changes_of(house.db, house.machine.id) == [first, second, SnapshotChange(3, 100, 1)]
    assert statistics.changes_of(house.db, house.neighbour_machine.id) == []
