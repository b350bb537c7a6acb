"""One-time codes at the door of a restore: tenancy, replay, throttling, what the answer gives away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.control import accounts, machines, restores, throttling
from appliance.control.accounts import AccountState
from appliance.control.contracts import Contract
from appliance.control.database import Database
from appliance.control.throttling import Outcome
from appliance.errors import OneTimeCodeError, ThrottledError
from tests.support.control_house import NOW, House, build
from transport.errors import RefusedError


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def verify(house: House, who: str, machine: bytes, now: float = NOW, code: str | None = None) -> accounts.Account:
    return restores.verify_restore_code(
        house.db, f"{who}@example.org", house.code(who, now) if code is None else code, machine, now
    )


def wrong_code(house: House, who: str, now: float = NOW) -> str:
    right = {house.code(who, now + offset) for offset in (-30, 0, 30)}
    return next(code for code in ("000000", "111111", "222222", "333333") if code not in right)


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        ("super", {"ours", "next", "away"}),
        ("admin", {"ours", "next"}),
        ("support", {"ours", "next"}),
        ("customer", {"ours"}),
    ],
)
def test_each_role_opens_its_own_and_nothing_else(house: House, who: str, allowed: set[str]) -> None:
    places = {"ours": house.machine, "next": house.neighbour_machine, "away": house.elsewhere_machine}
    for minute, (name, machine) in enumerate(places.items()):
        now = NOW + 60 * minute
        if name in allowed:
            assert verify(house, who, machine.id, now) == house.accounts[who]
        else:
            with pytest.raises(OneTimeCodeError):
                verify(house, who, machine.id, now)
    opened = {opening.machine_id for opening in restores.openings(house.db, 0)}
    assert opened == {places[name].id for name in allowed}


def test_a_moved_contract_takes_its_rights_along(house: House) -> None:
    machines.move(house.db, house.machine, house.elsewhere)
    with pytest.raises(OneTimeCodeError):
        verify(house, "customer", house.machine.id)
    with pytest.raises(OneTimeCodeError):
        verify(house, "admin", house.machine.id)


def test_a_code_opens_once(house: House) -> None:
    verify(house, "customer", house.machine.id)
    with pytest.raises(OneTimeCodeError):
        verify(house, "customer", house.machine.id)
    with pytest.raises(OneTimeCodeError):
        verify(house, "customer", house.machine.id, code=house.code("customer", NOW - 30))
    verify(house, "customer", house.machine.id, NOW + 30)
    outcomes = [attempt.outcome for attempt in throttling.recent(house.db, 0)]
    assert outcomes == [Outcome.ACCEPTED, Outcome.USED, Outcome.USED, Outcome.ACCEPTED]


def test_two_uses_at_the_same_moment_open_once(house: House) -> None:
    code = house.code("customer")
    barrier = threading.Barrier(2)
    results: list[str] = []

    def use() -> None:
        with Database.open(house.path) as db:
            barrier.wait()
            try:
                restores.verify_restore_code(db, "customer@example.org", code, house.machine.id, NOW)
                results.append("opened")
            except RefusedError:
                results.append("refused")

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["opened", "refused"]
    assert len(restores.openings(house.db, 0)) == 1


def test_a_code_spent_on_the_wrong_contract_is_spent(house: House) -> None:
    with pytest.raises(OneTimeCodeError):
        verify(house, "customer", house.neighbour_machine.id)
    with pytest.raises(OneTimeCodeError):
        verify(house, "customer", house.machine.id)


def test_refusals_read_alike_and_carry_the_exit_code(house: House) -> None:
    accounts.set_state(house.db, house.accounts["support"], AccountState.DISABLED)
    sentences = set()
    for who, machine, code in (
        ("customer", house.machine.id, wrong_code(house, "customer")),
        ("customer", house.neighbour_machine.id, None),
        ("admin", bytes(16), None),
        ("support", house.machine.id, None),
    ):
        with pytest.raises(RefusedError) as caught:
            verify(house, who, machine, code=code)
        sentences.add(str(caught.value))
        assert caught.value.exit_code == 4
    with pytest.raises(RefusedError) as caught:
        restores.verify_restore_code(house.db, "nobody@example.org", "123456", house.elsewhere_machine.id, NOW)
    sentences.add(str(caught.value))
    assert len(sentences) == 1


def test_five_wrong_codes_close_the_account_for_fifteen_minutes(house: House) -> None:
    for n in range(5):
        now = NOW + 30 * n
        with pytest.raises(OneTimeCodeError):
            verify(
                house,
                "super",
                [house.machine.id, house.elsewhere_machine.id][n % 2],
                now,
                wrong_code(house, "super", now),
            )
    last = NOW + 120
    for now in (last + 1, last + 899):
        with pytest.raises(ThrottledError, match="try again in"):
            verify(house, "super", house.neighbour_machine.id, now)
    # Another account on a machine with fewer than five is not touched, and the wait is not prolonged by trying.
    verify(house, "admin", house.neighbour_machine.id, last + 1)
    verify(house, "super", house.neighbour_machine.id, last + 901)


def test_five_wrong_codes_close_the_machine_for_every_account(house: House) -> None:
    for n, who in enumerate(("super", "admin", "support", "customer", "super")):
        with pytest.raises(OneTimeCodeError):
            verify(house, who, house.machine.id, NOW + n, wrong_code(house, who, NOW + n))
    with pytest.raises(ThrottledError):
        verify(house, "admin", house.machine.id, NOW + 10)
    verify(house, "admin", house.neighbour_machine.id, NOW + 10)


def test_throttling_survives_a_restart_and_hides_unknown_accounts(house: House) -> None:
    for n in range(5):
        with pytest.raises(OneTimeCodeError):
            restores.verify_restore_code(house.db, "Nobody@Example.org", "123456", bytes([n]) * 16, NOW + n)
    with Database.open(house.path) as db, pytest.raises(ThrottledError):
        restores.verify_restore_code(db, "nobody@example.org", "123456", bytes(16), NOW + 10)


def test_a_right_code_clears_the_account_but_not_the_machine(house: House) -> None:
    for n in range(4):
        with pytest.raises(OneTimeCodeError):
            verify(house, "customer", house.machine.id, NOW + n, wrong_code(house, "customer", NOW + n))
    verify(house, "customer", house.machine.id, NOW + 5)
    with pytest.raises(OneTimeCodeError):
        verify(house, "customer", house.machine.id, NOW + 6, wrong_code(house, "customer", NOW + 6))
    with pytest.raises(ThrottledError):
        verify(house, "customer", house.machine.id, NOW + 40)


def test_wrong_codes_far_apart_close_nothing(house: House) -> None:
    for n in range(8):
        now = NOW + 240 * n
        with pytest.raises(OneTimeCodeError):
            verify(house, "customer", house.machine.id, now, wrong_code(house, "customer", now))


@pytest.mark.parametrize(
    ("times", "until"),
    [
        ([], 0.0),
        ([5.0, 4.0, 3.0, 2.0], 0.0),
        ([5.0, 4.0, 3.0, 2.0, 1.0], 905.0),
        ([900.0, 4.0, 3.0, 2.0, 0.0], 1800.0),
        ([900.1, 4.0, 3.0, 2.0, 0.0], 0.0),
    ],
)
def test_blocked_until(times: list[float], until: float) -> None:
    assert throttling.blocked_until(times) == until


def test_log_of_attempts_holds_no_code(house: House) -> None:
    with pytest.raises(OneTimeCodeError):
        restores.verify_restore_code(house.db, "a\nb@x.org\x1b", "918273", house.machine.id, NOW)
    (attempt,) = throttling.recent(house.db, 0)
    assert attempt.email == "a b@x.org"
    assert b"918273" not in house.path.read_bytes()


def test_paused_contract_still_restores(house: House) -> None:
    from appliance.control import contracts

    paused: Contract = contracts.pause(house.db, house.ours)
    assert paused.paused
    verify(house, "customer", house.machine.id)
