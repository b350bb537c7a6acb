"""Webhooks by the API: made with a secret shown once, listed, taken away; what they were told."""

from __future__ import annotations

import msgspec

from appliance.control import statistics
from tests.support.control_house import figures
from tests.webui.api.programs import ApiHouse

WANTED = {"url": "https://vendor.example/pilulier", "events": ["snapshot", "late"]}


def test_a_webhook_is_made_told_and_taken_away(api: ApiHouse) -> None:
    ask, house = api.program, api.web.house
    made = ask.do("POST", "/webhooks", WANTED, 201, Idempotency_Key="w")
    assert len(made.pop("secret")) == 43 and made["events"] == ["late", "snapshot"]
    assert ask.problem("POST", "/webhooks", WANTED, Idempotency_Key="w") == (409, "answer-not-kept")
    assert ask.get("/webhooks")["items"] == [made]
    for number in (1, 2, 3):
        statistics.record(house.db, house.machine.id, number, complete=True, figures=figures(), now=api.web.clock.at)
    path = f"/webhooks/{made['id']}/deliveries"
    first = ask.get(f"{path}?limit=2")
    assert [one["number"] for one in first["items"]] == [3, 2]
    assert [one["number"] for one in ask.get(f"{path}?limit=2&cursor={first['next']}")["items"]] == [1]
    ask.do("DELETE", f"/webhooks/{made['id']}", status=204)
    assert ask.get("/webhooks")["items"] == [] and ask.problem("GET", path) == (404, "not-found")
    assert len(api.acts("webhook.add")) == len(api.acts("webhook.remove")) == 1
    assert "secret" not in (api.acts("webhook.add")[0].after or "")


def test_what_cannot_be_told(api: ApiHouse) -> None:
    for url in ("http://vendor.example/", "https://127.0.0.1/", "https://u:p@vendor.example/", "https://x.example/#y"):
        assert api.program.problem("POST", "/webhooks", {**WANTED, "url": url}) == (422, "usage"), url
    for wrong in ({"url": "ftp://x.example/"}, {"url": ""}, {"events": []}, {"events": ["everything"]}):
        assert api.program.problem("POST", "/webhooks", {**WANTED, **wrong}) == (400, "body"), wrong
    assert api.program.get("/webhooks")["items"] == []


def test_the_appliances_own_network_if_its_settings_say_so(api: ApiHouse) -> None:
    home = api.web.home
    home.save_settings(msgspec.structs.replace(home.load_settings(), webhooks_private=True))
    api.program.do("POST", "/webhooks", {**WANTED, "url": "http://192.168.1.20:8080/"}, 201)
