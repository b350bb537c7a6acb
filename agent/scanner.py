"""Walks the selection and tells, folder by folder, what stands there now.

Owns the reading of folders and of each entry's status: never content, never through a symbolic link, never
into the agent's own home. Yields one `Listing` a folder, parents before children and names in byte order, so
memory stays with the largest folder. A walk may be told to follow marks (`agent.marks`): it then lists marked
folders and unfamiliar ones, and looks by name at what leads there, and at nothing else. What could not be looked at
is told apart from what is not there: only absence from a folder that was listed without error means gone. Sockets,
devices and pipes are counted and left out.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import msgspec

from agent.marks import EVERYTHING, NOTHING, MarkedTree
from agent.selection import Scope, Selection, Take, components, shown
from agent.system import descriptors, paths
from agent.system.paths import joined
from agent.system.placeholders import Placeholders
from agent.system.views import seen
from transport.names import ID_BYTES, ROOT, PathId
from transport.prepared_mac import prepared_mac
from transport.sealing import VaultKeys
from transport.tree import FileType

_FORMAT_BITS: Final = 0o170000
_NUMBER_LIMIT: Final = (1 << 63) - 1
"""Inode numbers and times beyond it (ReFS, year 2262) are folded to fit SQLite's integers."""
_LINK_LABEL: Final = b"pilulier/link/1\0"
_LINK_GROUP_BYTES: Final = 8
_PLACE: Final = struct.Struct(">QQ")
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


class Found(msgspec.Struct, frozen=True, gc=False):
    """One file, folder or symbolic link as it stands on disk. Times in nanoseconds since 1970."""

    name: bytes
    path_id: PathId
    parent_id: PathId
    type: FileType
    size: int
    """Bytes of content; 0 unless a file."""
    mode: int
    """Permission bits (07777), without the type."""
    mtime_ns: int
    ctime_ns: int
    uid: int
    gid: int
    dev: int
    ino: int
    nlink: int
    blocks: int
    """512-byte blocks allocated: fewer than the size needs hints at holes. 0 where the system does not say."""
    target: bytes
    """Where a symbolic link points, empty otherwise."""
    link_group: bytes
    """8 bytes, the same for all names of one file; empty for a file with one name, folders and links."""


@dataclass(frozen=True, slots=True)
class ScanWarning:
    """Something that was left out and should be told."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """One folder as it stands now; `path` is b"/" and `folder` None for the virtual root."""

    path: bytes
    path_id: PathId
    folder: Found | None
    children: list[Found]
    """Selected children, in byte order of their names."""
    error: str | None
    """Why the folder could not be listed (wholly); what it held before must not be taken for gone."""
    complete: bool
    """All that is selected in it was looked for; False for a folder only passed through to a selected path."""
    included: bool
    """The folder is itself an included path."""
    some: bool = False
    """Only the children given here were looked at: nothing is said of others."""
    missing_root: bool = False
    """Not a folder at all: an included path that does not exist."""
    unsure: frozenset[PathId] = frozenset()
    """Children that may exist but could not be looked at: not gone."""
    specials: int = 0
    """Sockets, devices and pipes left out."""
    warnings: tuple[ScanWarning, ...] = ()
    cloud: int = 0
    """Files left out because only a placeholder is on this machine; they are among the unsure."""


class RootState(Enum):
    """What an included path looks like before a backup begins."""

    PRESENT = "present"
    EMPTY = "empty"
    MISSING = "missing"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class IncludedRoot:
    """An included path, and whether there is anything to back up."""

    path: bytes
    path_id: PathId
    state: RootState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A folder still to be listed."""

    path: bytes
    path_id: PathId
    folder: Found | None
    scope: Scope
    included: bool
    marked: MarkedTree


def _all_familiar(found: Found) -> bool:
    return True


def path_ids(keys: VaultKeys) -> Callable[[PathId, bytes], PathId]:
    """`keys.path_id`, prepared once for many names."""
    mac = prepared_mac(keys.path)

    def path_id(parent: PathId, name: bytes) -> PathId:
        return PathId(mac(parent + name)[:ID_BYTES])

    return path_id


def _no_id(parent: PathId, name: bytes) -> PathId:
    return ROOT


class Scanner:
    """One walk over a selection. `home` is the agent's own folder, never entered.

    With `allow_missing` an included path that does not exist counts as deleted instead of unknown. With `count_only`
    every path id is ROOT's, for who wants to know how much there is and no more. `marked` leads the walk; `familiar`
    says whether a folder that is not marked is the one that was there before, and is asked once its parent's listing
    was dealt with.
    """

    def __init__(
        self,
        selection: Selection,
        keys: VaultKeys,
        *,
        home: bytes | None = None,
        allow_missing: bool = False,
        count_only: bool = False,
        marked: MarkedTree = EVERYTHING,
        familiar: Callable[[Found], bool] = _all_familiar,
    ) -> None:
        self._selection = selection
        self._path_key = keys.path
        self._path_id = _no_id if count_only else path_ids(keys)
        self._allow_missing = allow_missing
        self._marked = marked
        self._familiar = familiar
        self._home = _identity(home) if home is not None else None
        self._placeholders = Placeholders()

    def path_id(self, path: bytes) -> PathId:
        """The id of a normalised absolute path."""
        path_id = ROOT
        for name in components(path):
            path_id = self._path_id(path_id, name)
        return path_id

    def included_roots(self) -> list[IncludedRoot]:
        """A quick look at every included path, before anything is staged."""
        return [self._included_root(path) for path in self._selection.include]

    def _included_root(self, path: bytes) -> IncludedRoot:
        path_id = self.path_id(path)
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                with os.scandir(path) as entries:
                    if next(entries, None) is None:
                        return IncludedRoot(path, path_id, RootState.EMPTY, "is empty")
        except (FileNotFoundError, NotADirectoryError):
            return IncludedRoot(path, path_id, RootState.MISSING, "does not exist")
        except OSError as error:
            return IncludedRoot(path, path_id, RootState.UNREADABLE, _sentence(error))
        return IncludedRoot(path, path_id, RootState.PRESENT)

    def scan(self) -> Iterator[Listing]:
        """Every folder to be listed, parents first; the first listing is the virtual root's."""
        scope = self._selection.scope()
        stack = [_Pending(b"/", ROOT, None, scope, scope.selected, self._marked)]
        while stack:
            at = stack.pop()
            if not at.scope.selected or (paths.HERE.drives and at.folder is None):
                listing, folders, missing = self._list_named(at)
            elif at.marked.listed:
                listing, folders, missing = self._list_whole(at)
            else:
                listing, folders, missing = self._list_some(at)
            yield listing
            yield from missing
            if not at.marked.whole:
                folders = list(self._to_follow(folders))
            folders.reverse()
            stack += folders

    def _to_follow(self, folders: list[_Pending]) -> Iterator[_Pending]:
        """Which of a listing's folders a walk by marks goes into, and how far."""
        for at in folders:
            if at.folder is not None and not self._familiar(at.folder):
                yield replace(at, marked=EVERYTHING)
            elif at.marked is not NOTHING or not at.scope.selected:
                yield at

    def look(self, path: bytes, path_id: PathId, names: Iterable[bytes]) -> Listing:
        """A listing of some children of a folder, looked at by name. Who asks knows that they are selected; those that
        are not there are left out."""
        children: list[Found] = []
        for name in names:
            with contextlib.suppress(OSError):
                below = joined(path, name)
                status = os.lstat(below)
                target = os.readlink(below) if stat.S_ISLNK(status.st_mode) else b""
                found = self._found(path_id, name, status, target)
                if found is not None:
                    children.append(found)
        children.sort(key=_name)
        return Listing(path, path_id, None, children, None, complete=False, included=False, some=True)

    def _list_some(self, at: _Pending) -> tuple[Listing, list[_Pending], list[Listing]]:
        """A selected folder that is on the way to marked ones. Where one of them is no folder any more, something went
        on here that was not marked yet, and the whole folder is listed."""
        scope, plain = at.scope, at.scope.plain
        names = [name for name in at.marked.names if plain or scope.take(name) is not Take.SKIP]
        listing = self.look(at.path, at.path_id, names)
        if len(listing.children) < len(names) or any(child.type is not _FOLDER for child in listing.children):
            return self._list_whole(at)
        return replace(listing, folder=at.folder), self._folders_of(at, listing.children), []

    def _folders_of(self, at: _Pending, children: list[Found]) -> list[_Pending]:
        scope, plain, marked = at.scope, at.scope.plain, at.marked
        folders: list[_Pending] = []
        for child in children:
            if child.type is _FOLDER:
                name = child.name
                inner = scope if plain else scope.enter(name, scope.take(name))
                folders.append(
                    _Pending(
                        joined(at.path, name), child.path_id, child, inner, not plain and scope.is_root(name),
                        marked.below(name) or NOTHING,
                    )
                )  # fmt: skip
        return folders

    def _list_named(self, at: _Pending) -> tuple[Listing, list[_Pending], list[Listing]]:
        """A folder that is only passed through: look for the named children, never at what else it holds."""
        children: list[Found] = []
        folders: list[_Pending] = []
        missing: list[Listing] = []
        unsure: set[PathId] = set()
        warnings: list[ScanWarning] = []
        specials = cloud = 0
        for name in at.scope.named:
            path = joined(at.path, name)
            take = at.scope.take(name)
            try:
                status = os.lstat(path + b"/" if paths.HERE.drives and at.folder is None else paths.HERE.native(path))
                target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""
            except (FileNotFoundError, NotADirectoryError):
                if not self._allow_missing:
                    unsure.add(self._path_id(at.path_id, name))
                    missing += self._missing(at, name, "does not exist")
                continue
            except OSError as error:
                unsure.add(self._path_id(at.path_id, name))
                missing += self._missing(at, name, _sentence(error), missing_root=False)
                continue
            if self._is_home(status):
                continue
            found = self._found(at.path_id, name, status, target)
            if found is None:
                specials += 1
                continue
            if take is Take.THROUGH and found.type is not FileType.FOLDER:
                unsure.add(found.path_id)
                what = "a symbolic link: include its real path" if found.type is FileType.SYMLINK else "not a folder"
                missing += self._missing(at, name, f"is below {shown(path)}, which is {what}")
                continue
            if found.size and (found.blocks == 0 or found.size == 1) and self._cloud(at.path, name, status):
                unsure.add(found.path_id)
                cloud += 1
                continue
            children.append(found)
            if found.type is FileType.FOLDER:
                included = at.scope.is_root(name)
                inner, marked = at.scope.enter(name, take), at.marked.below(name) or NOTHING
                folders.append(_Pending(path, found.path_id, found, inner, included, marked))
        listing = Listing(
            path=at.path, path_id=at.path_id, folder=at.folder, children=children, error=None, complete=False,
            included=False, unsure=frozenset(unsure), specials=specials, warnings=tuple(warnings), cloud=cloud,
        )  # fmt: skip
        return listing, folders, missing

    def _list_whole(self, at: _Pending) -> tuple[Listing, list[_Pending], list[Listing]]:
        """A selected folder: everything in it that no rule leaves out."""
        children: list[Found] = []
        missing: list[Listing] = []
        unsure: set[PathId] = set()
        warnings: list[ScanWarning] = []
        specials = 0
        cloud = 0
        error: str | None = None
        scope = at.scope
        plain = scope.plain
        make = self._found
        home = self._home
        try:
            with _opened(at) as entries:
                for entry in entries:
                    name = entry.name.encode(_ENCODING, _ERRORS)  # os.fsencode without its checks
                    if not plain and scope.take(name) is Take.SKIP:
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                        if home is not None and status.st_ino == home[1] and self._is_home(status):
                            continue
                        linked = status.st_mode & _FORMAT_BITS == stat.S_IFLNK
                        target = os.readlink(joined(at.path, name)) if linked else b""
                    except FileNotFoundError:
                        warnings.append(ScanWarning(joined(at.path, name), "vanished while its folder was listed"))
                        continue
                    except OSError as problem:
                        unsure.add(self._path_id(at.path_id, name))
                        warnings.append(ScanWarning(joined(at.path, name), _sentence(problem)))
                        continue
                    found = make(at.path_id, name, status, target)
                    if found is None:
                        specials += 1
                    elif found.size and (found.blocks == 0 or found.size == 1) and self._cloud(at.path, name, status):
                        cloud += 1
                        unsure.add(found.path_id)
                    else:
                        children.append(found)
        except OSError as problem:
            error = _sentence(problem)
        children.sort(key=_name)
        folders = self._folders_of(at, children)
        if not plain and error is None:
            missing = self._missing_below(at, children, unsure, folders)
        listing = Listing(
            path=at.path, path_id=at.path_id, folder=at.folder, children=children, error=error, complete=True,
            included=at.included, unsure=frozenset(unsure), specials=specials, warnings=tuple(warnings), cloud=cloud,
        )  # fmt: skip
        return listing, folders, missing

    def _missing_below(
        self, at: _Pending, children: list[Found], unsure: set[PathId], folders: list[_Pending]
    ) -> list[Listing]:
        """Included paths below a selected folder that are not there; drops what only led to them and is no folder."""
        missing: list[Listing] = []
        named = at.scope.named
        if not named:
            return missing
        present = {child.name: child for child in children}
        for name in named:
            child = present.get(name)
            if child is None:
                path_id = self._path_id(at.path_id, name)
                if path_id not in unsure and not self._allow_missing:
                    unsure.add(path_id)
                    missing += self._missing(at, name, "does not exist")
            elif at.scope.take(name) is Take.THROUGH and child.type is not FileType.FOLDER:
                children.remove(child)
                unsure.add(child.path_id)
                missing += self._missing(at, name, f"is below {shown(joined(at.path, name))}, which is not a folder")
        return missing

    def _missing(self, at: _Pending, name: bytes, why: str, *, missing_root: bool = True) -> list[Listing]:
        """A listing with an error for each included path at or below child `name`, which is not there."""
        found: list[Listing] = []
        path_id = self._path_id(at.path_id, name)
        stack = [(joined(at.path, name), path_id, at.scope, name)]
        while stack:
            path, path_id, scope, last = stack.pop()
            if scope.is_root(last):
                found.append(
                    Listing(
                        path, path_id, None, [], f"{shown(path)} {why}", complete=False, included=True,
                        missing_root=missing_root,
                    )  # fmt: skip
                )
            inner = scope.enter(last, scope.take(last))
            for below in inner.named:
                stack.append((joined(path, below), self._path_id(path_id, below), inner, below))
        return found

    def _cloud(self, folder: bytes, name: bytes, status: os.stat_result) -> bool:
        """Whether a file without blocks, or of one byte, is but a placeholder."""
        return self._placeholders.is_one(joined(folder, name), status)

    def _is_home(self, status: os.stat_result) -> bool:
        return self._home is not None and (status.st_dev, status.st_ino) == self._home

    def _found(self, parent_id: PathId, name: bytes, status: os.stat_result, target: bytes) -> Found | None:
        """What the status says, or None for sockets, devices and pipes."""
        mode = status.st_mode
        form = mode & _FORMAT_BITS
        size = 0
        group = b""
        if form == stat.S_IFREG:
            kind = _FILE
            size = status.st_size
            if status.st_nlink > 1:
                place = _PLACE.pack(status.st_dev & _NUMBER_LIMIT, status.st_ino & _NUMBER_LIMIT)
                group = hmac.digest(self._path_key, _LINK_LABEL + place, "sha256")[:_LINK_GROUP_BYTES]
        elif form == stat.S_IFDIR:
            kind = _FOLDER
        elif form == stat.S_IFLNK:
            kind = _SYMLINK
        else:
            return None
        mtime_ns = status.st_mtime_ns
        ctime_ns = status.st_ctime_ns
        if mtime_ns > _NUMBER_LIMIT or mtime_ns < -_NUMBER_LIMIT:
            mtime_ns = _NUMBER_LIMIT if mtime_ns > 0 else -_NUMBER_LIMIT
        if ctime_ns > _NUMBER_LIMIT:
            ctime_ns = _NUMBER_LIMIT
        return Found(
            name, self._path_id(parent_id, name), parent_id, kind, size, mode & 0o7777, mtime_ns, ctime_ns,
            status.st_uid, status.st_gid, status.st_dev, status.st_ino & _NUMBER_LIMIT, status.st_nlink,
            getattr(status, "st_blocks", 0), target, group,
        )  # fmt: skip


_FILE: Final = FileType.FILE
_FOLDER: Final = FileType.FOLDER
_SYMLINK: Final = FileType.SYMLINK


def _name(found: Found) -> bytes:
    return found.name


def _identity(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sentence(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def _opened(at: _Pending) -> Iterator[Iterator[os.DirEntry[str]]]:
    """A folder's entries. On POSIX through a descriptor that proved to be the folder seen before: one that was
    exchanged for a symbolic link, or for another folder, between the two looks is an error, not a detour."""
    if paths.HERE.drives:
        with os.scandir(os.fsdecode(paths.HERE.native(seen(at.path)))) as entries:
            yield entries
        return
    descriptor = open_folder(at.path)
    try:
        status = os.fstat(descriptor)
        if at.folder is not None and (status.st_dev, status.st_ino & _NUMBER_LIMIT) != (at.folder.dev, at.folder.ino):
            raise OSError(errno.ESTALE, "the folder was exchanged while it was being listed")
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def open_folder(path: bytes) -> int:
    """A descriptor on a folder, never through a symbolic link at its end; OSError where it cannot be read."""
    return os.open(path, descriptors.READ_FOLDER)
