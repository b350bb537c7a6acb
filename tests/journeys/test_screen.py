"""The machine's own screen: a service, a backup that fails, a real bus with a real notification service on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.test_service import WITHIN_S, folders, service
from tests.support.desktop_bus import DesktopBus
from tests.support.faults import wait_until
from tests.support.processes import House


def test_a_failure_is_shown_once_and_that_all_is_well_again(
    house: House, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = folders(tmp_path)
    agent = house.agent(one)
    agent.command("backup")
    letter = (one / "letter").read_text()
    (one / "letter").unlink()
    with DesktopBus(tmp_path_factory.mktemp("bus")) as desktop:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", desktop.address)
        monkeypatch.setenv("LANG", "de_DE.UTF-8")
        monkeypatch.setenv("LC_ALL", "")
        with service(agent):
            house.appliance.command("machine", "backup", agent.machine)
            wait_until(lambda: len(desktop.shown) == 1, "a notice", WITHIN_S)
            (one / "letter").write_text(letter)
            agent.command("backup")
            wait_until(lambda: len(desktop.shown) > 1, "that all is well", WITHIN_S)
        assert agent.command("notices", "--test").document == {"notices": "on", "desktops": 1}
    assert [shown.title for shown in desktop.shown] == [
        "Die Sicherung ist fehlgeschlagen",
        *["Die Sicherung läuft wieder"] * 2,
    ]
    assert "Ordner ist leer oder fehlt" in desktop.shown[0].body and desktop.shown[0].urgency == 2
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    assert agent.command("notices", "off").document == {"notices": "off"}
