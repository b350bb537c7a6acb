"""Every route, as a stranger, as each role, and with another tenant's ids in it.

Walks the application's own map of addresses: a route with a parameter that this file does not know fails, so that a new
page cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from werkzeug.routing import Rule

from appliance.control import (
    accounts,
    api_tokens,
    certificates,
    contract_exports,
    contracts,
    deletions,
    invitations,
    lost_devices,
    sessions,
    webhooks,
)
from appliance.control.accounts import Role
from appliance.control.api_tokens import Permission
from appliance.control.certificates import Statement
from appliance.control.deletions import Deletion, Kind
from appliance.control.scope import EVERYTHING
from appliance.control.webhooks import Event
from tests.support.control_house import NOW, PASSWORD
from tests.webui.web_house import WebHouse
from transport.keys import SigningKey
from webui import gate

OURSELVES = frozenset({"static", "bootstrap.static"})
ROLES = {"super": Role.SUPER, "admin": Role.ADMIN, "support": Role.SUPPORT, "customer": Role.CUSTOMER}


@dataclass(frozen=True, slots=True)
class Foreign:
    """Ids of things that lie in another space, and next door in the same one, by the name routes give them."""

    elsewhere: dict[str, str]
    neighbour: dict[str, str]


def statement_of(deletion: Deletion) -> Statement:
    """A certificate's words about a deletion."""
    return Statement(
        certificate=deletion.id, kind="machine", object=deletion.object_id, name=deletion.object_name,
        requested_by="x", requested_at=0, erased_at=0, machines=[], copies_kept_days=1, copies_gone_at=0, identity="",
    )  # fmt: skip


def foreign(web: WebHouse) -> Foreign:
    """Something of every kind for another tenant."""
    house = web.house
    db = house.db
    boss = house.accounts["super"]

    def of(contract_id: str, machine_hex: str, space_id: str, name: str) -> dict[str, str]:
        customer = accounts.add(
            db, email=f"{name}@away.example", role=Role.CUSTOMER, password=PASSWORD, now=NOW, contract_id=contract_id
        ).account
        invited = invitations.invite(
            db, email=f"new-{name}@away.example", role=Role.CUSTOMER, by=boss, now=web.clock.at, contract_id=contract_id
        ).invitation
        session = sessions.open(db, customer.id, address="127.0.0.9", user_agent="x", now=web.clock.at).session
        lost = lost_devices.request(db, customer, address="127.0.0.9", now=web.clock.at)
        token = api_tokens.create(
            db, space_id=space_id, name=name, permissions=[Permission.READ], days=9, by="x", now=web.clock.at
        ).token
        hook = webhooks.create(
            db, space_id=space_id, url="https://away.example/", events=[Event.LATE], by="x", now=web.clock.at
        ).webhook
        waiting = deletions.request(db, EVERYTHING, Kind.MACHINE, machine_hex, by="x", now=web.clock.at)
        export = contract_exports.ask(db, contracts.find(db, EVERYTHING, contract_id), by="x", now=web.clock.at)
        with db.write():
            certificates.issue(db, SigningKey.generate(), waiting, statement_of(waiting))
        ids = {
            "export": export.id,
            "certificate": waiting.id,
            "contract": contract_id,
            "machine": machine_hex,
            "space": space_id,
            "account": customer.id,
            "invitation": invited.id,
            "session": session.id,
            "request": lost.id,
            "deletion": waiting.id,
            "api_token": token.id,
            "webhook": hook.id,
        }
        return ids | {f"{kind}_id": value for kind, value in ids.items()}

    return Foreign(
        of(house.elsewhere.id, house.elsewhere_machine.hex, house.elsewhere.space_id, "away"),
        of(house.neighbour.id, house.neighbour_machine.hex, house.neighbour.space_id, "next"),
    )


_KINDS = (
    *("contract", "machine", "space", "account", "invitation", "session", "request", "deletion"),
    *("api_token", "webhook", "export", "certificate"),
)
TENANT_IDS = frozenset(_KINDS) | {f"{kind}_id" for kind in _KINDS}
"""Parameters that name a tenant's thing."""
PLAIN: dict[str, str] = {
    **{"number": "1", "name": "x", "kind": "transfer", "token": "x", "wanted": "x", "filename": "x"},
    **{"act": "disable", "restore": "0123456789abcdef"},
}
"""Parameters that name nobody's thing."""


AS_FOR_NOTHING = {"profile.end": "says that the session has ended, as for one that never was; nothing ends"}
"""Endpoints that answer another's id in another way than 404, and why that tells nothing."""


def routes(web: WebHouse) -> Iterator[tuple[Rule, str]]:
    """Every route with every method that browsers use."""
    for rule in web.app.url_map.iter_rules():
        if rule.endpoint in OURSELVES:
            continue
        for method in sorted((rule.methods or set()) & {"GET", "POST", "PUT", "PATCH", "DELETE"}):
            yield rule, method


def address(web: WebHouse, rule: Rule, values: dict[str, str]) -> str:
    """The rule with values in its places."""
    unknown = set(rule.arguments) - set(values) - set(PLAIN)
    assert not unknown, f"{rule.rule} has a parameter this test does not know: {unknown}. Say whose it is"
    filled = {name: values.get(name, PLAIN.get(name, "")) for name in rule.arguments}
    for name, value in filled.items():
        if type(rule._converters[name]).__name__ == "IntegerConverter":
            filled[name] = int(value)  # type: ignore[assignment]
    method = next(iter(rule.methods or {"GET"}))
    return web.app.url_map.bind("localhost").build(rule.endpoint, filled, method=method)


def test_a_stranger_gets_nothing_but_the_open_pages(web: WebHouse) -> None:
    ids = foreign(web).elsewhere
    wrong = []
    for rule, method in routes(web):
        if rule.endpoint in gate.OPEN:
            continue
        answer = web.app.test_client().open(address(web, rule, ids), method=method)
        api = rule.rule.startswith("/api/v1")
        if answer.status_code != (401 if api else 303) or (not api and "/login" not in answer.headers["Location"]):
            wrong.append(f"{method} {rule.rule}: {answer.status_code}")
    assert not wrong, wrong


def test_open_endpoints_are_a_short_list(web: WebHouse) -> None:
    there = {rule.endpoint for rule in web.app.url_map.iter_rules()}
    assert there >= gate.OPEN, "an open endpoint that is not there opens a door for its next owner"
    assert len(gate.OPEN) < 25


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
def test_the_wrong_role_is_refused_everywhere(web: WebHouse, who: str) -> None:
    browser = web.browser(who)
    ids = foreign(web).elsewhere
    wrong = []
    for rule, method in routes(web):
        if rule.endpoint in gate.OPEN or ROLES[who] in gate.roles_of(web.app, rule.endpoint):
            continue
        answer = browser.client.open(address(web, rule, ids), method=method, data={"csrf_token": browser.token})
        # The API knows no people: a cookie is a stranger there.
        if answer.status_code != (401 if gate.is_api(rule.rule) else 403):
            wrong.append(f"{method} {rule.rule}: {answer.status_code}")
    assert not wrong, wrong


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
@pytest.mark.parametrize("whose", ["elsewhere", "neighbour"])
def test_another_tenants_ids_are_not_there(web: WebHouse, who: str, whose: str) -> None:
    """404, as for what does not exist. A space's staff sees its other contracts: only customers are neighbours."""
    if whose == "neighbour" and who != "customer":
        return
    browser = web.browser(who)
    ids = getattr(foreign(web), whose)
    wrong, tried = [], 0
    for rule, method in routes(web):
        if rule.endpoint in gate.OPEN or not TENANT_IDS & set(rule.arguments):
            continue
        if ROLES[who] not in gate.roles_of(web.app, rule.endpoint):
            continue
        tried += 1
        answer = browser.client.open(address(web, rule, ids), method=method, data={"csrf_token": browser.token})
        if answer.status_code != (303 if rule.endpoint in AS_FOR_NOTHING else 404):
            wrong.append(f"{method} {rule.rule}: {answer.status_code}")
    assert not wrong, wrong
    assert tried, "no route with an id was tried"
    assert sessions.of_account(web.house.db, ids["account"], web.clock.at), "another's session was ended"


def test_pages_open_for_whom_they_are_meant(web: WebHouse) -> None:
    """Each GET without parameters answers 200 to each role that may enter: no page that trips over an empty house."""
    wrong = []
    for who, role in ROLES.items():
        browser = web.browser(who)
        for rule, method in routes(web):
            if method != "GET" or rule.arguments or rule.endpoint in gate.OPEN:
                continue
            if role not in gate.roles_of(web.app, rule.endpoint):
                continue
            answer = browser.get(rule.rule)
            answer.get_data()  # to its end: what is streamed may trip late
            answer.close()
            if answer.status_code not in (200, 303):
                wrong.append(f"{who} {rule.rule}: {answer.status_code}")
    assert not wrong, wrong
