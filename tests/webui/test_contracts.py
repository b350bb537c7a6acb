"""The list of contracts, one contract's page, their CSV: what is shown, to whom, and what lies outside."""

from __future__ import annotations

import csv
import io

import pytest

from appliance.control import contract_cards, contracts, deletions, statistics
from appliance.control.contracts import Changes
from appliance.control.database import Database
from appliance.control.deletions import Kind
from appliance.control.scope import EVERYTHING
from tests.support.control_house import NOW, figures
from tests.webui.web_house import Browser, WebHouse


def text(browser: Browser, path: str) -> str:
    """A page that must be there."""
    answer = browser.get(path)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def sheet(browser: Browser, path: str) -> list[list[str]]:
    """A CSV as a spreadsheet reads it."""
    answer = browser.get(path)
    assert answer.mimetype == "text/csv"
    content = answer.get_data().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(content), delimiter=";"))


def fill(web: WebHouse, source_bytes: int) -> None:
    """A complete backup of the machine of `ours`."""
    db = web.house.db
    statistics.record(db, web.house.machine.id, 1, complete=True, figures=figures(source_bytes), now=NOW)


def many(db: Database, space_id: str, count: int) -> None:
    """More contracts than a page holds."""
    for number in range(count):
        contracts.add(db, space_id=space_id, client_id=f"client-{number:03}", email="c@example.org", now=NOW)


def test_an_admin_sees_the_contracts_of_their_space_only(web: WebHouse) -> None:
    page = text(web.browser("admin"), "/contracts")
    assert "ours@example.org" in page and "next@example.org" in page
    assert "away@example.org" not in page
    assert "2 contrats" in page


def test_a_super_user_sees_all_and_may_look_at_one_space(web: WebHouse) -> None:
    browser = web.browser("super")
    assert "away@example.org" in text(browser, "/contracts")
    page = text(browser, f"/contracts?space={web.house.ours.space_id}")
    assert "ours@example.org" in page and "away@example.org" not in page


def test_more_than_allocated_is_shown_as_it_is(web: WebHouse) -> None:
    contracts.edit(web.house.db, web.house.ours, Changes(allocated_bytes=50 * 10**9))
    fill(web, 394_600_000_000)
    page = text(web.browser("admin"), "/contracts")
    assert "789\xa0%" in page and "ring-over" in page and "dépassé" in page
    assert "394,6\xa0Go sur 50\xa0Go" in page


def test_nothing_allocated_has_no_percentage(web: WebHouse) -> None:
    contracts.edit(web.house.db, web.house.ours, Changes(allocated_bytes=0))
    assert "rien d’alloué" in text(web.browser("admin"), "/contracts")


def test_pages_hold_24_and_a_page_too_far_is_the_last(web: WebHouse) -> None:
    many(web.house.db, web.house.ours.space_id, 30)
    browser = web.browser("admin")
    assert text(browser, "/contracts").count('class="panel contract-card"') == 24
    assert "Page 1 sur 2" in text(browser, "/contracts?page=nonsense")
    assert text(browser, "/contracts?page=99").count('class="panel contract-card"') == 8


def test_the_list_is_searched_filtered_and_sorted(web: WebHouse) -> None:
    db, browser = web.house.db, web.browser("admin")
    contracts.pause(db, web.house.neighbour)
    paused = text(browser, "/contracts?state=paused")
    assert "next@example.org" in paused and "ours@example.org" not in paused
    assert "Reprendre" in paused
    found = text(browser, "/contracts?q=OURS")
    assert "ours@example.org" in found and "next@example.org" not in found
    page = text(browser, "/contracts?sort=client&order=desc")
    assert page.index("ours@example.org") < page.index("next@example.org")
    assert "Aucun contrat ne correspond" in text(browser, "/contracts?q=nobody")
    assert text(browser, "/contracts?sort=;drop&state=%27&order=x").count('class="panel contract-card"') == 2


def test_the_table_shows_the_same(web: WebHouse) -> None:
    page = text(web.browser("admin"), "/contracts?view=table")
    assert "<table" in page and "ours@example.org" in page and 'aria-sort="ascending"' in page


def test_names_of_customers_are_never_markup(web: WebHouse) -> None:
    contracts.edit(web.house.db, web.house.ours, Changes(client_id="<script>alert(1)</script>"))
    browser = web.browser("admin")
    for path in ("/contracts", "/contracts?view=table", f"/contracts/{web.house.ours.id}", "/contracts/monthly"):
        assert "<script>alert" not in text(browser, path)


def test_support_reads_and_changes_nothing(web: WebHouse) -> None:
    browser = web.browser("support")
    for path in ("/contracts", f"/contracts/{web.house.ours.id}"):
        page = text(browser, path)
        for word in ("Nouveau contrat", "Éditer", "Supprimer", "Pause", "Générer un code", "Facturation"):
            assert word not in page
    for path in ("/contracts/new", "/contracts/monthly", f"/contracts/{web.house.ours.id}/edit"):
        assert browser.get(path).status_code == 403


def test_a_customer_is_led_to_their_own_contract(web: WebHouse) -> None:
    browser = web.browser("customer")
    assert browser.get("/contracts").headers["Location"] == f"/contracts/{web.house.ours.id}"
    page = text(browser, f"/contracts/{web.house.ours.id}")
    assert "Mon contrat" in page and "PC-1" in page
    for word in ("Éditer", "Supprimer", "Générer un code", "Gestion des contrats", "Révoquer"):
        assert word not in page
    assert browser.get("/contracts.csv").status_code == 403


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
def test_another_spaces_contract_is_not_there(web: WebHouse, who: str) -> None:
    browser = web.browser(who)
    for path in (f"/contracts/{web.house.elsewhere.id}", f"/contracts/{web.house.elsewhere.id}.csv"):
        assert browser.get(path).status_code == 404
    # Nor is a contract found by its client id, as the command line finds it.
    assert browser.get("/contracts/ours").status_code == 404
    assert browser.get("/contracts/ours.csv").status_code == 404


def test_a_customer_does_not_see_their_neighbour(web: WebHouse) -> None:
    assert web.browser("customer").get(f"/contracts/{web.house.neighbour.id}").status_code == 404


def test_the_detail_says_what_there_is(web: WebHouse) -> None:
    fill(web, 1_900_000_000)
    contracts.edit(web.house.db, web.house.ours, Changes(late_hours=12))
    page = text(web.browser("admin"), f"/contracts/{web.house.ours.id}")
    for words in ("4\xa0%", "1,9\xa0Go", "1 sur 5", "Clé confiée", "12 heures", "90 derniers jours", "PC-1", "À jour"):
        assert words in page, words


def test_a_contract_without_machines_tells_what_to_do_next(web: WebHouse) -> None:
    empty = contracts.add(web.house.db, space_id=web.house.ours.space_id, client_id="x", email="x@y.fr", now=NOW)
    page = text(web.browser("admin"), f"/contracts/{empty.id}")
    assert "Enrôler la première machine" in page and "Générer un code" in page
    assert "Générer un code" not in text(web.browser("support"), f"/contracts/{empty.id}")


def test_an_empty_space_tells_what_to_do_next(web: WebHouse) -> None:
    db = web.house.db
    with db.write():
        db.execute("DELETE FROM enrol_token")
        db.execute("DELETE FROM machine")
        db.execute("DELETE FROM account WHERE contract_id IS NOT NULL")
        db.execute("DELETE FROM contract")
    assert "Créer le premier contrat" in text(web.browser("admin"), "/contracts")
    page = text(web.browser("support"), "/contracts")
    assert "Aucun contrat pour l’instant" in page and "Créer le premier contrat" not in page


def test_a_waiting_deletion_stands_on_both_pages(web: WebHouse) -> None:
    deletions.request(web.house.db, EVERYTHING, Kind.CONTRACT, web.house.ours.id, by="someone", now=NOW)
    browser = web.browser("admin")
    for path in ("/contracts", f"/contracts/{web.house.ours.id}"):
        page = text(browser, path)
        assert "sera supprimé avec toutes ses sauvegardes" in page and "Annuler la suppression" in page
    page = text(web.browser("customer"), f"/contracts/{web.house.ours.id}")
    assert "sera supprimé" in page and "Annuler la suppression" not in page


def test_the_csv_is_the_whole_filtered_list_and_safe(web: WebHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_cards, "PER_PAGE_LIMIT", 7)
    many(web.house.db, web.house.ours.space_id, 30)
    contracts.edit(web.house.db, web.house.ours, Changes(client_id="=HYPERLINK(1)"))
    fill(web, 1_900_000_000)
    browser = web.browser("admin")
    lines = sheet(browser, "/contracts.csv")
    assert len(lines) == 33 and len({line[0] for line in lines}) == 33
    own = next(line for line in lines if line[0] == web.house.ours.id)
    assert own[2] == "'=HYPERLINK(1)" and own[5] == "1900000000" and own[6] == "1,900"
    assert len(sheet(browser, "/contracts.csv?q=client-00")) == 11


def test_the_csv_of_a_contract_lists_its_machines(web: WebHouse) -> None:
    fill(web, 1_900_000_000)
    lines = sheet(web.browser("customer"), f"/contracts/{web.house.ours.id}.csv")
    assert len(lines) == 2
    assert lines[1][:3] == ["PC-1", web.house.machine.hex, "À jour"] and lines[1][5] == "1900000000"
