"""A backup under way is shown while it runs, and no longer than that; what it ran with is kept."""

from __future__ import annotations

import random
import time
from pathlib import Path

from appliance.control import configurations, running
from appliance.control.database import Database
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.faults import TcpProxy, wait_until
from tests.support.processes import House


def test_a_backup_appears_and_goes(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(16):
        (source / f"scan-{number}").write_bytes(random.Random(number).randbytes(1 << 20))
    agent = house.agent(source)
    home = Home.open(house.appliance.home)
    seen: list[running.Running] = []
    with Database.open(home.control_db) as db, TcpProxy(house.appliance.address, 8 << 20) as proxy:
        agent.by_way_of(proxy.address)
        backup = agent.start("backup")

        def shown() -> bool:
            seen.extend(running.listed(db, EVERYTHING, home.running_file, time.time()))
            return bool(seen) and seen[-1].phase == "sending"

        wait_until(shown, "a backup that sends")
        assert backup.wait().code == 0
        wait_until(lambda: running.ids(home.running_file, time.time()) == frozenset(), "no running backup")
        assert {one.machine_id.hex() for one in seen} == {agent.machine}
        # How finely bytes are counted is the agent's: it speaks once a second at most.
        assert seen[-1].bytes_done >= 0 and seen[-1].updated_at >= seen[-1].started_at > 0
        used = configurations.find(db, EVERYTHING, bytes.fromhex(agent.machine), 1)
        assert used.pid > 0 and used.platform and used.agent_version and len(used.selection) == 64
