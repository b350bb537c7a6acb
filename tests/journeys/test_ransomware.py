"""Four days on real machines: ransomware is flagged at its first snapshot; an export, an upgrade and a move are not."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import House

FILES = 200
ATTACKED = FILES * 30 // 100


def pharmacy(folder: Path) -> None:
    """Documents of text, a program, and scans that do not compress."""
    for number in range(FILES):
        place = folder / ("program" if number < 50 else "documents" if number < 170 else "scans")
        place.mkdir(parents=True, exist_ok=True)
        chance = random.Random(number)
        text = " ".join(chance.choices(("ordonnance", "facture", "stock", "patient", "remise"), k=900)).encode()
        (place / f"file-{number}").write_bytes(chance.randbytes(6000) if number >= 170 else text)


def every(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def encrypt(folder: Path) -> None:
    """What ransomware does to every third file or so."""
    chosen = random.Random(1).sample(every(folder), ATTACKED)
    for number, path in enumerate(chosen):
        path.with_name(path.name + ".locked").write_bytes(random.Random(1000 + number).randbytes(path.stat().st_size))
        path.unlink()


def export(folder: Path) -> None:
    """The end of a month: a large export, new scans, some documents edited."""
    (folder / "export.csv").write_bytes(b"2026-11-30;0042;17,90;facture\n" * 40_000)
    for number in range(80):
        (folder / "scans" / f"new-{number}").write_bytes(random.Random(2000 + number).randbytes(6000))
    for path in every(folder / "documents")[:10]:
        path.write_bytes(path.read_bytes() + b" soldee")


def upgrade(folder: Path) -> None:
    """A new version of the program: every file of it is another, some are gone, some are new."""
    shutil.rmtree(folder / "program")
    (folder / "program").mkdir()
    for number in range(60):
        chance = random.Random(3000 + number)
        words = chance.choices(("module", "version", "table", "index", "symbole"), k=1000)
        (folder / "program" / f"part-{number}").write_bytes(" ".join(words).encode())


def move(folder: Path) -> None:
    """A folder of most files gets another name and another place."""
    (folder / "archive").mkdir()
    (folder / "documents").rename(folder / "archive" / "2026")


@pytest.mark.parametrize(
    ("what", "flagged"),
    [(encrypt, True), (export, False), (upgrade, False), (move, False)],
    ids=["encrypt", "export", "upgrade", "move"],
)
def test_a_day(house: House, tmp_path: Path, what: Callable[[Path], None], flagged: bool) -> None:
    source = tmp_path / "source"
    pharmacy(source)
    agent = house.agent(source)
    agent.command("backup")
    house.appliance.command("jobs", "run", "alerts")
    what(source)
    agent.command("backup")
    house.appliance.command("jobs", "run", "alerts")
    kinds = [alert["kind"] for alert in house.appliance.command("alerts", "list").document]
    assert ("suspicious" in kinds) is flagged
    if flagged:
        # Everything of before is kept until somebody has looked.
        assert house.appliance.command("repo", "prune", agent.machine, expect=4).stderr
        assert "1 left alone" in house.appliance.command("jobs", "run", "prune").document["text"]
