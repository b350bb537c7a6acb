"""Retention as an operator meets it: beside the running service, by the command line, with what the agent signs."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from appliance.control import clock
from appliance.control.clock import Reading
from appliance.control.database import Database
from appliance.pruning import stored_snapshots
from appliance.store.repository import Repository
from tests.support.processes import House, landed
from tests.support.trees import assert_same, describe


def test_floor_hold_prune_and_a_clock_that_jumped(house: House, tmp_path: Path) -> None:
    rng = random.Random("retention")
    source = tmp_path / "source"
    source.mkdir()
    contract, code = house.contract("pharmacie", "--keep-days", "40", "--floor-days", "14")
    agent = house.agent(source, code=code)
    pilulier = house.appliance.command
    trees = {}
    for number in range(1, 6):
        (source / "till.bin").write_bytes(rng.randbytes(300_000))
        if number == 3:
            pilulier("contract", "edit", contract, "--floor-days", "30")
        assert agent.backup()["snapshot"] == number
        trees[number] = describe(source)

    # What the contract promises stands in each signed commit, from the next connection on.
    with Repository.open(house.repository(agent), read_only=True) as repository:
        floors = [one.signed.decoded().retention_floor_days for one in repository.commits(0, 10)]
    assert floors == [14, 14, 30, 30, 30]

    # A service that is up notes the time; one that cannot be explained since then prunes nothing.
    with Database.open(house.appliance.home / "control.db") as db:
        assert clock.witness(db, clock.read()).last_ms is not None
        with db.write():
            clock.accept(db, Reading(time.time() - 50 * 86_400, "the boot before", 1.0))
    wrong = pilulier("repo", "prune", agent.machine, "--keep-days", "0", expect=1)
    assert json.loads(wrong.stdout)["snapshots_dropped"] == 0 and "--accept-clock" in wrong.stderr
    assert agent.backup()["snapshot"] == 6, "backups go on, whatever the clock"
    checks = json.loads(pilulier("doctor", expect=(0, 1)).stdout)
    assert any(check["check"] == "alarm" and "clock" in check["detail"] for check in checks)

    pilulier("repo", "hold", agent.machine, "2", "--reason", "a question of the insurer's")
    pruned = pilulier("repo", "prune", agent.machine, "--keep-days", "0", "--accept-clock").document
    kept = {one["snapshot"] for one in pruned["reasons"] if one["action"] == "keep"}
    assert kept == {2, 6} and pruned["snapshots_dropped"] == 4 and pruned["bytes_freed"] > 2 * 300_000
    assert {one.number for one in stored_snapshots(house.repository(agent)) if not one.retired} == kept
    assert pilulier("repo", "check", agent.machine, "--read-data").document["ok"]

    agent.restore(tmp_path / "held", house.account(), snapshot=2)
    assert_same(trees[2], describe(landed(tmp_path / "held", source)))
    gone = agent.told("restore", "--target", str(tmp_path / "no"), "--snapshot", "1", *house.login(), code=2)
    assert "no longer held" in gone
    assert agent.backup()["snapshot"] == 7
