"""New and changed contracts: what is written, what is refused beside its field, that nothing typed is lost."""

from __future__ import annotations

from datetime import date

import pytest

from appliance.control import audit, contracts, enrol_tokens, space_settings, spaces
from appliance.control.contracts import Contract, Escrow, Notify
from appliance.control.scope import EVERYTHING
from appliance.control.space_settings import SpaceSettings
from tests.support.control_house import NOW
from tests.webui.web_house import WebHouse
from transport.enrolment import decode_code

NEW = {
    "client_id": "Pharmacie du Marché",
    "email": "contact@pharmacie.fr",
    "allocated": "1 234,5",
    "machines": "3",
    "end_date": "2027-12-31",
    "escrow": "private",
}


def newest(web: WebHouse) -> Contract:
    """The contract that was made last."""
    return contracts.every(web.house.db, EVERYTHING)[-1]


def test_a_new_contract_is_what_was_typed(web: WebHouse) -> None:
    browser = web.browser("admin")
    assert "Une copie scellée" in browser.get("/contracts/new").get_data(as_text=True)
    answer = browser.post("/contracts/new", dict(NEW))
    made = newest(web)
    assert answer.status_code == 303 and answer.headers["Location"] == f"/contracts/{made.id}"
    assert (made.client_id, made.email) == ("Pharmacie du Marché", "contact@pharmacie.fr")
    assert made.allocated_bytes == 1_234_500_000_000
    assert made.machine_quota == 3
    assert made.end_date == date(2027, 12, 31)
    assert made.escrow is Escrow.PRIVATE
    assert made.space_id == web.house.ours.space_id


def test_the_code_is_shown_once_with_the_commands(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/contracts/new")
    target = browser.post("/contracts/new", dict(NEW)).headers["Location"]
    page = browser.get(target).get_data(as_text=True)
    code = "PIL1-" + page.split("PIL1-")[1].split("<")[0]
    assert len(decode_code(code).token) == 16
    assert f"pilulier-agent enrol {code} --name NOM" in page and "pip install" in page
    assert code not in browser.get(target).get_data(as_text=True)
    assert len(enrol_tokens.waiting(web.house.db, EVERYTHING, newest(web).id, web.clock.at)) == 1
    lines = audit.search(web.house.db, EVERYTHING, kind="contract.add").acts
    assert len(lines) == 1 and "1234500000000" in (lines[0].after or "") and "PIL1-" not in (lines[0].after or "")
    assert lines[0].email == "admin@example.org" and lines[0].contract_id == newest(web).id


def test_another_contracts_page_does_not_show_the_code(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/contracts/new")
    target = browser.post("/contracts/new", dict(NEW)).headers["Location"]
    assert "PIL1-" not in browser.get(f"/contracts/{web.house.ours.id}").get_data(as_text=True)
    assert "PIL1-" in browser.get(target).get_data(as_text=True)


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [
        ("client_id", "", "À remplir."),
        ("client_id", "x" * 101, "100 caractères au plus"),
        ("email", "nobody", "Ce n’est pas une adresse e-mail"),
        ("allocated", "beaucoup", "Écrivez un nombre de Go, par exemple 1\u202f234,5."),
        ("allocated", "-5", "Écrivez un nombre de Go"),
        ("allocated", "99999999999", "au plus 9\xa0000\xa0000\xa0Go"),
        ("machines", "deux", "Écrivez un nombre entier"),
        ("machines", "999999", "au plus 100\xa0000\xa0machines"),
        ("end_date", "demain", "Écrivez une date"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_lost(
    web: WebHouse, field: str, typed: str, sentence: str
) -> None:
    browser = web.browser("admin")
    browser.get("/contracts/new")
    before = len(contracts.every(web.house.db, EVERYTHING))
    answer = browser.post("/contracts/new", {**NEW, field: typed})
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200 and sentence in page and f'id="{field}-error"' in page
    for name, kept in {**NEW, field: typed}.items():
        if name not in ("escrow",) and kept:
            assert f'value="{kept}"' in page, name
    assert len(contracts.every(web.house.db, EVERYTHING)) == before


def test_a_volume_is_read_in_the_readers_language(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.post("/language", {"language": "en", "next": "/"})
    browser.get("/contracts/new")
    browser.post("/contracts/new", {**NEW, "allocated": "1,234.5"})
    assert newest(web).allocated_bytes == 1_234_500_000_000
    # In English 1,5 is a slip, never 15 and never 1.5.
    assert browser.post("/contracts/new", {**NEW, "allocated": "1,5"}).status_code == 200


def test_a_new_contract_keeps_what_its_space_says(web: WebHouse) -> None:
    space_settings.save(web.house.db, web.house.ours.space_id, SpaceSettings(keep_days=120, floor_days=9), NOW)
    browser = web.browser("admin")
    browser.get("/contracts/new")
    browser.post("/contracts/new", dict(NEW))
    assert (newest(web).retention.keep_days, newest(web).retention.floor_days) == (120, 9)


def test_a_second_contract_of_a_client_is_made_and_said(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/contracts/new")
    target = browser.post("/contracts/new", {**NEW, "client_id": "ours"}).headers["Location"]
    assert "Ce client avait déjà un contrat" in browser.get(target).get_data(as_text=True)


def test_a_super_user_chooses_the_space(web: WebHouse) -> None:
    browser = web.browser("super")
    assert 'name="space"' in browser.get("/contracts/new").get_data(as_text=True)
    far = web.house.elsewhere.space_id
    browser.post("/contracts/new", {**NEW, "space": far})
    assert newest(web).space_id == far
    answer = browser.post("/contracts/new", {**NEW, "space": "nowhere"})
    assert answer.status_code == 200 and "Choisissez l’un des espaces." in answer.get_data(as_text=True)


def test_an_admin_cannot_choose_another_space(web: WebHouse) -> None:
    browser = web.browser("admin")
    assert 'name="space"' not in browser.get("/contracts/new").get_data(as_text=True)
    browser.post("/contracts/new", {**NEW, "space": web.house.elsewhere.space_id})
    assert newest(web).space_id == web.house.ours.space_id


def edited(web: WebHouse, **changes: str) -> dict[str, object]:
    """The edit form of `ours` as it would be sent."""
    contract = web.house.ours
    return {
        "client_id": contract.client_id,
        "email": contract.email,
        "allocated": "50",
        "machines": "5",
        "start_date": contract.start_date.isoformat(),
        "end_date": "",
        "escrow": "confided",
        "notify": "all",
        "late_hours": "",
        "keep_days": "90",
        **changes,
    }


def test_a_contract_is_changed_and_the_log_says_what(web: WebHouse) -> None:
    browser, path = web.browser("admin"), f"/contracts/{web.house.ours.id}/edit"
    assert 'value="50"' in browser.get(path).get_data(as_text=True)
    answer = browser.post(path, edited(web, allocated="20,5", notify="failures", late_hours="12", keep_days="400"))
    assert answer.status_code == 303
    after = contracts.find(web.house.db, EVERYTHING, web.house.ours.id)
    assert (after.allocated_bytes, after.notify, after.late_hours) == (20_500_000_000, Notify.FAILURES, 12)
    assert after.retention.keep_days == 400
    (line,) = audit.search(web.house.db, EVERYTHING, kind="contract.edit").acts
    assert "50000000000" in (line.before or "") and "20500000000" in (line.after or "")
    assert "client_id" not in (line.after or "")


def test_a_contract_may_have_opening_days_of_its_own(web: WebHouse) -> None:
    browser, path = web.browser("admin"), f"/contracts/{web.house.ours.id}/edit"
    browser.get(path)
    assert browser.post(path, edited(web, open_days="tue,wed,thu,fri,sat")).status_code == 303
    assert contracts.find(web.house.db, EVERYTHING, web.house.ours.id).open_days == "tue,wed,thu,fri,sat"
    assert "Du mardi au samedi" in browser.get(path).get_data(as_text=True)
    refused = browser.post(path, edited(web, open_days="never"))
    assert refused.status_code == 200 and "invalid-feedback" in refused.get_data(as_text=True)
    browser.post(path, edited(web, open_days=""))
    after = contracts.edit(web.house.db, web.house.ours, contracts.Changes(open_days="mon,thu"))
    assert "choisis sur le serveur" in browser.get(path).get_data(as_text=True)
    browser.post(path, edited(web, open_days=""))
    assert after.open_days == "mon,thu"
    assert contracts.find(web.house.db, EVERYTHING, web.house.ours.id).open_days is None


def test_an_empty_field_takes_the_end_date_and_the_hours_away(web: WebHouse) -> None:
    browser, path = web.browser("admin"), f"/contracts/{web.house.ours.id}/edit"
    browser.get(path)
    browser.post(path, edited(web, end_date="2031-01-01", late_hours="12"))
    browser.post(path, edited(web))
    after = contracts.find(web.house.db, EVERYTHING, web.house.ours.id)
    assert after.end_date is None and after.late_hours is None


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [
        ("keep_days", "30", "raccourcir la conservation se fait sur le serveur"),
        ("keep_days", "40000", "raccourcir la conservation"),
        ("late_hours", "0", "Entre 1 et 8\xa0760\xa0heures"),
        ("late_hours", "9000", "Entre 1 et 8\xa0760\xa0heures"),
        ("end_date", "2001-01-01", "La fin précède le début."),
        ("start_date", "", "À remplir."),
    ],
)
def test_what_cannot_be_changed_is_said(web: WebHouse, field: str, typed: str, sentence: str) -> None:
    browser, path = web.browser("admin"), f"/contracts/{web.house.ours.id}/edit"
    browser.get(path)
    answer = browser.post(path, edited(web, **{field: typed}))
    assert answer.status_code == 200
    assert sentence in answer.get_data(as_text=True)
    assert contracts.find(web.house.db, EVERYTHING, web.house.ours.id) == web.house.ours


def test_who_holds_the_keys_is_settled_with_the_first_machine(web: WebHouse) -> None:
    browser, path = web.browser("admin"), f"/contracts/{web.house.ours.id}/edit"
    assert "ce choix ne change plus" in browser.get(path).get_data(as_text=True)
    browser.post(path, edited(web, escrow="private"))
    assert contracts.find(web.house.db, EVERYTHING, web.house.ours.id).escrow is Escrow.CONFIDED


def test_only_managers_of_the_space_change_contracts(web: WebHouse) -> None:
    path = f"/contracts/{web.house.elsewhere.id}/edit"
    assert web.browser("admin").get(path).status_code == 404
    for who in ("support", "customer"):
        browser = web.browser(who)
        assert browser.get(f"/contracts/{web.house.ours.id}/edit").status_code == 403
        assert browser.post("/contracts/new", dict(NEW)).status_code == 403
    assert len(spaces.every(web.house.db)) == 2
