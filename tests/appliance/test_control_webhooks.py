"""Webhooks: what the facts of a space put before them, and how deliveries are taken, put off and given up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.control import alert_table, deliveries, restores, statistics, webhooks
from appliance.control.deliveries import Chosen
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.control.webhooks import GIVE_UP_S, LEASE_S, Event, NewWebhook
from appliance.errors import NotFoundError
from tests.support import control_house
from tests.support.control_house import NOW, House, figures
from transport.errors import UsageError


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return control_house.build(tmp_path, monkeypatch)


def make(house: House, *events: Event, space_id: str = "") -> NewWebhook:
    return webhooks.create(house.db, space_id=space_id or house.ours.space_id, url="https://example.org/",
                           events=events or tuple(Event), by="x", now=NOW)  # fmt: skip


def told(house: House, new: NewWebhook) -> list[dict[str, object]]:
    found = webhooks.deliveries(house.db, EVERYTHING, new.webhook.id)
    assert all(json.loads(one.body)["event"] == one.event for one in found)
    return [json.loads(one.body) for one in reversed(found)]


def record(house: House, number: int, *, complete: bool, machine: bytes | None = None) -> None:
    statistics.record(house.db, machine or house.machine.id, number, complete=complete, figures=figures(), now=NOW)


def test_a_backup_is_told_once_when_it_is_complete(house: House) -> None:
    new = make(house)
    record(house, 1, complete=False)
    assert told(house, new) == []
    record(house, 1, complete=True)
    record(house, 1, complete=True)
    record(house, 2, complete=True)
    assert [one["snapshot"] for one in told(house, new)] == [1, 2]
    first = told(house, new)[0]
    assert first["machine_id"] == house.machine.hex and first["contract_id"] == house.ours.id
    assert (first["client_id"], first["sent_bytes"], first["space_id"]) == ("ours", 100, house.ours.space_id)


def test_alerts_of_the_kinds_that_are_wanted_and_no_others(house: House) -> None:
    new = make(house)

    def alert(kind: AlertKind, machine: bytes | None) -> Alert:
        return Alert(kind, NOW, machine, "PC-1", house.ours.id, "ours", house.ours.space_id, AlertFacts())

    found = [alert(AlertKind.LATE, house.machine.id), alert(AlertKind.EXPIRING, None),
             alert(AlertKind.FAILED, house.machine.id), alert(AlertKind.OVER_QUOTA, None)]  # fmt: skip
    for _ in range(2):
        alert_table.sync(house.db, found, NOW)
    assert sorted(str(one["event"]) for one in told(house, new)) == ["failed", "late", "over-quota"]
    over = next(one for one in told(house, new) if one["event"] == "over-quota")
    assert over["machine_id"] is None and over["contract_id"] == house.ours.id


def test_a_restore_is_told_with_who_opened_it(house: House) -> None:
    new = make(house, Event.RESTORE)
    restores.verify_restore_code(house.db, "admin@example.org", house.code("admin"), house.machine.id, NOW)
    [one] = told(house, new)
    assert one["account"] == "admin@example.org" and one["machine_id"] == house.machine.hex


def test_only_what_is_wanted_and_only_of_its_space(house: House) -> None:
    late, far = make(house, Event.LATE), make(house, space_id=house.elsewhere.space_id)
    record(house, 1, complete=True)
    assert told(house, late) == told(house, far) == []
    record(house, 1, complete=True, machine=house.elsewhere_machine.id)
    assert len(told(house, far)) == 1


def test_scopes_see_their_own(house: House) -> None:
    near, far = make(house), make(house, space_id=house.elsewhere.space_id)
    scope = OneSpace(house.ours.space_id)
    assert [one.id for one in webhooks.every(house.db, scope)] == [near.webhook.id]
    assert webhooks.every(house.db, OneContract(house.ours.id)) == []
    for act in (webhooks.find, webhooks.remove, webhooks.deliveries):
        with pytest.raises(NotFoundError):
            act(house.db, scope, far.webhook.id)
    webhooks.remove(house.db, scope, near.webhook.id)
    assert [one.id for one in webhooks.every(house.db, EVERYTHING)] == [far.webhook.id]
    assert near.secret not in repr(near)


def test_bounds(house: House) -> None:
    with pytest.raises(UsageError):
        webhooks.create(house.db, space_id=house.ours.space_id, url="https://x.org", events=(), by="x", now=NOW)
    for _ in range(webhooks.LIMIT):
        make(house)
    with pytest.raises(UsageError):
        make(house)
    make(house, space_id=house.elsewhere.space_id)


def test_a_delivery_is_one_workers_put_off_and_given_up(house: House) -> None:
    new = make(house)
    assert not webhooks.anything_due(house.db, NOW)
    record(house, 1, complete=True)
    assert webhooks.anything_due(house.db, NOW)
    due = webhooks.claim(house.db, NOW)
    assert due is not None and due.secret == new.secret and due.secret not in repr(due)
    assert webhooks.claim(house.db, NOW + LEASE_S - 1) is None, "another worker has it"
    again = webhooks.claim(house.db, NOW + LEASE_S)
    assert again is not None and again.delivery.id == due.delivery.id and again.delivery.attempts == 2
    assert not webhooks.put_off(house.db, again.delivery, "no", NOW + 200)
    assert webhooks.claim(house.db, NOW + 200 + 299) is None
    third = webhooks.claim(house.db, NOW + 200 + 300)
    assert third is not None
    assert webhooks.claim(house.db, NOW + 10**4, without=frozenset({new.webhook.id})) is None
    assert webhooks.put_off(house.db, third.delivery, "no", NOW + GIVE_UP_S)
    assert not webhooks.anything_due(house.db, NOW + 9 * GIVE_UP_S)
    [kept] = webhooks.deliveries(house.db, EVERYTHING, new.webhook.id)
    assert kept.given_up_at == NOW + GIVE_UP_S and kept.last_error == "no"


def test_what_was_told_is_told_no_more_and_goes_after_a_month(house: House) -> None:
    new = make(house)
    record(house, 1, complete=True)
    due = webhooks.claim(house.db, NOW)
    assert due is not None
    webhooks.mark_sent(house.db, due.delivery, NOW)
    assert webhooks.claim(house.db, NOW + 10**6) is None
    record(house, 2, complete=True)
    later = webhooks.claim(house.db, NOW + 10**7)
    assert later is not None
    webhooks.mark_sent(house.db, later.delivery, NOW + 10**7)
    assert [one.id for one in webhooks.deliveries(house.db, EVERYTHING, new.webhook.id)] == [later.delivery.id]


def test_a_webhook_that_rests_is_told_nothing_of_what_happens_meanwhile(house: House) -> None:
    new = make(house)
    record(house, 1, complete=True)
    resting = webhooks.rest(house.db, EVERYTHING, new.webhook.id, paused=True)
    assert resting.paused and resting.events == new.webhook.events
    assert webhooks.rest(house.db, EVERYTHING, new.webhook.id, paused=True) == resting
    record(house, 2, complete=True)
    assert not webhooks.anything_due(house.db, NOW) and webhooks.claim(house.db, NOW) is None
    awake = webhooks.rest(house.db, EVERYTHING, new.webhook.id, paused=False)
    assert not awake.paused and awake == new.webhook
    record(house, 3, complete=True)
    assert [one["snapshot"] for one in told(house, new)] == [1, 3], "what it was to be told before has waited"
    assert webhooks.claim(house.db, NOW) is not None


def test_a_test_is_told_to_whoever_asks_and_waits_once(house: House) -> None:
    new = make(house, Event.LATE)
    for _ in range(3):
        webhooks.ask_test(house.db, EVERYTHING, new.webhook.id, NOW)
    due = webhooks.claim(house.db, NOW)
    assert due is not None and due.delivery.event == "test" and webhooks.claim(house.db, NOW) is None
    webhooks.mark_sent(house.db, due.delivery, NOW)
    webhooks.ask_test(house.db, EVERYTHING, new.webhook.id, NOW)
    assert len(webhooks.deliveries(house.db, EVERYTHING, new.webhook.id)) == 2
    with pytest.raises(NotFoundError):
        webhooks.ask_test(house.db, OneSpace(house.elsewhere.space_id), new.webhook.id, NOW)


def test_a_restored_delivery_is_told_once(house: House) -> None:
    new = make(house, Event.RESTORED)
    deliveries.send(
        house.db, house.machine.id, Chosen(), snapshot=7, snapshot_at=NOW, files=0, size_bytes=0, account_id="x",
        by="admin@example.org", now=NOW,
    )  # fmt: skip
    deliveries.answer(house.db, house.machine.id, 1, accepted=True, now=NOW)
    deliveries.began(house.db, house.machine.id, 1, NOW)
    for _ in range(2):
        deliveries.report(house.db, house.machine.id, 1, done=True, files=1, size=1, errors=0, reason="", now=NOW + 9)
    (one,) = told(house, new)
    assert (one["event"], one["snapshot"], one["account"], one["at"]) == ("restored", 7, "admin@example.org", NOW + 9)
