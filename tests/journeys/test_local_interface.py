"""The local interface in a real Chromium, on a real agent and a real appliance: from a tick to a file of yesterday."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.journeys.test_deliveries import send
from tests.support.chromium import WIDTHS, chromium, new_page
from tests.support.faults import TcpProxy, wait_until
from tests.support.processes import Agent, House, Running
from tests.support.web_scene import opened_scene

PATIENT_MS = 40_000
expect.set_options(timeout=PATIENT_MS)
RULES = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """The first folder of its own: the tree shows the way to it, and pages what other tests have left beside."""
    with tempfile.TemporaryDirectory(prefix="0-officine-") as folder:
        yield Path(folder)


@dataclass(slots=True)
class Desk:
    """A machine with its interface open, in French. `problems` are what the browser's console said."""

    house: House
    agent: Agent
    source: Path
    page: Page
    base: str
    problems: list[str] = field(default_factory=list)

    def goto(self, path: str = "/") -> None:
        """A page of the interface."""
        self.page.goto(self.base + path)

    def press(self, name: str | re.Pattern[str]) -> None:
        """A button."""
        self.page.get_by_role("button", name=name, exact=isinstance(name, str)).first.click()


def pharmacy(folder: Path) -> Path:
    """What a machine of a pharmacy has, hostile names included."""
    source = folder / "pharmacie"
    (source / "ordonnances").mkdir(parents=True)
    (source / "cache").mkdir()
    for number in range(20):
        (source / "ordonnances" / f"ordonnance-{number:02}.txt").write_text(f"ordonnance {number}\n" * 40)
    (source / "stock.csv").write_text("doliprane;12\n")
    (source / "cache" / "temporaire").write_text("rien\n")
    (source / "<img src=x onerror=alert(1)>").write_text("piège\n")
    with open(os.fsencode(source) + b"/caf\xe9", "wb") as file:
        file.write(b"latin-1\n")
    return source


def address_of(agent: Agent) -> str:
    """A new address that opens the interface once."""
    return str(agent.command("ui").document["url"])


def serving(agent: Agent) -> Running:
    """The agent's service, ready."""
    running = agent.start("run")
    wait_until(lambda: "\n" in running.text("stdout"), "the service is ready")
    return running


def sit_down(browser: Browser, desk: tuple[House, Agent, Path], width: str = "desktop", *, dark: bool = False) -> Desk:
    """A browser that opens the interface by its address."""
    house, agent, source = desk
    _context, page = new_page(browser, width, dark=dark)
    page.set_default_timeout(PATIENT_MS)
    page.goto(address_of(agent))
    page.wait_for_url(re.compile(r"/[\w-]+/$"))
    made = Desk(house, agent, source, page, page.url.rstrip("/"))
    page.on("console", lambda message: made.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: made.problems.append(str(error)))
    page.on("dialog", lambda dialog: made.problems.append(f"a script of a name ran: {dialog.message}"))
    return made


@pytest.fixture
def office(house: House, tmp_path: Path) -> Iterator[tuple[House, Agent, Path]]:
    """A house, an agent whose service runs in French with nothing selected, and what it could back up."""
    source = pharmacy(tmp_path)
    agent = house.agent(name="COMPTOIR-1")
    agent.config = agent.config | {"language": "fr"}
    serving(agent)
    yield house, agent, source


@pytest.fixture
def desk(office: tuple[House, Agent, Path]) -> Iterator[Desk]:
    """Somebody before it."""
    with chromium() as browser:
        made = sit_down(browser, office)
        yield made
        made.page.context.close()
    assert not made.problems, made.problems


def open_way(desk: Desk, path: Path) -> None:
    """Open one folder after the other, as a person does."""
    for name in path.parts[1:]:
        opener = desk.page.get_by_role("button", name=f"Ouvrir {name}", exact=True).last
        if opener.get_attribute("aria-expanded") == "false":
            opener.click()
        expect(opener).to_have_attribute("aria-expanded", "true")


def test_from_a_tick_to_a_file_of_the_first_backup(desk: Desk, tmp_path: Path) -> None:
    page, source = desk.page, desk.source
    expect(page.get_by_role("heading", name="Rien n’est sauvegardé")).to_be_visible()
    open_way(desk, source.parent)
    # A tick turns green, and what is below inherits it.
    page.get_by_role("button", name="Sauvegarder pharmacie", exact=True).click()
    tick = page.get_by_role("button", name="Sauvegarder pharmacie", exact=True)
    expect(tick).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tree-included")).to_contain_text("pharmacie")
    open_way(desk, source)
    inherited = page.get_by_role("button", name="Sauvegarder ordonnances", exact=True)
    expect(inherited).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tree-inherited", has_text="ordonnances")).to_contain_text("avec son dossier")
    # A cross turns red, and the folder above is partly taken.
    page.get_by_role("button", name="Exclure cache", exact=True).click()
    expect(page.get_by_role("button", name="Exclure cache", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tree-included.tree-mixed", has_text="pharmacie")).to_contain_text("en partie")
    chosen = desk.agent.command("select", "show").document
    assert chosen == {"include": [str(source)], "exclude": [str(source / "cache")]}
    expect(page.locator("#chosen")).to_contain_text("23 fichiers")
    # Back up, change, back up again.
    desk.press(re.compile("Sauvegarder maintenant"))
    expect(page.get_by_role("heading", name="Tout est sauvegardé")).to_be_visible()
    (source / "stock.csv").write_text("doliprane;0\n")
    desk.press(re.compile("Sauvegarder maintenant"))
    wait_until(lambda: len(desk.agent.command("snapshots").document) == 2, "the second backup is there")
    expect(page.get_by_role("button", name=re.compile("Sauvegarder maintenant"))).to_be_enabled()
    restore_the_old_one(desk, tmp_path)
    desk.goto("/journal/")
    expect(page.locator(".journal")).to_contain_text("Restauration terminée")
    expect(page.locator(".journal > li", has_text="Sauvegarde réussie")).to_have_count(2)
    expect(page.locator(".journal").first).to_contain_text("demandée ici")


def restore_the_old_one(desk: Desk, tmp_path: Path) -> None:
    """The first version of a file, by a code, to a new folder; then another with the same code, in place."""
    page, source = desk.page, desk.source
    account = desk.house.account()
    page.get_by_role("link", name="Restauration").click()
    page.locator(".times a").last.click()
    # Found by a part of its name, whatever its case.
    page.get_by_label("Chercher un nom").fill("STOCK")
    page.get_by_role("button", name="Chercher", exact=True).click()
    expect(page.get_by_text("1 nom contient")).to_be_visible()
    page.get_by_role("button", name=re.compile("Restaurer .*pharmacie.stock.csv")).click()
    expect(page.locator("#list-part")).to_contain_text("1 fichier")
    expect(page.locator(".tree-included")).to_contain_text("stock.csv")
    page.get_by_role("button", name="Restaurer…").click()
    target = tmp_path / "retour"
    page.get_by_label("Nouveau dossier", exact=True).fill(str(target))
    page.get_by_label("Adresse e-mail").fill(account.email)
    page.get_by_label("Code à 6 chiffres").fill("000000")
    desk.press("Restaurer")
    expect(page.locator("#code-error")).to_contain_text("n’est pas le bon")
    expect(page.get_by_label("Nouveau dossier", exact=True)).to_have_value(str(target))
    page.get_by_label("Code à 6 chiffres").fill(account.code())
    desk.press("Restaurer")
    expect(page.get_by_role("heading", name="Restauration terminée")).to_be_visible()
    assert (target / source.relative_to("/") / "stock.csv").read_text() == "doliprane;12\n"
    assert (source / "stock.csv").read_text() == "doliprane;0\n", "what is on the disk was not touched"
    desk.press("Continuer")
    # In place: the newer file stays, and is named; no second code within a quarter of an hour.
    page.locator(".times a").last.click()
    page.get_by_role("button", name="Restaurer stock.csv", exact=True).click()
    page.get_by_role("button", name="Restaurer…").click()
    expect(page.get_by_text("Votre code est encore valable")).to_be_visible()
    page.get_by_label("À leur place d’origine").check()
    expect(page.locator("#standing")).to_contain_text("dont 1 changé depuis la sauvegarde")
    desk.press("Restaurer")
    expect(page.get_by_role("heading", name="sauf quelques fichiers")).to_be_visible()
    expect(page.locator(".named")).to_contain_text("plus récent que la sauvegarde")
    assert (source / "stock.csv").read_text() == "doliprane;0\n"
    desk.press("Continuer")
    page.get_by_role("button", name="Restaurer…").click()
    page.get_by_label("À leur place d’origine").check()
    page.get_by_label(re.compile("Remplacer aussi")).check()
    desk.press("Restaurer")
    expect(page.get_by_role("heading", name="Restauration terminée")).to_be_visible()
    assert (source / "stock.csv").read_text() == "doliprane;12\n"
    desk.press("Continuer")


def test_a_recovered_machine_shows_and_restores_what_the_burnt_one_left(house: House, tmp_path: Path) -> None:
    burnt = house.agent(pharmacy(tmp_path), name="comptoir-1")
    burnt.backup()
    key = tmp_path / "key.json"
    burnt.command("key", "export", "--out", str(key))
    source = tmp_path / "pharmacie"
    shutil.rmtree(source)
    new, account, other = Agent(tmp_path / "new"), house.account(), house.account()
    new.command(
        *("recover", "--key", str(key), "--account", account.email, "--otp", account.code()),
        *("--password-file", str(house.password_file)),
    )
    new.config = new.config | {"language": "fr"}
    running = serving(new)
    with chromium() as browser:
        desk = sit_down(browser, (house, new, source))
        desk.goto("/restore/")
        desk.page.get_by_role("button", name="Restaurer pharmacie", exact=True).click()
        desk.page.get_by_role("button", name="Restaurer…").click()
        desk.page.get_by_label("À leur place d’origine").check()
        desk.page.get_by_label("Adresse e-mail").fill(other.email)
        desk.page.get_by_label("Code à 6 chiffres").fill(other.code())
        desk.press("Restaurer")
        expect(desk.page.get_by_role("heading", name="Restauration terminée")).to_be_visible()
        assert (source / "stock.csv").read_text() == "doliprane;12\n"
        assert not desk.problems, desk.problems
    running.signal(signal.SIGTERM)
    assert running.wait().code == 0


def test_a_copy_on_site_is_added_written_and_removed(house: House, tmp_path: Path) -> None:
    source = pharmacy(tmp_path)
    agent = house.agent(source)
    agent.config = agent.config | {"language": "fr"}
    (tmp_path / "nas").mkdir()
    serving(agent)
    with chromium() as browser:
        desk = sit_down(browser, (house, agent, source))
        page = desk.page
        for wrong, said in (
            (str(source / "cache"), "est lui-même sauvegardé"),
            (str(agent.home / "here"), "dossier de Pilulier lui-même"),
            ("nas", "chemin complet"),
            (str(source / "stock.csv" / "x"), "est lui-même sauvegardé"),
        ):
            desk.goto("/settings/")
            page.get_by_label("Dossier sur le disque ou le NAS").fill(wrong)
            desk.press("Ajouter cette copie")
            expect(page.locator(".alert-danger")).to_contain_text(said)
        page.get_by_label("Dossier sur le disque ou le NAS").fill(str(tmp_path / "nas"))
        page.get_by_label("Garder, en jours").fill("30")
        page.get_by_label("Au plus, en Go").fill("0,5")
        desk.press("Ajouter cette copie")
        expect(page.locator("#copies-part")).to_contain_text("pas encore écrite")
        (copy,) = agent.command("onsite", "list").document
        assert (copy["keep_days"], copy["limit"]) == (30, 500_000_000)
        page.get_by_label("Alerter après").fill("3")
        page.locator(".copies-alert button").click()
        expect(page.get_by_text("Réglage enregistré")).to_be_visible()
        agent.backup()
        desk.goto("/settings/")
        expect(page.locator("#copies-part")).to_contain_text("à jour à la dernière sauvegarde")
        assert not violations(page)
        # The copy is nearer than the appliance, and its key is on this machine: no code is asked for.
        desk.goto("/restore/")
        page.get_by_role("button", name="Restaurer stock.csv", exact=True).click()
        page.get_by_role("button", name="Restaurer…").click()
        expect(page.get_by_text("La copie sur place « nas » est branchée")).to_be_visible()
        page.get_by_label("Nouveau dossier", exact=True).fill(str(tmp_path / "retour"))
        desk.press("Restaurer")
        expect(page.get_by_role("heading", name="Restauration terminée")).to_be_visible()
        (back,) = (tmp_path / "retour").rglob("stock.csv")
        assert back.read_text() == "doliprane;12\n"
        desk.press("Continuer")
        desk.goto("/settings/")
        page.get_by_role("button", name=re.compile("Ne plus écrire")).click()
        expect(page.locator("#copies-part")).to_contain_text("Aucune copie sur place")
        assert agent.command("onsite", "list").document == []
        assert not desk.problems, desk.problems


def asked(address: str, path: str, method: str = "GET", body: str = "", **headers: str) -> tuple[int, str]:
    """One request of a program on this machine: status and body."""
    parts = urlsplit(address)
    assert parts.hostname and parts.port
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body or None, headers=sent)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    status = answer.status
    connection.close()
    return status, text


def test_a_stranger_is_refused_everywhere(office: tuple[House, Agent, Path]) -> None:
    _house, agent, _source = office
    address = address_of(agent)
    prefix = "/" + urlsplit(address).path.split("/")[1]
    assert asked(address, "/")[0] == 404, "without the path that nobody guesses there is nothing"
    assert asked(address, "/open?token=x")[0] == 404
    for path in ("/", "/status", "/branch?at=Lw", "/restore/", "/journal/", "/settings/", "/nothing"):
        status, text = asked(address, prefix + path)
        assert status == 403 and "COMPTOIR" not in text, (path, status)
    assert asked(address, f"{prefix}/open?token=guess")[0] == 403
    assert asked(address, f"{prefix}/backup", "POST")[0] == 403


def test_an_address_opens_once_and_only_here(office: tuple[House, Agent, Path]) -> None:
    _house, agent, _source = office
    address = address_of(agent)
    parts = urlsplit(address)
    path = f"{parts.path}?{parts.query}"
    rebound = f"pharmacie.example:{parts.port}"
    assert asked(address, path, Host=rebound)[0] == 421, "a name of somebody else's leads nowhere"
    assert asked(address, path, "HEAD")[0] == 200, "and a look uses nothing up"
    assert asked(address, path)[0] == 200, "the refusal did not use it up"
    assert asked(address, path)[0] == 403, "an address opens once"
    assert list((agent.home / "interface" / "tokens").iterdir()) == []


def test_a_post_from_another_page_is_refused(desk: Desk) -> None:
    cookies = desk.page.context.cookies(desk.base + "/")
    (seat,) = [cookie for cookie in cookies if cookie["name"] == "pilulier-agent"]
    assert (seat["httpOnly"], seat["sameSite"]) == (True, "Strict")
    assert seat["path"] == urlsplit(desk.base).path + "/", "other ports of this machine never see it"
    cookie = f"pilulier-agent={seat['value']}"
    prefix = urlsplit(desk.base).path
    token = desk.page.locator("input[name=csrf_token]").first.get_attribute("value") or ""
    form = "application/x-www-form-urlencoded"
    origin = "http://" + urlsplit(desk.base).netloc
    body = f"csrf_token={token}&allowed=no"
    where = f"{prefix}/settings/remote"

    def post(body: str, **headers: str) -> int:
        return asked(desk.base, where, "POST", body, Cookie=cookie, Content_Type=form, **headers)[0]

    assert post(body, Origin="http://127.0.0.1:1") == 403
    assert post(body, Origin="null") == 403
    assert post(body, Sec_Fetch_Site="cross-site") == 403
    assert post("allowed=no", Origin=origin) == 400, "without the form's own token"
    assert desk.agent.command("remote", "show").document["allowed"] is True
    assert post(body, Origin=origin, Sec_Fetch_Site="same-origin") == 303
    assert desk.agent.command("remote", "show").document["allowed"] is False


def test_the_command_serves_where_no_service_runs(house: House, tmp_path: Path) -> None:
    agent = house.agent(pharmacy(tmp_path))
    running = agent.start("ui")
    wait_until(lambda: "\n" in running.text("stdout"), "the address is printed")
    address = json.loads(running.text("stdout"))["url"]
    second = address_of(agent)
    assert urlsplit(second).netloc == urlsplit(address).netloc, "one interface a home"
    for each in (address, second):
        parts = urlsplit(each)
        assert asked(each, f"{parts.path}?{parts.query}")[0] == 200
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == 0
    assert not (agent.home / "interface" / "server.json").exists()


def test_a_killed_service_takes_its_interface_along(house: House) -> None:
    agent = house.agent()
    running = serving(agent)
    address = address_of(agent)
    running.kill()

    def gone() -> bool:
        try:
            asked(address, "/")
        except OSError:
            return True
        return False

    wait_until(gone, "the interface ends")


def violations(page: Page) -> list[str]:
    """What axe finds, in a line each."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [
        f"{page.url} {one['id']} ({one['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for one in found
        for node in one["nodes"][:3]
    ]


def test_pages_are_accessible_and_fit_a_telephone(office: tuple[House, Agent, Path]) -> None:
    _house, agent, source = office
    agent.command("select", "include", str(source))
    agent.command("select", "exclude", "*.csv", str(source / "cache"))
    agent.backup()
    wrong: list[str] = []
    with chromium() as browser:
        for width, dark in (("desktop", False), ("phone", True)):
            desk = sit_down(browser, office, width, dark=dark)
            for path in ("/", "/restore/", "/journal/", "/settings/", "/nothing"):
                desk.goto(path)
                wrong += violations(desk.page)
                if desk.page.evaluate("document.documentElement.scrollWidth") > WIDTHS[width][0]:
                    wrong.append(f"{path} is wider than a {width}")
            desk.goto("/restore/")
            desk.page.get_by_role("button", name="Restaurer pharmacie", exact=True).click()
            expect(desk.page.locator("#list-part")).to_contain_text("fichiers")
            wrong += violations(desk.page)
            desk.page.get_by_role("button", name="Restaurer…").click()
            wrong += violations(desk.page)
            desk.goto("/restore/")
            desk.page.get_by_role("button", name="Restaurer pharmacie", exact=True).click()
            desk.page.context.close()
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_a_schedule_a_language_and_a_seat_given_up(desk: Desk) -> None:
    page = desk.page
    page.get_by_label("Heure de sauvegarde").first.fill("13:05")
    page.get_by_label("Heure de sauvegarde").nth(1).fill("")
    page.locator("label[for=day-sun]").click()
    desk.press("Enregistrer les horaires")
    expect(page.get_by_text("Horaires enregistrés")).to_be_visible()
    shown = desk.agent.command("schedule", "show").document
    assert (shown["times"], "sun" in shown["days"], shown["set_by"]) == (["13:05"], False, "machine")
    page.get_by_role("link", name="Réglages").click()
    # A limit for the hours at the counter, and what a scheduled backup waits for.
    page.get_by_label("Au plus, en Mbit/s").fill("beaucoup")
    desk.press("Ajouter cette limite")
    expect(page.locator(".alert-danger")).to_contain_text("débit d’au moins")
    page.get_by_label("Au plus, en Mbit/s").fill("2,5")
    desk.press("Ajouter cette limite")
    expect(page.locator("#limits .basket")).to_contain_text("de 08:30 à 19:30, du lundi au samedi : 2,5")
    page.get_by_label("Sur batterie").uncheck()
    page.locator("form[action$='/settings/waiting'] button").click()
    expect(page.get_by_text("Réglage enregistré")).to_be_visible()
    limits = desk.agent.command("limits", "show").document
    assert [window["bytes_per_second"] for window in limits["windows"]] == [312_500]
    assert (limits["on_battery"], limits["on_metered"]) == ("run", "wait")
    page.get_by_label("Les échecs seulement").check()
    page.locator("#notices button.btn-primary").click()
    expect(page.get_by_text("Réglage enregistré")).to_be_visible()
    assert desk.agent.command("notices").document["notices"] == "failures"
    page.get_by_role("button", name=re.compile("Retirer la limite")).click()
    expect(page.locator("#limits .basket")).to_have_count(0)
    page.get_by_label("Langue de cette interface").select_option("de")
    page.locator("form[action$='/settings/language'] button").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.get_by_label("Sprache dieser Oberfläche").select_option("fr")
    page.locator("form[action$='/settings/language'] button").click()
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    desk.press("Fermer l’interface")
    expect(page.get_by_role("heading", name="À bientôt")).to_be_visible()
    assert page.goto(desk.base + "/").status == 403  # type: ignore[union-attr]
    desk.problems.clear()  # the browser notes the refusal


def test_everything_works_without_scripts(office: tuple[House, Agent, Path], tmp_path: Path) -> None:
    house, agent, source = office
    with chromium() as browser:
        context = browser.new_context(locale="fr-FR", java_script_enabled=False)
        page = context.new_page()
        page.goto(address_of(agent))
        page.wait_for_url(re.compile(r"/[\w-]+/$"))
        desk = Desk(house, agent, source, page, page.url.rstrip("/"))
        open_way(desk, source.parent)
        page.get_by_role("button", name="Sauvegarder pharmacie", exact=True).click()
        expect(page.locator(".tree-included")).to_contain_text("pharmacie")
        page.get_by_role("button", name="Ouvrir pharmacie", exact=True).click()
        page.get_by_role("button", name="Exclure cache", exact=True).click()
        expect(page.locator(".tree-excluded")).to_contain_text("cache")
        desk.press(re.compile("Sauvegarder maintenant"))
        wait_until(lambda: len(agent.command("snapshots").document) == 1, "the backup is there")
        account = house.account()
        desk.goto("/restore/")
        page.get_by_role("button", name="Restaurer stock.csv", exact=True).click()
        page.get_by_role("button", name="Restaurer…").click()
        page.get_by_label("Nouveau dossier", exact=True).fill(str(tmp_path / "retour"))
        page.get_by_label("Adresse e-mail").fill(account.email)
        page.get_by_label("Code à 6 chiffres").fill(account.code())
        desk.press("Restaurer")
        def ended() -> bool:
            page.reload()
            return page.get_by_role("heading", name="Restauration terminée").count() == 1

        wait_until(ended, "the page says that it ended")
        (back,) = (tmp_path / "retour").rglob("stock.csv")
        assert back.read_text() == "doliprane;12\n"
        context.close()


def test_a_folder_of_many_files_and_a_keyboard(desk: Desk, tmp_path: Path) -> None:
    many = desk.source / "beaucoup"
    many.mkdir()
    for number in range(450):
        (many / f"{number:04}").touch()
    open_way(desk, many)
    page = desk.page
    expect(page.locator(".tree-row", has_text=re.compile(r"^\s*0\d\d\d"))).to_have_count(200)
    # The innermost: a folder above may have more to show too.
    page.get_by_role("button", name=re.compile("Afficher la suite")).first.click()
    expect(page.locator(".tree-row", has_text=re.compile(r"^\s*0\d\d\d"))).to_have_count(400)
    opener = page.get_by_role("button", name="Ouvrir beaucoup", exact=True)
    opener.focus()
    page.keyboard.press("ArrowLeft")
    expect(opener).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    expect(opener).to_have_attribute("aria-expanded", "true")
    page.get_by_role("button", name="Sauvegarder beaucoup", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator(".tree-included")).to_contain_text("beaucoup")
    assert page.evaluate("document.activeElement.classList.contains('tree-tick')"), "the focus stays where it was"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Sauvegarder 0000"
    # Names from outside are text, whatever they hold.
    expect(page.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
    expect(page.get_by_text("caf\\xe9")).to_be_visible()


def test_a_restore_shows_its_progress_and_can_be_stopped(house: House, tmp_path: Path) -> None:
    source = tmp_path / "gros"
    source.mkdir()
    for number in range(40):
        (source / f"scan-{number:02}").write_bytes(os.urandom(1 << 20))
    agent = house.agent(source)
    agent.config = agent.config | {"language": "fr"}
    agent.backup()
    account = house.account()
    with TcpProxy(house.appliance.address, 4 << 20) as proxy, chromium() as browser:
        agent.by_way_of(proxy.address)
        serving(agent)
        desk = sit_down(browser, (house, agent, source))
        desk.goto("/restore/")
        desk.page.get_by_role("button", name="Restaurer gros", exact=True).click()
        desk.page.get_by_role("button", name="Restaurer…").click()
        desk.page.get_by_label("Nouveau dossier", exact=True).fill(str(tmp_path / "retour"))
        desk.page.get_by_label("Adresse e-mail").fill(account.email)
        desk.page.get_by_label("Code à 6 chiffres").fill(account.code())
        desk.press("Restaurer")
        expect(desk.page.get_by_role("heading", name="Restauration en cours")).to_be_visible()
        expect(desk.page.locator("#job progress[value]")).to_be_visible()
        desk.goto("/")
        expect(desk.page.get_by_role("button", name=re.compile("Sauvegarder maintenant"))).to_be_disabled()
        desk.goto("/restore/")
        desk.press("Arrêter")
        expect(desk.page.get_by_role("heading", name="La restauration n’a pas abouti")).to_be_visible()
        expect(desk.page.locator("#job")).to_contain_text("Arrêtée par vous")
        desk.press("Continuer")
        left = [path.name for path in (tmp_path / "retour").rglob("*") if path.is_file()]
        assert len(left) < 40 and not [name for name in left if not name.startswith("scan-")], "nothing half done"
        # The list is still there, and the code too: it goes on without another.
        desk.page.get_by_role("button", name="Restaurer…").click()
        expect(desk.page.get_by_text("Votre code est encore valable")).to_be_visible()
        desk.page.get_by_label("Nouveau dossier", exact=True).fill(str(tmp_path / "retour"))
        desk.press("Restaurer")
        expect(desk.page.locator("#target-error")).to_contain_text("n’est pas vide")
        desk.page.get_by_label("Nouveau dossier", exact=True).fill(str(tmp_path / "encore"))
        desk.press("Restaurer")
        expect(desk.page.get_by_role("heading", name="Restauration terminée")).to_be_visible()
        back = tmp_path / "encore" / source.relative_to("/")
        assert all((back / path.name).read_bytes() == path.read_bytes() for path in source.iterdir())
        assert not desk.problems, desk.problems


def test_decoys_a_sheet_and_what_was_sent_here(house: House, tmp_path: Path) -> None:
    with opened_scene(house, tmp_path) as scene, chromium() as browser:
        agent = scene.agent
        agent.config = agent.config | {"language": "fr"}
        send(scene, "ordonnances")
        agent.command("deliveries", "list")  # the service would have asked by now
        agent.start("ui")
        wait_until(lambda: (agent.home / "interface" / "server.json").exists(), "the interface")
        desk = sit_down(browser, (house, agent, scene.source))
        page = desk.page
        # Somebody sent a restore: seen on the first page, looked at, wanted.
        page.get_by_role("link", name="Une restauration vous a été envoyée").click()
        page.get_by_role("link", name="Voir et décider").click()
        expect(page.locator(".basket")).to_contain_text(str(scene.source / "ordonnances"))
        assert not violations(page)
        desk.press("Restaurer ici")
        expect(page.get_by_role("heading", name="Restauration terminée")).to_be_visible()
        (back,) = (agent.home / "received").rglob("dupont.txt")
        assert back.read_text() == "2, corrigée"
        desk.press("Continuer")
        expect(page.get_by_role("link", name="Voir et décider")).to_have_count(0)
        # Decoys: placed, shown, touched, taken away.
        desk.goto("/settings/")
        desk.press("Poser")
        expect(page.locator("#decoys .basket")).to_contain_text(str(scene.source))
        decoys = agent.command("canary", "list").document
        assert {Path(one["path"]).parent for one in decoys} == {scene.source}
        Path(decoys[0]["path"]).write_bytes(b"encrypted")
        agent.command("backup", expect=None)
        desk.goto("/settings/")
        expect(page.locator("#decoys")).to_contain_text("touché")
        page.get_by_role("button", name=re.compile("Retirer les leurres")).click()
        expect(page.locator("#decoys .basket")).to_have_count(0)
        # The recovery sheet asks for a code first: the key stands on it.
        page.get_by_role("link", name="Afficher la fiche").click()
        assert "PIL1-" not in page.content()
        account = house.account()
        page.get_by_label("Adresse e-mail").fill(account.email)
        page.get_by_label("Code à 6 chiffres").fill(account.code())
        desk.press("Afficher la fiche")
        expect(page.locator("body")).to_contain_text("PIL1-")
        assert not desk.problems, desk.problems
