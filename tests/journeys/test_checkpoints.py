"""A first upload that takes days commits what it has on the way: partial snapshots that restore what they hold."""

from __future__ import annotations

import random
from pathlib import Path

from agent.backup import run_backup
from agent.enrolling import enrolled
from agent.settings import AgentHome
from tests.support.processes import House, landed
from tests.support.trees import assert_same


def test_checkpoints_are_partial_snapshots_and_the_last_is_complete(house: House, tmp_path: Path) -> None:
    rng = random.Random("checkpoints")
    source = tmp_path / "source"
    for folder in "abcd":
        (source / folder).mkdir(parents=True)
        (source / folder / "large.bin").write_bytes(rng.randbytes(2_500_000))
        for number in range(5):
            (source / folder / f"small-{number}").write_bytes(rng.randbytes(20_000))
    agent = house.agent(source)
    report = run_backup(enrolled(AgentHome(agent.home)), checkpoint_s=0.0)
    assert report.state == "complete" and report.snapshot > 2 and report.files_total == 24
    rows = agent.command("snapshots").document
    assert [row["state"] for row in rows] == ["partial"] * (report.snapshot - 1) + ["complete"]
    assert [row["files_total"] for row in rows] == sorted(row["files_total"] for row in rows)

    target = tmp_path / "partial"
    agent.restore(target, house.account(), snapshot=1)
    present = [path for path in landed(target, source).rglob("*") if path.is_file()]
    assert present
    for path in present:
        assert path.read_bytes() == (source / path.relative_to(landed(target, source))).read_bytes()
    agent.restore(tmp_path / "whole", house.account())
    assert_same(source, landed(tmp_path / "whole", source))
    again = agent.backup()
    assert again["files_unchanged"] == 24 and again["bytes_sent"] < 5000
