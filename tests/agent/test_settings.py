"""agent.settings: the home's layout, strict settings, the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import BusyError, NotEnrolledError, SettingsError
from agent.selection import Selection
from agent.settings import (
    AgentHome,
    ApplianceAddress,
    DeltaSettings,
    Settings,
    agent_home,
    exclusive,
    load_settings,
    save_settings,
)
from transport.names import InstallationId, RepositoryId, VaultId

SETTINGS = Settings(
    machine=RepositoryId(b"m" * 16),
    name="Comptoir 1",
    contract="PHARMA-É",
    vault=VaultId(b"v" * 16),
    installation=InstallationId(b"i" * 16),
    appliance=ApplianceAddress(("tcp://box:7401", "tcp://[::1]:7401"), b"I" * 32, b"C" * 32),
    selection=Selection.of([b"/home/\xff\xfe", b"/srv"], [b"*.tmp", b"hex:41", b"/srv/cache"]),
    delta=DeltaSettings(minimum_bytes=1 << 20),
)


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "agent")
    made.create()
    return made


def test_settings_come_back_as_saved(home: AgentHome) -> None:
    save_settings(home, SETTINGS)
    assert load_settings(home) == SETTINGS
    assert home.config.stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700


def test_not_enrolled(home: AgentHome) -> None:
    with pytest.raises(NotEnrolledError, match="this machine is not enrolled: run pilulier-agent enrol CODE"):
        load_settings(home)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: text.replace(b'"machine"', b'"machin"'),
        lambda text: text.replace(b'"format": 1', b'"format": 2'),
        lambda text: text.replace(b"6d6d", b"xx6d"),
        lambda text: text.replace(b'"/srv"', b'"srv"'),
        lambda text: text.replace(b"hex:2f", b"hex:2"),
        lambda text: text + b"{}",
    ],
)
def test_a_damaged_file_is_named_and_never_overwritten(home: AgentHome, damage) -> None:  # type: ignore[no-untyped-def]
    save_settings(home, SETTINGS)
    damaged = damage(home.config.read_bytes())
    home.config.write_bytes(damaged)
    with pytest.raises(SettingsError, match=r"config\.json is damaged") as raised:
        load_settings(home)
    assert raised.value.exit_code == 2
    with pytest.raises(SettingsError):
        save_settings(home, SETTINGS)
    assert home.config.read_bytes() == damaged


def test_where_the_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PILULIER_AGENT_HOME", raising=False)
    assert agent_home().path == Path("/var/lib/pilulier-agent")
    monkeypatch.setenv("PILULIER_AGENT_HOME", str(tmp_path))
    assert agent_home().path == tmp_path
    assert agent_home("/x").config == Path("/x/config.json")


def test_two_backups_at_once(home: AgentHome) -> None:
    with exclusive(home), pytest.raises(BusyError, match=f"process {os.getpid()}") as raised, exclusive(home):
        pass
    assert raised.value.exit_code == 4
    with exclusive(home):
        pass


def test_a_killed_holder_leaves_no_lock(home: AgentHome) -> None:
    program = (
        "import sys, pathlib; from agent.settings import *; held = exclusive(AgentHome(pathlib.Path(sys.argv[1])),"
        " 'backup'); held.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"a backup of this agent is already going on .process {process.pid}"):
            exclusive(home).__enter__()
    finally:
        process.kill()
        process.communicate()
    with exclusive(home):
        pass
