"""The board of running backups: what is written, how often, who sees it, and when it is no longer believed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appliance.control import running
from appliance.control.running import STALE_S, Board
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from tests.support.control_house import NOW, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "running.json"


def test_progress_rate_and_time_left(house: House, path: Path) -> None:
    board = Board(path)
    machine = house.machine.id.hex()
    board.note(machine, "starting", 0, 0, 0, 0, NOW)
    board.flush(NOW, at_once=True)
    [begun] = running.listed(house.db, EVERYTHING, path, NOW)
    assert (begun.phase, begun.rate_bytes_s, begun.seconds_left) == ("starting", 0.0, None)
    board.note(machine, "sending", 1, 10, 500, 2000, NOW + 10)
    board.note(machine, "send\n\x1b[31ming", 4, 10, 1000, 2000, NOW + 20)
    board.flush(NOW + 20, at_once=True)
    [now] = running.listed(house.db, EVERYTHING, path, NOW + 20)
    assert (now.machine_name, now.client_id, now.phase, now.started_at) == ("PC-1", "ours", "send [31ming", NOW)
    assert (now.rate_bytes_s, now.seconds_left) == (50.0, 20.0), "what an earlier try had sent does not count"
    assert running.ids(path, NOW + 20) == {house.machine.id}


def test_the_file_is_written_at_most_once_a_second(path: Path) -> None:
    board = Board(path)
    board.flush(NOW)
    written = path.stat().st_mtime_ns, path.stat().st_ino
    began = time.monotonic()
    for number in range(200):
        board.note("00" * 16, "sending", number, 200, number, 200, NOW)
        board.flush(NOW)
    assert time.monotonic() - began > 0.9 or (path.stat().st_mtime_ns, path.stat().st_ino) == written
    board.flush(NOW, at_once=True)
    [entry] = running._entries(path, NOW)
    assert entry.bytes_done == 199


def test_what_is_over_or_silent_is_not_running(house: House, path: Path) -> None:
    board = Board(path)
    one, two = house.machine.id, house.neighbour_machine.id
    for machine in (one, two):
        board.note(machine.hex(), "sending", 0, 1, 0, 1, NOW)
    board.alive(two.hex(), NOW + 60)
    board.flush(NOW, at_once=True)
    assert running.ids(path, NOW + STALE_S) == {one, two}
    assert running.ids(path, NOW + STALE_S + 1) == {two}
    board.drop(two.hex())
    board.drop("ff" * 16)
    board.flush(NOW, at_once=True)
    assert running.ids(path, NOW) == {one}
    board.close()
    assert running.ids(path, NOW) == frozenset()
    assert running.ids(path.with_name("none"), NOW) == frozenset()
    for damaged in (b"", b"[{", b'[{"machine": 1}]', b"\xff\xfe"):
        path.write_bytes(damaged)
        assert running.listed(house.db, EVERYTHING, path, NOW) == []


def test_a_new_process_wipes_what_the_last_one_left(path: Path) -> None:
    board = Board(path)
    board.note("00" * 16, "sending", 0, 1, 0, 1, NOW)
    board.flush(NOW, at_once=True)
    Board(path).flush(NOW)
    assert running.ids(path, NOW) == frozenset()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_full_or_closed_folder_is_logged_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o500)
    Board(tmp_path / "running.json").flush(NOW)
    assert "cannot be written" in caplog.text
    tmp_path.chmod(0o700)


def test_nobody_sees_out_of_their_scope(house: House, path: Path) -> None:
    board = Board(path)
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        board.note(machine.id.hex(), "sending", 0, 1, 0, 1, NOW)
    board.note("ab" * 16, "sending", 0, 1, 0, 1, NOW)
    board.flush(NOW, at_once=True)
    for scope, expected in (
        (EVERYTHING, ["away", "next", "ours"]),
        (OneSpace(house.ours.space_id), ["next", "ours"]),
        (OneSpace(house.elsewhere.space_id), ["away"]),
        (OneContract(house.ours.id), ["ours"]),
    ):
        assert [one.client_id for one in running.listed(house.db, scope, path, NOW)] == expected
        narrowed = running.listed(house.db, scope, path, NOW, space_id=house.elsewhere.space_id)
        assert [one.client_id for one in narrowed] == [name for name in expected if name == "away"]
