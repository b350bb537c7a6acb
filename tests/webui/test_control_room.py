"""The control room: what each person sees at a glance, its filters, its pages, its refreshing part, its wall."""

from __future__ import annotations

import html
import re

import msgspec
import pytest

from appliance.control import alarms, control_room, deletions, machine_logs, sessions, statistics
from appliance.control.control_room import Customer, State
from appliance.control.running import Board
from appliance.control.scope import EVERYTHING
from appliance.control.sessions import IDLE_S
from tests.support.control_house import NOW, enrol, figures
from tests.webui.web_house import Browser, WebHouse
from webui import attention, places
from webui.control_room import paged

HOUR = 3600.0
FRAGMENT = {"X-Pilulier-Fragment": "1"}


def text_of(browser: Browser, path: str = "/", **options: object) -> str:
    """A page's text, without tags, its spaces single."""
    answer = browser.get(path, **options)
    assert answer.status_code == 200
    plain = re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))
    return re.sub(r"\s+", " ", html.unescape(plain))


def backup(web: WebHouse, at: float, *, number: int = 1, size: int = 5 * 10**9, warnings: int = 0) -> None:
    """A complete backup of the machine that everybody of the near space sees."""
    done = msgspec.structs.replace(figures(size), warnings=warnings)
    statistics.record(web.house.db, web.house.machine.id, number, complete=True, figures=done, now=at)


def tiles(page: str) -> dict[str, int]:
    """The number on each tile that filters."""
    found = re.findall(r'id="tile-([a-z]+)".*?tile-figure">([^<]+)<', page, re.S)
    return {name: int(number) for name, number in found}


def test_the_room_counts_machines_by_state_and_shows_the_last_day(web: WebHouse) -> None:
    backup(web, NOW - HOUR, warnings=3)
    browser = web.browser("admin")
    page = browser.get("/").get_data(as_text=True)
    assert tiles(page) == {
        **{"all": 2, "failed": 0, "late": 0, "never": 1, "warning": 1, "running": 0, "ok": 0, "revoked": 0}
    }
    text = text_of(browser)
    assert "Sauvegardes 1" in text and "Avertissements 3" in text and "3 avertissements" in text
    # Two contracts of 50 Go each, one of them without a backup.
    assert "5 Go sur 100 Go alloués 5 %" in text
    assert "away" not in text


def test_machines_stand_with_their_customer_worst_first_and_link_to_statistics_and_logs(web: WebHouse) -> None:
    backup(web, NOW - HOUR)
    page = web.browser("admin").get("/").get_data(as_text=True)
    assert page.index(">next<") < page.index(">ours<")
    machine = web.house.machine.hex
    for address in (
        f"/machines/{machine}",
        f"/statistics?machine={machine}",
        f"/logs?machine={machine}",
        f"/contracts/{web.house.ours.id}",
    ):
        assert f'href="{address}"' in page


def test_a_tile_filters_and_a_search_narrows(web: WebHouse) -> None:
    backup(web, NOW - HOUR)
    browser = web.browser("admin")
    page = browser.get("/?state=ok").get_data(as_text=True)
    assert web.house.machine.hex in page and web.house.neighbour_machine.hex not in page
    page = browser.get("/?text=NEXT").get_data(as_text=True)
    assert web.house.neighbour_machine.hex in page and web.house.machine.hex not in page
    assert tiles(page)["all"] == 1
    assert "Aucune machine ne correspond" in text_of(browser, "/?text=nobody")
    # What no page of ours asks for is shown as if it had not been asked.
    assert tiles(browser.get("/?state=purple&page=%20x").get_data(as_text=True))["all"] == 2


def test_what_was_typed_stays_and_is_only_text(web: WebHouse) -> None:
    page = web.browser("admin").get("/", query_string={"text": '"><script>x'}).get_data(as_text=True)
    assert 'value="&#34;&gt;&lt;script&gt;x"' in page and "<script>x" not in page


def test_a_fragment_is_the_part_that_changes_and_carries_its_time(web: WebHouse) -> None:
    browser = web.browser("admin")
    part = browser.get("/?state=never", headers=FRAGMENT).get_data(as_text=True)
    assert "<html" not in part and "<h1" not in part
    assert "data-refreshed>" in part and web.house.machine.hex in part
    page = browser.get("/?state=never").get_data(as_text=True)
    assert 'data-refresh="/?state=never"' in page and part.strip().splitlines()[-1] in page


def test_a_page_left_alone_does_not_keep_its_session_alive_but_a_wall_does(web: WebHouse) -> None:
    browser = web.browser("admin")
    for _ in range(3):
        web.clock.tick(IDLE_S / 2 - 60)
        assert browser.get("/?wall=1", headers=FRAGMENT).status_code == 200
    web.clock.tick(IDLE_S / 2)
    assert browser.get("/", headers=FRAGMENT).status_code == 200
    web.clock.tick(IDLE_S / 2 + 60)
    assert browser.get("/", headers=FRAGMENT).status_code == 401


def test_a_session_found_without_a_touch_keeps_its_time(web: WebHouse) -> None:
    new = sessions.open(web.house.db, web.house.accounts["admin"].id, address="", user_agent="", now=NOW)
    found = sessions.find(web.house.db, new.token, NOW + IDLE_S - 1, touch=False)
    assert found is not None and found.last_seen_at == NOW
    assert sessions.find(web.house.db, new.token, NOW + IDLE_S + 1, touch=False) is None


def test_the_wall_has_a_tile_for_each_customer_and_no_menu(web: WebHouse) -> None:
    backup(web, NOW - 3 * 24 * HOUR)
    page = web.browser("admin").get("/?wall=1").get_data(as_text=True)
    assert 'class="sidebar' not in page and page.count("<h1") == 1
    assert page.count('class="wall-tile ') == 2 and "wall-late" in page
    assert 'data-refresh="/?wall=1"' in page


def test_a_super_user_sees_every_space_with_its_volume(web: WebHouse) -> None:
    text = text_of(web.browser("super"))
    assert "near 0 o / 100 Go" in text and "far 0 o / 50 Go" in text
    volumes = control_room.volumes(web.house.db, EVERYTHING, control_room.rows(web.house.db, EVERYTHING, NOW))
    assert [(one.space_name, one.contracts, one.ratio) for one in volumes] == [("far", 1, 0.0), ("near", 2, 0.0)]


def test_running_and_failed_machines_say_so(web: WebHouse) -> None:
    backup(web, NOW - HOUR)
    machine_logs.add(web.house.db, web.house.neighbour_machine.id, level="error", module="backup", text="no", now=NOW)
    board = Board(web.home.running_file)
    board.note(web.house.machine.hex, "sending", 1, 2, 3, 4, NOW)
    board.flush(NOW, at_once=True)
    page = web.browser("admin").get("/").get_data(as_text=True)
    found = tiles(page)
    assert (found["running"], found["failed"]) == (1, 1)


@pytest.mark.parametrize(
    ("hours", "warnings", "said"),
    [
        (2, 0, "Tout va bien : vos données sont sauvegardées"),
        (2, 4, "mais 4 fichiers n’ont pas pu être lus."),
        (60, 0, "Vérifiez que l’ordinateur est allumé et relié à Internet."),
    ],
)
def test_a_customer_reads_plain_words(web: WebHouse, hours: int, warnings: int, said: str) -> None:
    backup(web, NOW - hours * HOUR, warnings=warnings)
    text = text_of(web.browser("customer"))
    assert said in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Votre dernière sauvegarde date du" in text
    assert "next" not in text


def test_a_customer_whose_machine_failed_learns_that_older_backups_are_safe(web: WebHouse) -> None:
    backup(web, NOW - 5 * HOUR)
    machine_logs.add(web.house.db, web.house.machine.id, level="error", module="x", text="E: is gone", now=NOW - HOUR)
    browser = web.browser("customer")
    text = text_of(browser)
    assert "La dernière tentative de sauvegarde a échoué." in text and "restent à l’abri" in text
    assert "E: is gone" not in text
    assert "<html" not in browser.get("/", headers=FRAGMENT).get_data(as_text=True)


def test_a_customer_without_backups_is_told_what_to_do(web: WebHouse) -> None:
    text = text_of(web.browser("customer"))
    assert "Une machine n’a encore jamais été sauvegardée" in text
    assert "choisissez les dossiers à sauvegarder" in text


def test_the_number_in_the_menu_is_counted_at_most_every_few_seconds(
    web: WebHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = web.browser("admin")
    web.clock.tick(attention.COUNT_LIFE_S)
    asked: list[object] = []
    real = control_room.rows
    monkeypatch.setattr(control_room, "rows", lambda *a, **k: asked.append(1) or real(*a, **k))  # type: ignore[func-returns-value]
    browser.get("/spaces/none")
    for path in ("/contracts", "/contracts", "/statistics"):
        assert "sidebar-count" in browser.get(path).get_data(as_text=True)
    assert len(asked) == 1
    web.clock.tick(attention.COUNT_LIFE_S)
    browser.get("/contracts")
    assert len(asked) == 2
    # An act makes it count anew; the room asks once for itself and the menu.
    browser.post("/language", {"language": "fr"})
    browser.get("/")
    assert len(asked) == 3


def test_the_number_in_the_menu_is_the_readers_own(web: WebHouse) -> None:
    alarms.sound(web.house.db, "clock", "wrong", now=NOW)
    numbers = {}
    for who in ("super", "admin", "customer"):
        page = web.browser(who).get("/").get_data(as_text=True)
        numbers[who] = int(re.findall(r'sidebar-count">(\d+)', page)[0])
    assert numbers == {"super": 4, "admin": 2, "customer": 1}


def test_pages_never_tear_a_customer(web: WebHouse) -> None:
    for number in range(10, 14):
        enrol(web.house.db, web.house.ours, number, f"PC-{number}")
    customers = control_room.by_customer(control_room.rows(web.house.db, EVERYTHING, NOW))
    assert {one.client_id: len(one.machines) for one in customers} == {"ours": 5, "next": 1, "away": 1}
    pages = paged(customers, 2)
    assert [[one.client_id for one in page] for page in pages] == [["away", "next"], ["ours"]]
    assert paged([], 2) == [[]]


def test_a_customer_is_as_bad_as_its_worst_machine(web: WebHouse) -> None:
    backup(web, NOW - HOUR, size=60 * 10**9)
    enrol(web.house.db, web.house.ours, 9, "PC-9")
    [ours] = control_room.by_customer(control_room.rows(web.house.db, EVERYTHING, NOW, contract_id=web.house.ours.id))
    assert isinstance(ours, Customer) and ours.worst is State.NEVER and ours.over_quota
    assert [row.name for row in ours.machines] == ["PC-9", "PC-1"]


def test_addresses_put_together_by_hand_are_the_routers(web: WebHouse) -> None:
    with web.app.test_request_context("/"):
        bound = web.app.url_map.bind("")
        assert bound.match(places.statistics(machine="ab").partition("?")[0])[0] == "statistics.index"
        assert bound.match(places.logs(contract="c1").partition("?")[0])[0] == "logs.index"
        assert bound.match(places.contract("c1")) == ("contracts.detail", {"contract_id": "c1"})
        assert bound.match(places.machine("ab")) == ("machines.detail", {"machine": "ab"})
        assert places.logs(contract="c 1&x") == "/logs?contract=c+1%26x" and places.logs() == "/logs"


def test_a_machine_that_will_be_deleted_says_when(web: WebHouse) -> None:
    machine = web.house.machine
    deletions.request(web.house.db, EVERYTHING, deletions.Kind.MACHINE, machine.hex, by="a@example.org", now=NOW)
    assert "suppression le 22/01/2027" in text_of(web.browser("admin"))
