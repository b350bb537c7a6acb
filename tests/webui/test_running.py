"""Backups under way as the page tells of them: their figures, whose they are, those that have just ended."""

from __future__ import annotations

import html
import re

import msgspec

from appliance.control import statistics
from appliance.control.running import Board
from tests.support.control_house import figures
from tests.webui.web_house import Browser, WebHouse
from webui import states

FRAGMENT = {"X-Pilulier-Fragment": "1"}


def text_of(browser: Browser) -> str:
    plain = re.sub(r"<[^>]+>", " ", browser.get("/running").get_data(as_text=True))
    return re.sub(r"\s+", " ", html.unescape(plain))


def test_a_running_backup_tells_phase_amounts_rate_and_time_left(web: WebHouse) -> None:
    browser = web.browser("admin")
    now = web.clock.at
    board = Board(web.home.running_file)
    board.note(web.house.machine.hex, "sending", 0, 400, 0, 8 * 10**9, now - 100)
    board.note(web.house.machine.hex, "sending", 100, 400, 2 * 10**9, 8 * 10**9, now)
    board.flush(now, at_once=True)
    text = text_of(browser)
    for said in ("PC-1", "ours", "Envoi", "25 %", "100 / 400", "2 Go / 8 Go", "20 Mo/s", "environ 5 min"):
        assert said in text, said
    page = browser.get("/running").get_data(as_text=True)
    assert '<progress value="2000000000" max="8000000000"' in page
    assert f'href="/logs?machine={web.house.machine.hex}"' in page


def test_a_total_that_is_not_known_yet_is_not_made_up(web: WebHouse) -> None:
    browser = web.browser("admin")
    board = Board(web.home.running_file)
    board.note(web.house.machine.hex, "scanning", 12, 0, 3000, 0, web.clock.at)
    board.flush(web.clock.at, at_once=True)
    text = text_of(browser)
    assert "Parcours des dossiers" in text and "en cours d’estimation" in text and "…" in text
    assert re.search(r"<progress\s+aria-label", browser.get("/running").get_data(as_text=True))


def test_an_agents_own_word_for_a_phase_is_shown_as_text(web: WebHouse) -> None:
    browser = web.browser("admin")
    board = Board(web.home.running_file)
    board.note(web.house.machine.hex, "<b>dreaming", 0, 0, 0, 0, web.clock.at)
    board.flush(web.clock.at, at_once=True)
    assert "&lt;b&gt;dreaming" in browser.get("/running").get_data(as_text=True)
    with web.app.test_request_context("/"):
        assert states.phase("dreaming") == "dreaming" and states.phase("") == "–"


def test_everybody_sees_the_own_backups_only(web: WebHouse) -> None:
    people = {who: web.browser(who) for who in ("super", "admin", "support", "customer")}
    board = Board(web.home.running_file)
    for machine in (web.house.machine, web.house.neighbour_machine, web.house.elsewhere_machine):
        board.note(machine.hex, "sending", 1, 2, 3, 4, web.clock.at)
    board.flush(web.clock.at, at_once=True)
    seen = {who: browser.get("/running").get_data(as_text=True).count("<progress") for who, browser in people.items()}
    assert seen == {"super": 3, "admin": 2, "support": 2, "customer": 1}


def test_nothing_running_says_when_something_will(web: WebHouse) -> None:
    text = text_of(web.browser("customer"))
    assert "Aucune sauvegarde en cours" in text and "dès que son agent la commence" in text


def test_a_backup_that_has_just_ended_stays_for_a_while(web: WebHouse) -> None:
    browser = web.browser("admin")
    now = web.clock.at
    statistics.record(web.house.db, web.house.machine.id, 1, complete=True, figures=figures(4 * 10**9), now=now - 60)
    warned = msgspec.structs.replace(figures(), warnings=2)
    statistics.record(web.house.db, web.house.neighbour_machine.id, 1, complete=True, figures=warned, now=now - 1000)
    text = text_of(browser)
    assert "Terminées ces 15 dernières minutes" in text and "4 Go" in text and "Complète" in text
    assert "2 avertissements" not in text
    web.clock.tick(20 * 60)
    assert "Terminées" not in text_of(browser)


def test_a_checkpoint_of_a_backup_that_goes_on_is_no_end(web: WebHouse) -> None:
    browser = web.browser("admin")
    now = web.clock.at
    statistics.record(web.house.db, web.house.machine.id, 1, complete=False, figures=figures(), now=now - 60)
    assert "Incomplète" in text_of(browser)
    board = Board(web.home.running_file)
    board.note(web.house.machine.hex, "sending", 1, 2, 3, 4, now)
    board.flush(now, at_once=True)
    assert "Incomplète" not in text_of(browser)


def test_a_backup_without_news_says_so(web: WebHouse) -> None:
    browser = web.browser("admin")
    board = Board(web.home.running_file)
    board.note(web.house.machine.hex, "sending", 1, 2, 3, 4, web.clock.at - 40)
    board.alive(web.house.machine.hex, web.clock.at)
    board.flush(web.clock.at, at_once=True)
    assert "sans nouvelle depuis 40 s" in text_of(browser)


def test_the_fragment_is_the_changing_part_alone(web: WebHouse) -> None:
    browser = web.browser("admin")
    part = browser.get("/running", headers=FRAGMENT).get_data(as_text=True)
    assert "<html" not in part and "data-refreshed" in part
    assert 'data-refresh="/running" data-every="2"' in browser.get("/running").get_data(as_text=True)
    assert web.stranger().get("/running", headers=FRAGMENT).status_code == 401
