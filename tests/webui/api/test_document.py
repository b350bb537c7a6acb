"""The OpenAPI document: open to all, valid, complete, and true of what serves (schemathesis asks as it says)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from schemathesis import checks
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.control_house import NOW
from tests.webui.api.programs import ApiHouse
from webui import gate
from webui.api import operations
from webui.api.document import document
from webui.api.limits import Limiter
from webui.api.operations import OPERATIONS

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


def test_what_it_says_is_what_is_served(api: ApiHouse) -> None:
    """Requests that fit the document and requests that do not, for every operation: no answer outside of it, no 500."""
    with api.web.app.app_context():
        # A limit would answer for the resources after some hundred requests.
        operations.use(Limiter(10**9))
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", api.web.app)
    assert checks.CHECKS.get_all(), "schemathesis has no checks"
    headers = {"Authorization": f"Bearer {api.program.token.text}"}
    asked: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @_given(operation)
        def ask(case: schemathesis.Case) -> None:
            asked[operation.label] = asked.get(operation.label, 0) + 1
            case.call_and_validate(
                headers=headers,
                checks=[
                    not_a_server_error,
                    status_code_conformance,
                    content_type_conformance,
                    response_headers_conformance,
                    response_schema_conformance,
                ],
            )

        ask()
    assert len(asked) == len(OPERATIONS)
    assert sum(asked.values()) >= len(OPERATIONS) * EXAMPLES // 2


def _given(operation: schemathesis.schemas.APIOperation):  # type: ignore[no-untyped-def]
    import hypothesis

    return hypothesis.given(case=operation.as_strategy())


@pytest.fixture(autouse=True)
def _fixed_start(api: ApiHouse) -> None:
    api.web.clock.at = NOW
