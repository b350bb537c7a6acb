"""The home folder, its settings, addresses and sizes, `doctor`, and the program as a process of its own."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance import doctor, endpoints, sizes
from appliance.control import alarms
from appliance.control.database import Database
from appliance.endpoints import Endpoint, Overrides
from appliance.errors import AlreadyServingError, ControlDatabaseError, HomeError
from appliance.settings import ChosenPorts, Home, Settings, initialising
from tests.support.processes import environment, program
from transport.errors import KeyFileError, PilulierError, UsageError

ANYWHERE = Settings(listen="tcp://127.0.0.1:0", web="127.0.0.1:0")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with initialising(tmp_path / "home", ANYWHERE) as home:
        Database.create(home.control_db).close()
    return home


def test_home_is_private_and_complete(home: Home) -> None:
    assert Home.open(home.root) == home
    for folder in (home.root, home.keys, home.repositories):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in (home.identity_key, home.curve_key, home.settings_file, home.control_db):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert home.curve_public() == home.load_curve_keys().public
    assert home.load_identity() == home.load_identity()


def test_a_folder_without_marker_is_no_home(home: Home, tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="is not a Pilulier home"):
        Home.open(tmp_path)
    home.repositories_marker.unlink()
    with pytest.raises(HomeError, match="has lost its marker file"):
        Home.open(home.root)
    home.marker.unlink()
    with pytest.raises(HomeError, match="mount its disk"):
        Home.open(home.root)
    with pytest.raises(HomeError, match="holds part of"), initialising(home.root, ANYWHERE):
        pass
    assert home.identity_key.exists()


def test_initialising_that_fails_takes_everything_back(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir()
    (root / "lost+found").mkdir()
    with pytest.raises(ZeroDivisionError), initialising(root, ANYWHERE):
        _ = 1 / 0
    assert os.listdir(root) == ["lost+found"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"listen"', '"lisen"'),
        lambda text: text.replace('"tcp://127.0.0.1:0"', "5"),
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: "\0" * len(text),
    ],
)
def test_damaged_settings_are_named_never_replaced(home: Home, damage: Callable[[str], str]) -> None:
    damaged = damage(home.settings_file.read_text())
    home.settings_file.write_text(damaged)
    with pytest.raises(HomeError, match=r"settings\.json"):
        home.load_settings()
    with pytest.raises(HomeError, match=r"settings\.json"):
        endpoints.current(home)
    assert home.settings_file.read_text() == damaged


def test_damaged_or_open_keys_are_refused(home: Home) -> None:
    home.identity_key.chmod(0o640)
    with pytest.raises(KeyFileError, match="can be read by others"):
        home.load_identity()
    for content in (b"", b"pilulier-curve-1 zz\n", home.curve_key.read_bytes()[:-10]):
        home.curve_key.write_bytes(content)
        with pytest.raises(KeyFileError, match=r"curve\.key is damaged"):
            home.load_curve_keys()


def test_one_service_per_home(home: Home) -> None:
    assert not home.is_served()
    with home.serving():
        assert home.is_served()
        with pytest.raises(AlreadyServingError), home.serving():
            pass
    assert not home.is_served()


def test_chosen_ports_stay_and_differ(home: Home) -> None:
    addresses = endpoints.current(home)
    ports = {addresses.transport.port, addresses.enrolment.port, addresses.web.port}
    assert len(ports) == 3 and 0 not in ports
    assert endpoints.current(home) == addresses
    assert endpoints.prepare_to_serve(home, Overrides()) == endpoints.Prepared(addresses, home.load_settings(), ())


def test_two_commands_at_once_choose_the_same_ports(home: Home) -> None:
    found: list[endpoints.Addresses] = []
    threads = [threading.Thread(target=lambda: found.append(endpoints.current(home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_a_chosen_port_taken_meanwhile_is_chosen_anew_and_said(home: Home) -> None:
    before = endpoints.current(home)
    with socket.create_server(("127.0.0.1", before.transport.port)):
        prepared = endpoints.prepare_to_serve(home, Overrides())
    assert prepared.addresses.transport != before.transport
    assert prepared.addresses.enrolment == before.enrolment
    (notice,) = prepared.notices
    assert str(before.transport.port) in notice and str(prepared.addresses.transport.port) in notice
    assert endpoints.current(home) == prepared.addresses


def test_addresses_given_to_serve_are_remembered(home: Home) -> None:
    endpoints.current(home)
    given = Overrides(listen="tcp://0.0.0.0:7000", public_host="backup.example.org")
    addresses = endpoints.prepare_to_serve(home, given).addresses
    assert (str(addresses.transport), str(addresses.enrolment)) == ("tcp://0.0.0.0:7000", "tcp://0.0.0.0:7001")
    settings = home.load_settings()
    assert endpoints.current(home) == addresses and settings.chosen_ports.transport == 0
    assert str(endpoints.public(addresses.transport, settings)) == "tcp://backup.example.org:7000"
    derived = endpoints.public(addresses.transport, msgspec.structs.replace(settings, public_host=""))
    assert derived.host not in ("0.0.0.0", "")
    before = home.settings_file.read_bytes()
    with pytest.raises(UsageError):
        endpoints.remember(home, Overrides(listen="tcp://nowhere"))
    assert home.settings_file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://127.0.0.1:0", Endpoint("127.0.0.1", 0)),
        ("tcp://[::1]:9444", Endpoint("::1", 9444)),
        ("tcp://*:80", Endpoint("0.0.0.0", 80)),
        ("tcp://box.example.org:65535", Endpoint("box.example.org", 65535)),
    ],
)
def test_addresses_parse_and_print(text: str, endpoint: Endpoint) -> None:
    assert endpoints.parse_listen(text) == endpoint
    assert str(endpoint) == text.replace("*", "0.0.0.0")


@pytest.mark.parametrize(
    "text",
    ["", "tcp://", "tcp://x", "udp://x:1", "tcp://x:65536", "tcp://x:-1", "tcp://x:1/y", "tcp://a b:1", "tcp://::1:5"],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        endpoints.parse_listen(text)


def test_ports_must_differ_and_leave_room() -> None:
    for settings in (
        Settings(listen="tcp://0.0.0.0:65535"),
        Settings(listen="tcp://0.0.0.0:9444", enrol_listen="tcp://0.0.0.0:9444"),
    ):
        with pytest.raises(UsageError):
            endpoints.checked(settings)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("50GB", 50 * 10**9),
        ("50 Go", 50 * 10**9),
        ("1.5TB", 1_500_000_000_000),
        ("1,5 To", 1_500_000_000_000),
        ("1.1TB", 1_100_000_000_000),
        ("500mb", 500 * 10**6),
        ("20GiB", 20 * 2**30),
        ("2k", 2000),
    ],
)
def test_sizes_parse(text: str, size: int) -> None:
    assert sizes.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "5 XB", "1..5GB", "٥GB", "10000TB", "9" * 40])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        sizes.parse_size(text)


def test_sizes_print() -> None:
    assert [sizes.format_size(size) for size in (0, 999, 1000, 394_600_000_000, 999_999_999, 5 * 10**15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "394.6 GB",
        "1.0 GB",
        "5.0 PB",
    ]


def failures(home: Home, now: float = 1.9e9) -> dict[str, str]:
    return {check.name: check.detail for check in doctor.examine(home.root, now) if not check.ok}


def test_doctor_is_content_with_a_new_home_and_changes_nothing(home: Home) -> None:
    before = home.settings_file.read_bytes()
    assert failures(home) == {}
    assert home.settings_file.read_bytes() == before


def test_doctor_names_each_fault(home: Home, tmp_path: Path) -> None:
    assert "is not a Pilulier home" in doctor.examine(tmp_path, 1.9e9)[0].detail
    assert failures(home, now=1e9).keys() == {"clock"}
    home.root.chmod(0o755)
    home.identity_key.chmod(0o644)
    (home.repositories / ("ab" * 16)).mkdir()
    endpoints.current(home)
    content = home.control_db.read_bytes()
    home.control_db.write_bytes(content[:2000] + b"\xff" * (len(content) - 2000))
    with socket.create_server(("127.0.0.1", endpoints.current(home).transport.port)):
        found = failures(home)
    assert found.keys() >= {"permissions", "keys", "control database", "repositories", "ports"}
    assert "chmod 700" in found["permissions"] and "chmod 600" in found["keys"]
    home.settings_file.write_text("{")
    assert "settings.json is damaged" in failures(home)["settings"]


def test_doctor_tells_what_is_wrong_now_and_since_when(home: Home) -> None:
    with Database.open(home.control_db) as db:
        alarms.sound(db, alarms.CLOCK, "it went back", now=1.8e9)
        assert failures(home) == {"alarm": "clock, since 2027-01-15 08:00 UTC: it went back"}
        alarms.end(db, alarms.CLOCK)
        alarms.sound(db, alarms.CLOCK, "it went back", now=1.8e9, machine_id=b"m" * 16)
        assert f"clock of machine {b'm'.hex() * 16}" in failures(home)["alarm"]
        alarms.end(db, alarms.CLOCK, b"m" * 16)
    assert failures(home) == {}


def test_control_database_that_vanished_is_not_made_anew(home: Home) -> None:
    home.control_db.unlink()
    with pytest.raises(ControlDatabaseError, match=r"control\.db is missing"):
        Database.open(home.control_db)
    assert not home.control_db.exists() and "is missing" in failures(home)["control database"]


def pilulier(*words: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program("pilulier"), *words], input=stdin, capture_output=True, text=True, timeout=60, env=environment(extra)
    )


def test_as_a_process(tmp_path: Path) -> None:
    root = str(tmp_path / "home")
    made = pilulier(
        "init", "--admin", "a@x.org", "--password-file", "-", "--json", stdin="a long password\n", PILULIER_HOME=root
    )
    assert made.returncode == 0 and made.stderr == ""
    assert json.loads(made.stdout)["home"] == root
    for words, code in (
        (["nonsense"], 2),
        (["contract", "show", "x"], 1),
        (["--home", "/nowhere", "space", "list"], 2),
    ):
        ended = pilulier(*words, PILULIER_HOME=root)
        assert (ended.returncode, ended.stdout) == (code, "")
        assert ended.stderr.startswith("pilulier: ") and ended.stderr.count("\n") == 1
    with Home(Path(root)).serving():
        second = pilulier("serve", PILULIER_HOME=root)
    assert second.returncode == 1 and "another 'pilulier serve' runs" in second.stderr


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = ("sqlite_utils", "rich", "pyotp", "zmq", "appliance.service", "appliance.store.repository")
    code = f"import sys, appliance.cli as c; c.build_parser(); print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    assert done.stdout.strip() == "[]", done.stderr


def test_every_error_has_its_own_code() -> None:
    from appliance import errors

    own = [value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__]
    codes = [error.code for error in own if issubclass(error, PilulierError)]
    assert len(codes) == len(set(codes)) == len(own)
    assert ChosenPorts() == ChosenPorts(0, 0, 0)
