"""The units' own commands under a small supervisor: each is killed, comes back, and nothing is lost.

Where systemd runs the machine it would do this itself; here `Parts` stands in for it, and `systemd-socket-activate`
hands over the port of the web interface as its socket unit does.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from appliance.parts import Part, Parts
from tests.support.faults import TcpProxy, wait_until
from tests.support.processes import House, environment, landed, program

STOP_WITHIN_S = 10.0


def commands(house: House, folder: Path) -> dict[str, list[str]]:
    """What each unit starts, by the unit's name."""
    folder.mkdir()
    house.appliance.command("install-systemd", "--to", str(folder))
    found = {}
    for path in folder.glob("*.service"):
        (start,) = re.findall(r"^ExecStart=(.*)$", path.read_text(), re.MULTILINE)
        found[path.stem.removeprefix("pilulier-")] = shlex.split(start)
    return found


def answers(address: str) -> bool:
    """Whether the web interface says that it is well."""
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=5) as answer:
            return bool(json.load(answer)["ok"])
    except OSError:
        return False


def pid_of(words: bytes) -> list[int]:
    """Processes below this one whose command line holds these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="apt-get install systemd")
def test_each_service_is_killed_and_comes_back_with_nothing_lost(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"scan-{number}").write_bytes(random.Random(number).randbytes(1 << 20))
    agent = house.agent(source)
    house.appliance.stop()
    run = commands(house, tmp_path / "units")
    assert set(run) == {"migrate", "transport", "web", "jobs"}
    assert subprocess.run(run["migrate"], env=environment(), check=False, timeout=60).returncode == 0
    web = re.findall(r"^ListenStream=(.*)$", (tmp_path / "units" / "pilulier-web.socket").read_text(), re.MULTILINE)[0]
    own = {"PYTHONPATH": environment()["PYTHONPATH"]}
    activated = ["systemd-socket-activate", "--listen", web, *[f"--setenv={key}={value}" for key, value in own.items()]]
    parts = Parts(
        [
            Part("transport", tuple(run["transport"]), own),
            Part("web", (*activated, *run["web"]), own),
            Part("jobs", tuple(run["jobs"]), own),
        ],
        first_pause_s=0.1,
    )
    home = str(house.appliance.home).encode()
    with parts:
        # The socket is there before the interface is: whoever asks waits, and is answered.
        wait_until(lambda: answers(web), "the web interface on the socket that was handed over")
        host, port = house.appliance.address.removeprefix("tcp://").rsplit(":", 1)
        wait_until(lambda: socket.socket().connect_ex((host, int(port))) == 0, "the exchange")
        with TcpProxy(house.appliance.address, 4 << 20) as proxy:
            agent.by_way_of(proxy.address)
            backup = agent.start("backup")
            wait_until(lambda: proxy.sent_bytes > 4 << 20, "a backup in the middle")
            (transport,) = pid_of(home + b"\0serve\0--transport-only")
            os.kill(transport, signal.SIGKILL)
            assert backup.wait().code == 0, "it resumes where it was acknowledged"
        (jobs,) = pid_of(home + b"\0jobs\0work")
        os.kill(jobs, signal.SIGKILL)
        wait_until(lambda: pid_of(home + b"\0jobs\0work") not in ([], [jobs]), "the jobs coming back")
        for pid in pid_of(b"webui.serving\0--home\0" + home):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: answers(web), "the web interface coming back")
        began = time.monotonic()
        assert parts.stop() == []
        assert time.monotonic() - began < STOP_WITHIN_S
    house.appliance.serve()
    agent.by_way_of(house.appliance.address)
    account = house.account()
    agent.restore(tmp_path / "target", account=account)
    for path in source.iterdir():
        assert (landed(tmp_path / "target", source) / path.name).read_bytes() == path.read_bytes()
    assert house.appliance.command("repo", "check", agent.machine, "--read-data").document["ok"]


def test_the_exchange_tells_systemd_that_it_is_ready_lives_and_stops(house: House, tmp_path: Path) -> None:
    house.appliance.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        process = subprocess.Popen(
            [*program("pilulier"), "--home", str(house.appliance.home), "serve", "--transport-only"],
            env=environment({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert [heard.recv(100), heard.recv(100), heard.recv(100)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            process.send_signal(signal.SIGTERM)
            said = b""
            while said != b"STOPPING=1":
                said = heard.recv(100)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    house.appliance.serve()


def test_the_web_interface_gives_its_sign_of_life_from_the_loop_that_answers(house: House, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        process = subprocess.Popen(
            [*program("pilulier"), "--home", str(house.appliance.home), "web", "work"],
            env=environment({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def sign_of_life() -> int:
            """The process that gave the next one."""
            while True:
                text, attached, _, _ = heard.recvmsg(200, 100)
                if text == b"WATCHDOG=1":
                    return int(struct.unpack("3i", attached[0][2][:12])[0])

        try:
            worker = sign_of_life()
            assert worker != process.pid and sign_of_life() == worker
            os.kill(worker, signal.SIGKILL)
            while (after := sign_of_life()) == worker:  # what it had said before its end
                pass
            assert after != process.pid, "the next worker has taken its place"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
