"""What systemd is told, as its socket hears it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import readiness
from appliance.readiness import Pulse


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield heard


def test_ready(manager: socket.socket) -> None:
    readiness.notify("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_signs_of_life_come_four_times_within_the_wait(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    pulse = Pulse()
    assert pulse.every_s == 2.0
    sent = 0
    manager.setblocking(False)
    for _ in range(80):
        pulse.beat()
        now[0] += 0.1
        try:
            assert manager.recv(100) == b"WATCHDOG=1"
            sent += 1
        except BlockingIOError:
            pass
    assert sent == 4


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "1"}])
def test_nobody_asked_nobody_told(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Pulse().beat()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_no_manager_and_a_deaf_one_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    readiness.notify("READY=1")
    for path in (str(tmp_path / "nothing"), "@pilulier-nothing"):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        readiness.notify("READY=1")
