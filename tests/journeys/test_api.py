"""The REST API against a real `pilulier serve`: what docs/api.md says is executed as it stands there."""

from __future__ import annotations

import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.control import api_tokens, audit, contracts, restores
from appliance.control.api_tokens import Permission
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.faults import wait_until
from tests.support.processes import Agent, House
from tests.support.webhook_receiver import receiving
from webui import context
from webui.app import create_app

pytestmark = pytest.mark.whole_service

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def example(language: str) -> str:
    """The one example of a language in the document."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)
    assert len(found) == 1
    return str(found[0])


def control(house: House) -> Database:
    """The control database of the running appliance."""
    return Database.open(Home.open(house.appliance.home).control_db)


def token(house: House, *permissions: Permission) -> str:
    """A token of the space in which the house's agents are."""
    with control(house) as db:
        space = contracts.every(db, EVERYTHING)[0].space_id
        made = api_tokens.create(
            db, space_id=space, name="vendor", permissions=permissions, days=1, by="test", now=time.time()
        )
    return made.text


def surroundings(house: House, text: str, **more: str) -> dict[str, str]:
    """What the examples read."""
    return {"PATH": os.environ["PATH"], "PILULIER": house.appliance.web, "TOKEN": text, **more}


@pytest.fixture
def agent(house: House, tmp_path: Path) -> Agent:
    """A machine with one backup."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "ordonnance dupont.txt").write_text("deux fois par jour")
    enrolled = house.agent(source)
    enrolled.backup()
    return enrolled


def test_the_walk_with_curl(house: House, agent: Agent) -> None:
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("curl and jq are not installed: apt-get install curl jq")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example("bash")],
        env=surroundings(house, token(house, Permission.READ, Permission.WRITE)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[:3] == ["vendor", "read", "write"]
    # The page of running backups is a few seconds old.
    assert any(line.split("\t")[1:2] in (["ok"], ["running"]) for line in said), said
    assert any(line.startswith("pilulier-agent enrol ") for line in said)
    assert "waiting" in said and any(line.startswith("1\ttrue\t") for line in said)
    with control(house) as db:
        assert [one.client_id for one in contracts.every(db, EVERYTHING)].count("Pharmacie du Port") == 1
        [act] = audit.search(db, EVERYTHING, kind="machine.backup").acts
        assert act.role == "token" and act.email.startswith("vendor (plr_")


def test_the_restore_with_python(house: House, agent: Agent, tmp_path: Path) -> None:
    text = token(house, Permission.READ, Permission.RESTORE)
    folder = tmp_path / "back"
    folder.mkdir()
    code = house.admin.code()
    around = surroundings(house, text, ACCOUNT=house.admin.email, CODE=code, WANTED="DUPONT")
    done = subprocess.run(
        [sys.executable, "-c", example("python")], env=around, cwd=folder, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("ordonnance dupont.txt 18")
    with zipfile.ZipFile(folder / "restored.zip") as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("dupont.txt")]
        assert archive.read(name) == b"deux fois par jour"
    with control(house) as db:
        kinds = [act.kind for act in audit.search(db, EVERYTHING, text=agent.machine).acts]
        assert kinds[:3] == ["restore.close", "restore.download", "restore.open"]
        assert not any("dupont" in f"{act.before}{act.after}" for act in audit.search(db, EVERYTHING).acts)
        assert [one.email for one in restores.openings(db, 0)] == [house.admin.email], "the mail follows from it"
    # The code has been used: it opens nothing more, for whoever saw it.
    at = f"/machines/{agent.machine}/restores"
    assert refused(house, text, at, {"account": house.admin.email, "code": code}) == (403, "one-time-code")


def test_a_restore_is_sent_to_the_machine(house: House, agent: Agent, tmp_path: Path) -> None:
    text = token(house, Permission.READ, Permission.RESTORE)
    at, source = f"/machines/{agent.machine}/deliveries", str(tmp_path / "source")
    body = {"account": house.admin.email, "code": house.admin.code(), "paths": [source]}
    assert refused(house, text, at, body | {"paths": ["/nowhere"]}) == (422, "usage")
    person = house.account()
    sent = ask(house, text, at, body | {"account": person.email, "code": person.code()})
    assert (sent["number"], sent["files"], sent["state"]) == (1, 1, "waiting")
    folder = Path(agent.command("deliveries", "accept", "1").document["folder"])
    (landed,) = [path for path in folder.rglob("*") if path.is_file()]
    assert landed.name == "ordonnance dupont.txt" and landed.read_text() == "deux fois par jour"
    request = urllib.request.Request(
        f"{house.appliance.web}/api/v1{at}/1", headers={"Authorization": f"Bearer {text}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        done = json.load(answer)
    assert (done["state"], done["files_restored"], done["errors"]) == ("done", 1, 0)


def ask(house: House, text: str, path: str, body: Any) -> Any:
    """A POST, its JSON."""
    request = urllib.request.Request(
        f"{house.appliance.web}/api/v1{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {text}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def refused(house: House, text: str, path: str, body: Any) -> tuple[int, str]:
    """Status and code of a POST that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(house, text, path, body)
    return caught.value.code, json.load(caught.value)["code"]


def test_a_restore_belongs_to_its_token_and_names_what_is_there(house: House, agent: Agent) -> None:
    text = token(house, Permission.RESTORE)
    at = f"/machines/{agent.machine}/restores"
    for code in ("000000", "nonsense"):
        assert refused(house, text, at, {"account": house.admin.email, "code": code})[0] == 403
    opened = ask(house, text, at, {"account": house.admin.email, "code": house.admin.code()})
    at = f"{at}/{opened['id']}"
    assert [one["number"] for one in opened["snapshots"]] == [1]
    (top, *_rest) = ask(house, text, f"{at}/list", {"snapshot": 1})["items"]
    assert top["kind"] == "folder"
    by_id = ask(house, text, f"{at}/list", {"snapshot": 1, "id": top["id"]})
    assert by_id == ask(house, text, f"{at}/list", {"snapshot": 1, "path": top["path"]})
    for path, body in (
        ("list", {"snapshot": 1, "path": "/nowhere"}),
        ("list", {"snapshot": 9}),
        ("list", {"snapshot": 1, "id": "0" * 16}),
        ("archive", {"snapshot": 1, "paths": ["/nowhere"]}),
        ("archive", {"snapshot": 1, "paths": []}),
        ("archive", {"snapshot": 9, "paths": ["/"]}),
    ):
        assert refused(house, text, f"{at}/{path}", body) == (422, "usage"), body
    with control(house) as db:
        known = contracts.every(db, EVERYTHING)[0]
        other = api_tokens.create(
            db, space_id=known.space_id, name="other", permissions=list(Permission), days=1, by="x", now=time.time()
        ).text
    assert refused(house, other, f"{at}/list", {"snapshot": 1}) == (404, "not-found")
    assert ask(house, text, f"{at}/search", {"snapshot": 1, "text": "dupont"})["items"]


def test_when_all_slots_of_downloads_are_taken(house: House, agent: Agent) -> None:
    text = token(house, Permission.RESTORE)
    app = create_app(Home.open(house.appliance.home))
    headers = {"Authorization": f"Bearer {text}"}
    at = f"/api/v1/machines/{agent.machine}/restores"
    client = app.test_client()
    body = {"account": house.admin.email, "code": house.admin.code()}
    opened = client.post(at, json=body, headers=headers).json
    assert opened is not None
    with app.app_context():
        openers = context.appliance().openers
    try:
        taken = 0
        while openers.downloads.acquire(blocking=False):
            taken += 1
        wanted = {"snapshot": 1, "paths": ["/"], "form": "tar"}
        busy = client.post(f"{at}/{opened['id']}/archive", json=wanted, headers=headers)
        assert busy.status_code == 503 and busy.json is not None and busy.json["code"] == "busy"
        assert taken > 0 and int(busy.headers["Retry-After"]) > 0
        openers.downloads.release(taken)
        answer = client.post(f"{at}/{opened['id']}/archive", json=wanted, headers=headers)
        assert answer.status_code == 200 and len(answer.get_data()) > 512
    finally:
        openers.close()


def test_a_webhook_is_told_of_a_backup(house: House, agent: Agent) -> None:
    text = token(house, Permission.READ, Permission.WRITE)
    home = Home.open(house.appliance.home)
    with receiving() as receiver:
        address = f"http://127.0.0.1:{receiver.port}/pilulier"
        wanted = {"url": address, "events": ["snapshot"]}
        assert refused(house, text, "/webhooks", wanted) == (422, "usage"), "this machine's own network"
        home.save_settings(msgspec.structs.replace(home.load_settings(), webhooks_private=True))
        secret = ask(house, text, "/webhooks", wanted)["secret"]
        agent.backup()
        house.appliance.command("jobs", "run", "webhooks")
        # The service's own look, once a minute, may have come first.
        wait_until(lambda: bool(receiver.heard), "a webhook that was told", 60)
    [(path, headers, body)] = receiver.heard
    said = json.loads(body)
    assert (path, said["event"], said["machine_id"], said["snapshot"]) == ("/pilulier", "snapshot", agent.machine, 2)
    signed = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["Pilulier-Signature"])
    assert signed is not None
    at, mac = signed.groups()
    assert hmac.new(secret.encode(), f"{at}.".encode() + body, "sha256").hexdigest() == mac
