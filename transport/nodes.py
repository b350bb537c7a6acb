"""An entry of a snapshot once it is opened and proved: what readers hand out and restorers put back."""

from __future__ import annotations

import msgspec

from transport.names import Digest, PathId, VersionId
from transport.tree import FileType


class Node(msgspec.Struct, gc=False):
    """An opened, verified entry. Lean, since a snapshot may have 300,000; only `parent` is set after creation.

    `parent` is None for the first name of an absolute path. Fields are those of Metadata and EntryRecord;
    `folder_digest` is NO_DIGEST unless a folder.
    """

    parent: Node | None
    name: bytes
    path_id: PathId
    type: int
    size: int
    version_id: VersionId
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    user: str
    group: str
    mac: bytes
    target: bytes
    link_group: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    folder_digest: Digest
    token: Digest

    @property
    def is_folder(self) -> bool:
        """Whether it has children."""
        return self.type == FileType.FOLDER

    def path(self) -> bytes:
        """The absolute path in the snapshot, `/a/b`."""
        names: list[bytes] = []
        node: Node | None = self
        while node is not None:
            names.append(node.name)
            node = node.parent
        names.append(b"")
        return b"/".join(reversed(names))
