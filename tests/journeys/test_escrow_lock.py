"""An escrow key under the operator's passphrase: backups go on, restores by the web wait for whoever unlocks it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.control import machines
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.errors import EscrowLockedError
from appliance.opening import words
from appliance.opening.clients import Openers, OpeningError, beginning
from appliance.settings import Home
from tests.support.processes import Agent, House

pytestmark = pytest.mark.whole_service
WORDS = "cinq mots pour la clé"


def listing(house: House, agent: Agent, source: Path) -> list[bytes]:
    """What the web's opener shows of the source."""
    home, openers = Home.open(house.appliance.home), Openers()
    try:
        with Database.open(home.control_db) as db:
            begin = beginning(home, db, EVERYTHING, machines.find(db, EVERYTHING, agent.machine))
        opened = openers.open("w1", bytes.fromhex(agent.machine), begin)
        newest = opened.snapshots[-1].number
        return [one.path for one in opened.ask(words.ListFolder(newest, os.fsencode(source)), words.Entries).entries]
    finally:
        openers.close()


def test_a_protected_key_waits_for_its_operator_after_each_start(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_bytes(b"1")
    agent = house.agent(source)
    agent.backup()
    phrase, wrong = tmp_path / "phrase", tmp_path / "wrong"
    phrase.write_text(WORDS + "\n")
    wrong.write_text("cinq mots pour une clé")
    command = house.appliance.command
    made = command("escrow", "protect", "--passphrase-file", str(phrase)).document
    assert made["unlocked"] is True
    assert [key["state"] for key in command("escrow", "show").document] == ["unlocked"]
    assert listing(house, agent, source) == [os.fsencode(source / "one")], "whoever restores now is not interrupted"
    command("escrow", "lock")
    with pytest.raises(OpeningError, match="escrow unlock") as refused:
        listing(house, agent, source)
    assert refused.value.code == EscrowLockedError.code
    assert "does not open this key" in command("escrow", "unlock", "--passphrase-file", str(wrong), expect=1).told()
    command("escrow", "unlock", "--passphrase-file", str(phrase))
    assert listing(house, agent, source)

    house.appliance.stop()
    assert "no service" in command("escrow", "unlock", "--passphrase-file", str(phrase), expect=4).told()
    house.appliance.serve()
    checks = {check["check"]: check for check in command("doctor", expect=1).document}
    assert not checks["escrow key"]["ok"] and "locked" in checks["escrow key"]["detail"]
    with pytest.raises(OpeningError):
        listing(house, agent, source)
    (source / "two").write_bytes(b"2")
    agent.backup()
    other = house.agent(source, name="second")
    other.backup()
    assert command("escrow", "show").document[0]["machines"] == 2, "enrolments and wraps need the public half alone"

    assert "--passphrase-file" in command("escrow", "rotate", expect=2).told()
    rotated = command("escrow", "rotate", "--passphrase-file", str(phrase)).document
    house.appliance.stop()
    house.appliance.serve()
    agent.backup()
    other.backup()
    shown = command("escrow", "show").document
    assert [(key["state"], key["machines"]) for key in shown] == [("locked", 2), ("locked", 0)]
    assert shown[0]["key"] == rotated["key"]
    command("escrow", "unlock", "--passphrase-file", str(phrase))
    assert len(listing(house, agent, source)) == 2
    command("escrow", "unprotect", "--passphrase-file", str(phrase))
    assert {key["state"] for key in command("escrow", "show").document} == {"clear"}
    logged = "".join(path.read_text(errors="replace") for path in (house.appliance.home / "logs").glob("*"))
    assert WORDS not in logged
