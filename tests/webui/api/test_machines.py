"""Machines by the API: shown, renamed, set, asked for a backup, revoked, deleted."""

from __future__ import annotations

from appliance.control import alert_table, machine_logs, statistics
from appliance.control.api_tokens import Permission
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.running import Board
from tests.support.control_house import figures
from tests.webui.api.programs import ApiHouse


def test_a_machine_is_shown_and_renamed(api: ApiHouse) -> None:
    ask, path = api.program, f"/machines/{api.machine}"
    shown = ask.get(path)
    assert (shown["name"], shown["state"], shown["last_snapshot"]) == ("PC-1", "never", None)
    statistics.record(
        api.web.house.db, api.web.house.machine.id, 1, complete=True, figures=figures(5000), now=api.web.clock.at
    )
    shown = ask.get(path)
    assert (shown["state"], shown["last_snapshot"], shown["source_bytes"]) == ("ok", 1, 5000)
    changed = ask.do("PATCH", path, {"name": "Caisse 2", "language": "de"})
    assert changed == {**shown, "name": "Caisse 2", "language": "de"}
    assert ask.do("PATCH", path, {"language": None})["language"] is None
    assert ask.problem("PATCH", path, {"name": "a\nb"}) == (422, "usage")
    assert ask.problem("PATCH", path, {"language": "xx"}) == (422, "usage")
    assert len(api.acts("machine.rename")) == 1 and len(api.acts("machine.language")) == 2


def test_an_address_names_a_machine_by_its_whole_id(api: ApiHouse) -> None:
    for name in ("PC-1", api.machine[:8], api.machine.upper()):
        assert api.program.problem("GET", f"/machines/{name}") == (404, "not-found")
    assert api.program.problem("GET", f"/contracts/{api.web.house.ours.client_id}") == (404, "not-found")


def test_pages_of_machines(api: ApiHouse) -> None:
    first = api.program.get("/machines?limit=1")
    second = api.program.get(f"/machines?limit=1&cursor={first['next']}")
    assert second["next"] is None
    assert {one["items"][0]["id"] for one in (first, second)} == {
        api.web.house.machine.hex,
        api.web.house.neighbour_machine.hex,
    }
    assert api.program.get("/machines?state=ok")["items"] == []


def test_a_backup_is_asked_for_once(api: ApiHouse) -> None:
    ask, path = api.program, f"/machines/{api.machine}/backup"
    assert ask.problem("GET", path) == (404, "not-found")
    asked = ask.do("POST", path, status=202)
    assert asked["state"] == "waiting" and asked["requested_by"].startswith("caisse (plr_")
    assert ask.do("POST", path, status=202) == asked == ask.get(path)
    assert len(api.acts("machine.backup")) == 1
    ask.do("POST", f"/contracts/{api.web.house.ours.id}/pause")
    assert ask.problem("POST", path) == (409, "paused")


def test_settings_are_wanted_and_a_loss_is_asked_about(api: ApiHouse) -> None:
    ask, path = api.program, f"/machines/{api.machine}/settings"
    assert ask.get(path)["sync"] == "nothing"
    wanted = {"selection": {"include": ["/srv", "/home"], "exclude": []},
              "schedule": {"times": ["19:00", "12:30"], "days": ["tue", "mon"]}, "language": "fr"}  # fmt: skip
    assert ask.problem("PUT", path, wanted) == (409, "conflict"), "what the machine had is known to it alone"
    saved = ask.do("PUT", path, {**wanted, "allow_loss": True})
    assert saved["schedule"] == {"times": ["12:30", "19:00"], "days": ["mon", "tue"], "continuous": False}
    assert (saved["version"], saved["sync"]) == (1, "waiting") and ask.get(path) == saved
    less = {**wanted, "selection": {"include": ["/srv"]}}
    assert ask.problem("PUT", path, less) == (409, "conflict")
    assert ask.problem("PUT", path, {**wanted, "selection": {"include": ["srv"]}}) == (422, "usage")
    assert ask.problem("PUT", path, {**wanted, "hooks": ["rm"]}) == (400, "body")
    assert ask.get(path) == saved
    assert ask.do("PUT", path, {"selection": None, "schedule": None})["sync"] == "nothing"
    line = api.acts("machine.settings")
    assert len(line) == 2 and '"/srv"' in (line[1].after or "")


def test_revoked_for_good(api: ApiHouse) -> None:
    path = f"/machines/{api.machine}"
    for _ in range(2):
        assert api.program.do("POST", f"{path}/revoke")["state"] == "revoked"
    assert api.program.problem("POST", f"{path}/backup")[0] == 403
    assert len(api.acts("machine.revoke")) == 1


def test_a_deletion_of_a_machine_waits(api: ApiHouse) -> None:
    path = f"/machines/{api.machine}"
    asked = api.program.do("DELETE", path, status=202)
    assert asked["object_id"] == api.machine and api.program.get(path)["deletion_due_at"] == asked["due_at"]
    api.program.do("DELETE", f"/deletions/{asked['id']}", status=204)
    assert api.program.get(path)["deletion_due_at"] is None
    assert len(api.acts("machine.delete")) == len(api.acts("deletion.cancel")) == 1


def test_snapshots_and_figures_by_day(api: ApiHouse) -> None:
    db, house, ask = api.web.house.db, api.web.house, api.program
    for number in range(1, 6):
        statistics.record(db, house.machine.id, number, complete=number != 5, figures=figures(number * 100),
                          now=api.web.clock.at + number)  # fmt: skip
    statistics.record(db, house.elsewhere_machine.id, 1, complete=True, figures=figures(), now=api.web.clock.at)
    api.web.clock.tick(60)
    seen, cursor = [], ""
    for _ in range(9):
        page = ask.get(f"/snapshots?limit=2{cursor}")
        seen += page["items"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert [one["number"] for one in seen] == [5, 4, 3, 2, 1]
    assert (seen[0]["complete"], seen[0]["source_bytes"], seen[0]["sent_bytes"]) == (False, 500, 100)
    assert ask.get("/snapshots?since=2027-01-15T08:00:03Z&until=2027-01-15T08:00:05Z")["items"] == seen[1:3]
    (day,) = ask.get(f"/statistics?machine_id={api.machine}")["items"]
    assert (day["day"], day["backups"], day["sent_bytes"]) == ("2027-01-15", 5, 500)
    assert ask.problem("GET", "/statistics?since=2027-01-02&until=2027-01-01") == (422, "usage")
    assert ask.problem("GET", "/statistics?since=0001-01-01") == (422, "usage")


def test_logs_alerts_running_and_acts(api: ApiHouse) -> None:
    db, house, ask = api.web.house.db, api.web.house, api.program
    for text in ("one", "two", "three"):
        machine_logs.add(db, house.machine.id, level="error" if text == "two" else "info", module="m", text=text,
                         now=api.web.clock.at)  # fmt: skip
    first = ask.get("/logs?limit=2")
    assert [one["text"] for one in first["items"]] == ["three", "two"]
    assert [one["text"] for one in ask.get(f"/logs?limit=2&cursor={first['next']}")["items"]] == ["one"]
    assert [one["text"] for one in ask.get(f"/logs?level=error&machine_id={api.machine}")["items"]] == ["two"]
    alerts = [
        Alert(AlertKind.LATE, api.web.clock.at, machine.id, "PC-1", contract.id, "x", api.near, AlertFacts(hours=40))
        for contract, machine in ((house.ours, house.machine), (house.neighbour, house.neighbour_machine))
    ]
    alert_table.sync(db, alerts, api.web.clock.at)
    page = ask.get("/alerts?limit=1")
    number = page["items"][0]["number"]
    assert page["items"][0]["facts"] == {"hours": 40} and page["items"][0]["severity"] == "danger"
    for _ in range(2):
        done = ask.do("POST", f"/alerts/{number}/acknowledge")
    assert done["state"] == "acknowledged" and done["acknowledged_by"].startswith("caisse (plr_")
    assert [one["number"] for one in ask.get("/alerts?state=acknowledged")["items"]] == [number]
    assert [one["number"] for one in ask.get(f"/alerts?cursor={page['next']}")["items"]] == [number + 1]
    board = Board(api.web.home.running_file)
    board.note(api.machine, "transfer", 1, 2, 10, 20, api.web.clock.at)
    board.note(house.elsewhere_machine.hex, "transfer", 1, 2, 10, 20, api.web.clock.at)
    board.flush(api.web.clock.at, at_once=True)
    (running,) = ask.get("/running")["items"]
    assert (running["machine_id"], running["done_bytes"], running["left_s"]) == (api.machine, 10, None)
    assert ask.get(f"/machines/{api.machine}")["state"] == "running"
    (act,) = ask.get("/audit?kind=alert.acknowledge")["items"]
    assert act["role"] == "token" and act["object_id"] == str(number)


def test_a_machine_moves_to_another_contract_of_the_space(api: ApiHouse) -> None:
    house, ask, path = api.web.house, api.program, f"/machines/{api.machine}/move"
    assert ask.problem("POST", path, {"contract_id": house.elsewhere.id}) == (404, "not-found")
    assert ask.problem("POST", path, {"contract_id": house.ours.client_id}) == (404, "not-found"), "ids, not names"
    moved = ask.do("POST", path, {"contract_id": house.neighbour.id})
    assert moved["contract_id"] == house.neighbour.id and moved["id"] == api.machine
    assert ask.do("POST", path, {"contract_id": house.neighbour.id}) == moved
    assert [act.contract_id for act in api.acts("machine.move")] == [house.neighbour.id, house.ours.id]
    ask.do("POST", f"/contracts/{house.ours.id}/pause")
    assert ask.problem("POST", path, {"contract_id": house.ours.id}) == (409, "paused")
    ask.do("DELETE", f"/machines/{api.machine}", status=202)
    assert ask.problem("POST", path, {"contract_id": house.ours.id}) == (409, "conflict")
    writer = api.another(Permission.READ, Permission.WRITE, name="writer")
    assert writer.problem("POST", path, {"contract_id": house.ours.id}) == (403, "permission")
