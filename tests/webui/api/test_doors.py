"""Who enters the API and who does not: tokens, permissions, tenants, cookies, limits, idempotency, its errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from werkzeug.routing import Rule

from appliance.control import alert_table, api_tokens, deletions, webhooks
from appliance.control.api_tokens import Permission
from appliance.control.deletions import Kind
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.scope import EVERYTHING
from appliance.control.webhooks import Event
from tests.webui.api.programs import ALL, ApiHouse
from webui import gate
from webui.api import operations
from webui.api.limits import Limiter
from webui.api.operations import OPERATIONS


def rules(api: ApiHouse) -> Iterator[tuple[Rule, str]]:
    """Every route of the API with its method, but the open one."""
    for rule in api.web.app.url_map.iter_rules():
        if gate.is_api(rule.rule) and rule.endpoint not in gate.OPEN:
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield rule, method


def address(api: ApiHouse, rule: Rule, ids: dict[str, object]) -> str:
    """The rule with ids in its places, below /api/v1. A place that is not known fails."""
    values = {name: ids[name] for name in rule.arguments}
    built = api.web.app.url_map.bind("localhost").build(rule.endpoint, values, method=next(iter(rule.methods or ())))
    return built.removeprefix("/api/v1")


def alert_of(api: ApiHouse, space: str, contract: str, machine: bytes) -> int:
    """The number of an alert."""
    db = api.web.house.db
    one = Alert(AlertKind.LATE, api.web.clock.at, machine, "PC-1", contract, "x", space, AlertFacts(hours=40))
    alert_table.sync(db, [one], api.web.clock.at)
    return next(row.id for row in alert_table.living(db, EVERYTHING) if row.alert.machine_id == machine)


def ids_of(api: ApiHouse, where: str) -> dict[str, object]:
    """Something of every kind in our space (`ours`) or in the other one (`elsewhere`)."""
    house = api.web.house
    contract, machine = (
        (house.ours, house.machine) if where == "ours" else (house.elsewhere, house.elsewhere_machine)
    )
    waiting = deletions.request(house.db, EVERYTHING, Kind.MACHINE, machine.hex, by="x", now=api.web.clock.at)
    return {
        "contract_id": contract.id,
        "machine": machine.hex,
        "space_id": contract.space_id,
        "deletion_id": waiting.id,
        "restore": "0123456789abcdef",
        "webhook_id": webhooks.create(
            house.db, space_id=contract.space_id, url="https://example.org/", events=[Event.LATE], by="x",
            now=api.web.clock.at,
        ).webhook.id,
        "number": alert_of(api, contract.space_id, contract.id, machine.id),
    }


BODIES: dict[str, object] = {
    "change_contract": {"client_id": "stolen"},
    "change_machine": {"name": "stolen"},
    "save_settings": {"selection": {"include": ["/stolen"]}, "schedule": None, "allow_loss": True},
    "open_restore": {"account": "super@example.org", "code": "000000"},
    "send_restore": {"account": "super@example.org", "code": "000000"},
    "move_machine": {"contract_id": "stolen"},
    "list_folder": {"snapshot": 1},
    "search_entries": {"snapshot": 1, "text": "x"},
    "download_archive": {"snapshot": 1, "paths": ["/"]},
    "create_webhook": {"url": "https://example.org/", "events": ["late"]},
    "create_contract": {"client_id": "new", "email": "new@example.org"},
}
"""A body that would do, for what takes one."""


def test_every_operation_with_a_body_is_tried_with_one() -> None:
    assert {one.name for one in OPERATIONS if one.body is not None} == set(BODIES)


def test_another_tenants_ids_are_not_there(api: ApiHouse) -> None:
    ids = ids_of(api, "elsewhere")
    before = api.web.house.db.rows("SELECT name, state, contract_id FROM machine ORDER BY id")
    wrong, tried = [], 0
    for rule, method in rules(api):
        if not rule.arguments:
            continue
        tried += 1
        body = BODIES.get(rule.endpoint.removeprefix("api."))
        status, code = api.program.problem(method, address(api, rule, ids), body)
        if (status, code) != (404, "not-found"):
            wrong.append(f"{method} {rule.rule}: {status} {code}")
    assert not wrong, wrong
    assert tried >= 20
    assert api.web.house.db.rows("SELECT name, state, contract_id FROM machine ORDER BY id") == before
    assert not api.web.house.db.rows("SELECT kind FROM audit"), "nothing was done, and nothing is said to have been"


@pytest.mark.parametrize("query", ["machine_id={machine}", "contract_id={contract_id}"])
@pytest.mark.parametrize("listed", ["/snapshots", "/logs", "/statistics"])
def test_nor_in_parameters(api: ApiHouse, listed: str, query: str) -> None:
    ids = ids_of(api, "elsewhere")
    assert api.program.problem("GET", f"{listed}?{query.format(**ids)}") == (404, "not-found")


def test_lists_show_one_space(api: ApiHouse) -> None:
    ids_of(api, "elsewhere")
    house = api.web.house
    assert {one["id"] for one in api.program.get("/contracts")["items"]} == {house.ours.id, house.neighbour.id}
    assert {one["id"] for one in api.program.get("/machines")["items"]} == {
        house.machine.hex,
        house.neighbour_machine.hex,
    }
    assert [one["id"] for one in api.program.get("/spaces")["items"]] == [api.near]
    assert api.program.get("/machines?contract_id=" + house.elsewhere.id)["items"] == []
    for path in ("/alerts", "/deletions", "/running", "/webhooks", "/snapshots", "/logs", "/audit", "/statistics"):
        assert api.program.get(path)["items"] == [], path


def test_permissions_stand_before_everything(api: ApiHouse) -> None:
    """A token without the permission learns nothing, not even whether an id is there."""
    ids = ids_of(api, "ours")
    for missing in Permission:
        program = api.another(*(one for one in ALL if one is not missing), name=f"without {missing}")
        tried = 0
        for rule, method in rules(api):
            if gate.permissions_of(api.web.app, rule.endpoint) != {missing}:
                continue
            tried += 1
            answer = program.problem(method, address(api, rule, ids), BODIES.get(rule.endpoint.removeprefix("api.")))
            assert answer == (403, "permission"), rule.rule
        assert tried, missing
    only = api.another(Permission.AUDIT, name="only")
    assert only.get("/token")["permissions"] == ["audit"]


def test_changing_needs_more_than_reading(api: ApiHouse) -> None:
    """No operation that changes something opens for the permission to read."""
    for one in OPERATIONS:
        if one.method != "GET":
            assert one.needs in (Permission.WRITE, Permission.DELETE, Permission.RESTORE), one.name


@pytest.mark.parametrize("who", ["super", "admin", "support", "customer"])
def test_a_session_cookie_opens_nothing(api: ApiHouse, who: str) -> None:
    browser = api.web.browser(who)
    ids = ids_of(api, "ours")
    for rule, method in rules(api):
        answer = browser.client.open(
            "/api/v1" + address(api, rule, ids), method=method, headers={"X-CSRFToken": browser.token}, json={}
        )
        assert answer.status_code == 401, rule.rule
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert browser.client.get("/api/v1/nowhere").status_code == 401


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Bearer x", "Bearer plr_0_0", "Basic {text}", "{text}",
                                   "Bearer {text}x", "Bearer {prefix}", "Bearer \u00e9"])  # fmt: skip
def test_what_is_no_token(api: ApiHouse, shown: str) -> None:
    new = api.program.token
    header = shown.format(text=new.text, prefix=new.token.prefix)
    assert api.program.problem("GET", "/contracts", Authorization=header) == (401, "token")
    assert api.program.problem("GET", f"/contracts?token={new.text}", Authorization=header) == (401, "token")


def test_a_token_opens_no_page(api: ApiHouse) -> None:
    answer = api.program.client.get("/contracts", headers={"Authorization": f"Bearer {api.program.token.text}"})
    assert answer.status_code == 303 and "/login" in answer.headers["Location"]


def test_tokens_expire_and_are_revoked(api: ApiHouse) -> None:
    db, clock = api.web.house.db, api.web.clock
    short = api.another(Permission.READ, name="short", days=1)
    short.get("/token")
    clock.tick(86400.0)
    assert short.problem("GET", "/token") == (401, "token")
    api.program.get("/token")
    api_tokens.revoke(db, EVERYTHING, api.program.token.token.id, by="x", now=clock.at)
    assert api.program.problem("GET", "/token") == (401, "token")


def test_use_is_written_at_most_once_a_minute(api: ApiHouse) -> None:
    db, clock, token_id = api.web.house.db, api.web.clock, api.program.token.token.id

    def used() -> float | None:
        return api_tokens.find(db, EVERYTHING, token_id).used_at

    assert used() is None
    api.program.get("/token")
    first = used()
    assert first == clock.at
    clock.tick(59.0)
    api.program.get("/token")
    assert used() == first
    clock.tick(2.0)
    api.program.get("/token")
    assert used() == clock.at
    assert api_tokens.find(db, EVERYTHING, token_id).used_from == "127.0.0.1"


def test_too_many_requests_wait_for_the_next_minute(api: ApiHouse) -> None:
    with api.web.app.app_context():
        operations.use(Limiter(3))
    api.web.clock.at = 1_800_000_010.0
    left = [api.program.ask("GET", "/token").headers["RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    answer = api.program.ask("GET", "/token")
    assert answer.status_code == 429 and answer.json is not None and answer.json["code"] == "rate-limit"
    assert answer.headers["Retry-After"] == answer.headers["RateLimit-Reset"] == "50"
    assert answer.headers["RateLimit-Limit"] == "3"
    other = api.another(Permission.READ)
    other.get("/token")
    api.web.clock.tick(50.0)
    api.program.get("/token")


def test_a_write_with_a_key_is_done_once(api: ApiHouse) -> None:
    body = {"client_id": "twice", "email": "twice@example.org"}
    first = api.program.ask("POST", "/contracts", body, Idempotency_Key="one")
    again = api.program.ask("POST", "/contracts", body, Idempotency_Key="one")
    assert first.status_code == again.status_code == 201 and first.get_data() == again.get_data()
    assert again.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in first.headers
    assert len(api.program.get("/contracts?text=twice")["items"]) == 1
    assert len(api.acts("contract.add")) == 1
    other = {"client_id": "other", "email": "other@example.org"}
    assert api.program.problem("POST", "/contracts", other, Idempotency_Key="one") == (409, "conflict")
    path = f"/contracts/{api.web.house.ours.id}/pause"
    assert api.program.problem("POST", path, Idempotency_Key="one") == (409, "conflict")
    neighbour = api.another(*ALL)
    assert neighbour.ask("POST", "/contracts", other, Idempotency_Key="one").status_code == 201
    api.web.clock.tick(86_401.0)
    assert api.program.ask("POST", "/contracts", body, Idempotency_Key="one").status_code == 201
    assert len(api.program.get("/contracts?text=twice")["items"]) == 2


def test_a_write_without_a_key_is_done_as_often_as_asked(api: ApiHouse) -> None:
    body = {"client_id": "twice", "email": "twice@example.org"}
    for _ in range(2):
        api.program.do("POST", "/contracts", body, 201)
    assert len(api.program.get("/contracts?text=twice")["items"]) == 2


def test_what_failed_is_tried_again_under_its_key(api: ApiHouse) -> None:
    path = f"/machines/{api.machine}"
    assert api.program.problem("PATCH", path, {"name": "a\nb"}, Idempotency_Key="k") == (422, "usage")
    assert api.program.do("PATCH", path, {"name": "caisse"}, Idempotency_Key="k")["name"] == "caisse"


@pytest.mark.parametrize("key", ["", "\u00e9", "x" * 201])
def test_keys_that_are_none(api: ApiHouse, key: str) -> None:
    path = f"/contracts/{api.web.house.ours.id}/pause"
    assert api.program.problem("POST", path, Idempotency_Key=key) == (400, "idempotency-key")


def test_addresses_and_methods_that_are_none(api: ApiHouse) -> None:
    assert api.program.problem("GET", "/nowhere") == (404, "not-found")
    assert api.program.problem("DELETE", "/running") == (405, "method-not-allowed")
    assert "GET" in api.program.ask("DELETE", "/running").headers["Allow"]


def test_requests_that_do_not_fit(api: ApiHouse) -> None:
    ask, token = api.program, {"Authorization": f"Bearer {api.program.token.text}"}
    assert ask.problem("GET", "/contracts?limit=0") == (400, "query")
    assert ask.problem("GET", "/contracts?limit=x") == (400, "query")
    assert ask.problem("GET", "/contracts?unknown=1") == (400, "query")
    assert ask.problem("GET", "/contracts?limit=1&limit=2") == (400, "query")
    assert ask.problem("GET", "/running?limit=1") == (400, "query")
    assert ask.problem("GET", "/contracts?cursor=%C3%A9") == (422, "usage")
    assert ask.problem("GET", "/contracts?cursor=bWFjaGluZXM6MQ") == (422, "usage")
    assert ask.problem("GET", "/logs?cursor=bG9nczp4") == (422, "usage")
    assert ask.problem("GET", "/snapshots?cursor=c25hcHNob3RzOng") == (422, "usage")
    assert ask.problem("GET", "/logs?since=yesterday") == (400, "query")
    assert ask.problem("POST", "/contracts", {"client_id": "x"}) == (400, "body")
    assert ask.problem("POST", "/contracts", {"client_id": "x", "email": "x@y.z", "space_id": "s"}) == (400, "body")
    assert ask.problem("POST", "/contracts") == (415, "media-type")
    for data, status in ((b"{", 400), (b'"\xff"', 400), (b'{"client_id": "\\ud800"}', 400), (b" " * 300_000, 413)):
        answer = ask.client.post("/api/v1/contracts", data=data, content_type="application/json", headers=token)
        assert answer.status_code == status, data[:20]


def test_a_slip_of_ours_is_a_problem_without_a_word_of_it(api: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("appliance.control.spaces.cards", broken)
    answer = api.program.ask("GET", "/spaces")
    assert answer.status_code == 500 and answer.json is not None and answer.json["code"] == "internal"
    assert "secret" not in answer.get_data(as_text=True)


def test_no_cookie_is_taken_or_given(api: ApiHouse) -> None:
    browser = api.web.browser("customer")
    header = {"Authorization": f"Bearer {api.program.token.text}"}
    answer = browser.client.get("/api/v1/contracts", headers=header)
    assert "Set-Cookie" not in answer.headers and answer.json is not None
    assert len(answer.json["items"]) == 2, "the token's space, and not the customer's one contract"
    made = browser.client.post(
        "/api/v1/contracts", json={"client_id": "x", "email": "x@example.org"}, headers=header
    )  # fmt: skip
    assert made.status_code == 201 and "Set-Cookie" not in made.headers, "no form's token is asked for"
    assert api.acts("contract.add")[0].role == "token"
    assert "Set-Cookie" not in browser.client.get("/api/v1/openapi.json").headers
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Content-Type-Options"] == "nosniff"
