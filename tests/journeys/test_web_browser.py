"""An administrator's day in a real Chromium, on a real appliance with a real agent: from login to a restored file."""

from __future__ import annotations

import random
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.support.chromium import WIDTHS, chromium, log_in, new_page
from tests.support.faults import TcpProxy
from tests.support.processes import PASSWORD, Agent, House

pytestmark = pytest.mark.whole_service

_WIDE = (
    "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    ".map(e => `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 60)}`).slice(0, 6)"
)
"""What sticks out of a page."""
STEP_S = 30
PATIENT_MS = 40_000
expect.set_options(timeout=PATIENT_MS)


@dataclass(slots=True)
class Seat:
    """Somebody before a screen. `problems` are what the browser's console said that it should not."""

    page: Page
    house: House
    problems: list[str] = field(default_factory=list)

    def goto(self, path: str) -> None:
        """Type an address of the appliance."""
        self.page.goto(self.house.appliance.web + path)

    def press(self, name: str | re.Pattern[str]) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name).first.click()

    def code(self) -> None:
        """Type a code that was not used yet into the form that asks for it; codes of the next half minute count."""
        secret = self.house.admin.totp_secret
        for _ in range(5):
            self.page.locator("input[name=code]").fill(pyotp.TOTP(secret).at(int(time.time()) + STEP_S))
            self.page.locator("main form button.btn-primary, main form button.btn-danger").first.click()
            self.page.wait_for_load_state()
            if not self.page.locator("input[name=code].is-invalid").count():
                return
            self.page.wait_for_timeout(10_000)
        raise AssertionError("no code was accepted")


@pytest.fixture
def seat(house: House) -> Iterator[Seat]:
    """The house's super-user, logged in with both factors."""
    with chromium() as browser:
        context, page = new_page(browser, "desktop")
        page.set_default_timeout(PATIENT_MS)
        made = Seat(page, house)
        page.on("console", lambda m: made.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: made.problems.append(str(error)))
        log_in(page, house.appliance.web, house.admin.email, PASSWORD, house.admin.totp_secret)
        yield made
        context.close()
    assert not made.problems, made.problems


def make_contract(seat: Seat) -> str:
    """Through the form; the enrolment code that the page then shows."""
    seat.goto("/contracts")
    seat.page.get_by_role("link", name="Nouveau contrat").first.click()
    seat.page.get_by_label("Client", exact=True).fill("Pharmacie du Marché")
    seat.page.get_by_label("Adresse e-mail").fill("contact@pharmacie.example")
    seat.page.get_by_label("Espace alloué").fill("1,5")
    seat.press("Créer le contrat")
    expect(seat.page.get_by_role("heading", name="Pharmacie du Marché")).to_be_visible()
    if not seat.page.locator("[data-copy-source]", has_text="PIL1-").count():
        seat.press("Générer un code")
    return seat.page.locator("[data-copy-source]", has_text="PIL1-").first.inner_text().strip()


def backed_up(seat: Seat, tmp_path: Path, code: str) -> Agent:
    """An agent that enrols with the page's code and backs up over a slow line, watched on the page."""
    source = tmp_path / "pharmacie"
    source.mkdir()
    for number in range(80):
        (source / f"scan-{number}.jpg").write_bytes(random.Random(number).randbytes(1 << 20))
    agent = Agent(tmp_path / "agent")
    agent.enrol(code, "COMPTOIR-1")
    agent.command("select", "include", str(source))
    with TcpProxy(seat.house.appliance.address, 8 << 20) as proxy:
        agent.by_way_of(proxy.address)
        seat.goto("/running")
        running = agent.start("backup")
        expect(seat.page.get_by_role("link", name="COMPTOIR-1").first).to_be_visible()
        # A first backup does not know its total: the bar moves without a share, the volume grows. What is told of it
        # waits behind 32 MiB of segments on a slow line.
        expect(seat.page.locator("progress").first).to_be_visible()
        expect(seat.page.locator(".running-facts").first).to_contain_text(re.compile(r"[1-9][0-9,]*\sMo"))
        assert running.wait().code == 0
    agent.by_way_of(seat.house.appliance.address)
    expect(seat.page.locator("progress")).to_have_count(0)
    return agent


def test_from_a_contract_to_a_finished_backup_and_a_restored_file(seat: Seat, tmp_path: Path) -> None:
    code = make_contract(seat)
    agent = backed_up(seat, tmp_path, code)
    seat.goto("/")
    expect(seat.page.get_by_text("COMPTOIR-1").first).to_be_visible()
    expect(seat.page.locator(".state-ok").first).to_contain_text("À jour")
    seat.goto(f"/statistics?machine={agent.machine}")
    expect(seat.page.get_by_role("row", name=re.compile("COMPTOIR-1|80 full"))).not_to_have_count(0)
    seat.goto(f"/logs?machine={agent.machine}")
    expect(seat.page.get_by_text(re.compile("Backup ok")).first).to_be_visible()
    seat.goto("/audit")
    expect(seat.page.get_by_text("Pharmacie du Marché").first).to_be_visible()
    seat.goto(f"/machines/{agent.machine}/restore")
    seat.code()
    expect(seat.page.get_by_role("heading", name="Dossiers à restaurer")).to_be_visible()
    seat.page.get_by_label("Chercher un nom").fill("scan-7")
    seat.press("Chercher")
    seat.page.locator("tbody input[type=checkbox]").first.check()
    seat.press("Ajouter à la liste")
    with seat.page.expect_download() as waiting:
        seat.press("Télécharger (zip)")
    saved = tmp_path / "back.zip"
    waiting.value.save_as(saved)
    with zipfile.ZipFile(saved) as archive:
        name = next(name for name in archive.namelist() if name.endswith("scan-7.jpg"))
        assert archive.read(name) == random.Random(7).randbytes(1 << 20)


def test_an_alert_says_what_to_do_and_goes_when_it_is_over(seat: Seat, tmp_path: Path) -> None:
    _, code = seat.house.contract("officine-centrale")
    agent = Agent(tmp_path / "agent")
    agent.enrol(code, "SERVEUR")
    seat.goto("/alerts")
    expect(seat.page.get_by_text("SERVEUR").first).to_be_visible()
    expect(seat.page.locator(".sidebar-count")).to_contain_text("1")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one").write_bytes(b"1")
    agent.command("select", "include", str(tmp_path / "source"))
    agent.backup()
    seat.page.reload()
    expect(seat.page.locator(".sidebar-count")).to_have_count(0)


def test_languages_look_and_widths(seat: Seat) -> None:
    seat.house.contract("officine-centrale")
    page = seat.page
    seat.goto("/contracts")
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    page.get_by_role("button", name="Langue").click()
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.locator(".topbar-end .dropdown:has(form[action$='/language']) > button").click()
    page.get_by_role("button", name="Français").click()
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    page.locator("[data-mode-toggle]").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    seat.goto("/settings")
    page.get_by_role("button", name=re.compile("default", re.I)).first.click()
    page.get_by_label("Nom du produit").fill("Officine Sauvegarde")
    page.get_by_label("Couleur des bandeaux").fill("#7a1f3d")
    page.get_by_role("button", name="Enregistrer").first.click()
    expect(page.locator(".topbar-brand")).to_contain_text("Officine Sauvegarde")
    bar = page.evaluate("getComputedStyle(document.querySelector('.topbar')).backgroundColor")
    assert bar == "rgb(122, 31, 61)", "the space's colour is the bar's"
    page.set_viewport_size({"width": WIDTHS["phone"][0], "height": WIDTHS["phone"][1]})
    for path in ("/", "/contracts", "/running", "/alerts", "/statistics", "/logs", "/accounts", "/profile", "/system"):
        seat.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"][0], (path, page.evaluate(_WIDE))
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("link", name="Statistiques")).to_be_visible()
    # While it slides in it does not hear the key.
    expect(page.locator("#menu.show:not(.showing)")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Statistiques")).to_be_hidden()


def test_a_keyboard_alone_reaches_the_content_and_the_menu(seat: Seat) -> None:
    seat.goto("/contracts")
    seat.page.keyboard.press("Tab")
    assert seat.page.evaluate("document.activeElement.className") == "skip"
    seat.page.keyboard.press("Enter")
    assert seat.page.evaluate("document.activeElement.id") == "main"
    seat.page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement)"
    shown = seat.page.evaluate(f"{style}.outlineStyle !== 'none' || {style}.boxShadow !== 'none'")
    assert shown, "what has the focus shows it"


def test_a_logged_out_tab_leads_to_the_login(seat: Seat) -> None:
    seat.goto("/")
    other = seat.page.context.new_page()
    other.goto(seat.house.appliance.web + "/")
    seat.page.get_by_role("button", name="Mon compte").click()
    seat.press("Se déconnecter")
    expect(seat.page).to_have_url(re.compile("/login"))
    other.reload()
    expect(other).to_have_url(re.compile("/login"))
