"""Statistics: backups by day with all their columns, what each was made with, charts, files for spreadsheets."""

from __future__ import annotations

import csv
import io
import re

import pytest

from appliance.control import configurations, reports, statistics
from appliance.control.configurations import MachineConfiguration
from appliance.control.machines import Machine
from tests.support.control_house import NOW
from tests.webui.web_house import WebHouse
from transport.messages import BackupFigures
from webui import formats

NB = "\u00a0"
HEAVY = BackupFigures(28933, 29, 0, 28900, 2, 1, 3_864_000_000, 200, 153_900_000, 50, 2297.0, 2238.0, 3)


def backups(web: WebHouse, machine: Machine, count: int, *, every_s: float = 86400.0, first: float = NOW) -> None:
    for number in range(1, count + 1):
        at = first - (count - number) * every_s
        statistics.record(web.house.db, machine.id, number, complete=number % 5 != 3, figures=HEAVY, now=at)


@pytest.fixture
def busy(web: WebHouse) -> WebHouse:
    """Ours has two backups, its neighbour and the other space one each."""
    house = web.house
    backups(web, house.machine, 2)
    backups(web, house.neighbour_machine, 1, first=NOW - 60)
    backups(web, house.elsewhere_machine, 1, first=NOW - 120)
    used = MachineConfiguration("3.7.5", "Windows-7-6.1", 4711, "ab" * 32, 7, 1)
    configurations.record(house.db, house.machine.id, 2, used)
    return web


def text(answer: object) -> str:
    return re.sub(r"[ \n]+", " ", answer.get_data(as_text=True))  # type: ignore[attr-defined]


def test_a_row_says_all_that_the_day_asks_for(busy: WebHouse) -> None:
    page = text(busy.browser("admin").get("/statistics"))
    for told in (
        *(f"153,9{NB}Mo", "29 full · 0 diff", f"37{NB}min 18{NB}s", f"3,9{NB}Go", f"3,98{NB}%", f"38{NB}min 17{NB}s"),
        *(
            "3.7.5",
            "Windows-7-6.1",
            "pid 4711",
            "3 avertissements",
            "vendredi 15 janvier 2027",
        ),
    ):
        assert told in page, told
    for action in ("Configuration", "Logs", "Fichiers"):
        assert f">{action}</a>" in page


def test_everybody_sees_their_own_and_nobody_elses(busy: WebHouse) -> None:
    hexes = {name: getattr(busy.house, name).id.hex() for name in ("machine", "neighbour_machine", "elsewhere_machine")}
    seen = {
        "super": {"machine", "neighbour_machine", "elsewhere_machine"},
        "admin": {"machine", "neighbour_machine"},
        "support": {"machine", "neighbour_machine"},
        "customer": {"machine"},
    }
    for who, wanted in seen.items():
        browser = busy.browser(who)
        for path in ("/statistics", "/statistics.csv"):
            page = text(browser.get(path))
            for name, machine in hexes.items():
                client = {"machine": "ours", "neighbour_machine": "next", "elsewhere_machine": "away"}[name]
                there = f"/machines/{machine}" in page if path == "/statistics" else f";{client};" in page
                assert there == (name in wanted), (who, path, name)


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
def test_foreign_ids_are_not_found(busy: WebHouse, who: str) -> None:
    browser, house = busy.browser(who), busy.house
    far, other = house.elsewhere_machine.id.hex(), house.elsewhere.id
    for path in ("/statistics", "/statistics/charts", "/statistics.csv"):
        assert browser.get(f"{path}?machine={far}").status_code == 404
        assert browser.get(f"{path}?contract={other}").status_code == 404
        # A space that is not theirs is no choice at all.
        assert browser.get(f"{path}?space={house.elsewhere.space_id}").status_code == 200
    assert browser.get(f"/statistics/{far}/1").status_code == 404
    assert browser.get(f"/statistics/{house.machine.id.hex()}/99").status_code == 404
    assert browser.get(f"/statistics/{house.machine.id.hex()}/{2**70}").status_code == 404
    assert browser.get("/statistics/nonsense/1").status_code == 404
    assert browser.get("/statistics?machine=nonsense").status_code == 404


def test_filters_narrow(busy: WebHouse) -> None:
    browser, house = busy.browser("super"), busy.house
    ours, neighbour, far = (f"/machines/{one.id.hex()}" for one in (
        house.machine, house.neighbour_machine, house.elsewhere_machine))  # fmt: skip
    page = text(browser.get(f"/statistics?space={house.ours.space_id}"))
    assert ours in page and neighbour in page and far not in page
    page = text(browser.get(f"/statistics?contract={house.neighbour.id}"))
    assert ours not in page and neighbour in page
    page = text(browser.get(f"/statistics?machine={house.machine.id.hex()}"))
    assert ours in page and neighbour not in page
    assert '<option value="30" selected>' in page


def test_what_was_chosen_last_counts(busy: WebHouse) -> None:
    browser, house = busy.browser("super"), busy.house
    machine = house.machine.id.hex()
    # The form still holds the machine of the contract chosen before.
    page = text(browser.get(f"/statistics?contract={house.neighbour.id}&machine={machine}"))
    assert f"/machines/{house.neighbour_machine.id.hex()}" in page and f"/machines/{machine}" not in page
    page = text(browser.get(f"/statistics?space={house.elsewhere.space_id}&contract={house.ours.id}"))
    assert f"/machines/{house.elsewhere_machine.id.hex()}" in page
    page = text(browser.get("/statistics?days=7&was=30&from=2027-01-01&to=2027-01-02"))
    assert '<option value="7" selected>' in page
    page = text(browser.get("/statistics?days=30&was=30&from=2027-01-01&to=2027-01-02"))
    assert 'value="2027-01-01"' in page and "Dates choisies" in page


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("from=2026-02-31", "Cette date n’en est pas une"),
        ("from=2027-02-01&to=2027-01-01", "La période commence après sa fin"),
        ("from=1901-01-01&to=2027-01-01", "Cette période est trop longue"),
        ("from=0001-01-01&to=9999-12-31", "Cette période est trop longue"),
        ("to=0001-01-01", ""),
    ],
)
def test_a_period_that_makes_no_sense_is_said_beside_it(busy: WebHouse, query: str, sentence: str) -> None:
    answer = busy.browser("admin").get(f"/statistics?{query}")
    assert answer.status_code == 200
    assert sentence in text(answer)


def test_pages_follow_one_another_without_gap_or_repetition(web: WebHouse) -> None:
    backups(web, web.house.machine, 150, every_s=1800)
    browser = web.browser("admin")
    found: list[str] = []
    path: str | None = "/statistics"
    while path:
        page = browser.get(path).get_data(as_text=True)
        found += re.findall(r"/statistics/[0-9a-f]{32}/(\d+)#files", page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert found == [str(number) for number in range(150, 0, -1)]
    assert browser.get("/statistics?cursor=nonsense").status_code == 200


def test_one_backup_tells_its_files_in_numbers_and_its_configuration(busy: WebHouse) -> None:
    machine = busy.house.machine.id.hex()
    page = text(busy.browser("customer").get(f"/statistics/{machine}/2"))
    for told in ("28\u202f933", "29", "28\u202f900", "n’arrivent jamais ici en clair", "ab" * 32, "4711", "7 jours"):
        assert told in page, told
    page = text(busy.browser("admin").get(f"/statistics/{machine}/1"))
    assert "n’est pas connue" in page


def test_logs_of_a_backup_are_those_of_its_time(busy: WebHouse) -> None:
    page = busy.browser("admin").get(f"/statistics?machine={busy.house.machine.id.hex()}").get_data(as_text=True)
    link = re.search(r'href="(/logs\?[^"]+)"', page)
    assert link is not None
    assert f"machine={busy.house.machine.id.hex()}" in link[1]
    assert f"until={formats.minute(NOW + 120)}" in link[1]


def test_the_file_for_spreadsheets_holds_plain_numbers(busy: WebHouse) -> None:
    answer = busy.browser("customer").get("/statistics.csv")
    assert answer.mimetype == "text/csv"
    assert re.search(r'filename="statistiques-[0-9-]+\.csv"', answer.headers["Content-Disposition"])
    content = answer.get_data(as_text=True)
    assert content.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(content[1:]), delimiter=";"))
    assert len(rows) == 2
    assert rows[0]["Transfert (octets)"] == "153900000"
    assert rows[0]["Ratio (%)"] == "3,9829"
    assert rows[0]["Durée totale (s)"] == "2297,0"
    assert rows[0]["PID"] == "4711" and rows[1]["PID"] == ""


def test_charts_stand_in_the_page_with_their_numbers_beside_them(busy: WebHouse) -> None:
    answer = busy.browser("admin").get("/statistics/charts?days=7")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert page.count('<svg class="chart" role="img"') == 5
    assert page.rstrip().endswith("</html>")
    assert "Les mêmes chiffres en tableau" in page
    assert " style=" not in page and "<style" not in page
    # A machine alone is not held against what its contract was allocated.
    page = busy.browser("admin").get(f"/statistics/charts?machine={busy.house.machine.id.hex()}").get_data(as_text=True)
    assert page.count('<svg class="chart" role="img"') == 4


def test_what_stands_above_a_chart_leaves_before_the_chart_is_drawn(
    busy: WebHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def draw(figure: object) -> str:
        drawn.append("x")
        return "<svg></svg>"

    counted = reports.series

    def series(*arguments: object) -> object:
        drawn.append("counted")
        return counted(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("webui.statistics.drawn", draw)
    monkeypatch.setattr("appliance.control.reports.series", series)
    browser = busy.browser("admin")
    answer = browser.client.get("/statistics/charts", buffered=False)
    pieces = iter(answer.response)
    first = next(pieces)
    assert first and not drawn
    rest = list(pieces)
    assert rest and drawn == ["counted", *["x"] * 5]
    answer.close()


def test_an_empty_period_says_what_to_do(web: WebHouse) -> None:
    browser = web.browser("customer")
    assert "Aucune sauvegarde sur cette période" in text(browser.get("/statistics"))
    assert "Rien à dessiner sur cette période" in text(browser.get("/statistics/charts"))
    assert browser.get("/statistics.csv").status_code == 200


def test_names_of_customers_are_escaped(busy: WebHouse) -> None:
    with busy.house.db.write():
        busy.house.db.execute("UPDATE machine SET name = '<b>x', agent_version = '<i>', platform = '<u>'")
        busy.house.db.execute("DELETE FROM snapshot_configuration")
    browser = busy.browser("admin")
    for path in ("/statistics", "/statistics/charts", f"/statistics/{busy.house.machine.id.hex()}/2"):
        page = browser.get(path).get_data(as_text=True)
        assert "<b>x" not in page and "<i>" not in page and "<u>" not in page
