"""Sending to a machine by the web, where nothing needs to be opened for it; the whole way is in tests/journeys."""

from __future__ import annotations

import re

import pytest

from appliance.control import audit, crossings, deliveries, machine_keys, machines, statistics
from appliance.control.deliveries import Chosen, DeliveryState
from appliance.control.scope import EVERYTHING, OneContract
from tests.support.control_house import enrol, figures
from tests.webui.web_house import Browser, WebHouse
from transport.escrow import EscrowKey, wrap_confided
from transport.names import RepositoryId, VaultId

WHO = ("super", "admin", "support", "customer")


@pytest.fixture
def page(web: WebHouse) -> str:
    """The page of a machine with one backup, whose key is not here."""
    house = web.house
    statistics.record(
        house.db, house.machine.id, 4, complete=True, figures=figures(5000), now=web.clock.at - 3600
    )
    return f"/machines/{house.machine.hex}"


def send(browser: Browser, page: str) -> None:
    browser.get(f"{page}/restore/send-all")
    answer = browser.post(f"{page}/restore/send-all", {"code": browser.code()})
    assert answer.status_code == 303 and answer.headers["Location"].endswith("#deliveries")


@pytest.mark.parametrize("who", WHO)
def test_everybody_of_the_contract_sends_and_takes_back(web: WebHouse, page: str, who: str) -> None:
    browser = web.browser(who)
    assert "Envoyer vers la machine" in browser.get(f"{page}/restore").get_data(as_text=True)
    asked = browser.get(f"{page}/restore/send-all").get_data(as_text=True)
    assert "toute la sauvegarde" in asked and "nouveau dossier" in asked
    send(browser, page)
    shown = browser.get(page).get_data(as_text=True)
    assert "Attend l’accord sur la machine" in shown and f"{who}@example.org" in shown
    machine = web.house.machine.id
    assert deliveries.chosen(web.house.db, machine, 1) == Chosen()
    assert browser.post(f"{page}/deliveries/1/cancel").status_code == 303
    assert "Annulée" in browser.get(page).get_data(as_text=True)
    kinds = [act.kind for act in audit.search(web.house.db, EVERYTHING, text=web.house.machine.hex).acts]
    assert kinds[:2] == ["delivery.cancel", "delivery.send"]


def test_a_wrong_code_sends_nothing_and_one_code_sends_one_thing(web: WebHouse, page: str) -> None:
    browser = web.browser("admin")
    browser.get(f"{page}/restore/send-all")
    answer = browser.post(f"{page}/restore/send-all", {"code": "000000"})
    assert answer.status_code == 200 and "Ce code n’est pas le bon" in answer.get_data(as_text=True)
    send(browser, page)
    browser.get(f"{page}/restore/send-all")
    assert browser.post(f"{page}/restore/send-all", {"code": ""}).status_code == 200, "the grant was spent"
    assert len(deliveries.of_machine(web.house.db, EVERYTHING, web.house.machine.id, web.clock.at)) == 1


def test_what_cannot_be_sent_is_said(web: WebHouse, page: str) -> None:
    browser = web.browser("admin")
    for _ in range(deliveries.WAITING_LIMIT):
        deliveries.send(
            web.house.db, web.house.machine.id, Chosen(), snapshot=4, snapshot_at=1.0, files=0, size_bytes=0,
            account_id="x", by="x@example.org", now=web.clock.at,
        )  # fmt: skip
    browser.get(f"{page}/restore/send-all")
    answer = browser.post(f"{page}/restore/send-all", {"code": browser.code()}, follow_redirects=True)
    assert "Trop d’envois attendent déjà" in answer.get_data(as_text=True)
    machines.revoke(web.house.db, web.house.machine)
    assert browser.get(f"{page}/restore/send-all").status_code == 303
    assert "restore/send-all" not in browser.get(f"{page}/restore").get_data(as_text=True)


def test_what_is_over_is_not_taken_back(web: WebHouse, page: str) -> None:
    browser = web.browser("admin")
    send(browser, page)
    machine = web.house.machine.id
    deliveries.answer(web.house.db, machine, 1, accepted=False, now=web.clock.at)
    browser.get(page)
    answer = browser.post(f"{page}/deliveries/1/cancel", follow_redirects=True)
    assert "déjà terminé" in answer.get_data(as_text=True)
    assert deliveries.find(web.house.db, EVERYTHING, machine, 1, web.clock.at).state is DeliveryState.REFUSED


def test_each_state_has_a_word_and_counts_are_shown(web: WebHouse, page: str) -> None:
    browser = web.browser("customer")
    send(browser, page)
    machine = web.house.machine.id
    deliveries.answer(web.house.db, machine, 1, accepted=True, now=web.clock.at)
    assert "Acceptée" in browser.get(page).get_data(as_text=True)
    deliveries.began(web.house.db, machine, 1, web.clock.at)
    assert "En cours" in browser.get(page).get_data(as_text=True)
    deliveries.report(
        web.house.db, machine, 1, done=False, files=0, size=0, errors=0, reason="no <room>", now=web.clock.at
    )
    shown = browser.get(page).get_data(as_text=True)
    assert "Interrompue" in shown and "no &lt;room&gt;" in shown
    deliveries.began(web.house.db, machine, 1, web.clock.at)
    deliveries.report(
        web.house.db, machine, 1, done=True, files=1, size=2000, errors=2, reason="", now=web.clock.at
    )
    shown = browser.get(page).get_data(as_text=True)
    assert "Restaurée" in shown and re.search(r"2\s+non restaurés", shown)


def test_sending_between_machines_is_off_and_an_admin_switches_it_with_a_code(web: WebHouse) -> None:
    contract, db = web.house.ours, web.house.db
    page = f"/contracts/{contract.id}/crossings"
    browser = web.browser("admin")
    assert "envois interdits" in browser.get(f"/contracts/{contract.id}").get_data(as_text=True)
    assert "aucune clé n’est transmise" in browser.get(page).get_data(as_text=True)
    wrong = browser.post(page, {"code": "000000"})
    assert wrong.status_code == 200 and "Ce code n’est pas le bon" in wrong.get_data(as_text=True)
    assert not crossings.allowed(db, contract.id)
    assert browser.post(page, {"code": browser.code()}).status_code == 303
    assert crossings.allowed(db, contract.id) and not crossings.allowed(db, web.house.neighbour.id)
    assert "envois autorisés" in browser.get(f"/contracts/{contract.id}").get_data(as_text=True)
    assert browser.post(page, {"code": ""}).status_code == 200, "the grant was spent"
    browser.get(page)
    assert browser.post(page, {"code": browser.code()}).status_code == 303
    assert not crossings.allowed(db, contract.id)
    assert len(audit.search(db, EVERYTHING, kind="contract.crossings").acts) == 2
    for who in ("support", "customer"):
        other = web.browser(who)
        assert other.get(page).status_code == 403
        assert page not in other.get(f"/contracts/{contract.id}").get_data(as_text=True)


def test_targets_are_active_machines_of_the_contract_of_a_confided_key(web: WebHouse) -> None:
    house, db = web.house, web.house.db
    other = enrol(db, house.ours, 40, "PC-2")
    gone = enrol(db, house.ours, 41, "PC-3")
    machines.revoke(db, gone)
    assert crossings.targets(db, EVERYTHING, house.machine) == []
    crossings.allow(db, house.ours, allowed=True)
    assert crossings.targets(db, EVERYTHING, house.machine) == [], "its key is not here"
    place = RepositoryId(house.machine.id), VaultId(house.machine.vault)
    machine_keys.put(db, house.machine.id, wrap_confided(EscrowKey.generate().public, bytes(32), *place), 1.0)
    assert [one.id for one in crossings.targets(db, EVERYTHING, house.machine)] == [other.id]
    assert crossings.targets(db, OneContract(house.neighbour.id), house.machine) == []
