"""The OpenAPI document: open to all, valid, complete, and true of what serves (schemathesis asks as it says)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy, one_of
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from appliance.control import alert_table, backup_requests, contracts, deletions, deliveries, statistics, webhooks
from appliance.control.deletions import Kind
from appliance.control.deliveries import Chosen
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.scope import EVERYTHING
from appliance.control.webhooks import Event
from tests.support.control_house import figures
from tests.webui.api.programs import ApiHouse
from webui import gate
from webui.api import operations
from webui.api.document import document
from webui.api.limits import Limiter
from webui.api.operations import OPERATIONS

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
EXAMPLES = 12
"""For each operation: bounded, so that all of them take seconds."""


def test_it_is_open_and_alike_for_everybody(api: ApiHouse) -> None:
    answer = api.web.app.test_client().get("/api/v1/openapi.json")
    assert answer.status_code == 200 and answer.content_type == "application/json"
    assert answer.json == document() == api.web.browser("super").get("/api/v1/openapi.json").json
    assert answer.json is not None and answer.json["openapi"].startswith("3.1")


def test_every_route_stands_in_it(api: ApiHouse) -> None:
    routes = {
        (method.lower(), rule.rule.replace("<int(max=9007199254740992):number>", "{number}").replace("<", "{"))
        for rule in api.web.app.url_map.iter_rules()
        if gate.is_api(rule.rule) and rule.endpoint not in gate.OPEN
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    told = {(method, path) for path, known in document()["paths"].items() for method in known}
    assert {(method, path.replace(">", "}")) for method, path in routes} == told


def test_every_operation_says_what_it_needs_and_tells_of_itself() -> None:
    for known in document()["paths"].values():
        for one in known.values():
            assert "Needs" in one["description"] and one["summary"] and one["tags"], one["operationId"]
    names = [one.name for one in OPERATIONS]
    assert len(names) == len(set(names))


def test_nothing_in_it_points_nowhere() -> None:
    def references(part: object) -> Iterator[str]:
        match part:
            case {"$ref": str(target)}:
                yield target
            case dict():
                yield from itertools.chain.from_iterable(map(references, part.values()))
            case list():
                yield from itertools.chain.from_iterable(map(references, part))

    for target in set(references(document())):
        found: object = document()
        for name in target.removeprefix("#/").split("/"):
            assert isinstance(found, dict) and name in found, target
            found = found[name]


def test_requests_refuse_what_they_do_not_know() -> None:
    """A misspelt field must not be passed over in silence."""
    for one in OPERATIONS:
        for kind in (one.body, one.query):
            assert kind is None or kind.__struct_config__.forbid_unknown_fields, kind
        assert one.answer is None or issubclass(one.answer, msgspec.Struct), one.name


def ids_of(api: ApiHouse) -> dict[str, object]:
    """What is there, by the names that addresses have for it."""
    house, now = api.web.house, api.web.clock.at
    late = Alert(AlertKind.LATE, now, house.machine.id, "PC-1", house.ours.id, "x", api.near, AlertFacts(hours=40))
    alert_table.sync(house.db, [late], now)
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(), now=now)
    deliveries.send(
        house.db, house.machine.id, Chosen(), snapshot=1, snapshot_at=now, files=0, size_bytes=9, account_id="x",
        by="x", now=now,
    )  # fmt: skip
    waiting = deletions.request(
        house.db, EVERYTHING, Kind.MACHINE, house.neighbour_machine.hex, by="x", now=now
    )  # fmt: skip
    return {
        "contract_id": house.ours.id,
        "machine": house.machine.hex,
        "space_id": api.near,
        "deletion_id": waiting.id,
        "number": alert_table.living(house.db, EVERYTHING)[0].id,
    }


def mend(api: ApiHouse) -> dict[str, object]:
    """Undo what the operations before did: the contract takes backups, the machine may connect, none was asked for, and
    there is a webhook; its id."""
    db = api.web.house.db
    contracts.resume(db, contracts.find(db, EVERYTHING, api.web.house.ours.id))
    with db.write():
        db.execute("UPDATE machine SET state = 'active'")
        db.execute("DELETE FROM backup_request")
        db.execute("DELETE FROM webhook")
    made = webhooks.create(
        db, space_id=api.near, url="https://example.org/", events=[Event.LATE], by="x", now=api.web.clock.at
    )  # fmt: skip
    return {"webhook_id": made.webhook.id}


def strategies(operation: APIOperation[Any], there: dict[str, object]) -> SearchStrategy[Case]:
    """Requests that fit, with ids of what is there and with others, and requests that do not."""

    def known(case: Case) -> Case:
        case.path_parameters.update({name: there[name] for name in case.path_parameters if name in there})
        return case

    fitting = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.path_parameters and not operation.body and not operation.query and not operation.headers:
        return fitting
    other = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return one_of(fitting.map(known), fitting.map(known), fitting, other.map(known))


def test_what_it_says_is_what_is_served(api: ApiHouse) -> None:
    """For every operation: no answer that stands not in the document, none in another form, no error of ours."""
    with api.web.app.app_context():
        # A limit would answer for the resources after some hundred requests.
        operations.use(Limiter(10**9))
    there = ids_of(api)
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", api.web.app)
    headers = {"Authorization": f"Bearer {api.program.token.text}"}
    answered: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        there |= mend(api)
        if operation.label.startswith("GET") and operation.label.endswith("/backup"):
            backup_requests.ask(api.web.house.db, EVERYTHING, api.web.house.machine.id, "x", api.web.clock.at)

        @seed(1)
        @settings(max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=strategies(operation, there))
        def ask(case: Case) -> None:
            answer = case.call(headers=headers)
            answered.setdefault(case.operation.label, set()).add(answer.status_code)
            case.validate_response(answer, checks=CHECKS, headers=headers)

        ask()
    assert len(answered) == len(OPERATIONS)
    never = {label for label, statuses in answered.items() if min(statuses) >= 300}
    # No repository stands behind this house: a restore is tried by the journeys. And chance writes no web address, no
    # one-time code, and no contract's id in a body.
    by_chance = {"POST /api/v1/webhooks", "POST /api/v1/machines/{machine}/deliveries",
                 "POST /api/v1/machines/{machine}/move"}  # fmt: skip
    never = {label for label in never if "/restores" not in label} - by_chance
    assert not never, f"no request got through: {never}"
    assert {400, 404, 422} <= set().union(*answered.values()), "no request was refused"
