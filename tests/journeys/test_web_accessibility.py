"""Every page of a filled house before axe-core, in a real Chromium: light and dark, wide and narrow, each role."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from appliance import demo_data
from appliance.control import contracts, machines, reports
from appliance.control.database import Database
from appliance.control.reports import Window
from appliance.control.scope import OneSpace
from appliance.settings import Home, Settings, initialising
from tests.support.chromium import WIDTHS, chromium, log_in, new_page, served

RULES = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, demo_data.DemoData]]:
    """A home with a small demo: every kind of thing that pages show."""
    root = tmp_path_factory.mktemp("filled") / "home"
    patch = pytest.MonkeyPatch()
    for name, value in {"CONTRACTS": 60, "MACHINES": 70, "DAYS": 4}.items():
        patch.setattr(demo_data, name, value)
    with initialising(root, Settings()) as home, Database.create(home.control_db) as db:
        made = demo_data.build(db, 1, time.time())
    patch.undo()
    yield Home.open(root), made


def pages(home: Home, role: str, space_id: str | None) -> list[str]:
    """What somebody of a role looks at."""
    common = ["/", "/contracts", "/running", "/alerts", "/statistics", "/statistics/charts", "/logs", "/profile"]
    common += ["/profile/password", "/profile/device", "/profile/recovery-codes"]
    if role == "customer":
        return common
    with Database.open(home.control_db) as db:
        assert space_id is not None
        contract = contracts.every(db, OneSpace(space_id))[0]
        machine = machines.overviews(db, OneSpace(space_id))[0].machine.hex
    staff = [*common, f"/contracts/{contract.id}", f"/machines/{machine}", f"/machines/{machine}/restore"]
    admin = [
        *("/accounts", "/accounts/invite"),
        *("/settings", "/settings/rules", "/settings/mails", "/audit", "/audit/verify"),
        *("/settings/api", "/settings/api/reference"),
        *("/contracts/new", "/contracts/monthly", _newest_backup(home, space_id)),
        *(f"/contracts/{contract.id}/edit", f"/contracts/{contract.id}/delete", f"/machines/{machine}/settings"),
    ]
    if role == "admin":
        return [*staff, *admin]
    box = ["/system", "/system/repositories", "/system/mails", "/system/doctor", "/settings/sending"]
    return [*staff, *admin, "/spaces", *box]


def _newest_backup(home: Home, space_id: str) -> str:
    """The page of one backup."""
    with Database.open(home.control_db) as db:
        found = reports.rows(db, OneSpace(space_id), Window(0, time.time() + 1), limit=1).days[0].rows[0]
    return f"/statistics/{found.machine_id.hex()}/{found.number}"


def violations(page: Page) -> list[str]:
    """What axe finds, in a line each."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [
        f"{page.url} {one['id']} ({one['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for one in found
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("role", ["super", "admin", "customer"])
def test_pages_are_accessible(filled: tuple[Home, demo_data.DemoData], role: str) -> None:
    home, made = filled
    account = next(one for one in made.accounts if one.role == role)
    with Database.open(home.control_db) as db:
        space_id = db.value("SELECT id FROM space ORDER BY created_at LIMIT 1")
    wrong: list[str] = []
    with served(home.root) as address, chromium() as browser:
        for width, dark in (("desktop", False), ("phone", True)):
            context, page = new_page(browser, width, dark=dark)
            for path in ("/login", "/password/forgotten", "/password/forgotten?sent=1", "/password/expired"):
                page.goto(address + path)
                wrong += violations(page)
            log_in(page, address, account.email, demo_data.PASSWORD, account.totp_secret)
            for path in pages(home, role, space_id):
                answer = page.goto(address + path)
                if answer is None or answer.status != 200:
                    wrong.append(f"{path}: {answer.status if answer else 'no answer'}")
                    continue
                wrong += violations(page)
                if page.evaluate("document.documentElement.scrollWidth") > WIDTHS[width][0]:
                    wrong.append(f"{path} is wider than a {width}")
            context.close()
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_axe_finds_what_is_wrong(tmp_path: Path) -> None:
    """The check can fail: a page without language, title or labels is full of findings."""
    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src='x.png'><input><p style='color:#ccc;background:#fff'>pale</p></body></html>")
    with chromium() as browser:
        context, page = new_page(browser, "desktop")
        page.goto(bad.as_uri())
        assert len(violations(page)) >= 4
        context.close()
