"""Remote settings: what is saved, what is asked before less is backed up, what is said beside its field."""

from __future__ import annotations

import pytest

from appliance.control import audit, machine_settings
from appliance.control.machine_settings import MachineSettings, Outcome, SelectionRules, Sync, Wanted
from appliance.control.scope import EVERYTHING
from tests.support.control_house import NOW
from tests.webui.test_machines import path, report, text
from tests.webui.web_house import WebHouse
from transport.schedule import Schedule

TYPED: dict[str, object] = {
    "selection_by": "web",
    "include": "C:/Officine\r\n\r\nD:/Ordonnances ",
    "exclude": "*.tmp",
    "schedule_by": "web",
    "times": "19h00, 12:30",
    "days": ["0", "4"],
    "language": "de",
}


def settings(web: WebHouse) -> MachineSettings:
    """The machine's, as they are now."""
    return machine_settings.get(web.house.db, EVERYTHING, web.house.machine.id)


def want(web: WebHouse, *include: str) -> None:
    """Settings that were saved before."""
    machine_settings.save(
        web.house.db, EVERYTHING, web.house.machine.id, Wanted(SelectionRules(include)), "someone", NOW
    )


def test_what_was_typed_is_wanted(web: WebHouse) -> None:
    want(web, "C:/Officine")
    browser = web.browser("admin")
    page = text(browser, path(web, "settings"))
    assert "C:/Officine</textarea>" in page
    answer = browser.post(path(web, "settings"), {**TYPED, "confirm": "y"})
    assert answer.status_code == 303
    after = settings(web)
    assert after.wanted.selection == SelectionRules(("C:/Officine", "D:/Ordonnances"), ("*.tmp",))
    assert after.wanted.schedule == Schedule((750, 1140), (0, 4))
    assert after.wanted.language == "de" and after.saved_by == "admin@example.org"
    (line,) = audit.search(web.house.db, EVERYTHING, kind="machine.settings").acts
    assert "D:/Ordonnances" in (line.after or "") and "D:/Ordonnances" not in (line.before or "")
    assert "En attente de la machine" in text(browser, path(web))


def test_the_machine_may_decide_all(web: WebHouse) -> None:
    want(web, "C:/Officine")
    browser = web.browser("admin")
    browser.get(path(web, "settings"))
    answer = browser.post(path(web, "settings"), {**TYPED, "selection_by": "machine", "schedule_by": "machine"})
    assert answer.status_code == 303
    assert settings(web).wanted == Wanted(None, None, "de")


def test_taking_the_machines_own_selection_over_is_confirmed(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get(path(web, "settings"))
    page = browser.post(path(web, "settings"), dict(TYPED)).get_data(as_text=True)
    assert "Cette sélection remplace celle de la machine" in page and "Cochez cette case" in page
    assert "D:/Ordonnances" in page and 'value="19h00, 12:30"' in page
    assert settings(web).version == 0
    assert browser.post(path(web, "settings"), {**TYPED, "confirm": "y"}).status_code == 303


def test_what_a_smaller_selection_leaves_out_is_named(web: WebHouse) -> None:
    want(web, "C:/Officine", "C:/Compta")
    browser = web.browser("admin")
    browser.get(path(web, "settings"))
    smaller = {**TYPED, "include": "C:/Officine", "exclude": "*.dbf"}
    page = browser.post(path(web, "settings"), smaller).get_data(as_text=True)
    assert "<code>C:/Compta</code>" in page and "<code>*.dbf</code>" in page and "<code>C:/Officine</code>" not in page
    assert settings(web).version == 1


def test_a_larger_selection_is_not_asked_about(web: WebHouse) -> None:
    want(web, "C:/Officine/base")
    browser = web.browser("admin")
    browser.get(path(web, "settings"))
    answer = browser.post(path(web, "settings"), {**TYPED, "include": "C:\\officine", "exclude": ""})
    assert answer.status_code == 303


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [
        ("include", "", "Indiquez au moins un dossier"),
        ("include", "Officine", "«\xa0Officine\xa0» n’est pas un chemin complet"),
        ("include", "/x" + "y" * 5000, "indiquez des dossiers entiers"),
        ("include", "/x\u202ey", "caractères qui ne se lisent pas"),
        ("exclude", "\n".join(f"*.{number}" for number in range(2000)), "indiquez des dossiers entiers"),
        ("times", "", "Indiquez au moins une heure"),
        ("times", "25:00", "Écrivez des heures comme 12:30"),
        ("times", " ".join(f"{n:02}:{m}" for n in range(13) for m in (10, 20)), "Au plus 24 heures"),
        ("days", [], "Choisissez au moins un jour."),
        ("language", "xx", ""),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(web: WebHouse, field: str, typed: object, sentence: str) -> None:
    browser = web.browser("admin")
    browser.get(path(web, "settings"))
    answer = browser.post(path(web, "settings"), {**TYPED, "confirm": "y", field: typed})
    assert answer.status_code == 200 and sentence in answer.get_data(as_text=True)
    assert "D:/Ordonnances" in answer.get_data(as_text=True) or field == "include"
    assert settings(web).version == 0


def test_a_customer_who_refuses_is_told_of(web: WebHouse) -> None:
    want(web, "C:/Officine")
    facts = report(version=1, outcome=Outcome.REFUSED, remote_allowed=False)
    machine_settings.note(web.house.db, web.house.machine.id, facts, shrunk=False)
    browser = web.browser("admin")
    assert "refuse les réglages à distance" in text(browser, path(web, "settings"))
    page = text(browser, path(web))
    assert "Refusé par le client" in page and "refusé par le client" in page


def test_what_was_changed_on_the_machine_stays_unless_imposed(web: WebHouse) -> None:
    want(web, "C:/Officine")
    facts = report(version=1, outcome=Outcome.APPLIED, selection_version=0)
    machine_settings.note(web.house.db, web.house.machine.id, facts, shrunk=False)
    assert settings(web).sync is Sync.CHANGED_LOCALLY
    browser = web.browser("admin")
    assert "Remplacer ce qui a été modifié" in text(browser, path(web, "settings"))
    same = {"selection_by": "web", "include": "C:/Officine", "schedule_by": "machine", "language": ""}
    browser.post(path(web, "settings"), same)
    assert settings(web).selection_version == 1
    browser.post(path(web, "settings"), {**same, "impose": "y"})
    assert settings(web).selection_version == 2
    assert "imposed" in (audit.search(web.house.db, EVERYTHING, kind="machine.settings").acts[0].after or "")


def test_settings_that_the_machine_confirmed_or_does_not_understand_are_said(web: WebHouse) -> None:
    want(web, "C:/Officine")
    browser = web.browser("admin")
    applied = report(version=1, outcome=Outcome.APPLIED, selection_version=1)
    machine_settings.note(web.house.db, web.house.machine.id, applied, shrunk=False)
    page = text(browser, path(web))
    assert "Appliqué" in page and "Confirmé" in page and "<code>C:/Officine</code>" in page
    invalid = report(version=1, outcome=Outcome.INVALID, reason="no such folder")
    machine_settings.note(web.house.db, web.house.machine.id, invalid, shrunk=False)
    page = text(browser, path(web))
    assert "Incompris par la machine" in page and "no such folder" in page
