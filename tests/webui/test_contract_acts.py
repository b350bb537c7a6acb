"""Pausing, deleting, codes and mails of a contract: each act with its line, each refusal with its sentence."""

from __future__ import annotations

import pytest

from appliance.control import audit, contracts, deletions, enrol_tokens, outbox
from appliance.control.audit import Act
from appliance.control.contracts import Contract, ContractState, Notify
from appliance.control.deletions import WAIT_S, Kind
from appliance.control.scope import EVERYTHING
from tests.support.control_house import NOW
from tests.webui.web_house import Browser, WebHouse


def ours(web: WebHouse) -> Contract:
    """The contract as it is now."""
    return contracts.find(web.house.db, EVERYTHING, web.house.ours.id)


def lines(web: WebHouse, kind: str) -> list[Act]:
    """What the log says."""
    return audit.search(web.house.db, EVERYTHING, kind=kind).acts


def at(browser: Browser, web: WebHouse, act: str) -> str:
    """The address of an act on `ours`, its page seen."""
    path = f"/contracts/{web.house.ours.id}/{act}"
    browser.get(path if act in ("pause", "delete") else f"/contracts/{web.house.ours.id}")
    return path


def test_a_pause_says_what_it_means_and_is_taken_back(web: WebHouse) -> None:
    browser = web.browser("admin")
    path = at(browser, web, "pause")
    assert "Rien n’est effacé\xa0: les restaurations continuent." in browser.get(path).get_data(as_text=True)
    assert browser.post(path).status_code == 303
    assert ours(web).state(NOW) is ContractState.PAUSED
    assert "Ce contrat est en pause" in browser.get(f"/contracts/{ours(web).id}").get_data(as_text=True)
    browser.post(f"/contracts/{ours(web).id}/resume", {"next": "/contracts?state=paused"})
    assert ours(web).state(NOW) is ContractState.ACTIVE
    assert [len(lines(web, kind)) for kind in ("contract.pause", "contract.resume")] == [1, 1]


def test_what_is_done_already_leaves_no_second_line(web: WebHouse) -> None:
    browser = web.browser("admin")
    path = at(browser, web, "pause")
    for _ in range(2):
        browser.post(path)
    for _ in range(2):
        browser.post(f"/contracts/{ours(web).id}/resume")
    assert [len(lines(web, kind)) for kind in ("contract.pause", "contract.resume")] == [1, 1]


def test_the_way_back_stays_inside(web: WebHouse) -> None:
    browser = web.browser("admin")
    contracts.pause(web.house.db, web.house.ours)
    path = at(browser, web, "resume")
    assert browser.post(path, {"next": "/contracts?q=x"}).headers["Location"] == "/contracts?q=x"
    assert browser.post(path, {"next": "//evil.example"}).headers["Location"] == f"/contracts/{ours(web).id}"


def test_a_deletion_needs_a_code_waits_a_week_and_is_announced(web: WebHouse) -> None:
    browser = web.browser("admin")
    path = at(browser, web, "delete")
    page = browser.get(path).get_data(as_text=True)
    assert "sept jours" in page and "effacés pour toujours" in page
    answer = browser.post(path, {"code": "000000"})
    assert answer.status_code == 200 and "Ce code n’est pas le bon" in answer.get_data(as_text=True)
    assert ours(web).delete_requested_at is None
    assert browser.post(path, {"code": browser.code()}).status_code == 303
    waiting = deletions.of_object(web.house.db, EVERYTHING, Kind.CONTRACT, ours(web).id)
    assert waiting is not None and waiting.due_at == web.clock.at + WAIT_S
    assert ours(web).state(NOW) is ContractState.DELETING
    told = {mail.recipient for mail in outbox.pending(web.house.db) if mail.kind == outbox.DELETION_REQUESTED}
    assert told == {"admin@example.org", "customer@example.org", "ours@example.org"}
    (line,) = lines(web, "contract.delete")
    assert line.email == "admin@example.org" and "deleting" in (line.after or "")


def test_one_code_asks_for_one_deletion(web: WebHouse) -> None:
    browser = web.browser("admin")
    path = at(browser, web, "delete")
    browser.post(path, {"code": browser.code()})
    waiting = deletions.pending(web.house.db, EVERYTHING)
    browser.post(f"/deletions/{waiting[0].id}/cancel")
    browser.get(path)
    assert browser.post(path, {"code": ""}).status_code == 200
    assert not deletions.pending(web.house.db, EVERYTHING)


def test_a_deletion_is_taken_back_by_one_button(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.post(at(browser, web, "delete"), {"code": browser.code()})
    (waiting,) = deletions.pending(web.house.db, EVERYTHING)
    assert browser.post(f"/deletions/{waiting.id}/cancel").status_code == 303
    assert ours(web).state(NOW) is ContractState.ACTIVE
    assert len(lines(web, "deletion.cancel")) == 1
    assert browser.post(f"/deletions/{waiting.id}/cancel").status_code == 404


def test_resuming_does_not_take_a_deletion_back_by_the_way(web: WebHouse) -> None:
    deletions.request(web.house.db, EVERYTHING, Kind.CONTRACT, web.house.ours.id, by="x", now=NOW)
    browser = web.browser("admin")
    assert browser.post(at(browser, web, "resume")).status_code == 409
    assert ours(web).state(NOW) is ContractState.DELETING


def test_a_space_that_is_to_go_is_not_the_admins_to_keep(web: WebHouse) -> None:
    asked = deletions.request(web.house.db, EVERYTHING, Kind.SPACE, web.house.ours.space_id, by="x", now=NOW)
    browser = web.browser("admin")
    assert browser.post(f"/deletions/{asked.id}/cancel").status_code == 404
    assert "sera supprimé" not in browser.get("/contracts").get_data(as_text=True)


def test_another_code_is_shown_once_and_can_be_withdrawn(web: WebHouse) -> None:
    browser = web.browser("admin")
    answer = browser.post(at(browser, web, "code"))
    assert answer.headers["Location"] == f"/contracts/{ours(web).id}#code"
    page = browser.get(f"/contracts/{ours(web).id}").get_data(as_text=True)
    assert "PIL1-" in page and "Enrôler une autre machine" in page
    assert "1 code d’enrôlement attend une machine" in page
    assert "PIL1-" not in browser.get(f"/contracts/{ours(web).id}").get_data(as_text=True)
    browser.post(f"/contracts/{ours(web).id}/codes/withdraw")
    assert not enrol_tokens.waiting(web.house.db, EVERYTHING, ours(web).id, web.clock.at)
    assert [len(lines(web, kind)) for kind in ("contract.code", "contract.codes-withdraw")] == [1, 1]


def test_a_paused_contract_gives_no_code(web: WebHouse) -> None:
    contracts.pause(web.house.db, web.house.ours)
    browser = web.browser("admin")
    page = browser.get(browser.post(at(browser, web, "code")).headers["Location"]).get_data(as_text=True)
    assert "en pause et n’accepte pas de machine" in page and "Générer un code" not in page


def test_a_customer_chooses_their_mails_and_nothing_else(web: WebHouse) -> None:
    browser = web.browser("customer")
    path = at(browser, web, "notify")
    assert browser.post(path, {"notify": "failures"}).status_code == 303
    assert ours(web).notify is Notify.FAILURES and len(lines(web, "contract.edit")) == 1
    assert browser.post(path, {"notify": "everything"}).status_code == 400
    assert browser.post(f"/contracts/{web.house.neighbour.id}/notify", {"notify": "all"}).status_code == 404
    support = web.browser("support")
    assert support.post(path, {"notify": "all"}).status_code == 403


@pytest.mark.parametrize("act", ["pause", "resume", "delete", "code", "codes/withdraw"])
def test_acts_are_for_managers_of_the_space(web: WebHouse, act: str) -> None:
    for who in ("support", "customer"):
        browser = web.browser(who)
        browser.get("/")
        assert browser.post(f"/contracts/{web.house.ours.id}/{act}").status_code == 403
    browser = web.browser("admin")
    assert browser.post(f"/contracts/{web.house.elsewhere.id}/{act}").status_code == 404
    assert contracts.find(web.house.db, EVERYTHING, web.house.elsewhere.id) == web.house.elsewhere
