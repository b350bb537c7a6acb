"""Contracts, their codes and their deletions by the API."""

from __future__ import annotations

from appliance.control import contracts, machines
from appliance.control.scope import EVERYTHING
from tests.webui.api.programs import ApiHouse
from transport.enrolment import decode_code


def test_a_contract_is_made_shown_and_changed(api: ApiHouse) -> None:
    ask = api.program
    made = ask.do("POST", "/contracts", {"client_id": " Officine Nord ", "email": "Nord@Example.org",
                                         "allocated_bytes": 10**9, "machines_allowed": 2,
                                         "end_date": "2030-12-31", "keep_days": 120}, 201)  # fmt: skip
    assert made["client_id"] == "Officine Nord" and made["email"] == "nord@example.org"
    assert made["space_id"] == api.near and made["state"] == "active" and made["used_bytes"] == 0
    assert (made["allocated_bytes"], made["machines_allowed"], made["keep_days"]) == (10**9, 2, 120)
    assert made["end_date"] == "2030-12-31" and made["created_at"] == "2027-01-15T08:00:00Z"
    path = f"/contracts/{made['id']}"
    assert ask.get(path) == made
    changed = ask.do("PATCH", path, {"client_id": "Sud", "end_date": None, "late_hours": 48, "notify": "failures"})
    assert changed == {**made, "client_id": "Sud", "end_date": None, "late_hours": 48, "notify": "failures"}
    assert ask.do("PATCH", path, {"late_hours": None})["late_hours"] is None
    assert ask.do("PATCH", path, {}) == {**changed, "late_hours": None}
    assert made["open_days"] is None
    days = ask.do("PATCH", path, {"open_days": ["sat", "tue", "wed"]})["open_days"]
    assert days == ask.get(path)["open_days"] == ["tue", "wed", "sat"]
    assert ask.do("PATCH", path, {"open_days": None})["open_days"] is None
    line = api.acts("contract.add")[0]
    new = api.program.token.token
    assert (line.account_id, line.email, line.role) == (new.id, f"caisse ({new.prefix})", "token")
    assert line.space_id == api.near and line.address == "127.0.0.1"
    assert len(api.acts("contract.edit")) == 4, "a change of nothing is none"


def test_what_makes_no_sense_changes_nothing(api: ApiHouse) -> None:
    ask, path = api.program, f"/contracts/{api.web.house.ours.id}"
    before = ask.get(path)
    for body in ({"client_id": "a\u0000b"}, {"client_id": "   "}, {"email": "a b@example.org "}, {"keep_days": 30},
                 {"end_date": "2020-01-01"}, {"start_date": "2030-01-01", "end_date": "2029-01-01"}):  # fmt: skip
        status, code = ask.problem("PATCH", path, body)
        assert (status, code) in ((422, "usage"), (400, "body")), body
    for body in ({"allocated_bytes": -1}, {"allocated_bytes": 1.5}, {"late_hours": 0}, {"keep_days": 0},
                 {"notify": "never"}, {"open_days": []}, {"open_days": ["lundi"]},
                 {"end_date": "31/12/2030"}, {"state": "paused"}, [], None, "x"):  # fmt: skip
        status, code = ask.problem("PATCH", path, body)
        assert status in (400, 415), body
    assert ask.get(path) == before and not api.acts("contract.edit")
    assert ask.problem("POST", "/contracts", {"client_id": "x", "email": "a@b.c", "keep_days": 1}) == (422, "usage")


def test_pages_hold_every_contract_once(api: ApiHouse) -> None:
    db, seen = api.web.house.db, []
    for number in range(7):
        name = f"officine-{number}"
        contracts.add(db, space_id=api.near, client_id=name, email="a@example.org", now=api.web.clock.at)
    cursor = ""
    for _ in range(20):
        page = api.program.get(f"/contracts?limit=2{cursor}")
        assert len(page["items"]) <= 2
        seen += [one["id"] for one in page["items"]]
        # What is made meanwhile neither hides nor repeats what was there.
        contracts.add(db, space_id=api.near, client_id="late", email="a@example.org", now=api.web.clock.at)
        if len(seen) > 30 or page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) and {one.id for one in contracts.every(db, EVERYTHING)} >= set(seen)
    there = {one.id for one in contracts.every(db, EVERYTHING) if one.space_id == api.near and one.client_id != "late"}
    assert there <= set(seen)
    assert {one["client_id"] for one in api.program.get("/contracts?text=OFFICINE-3")["items"]} == {"officine-3"}
    assert api.program.get("/contracts?state=paused")["items"] == []


def test_pausing_and_resuming(api: ApiHouse) -> None:
    ask, path = api.program, f"/contracts/{api.web.house.ours.id}"
    for _ in range(2):
        assert ask.do("POST", f"{path}/pause")["state"] == "paused"
    assert [one["state"] for one in ask.get("/contracts?state=paused")["items"]] == ["paused"]
    assert ask.problem("POST", f"{path}/codes") == (409, "paused")
    for _ in range(2):
        assert ask.do("POST", f"{path}/resume")["state"] == "active"
    assert len(api.acts("contract.pause")) == len(api.acts("contract.resume")) == 1


def test_a_deletion_waits_and_is_taken_back(api: ApiHouse) -> None:
    ask, path = api.program, f"/contracts/{api.web.house.ours.id}"
    asked = ask.do("DELETE", path, status=202)
    assert asked["due_at"] == "2027-01-22T08:00:00Z" and asked["kind"] == "contract"
    assert ask.get(path)["state"] == "deleting" and ask.get(path)["deletion_due_at"] == asked["due_at"]
    assert ask.problem("DELETE", path) == (409, "conflict")
    assert ask.problem("POST", f"{path}/resume") == (409, "conflict")
    assert ask.get("/deletions")["items"] == [asked]
    ask.do("DELETE", f"/deletions/{asked['id']}", status=204)
    assert ask.get(path)["state"] == "active" and ask.get("/deletions")["items"] == []
    assert ask.problem("DELETE", f"/deletions/{asked['id']}") == (404, "not-found")
    assert len(api.acts("contract.delete")) == len(api.acts("deletion.cancel")) == 1


def test_codes_enrol_and_are_kept_nowhere(api: ApiHouse) -> None:
    ask, house = api.program, api.web.house
    path = f"/contracts/{house.ours.id}/codes"
    made = ask.do("POST", path, status=201, Idempotency_Key="code")
    assert made["command"].startswith(f"pilulier-agent enrol {made['code']} ")
    assert ask.problem("POST", path, Idempotency_Key="code") == (409, "answer-not-kept")
    assert len(ask.get(path)["items"]) == 1
    kept = b"".join(row["body"] or b"" for row in house.db.rows("SELECT body FROM api_answer"))
    assert made["code"].encode() not in kept
    token = decode_code(made["code"]).token
    machines.enrol(house.db, token, name="PC-9", curve_key=b"9" * 32, signing_key=b"8" * 32, vault=b"7" * 16,
                   installation=b"6" * 16, agent_version="1", platform="Linux", now=api.web.clock.at)  # fmt: skip
    assert ask.get(path)["items"] == []
    ask.do("POST", path, status=201)
    ask.do("DELETE", path, status=204)
    assert ask.get(path)["items"] == []
    assert len(api.acts("contract.code")) == 2 and len(api.acts("contract.codes-withdraw")) == 1
