"""The interface ends by itself when nobody looks, and leaves nothing that says it is there."""

from __future__ import annotations

import subprocess
import sys

from tests.support.processes import CHECKOUT, House, environment

_FORGOTTEN_SOON = """
import sys
from pathlib import Path
from agent.settings import AgentHome
from agent.ui import machine, serving
machine.IDLE_S, serving._LOOK_S = 0.0, 0.01
serving.serve(AgentHome(Path(sys.argv[1])), lambda where: print(where.port, flush=True))
"""


def test_it_ends_when_nobody_looks(house: House) -> None:
    agent = house.agent()
    ended = subprocess.run(
        [sys.executable, "-c", _FORGOTTEN_SOON, str(agent.home)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=CHECKOUT,
        env=environment(),
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout.strip().isdigit()
    assert not (agent.home / "interface" / "server.json").exists()
