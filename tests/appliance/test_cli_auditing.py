"""Every command that changes something leaves a line in the audit log, with who typed it, and no secret."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import cli
from appliance.commands import audited
from appliance.control import audit, contracts, machines, passwords
from appliance.control.audit import Act
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING, OneContract, Scope
from appliance.settings import Home
from tests.support.command_line import PASSWORD, Shell, initialised
from tests.support.dated_history import write_history

DAY_MS = 86_400_000
READS = {
    *("audit verify", "account list", "contract list", "contract show", "doctor", "machine list", "machine show"),
    *("repo stats", "repo check", "space list", "serve"),
    *("jobs list", "jobs work", "web work", "alerts list", "mail show", "mail list", "mail test", "metrics show"),
    *("safety list", "escrow show", "migrate", "install-systemd"),
    *("certificate list", "certificate show", "certificate verify"),
}
ACTS = {
    *("init", "demo-data", "space add", "account add", "account edit", "contract add", "contract code"),
    *("contract pause", "contract resume", "contract edit", "contract delete", "machine revoke", "machine move"),
    *("machine settings", "machine backup", "machine accept"),
    *("repo prune", "repo hold", "repo release", "repo scrub", "repo rebuild"),
    *("jobs run", "alerts acknowledge", "mail set", "metrics token", "safety key", "safety set", "safety restore"),
    *("escrow rotate", "escrow protect", "escrow unlock", "escrow lock", "escrow unprotect", "contract export"),
}
"""demo-data fills an empty home, its audit log included."""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A home with contract A and its machine PC-1."""
    monkeypatch.setattr(passwords, "_N", 2)
    monkeypatch.delenv("SUDO_USER", raising=False)
    shell = initialised(tmp_path / "home", capsys)
    assert shell("contract", "add", "--client", "A", "--email", "a@x.org", "--keep-days", "10").code == 0
    return shell


def acts(shell: Shell, scope: Scope = EVERYTHING) -> list[Act]:
    """All lines, oldest first; the chain must hold."""
    with Database.open(Home(shell.root).control_db) as db:
        assert audit.verify(db).ok
        return list(audit.export(db, scope))


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command of the parser, as it is typed."""
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in subparsers:
        for name, child in action.choices.items():
            yield from leaves(child, (*words, name))
    if not subparsers:
        yield " ".join(words)


def test_every_command_is_known_to_change_something_or_not() -> None:
    assert set(leaves(cli.build_parser())) == READS | ACTS


def test_each_act_is_one_line_with_who_typed_it(shell: Shell) -> None:
    machine = shell.enrolled("A", 1)
    noon = int(time.time() * 1000) // DAY_MS * DAY_MS - DAY_MS // 2
    write_history(Home(shell.root).repository(machine.id), [noon - n * DAY_MS for n in (30, 20, *range(9, 0, -1))])
    codes = [
        shell(*words).code
        for words in (
            ("space", "add", "West"),
            ("account", "add", "--email", "b@x.org", "--role", "super", "--password-file", shell.password_file),
            ("account", "edit", "b@x.org", "--new-totp", "--password-file", shell.password_file, "--state", "disabled"),
            ("contract", "pause", "A"),
            ("contract", "resume", "A"),
            ("contract", "edit", "A", "--allocated", "70GB", "--floor-days", "5"),
            ("repo", "hold", "PC-1", "1", "--reason", "a trial"),
            ("repo", "prune", "PC-1", "--dry-run"),
            ("repo", "prune", "PC-1", "--accept-clock"),
            ("repo", "release", "PC-1", "1"),
            ("repo", "scrub", "PC-1"),
            ("repo", "rebuild", "PC-1"),
            ("machine", "settings", "PC-1"),
            ("machine", "settings", "PC-1", "--include", "/a", "--time", "12:30"),
            ("machine", "backup", "PC-1"),
            ("machine", "accept", "PC-1"),
            ("contract", "add", "--client", "B", "--email", "b@x.org"),
            ("machine", "move", "PC-1", "--contract", "B"),
            ("machine", "revoke", "PC-1"),
            ("contract", "delete", "A"),
            ("contract", "delete", "B"),
        )
    ]
    assert codes == [0] * 20 + [3]
    lines = acts(shell)
    assert [(line.kind, line.object_kind, line.object_name) for line in lines] == [
        ("account.add", "account", "boss@example.org"),
        ("contract.add", "contract", "A"),
        ("contract.code", "contract", "A"),
        ("space.add", "space", "West"),
        ("account.add", "account", "b@x.org"),
        ("account.edit", "account", "b@x.org"),
        ("contract.pause", "contract", "A"),
        ("contract.resume", "contract", "A"),
        ("contract.edit", "contract", "A"),
        ("repo.hold", "machine", "PC-1"),
        ("clock.accept", "", ""),
        ("repo.prune", "machine", "PC-1"),
        ("repo.release", "machine", "PC-1"),
        ("repo.scrub", "machine", "PC-1"),
        ("repo.rebuild", "machine", "PC-1"),
        ("machine.settings", "machine", "PC-1"),
        ("machine.backup", "machine", "PC-1"),
        ("machine.accept", "machine", "PC-1"),
        ("contract.add", "contract", "B"),
        ("machine.move", "contract", "A"),
        ("machine.move", "machine", "PC-1"),
        ("machine.revoke", "machine", "PC-1"),
        ("contract.delete", "contract", "A"),
        ("contract.delete", "contract", "B"),
    ]
    user = pwd.getpwuid(os.getuid()).pw_name
    assert {(line.email, line.role, line.account_id) for line in lines} == {(user, "command line", "")}
    values = {line.kind: (json.loads(line.before or "{}"), json.loads(line.after or "{}")) for line in lines}
    assert values["contract.edit"] == (
        {"allocated_bytes": 50 * 10**9, "floor_days": 7},
        {"allocated_bytes": 70 * 10**9, "floor_days": 5},
    )
    assert values["repo.prune"][1] == {"dropped": [2], "kept": 10, "keep_days": 10}
    assert values["account.edit"][1] == {"state": "disabled", "password": "changed", "totp": "renewed"}
    assert values["machine.settings"][1]["include"] == ["/a"] and values["machine.settings"][0]["include"] is None
    assert values["contract.delete"][1]["state"] == "deleting"


def test_no_secret_stands_in_the_log(shell: Shell) -> None:
    added = shell("--json", "account", "add", "--email", "b@x.org", "--role", "super",
                  "--password-file", shell.password_file)  # fmt: skip
    code = shell("--json", "contract", "code", "A").document["enrol_code"]
    text = repr(acts(shell))
    for secret in (PASSWORD, added.document["totp_secret"], code, code[-20:]):
        assert secret not in text


def test_both_contracts_of_a_moved_machine_see_it(shell: Shell) -> None:
    shell.enrolled("A", 1)
    assert shell("contract", "add", "--client", "B", "--email", "b@x.org").code == 0
    assert shell("machine", "move", "PC-1", "--contract", "B").code == 0
    assert shell("machine", "move", "PC-1", "--contract", "B").code == 0, "moving it to where it is changes nothing"
    with Database.open(Home(shell.root).control_db) as db:
        ids = [contracts.find(db, EVERYTHING, client).id for client in "AB"]
    assert [[act.kind for act in acts(shell, OneContract(id))].count("machine.move") for id in ids] == [1, 1]


@pytest.mark.parametrize(
    "words",
    [
        ("contract", "pause", "A"),
        ("contract", "resume", "A"),
        ("contract", "code", "A"),
        ("contract", "edit", "A", "--machines", "9"),
        ("contract", "delete", "A"),
        ("machine", "revoke", "PC-1"),
        ("machine", "settings", "PC-1", "--include", "/a"),
        ("machine", "backup", "PC-1"),
        ("space", "add", "West"),
        ("account", "edit", "boss@example.org", "--new-totp"),
    ],
    ids=" ".join,
)
def test_an_act_that_cannot_be_written_down_does_not_happen(
    shell: Shell, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.enrolled("A", 1)

    def everything() -> list[tuple[object, ...]]:
        with Database.open(Home(shell.root).control_db) as db:
            return [tuple(row.values()) for name in ("contract", "machine", "space", "account", "enrol_token",
                                 "machine_settings", "backup_request")
                    for row in db.rows(f"SELECT * FROM {name}")]  # fmt: skip

    def full(*_: object, **__: object) -> None:
        raise OSError("no room for another line")

    before = everything()
    monkeypatch.setattr(audit, "write", full)
    assert shell(*words).code == 1
    assert everything() == before


def test_a_refused_act_leaves_no_line(shell: Shell) -> None:
    before = acts(shell)
    assert shell("contract", "pause", "nobody").code != 0
    assert shell("contract", "edit", "A", "--floor-days", "1").code != 0
    assert shell("account", "edit", "boss@example.org", "--state", "disabled").code != 0
    assert shell("repo", "release", "PC-1", "1").code != 0
    assert acts(shell) == before


def test_who_became_root_by_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("SUDO_USER", "alice\n")
    assert audited.who() == f"alice\n as {user}"
    assert audited.actor().email == f"alice as {user}"
    monkeypatch.setenv("SUDO_USER", user)
    assert audited.who() == user


def test_a_nightly_prune_is_the_appliances_own_act(shell: Shell) -> None:
    """And leaves no line where it drops nothing."""
    from appliance import pruning
    from appliance.control.clock import Reading

    machine = shell.enrolled("A", 1)
    home = Home(shell.root)
    now = time.time()
    write_history(home.repository(machine.id), [int((now - n * 86_400) * 1000) for n in (30, *range(9, 0, -1))])
    with Database.open(home.control_db) as db:
        found = machines.find(db, EVERYTHING, "PC-1")
        for _ in range(2):
            pruning.prune_machine(home, db, found, Reading(now, "", 0.0))
    lines = [line for line in acts(shell) if line.kind == "repo.prune"]
    assert [(line.email, line.role) for line in lines] == [("pilulier", "system")]
