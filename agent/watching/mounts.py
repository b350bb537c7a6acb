"""What is mounted at, above and below the included paths: mounting tells no watcher, and network disks tell too little.

Pure; `agent.system.mounts` asks the system, which costs no disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent.system.mounts import Mount, below, within

_REMOTE: Final = frozenset(
    (b"nfs", b"nfs4", b"cifs", b"smb3", b"smbfs", b"9p", b"afs", b"ceph", b"fuse.sshfs", b"fuse.glusterfs")
)


def is_remote(mount: Mount) -> bool:
    """Whether other machines change it as well, of which no event here tells."""
    return mount.type in _REMOTE


def touching(mounted: Iterable[Mount], included: Iterable[bytes]) -> frozenset[Mount]:
    """Those that hold an included path, or lie below one. Above a path only the nearest counts."""
    every = list(mounted)
    found: set[Mount] = set()
    for path in included:
        holding = [mount for mount in every if within(path, mount.point)]
        if holding:
            found.add(max(holding, key=lambda mount: len(mount.point)))
        found.update(below(path, every))
    return frozenset(found)
