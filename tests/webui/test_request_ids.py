"""Every answer has a number of ours, and what is logged meanwhile carries it."""

from __future__ import annotations

import logging
import re

import pytest

from tests.webui.web_house import WebHouse
from webui import request_ids


def test_answers_are_numbered_and_a_clients_own_number_is_not_believed(web: WebHouse) -> None:
    browser = web.stranger()
    one = browser.get("/login", headers={request_ids.HEADER: "forged\\nline"}).headers[request_ids.HEADER]
    two = browser.get("/healthz").headers[request_ids.HEADER]
    assert re.fullmatch("[0-9a-f]{12}", one) and re.fullmatch("[0-9a-f]{12}", two) and one != two


def test_an_error_page_and_its_log_line_share_the_number(
    web: WebHouse, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("as nobody foresaw")

    browser = web.browser("admin")
    monkeypatch.setitem(web.app.view_functions, "profile.index", broken)
    broken.allowed_roles = frozenset({web.house.accounts["admin"].role})
    with caplog.at_level(logging.ERROR, "pilulier.web"):
        answer = browser.get("/profile")
    number = answer.headers[request_ids.HEADER]
    assert answer.status_code == 500 and number in answer.get_data(as_text=True)
    assert any(number in record.getMessage() for record in caplog.records)
    assert "as nobody foresaw" not in answer.get_data(as_text=True)


def test_outside_of_a_request_there_is_none() -> None:
    assert request_ids.current() == ""
