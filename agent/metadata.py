"""Reads what a sealed entry says beside its content: owner names, extended attributes, ACLs.

Owns the caches of names and the bound on attributes. Reads by path and never through a symbolic link; what the
system or file system does not have is simply absent. The content MAC is the caller's.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from typing import Final

from agent.scanner import Found, ScanWarning
from agent.system import owners
from transport.tree import FileType, Metadata, encode_metadata

XATTR_LIMIT_BYTES: Final = 64 * 1024
"""Names and values of one entry together."""
_NOT_THERE: Final = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODATA, errno.ENOENT))


def metadata_digest(metadata: Metadata) -> bytes:
    """16 bytes over all of an entry's metadata, for Known.metadata_digest: equal means the entry need not be sent.

    Used by agent.entries and agent.resync; a changed ctime alone (or one that a rebuilt ledger does not know) then
    sends nothing.
    """
    return digest_of_encoded(encode_metadata(metadata))


def digest_of_encoded(plain: bytes) -> bytes:
    """`metadata_digest` of metadata that is encoded already."""
    return hashlib.sha256(plain).digest()[:16]


class MetadataReader:
    """Makes Metadata for one run; `warn` hears of attributes that were left out. Safe to use from several threads."""

    def __init__(self, warn: Callable[[ScanWarning], None]) -> None:
        self._warn = warn
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._without_xattrs: set[int] = set()

    def read(self, path: bytes, found: Found, mac: bytes = b"") -> Metadata:
        """The metadata of an entry; `mac` is its content MAC, empty unless a file."""
        return Metadata(
            name=found.name,
            type=int(found.type),
            mode=found.mode,
            mtime_ns=found.mtime_ns,
            uid=found.uid,
            gid=found.gid,
            user=self._user(found.uid),
            group=self._group(found.gid),
            mac=mac,
            target=found.target,
            link_group=found.link_group,
            xattrs=[] if not owners.HAS_ATTRIBUTES or found.dev in self._without_xattrs else self._xattrs(path, found),
        )

    def _user(self, uid: int) -> str:
        name = self._users.get(uid)
        if name is None:
            name = self._users[uid] = owners.user_name(uid)
        return name

    def _group(self, gid: int) -> str:
        name = self._groups.get(gid)
        if name is None:
            name = self._groups[gid] = owners.group_name(gid)
        return name

    def _xattrs(self, path: bytes, found: Found) -> list[tuple[bytes, bytes]]:
        try:
            names = owners.attribute_names(path)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                if found.type is not FileType.SYMLINK:  # some systems have them on all but links
                    self._without_xattrs.add(found.dev)
            elif error.errno not in _NOT_THERE:
                self._warn(ScanWarning(path, f"extended attributes not read: {(error.strerror or str(error)).lower()}"))
            return []
        if not names:
            return []
        attributes: list[tuple[bytes, bytes]] = []
        left = XATTR_LIMIT_BYTES
        for name in names:
            try:
                value = owners.attribute(path, name)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    self._warn(ScanWarning(path, f"attribute {os.fsdecode(name)!r} not read: {error.strerror}"))
                continue
            if len(name) + len(value) > left:
                self._warn(
                    ScanWarning(
                        path,
                        f"attribute {os.fsdecode(name)!r} of {len(value)} bytes left out: "
                        f"an entry keeps {XATTR_LIMIT_BYTES} bytes of attributes",
                    )
                )
                continue
            left -= len(name) + len(value)
            attributes.append((name, value))
        return attributes
