"""Putting attributes back on what was restored: owner, extended attributes, mode, times.

Owns their order, what is stripped (set-uid, set-gid and file capabilities, unless asked), and the notes about what
could not be put back. Works on open handles only and must not know names or folders but for its notes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.landing_rules import FULL, Attributes
from agent.system import descriptors, owners

_PRIVILEGES: Final = stat.S_ISUID | stat.S_ISGID
_CAPABILITY: Final = b"security.capability"


@dataclass(slots=True)
class Note:
    """Something not put back as it was, on `count` paths, `example` the first of them."""

    reason: str
    count: int
    example: bytes


class Restorer:
    """The attributes of one thread's files. Not thread-safe."""

    def __init__(self, *, keep_privileges: bool) -> None:
        self._keep_privileges = keep_privileges
        self._euid = owners.my_number()
        self.is_root = self._euid == 0
        self._owners: dict[tuple[int, str, int, str], tuple[int, int]] = {}
        self.notes: dict[str, Note] = {}
        """By reason; bounded, since every file of a restore may have the same one."""

    def apply(
        self,
        handle: int,
        attributes: Attributes,
        within: Callable[[], bytes],
        *,
        is_folder: bool = False,
        status: os.stat_result | None = None,
    ) -> None:
        """Owner, extended attributes, mode, times: each would undo or forbid an earlier one in another order.

        `status` is that of a file this job has just made: what its creation gave already is not put on it again.
        `within` tells the folder, for notes. OSError where mode or times cannot be put back, or the disk is full.
        """
        wanted = attributes.mode & 0o7777
        # On a folder set-gid only hands its group down, so it is no privilege.
        mode = wanted if self._keep_privileges else wanted & ~(stat.S_ISUID if is_folder else _PRIVILEGES)
        if mode != wanted:
            self._note("set-uid and set-gid bits were not put back (--keep-privileges does)", within, attributes)
        if self.is_root:
            owner = self.owner(attributes)
            if status is None or (status.st_uid, status.st_gid) != owner:
                status = None
                try:
                    descriptors.set_owner(handle, *owner)
                except OSError as error:
                    if error.errno in FULL:
                        raise
                    self._note(f"owner not put back: {error.strerror}", within, attributes)
        elif self._euid >= 0 and attributes.uid != self._euid:
            self._note("owner not put back: only root may", within, attributes)
        if attributes.xattrs:
            status = None
            self._set_xattrs(handle, attributes, within)
        if status is None or stat.S_IMODE(status.st_mode) != mode:
            descriptors.set_mode(handle, mode)
        descriptors.set_times(handle, attributes.mtime_ns)

    def _set_xattrs(self, handle: int, attributes: Attributes, within: Callable[[], bytes]) -> None:
        for name, value in attributes.xattrs:
            if name == _CAPABILITY and not self._keep_privileges:
                self._note("file capabilities were not put back (--keep-privileges does)", within, attributes)
                continue
            try:
                owners.set_attribute(handle, name, value)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in FULL and name.startswith(b"user."):
                    # Some file systems say so for an attribute that is merely too large for its block.
                    self._note("an extended attribute was not put back: no room for it", within, attributes)
                    continue
                why = error.strerror if isinstance(error, OSError) else str(error)
                shown = name.decode("utf-8", "backslashreplace")
                self._note(f"extended attribute {shown[:80]} not put back: {why}", within, attributes)

    def add_note(self, note: Note) -> None:
        """Take over what a sibling noted."""
        known = self.notes.setdefault(note.reason, note)
        if known is not note:
            known.count += note.count

    def _note(self, reason: str, within: Callable[[], bytes], attributes: Attributes) -> None:
        note = self.notes.get(reason)
        if note is not None:
            note.count += 1
        elif len(self.notes) < 1000:
            self.notes[reason] = Note(reason, 1, os.path.join(within(), attributes.name))

    def owner(self, attributes: Attributes) -> tuple[int, int]:
        """Names win over numbers where this machine knows them, as with tar: ids differ between machines."""
        key = (attributes.uid, attributes.user, attributes.gid, attributes.group)
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = (
                owners.user_number(attributes.user, attributes.uid),
                owners.group_number(attributes.group, attributes.gid),
            )
        return owner
