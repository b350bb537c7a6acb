"""Pilulier as people run it: real processes, real sockets on 127.0.0.1, and a `House` of one appliance and its agents.

Owns starting, waiting (always bounded), measuring and ending processes; ends only those it started, by their own
process handle. Speaks to both programs through their command lines alone, by the contract that other people's
scripts rely on. Knows none of their modules.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyotp

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_S = 120.0
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
LISTEN_ANYWHERE = "tcp://127.0.0.1:0"
PASSWORD = "correct horse battery staple 42"
"""Of every account that a House makes."""

_UNFORESEEN = ("Traceback (most recent call last)", "something unforeseen went wrong", "pilulier-agent: unexpected ")
"""On stderr either is a bug, whatever the exit code."""

_MODULES = {"pilulier": "appliance.cli", "pilulier-agent": "agent.cli"}


class ProcessError(AssertionError):
    """A process did not do what was expected; the message carries its command, exit code and last words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished process: what it said, how it ended and what it took.

    `peak_bytes` is of its largest single process. Linux counts the starter's own peak at the moment of exec into it
    (measured), so whoever reads it must be small itself.
    """

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float
    peak_bytes: int

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; ProcessError where there is not exactly one."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise ProcessError(f"stdout is not one JSON document: {self.told()}") from None

    def told(self) -> str:
        """Command, code and the end of both outputs, for people."""
        return (
            f"{' '.join(self.argv)} ended with {self.code} after {self.wall_s:.1f} s\n"
            f"--- stdout\n{self.stdout[-3000:]}\n--- stderr\n{self.stderr[-6000:]}{self._details()}"
        )

    def _details(self) -> str:
        """The end of the log that an unforeseen error names, since people never see a traceback."""
        named = re.search(r"details (?:are )?in ([^\s)]+)", self.stderr)
        if named is None or not Path(named.group(1)).is_file():
            return ""
        return f"\n--- {named.group(1)}\n{Path(named.group(1)).read_text(errors='replace')[-4000:]}"


def program(name: str) -> list[str]:
    """How to start a console script of this checkout with this interpreter, whether it is installed or not."""
    script = Path(sys.executable).with_name(name)
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", f"import sys; from {_MODULES[name]} import main; sys.exit(main())"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would steer Pilulier, finding packages in the checkout."""
    result = {key: value for key, value in os.environ.items() if not key.startswith(("PILULIER_", "RESTIC_"))}
    result.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs have their bytecode; compiling costs 0.1 s a start
    result["PYTHONPATH"] = str(CHECKOUT)
    result["PYTHONUNBUFFERED"] = "1"
    return result | dict(extra or {})


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether the process ends within the time; it is left as a zombie, so that its figures can be read."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], max(0.0, timeout_s))[0])
    finally:
        os.close(handle)


@dataclass(slots=True)
class Running:
    """A process under way with its outputs in files: no pipe fills up, whatever it says."""

    argv: tuple[str, ...]
    process: subprocess.Popen[bytes]
    folder: Path
    started: float

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def text(self, name: str) -> str:
        """What it has said so far on `stdout` or `stderr`."""
        return (self.folder / name).read_text(errors="replace")

    def wait(self, timeout_s: float = COMMAND_TIMEOUT_S) -> Outcome:
        """Its outcome once it has ended; a process that does not end in time is killed, and ProcessError raised."""
        late = not _ended(self.process, timeout_s - (time.perf_counter() - self.started))
        if late:
            self.signal(signal.SIGKILL)
        _, status, usage = os.wait4(self.process.pid, 0)
        wall_s = time.perf_counter() - self.started
        self.process.returncode = os.waitstatus_to_exitcode(status)
        outcome = Outcome(
            self.argv,
            self.process.returncode,
            self.text("stdout"),
            self.text("stderr"),
            wall_s,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        if late:
            raise ProcessError(f"still running after {timeout_s:.0f} s, killed: {outcome.told()}")
        return outcome

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Until `wait` it is ours, dead or alive, so its id cannot have passed to another process.

        Popen's own way would reap a process that has ended, and its figures with it.
        """
        if self.process.returncode is None:
            os.kill(self.process.pid, number)

    def kill(self) -> Outcome:
        """End it at once, as a power cut would."""
        self.signal(signal.SIGKILL)
        return self.wait(time.perf_counter() - self.started + STOP_TIMEOUT_S)


def start(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Running:
    """Start a program with stdin empty and its outputs kept; `env` comes on top of `environment()`."""
    folder = Path(tempfile.mkdtemp(prefix="pilulier-process-"))
    with open(folder / "stdout", "wb") as stdout, open(folder / "stderr", "wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment(env), cwd=CHECKOUT
        )
    return Running(tuple(argv), process, folder, started)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    expect: int | Sequence[int] | None = 0,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> Outcome:
    """Run a program to its end. ProcessError unless its exit code is (one of) `expect`; None accepts any."""
    outcome = start(argv, env=env).wait(timeout_s)
    wanted = [expect] if isinstance(expect, int) else expect
    if wanted is not None and outcome.code not in wanted:
        raise ProcessError(f"expected exit code {expect}: {outcome.told()}")
    if any(sign in outcome.stderr for sign in _UNFORESEEN):
        raise ProcessError(f"nobody foresaw this: {outcome.told()}")
    return outcome


@dataclass(frozen=True, slots=True)
class Account:
    """Someone who may open restores. A code works once, so tests that need many codes make many accounts."""

    email: str
    totp_secret: str

    def code(self) -> str:
        """The TOTP code of this moment (RFC 6238)."""
        return pyotp.TOTP(self.totp_secret).now()


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """What a running appliance has taken so far, all its processes together."""

    cpu_s: float
    peak_bytes: int


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it."""
    found, pending = [], [pid]
    while pending:
        current = pending.pop()
        found.append(current)
        for task in Path(f"/proc/{current}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pending += [int(child) for child in task.read_text().split()]
    return found


class Appliance:
    """`pilulier serve` on one home, started and stopped as often as a test likes, on the same port each time."""

    def __init__(self, home: Path, *, whole: bool = True) -> None:
        self.home = home
        self.address = ""
        self.web = ""
        self.whole = whole
        self._running: Running | None = None

    @property
    def pid(self) -> int:
        """Process id of the running service."""
        if self._running is None:
            raise ProcessError("the appliance is not running")
        return self._running.pid

    def command(self, *arguments: str, expect: int | Sequence[int] | None = 0, timeout_s: float = 60) -> Outcome:
        """Run `pilulier --json` on this home."""
        argv = [*program("pilulier"), "--home", str(self.home), "--json", *arguments]
        return run(argv, expect=expect, timeout_s=timeout_s)

    def serve(self, *arguments: str) -> None:
        """Start the service and wait for its `ready` line, a minute at most."""
        assert self._running is None, "the appliance is already running"
        listen = ["--listen", self.address] if self.address else []
        if not self.whole:
            listen.append("--transport-only")
        argv = [*program("pilulier"), "--home", str(self.home), "--json", "serve", *listen, *arguments]
        running = start(argv)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while "\n" not in running.text("stdout"):
            # The wait ends early where the process does; otherwise it paces the look at its output.
            if _ended(running.process, 0.02) or time.monotonic() > deadline:
                told = running.kill().told()
                if not ("cannot listen on" in told and listen and time.monotonic() < deadline):
                    raise ProcessError(f"the appliance did not become ready: {told}")
                running = start(argv)  # somebody's outgoing connection has our former port: it will not keep it
        ready = json.loads(running.text("stdout").splitlines()[0])
        assert ready["event"] == "ready", ready
        self.address = ready["transport"]
        self.web = ready["web"] or ""
        self._running = running

    def stop(self) -> Outcome | None:
        """End the service as systemd would, with SIGTERM; it must end by itself, with 0. None if it was not running."""
        if self._running is None:
            return None
        running, self._running = self._running, None
        running.signal(signal.SIGTERM)
        outcome = running.wait(time.perf_counter() - running.started + STOP_TIMEOUT_S)
        if outcome.code != 0:
            raise ProcessError(f"SIGTERM must end it with 0: {outcome.told()}")
        return outcome

    def kill(self) -> Outcome:
        """End the service as a power cut would."""
        assert self._running is not None, "the appliance is not running"
        running, self._running = self._running, None
        return running.kill()

    def said(self) -> str:
        """What the running service has written to its log so far."""
        if self._running is None:
            raise ProcessError("the appliance is not running")
        return self._running.text("stderr")

    def usage(self) -> ServerUsage:
        """CPU seconds since its start and peak resident memory since its start or `forget_peak`."""
        ticks = os.sysconf("SC_CLK_TCK")
        cpu_s, peak_bytes = 0.0, 0
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                cpu_s += sum(int(value) for value in fields[11:15]) / ticks
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        peak_bytes += int(line.split()[1]) * 1024
        return ServerUsage(cpu_s, peak_bytes)

    def forget_peak(self) -> None:
        """Begin a new measurement of peak memory (proc(5), clear_refs)."""
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")


class Agent:
    """`pilulier-agent` on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.machine = ""
        self.under: tuple[str, ...] = ()
        """Put before each command: a program that starts another with fewer rights, say."""
        self.program = tuple(program("pilulier-agent"))
        self._started: list[Running] = []

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        return [*self.under, *self.program, "--home", str(self.home), "--json", *arguments]

    @property
    def config(self) -> dict[str, Any]:
        """Its config.json; assign to write it."""
        document: dict[str, Any] = json.loads((self.home / "config.json").read_text())
        return document

    @config.setter
    def config(self, document: dict[str, Any]) -> None:
        (self.home / "config.json").write_text(json.dumps(document))

    def by_way_of(self, address: str) -> None:
        """From now on look for the appliance at `address`."""
        document = self.config
        document["appliance"]["endpoints"] = [address]
        self.config = document

    def copy(self, home: Path) -> Agent:
        """The same agent on a copy of its home, as a disk image of the PC has it."""
        subprocess.run(["cp", "-a", str(self.home), str(home)], check=True, timeout=30)
        other = Agent(home)
        other.machine = self.machine
        return other

    def told(self, *arguments: str, code: int = 4, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """The sentence with which a command ends that must fail with `code`; nothing else may be said."""
        outcome = self.command(*arguments, expect=code, timeout_s=timeout_s)
        lines = outcome.stderr.strip().splitlines()
        if outcome.stdout or len(lines) != 1 or not lines[0].startswith("pilulier-agent: "):
            raise ProcessError(f"one sentence was expected: {outcome.told()}")
        return lines[0].removeprefix("pilulier-agent: ")

    def start(self, *arguments: str) -> Running:
        """Start a command without waiting for its end; `close` ends it if nobody did."""
        running = start(self._argv(arguments))
        self._started.append(running)
        return running

    def close(self) -> None:
        """End whatever `start` left running."""
        for running in self._started:
            if running.process.returncode is None:
                running.kill()

    def command(
        self, *arguments: str, expect: int | Sequence[int] | None = 0, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Outcome:
        """Run a command to its end."""
        return run(self._argv(arguments), expect=expect, timeout_s=timeout_s)

    def enrol(self, code: str, name: str) -> str:
        """Enrol under a code; the machine's id."""
        self.machine = str(self.command("enrol", code, "--name", name).document["machine"])
        return self.machine

    def backup(self, *arguments: str, expect: int = 0, timeout_s: float = COMMAND_TIMEOUT_S) -> dict[str, Any]:
        """Back up; the report."""
        report: dict[str, Any] = self.command("backup", *arguments, expect=expect, timeout_s=timeout_s).document
        return report

    def restore(
        self,
        target: Path,
        account: Account,
        *paths: str | Path,
        snapshot: int | None = None,
        expect: int = 0,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Restore `paths` (everything where none is given) under `target`; the report."""
        chosen = ["--snapshot", str(snapshot)] if snapshot is not None else []
        login = ["--account", account.email, "--otp", account.code()]
        outcome = self.command(
            "restore", "--target", str(target), *chosen, *login, *map(str, paths), expect=expect, timeout_s=timeout_s
        )
        report: dict[str, Any] = outcome.document
        return report


@dataclass(slots=True)
class House:
    """One appliance and its agents in one folder. A context manager: whatever it started is ended at its end."""

    folder: Path
    whole: bool = True
    """Whether web and jobs run too, as `pilulier serve` has it; else the exchange alone, as its systemd unit has it."""
    appliance: Appliance = field(init=False)
    admin: Account = field(init=False)
    _agents: list[Agent] = field(init=False, default_factory=list)
    _numbers: itertools.count[int] = field(init=False, default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.appliance = Appliance(self.folder / "appliance", whole=self.whole)

    def __enter__(self) -> House:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def password_file(self) -> Path:
        """A file with PASSWORD, for the commands that ask for one."""
        path = self.folder / "password"
        if not path.exists():
            path.write_text(PASSWORD + "\n")
            path.chmod(0o600)
        return path

    def open(self) -> None:
        """`init`, then `serve`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        email = "admin@example.test"
        made = self.appliance.command(
            *("init", "--admin", email, "--password-file", str(self.password_file)),
            *("--listen", LISTEN_ANYWHERE, "--web", "127.0.0.1:0"),
        ).document
        self.admin = Account(email, made["totp_secret"])
        self.appliance.serve()

    def log(self, agent: Agent) -> list[str]:
        """The lines of a machine's log, oldest first."""
        shown = self.appliance.command("machine", "show", agent.machine).document
        return [line["text"] for line in shown["log"]]

    def repository(self, agent: Agent) -> Path:
        """The folder of a machine's repository."""
        return self.appliance.home / "repositories" / agent.machine

    def login(self, account: Account | None = None) -> list[str]:
        """Options that open one restore or resync, with an account of their own where none is given."""
        account = account or self.account()
        return ["--account", account.email, "--otp", account.code()]

    def close(self) -> None:
        """End the agents' running commands, then stop the appliance, if it runs."""
        for agent in self._agents:
            agent.close()
        self.appliance.stop()

    def contract(self, client: str = "", *arguments: str) -> tuple[str, str]:
        """A new contract: its id, and an enrolment code."""
        client = client or f"pharmacie-{next(self._numbers)}"
        added = self.appliance.command(
            "contract", "add", "--client", client, "--email", f"{client}@example.test", *arguments
        ).document
        return str(added["contract"]), str(added["enrol_code"])

    def account(self, *arguments: str, role: str = "super") -> Account:
        """A new account with its own TOTP secret, so that its code has not been used yet."""
        email = f"person-{next(self._numbers)}@example.test"
        added = self.appliance.command(
            "account", "add", "--email", email, "--role", role, "--password-file", str(self.password_file), *arguments
        ).document
        return Account(email, added["totp_secret"])

    def agent(self, *sources: Path, name: str = "", code: str = "") -> Agent:
        """An agent enrolled under `code` (a new contract without one), with `sources` selected."""
        number = next(self._numbers)
        agent = Agent(self.folder / f"agent-{number}")
        agent.enrol(code or self.contract()[1], name or f"poste-{number}")
        if sources:
            agent.command("select", "include", *map(str, sources))
        self._agents.append(agent)
        return agent


def landed(target: Path, source: Path) -> Path:
    """Where a restore under `target` puts the source folder `/a/b`: `target/a/b`."""
    return target / source.relative_to(source.anchor)
