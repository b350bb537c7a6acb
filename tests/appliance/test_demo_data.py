"""Demo data: the same for the same seed, of every kind that the pages show, and never over real contracts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyotp
import pytest

from appliance import demo_data, demo_history
from appliance.control import contract_cards, control_room, logins, machine_alerts, passwords, running
from appliance.control.accounts import Role
from appliance.control.control_room import State
from appliance.control.database import Database
from appliance.control.machine_alerts import AlertKind
from appliance.control.scope import EVERYTHING
from appliance.errors import ConflictError
from tests.support.command_line import initialised
from tests.support.control_house import NOW


def dump(path: Path) -> str:
    """Everything but password hashes, which are salted."""
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE account SET password_hash = ''")
        raw.execute("DELETE FROM schema_migration")
        return "\n".join(raw.iterdump())


def test_the_same_seed_makes_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_N", 2)
    for name in ("CONTRACTS", "MACHINES", "DAYS"):
        monkeypatch.setattr(demo_data, name, {"CONTRACTS": 60, "MACHINES": 70, "DAYS": 4}[name])
    dumps = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with Database.create(tmp_path / name) as db:
            demo_data.build(db, seed, NOW)
        dumps.append(dump(tmp_path / name))
    assert dumps[0] == dumps[1] != dumps[2]


def test_every_page_has_something_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_N", 2)
    with Database.create(tmp_path / "control.db") as db:
        made = demo_data.build(db, 1, NOW)
        assert (made.spaces, made.contracts, made.machines) == (3, 60, 150)
        assert made.snapshots > 8_000 and made.log_lines > 4 * made.snapshots
        assert {account.role for account in made.accounts} == {str(role) for role in Role}
        assert demo_history.pretend_running(db, tmp_path / "running.json", 1, NOW) == 4
        rows = control_room.rows(db, EVERYTHING, NOW, running.ids(tmp_path / "running.json", NOW))
        assert {row.state for row in rows} == set(State)
        alerts = {alert.kind for alert in machine_alerts.every(db, EVERYTHING, NOW)}
        # Nothing stands in their repositories that could be damaged.
        assert alerts == set(AlertKind) - {AlertKind.ALARM, AlertKind.DAMAGE}
        for chosen in contract_cards.CardFilter:
            assert contract_cards.search(db, EVERYTHING, NOW, state=chosen).total > 0
        account = made.accounts[0]
        step = logins.check_password(db, account.email, demo_data.PASSWORD, address="a", now=NOW)
        code = pyotp.TOTP(account.totp_secret).at(int(NOW))
        assert logins.finish(db, step.token, code, address="a", user_agent="b", now=NOW)
        assert db.integrity_problems() == []
        with pytest.raises(ConflictError, match="a home of their own"):
            demo_data.build(db, 1, NOW)


def test_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_N", 2)
    monkeypatch.setattr(demo_data, "DAYS", 3)
    shell = initialised(tmp_path / "home", capsys)
    made = shell("--json", "demo-data", "--seed", "1").document
    assert made["contracts"] == 60 and made["password"] == demo_data.PASSWORD
    assert made["accounts"][0]["role"] == "super" and made["accounts"][0]["totp_secret"]
    assert shell("--json", "demo-data", "--running").document == {"running": 4}
    assert shell("demo-data").code == 1 and shell("demo-data", "--seed", "x").code == 2
    assert shell("demo-data", "--at", "soon").code == 2
    verified = shell("--json", "audit", "verify").document
    assert verified["ok"] and verified["lines"] == 241 and verified["first_altered"] is None
    assert "241 lines" in shell("audit", "verify", "--head", verified["head"]).out
    assert shell("audit", "verify", "--head", "00" * 32).code == 1
    assert shell("audit", "verify", "--head", "zz").code == 2
    with sqlite3.connect(shell.root / "control.db") as raw:
        raw.execute("DROP TRIGGER audit_stays")
        raw.execute("UPDATE audit SET email = 'x@y.z' WHERE line = 7")
    altered = shell("--json", "audit", "verify")
    assert altered.code == 1 and '"first_altered": 7' in altered.out
    assert "line 7 is the first" in shell("audit", "verify").out
