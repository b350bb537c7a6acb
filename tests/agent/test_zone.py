"""The machine's time zone: followed when it changes under a running process."""

from __future__ import annotations

import importlib.resources
import os
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import TZPATH

import pytest

from agent.system.naming import named, platform_name
from agent.system.zone import LocalZone, SystemZone

SUMMER = 1_784_000_000.0
"""14 July 2026, 03:33 UTC."""


def hours(zone: LocalZone) -> float:
    offset = zone().utcoffset(datetime.fromtimestamp(SUMMER, zone()))
    assert offset is not None
    return offset.total_seconds() / 3600


def zone_file(name: str) -> Path:
    for folder in TZPATH:
        if (Path(folder) / name).exists():
            return Path(folder) / name
    return Path(str(importlib.resources.files("tzdata"))) / "zoneinfo" / name


def test_a_machine_that_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    link = tmp_path / "localtime"
    link.symlink_to(zone_file("Europe/Paris"))
    zone = LocalZone(link)
    assert hours(zone) == 2 and zone() is zone()
    link.unlink()
    link.symlink_to(zone_file("America/Martinique"))
    assert hours(zone) == -4
    link.unlink()
    link.write_bytes(b"no zone")
    assert isinstance(zone(), SystemZone)
    link.unlink()
    assert isinstance(zone(), SystemZone)


def test_a_zone_named_by_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert hours(LocalZone()) == 5.75
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    assert isinstance(LocalZone()(), SystemZone)
    monkeypatch.setenv("TZ", "../../etc/passwd")
    assert isinstance(LocalZone()(), SystemZone)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the C library's zone cannot be set here")
def test_without_a_zone_file_the_c_library_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    former = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        zone = SystemZone()
        for stamp in (SUMMER, SUMMER + 180 * 86400):
            local = datetime.fromtimestamp(stamp, zone)
            assert local.timestamp() == stamp
            assert local.replace(tzinfo=None) == datetime.fromtimestamp(stamp)
    finally:
        monkeypatch.setenv("TZ", former) if former else monkeypatch.delenv("TZ")
        time.tzset()


def test_names_of_platforms() -> None:
    assert named(["Windows", "7", "6.1.7601"]) == "Windows-7-6.1.7601"
    assert named(["Debian", "", "6.1.0-18-amd64 #1 SMP\n"]) == "Debian-6.1.0-18-amd64-1-SMP"
    assert named([]) == "unknown" and len(named(["x" * 500])) == 100
    assert platform_name().count("-") >= 1
