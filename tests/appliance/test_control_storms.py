"""What looks like an attack: shares, what came instead, the machine's own history, pieces of one storm."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import statistics, storms
from appliance.control.storms import Usual, is_suspicious
from appliance.store.upkeep.storms import Storm
from tests.support.control_house import NOW, build, figures

NEW = Usual(0, 0)


@pytest.mark.parametrize(
    ("storm", "own", "expected", "what"),
    [
        (Storm(2, 1000, 300, 300, 99), NEW, True, "30 % encrypted and renamed"),
        (Storm(2, 1000, 200, 200, 85), NEW, True, "at half of the threshold"),
        (Storm(2, 1000, 199, 199, 100), NEW, False, "under half of the threshold"),
        (Storm(2, 1000, 300, 300, 40), NEW, False, "a software upgrade: its files compress"),
        (Storm(2, 1000, 300, 120, 100), NEW, False, "a folder tidied up, and a day's scans"),
        (Storm(2, 1000, 0, 5000, 100), NEW, False, "an export or many photographs: nothing is lost"),
        (Storm(2, 1000, 400, 0, 0), NEW, True, "mass deletion"),
        (Storm(2, 1000, 400, 400, 0), NEW, True, "as much as the space thinks unusual, whatever came"),
        (Storm(2, 99, 99, 99, 100), NEW, False, "few files change in large shares"),
        (Storm(2, 120, 49, 49, 100), NEW, False, "few files"),
        (Storm(9, 1000, 300, 300, 99), Usual(7, 28), False, "a third is replaced here each night"),
        (Storm(9, 1000, 900, 900, 99), Usual(7, 28), True, "and nearly all is far from that"),
        (Storm(4, 1000, 300, 300, 99), Usual(3, 28), True, "three nights are no history"),
    ],
)
def test_the_rule(storm: Storm, own: Usual, expected: bool, what: str) -> None:
    assert is_suspicious(storm, own, 40) is expected, what


def test_history_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    machine = house.machine.id
    for number, lost in enumerate((0, 10, 20, 900, 15, 5), 1):
        statistics.record(house.db, machine, number, complete=True, figures=figures(), now=NOW + number)
        storms.record(house.db, machine, Storm(number, 1000, lost, 0, 0))
    # One great loss does not make the next one usual.
    assert storms.usual(house.db, machine, 7) == Usual(6, 2) and storms.usual(house.db, machine, 1) == Usual(0, 0)
    # Checkpoints of one run: what they lost counts together, against what there was before the first.
    for number, lost in ((7, 100), (8, 120)):
        statistics.record(house.db, machine, number, complete=False, figures=figures(), now=NOW + number)
        storms.record(house.db, machine, Storm(number, 1000 - 50 * (number - 7), lost, 100, 90))
    statistics.record(house.db, machine, 9, complete=True, figures=figures(), now=NOW + 9)
    assert storms.record(house.db, machine, Storm(9, 900, 80, 200, 99)) == Storm(9, 1000, 300, 400, 94)
    # Measured again, the first stands.
    storms.record(house.db, machine, Storm(6, 1000, 999, 0, 0))
    assert storms.usual(house.db, machine, 7) == Usual(6, 2)
