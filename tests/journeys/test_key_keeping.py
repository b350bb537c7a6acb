"""What becomes of a machine's key: confided, private, local; by real processes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from appliance import escrow
from appliance.control import audit, machine_keys, outbox
from appliance.control.contracts import Escrow
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.processes import Agent, House
from transport.escrow import unwrap_confided, unwrap_private
from transport.names import RepositoryId, VaultId

WORDS = "quatre mots et un cheval"


def held(house: House, agent: Agent) -> machine_keys.WrappedKey | None:
    """What the appliance holds of the agent's key."""
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        return machine_keys.find(db, EVERYTHING, bytes.fromhex(agent.machine))


def place(agent: Agent) -> tuple[RepositoryId, VaultId]:
    """The machine and its vault."""
    return RepositoryId(bytes.fromhex(agent.machine)), VaultId(bytes.fromhex(agent.config["vault"]))


def key_of(agent: Agent) -> bytes:
    """The machine key itself."""
    return (agent.home / "keys" / "machine.key").read_bytes()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one file."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "one").write_bytes(b"1")
    return folder


def private_contract(house: House) -> str:
    """An enrolment code of a contract with private keys."""
    made = house.appliance.command(
        "contract", "add", "--client", "prive", "--email", "p@example.org", "--escrow", "private"
    ).document
    return str(made["enrol_code"])


def test_a_confided_key_is_left_at_enrolment_and_opens_on_the_appliance(house: House, source: Path) -> None:
    agent = house.agent(source)
    assert agent.command("status").document["key_mode"] == "confided"
    kept = held(house, agent)
    assert kept is not None and kept.mode is Escrow.CONFIDED and kept.escrow_key is not None
    home = Home.open(house.appliance.home)
    assert unwrap_confided(escrow.private(home, kept.escrow_key), kept.envelope, *place(agent)) == key_of(agent)
    with Database.open(home.control_db) as db:
        acts = audit.search(db, EVERYTHING, kind="machine.key-kept").acts
    assert [json.loads(act.after or "") for act in acts] == ["confided"]


def test_a_private_key_opens_with_its_passphrase_alone(house: House, source: Path, tmp_path: Path) -> None:
    code = private_contract(house)
    file = tmp_path / "passphrase"
    file.write_text(WORDS + "\n")
    agent = Agent(tmp_path / "private")
    refused = agent.command("enrol", code, "--name", "pc", expect=4)
    assert "--passphrase-file" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
    assert (
        "at least 12"
        in agent.command("enrol", code, "--name", "pc", "--passphrase-file", "/etc/hostname", expect=1).stderr
    )
    made = agent.command("enrol", code, "--name", "pc", "--passphrase-file", str(file)).document
    agent.machine = made["machine"]
    assert made["key_mode"] == "private"
    kept = held(house, agent)
    assert kept is not None and kept.mode is Escrow.PRIVATE and kept.escrow_key is None
    assert unwrap_private(WORDS, kept.envelope, *place(agent)) == key_of(agent)
    agent.command("select", "include", str(source))
    agent.backup()
    assert held(house, agent) == kept, "a backup leaves what is there"


def test_a_machine_may_be_more_careful_than_its_contract(house: House, source: Path, tmp_path: Path) -> None:
    agent = house.agent(source)
    file = tmp_path / "passphrase"
    file.write_text(WORDS)
    agent.command("key", "protect", "--passphrase-file", str(file))
    kept = held(house, agent)
    assert kept is not None and kept.mode is Escrow.PRIVATE
    assert unwrap_private(WORDS, kept.envelope, *place(agent)) == key_of(agent)
    assert agent.command("status").document["key_mode"] == "private"
    agent.backup()
    assert held(house, agent) == kept
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        told = [mail.recipient for mail in outbox.recent(db) if mail.kind == outbox.KEY_CHANGED]
    assert len(told) == 1 and told[0].endswith("@example.test"), "whoever holds the contract learns of it, once"


def test_a_machine_from_before_there_was_a_choice_confides_nothing(house: House, source: Path) -> None:
    agent = house.agent(source)
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        machine_keys.destroy(db, bytes.fromhex(agent.machine))
    config = agent.config
    del config["key_mode"]
    agent.config = config
    agent.backup()
    assert held(house, agent) is None and agent.command("status").document["key_mode"] == "local"
    agent.command("key", "confide")
    assert held(house, agent) is not None


def test_a_rotated_escrow_key_is_wrapped_to_and_the_old_one_goes(house: House, source: Path) -> None:
    agent = house.agent(source)
    before = held(house, agent)
    assert before is not None
    new = house.appliance.command("escrow", "rotate").document["key"]
    house.appliance.stop()
    house.appliance.serve()
    agent.backup()
    after = held(house, agent)
    assert after is not None and after.escrow_key is not None and after.escrow_key.hex() == new
    shown = house.appliance.command("escrow", "show").document
    assert [(key["present"], key["machines"]) for key in shown] == [(True, 1), (False, 0)]
    again = house.appliance.command("escrow", "rotate").document
    assert before.escrow_key is not None and before.escrow_key.hex() in again["removed"]
    with Database.open(Home.open(house.appliance.home).control_db) as db:
        lines = audit.search(db, EVERYTHING, kind="escrow.rotate").acts
    assert len(lines) == 2
    assert hashlib.sha256(after.envelope).digest() != hashlib.sha256(before.envelope).digest()


@pytest.mark.parametrize("mode", ["confided", "private", "local"])
def test_a_rotated_key_seals_what_comes_and_reads_what_was(
    house: House, source: Path, tmp_path: Path, mode: str
) -> None:
    agent = house.agent(source)
    words = tmp_path / "passphrase"
    words.write_text(WORDS)
    extra = ["--passphrase-file", str(words)] if mode == "private" else []
    if mode == "private":
        agent.command("key", "protect", *extra)
        assert "--passphrase-file" in agent.told("key", "rotate", code=2)
        (tmp_path / "wrong").write_text("une autre phrase secrète")
        before = key_of(agent)
        agent.command("key", "rotate", "--passphrase-file", str(tmp_path / "wrong"), expect=1)
        assert key_of(agent) == before, "nothing changed"
    if mode == "local":
        config = agent.config
        config["key_mode"] = "local"
        agent.config = config
    agent.backup()
    (source / "two").write_bytes(b"2")
    assert agent.command("key", "rotate", *extra).document["epoch"] == 2
    agent.backup()
    assert len(key_of(agent)) == 64
    kept = held(house, agent)
    if mode == "confided":
        assert kept is not None and kept.escrow_key is not None
        home = Home.open(house.appliance.home)
        assert unwrap_confided(escrow.private(home, kept.escrow_key), kept.envelope, *place(agent)) == key_of(agent)
    elif mode == "private":
        assert kept is not None and unwrap_private(WORDS, kept.envelope, *place(agent)) == key_of(agent)
    for number, names in ((1, {"one"}), (2, {"one", "two"})):
        target = tmp_path / f"back-{number}"
        agent.restore(target, house.account(), snapshot=number)
        assert {path.name for path in target.rglob("*") if path.is_file()} == names
    agent.backup()
    assert held(house, agent) == kept, "what is held is left alone"


def test_an_appliance_out_of_reach_leaves_the_key_as_it_was(house: House, source: Path) -> None:
    agent = house.agent(source)
    before = key_of(agent)
    house.appliance.stop()
    agent.told("key", "rotate", code=5)
    assert key_of(agent) == before
