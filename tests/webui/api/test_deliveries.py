"""Deliveries by the API where nothing needs to be opened; with paths it is tried in tests/journeys."""

from __future__ import annotations

from appliance.control import crossings, deliveries, machine_keys, machines, restores, statistics
from appliance.control.scope import EVERYTHING
from tests.support.control_house import figures
from tests.webui.api.programs import ApiHouse
from transport.escrow import EscrowKey, wrap_confided
from transport.names import RepositoryId, VaultId


def wanted(api: ApiHouse, **more: object) -> dict[str, object]:
    api.web.clock.tick()
    return {"account": "admin@example.org", "code": api.web.house.code("admin", api.web.clock.at), **more}


def backed_up(api: ApiHouse) -> str:
    """One backup; the address of what is sent to its machine."""
    house = api.web.house
    statistics.record(house.db, house.machine.id, 3, complete=True, figures=figures(7000), now=api.web.clock.at)
    return f"/machines/{api.machine}/deliveries"


def test_a_whole_backup_is_sent_with_a_code_and_its_fate_is_told(api: ApiHouse) -> None:
    path, ask = backed_up(api), api.program
    body = wanted(api)
    sent = ask.do("POST", path, body, status=201)
    assert (sent["number"], sent["state"], sent["snapshot"], sent["size_bytes"]) == (1, "waiting", 3, 7000)
    assert sent["sent_by"] == "admin@example.org" and sent["target"] == "machine" and sent["machine_id"] == api.machine
    assert ask.problem("POST", path, body) == (403, "one-time-code"), "a code works once"
    assert ask.get(f"{path}/1") == sent and ask.get(path)["items"] == [sent]
    [line] = api.acts("delivery.send")
    assert line.role == "token" and '"admin@example.org"' in (line.after or "")
    assert restores.openings(api.web.house.db, 0) == [], "it is opened when the machine begins"
    machine, now = api.web.house.machine.id, api.web.clock.at
    deliveries.answer(api.web.house.db, machine, 1, accepted=True, now=now)
    deliveries.began(api.web.house.db, machine, 1, now)
    deliveries.report(api.web.house.db, machine, 1, done=True, files=4, size=5, errors=1, reason="", now=now)
    done = ask.get(f"{path}/1")
    assert (done["state"], done["files_restored"], done["restored_bytes"], done["errors"]) == ("done", 4, 5, 1)
    assert ask.problem("DELETE", f"{path}/1") == (409, "conflict")


def test_what_cannot_be_sent_costs_no_code(api: ApiHouse) -> None:
    ask, path = api.program, f"/machines/{api.machine}/deliveries"
    body = wanted(api)
    assert ask.problem("POST", path, body) == (409, "conflict"), "no backup yet"
    backed_up(api)
    assert ask.problem("POST", path, body | {"snapshot": 2}) == (422, "usage")
    assert ask.problem("POST", path, body | {"paths": ["/srv"]}) == (409, "key-mode"), "no key here that opens names"
    assert ask.problem("POST", path, body | {"target": "/etc"}) == (400, "body")
    assert ask.problem("POST", path, body | {"folder": "/etc"}) == (400, "body"), "no place can be named"
    assert ask.do("POST", path, body | {"paths": ["/"]}, status=201)["number"] == 1, "the code is still good"


def test_pages_and_taking_back(api: ApiHouse) -> None:
    path, ask = backed_up(api), api.program
    for _ in range(3):
        ask.do("POST", path, wanted(api), status=201)
    first = ask.get(f"{path}?limit=2")
    second = ask.get(f"{path}?limit=2&cursor={first['next']}")
    assert [one["number"] for one in first["items"] + second["items"]] == [3, 2, 1] and second["next"] is None
    assert ask.do("DELETE", f"{path}/2")["state"] == "cancelled"
    assert ask.problem("DELETE", f"{path}/9") == (404, "not-found")
    assert len(api.acts("delivery.cancel")) == 1
    left = deliveries.open_ones(api.web.house.db, api.web.house.machine.id, api.web.clock.at)
    assert [one.number for one in left] == [1, 3]


def test_another_machine_needs_leave_and_an_administrator(api: ApiHouse) -> None:
    path, ask, house = backed_up(api), api.program, api.web.house
    machines.move(house.db, house.neighbour_machine, house.ours)
    body = wanted(api, target="other-machine", to=house.neighbour_machine.hex, paths=["/srv"])
    assert ask.problem("POST", path, body) == (409, "conflict"), "the contract does not allow it"
    crossings.allow(house.db, house.ours, allowed=True)
    assert ask.problem("POST", path, body) == (409, "conflict"), "no key here that opens its files"
    envelope = wrap_confided(EscrowKey.generate().public, bytes(32), RepositoryId(house.machine.id),
                             VaultId(house.machine.vault))  # fmt: skip
    machine_keys.put(house.db, house.machine.id, envelope, 1.0)
    assert ask.problem("POST", path, body | {"to": house.elsewhere_machine.hex}) == (409, "conflict")
    assert ask.problem("POST", path, body | {"to": None}) == (409, "conflict")
    assert ask.problem("POST", path, body | {"target": "machine"}) == (422, "usage")
    assert ask.problem("POST", path, body | {"paths": []}) == (422, "usage"), "not a whole machine"
    api.web.clock.tick()
    customer = {"account": "customer@example.org", "code": house.code("customer", api.web.clock.at)}
    assert ask.problem("POST", path, body | customer) == (403, "refused")
    assert deliveries.of_machine(house.db, EVERYTHING, house.neighbour_machine.id, api.web.clock.at) == []
