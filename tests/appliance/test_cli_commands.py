"""`pilulier` in this process: each command's answer for people and for programs, and what bad input gets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyotp
import pytest

from appliance import cli
from appliance.control import passwords, statistics
from appliance.control.database import Database
from appliance.settings import Home
from appliance.store.repository import Repository
from tests.support.command_line import PASSWORD, Shell, initialised
from tests.support.control_house import NOW, figures
from transport.enrolment import decode_code
from transport.names import VaultId


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """An initialised home; hashing made cheap."""
    monkeypatch.setattr(passwords, "_N", 2)
    return initialised(tmp_path / "home", capsys)


def test_init_says_once_what_must_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "home", capsys)
    made = shell("--json", "init", "--admin", "Boss@Example.org", "--password-file", shell.password_file)
    document = made.document
    assert set(document) >= {"home", "server_key", "admin", "totp_secret", "totp_uri"}
    assert (document["home"], document["admin"], len(document["server_key"])) == (
        str(shell.root),
        "boss@example.org",
        40,
    )
    assert pyotp.parse_uri(document["totp_uri"]).secret == document["totp_secret"]
    for words in (["account", "list"], ["account", "list", "--json"], ["doctor"], ["space", "list"]):
        answer = shell(*words)
        assert document["totp_secret"] not in answer.out + answer.err
        assert PASSWORD not in answer.out + answer.err
    again = shell("init", "--admin", "boss@example.org", "--password-file", shell.password_file)
    assert again.code == 2 and "is a Pilulier home already" in again.sentence


def test_a_failed_init_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path / "deep" / "home", capsys)
    (tmp_path / "deep").mkdir()
    (tmp_path / "short").write_text("short")
    (tmp_path / "two").write_text("two\nlines")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" * 8)
    cases = [
        (["--admin", "boss", "--password-file", shell.password_file], "not an e-mail address"),
        (["--admin", "b@x.org", "--password-file", str(tmp_path / "none")], "cannot be read: No such file"),
        (["--admin", "b@x.org", "--password-file", str(tmp_path / "short")], "at least 8"),
        (["--admin", "b@x.org", "--password-file", str(tmp_path / "two")], "more than one line"),
        (["--admin", "b@x.org", "--password-file", str(tmp_path / "bytes")], "not UTF-8"),
        (["--admin", "b@x.org", "--password-file", shell.password_file, "--listen", "127.0.0.1:1"], "tcp://HOST:PORT"),
        (["--admin", "b@x.org", "--password-file", shell.password_file, "--web", "x:70000"], "0 to 65535"),
        (["--admin", "b@x.org", "--password-file", shell.password_file, "--public-host", "*"], "host name"),
        (["--password-file", shell.password_file], "--admin"),
    ]
    for words, expected in cases:
        answer = shell("init", *words)
        assert answer.code == 2 and expected in answer.sentence
        assert not shell.root.exists()


def test_without_a_terminal_nothing_is_asked(shell: Shell) -> None:
    answer = shell("account", "add", "--email", "a@x.org", "--role", "super")
    assert answer.code == 2 and "give --password-file" in answer.sentence


def test_options_stand_before_or_after_the_command(shell: Shell) -> None:
    expected = shell("--json", "space", "list").document
    root = str(shell.root)
    for words in (
        ["space", "list", "--json", "--home", root],
        ["space", "--json", "list", f"--home={root}"],
        ["space", "--home", root, "--json", "list"],
    ):
        assert cli.main(words) == 0
        assert json.loads(shell.capsys.readouterr().out) == expected


def test_home_comes_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILULIER_HOME", str(shell.root))
    assert cli.main(["space", "list", "--json"]) == 0
    assert [space["name"] for space in json.loads(shell.capsys.readouterr().out)] == ["default"]


def test_spaces_are_named_once_and_found_by_id_or_name(shell: Shell) -> None:
    space = shell("--json", "space", "add", "Réseau [red]Ouest[/red]").document["space"]
    assert shell("space", "add", "réseau [red]ouest[/red]").code in (0, 1)
    assert "[red]Ouest[/red]" in shell("space", "list").out
    for given in (space, "Réseau [red]Ouest[/red]"):
        document = shell(
            "--json", "contract", "add", "--client", given, "--email", "a@x.org", "--space", given
        ).document
        assert document["space"] == space
    assert (
        "see 'pilulier space list'"
        in shell("contract", "add", "--client", "x", "--email", "a@x.org", "--space", "no").sentence
    )


def test_contract_add_prints_a_code_that_names_this_appliance(shell: Shell) -> None:
    document = shell("--json", "contract", "add", "--client", "PH-7", "--email", "p@x.org", "--allocated", "1.5TB",
                     "--machines", "2", "--end", "2040-12-31", "--escrow", "private").document  # fmt: skip
    assert set(document) >= {"contract", "enrol_code"}
    code = decode_code(document["enrol_code"])
    home = Home(shell.root)
    assert (code.identity, code.curve_key) == (home.load_identity().public, home.load_curve_keys().public)
    ports = home.load_settings().chosen_ports
    assert code.transport == [f"tcp://127.0.0.1:{ports.transport}"] and ports.transport
    assert code.enrolment == [f"tcp://127.0.0.1:{ports.enrolment}"] and ports.enrolment != ports.transport
    shown = shell("--json", "contract", "show", document["contract"]).document
    assert (shown["allocated_bytes"], shown["machines_allowed"], shown["end"], shown["escrow"], shown["state"]) == (
        1_500_000_000_000,
        2,
        "2040-12-31",
        "private",
        "active",
    )
    another = shell("--json", "contract", "code", "PH-7").document
    assert decode_code(another["enrol_code"]).transport == code.transport
    assert another["enrol_code"] != document["enrol_code"]
    people = shell("contract", "code", "PH-7").out
    assert re.search(r"pilulier-agent enrol PIL1-[A-Z2-7-]+ --name NAME", people)
    assert document["enrol_code"] not in shell("contract", "list").out + shell("contract", "show", "PH-7").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--allocated", "lots"], "'lots' is not a size: write it like 50GB"),
        (["--allocated=-5GB"], "is not a size"),
        (["--machines", "many"], "not a number of machines"),
        (["--end", "31/12/2027"], "form YYYY-MM-DD"),
        (["--email", "nobody"], "not an e-mail address"),
        (["--client", "\x1b[2J"], "control characters"),
        (["--escrow", "maybe"], "invalid choice"),
    ],
)
def test_bad_contracts_change_nothing(shell: Shell, words: list[str], expected: str) -> None:
    answer = shell("contract", "add", "--client", "c", "--email", "c@x.org", *words)
    assert answer.code == 2 and expected in answer.sentence
    assert shell("--json", "contract", "list").document == []


def test_contract_life(shell: Shell) -> None:
    contract = shell("--json", "contract", "add", "--client", "A", "--email", "a@x.org").document["contract"]
    assert shell("--json", "contract", "pause", contract).document["state"] == "paused"
    refused = shell("contract", "code", contract)
    assert refused.code == 4 and "is paused" in refused.sentence
    assert shell("--json", "contract", "resume", contract).document["state"] == "active"
    assert shell("--json", "contract", "edit", contract, "--end", "2020-01-01").document["state"] == "expired"
    assert shell("--json", "contract", "edit", contract, "--end", "none").document["end"] is None
    assert shell("contract", "edit", contract).code == 2
    again = shell("contract", "add", "--client", "A", "--email", "a@x.org")
    assert again.code == 0 and "had a contract already" in again.err
    ambiguous = shell("contract", "show", "A")
    assert ambiguous.code == 1 and "several contracts" in ambiguous.sentence
    assert shell("--json", "contract", "delete", contract).document["state"] == "deleted"
    shell.enrolled("A", 1)
    waiting = shell("--json", "contract", "delete", "A")
    assert waiting.code == 3 and json.loads(waiting.out)["state"] == "deleting" and "nothing is erased" in waiting.err


def test_accounts(shell: Shell) -> None:
    contract = shell("--json", "contract", "add", "--client", "A", "--email", "a@x.org").document["contract"]
    new = ["account", "add", "--password-file", shell.password_file, "--json"]
    document = shell(*new, "--email", "C@x.org", "--role", "customer", "--contract", contract).document
    assert document["account"] == "c@x.org" and len(document["totp_secret"]) == 32
    assert shell(*new, "--email", "s@x.org", "--role", "support").document["space"]
    listed = shell("--json", "account", "list").document
    assert [account["account"] for account in listed] == ["boss@example.org", "c@x.org", "s@x.org"]
    assert not any("totp" in key or "password" in key for account in listed for key in account)
    assert shell(*new, "--email", "c@x.org", "--role", "super").code == 1
    assert shell(*new, "--email", "d@x.org", "--role", "customer").code == 2
    renewed = shell("--json", "account", "edit", "c@x.org", "--new-totp", "--state", "disabled").document
    assert renewed["state"] == "disabled" and renewed["totp_secret"] != document["totp_secret"]
    last = shell("account", "edit", "boss@example.org", "--state", "disabled")
    assert last.code == 1 and "last active super" in last.sentence


def test_machine_list_has_the_agreed_keys(shell: Shell) -> None:
    first = shell("--json", "contract", "add", "--client", "A", "--email", "a@x.org").document["contract"]
    second = shell("--json", "contract", "add", "--client", "B", "--email", "b@x.org").document["contract"]
    machine, other = shell.enrolled(first, 1), shell.enrolled(second, 2)
    packs = Home(shell.root).repository(machine.id) / "packs"
    packs.mkdir(parents=True)
    (packs / "one").write_bytes(bytes(1234))
    with Database.open(Home(shell.root).control_db) as db:
        statistics.record(db, machine.id, 3, complete=True, figures=figures(5000), now=NOW)
    listed = shell("--json", "machine", "list").document
    agreed = (
        "machine",
        "name",
        "contract",
        "state",
        "last_snapshot",
        "last_snapshot_at",
        "bytes_source",
        "bytes_stored",
    )
    assert [tuple(document[key] for key in agreed) for document in listed] == [
        (machine.hex, "PC-1", first, "active", 3, "2027-01-15T08:00:00Z", 5000, 1234),
        (other.hex, "PC-1", second, "active", None, None, 0, 0),
    ]
    assert [document["machine"] for document in shell("--json", "machine", "list", "--contract", "B").document] == [
        other.hex
    ]
    shown = shell("--json", "machine", "show", machine.hex[:10]).document
    assert shown["snapshots"][0]["bytes_source"] == 5000
    assert "5.0 kB" in shell("machine", "show", machine.hex).out
    assert machine.hex in shell("machine", "list").out


def test_machine_revoke_and_move(shell: Shell) -> None:
    for client in ("A", "B"):
        shell("contract", "add", "--client", client, "--email", "a@x.org", "--machines", "1")
    machine = shell.enrolled("A", 1)
    assert shell("--json", "machine", "move", machine.hex, "--contract", "B").document["machine"] == machine.hex
    second = shell.enrolled("A", 2, "PC-2")
    full = shell("machine", "move", "PC-2", "--contract", "B")
    assert full.code == 4 and "quota reached (1 of 1)" in full.sentence
    assert shell("--json", "machine", "revoke", second.hex).document["state"] == "revoked"
    missing = shell("machine", "revoke", "nothing")
    assert missing.code == 1 and "there is no machine 'nothing'" in missing.sentence


def test_repo_stats_and_check(shell: Shell) -> None:
    shell("contract", "add", "--client", "A", "--email", "a@x.org")
    machine = shell.enrolled("A", 1)
    missing = shell("repo", "stats", machine.hex)
    assert missing.code == 1 and "is missing" in missing.sentence
    Repository.create(
        Home(shell.root).repository(machine.id),
        repository=machine.id,
        vault=VaultId(machine.vault),
        public_key=machine.signing_key,
    ).close()
    stats = shell("--json", "repo", "stats", "PC-1").document
    assert set(stats) >= {"snapshots", "entries", "segments", "packs", "bytes_stored", "bytes_live"}
    assert stats["snapshots"] == 0
    for words in ([], ["--read-data"]):
        checked = shell("--json", "repo", "check", "PC-1", *words).document
        assert set(checked) >= {"ok", "records_checked", "bytes_read", "errors"}
        assert checked["ok"] is True and checked["errors"] == []
    assert "No error found" in shell("repo", "check", "PC-1").out


def test_help_of_every_command_reads(shell: Shell) -> None:
    for words in (
        [],
        ["init"],
        ["contract", "add"],
        ["account", "add"],
        ["machine", "list"],
        ["repo", "check"],
        ["doctor"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--help"])
        assert ended.value.code == 0
        assert "usage: pilulier" in shell.capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["bogus"], ["space"], ["space", "add"], ["contract", "show"], ["serve", "--port", "1"], ["--hom", "x", "doctor"]],
)
def test_usage_errors_are_one_sentence(shell: Shell, words: list[str]) -> None:
    answer = shell(*words)
    assert answer.code == 2 and "--help'" in answer.sentence


def test_what_nobody_foresaw_is_one_sentence_and_a_log(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "open", lambda path: 1 // 0)
    answer = shell("space", "list")
    log = Home(shell.root).logs / "errors.log"
    assert answer.code == 1 and str(log) in answer.err and answer.err.count("\n") == 1
    assert "ZeroDivisionError" in log.read_text() and "Traceback" in log.read_text()
