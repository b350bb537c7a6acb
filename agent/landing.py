"""Landing restored files on disk without being fooled by names, links or whatever already stands there.

Owns every write of a restore. Rules kept: folders are entered through directory handles and never through a
symbolic link; a file is written without a name, or under a temporary one in its final folder, and named once its
content is proved; nothing newer is replaced unless asked; set-uid, set-gid and file capabilities are stripped unless
asked; a full disk stops everything and leaves no temporary file. Must not know keys, segments or the
appliance: it is handed bytes and says where they went.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from agent.landing_attributes import Note as Note
from agent.landing_attributes import Restorer
from agent.landing_rules import FULL, Attributes, Explained, Keep, Place, judge, leads_out
from agent.landing_rules import DiskFullError as DiskFullError
from agent.landing_rules import LandingError as LandingError
from agent.sparse import write_sparse
from agent.system import descriptors, paths
from agent.system.open_folders import Drives, OpenFolder, open_root
from agent.write_behind import WORTH_BYTES, WriteBehind
from transport.errors import PilulierError

TEMPORARY_PREFIX: Final = b".pilulier-"
"""Names of unfinished files; a scanner may skip them."""
_OPEN_FOLDERS: Final = 128
_OPEN_FILES: Final = 64


class Folder:
    """A folder of the target; handles come and go (`Landing` keeps some open), its identity stays."""

    __slots__ = ("created", "identity", "name", "parent")

    def __init__(self, parent: Folder | None, name: bytes, *, created: bool) -> None:
        self.parent = parent
        self.name = name
        self.created = created
        """Made by this job, so whatever stands in it came from this job too."""
        self.identity: tuple[int, int] | None = None

    def depth(self) -> int:
        """How far below the target it lies; 0 for that itself."""
        return 0 if self.parent is None else self.parent.depth() + 1

    def path(self) -> bytes:
        """Where it is, for messages."""
        names = []
        folder: Folder | None = self
        while folder is not None:
            names.append(folder.name)
            folder = folder.parent
        return os.path.join(*reversed(names))


class Unfinished:
    """A file under its temporary name."""

    __slots__ = ("folder", "identity", "name", "size")

    def __init__(self, folder: Folder, name: bytes, size: int, identity: tuple[int, int]) -> None:
        self.folder = folder
        self.name = name
        self.size = size
        self.identity = identity
        """(device, inode)"""


class Landing:
    """The target of one restore. Not thread-safe: one thread at a time uses it. A context manager.

    `target` is created where missing. In a `quarantine`, which is named by the folder's device and inode as well,
    nothing that stands there is replaced, whatever its name or date, and no symbolic link leads out. Leaving the
    context closes all handles and removes every unfinished file.
    """

    def __init__(
        self,
        target: bytes | None,
        *,
        overwrite: bool = False,
        keep_privileges: bool = False,
        quarantine: tuple[int, int] | None = None,
        behind: WriteBehind | None = None,
        by_handle: bool | None = None,
    ) -> None:
        """`by_handle`: how folders are held, where it is not the system's way. `target` None: where the files were."""
        self._target = target
        self._overwrite = overwrite
        self._keep_privileges = keep_privileges
        self._quarantine = quarantine
        self._attributes = Restorer(keep_privileges=keep_privileges)
        self._by_handle = by_handle
        self._nameless = True
        self._behind = behind or WriteBehind()
        self._owns_behind = behind is None
        self._prefix = TEMPORARY_PREFIX + os.urandom(8).hex().encode() + b"-"
        self._counter = 0
        self._opened_root: OpenFolder
        self._handles: OrderedDict[Folder, OpenFolder] = OrderedDict()
        self._open: OrderedDict[Unfinished, int] = OrderedDict()
        self._unfinished: dict[Unfinished, None] = {}
        self.notes = self._attributes.notes
        try:
            if target is not None:
                os.makedirs(target, exist_ok=True)
            self._opened_root = (
                Drives() if target is None and paths.HERE.drives else open_root(target or b"/", by_handle=by_handle)
            )
        except OSError as error:
            raise LandingError(f"cannot restore to {os.fsdecode(target or b'/')}: {error.strerror}") from None
        self.root = Folder(None, target or b"/", created=False)
        if quarantine is not None and self._opened_root.identity != quarantine:
            self._opened_root.close()
            raise LandingError("another folder took the place of the one that was made for this delivery")

    def sibling(self) -> Landing:
        """Another landing in the same place, for another thread: folders may be handed over, unfinished files not."""
        return Landing(
            self._target,
            overwrite=self._overwrite,
            keep_privileges=self._keep_privileges,
            quarantine=self._quarantine,
            behind=self._behind,
            by_handle=self._by_handle,
        )

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *_: object) -> None:
        for unfinished in list(self._unfinished):
            with contextlib.suppress(OSError, PilulierError):
                self.discard(unfinished)
        if self._owns_behind:
            self._behind.close()
        for handle in self._open.values():
            os.close(handle)
        for opened in (*self._handles.values(), self._opened_root):
            opened.close()
        self._open.clear()
        self._handles.clear()

    # -- folders

    def folder(self, parent: Folder, name: bytes) -> Folder:
        """The folder `name` of `parent`, made (mode 0700 until `finish_folder`) or found; LandingError."""
        if parent is self.root and paths.HERE.is_drive(name):
            if self._target is None:
                return Folder(parent, name, created=False)
            name = name[:1]
        self._refuse(name)
        with self._explained():
            within = self._within(parent)
            try:
                within.make(name)
            except FileExistsError:
                status = within.look(name)
                if status is None or not stat.S_ISDIR(status.st_mode):
                    what = "a symbolic link" if status is not None and stat.S_ISLNK(status.st_mode) else "a file"
                    raise LandingError(f"{what} stands where the folder should go: it was not followed") from None
                if parent.created:
                    raise LandingError(
                        "another name of this backup landed here: this disk does not tell the two names apart"
                    ) from None
                return Folder(parent, name, created=False)
        return Folder(parent, name, created=True)

    def finish_folder(self, folder: Folder, attributes: Attributes) -> None:
        """Put modes, times, owner and attributes on a folder whose content is complete; children before parents."""
        with self._explained():
            handle = self._within(folder).handle()
            try:
                self._attributes.apply(handle, attributes, (folder.parent or self.root).path, is_folder=True)
            finally:
                os.close(handle)

    def _within(self, folder: Folder) -> OpenFolder:
        opened = self._handles.get(folder)
        if opened is not None:
            self._handles.move_to_end(folder)
            return opened
        missing = []
        above: Folder | None = folder
        while above is not None and above.parent is not None and above not in self._handles:
            missing.append(above)
            above = above.parent
        within = self._opened_root if above is None or above.parent is None else self._handles[above]
        for step in reversed(missing):
            opened = within.enter(step.name)
            if step.identity is None:
                step.identity = opened.identity
            elif step.identity != opened.identity:
                opened.close()
                raise LandingError("a folder on the way was replaced by another during the restore")
            self._handles[step] = within = opened
            while len(self._handles) > _OPEN_FOLDERS:
                self._handles.popitem(last=False)[1].close()
        return within

    # -- what stands there

    def standing(self, folder: Folder, name: bytes) -> os.stat_result | None:
        """lstat of what stands under `name`, None where nothing does; LandingError for names that must not be used."""
        self._refuse(name)
        with self._explained():
            return self._within(folder).look(name)

    def judge(self, folder: Folder, status: os.stat_result | None, mtime_ns: int) -> Place | Keep:
        """`judge` under this job's rules."""
        if self._quarantine is not None and status is not None:
            return Keep("something stands under this name already: it was left alone")
        return judge(status, mtime_ns, overwrite=self._overwrite, created_folder=folder.created)

    @contextlib.contextmanager
    def existing(self, folder: Folder, name: bytes) -> Iterator[int]:
        """A read handle of the regular file that stands under `name`; LandingError where none does."""
        with self._explained():
            handle = self._within(folder).open(name, descriptors.READ)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise LandingError("what stands there is no regular file")
            with self._explained():
                yield handle
        finally:
            os.close(handle)

    def touch_up(self, handle: int, folder: Folder, attributes: Attributes) -> None:
        """Put attributes back on an existing file whose content is already the snapshot's."""
        with self._explained():
            self._attributes.apply(handle, attributes, folder.path)

    # -- files

    def create(self, folder: Folder, size: int) -> Unfinished:
        """A new file of `size` bytes under a temporary name, all hole; LandingError, DiskFullError."""
        with self._explained():
            name = self._temporary()
            handle = self._within(folder).open(name, descriptors.CREATE)
            status = os.fstat(handle)
            unfinished = Unfinished(folder, name, size, (status.st_dev, status.st_ino))
            self._unfinished[unfinished] = None
            self._open[unfinished] = handle
            if len(self._open) > _OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            if size:
                os.ftruncate(handle, size)
        return unfinished

    def write(self, unfinished: Unfinished, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        with self._explained():
            handle = self._file_handle(unfinished)
            write_sparse(handle, data, offset)

    def lend(self, unfinished: Unfinished) -> int:
        """A handle of the file for `write_lent`, which may run in any thread."""
        with self._explained():
            return descriptors.duplicate(self._file_handle(unfinished))

    def write_lent(self, handle: int, data: memoryview, offset: int, *, read_again: bool) -> None:
        """Write all of `data` at `offset` by a lent handle, which is taken back. Thread-safe.

        What will not be `read_again` goes to the disk at once.
        """
        try:
            with self._explained():
                write_sparse(handle, data, offset)
        except BaseException:
            os.close(handle)
            raise
        self._done_with(handle, offset, 0 if read_again else len(data))

    def _done_with(self, handle: int, offset: int, length: int) -> None:
        if length < WORTH_BYTES:
            os.close(handle)
        else:
            self._behind.wrote(handle, offset, length)

    def read(self, unfinished: Unfinished, offset: int, length: int) -> bytes:
        """`length` bytes back from what was written; fewer only where the file was cut by someone else."""
        parts = []
        with self._explained():
            handle = self._file_handle(unfinished)
            while length:
                part = descriptors.read_at(handle, length, offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def place(self, unfinished: Unfinished, attributes: Attributes) -> Keep | None:
        """Give a proved file its attributes and its name; Keep where what appeared there since must stay."""
        folder = unfinished.folder
        with self._explained():
            handle = self._file_handle(unfinished)
            self._attributes.apply(handle, attributes, folder.path)
            del self._open[unfinished]
            os.close(handle)
            return self._take_name(folder, unfinished, attributes)

    def put(self, folder: Folder, attributes: Attributes, data: memoryview) -> Unfinished | Keep:
        """`create`, `write` and `place` of a proved small file in one go: the path of most files.

        Where the disk offers it, the file has no name at all until it is complete (O_TMPFILE, then linkat): an
        interruption leaves nothing, a name that is taken is noticed without looking first, and it costs two thirds
        of a temporary name and a rename (measured: 40 µs against 60 µs of CPU a file).
        """
        self._refuse(attributes.name)
        with self._explained():
            return (self._put_nameless(folder, attributes, data) if self._nameless else None) or self._put_renamed(
                folder, attributes, data
            )

    def _put_nameless(self, folder: Folder, attributes: Attributes, data: memoryview) -> Unfinished | Keep | None:
        """None where this disk cannot do it: nothing is left of the attempt."""
        within = self._within(folder)
        try:
            # The mode that is wanted at once: whoever could open it has no name to do so.
            handle = within.create_nameless(attributes.mode & 0o777)
        except OSError as error:
            if error.errno in FULL:
                raise
            handle = None
        if handle is None:
            self._nameless = False
            return None
        length = 0
        try:
            status = os.fstat(handle)
            if write_sparse(handle, data, 0) < len(data):
                os.ftruncate(handle, len(data))
            self._attributes.apply(handle, attributes, folder.path, status=status)
            unfinished = Unfinished(folder, b"", len(data), (status.st_dev, status.st_ino))
            try:
                within.name_it(handle, attributes.name)
            except FileExistsError:
                unfinished.name = self._temporary()
                within.name_it(handle, unfinished.name)
                self._unfinished[unfinished] = None
                try:
                    return self._take_name(folder, unfinished, attributes) or unfinished
                except BaseException:
                    self.discard(unfinished)
                    raise
            except OSError as error:
                if error.errno in FULL:
                    raise
                self._nameless = False
                return None
            length = len(data)
            return unfinished
        finally:
            self._done_with(handle, 0, length)

    def _put_renamed(self, folder: Folder, attributes: Attributes, data: memoryview) -> Unfinished | Keep:
        name = self._temporary()
        handle = self._within(folder).open(name, descriptors.CREATE)
        unfinished = Unfinished(folder, name, len(data), (0, 0))
        self._unfinished[unfinished] = None
        try:
            try:
                status = os.fstat(handle)
                unfinished.identity = (status.st_dev, status.st_ino)
                if write_sparse(handle, data, 0) < len(data):
                    os.ftruncate(handle, len(data))
                self._attributes.apply(handle, attributes, folder.path, status=status)
            finally:
                os.close(handle)
            return self._take_name(folder, unfinished, attributes) or unfinished
        except BaseException:
            self.discard(unfinished)
            raise

    def discard(self, unfinished: Unfinished) -> None:
        """Remove an unfinished file; nothing happens where it is already gone."""
        handle = self._open.pop(unfinished, None)
        if handle is not None:
            os.close(handle)
        if unfinished in self._unfinished:
            del self._unfinished[unfinished]
            with self._explained(), contextlib.suppress(FileNotFoundError):
                self._within(unfinished.folder).unlink(unfinished.name)

    def link(
        self, source: Folder, source_name: bytes, identity: tuple[int, int], folder: Folder, name: bytes, mtime_ns: int
    ) -> Keep | None:
        """A hard link `name` to a file that this job put or proved (its `identity`); None where it stands."""
        self._refuse(name)
        with self._explained():
            status = self._within(folder).look(name)
            if status is not None and (status.st_dev, status.st_ino) == identity:
                return None
            verdict = self.judge(folder, status, mtime_ns)
            if isinstance(verdict, Keep):
                return verdict
            temporary = self._temporary()
            other = self._within(source).copy()
            try:
                within = self._within(folder)
                within.link(other, source_name, temporary)
            finally:
                other.close()
            try:
                status = within.look(temporary)
                if status is None or (status.st_dev, status.st_ino) != identity:
                    raise LandingError("the file to link to was replaced during the restore")
                within.rename(temporary, name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    within.unlink(temporary)
        return None

    def symlink(self, folder: Folder, attributes: Attributes) -> Keep | None:
        """A symbolic link with its owner and time; Keep where what stands there must stay. Never followed."""
        name, target = attributes.name, attributes.target
        self._refuse(name)
        if not target or b"\0" in target:
            raise LandingError("the symbolic link has no usable target")
        if self._quarantine is not None and leads_out(target, folder.depth()):
            raise LandingError("the symbolic link would lead out of the folder: it was not made")
        with self._explained():
            within = self._within(folder)
            status = within.look(name)
            same = (
                status is not None
                and stat.S_ISLNK(status.st_mode)
                and within.read_symlink(name) == target
                and not folder.created
            )
            if not same:
                verdict = self.judge(folder, status, attributes.mtime_ns)
                if isinstance(verdict, Keep):
                    return verdict
            temporary = self._temporary()
            within.make_symlink(temporary, target)
            try:
                owner = self._attributes.owner(attributes) if self._attributes.is_root else None
                within.mark_symlink(temporary, attributes.mtime_ns, owner)
                within.rename(temporary, name)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    within.unlink(temporary)
                raise
        return None

    def add_note(self, note: Note) -> None:
        """Take over what a sibling noted."""
        self._attributes.add_note(note)

    # -- within

    def _refuse(self, name: bytes) -> None:
        reason = paths.HERE.refusal(name)
        if reason is not None:
            raise LandingError(reason)

    def _temporary(self) -> bytes:
        self._counter += 1
        return self._prefix + str(self._counter).encode()

    def _file_handle(self, unfinished: Unfinished) -> int:
        handle = self._open.get(unfinished)
        if handle is not None:
            self._open.move_to_end(unfinished)
            return handle
        handle = self._within(unfinished.folder).open(unfinished.name, descriptors.REOPEN)
        status = os.fstat(handle)
        if (status.st_dev, status.st_ino) != unfinished.identity:
            os.close(handle)
            raise LandingError("the unfinished file was replaced by another during the restore")
        self._open[unfinished] = handle
        if len(self._open) > _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return handle

    def _take_name(self, folder: Folder, unfinished: Unfinished, attributes: Attributes) -> Keep | None:
        name = attributes.name
        self._refuse(name)
        within = self._within(folder)
        # Minutes may have passed since the folder was looked at: look again at the last moment.
        verdict = self.judge(folder, within.look(name), attributes.mtime_ns)
        if isinstance(verdict, Keep):
            self.discard(unfinished)
            return verdict
        within.rename(unfinished.name, name)
        del self._unfinished[unfinished]
        return None

    def _explained(self) -> Explained:
        return Explained(self.root.name)
