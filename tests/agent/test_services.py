"""What each system is given so that the agent's service begins by itself: read back as that system reads it."""

from __future__ import annotations

import json
import plistlib
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from agent.system import services
from tests.support.processes import program
from transport.errors import UsageError

SPACES = r"C:\Program Files\Pilulier\pilulier-agent.exe"


def test_launchd_is_told_to_keep_it_alive() -> None:
    made = services.definition("macos", ["/opt/pilulier agent/bin"], "/Library/Pilulier")
    read = plistlib.loads(made.content)
    assert read["ProgramArguments"] == ["/opt/pilulier agent/bin", "--home", "/Library/Pilulier", "run"]
    assert read["KeepAlive"] and read["RunAtLoad"] and made.name == f"{read['Label']}.plist"


def test_windows_is_given_a_task_that_begins_at_start_up() -> None:
    made = services.definition("windows", [SPACES], "C:\\Pilulier data\\")
    task = ET.fromstring(made.content)
    found = {part.tag.rpartition("}")[2]: part.text for part in task.iter()}
    assert found["Command"] == SPACES and found["Arguments"] == '--home "C:\\Pilulier data\\\\" run'
    assert found["ExecutionTimeLimit"] == "PT0S" and found["DisallowStartIfOnBatteries"] == "false"


@pytest.mark.parametrize("home", ["/srv/a b", "/srv/a\nExecStart=/bin/sh", "/srv/%h", "/srv/$HOME", "/srv/'a'"])
def test_what_would_mean_something_to_systemd_is_refused(home: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a unit"):
        services.definition("linux", ["/opt/pilulier-agent"], home)


def test_the_command_writes_the_unit_and_says_what_is_next(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [*program("pilulier-agent"), "--home", str(home), "--json", "install-service", "--to"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    unit = Path(said["file"]).read_text()
    assert f"--home {home} run\n" in unit and "@" not in unit and said["next"].startswith("systemctl")
    refused = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2 and "give a folder with --to" in refused.stderr
