"""The month's figures for invoices: by space, as page and CSV, for managers."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.control import contracts, statistics
from appliance.control.contracts import Changes
from tests.support.control_house import NOW, figures
from tests.webui.test_contracts import sheet, text
from tests.webui.web_house import WebHouse
from webui.monthly import Month, listed, present, utc_day

GB = 10**9


def backups(web: WebHouse) -> Month:
    """Two backups in the month of NOW, the larger one first; that month."""
    db, machine = web.house.db, web.house.machine
    statistics.record(db, machine.id, 1, complete=True, figures=figures(60 * GB), now=NOW + 3600)
    statistics.record(db, machine.id, 2, complete=True, figures=figures(40 * GB), now=NOW + 2 * 86400)
    return present(NOW)


def test_months_go_back_two_years_over_the_new_year() -> None:
    at = datetime(2026, 2, 15, tzinfo=UTC).timestamp()
    months = listed(at)
    assert [month.text for month in months[:3]] == ["2026-02", "2026-01", "2025-12"]
    assert len(months) == 24 and months[-1].text == "2024-03"


def test_the_month_that_is_over_comes_first(web: WebHouse) -> None:
    browser = web.browser("admin")
    before = present(web.clock.at).before()
    page = text(browser, "/contracts/monthly")
    assert f'<option value="{before.text}" selected>' in page
    assert "Ce mois n’est pas terminé" not in page
    assert "Ce mois n’est pas terminé" in text(browser, f"/contracts/monthly?month={present(web.clock.at).text}")
    assert f'<option value="{before.text}" selected>' in text(browser, "/contracts/monthly?month=nonsense")


def test_a_month_before_anything_says_so(web: WebHouse) -> None:
    page = text(web.browser("admin"), "/contracts/monthly?month=2001-01")
    assert "Rien à facturer" in page and "janvier 2001" in page


def test_volume_at_the_end_and_at_the_peak(web: WebHouse) -> None:
    contracts.edit(web.house.db, web.house.ours, Changes(allocated_bytes=50 * GB))
    month = backups(web)
    page = text(web.browser("admin"), f"/contracts/monthly?month={month.text}")
    assert "40\xa0Go" in page and "60\xa0Go" in page and "Au-delà du volume alloué" in page
    assert "away@example.org" not in page


def test_the_csv_is_for_an_invoicing_program(web: WebHouse) -> None:
    month = backups(web)
    contracts.edit(web.house.db, web.house.ours, Changes(client_id="@SUM(1)"))
    browser = web.browser("super")
    lines = sheet(browser, f"/contracts/monthly.csv?month={month.text}")
    assert {line[1] for line in lines[1:]} == {"near", "far"}
    own = next(line for line in lines if line[2] == web.house.ours.id)
    assert own[0] == month.text and own[3] == "'@SUM(1)"
    assert own[6:10] == [str(40 * GB), "40,000", str(60 * GB), "60,000"]
    assert own[12:14] == ["1", "2"]
    only = sheet(browser, f"/contracts/monthly.csv?month={month.text}&space={web.house.elsewhere.space_id}")
    assert {line[1] for line in only[1:]} == {"far"}
    answer = browser.get(f"/contracts/monthly.csv?month={month.text}")
    assert f'filename="pilulier-{month.text}.csv"' in answer.headers["Content-Disposition"]


def test_an_admin_gets_no_other_spaces_figures(web: WebHouse) -> None:
    month = backups(web)
    browser = web.browser("admin")
    far = web.house.elsewhere.space_id
    assert len(sheet(browser, f"/contracts/monthly.csv?month={month.text}&space={far}")) == 1
    for who in ("support", "customer"):
        assert web.browser(who).get("/contracts/monthly.csv").status_code == 403


def test_all_spaces_are_an_overview_each_with_its_own_page(web: WebHouse) -> None:
    month = backups(web)
    browser = web.browser("super")
    page = text(browser, f"/contracts/monthly?month={month.text}")
    assert "Somme des pics" in page and "ours@example.org" not in page
    near = f"/contracts/monthly?month={month.text}&amp;space={web.house.ours.space_id}"
    assert f'href="{near}"' in page and page.rindex(">far<") < page.rindex(">near<")
    page = text(browser, near.replace("&amp;", "&"))
    assert "ours@example.org" in page and "away@example.org" not in page


def test_the_last_night_of_a_month_is_its_own() -> None:
    # In Paris it is the first of November by then.
    assert str(utc_day(datetime(2026, 10, 31, 23, 30, tzinfo=UTC).timestamp())) == "2026-10-31"
    assert utc_day(None) is None
