"""An agent that lost its memory or has a double: nothing is sent twice, nobody's history is taken over."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Agent, House, landed
from tests.support.trees import assert_same

_STATE = ("ledger.db", "staging.db", "pending.log")


def _source(folder: Path) -> Path:
    """6 MB, half of it one file that deltas well and half small files."""
    rng = random.Random("state")
    (folder / "documents").mkdir(parents=True)
    words = [rng.randbytes(24).hex().encode() for _ in range(2000)]
    (folder / "base.db").write_bytes(b"".join(rng.choice(words) + rng.randbytes(16) for _ in range(3 << 14)))
    for number in range(60):
        (folder / "documents" / f"scan-{number}").write_bytes(rng.randbytes(50_000))
    return folder


def _edit(source: Path, text: bytes) -> None:
    with open(source / "base.db", "r+b") as file:
        file.seek(1_000_000)
        file.write(text)


def _bytes(source: Path) -> int:
    return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())


def _delete(home: Path) -> None:
    for name in _STATE:
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home / "signatures")


def _garble(home: Path) -> None:
    for name in _STATE:
        (home / name).write_bytes(random.Random(name).randbytes(20_000))
    for path in (home / "signatures").rglob("*"):
        if path.is_file():
            path.write_bytes(b"garbage")


def _garble_inside(home: Path) -> None:
    """The file opens, and is broken further on."""
    path = home / "ledger.db"
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random("inside").randbytes(len(content) - 4096)
    path.write_bytes(content)


def _cut(home: Path) -> None:
    path = home / "ledger.db"
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("lose", [_delete, _garble, _garble_inside, _cut])
def test_a_lost_ledger_is_rebuilt_without_sending(house: House, tmp_path: Path, lose: Callable[[Path], None]) -> None:
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    lose(agent.home)
    report = agent.backup()
    assert report["snapshot"] == 2
    assert report["bytes_sent"] < 0.02 * _bytes(source)
    assert report["files_unchanged"] == report["files_total"] == 61
    _edit(source, b"after the loss")
    report = agent.backup()
    assert report["files_delta"] == 1 and report["bytes_sent"] < 30_000
    target = tmp_path / "target"
    agent.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_a_clone_is_refused(house: House, tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    clone = agent.copy(tmp_path / "clone")
    _edit(source, b"by the original")
    agent.backup()
    sentence = clone.told("backup")
    assert "resync" in sentence and "copy of another PC" in sentence
    clone.command("resync", expect=2)
    clone.told("resync", "--account", house.admin.email, "--otp", "000000")
    assert "resync" in clone.told("backup"), "a wrong code changes nothing"

    assert clone.command("resync", *house.login()).document["snapshot"] == 2
    _edit(source, b"by the clone")
    report = clone.backup()
    assert report["snapshot"] == 3
    assert report["bytes_sent"] < 0.6 * _bytes(source), "the edited file at most, whole"
    assert report["files_unchanged"] == 60
    assert "resync" in agent.told("backup"), "two at once is one too many"
    # It may still look and restore: the history is its own up to there.
    target = tmp_path / "target"
    clone.restore(target, house.admin)
    assert_same(source, landed(target, source))


def test_a_pc_restored_from_an_image_goes_on(house: House, tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    image = agent.copy(tmp_path / "image")
    for text in (b"one", b"two"):
        _edit(source, text)
        agent.backup()
    shutil.rmtree(agent.home)
    image.home.rename(agent.home)
    back = Agent(agent.home)
    assert "resync" in back.told("backup")
    assert back.command("resync", *house.login()).document["snapshot"] == 3
    report = back.backup()
    assert report["snapshot"] == 4
    assert report["bytes_sent"] < 0.02 * _bytes(source), "what the appliance has is not sent again"
    assert report["files_unchanged"] == 61
    _edit(source, b"three")
    report = back.backup()
    assert report["files_delta"] == 1 and report["bytes_sent"] < 30_000
    target = tmp_path / "target"
    back.restore(target, house.admin)
    assert_same(source, landed(target, source))
    log = house.log(agent)
    assert any("installation" in line for line in log), log


def test_a_ledger_that_drifted_is_noticed_and_rebuilt(house: House, tmp_path: Path) -> None:
    """Its rows are readable and wrong: the appliance does not agree with the root, and says so the same day."""
    source = _source(tmp_path / "source")
    agent = house.agent(source)
    agent.backup()
    ledger = sqlite3.connect(agent.home / "ledger.db")
    with ledger:
        ledger.execute("UPDATE entry SET token = zeroblob(32) WHERE name = CAST('scan-7' AS BLOB)")
    ledger.close()
    (source / "documents" / "scan-8").write_bytes(b"edited")
    told = agent.command("backup", expect=1)
    assert "no longer agreed with the appliance" in told.stderr
    report = agent.backup()
    assert report["files_full"] + report["files_moved"] + report["files_delta"] == 1
    assert report["bytes_sent"] < 0.02 * _bytes(source)
    assert report["snapshot"] == 2
