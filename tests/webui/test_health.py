"""What machines ask: health of anybody, metrics with the token alone."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance import metrics
from tests.webui.web_house import WebHouse


def test_anybody_may_ask_whether_it_is_up(web: WebHouse) -> None:
    answer = web.stranger().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"ok": True})


def test_metrics_open_to_the_token(web: WebHouse) -> None:
    token = metrics.token(web.home)
    answer = web.stranger().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200 and answer.content_type == metrics.CONTENT_TYPE
    names = {family.name for family in text_string_to_metric_families(answer.get_data(as_text=True))}
    assert {"pilulier_machines", "pilulier_disk_free_bytes", "pilulier_mails"} <= names


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer wrong", "Basic YTpi", "nonsense"])
def test_and_to_nobody_else(web: WebHouse, header: str | None) -> None:
    headers = {"Authorization": header} if header is not None else {}
    for browser in (web.stranger(), web.browser("super")):
        answer = browser.get("/metrics", headers=headers)
        assert answer.status_code == 401 and "pilulier_machines" not in answer.get_data(as_text=True)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
