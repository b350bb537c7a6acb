"""The units of systemd: systemd itself finds nothing wrong with them, they are closed, and nothing strays into one."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance import units
from appliance.settings import Home
from appliance.units import AGENT, APPLIANCE, Site, Unit
from tests.support.command_line import Shell, initialised
from transport.errors import UsageError

EXPOSURE = 2.0
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed: apt-get install systemd"
)


def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "home", getpass.getuser(), (shutil.which("true") or "/bin/true",), "127.0.0.1:8787")


def written(made: list[Unit], folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    for unit in made:
        (folder / unit.name).write_text(unit.content)
    return [str(folder / unit.name) for unit in made]


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    paths = written(units.appliance_units(site(tmp_path)), tmp_path / "units")
    paths += written(units.agent_units(tmp_path / "agent", site(tmp_path).command), tmp_path / "units")
    found = analyze("verify", "--man=no", *paths)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@needs_systemd
def test_systemd_would_have_something_to_say(tmp_path: Path) -> None:
    # The check above can fail: a word that systemd does not know is told.
    made = units.appliance_units(site(tmp_path))
    misspelt = [Unit(one.name, one.content.replace("RestartSec", "RestartSecs")) for one in made]
    assert "RestartSecs" in analyze("verify", "--man=no", *written(misspelt, tmp_path / "units")).stderr


@needs_systemd
@pytest.mark.parametrize("name", [name for name in APPLIANCE if name.endswith(".service")])
def test_the_appliance_s_services_are_closed(tmp_path: Path, name: str) -> None:
    written(units.appliance_units(site(tmp_path)), tmp_path / "units")
    told = analyze("security", "--offline=true", "--no-pager", str(tmp_path / "units" / name))
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
    assert match is not None and float(match[1]) <= EXPOSURE, told.stdout + told.stderr


def test_all_places_are_filled_and_all_templates_are_written(tmp_path: Path) -> None:
    made = units.appliance_units(site(tmp_path)) + units.agent_units(tmp_path / "agent", site(tmp_path).command)
    assert [unit.name for unit in made] == [*APPLIANCE, *AGENT]
    templates = {path.name for path in units.templates().iterdir() if path.name != "hardening.conf"}
    assert templates == {unit.name for unit in made}
    for unit in made:
        code = "\n".join(line for line in unit.content.splitlines() if not line.startswith("#"))
        assert not re.search(r"@[A-Z_]+@", code), unit.name
        if unit.name in APPLIANCE and unit.name.endswith(".service"):
            assert f"User={getpass.getuser()}\n" in code and f"ReadWritePaths={tmp_path / 'home'}\n" in code


@pytest.mark.parametrize("path", ["relative", "/with space", "/with\nline", "/with%h", "/$HOME", '/"x"', "/a/../b"])
def test_paths_add_nothing_to_a_unit(tmp_path: Path, path: str) -> None:
    good = site(tmp_path)
    with pytest.raises(UsageError, match="cannot stand in a unit"):
        units.appliance_units(Site(Path(path), good.user, good.command, good.web))
    with pytest.raises(UsageError):
        units.agent_units(Path(path), good.command)


def test_users_and_addresses_are_checked(tmp_path: Path) -> None:
    good = site(tmp_path)
    with pytest.raises(UsageError, match="there is no user 'nobody-of-this-name'"):
        units.appliance_units(Site(good.home, "nobody-of-this-name", good.command, good.web))
    for web in ("", "localhost:80", "127.0.0.1:0", "127.0.0.1:80\nExecStart=/bin/sh"):
        with pytest.raises(UsageError, match="no IP address and port"):
            units.appliance_units(Site(good.home, good.user, good.command, web))


@pytest.mark.parametrize(("home", "shown"), [("/var/lib/pilulier", "yes"), ("/home/me/pilulier", "read-only")])
def test_peoples_homes_are_hidden_unless_the_appliance_lies_there(tmp_path: Path, home: str, shown: str) -> None:
    good = site(tmp_path)
    made = units.appliance_units(Site(Path(home), good.user, good.command, good.web))
    assert all(f"ProtectHome={shown}\n" in unit.content for unit in made if unit.name.endswith(".service"))


def test_as_an_operator_types_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell: Shell = initialised(tmp_path / "home", capsys)
    target = tmp_path / "system"
    assert shell("install-systemd", "--to", str(target)).code == 2, "the folder is not there"
    target.mkdir()
    made = shell("--json", "install-systemd", "--to", str(target)).document
    assert made["start"] == "pilulier.target" and {path.name for path in target.iterdir()} == set(APPLIANCE)
    # The port that was to be chosen is chosen for good: the socket holds it from now on.
    web = Home(shell.root).load_settings().web
    assert not web.endswith(":0") and f"ListenStream={web}\n" in (target / "pilulier-web.socket").read_text()
    agent = shell("install-systemd", "--to", str(target), "--agent", str(tmp_path / "agent"))
    assert agent.code == 0 and "enable --now pilulier-agent.service" in agent.out
    assert (target / "pilulier-agent-backup.timer").is_file()
    assert shell("--json", "migrate").document["schema"] >= 5
    assert shell("install-systemd", "--to", str(target), "--user", "nobody-of-this-name").code == 2
