"""Logs: filters, cursors, the live tail, the export, whose lines they are."""

from __future__ import annotations

import csv
import html
import io
import re

import msgspec
import pytest
from werkzeug.test import TestResponse

from appliance.control import log_search, machine_logs, statistics
from appliance.control.machine_logs import LogEntry
from tests.support.control_house import NOW, figures
from tests.webui.web_house import Browser, WebHouse
from webui import logs

HOUR = 3600.0
MORNING = 1_799_913_600.0
"""2027-01-14 at 9 o'clock in Paris, a day and some minutes before NOW."""


def text_of(browser: Browser, path: str = "/logs") -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    plain = re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))
    return re.sub(r"\s+", " ", html.unescape(plain))


def said(answer: TestResponse) -> list[str]:
    """The messages of a page's rows, from the top."""
    found = re.findall(r'class="log-text"[^>]*>(.*?)</td>', answer.get_data(as_text=True))
    return [html.unescape(text) for text in found]


@pytest.fixture
def talked(web: WebHouse) -> WebHouse:
    """Every machine has a line of each level, an hour apart; ours has one that tries to be more than text."""
    db = web.house.db
    for machine, who in (
        (web.house.machine, "ours"),
        (web.house.neighbour_machine, "next"),
        (web.house.elsewhere_machine, "away"),
    ):
        lines = [LogEntry(MORNING + n * HOUR, level, "scan", f"{who} {level}") for n, level in enumerate(logs.LEVELS)]
        machine_logs.add_many(db, machine.id, lines)
    machine_logs.add(db, web.house.machine.id, level="info", module="=cmd", text="=HYPERLINK(<b>x", now=NOW)
    return web


def test_lines_come_newest_first_with_their_machine_and_client(talked: WebHouse) -> None:
    answer = talked.browser("admin").get("/logs")
    assert said(answer)[0] == "=HYPERLINK(<b>x" and "next error" in said(answer) and len(said(answer)) == 9
    text = text_of(talked.browser("admin"))
    assert "PC-1 next" in text and "Erreur" in text and "away" not in text
    assert "<b>x" not in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("level=error", ["ours error"]),
        ("level=warning", ["ours error", "ours warning"]),
        ("level=purple", ["=HYPERLINK(<b>x", "ours error", "ours warning", "ours info", "ours debug"]),
        ("text=OURS+INFO", ["ours info"]),
        ("text=%25", []),
        ("since=2027-01-14T10:00&until=2027-01-14T11:00", ["ours warning", "ours info"]),
        ("since=2027-01-15", ["=HYPERLINK(<b>x"]),
        ("until=2027-01-14", ["ours error", "ours warning", "ours info", "ours debug"]),
        ("before=2", ["ours debug"]),
    ],
)
def test_filters(talked: WebHouse, query: str, expected: list[str]) -> None:
    answer = talked.browser("customer").get(f"/logs?machine={talked.house.machine.hex}&{query}")
    assert said(answer) == expected


def test_contract_and_space_narrow(talked: WebHouse) -> None:
    browser = talked.browser("super")
    assert len(said(browser.get("/logs"))) == 13
    assert len(said(browser.get(f"/logs?contract={talked.house.neighbour.id}"))) == 4
    assert len(said(browser.get(f"/logs?space={talked.house.elsewhere.space_id}"))) == 4


def test_dates_that_are_none_are_said_beside_their_field_and_stay(talked: WebHouse) -> None:
    browser = talked.browser("admin")
    page = browser.get("/logs?since=yesterday&text=info").get_data(as_text=True)
    assert "Cette date n’en est pas une" in page and 'id="log-since-error"' in page
    assert 'value="yesterday"' in page and 'value="info"' in page
    page = browser.get("/logs?since=2027-01-14T12:00&until=2027-01-13").get_data(as_text=True)
    assert "La fin précède le début" in page and 'value="2027-01-13T23:59"' in page
    for hostile in (
        "since=0001-01-01",
        "until=9999-12-31T23:59",
        "since=2027-01-14T10:00%2B01:00",
        "before=9" + "9" * 40,
    ):
        assert browser.get(f"/logs?{hostile}").status_code == 200


def test_what_is_anothers_is_not_found(talked: WebHouse) -> None:
    theirs = (
        f"machine={talked.house.elsewhere_machine.hex}",
        f"contract={talked.house.elsewhere.id}",
        "machine=abc",
    )
    for who in ("admin", "support", "customer"):
        browser = talked.browser(who)
        for query in theirs:
            for path in ("/logs", "/logs/tail", "/logs.csv"):
                assert browser.get(f"{path}?{query}").status_code == 404, (who, path, query)
    customer = talked.browser("customer")
    assert customer.get(f"/logs?machine={talked.house.neighbour_machine.hex}").status_code == 404
    assert all(line.startswith(("ours", "=")) for line in said(customer.get("/logs")))


def test_a_machines_header_tells_its_last_backup_and_what_is_saved(talked: WebHouse) -> None:
    browser = talked.browser("admin")
    path = f"/logs?machine={talked.house.machine.hex}"
    assert "jamais" in text_of(browser, path)
    done = msgspec.structs.replace(figures(3_864_000_000))
    statistics.record(talked.house.db, talked.house.machine.id, 1, complete=True, figures=done, now=MORNING)
    text = text_of(browser, path).replace("\N{NO-BREAK SPACE}", " ")
    assert "Dernière sauvegarde 14/01/2027 09:00" in text and "Volume sauvegardé 3,9 Go" in text
    text = text_of(browser, f"/logs?contract={talked.house.ours.id}").replace("\N{NO-BREAK SPACE}", " ")
    assert "Volume sauvegardé 3,9 Go" in text and "1 machine" in text


def test_pages_follow_one_another_without_a_gap(talked: WebHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PER_PAGE", 4)
    browser = talked.browser("admin")
    path, seen = "/logs?level=info", []
    while path:
        answer = browser.get(path)
        seen += said(answer)
        link = re.search(r'rel="next" href="([^"]+)"', answer.get_data(as_text=True))
        path = html.unescape(link.group(1)) if link else ""
        assert not path or "level=info" in path
    assert len(seen) == len(set(seen)) == 7
    assert "Les plus récentes" in answer.get_data(as_text=True) and "data-tail-toggle" not in answer.get_data(
        as_text=True
    )


def test_a_wide_search_says_where_it_stopped(talked: WebHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "SCAN_LINES", 3)
    text = text_of(talked.browser("admin"), "/logs?text=ours+debug")
    assert "Rien dans les lignes les plus récentes" in text and "Chercher plus loin" in text


def test_the_live_tail_brings_what_is_new_once(talked: WebHouse) -> None:
    browser = talked.browser("admin")
    page = browser.get("/logs?level=warning").get_data(as_text=True)
    after = re.findall(r'data-after="(\d+)"', page)[0]
    assert 'data-tail="/logs/tail?level=warning"' in page

    def tail() -> list[str]:
        nonlocal after
        answer = browser.get(f"/logs/tail?level=warning&after={after}")
        after = answer.headers[logs.NEWEST_HEADER]
        assert "<html" not in answer.get_data(as_text=True)
        return said(answer)

    assert tail() == []
    db = talked.house.db
    for machine, level, text in (
        (talked.house.machine, "error", "first"),
        (talked.house.machine, "info", "not asked for"),
        (talked.house.elsewhere_machine, "error", "not mine"),
        (talked.house.neighbour_machine, "warning", "second"),
    ):
        machine_logs.add(db, machine.id, level=level, module="m", text=text, now=NOW)
    assert tail() == ["second", "first"]
    assert tail() == []
    assert int(after) == log_search.newest_line(db)


def test_a_tail_that_is_far_behind_catches_up_without_a_loss(talked: WebHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PER_PAGE", 2)
    browser = talked.browser("admin")
    after, seen = "0", []
    for _ in range(6):
        answer = browser.get(f"/logs/tail?after={after}")
        after = answer.headers[logs.NEWEST_HEADER]
        seen += said(answer)[::-1]
    assert len(seen) == 9 and seen[0] == "ours debug" and seen[-1] == "=HYPERLINK(<b>x"


def test_the_export_holds_the_same_lines_and_no_formula(talked: WebHouse) -> None:
    answer = talked.browser("customer").get(f"/logs.csv?machine={talked.house.machine.hex}&level=info")
    assert answer.mimetype == "text/csv" and "logs.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.reader(io.StringIO(answer.get_data(as_text=True).removeprefix("\ufeff")), delimiter=";"))
    assert rows[0] == ["Date", "Client", "Machine", "Niveau", "Module", "Message"]
    assert rows[1] == ["2027-01-15 09:00:00", "ours", "PC-1", "Info", "'=cmd", "'=HYPERLINK(<b>x"]
    assert [row[5] for row in rows[2:]] == ["ours error", "ours warning", "ours info"]


def test_an_empty_log_says_what_will_be_there(web: WebHouse) -> None:
    browser = web.browser("customer")
    assert "Aucune ligne pour l’instant" in text_of(browser)
    assert "Aucune ligne ne correspond" in text_of(browser, "/logs?text=x")
    assert browser.get("/logs/tail?after=x").headers[logs.NEWEST_HEADER] == "0"


def test_words_of_the_address_that_look_like_options_do_no_harm(talked: WebHouse) -> None:
    browser = talked.browser("admin")
    page = browser.get("/logs?_scheme=javascript&_external=1&endpoint=x&_method=POST").get_data(as_text=True)
    assert "/logs.csv?_scheme=javascript" in page and "javascript:" not in page
