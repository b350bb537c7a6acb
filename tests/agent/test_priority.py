"""A scheduled backup steps back, once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.system.priority import NICENESS
from tests.support.processes import environment


@pytest.mark.skipif(sys.platform == "win32", reason="niceness is POSIX")
def test_lower_is_lower_and_no_lower_twice() -> None:
    code = "import os; from agent.system.priority import lower; lower(); a = os.nice(0); lower(); print(a, os.nice(0))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    first, second = map(int, said.stdout.split())
    assert first == second >= NICENESS
