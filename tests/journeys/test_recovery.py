"""A PC burns down, and new hardware goes on where it ended; by real processes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.control import audit, machine_keys, outbox
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.bad_lines import BadLine, Fault
from tests.support.faults import wait_until
from tests.support.processes import PASSWORD, Account, Agent, House, landed
from tests.support.trees import assert_same, change_tree, describe, make_tree

WORDS = "quatre mots et un cheval"


@dataclass
class Pharmacy:
    """One machine with a backup, what a person keeps elsewhere, and the day after the fire."""

    house: House
    folder: Path
    source: Path = field(init=False)
    agent: Agent = field(init=False)
    account: Account = field(init=False)
    contract: str = field(init=False)
    code: str = field(init=False)
    head: str = field(init=False)

    def __post_init__(self) -> None:
        self.source = self.folder / "pharmacie"
        make_tree(self.source)
        self.contract, self.code = self.house.contract()
        self.agent = self.house.agent(self.source, name="comptoir-1", code=self.code)
        self.agent.command("select", "exclude", "*.tmp")
        self.agent.command("schedule", "set", "06:45", "--days", "mon-fri")
        self.agent.backup()
        self.account = self.house.account("--contract", self.contract, role="customer")
        self.head = self.head_of(self.agent)

    @property
    def key(self) -> Path:
        path = self.folder / "key.json"
        if not path.exists():
            self.agent.command("key", "export", "--out", str(path))
        return path

    @staticmethod
    def head_of(agent: Agent) -> str:
        """The head code as the daily mail has it."""
        from agent.ledger import last_head
        from agent.settings import AgentHome
        from transport.commits import head_code

        head = last_head(AgentHome(agent.home))
        assert head is not None
        return head_code(head.hash())

    def burn(self) -> dict[bytes, object]:
        """What the files were like; they and the agent are gone."""
        before = describe(self.source)
        shutil.rmtree(self.source)
        self.old = self.agent.copy(self.folder / "stolen-copy")
        shutil.rmtree(self.agent.home)
        return before  # type: ignore[return-value]

    def new(self, name: str = "new") -> Agent:
        """A blank machine."""
        agent = Agent(self.folder / name)
        agent.machine = self.agent.machine
        return agent

    def words(self, *more: str, account: Account | None = None, appliance: str | None = None) -> list[str]:
        """The command line of a recovery."""
        account = account or self.account
        where = ["--appliance", self.code if appliance is None else appliance] if appliance != "" else []
        return [
            *("recover", *where, "--account", account.email),
            *("--password-file", str(self.house.password_file), "--otp", account.code(), *more),
        ]


@pytest.fixture
def pharmacy(house: House, tmp_path: Path) -> Pharmacy:
    return Pharmacy(house, tmp_path)


def _by_key(pharmacy: Pharmacy) -> list[str]:
    config = pharmacy.agent.config
    config["key_mode"] = "local"
    pharmacy.agent.config = config
    with Database.open(Home.open(pharmacy.house.appliance.home).control_db) as db:
        machine_keys.destroy(db, bytes.fromhex(pharmacy.agent.machine))
    return ["--key", str(pharmacy.key)]


def _by_escrow(pharmacy: Pharmacy) -> list[str]:
    return []


def _by_passphrase(pharmacy: Pharmacy) -> list[str]:
    file = pharmacy.folder / "passphrase"
    file.write_text(WORDS + "\n")
    pharmacy.agent.command("key", "protect", "--passphrase-file", str(file))
    return ["--passphrase-file", str(file)]


@pytest.mark.parametrize("way", [_by_key, _by_escrow, _by_passphrase])
def test_new_hardware_goes_on_where_the_old_one_ended(
    pharmacy: Pharmacy, way: Callable[[Pharmacy], list[str]]
) -> None:
    house, kept = pharmacy.house, way(pharmacy)
    pharmacy.agent.command("hooks", "add", "before", "--", "/bin/true")
    pharmacy.agent.command("remote", "refuse")
    pharmacy.agent.backup()
    head = pharmacy.head_of(pharmacy.agent)
    mode = pharmacy.agent.command("status").document["key_mode"]
    before = pharmacy.burn()
    new = pharmacy.new()
    # From the key file alone: it says where, too.
    said = new.command(*pharmacy.words(*kept, appliance="" if "--key" in kept else None)).document
    assert said["machine"] == new.machine and said["snapshots"] == 2 and said["name"] == "comptoir-1"
    assert said["head"] == head and said["key_mode"] == mode
    assert said["include"] == [str(pharmacy.source)] and said["exclude"] == ["*.tmp"]
    assert new.command("schedule", "show").document["times"] == ["06:45"]
    assert said["to_set_again"] == ["1 hook"] and new.command("status").document["last_snapshot"] == 2
    assert new.command("remote", "show").document["allowed"] is False, "the owner's word outlives the PC"
    # Without another code, for a quarter of an hour.
    new.command("restore", "--in-place", "--recent-first", "--keep-privileges")
    assert_same(before, pharmacy.source)  # type: ignore[arg-type]
    report = new.backup()
    assert report["snapshot"] == 3 and report["files_full"] == report["files_delta"] == 0
    assert report["bytes_sent"] < 100_000
    change_tree(pharmacy.source)
    assert new.backup()["snapshot"] == 4
    check = house.appliance.command("repo", "check", new.machine, "--read-data").document
    assert check["ok"] and not check["errors"]
    rebuilt = house.appliance.command("repo", "rebuild", new.machine).document
    assert rebuilt["ok"] and not rebuilt["differences"]
    assert house.appliance.command("repo", "check", new.machine, "--read-data").document["ok"]
    target = pharmacy.folder / "first"
    new.restore(target, house.account(), snapshot=1)
    assert_same(before, landed(target, pharmacy.source))  # type: ignore[arg-type]
    # The old one is refused, whoever has its keys.
    for words in (["snapshots"], ["backup"], ["verify"]):
        assert "refuses this machine's key" in pharmacy.old.told(*words)


def test_the_sheet_alone_brings_everything_back(pharmacy: Pharmacy) -> None:
    """Typed from paper: the lines of the key and of the address, in small letters, and the head code."""
    sheet = pharmacy.folder / "sheet.txt"
    pharmacy.agent.command("key", "sheet", "--out", str(sheet))
    lines = [line for line in sheet.read_text().splitlines() if re.match(r"\s*[KA][0-9]+\b", line)]
    assert len(lines) > 10 and pharmacy.head in sheet.read_text()
    before = pharmacy.burn()
    with Database.open(Home.open(pharmacy.house.appliance.home).control_db) as db:
        machine_keys.destroy(db, bytes.fromhex(pharmacy.agent.machine))
    typed = pharmacy.folder / "typed.txt"
    typed.write_text("\n".join(line.lower() for line in lines))
    typed.chmod(0o600)
    new = pharmacy.new()
    said = new.command(
        *pharmacy.words("--key", str(typed), "--head", pharmacy.head, "--in-place", appliance="")
    ).document
    assert said["newer"] == 0 and said["include"] == [str(pharmacy.source)]
    assert set(describe(pharmacy.source)) == set(before) - {b"pipe"}
    assert new.backup()["snapshot"] == 2


def test_the_files_come_with_the_recovery(pharmacy: Pharmacy) -> None:
    before = pharmacy.burn()
    new = pharmacy.new()
    said = new.command(*pharmacy.words("--in-place", "--head", pharmacy.head.lower())).document
    assert said["restored"]["errors"] == [] and said["restored"]["files"] > 40 and said["newer"] == 0
    assert set(describe(pharmacy.source)) == set(before) - {b"pipe"}
    report = new.backup()
    assert report["snapshot"] == 2 and report["bytes_sent"] < 100_000


def test_everyone_hears_of_it(pharmacy: Pharmacy) -> None:
    pharmacy.burn()
    pharmacy.new().command(*pharmacy.words())
    with Database.open(Home.open(pharmacy.house.appliance.home).control_db) as db:
        mails = {mail.recipient for mail in outbox.recent(db) if mail.kind == outbox.MACHINE_RECOVERED}
        begun = audit.search(db, EVERYTHING, kind="machine.recover-open").acts
        taken = audit.search(db, EVERYTHING, kind="machine.recover").acts
    assert pharmacy.account.email in mails and any(mail.startswith("pharmacie-") for mail in mails)
    assert [(act.email, act.address) for act in (*begun, *taken)] == [(pharmacy.account.email, "127.0.0.1")] * 2
    assert json.loads(begun[0].after or "") == {"key": "opened"}
    assert any("took over" in line for line in pharmacy.house.log(pharmacy.agent))
    said = pharmacy.house.appliance.said()
    assert PASSWORD not in said


def test_a_recovered_machine_may_burn_again(pharmacy: Pharmacy) -> None:
    key = pharmacy.key
    pharmacy.burn()
    second = pharmacy.new("second")
    second.command(*pharmacy.words("--in-place"))
    second.backup()
    newer = pharmacy.folder / "newer-key.json"
    second.command("key", "export", "--out", str(newer))
    shutil.rmtree(second.home)
    third = pharmacy.new("third")
    account = pharmacy.house.account("--contract", pharmacy.contract, role="customer")
    said = third.command(*pharmacy.words("--key", str(key), account=account)).document
    assert [one["after"] for one in said["taken_over"]] == [1]
    assert third.backup()["snapshot"] == 3
    for number, file in enumerate((key, newer)):
        target = pharmacy.folder / f"in-hand-{number}"
        shown = third.command(
            *("read-repository", str(pharmacy.house.repository(third)), "--key", str(file), "--target", str(target))
        )
        assert "another installation took" in shown.stderr
        assert_same(pharmacy.source, landed(target, pharmacy.source))


def test_a_lost_answer_costs_nothing(pharmacy: Pharmacy) -> None:
    """The takeover was carried out and its answer lost: the same command with a new code gets the same machine."""
    pharmacy.burn()
    new = pharmacy.new()
    new.command(*pharmacy.words())
    (new.home / "config.json").unlink()
    account = pharmacy.house.account("--contract", pharmacy.contract, role="customer")
    new.command(*pharmacy.words("--in-place", account=account))
    assert new.backup()["snapshot"] == 2
    check = pharmacy.house.appliance.command("repo", "check", new.machine, "--read-data").document
    assert check["ok"]


def test_what_is_wrong_changes_nothing(pharmacy: Pharmacy) -> None:
    house, folder = pharmacy.house, pharmacy.folder
    (folder / "wrong").write_text("not this one at all")
    (folder / "other.json").write_text("")
    stranger = house.agent(pharmacy.source, name="autre")
    (folder / "other.json").unlink()
    stranger.command("key", "export", "--out", str(folder / "other.json"))
    own = pharmacy.key

    def account(*options: str, role: str = "customer") -> Account:
        return house.account(*(options or ("--contract", pharmacy.contract)), role=role)

    blank = pharmacy.new()
    used = account()
    good = pharmacy.words(account=used)
    wrong_password = [str(folder / "wrong") if word == str(house.password_file) else word for word in good]
    assert "open no account" in blank.told(*wrong_password)
    someone = account()
    words = pharmacy.words(account=someone)
    words[words.index("--otp") + 1] = "000000"
    assert "do not open" in blank.told(*words)
    assert "another machine's" in blank.told(*pharmacy.words("--key", str(folder / "other.json"), account=account()))
    sees = blank.told(*pharmacy.words("--machine", "comptoir-9", account=account()))
    assert "sees no machine 'comptoir-9'" in sees and "comptoir-1" in sees
    elsewhere, _ = house.contract()
    foreign = blank.told(*pharmacy.words("--machine", "comptoir-1", account=account("--contract", elsewhere)))
    assert "sees no machine" in foreign and pharmacy.agent.machine not in foreign
    several = blank.told(*pharmacy.words(account=house.account()), code=2)
    assert "--machine" in several and "comptoir-1" in several and "autre" in several
    head = blank.told(*pharmacy.words("--head", "ABCD-EFGH-IJKL", account=account()))
    assert "older than your code" in head
    assert "12 letters" in blank.told(*pharmacy.words("--head", "ABCD", account=account()), code=2)
    address = house.appliance.address
    assert "an address alone" in blank.told(*pharmacy.words(account=account(), appliance=address), code=2)
    assert "nothing says" in blank.told(*pharmacy.words(account=account(), appliance=""), code=2)
    mistyped = pharmacy.code[:-3] + "AAA"
    assert "mistyped" in blank.told(*pharmacy.words(account=account(), appliance=mistyped), code=2)
    # Nothing has happened to the machine.
    assert pharmacy.agent.backup()["snapshot"] == 2
    assert not (blank.home / "config.json").exists()
    # A code works once.
    words = pharmacy.words(account=used)
    blank.command(*words)
    again = pharmacy.new("again")
    assert "do not open" in again.told(*words)
    assert "enrolled already" in blank.told(*pharmacy.words(account=account()), code=2)
    # With a key in hand an address will do.
    moved = pharmacy.new("moved")
    moved.command(*pharmacy.words("--key", str(own), account=account(), appliance=address.removeprefix("tcp://")))
    assert moved.command("snapshots").document


def test_a_history_that_was_rolled_back_is_refused(pharmacy: Pharmacy) -> None:
    house = pharmacy.house
    house.appliance.stop()
    repository = house.repository(pharmacy.agent)
    shutil.copytree(repository, pharmacy.folder / "yesterday")
    house.appliance.serve()
    (pharmacy.source / "today").write_bytes(b"today")
    pharmacy.agent.backup()
    today = pharmacy.head_of(pharmacy.agent)
    house.appliance.stop()
    shutil.rmtree(repository)
    shutil.copytree(pharmacy.folder / "yesterday", repository)
    house.appliance.serve()
    pharmacy.burn()
    # Its door for strangers has another port since it was given its own port by hand: a new code says which.
    pharmacy.code = house.appliance.command("contract", "code", pharmacy.contract).document["enrol_code"]
    new = pharmacy.new()
    assert "older than your code" in new.told(*pharmacy.words("--head", today))
    account = house.account("--contract", pharmacy.contract, role="customer")
    assert new.command(*pharmacy.words("--head", pharmacy.head, account=account)).document["newer"] == 0


def test_a_private_key_needs_its_passphrase(pharmacy: Pharmacy) -> None:
    kept = _by_passphrase(pharmacy)
    pharmacy.agent.backup()
    pharmacy.burn()
    new = pharmacy.new()
    accounts = [pharmacy.house.account("--contract", pharmacy.contract, role="customer") for _ in range(3)]
    assert "--passphrase-file" in new.told(*pharmacy.words(account=accounts[0]), code=2)
    wrong = pharmacy.folder / "other-words"
    wrong.write_text("une tout autre phrase")
    assert "does not open" in new.told(*pharmacy.words("--passphrase-file", str(wrong), account=accounts[1]))
    new.command(*pharmacy.words(*kept, account=accounts[2]))


def test_a_key_of_which_the_appliance_holds_nothing(pharmacy: Pharmacy) -> None:
    with Database.open(Home.open(pharmacy.house.appliance.home).control_db) as db:
        machine_keys.destroy(db, bytes.fromhex(pharmacy.agent.machine))
    new = pharmacy.new()
    assert "--key FILE" in new.told(*pharmacy.words())


def test_too_many_wrong_codes_close_the_door(pharmacy: Pharmacy) -> None:
    blank = pharmacy.new()
    words = pharmacy.words()
    words[words.index("--otp") + 1] = "000000"
    for _ in range(5):
        assert "do not open" in blank.told(*words)
    assert "too many wrong codes" in blank.told(*pharmacy.words())


def test_a_revoked_machine_is_recovered_by_who_looks_after_it(pharmacy: Pharmacy) -> None:
    house = pharmacy.house
    house.appliance.command("machine", "revoke", pharmacy.agent.machine)
    new = pharmacy.new()
    assert "was revoked" in new.told(*pharmacy.words())
    new.command(*pharmacy.words(account=house.account()))
    assert house.appliance.command("machine", "show", new.machine).document["state"] == "active"


def test_a_live_clone_is_cut_off(pharmacy: Pharmacy) -> None:
    """The old installation attends when the new one takes over."""
    old = pharmacy.agent.start("run")
    try:
        pharmacy.new().command(*pharmacy.words())
        assert "refuses this machine's key" in pharmacy.agent.told("backup")
    finally:
        old.kill()


@pytest.mark.whole_service
def test_a_locked_escrow_key_waits_for_its_operator(pharmacy: Pharmacy) -> None:
    house, phrase = pharmacy.house, pharmacy.folder / "operator"
    phrase.write_text("cinq mots pour la clé\n")
    house.appliance.command("escrow", "protect", "--passphrase-file", str(phrase))
    house.appliance.command("escrow", "lock")
    new = pharmacy.new()
    assert "escrow unlock" in new.told(*pharmacy.words())
    house.appliance.command("escrow", "unlock", "--passphrase-file", str(phrase))
    account = house.account("--contract", pharmacy.contract, role="customer")
    new.command(*pharmacy.words(account=account))


def test_what_was_used_last_is_there_while_the_rest_is_on_its_way(house: House, tmp_path: Path) -> None:
    """The line stands still after 8 of 20 MB: last week's folder is whole, under its names; last year's is not."""
    source, rng = tmp_path / "source", random.Random("recent")
    for folder, files, used in (("archives", 16, 1_600_000_000), ("z-en-cours", 4, 1_790_000_000)):
        (source / folder).mkdir(parents=True)
        for number in range(files):
            path = source / folder / f"scan-{number}"
            path.write_bytes(rng.randbytes(1_000_000))
            os.utime(path, (used + number, used + number))
    contract, code = house.contract()
    agent = house.agent(source, code=code)
    agent.backup()
    before, recent = describe(source), source / "z-en-cours"
    contents = {path.name: path.read_bytes() for path in recent.iterdir()}
    shutil.rmtree(source)
    shutil.rmtree(agent.home)
    account = house.account("--contract", contract, role="customer")
    agent.command(
        *("recover", "--appliance", code, "--account", account.email, "--otp", account.code()),
        *("--password-file", str(house.password_file)),
    )
    with BadLine(house.appliance.address) as line:
        there = agent.config["appliance"]["endpoints"][0]
        agent.by_way_of(line.address)
        line.arm(Fault("stall", 8_000_000, upwards=False))
        running = agent.start("restore", "--in-place", "--recent-first")
        wait_until(lambda: len(list(recent.glob("scan-*"))) == 4, "the files of last week are there")
        running.kill()
        assert {path.name: path.read_bytes() for path in recent.glob("scan-*")} == contents
        assert len(list((source / "archives").glob("scan-*"))) < 16
        agent.by_way_of(there)
    # The same again goes on from there, still without another code.
    report = agent.command("restore", "--in-place").document
    assert report["files_same"] >= 4 and not report["errors"]
    assert_same(before, source)
