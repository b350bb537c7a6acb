"""Which disk a path is on, told in a way that lasts over restarts: device numbers do not.

On Linux by what is mounted (proc(5), mountinfo) and the file system's own UUID; on Windows by the volume's serial
number, which is what Python's `st_dev` holds there (written from the documentation, not run here). Elsewhere nothing is
told, and whoever asks compares nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.system import namespaces

MOUNTINFO: Final = Path("/proc/thread-self/mountinfo")
BY_UUID: Final = Path("/dev/disk/by-uuid")
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
_NO_DISKS: Final = frozenset(
    (b"autofs", b"bpf", b"cgroup", b"cgroup2", b"configfs", b"debugfs", b"devpts", b"devtmpfs", b"efivarfs", b"mqueue")
    + (b"fuse.portal", b"fusectl", b"hugetlbfs", b"nsfs", b"proc", b"pstore", b"rpc_pipefs", b"securityfs", b"squashfs")
    + (b"sysfs", b"tracefs")
)


@dataclass(frozen=True, slots=True)
class Mount:
    """Something mounted: where, of which type, and which disk it is."""

    point: bytes
    type: bytes
    identity: str


def mounts() -> list[Mount]:
    """What is mounted now, later ones over earlier; empty where the system does not tell."""
    try:
        lines = namespaces.outside(MOUNTINFO.read_bytes).splitlines()
    except OSError:
        return []
    return parsed(lines, _uuids())


def _uuids() -> dict[str, str]:
    """The UUID of each block device that has one, by its real path."""
    found = {}
    with contextlib.suppress(OSError):
        for link in BY_UUID.iterdir():
            found[os.path.realpath(link)] = link.name
    return found


def parsed(lines: Iterable[bytes], uuids: dict[str, str]) -> list[Mount]:
    """Lines of mountinfo as mounts; lines of another form are passed over. Pure but for links to devices."""
    found: dict[bytes, Mount] = {}
    for line in lines:
        before, dash, after = line.partition(b" - ")
        fields, last = before.split(b" "), after.split(b" ")
        if not dash or len(fields) < 6 or len(last) < 2:
            continue
        root, point, (kind, source) = fields[3], _plain(fields[4]), last[:2]
        name = os.fsdecode(_plain(source))
        device = uuids.get(os.path.realpath(name), name) if name.startswith("/") else name
        found[point] = Mount(point, kind, f"{os.fsdecode(kind)} {device} {os.fsdecode(_plain(root))}")
    return list(found.values())


def _plain(field: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 255]), field)


def identity_of(path: bytes, mounted: Iterable[Mount]) -> str:
    """Which disk a path is on; empty where that is not known."""
    if sys.platform == "win32":
        try:
            return f"volume {os.stat(path).st_dev:x}"
        except OSError:
            return ""
    over = [one for one in mounted if within(path, one.point)]
    return max(over, key=lambda one: len(one.point)).identity if over else ""


def below(path: bytes, mounted: Iterable[Mount]) -> list[Mount]:
    """Disks that are mounted inside a folder."""
    return [one for one in mounted if one.point != path and within(one.point, path) and one.type not in _NO_DISKS]


def within(path: bytes, folder: bytes) -> bool:
    """Whether a path is the folder or lies in it. Pure."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
