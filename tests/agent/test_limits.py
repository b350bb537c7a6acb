"""Rates by the hour, the bucket that keeps them, and what power and network say: fixed clocks, recorded answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import surroundings
from agent.limits import RATE_LEAST, WINDOWS, Limits, Window, holding, rate_of, rate_text
from agent.pacing import LOOK_S, Bucket, RateNow
from agent.proxy import address_of
from agent.settings import AgentHome, change_settings, save_settings
from agent.system import network, power
from tests.agent.test_settings import SETTINGS
from transport.errors import UsageError

PARIS = ZoneInfo("Europe/Paris")
OPEN = Window(8 * 60 + 30, 19 * 60 + 30, (0, 1, 2, 3, 4, 5), 250_000)
NIGHT = Window(22 * 60, 6 * 60, (5,), 1_000_000)
"""Saturday evening to Sunday morning."""


def at(day: int, hour: int, minute: int = 0) -> float:
    """A moment of the week that begins on Monday, 23 November 2026, in Paris."""
    return datetime(2026, 11, 23 + day, hour, minute, tzinfo=PARIS).timestamp()


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        (at(0, 8, 29), None),
        (at(0, 8, 30), 250_000),
        (at(0, 19, 29), 250_000),
        (at(0, 19, 30), None),
        (at(6, 12), None),
        (at(5, 22), 1_000_000),
        (at(6, 5, 59), 1_000_000),
        (at(6, 6), None),
        (at(6, 22), None),
        (at(0, 3), None),
    ],
)
def test_hours(moment: float, rate: int | None) -> None:
    assert Limits((OPEN, NIGHT)).rate(moment, PARIS) == rate


def test_where_windows_overlap_the_lowest_counts_and_all_day_is_all_day() -> None:
    whole = Window(0, 0, tuple(range(7)), 500_000)
    limits = Limits((OPEN, whole))
    assert [limits.rate(at(0, hour), PARIS) for hour in (7, 12, 23)] == [500_000, 250_000, 500_000]
    assert whole.text() == "all day, every day: at most 4 Mbit/s"
    assert OPEN.text() == "08:30-19:30, mon-sat: at most 2 Mbit/s"


def test_a_window_takes_the_place_of_one_with_its_hours() -> None:
    limits = Limits((OPEN, NIGHT)).with_window(msgspec.structs.replace(OPEN, bytes_per_s=99_000))
    assert [one.bytes_per_s for one in limits.windows] == [1_000_000, 99_000]
    full = Limits(tuple(msgspec.structs.replace(OPEN, start=minute) for minute in range(WINDOWS)))
    with pytest.raises(UsageError, match="24 windows already"):
        full.with_window(NIGHT)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2Mbit", 250_000), ("500 kbit/s", 62_500), ("250kB", 250_000), ("1,5 MB/s", 1_500_000), ("1Gbps", None)],
)
def test_rates(text: str, rate: int | None) -> None:
    if rate is None:
        assert rate_of(text) == 125_000_000
    else:
        assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "2", "-1Mbit", "1e9kB", "2 Mbit/min", "127kbit", "0Mbit", "9999999GB"])
def test_rates_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        rate_of(text)


def test_a_rate_as_people_read_it() -> None:
    assert [rate_text(rate) for rate in (RATE_LEAST, 250_000, 187_500, 125_000_000)] == [
        *("128 kbit/s", "2 Mbit/s", "1.5 Mbit/s", "1 Gbit/s"),
    ]


# the bucket


class Line:
    """A bucket, its clock and its line."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self.now = 100.0
        self.sent = 0
        self.bucket = Bucket(lambda: self.rate, lambda: self.now)

    def send(self, size: int) -> float:
        """Send a message as soon as it may; how long that took."""
        began = self.now
        while (wait_s := self.bucket.wait_s(self.sent)) > 0:
            assert wait_s <= LOOK_S
            self.now += wait_s
        self.sent += size
        return self.now - began


def test_a_debt_is_waited_for_and_no_message_is_too_large() -> None:
    line = Line(100_000)
    assert line.send(1_000_000) == 0
    assert line.send(1) == pytest.approx(10.0)


def test_a_rate_that_changes_counts_at_once() -> None:
    line = Line(16_000)
    line.send(1_000_000)
    assert line.bucket.wait_s(line.sent) == LOOK_S
    line.rate = None
    assert line.send(10_000_000) == line.send(500_000) == 0
    line.rate = 1_000_000
    assert line.send(1) == pytest.approx(0.5), "of what went before, only the message under way counts"


def test_what_is_saved_up_in_a_quiet_hour_is_a_second_of_it() -> None:
    line = Line(100_000)
    line.bucket.wait_s(0)
    line.now += 3600
    assert line.send(100_000) == 0 and line.send(100_000) == 0
    assert line.send(1) == pytest.approx(1.0)


def test_heartbeats_add_to_the_debt_and_wait_for_nothing() -> None:
    line = Line(100_000)
    line.send(200_000)
    line.bucket.wait_s(line.sent)
    line.sent += 100_000  # what went out beside the queue
    assert line.send(0) == pytest.approx(3.0)


@given(
    st.lists(st.tuples(st.integers(1, 2_000_000), st.floats(0, 30)), min_size=1, max_size=40),
    st.integers(RATE_LEAST, 10_000_000),
)
def test_no_more_goes_than_the_rate_and_one_message(messages: list[tuple[int, float]], rate: int) -> None:
    line = Line(float(rate))
    began = line.now
    for size, idle_s in messages:
        line.now += idle_s
        line.send(size)
        assert line.sent <= rate * (line.now - began + 1) + size + 1


def test_the_rate_follows_the_clock_and_the_settings(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "agent")
    home.create()
    save_settings(home, SETTINGS)
    moment, ticks = [at(0, 12)], [0.0]
    rate = RateNow(home, Limits((OPEN,)), now=lambda: moment[0], zone=lambda: PARIS, clock=lambda: ticks[0])
    assert rate() == 250_000
    moment[0] = at(0, 20)
    assert rate() is None
    slow = msgspec.structs.replace(OPEN, start=0, end=0, bytes_per_s=50_000)
    change_settings(home, lambda settings: _with(settings, Limits((slow,))))
    assert rate() is None, "the disk is asked once a second"
    ticks[0] += 1
    assert rate() == 50_000
    home.config.write_text("{damaged")
    ticks[0] += 1
    assert rate() == 50_000


def _with(settings: object, limits: Limits) -> object:
    import dataclasses

    return dataclasses.replace(settings, limits=limits)  # type: ignore[type-var]


# power and network


def supplies(folder: Path, **found: dict[str, str]) -> Path:
    for name, fields in found.items():
        (folder / name).mkdir()
        for field, value in fields.items():
            (folder / name / field).write_text(value + "\n")
    return folder


MAINS_OFF, MAINS_ON = {"type": "Mains", "online": "0"}, {"type": "Mains", "online": "1"}
DRAINING, FULL = {"type": "Battery", "status": "Discharging"}, {"type": "Battery", "status": "Full"}
MOUSE = {"type": "Battery", "status": "Discharging", "scope": "Device"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is asked by another way")
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, None),
        ({"AC": MAINS_ON}, False),
        ({"AC": MAINS_ON, "BAT0": DRAINING}, False),
        ({"AC": MAINS_OFF, "BAT0": DRAINING}, True),
        ({"AC": MAINS_OFF, "usbc": {"type": "USB", "online": "1"}, "BAT0": DRAINING}, False),
        ({"AC": MAINS_OFF, "BAT0": FULL}, False),
        ({"BAT0": DRAINING}, True),
        ({"BAT0": FULL}, None),
        ({"mouse": MOUSE}, None),
        ({"AC": MAINS_ON, "mouse": MOUSE}, False),
        ({"damaged": {}}, None),
    ],
)
def test_batteries(tmp_path: Path, found: dict[str, dict[str, str]], expected: bool | None) -> None:
    assert power.on_battery(supplies(tmp_path, **found)) is expected
    assert power.on_battery(tmp_path / "missing") is None


NMCLI = """GENERAL.STATE:100 (connected)
GENERAL.METERED:{}
IP4.GATEWAY:192.0.2.1

GENERAL.STATE:100 (connected (externally))
GENERAL.METERED:yes
IP4.GATEWAY:

GENERAL.STATE:30 (disconnected)
GENERAL.METERED:yes
IP4.GATEWAY:192.0.2.9
"""


@pytest.mark.parametrize(
    ("busctl", "nmcli", "expected"),
    [
        ('{"type":"u","data":1}', None, True),
        ('{"type":"u","data":3}', None, True),
        ('{"type":"u","data":2}', None, False),
        ('{"type":"u","data":4}', None, False),
        ('{"type":"u","data":0}', None, None),
        ("nonsense", None, None),
        (None, None, None),
        (None, NMCLI.format("yes (guessed)"), True),
        (None, NMCLI.format("no (guessed)"), False),
        (None, NMCLI.format("unknown"), None),
        (None, "", None),
    ],
)
def test_metered_networks(busctl: str | None, nmcli: str | None, expected: bool | None) -> None:
    def asked(argv: Sequence[str]) -> str | None:
        return busctl if argv[0] == "busctl" else nmcli

    assert network.metered(asked) is expected


def test_a_program_that_is_asked_is_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "busctl"
    fake.write_text(f"#!/bin/sh\necho '{json.dumps({'type': 'u', 'data': 1})}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert network.metered() is True
    fake.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert network.metered() is None
    assert network.ask(["no-such-program"]) is None


@pytest.mark.parametrize(
    ("limits", "battery", "metered", "waits"),
    [
        (Limits(), True, False, "battery"),
        (Limits(), False, True, "metered"),
        (Limits(), None, None, ""),
        (Limits(), False, False, ""),
        (Limits(on_battery="run"), True, False, ""),
        (Limits(on_battery="run"), True, True, "metered"),
        (Limits(on_battery="run", on_metered="run"), True, True, ""),
    ],
)
def test_what_is_waited_for(
    limits: Limits, battery: bool | None, metered: bool | None, waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (waits in holding(limits, battery, metered)) and bool(waits) == bool(holding(limits, battery, metered))
    monkeypatch.setattr(surroundings.power, "on_battery", lambda: battery)
    monkeypatch.setattr(surroundings.network, "metered", lambda: metered)
    assert surroundings.holding(limits) == holding(limits, battery, metered)


def test_what_nothing_hangs_on_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted() -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr(surroundings.power, "on_battery", lambda: True)
    monkeypatch.setattr(surroundings.network, "metered", unwanted)
    assert surroundings.holding(Limits())
    monkeypatch.setattr(surroundings.power, "on_battery", unwanted)
    assert surroundings.holding(Limits(on_battery="run", on_metered="run")) == ""


# proxies


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("socks5://proxy.example.net:1080", "proxy.example.net:1080"),
        ("socks5h://127.0.0.1:9050/", "127.0.0.1:9050"),
        ("proxy:1", "proxy:1"),
        ("socks5://[2001:db8::1]:1080", "[2001:db8::1]:1080"),
    ],
)
def test_proxy_addresses(text: str, address: str) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize(
    "text", ["", "proxy", "socks4://p:1", "http://p:1", "socks5://p:0", "socks5://p:65536", "socks5://u:p@h:1", "-p:1"]
)
def test_proxy_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        address_of(text)


def test_utc_is_a_zone_too() -> None:
    assert Limits((OPEN,)).rate(datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp(), UTC) == 250_000


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        # 29 March 2026, 02:00 becomes 03:00; 25 October, 03:00 becomes 02:00: the clock on the wall decides.
        ("2026-03-29T00:59:00+00:00", 250_000),
        ("2026-03-29T01:00:00+00:00", None),
        ("2026-10-25T00:30:00+00:00", 250_000),
        ("2026-10-25T01:30:00+00:00", 250_000),
        ("2026-10-25T02:00:00+00:00", None),
    ],
)
def test_hours_go_by_the_clock_on_the_wall(moment: str, rate: int | None) -> None:
    night = Limits((Window(1 * 60, 3 * 60, tuple(range(7)), 250_000),))
    assert night.rate(datetime.fromisoformat(moment).timestamp(), PARIS) == rate
