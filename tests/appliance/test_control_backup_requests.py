"""Backups asked for from the appliance: once, not too often, never of whom it is not for."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import backup_requests, contracts, machine_settings, machines
from appliance.control.backup_requests import EXPIRES_S, GAP_S, BackupRequest, RequestState
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope
from appliance.errors import NotFoundError, PausedError, RemoteRefusedError, ThrottledError
from tests.appliance.test_control_machine_settings import report
from tests.support.control_house import NOW, House, build
from transport.errors import RefusedError


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def ask(house: House, now: float = NOW, scope: Scope = EVERYTHING) -> BackupRequest:
    return backup_requests.ask(house.db, scope, house.machine.id, "admin@example.org", now)


def state(house: House, now: float = NOW) -> RequestState | None:
    request = backup_requests.get(house.db, EVERYTHING, house.machine.id, now)
    return request.state if request else None


def test_asked_taken_and_asked_again(house: House) -> None:
    assert state(house) is None
    first = ask(house)
    assert (first.number, first.state, first.requested_by) == (1, RequestState.WAITING, "admin@example.org")
    assert ask(house, NOW + 5) == first, "one waits at a time"
    backup_requests.answer(house.db, house.machine.id, 1, taken=True, reason="", now=NOW + 20)
    assert state(house) is RequestState.TAKEN
    with pytest.raises(ThrottledError, match="30 s ago: ask again in 270 s"):
        ask(house, NOW + 30)
    second = ask(house, NOW + GAP_S)
    assert (second.number, second.state) == (2, RequestState.WAITING)
    backup_requests.answer(house.db, house.machine.id, 1, taken=True, reason="", now=NOW)
    assert state(house, NOW + GAP_S) is RequestState.WAITING, "an answer to an older number changes nothing"
    backup_requests.answer(house.db, house.machine.id, 2, taken=False, reason="nothing is\nselected", now=NOW + 400)
    refused = backup_requests.get(house.db, EVERYTHING, house.machine.id, NOW + 400)
    assert refused is not None
    assert (refused.state, refused.reason, refused.answered_at) == (
        RequestState.REFUSED,
        "nothing is selected",
        NOW + 400,
    )


def test_what_nobody_takes_up_is_forgotten(house: House) -> None:
    ask(house)
    assert state(house, NOW + EXPIRES_S) is RequestState.WAITING
    assert state(house, NOW + EXPIRES_S + 1) is RequestState.EXPIRED
    assert ask(house, NOW + EXPIRES_S + 1).number == 2


def test_a_clock_set_back_closes_nothing(house: House) -> None:
    ask(house)
    backup_requests.answer(house.db, house.machine.id, 1, taken=True, reason="", now=NOW)
    assert ask(house, NOW - 1000).number == 2


def test_who_gets_none(house: House) -> None:
    machine_settings.note(house.db, house.machine.id, report(remote_allowed=False), shrunk=False)
    with pytest.raises(RemoteRefusedError, match="as its owner chose"):
        ask(house)
    machine_settings.note(house.db, house.machine.id, report(), shrunk=False)
    contracts.pause(house.db, house.ours)
    with pytest.raises(PausedError, match="ours is paused"):
        ask(house)
    contracts.resume(house.db, contracts.find(house.db, EVERYTHING, house.ours.id))
    machines.revoke(house.db, house.machine)
    with pytest.raises(RefusedError, match="was revoked"):
        ask(house)
    assert state(house) is None


def test_nobody_asks_out_of_their_scope(house: House) -> None:
    ask(house)
    for scope in (OneContract(house.neighbour.id), OneSpace(house.elsewhere.space_id)):
        with pytest.raises(NotFoundError):
            ask(house, scope=scope)
        assert backup_requests.get(house.db, scope, house.machine.id, NOW) is None
    assert ask(house, scope=OneContract(house.ours.id)).number == 1
