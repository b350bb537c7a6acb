"""Parts of the service: ready, dying and coming again, ending with the service however that goes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance.parts import READY_LINE, Part, Parts
from tests.support.faults import wait_until
from tests.support.processes import CHECKOUT, environment

_PART = """
import os, signal, sys
from appliance.parts import end_with_the_service, say_ready
folder = sys.argv[1]
open(os.path.join(folder, str(os.getpid())), "w").close()
end_with_the_service(lambda: os.kill(os.getpid(), signal.SIGTERM))
print("chatter")
say_ready(sys.stdout)
signal.pause()
"""
_STUBBORN = f"""
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{READY_LINE}', flush=True)
while True:
    signal.pause()
"""


def part(name: str, source: str, *words: str) -> Part:
    return Part(name, (sys.executable, "-c", source, *words), {"PYTHONPATH": str(CHECKOUT)})


def pids(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


def gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has collected it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_part_that_dies_comes_again_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Parts([part("clock", _PART, str(tmp_path))], first_pause_s=0.01) as parts:
        assert parts.wait_ready(30) == []
        (first,) = pids(tmp_path)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(pids(tmp_path)) == 2, "the part coming again")
        assert parts.stop() == []
    assert all(map(gone, pids(tmp_path)))
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["clock was ended by signal 9; it is started again in 0 s"]


def test_one_that_cannot_start_is_told_and_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Part("broken", (str(tmp_path / "nothing"),))
    with Parts([broken, part("well", _PART, str(tmp_path))], first_pause_s=30.0) as parts:
        wait_until(lambda: bool(pids(tmp_path)), "the other part")
        wait_until(lambda: "broken cannot be started" in caplog.text, "a word about the broken one")
        assert parts.wait_ready(0.0)[0] == "broken"
        # The pause of 30 s does not hold up the end.
        assert parts.stop() == []


def test_one_that_does_not_end_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    with Parts([part("stubborn", _STUBBORN)], stop_s=0.1) as parts:
        assert parts.wait_ready(30) == []
        assert parts.stop() == ["stubborn"]
    assert "stubborn did not end in time and is killed" in caplog.text


def test_parts_end_when_the_service_is_killed(tmp_path: Path) -> None:
    service = (
        "import signal, sys\nfrom appliance.parts import Part, Parts\n"
        "with Parts([Part('one', (sys.executable, '-c', sys.argv[1], sys.argv[2]))]) as parts:\n"
        "    print(parts.wait_ready(30), flush=True)\n    signal.pause()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", service, _PART, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    # Bounded: a service that never speaks fails here, not the whole run.
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        assert process.stdout.readline() == "[]\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        (orphan,) = pids(tmp_path)
        wait_until(lambda: gone(orphan), "the end of the part")
    finally:
        guard.cancel()
        process.stdout.close()
