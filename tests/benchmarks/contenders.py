"""The programs that a benchmark compares, behind the same few verbs: Pilulier and Debian's restic.

Owns what is measured and how, equally for both: wall time of the command (perf_counter), CPU (wait4; for the
appliance /proc/PID/stat), peak memory (ru_maxrss; for the appliance VmHWM), bytes sent (as the agent counts them) or
growth of the repository. Before each measured command the disk is idle (sync) and what it will read is in the page
cache. Encryption is on in both; restic's repository is a local folder, Pilulier's agent and appliance are separate
processes that talk over CURVE on loopback.

This process must stay small (see `Outcome.peak_bytes`): pharmacies are made and trees compared in processes of
their own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tests.support.processes import Account, Agent, House, Outcome, ProcessError, landed, program, run

COMMAND_TIMEOUT_S = 3600.0
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Taken:
    """What one command took. `moved_bytes` is what was sent, or what the repository grew by; 0 for a restore."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    server_peak_bytes: int
    moved_bytes: int
    report: Mapping[str, Any]


class Contender(Protocol):
    """A backup program with a repository of its own, for one source folder."""

    name: str

    def backup(self) -> Taken:
        """Back the source up once more."""

    def restore(self, target: Path, *paths: Path) -> Taken:
        """Restore the latest snapshot, or some of its paths, to `target/<absolute path>`."""

    def close(self) -> None:
        """End processes and delete the repository."""


def warm(*roots: Path) -> None:
    """Read every file once, so that no measurement pays for a cold page cache."""
    buffer = bytearray(_READ_BYTES)
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    with open(path, "rb", buffering=0) as file:
                        while file.readinto(buffer):
                            pass


def settle() -> None:
    """Wait until what earlier commands wrote is on disk."""
    os.sync()


def size_of(root: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(root) for name in names
    )


def python(module: str, *arguments: str) -> Any:
    """Run one of this project's modules in a process of its own; the JSON document it prints."""
    argv = [sys.executable, "-m", module, *arguments]
    return json.loads(run(argv, timeout_s=COMMAND_TIMEOUT_S).stdout)


def compare(original: Path, restored: Path) -> None:
    """ProcessError unless the restored tree is the original in every respect."""
    check = (
        "import sys; from pathlib import Path; from tests.support.trees import assert_same; "
        "assert_same(*map(Path, sys.argv[1:]))"
    )
    run([sys.executable, "-c", check, str(original), str(restored)], timeout_s=COMMAND_TIMEOUT_S)


class Restic:
    """restic with a local, encrypted repository (format 2, which compresses) and a cache of its own."""

    name = "restic"

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder, self._source = folder, source
        self._repository = folder / "repository"
        folder.mkdir(parents=True)
        self._env = {
            "RESTIC_REPOSITORY": str(self._repository),
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }
        run(["restic", "init", "--quiet"], env=self._env)

    @staticmethod
    def version() -> str:
        """As it names itself."""
        return run(["restic", "version"]).stdout.split(" compiled")[0].strip()

    def _taken(self, argv: list[str], before: int) -> Taken:
        outcome = run(argv, env=self._env, timeout_s=COMMAND_TIMEOUT_S)
        grown = size_of(self._repository) - before
        return Taken(outcome.wall_s, outcome.cpu_s, outcome.peak_bytes, 0, grown, {})

    def backup(self) -> Taken:
        warm(self._source)
        settle()
        return self._taken(["restic", "backup", "--quiet", str(self._source)], size_of(self._repository))

    def restore(self, target: Path, *paths: Path) -> Taken:
        warm(self._repository)
        settle()
        chosen = [word for path in paths for word in ("--include", str(path))]
        argv = ["restic", "restore", "latest", "--quiet", "--target", str(target), *chosen]
        return self._taken(argv, size_of(self._repository))

    def _upkeep(self, *words: str) -> Taken:
        warm(self._repository)
        settle()
        return self._taken(["restic", *words], size_of(self._repository))

    def check(self) -> Taken:
        """Read and check everything."""
        return self._upkeep("check", "--quiet", "--read-data")

    @property
    def stored_bytes(self) -> int:
        """Bytes of the repository on disk."""
        return size_of(self._repository)

    def prune(self, keep: int) -> Taken:
        """Drop all snapshots but the newest `keep`, and free their space; `moved_bytes` is its growth (negative)."""
        return self._upkeep("forget", "--quiet", "--keep-last", str(keep), "--prune")

    def rebuild(self) -> Taken:
        """Make the index anew from the packs (`rebuild-index` in this version)."""
        return self._upkeep("rebuild-index", "--quiet", "--read-all-packs")

    def close(self) -> None:
        shutil.rmtree(self._folder)


class Pilulier:
    """One agent and its appliance, as two processes over CURVE on 127.0.0.1."""

    name = "Pilulier"

    def __init__(self, folder: Path, source: Path, *, codes: int = 8) -> None:
        """`codes`: how many restores will be asked for; a TOTP code works once, so each gets an account."""
        self._folder, self._source = folder, source
        self._house = House(folder)
        self._house.open()
        self._agent: Agent = self._house.agent(source)
        self._accounts: list[Account] = [self._house.account() for _ in range(codes)]

    @property
    def server_pid(self) -> int:
        """Process id of the appliance."""
        return self._house.appliance.pid

    def _taken(self, arguments: list[str]) -> Taken:
        appliance = self._house.appliance
        appliance.forget_peak()
        before = appliance.usage()
        outcome: Outcome = self._agent.command(*arguments, timeout_s=COMMAND_TIMEOUT_S)
        after = appliance.usage()
        report = outcome.document
        return Taken(
            outcome.wall_s,
            outcome.cpu_s + after.cpu_s - before.cpu_s,
            outcome.peak_bytes,
            after.peak_bytes,
            int(report.get("bytes_sent", 0)),
            report,
        )

    def backup(self) -> Taken:
        warm(self._source)
        settle()
        return self._taken(["backup"])

    def restore(self, target: Path, *paths: Path) -> Taken:
        if not self._accounts:
            raise ProcessError("more restores than accounts: raise `codes`")
        warm(self._folder / "appliance")
        settle()
        account = self._accounts.pop()
        login = ["--account", account.email, "--otp", account.code()]
        taken = self._taken(["restore", "--target", str(target), *login, *map(str, paths)])
        if taken.report["errors"]:
            raise ProcessError(f"the restore had errors: {taken.report['errors'][:3]}")
        return taken

    def _upkeep(self, argv: list[str]) -> Taken:
        """A command on the repository, beside the service, which has nothing to do meanwhile."""
        warm(self._folder / "appliance")
        settle()
        outcome = run(argv, timeout_s=COMMAND_TIMEOUT_S)
        return Taken(outcome.wall_s, outcome.cpu_s, outcome.peak_bytes, 0, 0, outcome.document)

    def _command(self, *words: str) -> list[str]:
        appliance = self._house.appliance
        return [*program("pilulier"), "--home", str(appliance.home), "--json", *words, self._agent.machine]

    def check(self) -> Taken:
        """Read and check everything."""
        return self._upkeep([*self._command("repo", "check"), "--read-data"])

    def prune(self, numbers: Iterable[int], *, hours_later: int = 0) -> Taken:
        """Drop these snapshots and free their space, so many hours from now by the appliance's clock.

        `moved_bytes` is what the repository grew by on disk (negative); `report` has the counts of a PruneReport.
        """
        code = (
            "import json, sys, time; from pathlib import Path; from appliance.store.upkeep.prune import prune; "
            "now_ms = int(time.time() * 1000) + int(sys.argv[2]) * 3_600_000; "
            "done = prune(Path(sys.argv[1]), frozenset(map(int, sys.argv[3:])), now_ms=now_ms); "
            "names = [name for name in done.__slots__ if name.startswith(('bytes', 'packs_compacted', 'segments'))]; "
            "print(json.dumps({name: getattr(done, name) for name in names}))"
        )
        folder = self._house.repository(self._agent)
        before = size_of(folder)
        taken = self._upkeep([sys.executable, "-c", code, str(folder), str(hours_later), *map(str, numbers)])
        return replace(taken, moved_bytes=size_of(folder) - before)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the machine's repository on disk, catalog included."""
        return size_of(self._house.repository(self._agent))

    def rebuild(self) -> Taken:
        """Make the catalog anew, the old one being lost."""
        self._house.appliance.stop()
        (self._house.repository(self._agent) / "catalog.sqlite").unlink()
        taken = self._upkeep(self._command("repo", "rebuild"))
        self._house.appliance.serve()
        return taken

    def close(self) -> None:
        self._house.close()
        shutil.rmtree(self._folder)


def restored(target: Path, source: Path) -> Path:
    """Where both programs put `source` below `target`."""
    return landed(target, source)
