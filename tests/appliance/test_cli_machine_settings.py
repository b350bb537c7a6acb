"""`pilulier machine settings`, `backup` and `accept`."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import machine_settings, passwords
from appliance.control.database import Database
from appliance.settings import Home
from tests.appliance.test_control_machine_settings import report
from tests.support.command_line import Shell, initialised


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(passwords, "_N", 2)
    shell = initialised(tmp_path / "home", capsys)
    shell("contract", "add", "--client", "A", "--email", "a@x.org")
    shell.enrolled("A", 1)
    return shell


def test_set_part_by_part_shown_and_left_again(shell: Shell) -> None:
    first = shell("--json", "machine", "settings", "PC-1").document
    assert (first["version"], first["state"], first["include"], first["times"]) == (0, "nothing", None, None)
    shell("machine", "settings", "PC-1", "--include", "/srv/a", "--include", "/srv/b", "--exclude", "*.tmp")
    both = shell("--json", "machine", "settings", "PC-1", "--time", "19:00", "--time", "12:30", "--days", "mon,fri",
                 "--language", "de").document  # fmt: skip
    assert (both["version"], both["include"], both["exclude"]) == (2, ["/srv/a", "/srv/b"], ["*.tmp"])
    assert (both["times"], both["days"], both["language"]) == (["12:30", "19:00"], ["mon", "fri"], "de")
    assert shell("--json", "machine", "settings", "PC-1").document == both, "looking changes nothing"
    people = shell("machine", "settings", "PC-1").out
    assert "/srv/a, /srv/b" in people and "version 2, waiting" in people and "nothing yet" in people
    left = shell("--json", "machine", "settings", "PC-1", "--leave", "selection", "--leave", "language").document
    assert (left["version"], left["include"], left["language"], left["times"]) == (3, None, None, ["12:30", "19:00"])
    assert shell("--json", "machine", "settings", "PC-1", "--impose").document["version"] == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--exclude", "*.tmp"], "--exclude needs --include"),
        (["--days", "mon"], "--days needs --time"),
        (["--time", "noon"], "'noon' is not a time of day like 12:30"),
        (["--time", "12:30", "--days", "lundi"], "'lundi' is not a day of the week"),
        (["--include", "srv"], "srv is not an absolute path"),
        (["--language", "xx"], "xx"),
    ],
)
def test_bad_input_is_one_sentence(shell: Shell, words: list[str], sentence: str) -> None:
    refused = shell("machine", "settings", "PC-1", *words)
    assert refused.code == 2 and sentence in refused.sentence
    assert shell("--json", "machine", "settings", "PC-1").document["version"] == 0


def test_a_backup_is_asked_for_and_a_smaller_selection_accepted(shell: Shell) -> None:
    asked = shell("--json", "machine", "backup", "PC-1").document
    assert (asked["request"], asked["state"]) == (1, "waiting")
    assert "within a minute" in shell("machine", "backup", "PC-1").out
    machine = bytes.fromhex(asked["machine"])
    with Database.open(Home(shell.root).control_db) as db:
        machine_settings.note(db, machine, report(remote_allowed=False, reason="odd"), shrunk=True)
    refused = shell("machine", "backup", "PC-1")
    assert refused.code == 4 and "as its owner chose" in refused.sentence
    people = shell("machine", "settings", "PC-1").out
    assert "refused by the machine's owner" in people and "made smaller" in people and "odd" in people
    shell("machine", "accept", "PC-1")
    assert shell("--json", "machine", "settings", "PC-1").document["report"]["shrunk_at"] is None
