"""`pilulier contract` where it says what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import passwords
from tests.support.command_line import Shell, initialised

DEFAULTS = {"keep_days": 90, "floor_days": 7, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(passwords, "_N", 2)
    return initialised(tmp_path / "home", capsys)


def added(shell: Shell, *words: str) -> dict[str, object]:
    document: dict[str, object] = shell(
        "--json", "contract", "add", "--client", "A", "--email", "a@x.org", *words
    ).document
    return {name: document[name] for name in DEFAULTS}


def shown(shell: Shell) -> dict[str, object]:
    document = shell("--json", "contract", "show", "A").document
    return {name: document[name] for name in DEFAULTS}


def test_retention_has_defaults_and_is_edited_one_number_at_a_time(shell: Shell) -> None:
    assert added(shell) == DEFAULTS == shown(shell)
    shell("contract", "edit", "A", "--keep-days", "30", "--keep-weekly", "8")
    edited = shell("contract", "edit", "A", "--floor-days", "14", "--keep-yearly", "3")
    assert "all of 30 days, one a week for 8 weeks, one a year for 3 years; never less than 14 days" in edited.out
    assert shown(shell) == DEFAULTS | {"keep_days": 30, "keep_weekly": 8, "floor_days": 14, "keep_yearly": 3}
    shell("contract", "edit", "A", "--keep-weekly", "0", "--email", "b@x.org")
    assert shown(shell)["keep_weekly"] == 0


def test_opening_days_are_the_spaces_until_they_are_edited(shell: Shell) -> None:
    added(shell)
    shell("contract", "edit", "A", "--open-days", "tue-sat")
    assert shell("--json", "contract", "show", "A").document["open_days"] == "tue,wed,thu,fri,sat"
    refused = shell("contract", "edit", "A", "--open-days", "lundi")
    assert refused.code == 2 and "give for instance mon-sat" in refused.sentence
    shell("contract", "edit", "A", "--open-days", "space")
    assert shell("--json", "contract", "show", "A").document["open_days"] is None


def test_few_days_bring_a_floor_that_fits(shell: Shell) -> None:
    assert added(shell, "--keep-days", "5") == DEFAULTS | {"keep_days": 5, "floor_days": 5}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--keep-days", "2"], "a floor of 3 days is more than the 2 days that are kept"),
        (["--floor-days", "91"], "a floor of 91 days is more than the 90 days that are kept"),
        (["--floor-days", "0"], "--floor-days 0 is out of range: give 3 to 36500 days"),
        (["--keep-monthly", "40000"], "--keep-monthly 40000 is out of range: give 0 to 36500 months"),
        (["--keep-days", "-1"], "--keep-days '-1' is not a number"),
        (["--keep-daily", "٣"], "is not a number"),
    ],
)
def test_what_promises_more_than_it_keeps_is_refused(shell: Shell, words: list[str], expected: str) -> None:
    refused = shell("contract", "add", "--client", "B", "--email", "b@x.org", *words)
    assert refused.code == 2 and expected in refused.sentence
    added(shell)
    refused = shell("contract", "edit", "A", *words)
    assert refused.code == 2 and "--" in refused.sentence
    assert shown(shell) == DEFAULTS
