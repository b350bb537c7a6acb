"""The box itself, as its operator looks at it: disks, processes, versions, how much each repository takes.

Reads the operating system and folders, opens no database and no repository; what cannot be read is left out, never
guessed. A process is known by its command line and this home: each part of the service runs under a name of its own,
started by `pilulier serve` or as a unit of systemd.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final

from appliance.control.database import SQLITE_VERSION
from appliance.endpoints import Endpoint
from appliance.settings import Home
from appliance.store.layout import Layout

TRANSPORT: Final = "transport"
JOBS: Final = "jobs"
WEB: Final = "web"
_WORDS: Final = {WEB: ("webui.serving",), JOBS: ("jobs", "work"), TRANSPORT: ("serve",)}
"""How the command lines of the parts are told apart: these words, one after the other."""
_PROC: Final = Path("/proc")
_REACH_S: Final = 1.0
LIBRARIES: Final = (
    *("cryptography", "pyzmq", "msgspec", "zstandard", "sqlite-utils", "huey", "pyotp", "pillow", "flask", "gunicorn"),
    *("flask-login", "flask-babel", "flask-wtf", "bootstrap-flask", "matplotlib", "segno"),
)


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system that holds something of ours. `used_bytes` is what others than root cannot use any more."""

    path: Path
    holds: tuple[str, ...]
    total_bytes: int
    free_bytes: int

    @property
    def used_bytes(self) -> int:
        """Total less free."""
        return self.total_bytes - self.free_bytes

    @property
    def share(self) -> float:
        """Used of total, 0 to 1."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 1.0


@dataclass(frozen=True, slots=True)
class Process:
    """A part of this home's service: its first process. `started_at` in seconds since 1970; `memory_bytes` is what all
    processes of the part hold in memory now, pages that they share counted for each."""

    name: str
    pid: int
    started_at: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What one machine's repository takes on disk: its packs and its catalog."""

    machine_id: bytes
    packs: int
    pack_bytes: int
    catalog_bytes: int

    @property
    def bytes(self) -> int:
        """Both."""
        return self.pack_bytes + self.catalog_bytes


@dataclass(frozen=True, slots=True)
class Version:
    """A part of what runs and which one it is; empty where it is not installed."""

    name: str
    version: str


def disks(home: Home) -> list[Disk]:
    """The file systems of the home and of the repositories, each once."""
    found: dict[int, tuple[Path, list[str]]] = {}
    for path, holds in ((home.repositories, "repositories"), (home.root, "home")):
        try:
            device = path.stat().st_dev
        except OSError:
            continue
        found.setdefault(device, (path, []))[1].append(holds)
    result = []
    for path, held in found.values():
        usage = shutil.disk_usage(path)
        result.append(Disk(path, tuple(held), usage.total, usage.free))
    return result


def _command(folder: Path) -> list[str]:
    try:
        return [os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0") if word]
    except OSError:
        return []


def part_of(words: list[str], home: Home) -> str | None:
    """Which part of this home's service a command line starts; None for any other process. Pure."""
    told = [Path(words[i + 1]) for i, word in enumerate(words[:-1]) if word == "--home"]
    told += [Path(word.removeprefix("--home=")) for word in words if word.startswith("--home=")]
    # Whoever does not say which home means the one of the environment, which is not ours to read.
    if not any(path.absolute() == home.root for path in told):
        return None
    for name, wanted in _WORDS.items():
        length = len(wanted)
        if any(tuple(words[i : i + length]) == wanted for i in range(len(words) - length + 1)):
            return name
    return None


def processes(home: Home, root: Path = _PROC) -> list[Process]:
    """The parts of this home's service that run. Empty where there is no /proc."""
    try:
        booted = next(
            float(line.split()[1]) for line in (root / "stat").read_text().splitlines() if line.startswith("btime")
        )
        folders = [entry for entry in root.iterdir() if entry.name.isdigit()]
    except (OSError, StopIteration, ValueError):
        return []
    found: dict[str, list[Process]] = {}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for folder in folders:
        name = part_of(_command(folder), home)
        if name is None:
            continue
        try:
            # Behind the command's name, which is in brackets and may hold blanks (proc_pid_stat(5)).
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            process = Process(name, int(folder.name), booted + int(fields[19]) / ticks, int(fields[21]) * page)
        except (OSError, IndexError, ValueError):
            continue
        found.setdefault(name, []).append(process)
    return [_together(found[name]) for name in (TRANSPORT, JOBS, WEB) if name in found]


def _together(processes: list[Process]) -> Process:
    first = min(processes, key=lambda one: (one.started_at, one.pid))
    return replace(first, memory_bytes=sum(one.memory_bytes for one in processes))


def is_reachable(endpoint: Endpoint) -> bool:
    """Whether something listens where agents connect, seen from this machine."""
    host = endpoint.host
    if endpoint.is_everywhere:
        host = "::1" if ":" in host else "127.0.0.1"
    try:
        with socket.create_connection((host, endpoint.port), timeout=_REACH_S):
            return True
    except (OSError, OverflowError):
        return False


def stored(home: Home, machine_ids: Iterable[bytes]) -> list[Stored]:
    """What the machines' repositories take, from the sizes of files alone, largest first."""
    found = []
    for machine_id in machine_ids:
        layout = Layout(home.repository(machine_id))
        packs = size = 0
        try:
            with os.scandir(layout.packs) as entries:
                for entry in entries:
                    if entry.name.endswith(".pack"):
                        packs += 1
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
        try:
            catalog = layout.catalog.stat().st_size
        except OSError:
            catalog = 0
        found.append(Stored(machine_id, packs, size, catalog))
    return sorted(found, key=lambda one: (-one.bytes, one.machine_id))


def versions() -> list[Version]:
    """What runs: this program, its interpreter, its database, its libraries, its operating system."""
    return [
        Version("Pilulier", _installed("pilulier")),
        Version("Python", platform.python_version()),
        Version("SQLite", ".".join(map(str, SQLITE_VERSION))),
        Version(platform.system(), platform.release()),
        *(Version(name, _installed(name)) for name in LIBRARIES),
    ]


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
