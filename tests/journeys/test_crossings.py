"""One machine's files sent to another of its contract: off until allowed, sealed anew, landed, gone from the spool."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.control import audit, contracts, crossings, deliveries, restores
from appliance.control.database import Database
from appliance.control.deliveries import DeliveryState
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.faults import TcpProxy, folder_bytes, wait_until
from tests.support.processes import Agent, House, Outcome, landed
from tests.support.web_scene import Scene, opened_scene, walk_to


@dataclass(slots=True)
class Pair:
    """A machine with backups, another one of its contract, and a browser of the super-user."""

    scene: Scene
    other: Agent
    contract: str

    @property
    def home(self) -> Home:
        return Home.open(self.scene.house.appliance.home)

    def delivery(self, number: int = 1) -> deliveries.Delivery:
        with Database.open(self.home.control_db) as db:
            return deliveries.find(
                db, EVERYTHING, bytes.fromhex(self.other.machine), number, self.scene.browser.clock.at
            )

    def allow(self) -> None:
        """Through the contract's page, with a code."""
        page, browser = f"/contracts/{self.contract}/crossings", self.scene.browser
        assert "aucune clé n’est transmise" in self.scene.text(page)
        assert browser.post(page, {"code": "000000"}).status_code == 200, "a wrong code"
        assert browser.post(page, {"code": browser.code()}).status_code == 303

    def tick(self, *names: str, snapshot: int = 2) -> None:
        """Put entries of the source folder on the list."""
        parts = [part for part in str(self.scene.source).split("/") if part]
        page = walk_to(self.scene, *parts)
        picks = [self.scene.token(page, name) for name in names]
        self.scene.browser.post(f"{self.scene.at}/tick", {"snapshot": str(snapshot), "at": "", "pick": picks})

    def send(self, *names: str, snapshot: int = 2) -> None:
        """Tick, choose the other machine, type a code."""
        self.scene.open()
        self.tick(*names, snapshot=snapshot)
        page, browser = f"{self.scene.at}/send", self.scene.browser
        assert "Vers une autre machine" in self.scene.text(f"{page}?snapshot={snapshot}")
        answer = browser.post(
            page, {"snapshot": str(snapshot), "target": self.other.machine, "code": browser.code()}
        )
        assert answer.status_code == 303 and f"/machines/{self.other.machine}" in answer.headers["Location"]

    def accept(self, number: int = 1) -> Outcome:
        """Say yes on the other machine; the appliance seals while that waits."""
        running = self.other.start("deliveries", "accept", str(number))
        wait_until(lambda: self.delivery(number).state is DeliveryState.ACCEPTED, "a yes")
        self.seal()
        return running.wait()

    def seal(self) -> str:
        """What the job of the appliance does each minute."""
        return str(self.scene.house.appliance.command("jobs", "run", "parcels", expect=[0, 3]).document)

    def spooled(self) -> list[str]:
        return [path.name for path in self.home.spool.iterdir()] if self.home.spool.is_dir() else []


@pytest.fixture
def pair(house: House, tmp_path: Path) -> Iterator[Pair]:
    with opened_scene(house, tmp_path) as scene:
        os.symlink("/etc/passwd", scene.source / "lien")
        (scene.source / "outil").write_text("#!/bin/sh")
        (scene.source / "outil").chmod(0o4755)
        (scene.source / "scan").write_bytes(os.urandom(5 << 20))
        scene.agent.backup()
        with Database.open(Home.open(house.appliance.home).control_db) as db:
            contract = contracts.of_machine(db, bytes.fromhex(scene.agent.machine)).id
        code = house.appliance.command("contract", "code", contract).document["enrol_code"]
        yield Pair(scene, house.agent(name="serveur-2", code=code), contract)


def test_files_cross_where_that_is_allowed_and_no_key_does(pair: Pair) -> None:
    pair.allow()
    pair.send("ordonnances", "scan", "outil", "lien", snapshot=3)
    (offer,) = pair.other.command("deliveries", "list").document["deliveries"]
    assert offer["machine"].startswith("poste-") and offer["sender"] == pair.scene.house.admin.email
    assert pair.other.command("deliveries", "show", "1").document["machine"] == offer["machine"], "names are sealed"
    done = pair.accept()
    assert done.code == 3, done.told()
    report = done.document
    folder = Path(report["folder"])
    assert folder.parent == pair.other.home / "received"
    at = landed(folder, pair.scene.source)
    assert (at / "scan").read_bytes() == (pair.scene.source / "scan").read_bytes()
    assert (at / "ordonnances" / "dupont.txt").read_text() == "2, corrigée"
    assert stat.S_IMODE((at / "outil").stat().st_mode) == 0o755, "no privileges"
    assert not (at / "lien").is_symlink() and [one["path"] for one in report["errors"]] == [
        f"{pair.scene.source}/lien"
    ]
    assert sorted(path.name for path in folder.rglob("*") if not path.is_dir()) == ["dupont.txt", "outil", "scan"]
    assert pair.delivery().state is DeliveryState.DONE and pair.delivery().files_done == 3
    assert pair.spooled() == [] and not list((pair.other.home / "keys").glob("receiving-*"))
    with Database.open(pair.home.control_db) as db:
        for machine in (pair.scene.agent.machine, pair.other.machine):
            kinds = [act.kind for act in audit.search(db, EVERYTHING, text=machine).acts]
            assert {"delivery.send", "delivery.seal", "delivery.done"} <= set(kinds), machine
        assert not any("dupont" in repr(act) for act in audit.search(db, EVERYTHING).acts)
        opened = restores.openings(db, 0)[-1]
        assert opened.machine_id.hex() == pair.scene.agent.machine, "the source's people are told of the opening"
    assert "de poste-" in pair.scene.text(f"/machines/{pair.scene.agent.machine}")


def test_it_is_off_until_allowed_and_what_is_forbidden_later_is_not_sealed(pair: Pair) -> None:
    scene = pair.scene
    scene.open()
    pair.tick("scan", snapshot=3)
    page = scene.text(f"{scene.at}/send?snapshot=3")
    assert "Vers une autre machine" not in page and pair.other.machine not in page
    answer = scene.browser.post(
        f"{scene.at}/send", {"snapshot": "3", "target": pair.other.machine, "code": scene.browser.code()}
    )
    assert answer.status_code == 200, "a machine that is no choice is none"
    pair.allow()
    pair.send("scan", snapshot=3)
    with Database.open(pair.home.control_db) as db:
        crossings.allow(db, contracts.find(db, EVERYTHING, pair.contract), allowed=False)
    done = pair.accept()
    assert done.code == 4 and "does not allow" in done.stderr, done.told()
    assert pair.spooled() == [] and pair.delivery().state is DeliveryState.FAILED
    assert "n’autorise pas les envois" in scene.text(f"/machines/{pair.other.machine}"), "who sent it sees why"
    pair.allow()
    assert pair.accept().code == 0, "another yes asks for it anew"
    assert pair.delivery().state is DeliveryState.DONE


def test_a_cut_line_and_a_killed_agent_go_on_where_they_were(pair: Pair) -> None:
    for number in range(30):
        (pair.scene.source / f"image-{number:02}").write_bytes(os.urandom(400_000))
    pair.scene.agent.backup()
    pair.allow()
    pair.send(*(f"image-{number:02}" for number in range(30)), "scan", snapshot=4)
    address = pair.scene.house.appliance.address
    with TcpProxy(address, 3 << 20) as proxy:
        pair.other.by_way_of(proxy.address)
        running = pair.other.start("deliveries", "accept", "1")
        wait_until(lambda: pair.delivery().state is not DeliveryState.WAITING, "a yes")
        pair.seal()
        received = pair.other.home / "received"
        wait_until(lambda: received.is_dir() and folder_bytes(received) > 1 << 20, "some of it")
        proxy.cut()
        wait_until(lambda: folder_bytes(received) > 4 << 20, "more of it over another line")
        running.kill()
    pair.other.by_way_of(address)
    (folder,) = received.iterdir()
    report = pair.other.command("deliveries", "accept", "1").document
    assert report["folder"] == str(folder) and not report["errors"] and report["files_same"] > 0
    at = landed(folder, pair.scene.source)
    for number in range(30):
        name = f"image-{number:02}"
        assert (at / name).read_bytes() == (pair.scene.source / name).read_bytes()
    assert pair.spooled() == []


def test_the_spool_holds_nothing_readable_and_is_emptied_of_what_is_over(pair: Pair) -> None:
    pair.allow()
    pair.send("ordonnances", snapshot=3)
    running = pair.other.start("deliveries", "accept", "1")
    wait_until(lambda: pair.delivery().state is not DeliveryState.WAITING, "a yes")
    running.kill()
    pair.seal()
    (name,) = pair.spooled()
    data = (pair.home.spool / name).read_bytes()
    assert b"dupont" not in data and b"corrig" not in data
    assert stat.S_IMODE((pair.home.spool / name).stat().st_mode) == 0o600
    pair.scene.browser.get(f"/machines/{pair.other.machine}")
    pair.scene.browser.post(f"/machines/{pair.other.machine}/deliveries/1/cancel")
    pair.seal()
    assert pair.spooled() == []


def test_a_locked_escrow_key_makes_it_wait_and_opens_nothing(pair: Pair, tmp_path: Path) -> None:
    pair.allow()
    pair.send("scan", snapshot=3)
    phrase, command = tmp_path / "phrase", pair.scene.house.appliance.command
    phrase.write_text("cinq mots pour la clé")
    command("escrow", "protect", "--passphrase-file", str(phrase))
    running = pair.other.start("deliveries", "accept", "1")
    wait_until(lambda: pair.delivery().state is DeliveryState.ACCEPTED, "a yes")
    assert "escrow unlock" in pair.seal() and pair.delivery().state is DeliveryState.ACCEPTED
    with Database.open(pair.home.control_db) as db:
        assert not audit.search(db, EVERYTHING, kind="delivery.seal").acts
    command("escrow", "unprotect", "--passphrase-file", str(phrase))
    pair.seal()
    done = running.wait()
    assert done.code == 0, done.told()
    assert pair.delivery().state is DeliveryState.DONE
