"""A restore sent from the web to its machine: ticked, wanted there, restored by the agent into a folder of its own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance.control import audit, deliveries, outbox, restores
from appliance.control.database import Database
from appliance.control.deliveries import DeliveryState
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.faults import TcpProxy, folder_bytes
from tests.support.processes import House, landed
from tests.support.web_scene import Scene, opened_scene, walk_to


@pytest.fixture
def scene(house: House, tmp_path: Path) -> Iterator[Scene]:
    """The house with one backup of two versions, and the web application over its home."""
    with opened_scene(house, tmp_path) as opened:
        yield opened


def send(scene: Scene, name: str, snapshot: int = 2) -> None:
    """Tick an entry of the source folder and send it."""
    scene.open()
    parts = [part for part in str(scene.source).split("/") if part]
    token = scene.token(walk_to(scene, *parts), name)
    scene.browser.post(f"{scene.at}/tick", {"snapshot": str(snapshot), "at": "", "pick": token})
    page = scene.text(f"{scene.at}/send?snapshot={snapshot}")
    assert "attend l’accord" in page and name in page
    answer = scene.browser.post(f"{scene.at}/send", {"snapshot": str(snapshot), "code": scene.browser.code()})
    assert answer.status_code == 303 and answer.headers["Location"].endswith("#deliveries"), answer.get_data(
        as_text=True
    )


def state_of(scene: Scene, number: int = 1) -> deliveries.Delivery:
    with Database.open(Home.open(scene.house.appliance.home).control_db) as db:
        machine = bytes.fromhex(scene.agent.machine)
        return deliveries.find(db, EVERYTHING, machine, number, scene.browser.clock.at)


def test_what_is_ticked_lands_on_the_machine_once_its_owner_says_yes(scene: Scene) -> None:
    (scene.source / "ordonnances" / "dupont.txt").write_text("3, pas encore sauvegardée")
    send(scene, "ordonnances")
    assert "Attend l’accord sur la machine" in scene.text(f"/machines/{scene.agent.machine}")
    (offered,) = scene.agent.command("deliveries", "list").document["deliveries"]
    assert offered["delivery"] == 1 and offered["state"] == "waiting" and offered["files"] == 1
    assert offered["sender"] == scene.house.admin.email
    shown = scene.agent.command("deliveries", "show", "1").document
    assert shown["paths"] == [f"{scene.source}/ordonnances"]

    report = scene.agent.command("deliveries", "accept", "1").document
    folder = Path(report["folder"])
    assert folder.parent == scene.agent.home / "received" and folder.name.startswith("Pilulier restauration ")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (landed(folder, scene.source) / "ordonnances" / "dupont.txt").read_text() == "2, corrigée"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["dupont.txt"]
    assert (scene.source / "ordonnances" / "dupont.txt").read_text() == "3, pas encore sauvegardée", "never replaced"

    page = scene.text(f"/machines/{scene.agent.machine}")
    assert "Restaurée" in page and "1 fichier" in page
    done = state_of(scene)
    assert (done.state, done.files_done, done.errors) == (DeliveryState.DONE, 1, 0)
    with Database.open(Home.open(scene.house.appliance.home).control_db) as db:
        kinds = [act.kind for act in audit.search(db, EVERYTHING, text=scene.agent.machine).acts]
        assert {"delivery.send", "delivery.accept", "delivery.done"} <= set(kinds)
        assert not any("dupont" in repr(act) for act in audit.search(db, EVERYTHING).acts), "no file names"
        (mail,) = [mail for mail in outbox.recent(db) if mail.kind == outbox.RESTORE_DONE]
        assert mail.fields["restored"] == 1 and mail.fields["by"] == scene.house.admin.email
        assert restores.openings(db, 0)[-1].email == scene.house.admin.email
    assert "delivery 1" in scene.agent.told("deliveries", "accept", "1", code=2), "it is good once"


def test_a_refused_and_a_cancelled_one_restore_nothing(scene: Scene) -> None:
    send(scene, "base.db")
    send(scene, "base.db")
    scene.agent.command("deliveries", "refuse", "1")
    assert state_of(scene).state is DeliveryState.REFUSED
    assert "Refusée sur la machine" in scene.text(f"/machines/{scene.agent.machine}")
    scene.browser.get(f"/machines/{scene.agent.machine}")
    assert scene.browser.post(f"/machines/{scene.agent.machine}/deliveries/2/cancel").status_code == 303
    assert "there is no delivery 2" in scene.agent.told("deliveries", "accept", "2", code=2)
    assert not (scene.agent.home / "received").exists()


def test_a_broken_line_and_a_killed_agent_go_on_in_the_same_folder(scene: Scene, tmp_path: Path) -> None:
    for number in range(40):
        (scene.source / f"scan-{number:02}").write_bytes(os.urandom(400_000))
    scene.agent.backup()
    address = scene.house.appliance.address
    scene.open()
    parts = [part for part in str(scene.source).split("/") if part]
    token = scene.token(walk_to(scene, *parts[:-1]), parts[-1])
    scene.browser.post(f"{scene.at}/tick", {"snapshot": "3", "at": "", "pick": token})
    scene.browser.get(f"{scene.at}/send?snapshot=3")
    assert (
        scene.browser.post(f"{scene.at}/send", {"snapshot": "3", "code": scene.browser.code()}).status_code == 303
    )
    with TcpProxy(address, 4 << 20) as proxy:
        scene.agent.by_way_of(proxy.address)
        running = scene.agent.start("deliveries", "accept", "1")
        received = scene.agent.home / "received"
        while folder_bytes(received) < 2 << 20 and running.process.returncode is None:
            os.sched_yield()
        running.kill()
    scene.agent.by_way_of(address)
    assert state_of(scene).state is DeliveryState.RUNNING
    (folder,) = received.iterdir()
    report = scene.agent.command("deliveries", "accept", "1").document
    assert report["folder"] == str(folder) and not report["errors"] and report["files_same"] > 0
    for number in range(40):
        name = f"scan-{number:02}"
        assert (landed(folder, scene.source) / name).read_bytes() == (scene.source / name).read_bytes()
    assert state_of(scene).state is DeliveryState.DONE


def test_the_folder_is_chosen_on_the_machine_and_what_stands_there_stays(scene: Scene, tmp_path: Path) -> None:
    send(scene, "ordonnances")
    chosen = tmp_path / "reçus"
    assert scene.agent.command("deliveries", "--folder", str(chosen)).document["folder"] == str(chosen)
    taken = [chosen / f"Pilulier restauration {datetime.now().date() + timedelta(day)} 1" for day in (0, 1)]
    for folder in taken:
        folder.symlink_to(tmp_path)
    report = scene.agent.command("deliveries", "accept", "1").document
    folder = Path(report["folder"])
    assert folder.parent == chosen and folder.name.endswith(" 2"), "a name that is taken is not entered"
    config = json.loads((scene.agent.home / "config.json").read_text())
    assert config["receiving"] == {"folder": str(chosen)}


def test_a_private_key_sends_the_whole_backup_without_opening_anything(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("quatre mots et un cheval")
    scene.agent.command("key", "protect", "--passphrase-file", str(file))
    page = scene.text(scene.at)
    assert "Envoyer vers la machine" in page
    page = scene.text(f"{scene.at}/send-all")
    assert "toute la sauvegarde" in page
    assert scene.browser.post(f"{scene.at}/send-all", {"code": scene.browser.code()}).status_code == 303
    assert scene.agent.command("deliveries", "show", "1").document["everything"]
    folder = Path(scene.agent.command("deliveries", "accept", "1").document["folder"])
    assert (landed(folder, scene.source) / "base.db").read_bytes() == (scene.source / "base.db").read_bytes()
    assert re.search(r"Restaurée", scene.text(f"/machines/{scene.agent.machine}"))
