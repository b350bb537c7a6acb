"""Whether a file is only a placeholder for one in a cloud: reading it would download it, or give nothing.

On Windows an attribute of the file says so, on macOS a flag (both written from their documentation, not run here). On
Linux there is no such word: only what a sync client or a file system of its own is known to leave behind counts, since
a file without blocks may as well be a hole, live in its inode, or be compressed away, and real data must not be lost to
a guess.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import Final

from agent.system.mounts import mounts

_RECALL_ON_DATA_ACCESS: Final = 0x400000
_RECALL_ON_OPEN: Final = 0x40000
_OFFLINE: Final = 0x1000
"""File attributes of Windows (winnt.h): OneDrive, Dropbox and Nextcloud set the first."""
_DATALESS: Final = 0x40000000
"""SF_DATALESS of macOS (sys/stat.h): iCloud Drive and file providers."""
_MARKS: Final = frozenset({"user.nextcloud.hydrate_exec", "user.owncloud.hydrate_exec"})
"""Extended attributes that a sync client gives a placeholder, and takes away with the download."""
_SUFFIXES: Final = (b".nextcloud", b".owncloud")
"""What the same clients append where there are no extended attributes; the file then holds one byte."""
_CLOUD_TYPES: Final = frozenset({b"fuse.onedriver", b"fuse.google-drive-ocamlfuse", b"fuse.gvfsd-fuse", b"fuse.insync"})


class Placeholders:
    """Asked for the files of one scan; remembers which file systems are a cloud's."""

    def __init__(self) -> None:
        self._clouds: frozenset[int] | None = None

    def is_one(self, path: bytes, status: os.stat_result) -> bool:
        """Whether this file, of which lstat said `status`, is not on this machine."""
        attributes = getattr(status, "st_file_attributes", 0)
        if attributes & (_RECALL_ON_DATA_ACCESS | _RECALL_ON_OPEN | _OFFLINE):
            return True
        if getattr(status, "st_flags", 0) & _DATALESS:
            return True
        if not sys.platform.startswith("linux") or not stat.S_ISREG(status.st_mode):
            return False
        if status.st_size <= 1:
            return path.endswith(_SUFFIXES) or self._marked(path)
        return status.st_blocks == 0 and (status.st_dev in self._cloud_devices() or self._marked(path))

    def _marked(self, path: bytes) -> bool:
        try:
            return not _MARKS.isdisjoint(os.listxattr(path, follow_symlinks=False))
        except OSError:
            return False

    def _cloud_devices(self) -> frozenset[int]:
        if self._clouds is None:
            found = set()
            for mount in mounts():
                if mount.type in _CLOUD_TYPES:
                    try:
                        found.add(os.stat(mount.point).st_dev)
                    except OSError:  # a cloud that is not there now
                        continue
            self._clouds = frozenset(found)
        return self._clouds
