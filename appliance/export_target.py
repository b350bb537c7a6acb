"""Where an export is written: a folder or a tar file, whole under its name or not there.

Owns the unfinished name (`….partial`), the hash of each file as it passes, the manifest that comes last, and what
becomes of a full disk: one sentence, and nothing left that looks finished. Bytes pass in pieces of 1 MiB.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Protocol

from appliance.errors import ExportError
from transport.errors import UsageError

PARTIAL: Final = ".partial"
MANIFEST: Final = "MANIFEST.sha256"
_PIECE_BYTES: Final = 1 << 20
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Target(Protocol):
    """What takes the files of an export."""

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        """The first `size` bytes of a file, under a path of the export."""

    def manifest(self) -> bytes:
        """One line of sha256sum(1) for each file so far, by name."""


class _Hashed(io.RawIOBase):
    """A reader of exactly so many bytes, which are hashed on the way; ExportError where there are fewer."""

    def __init__(self, content: IO[bytes], size: int, check: Callable[[], None]) -> None:
        self._content, self._left, self._check = content, size, check
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._check()
        wanted = min(self._left, _PIECE_BYTES if size < 0 else size)
        piece = self._content.read(wanted) if wanted else b""
        if len(piece) < wanted:
            short = self._left - len(piece)
            raise ExportError(f"a file to be exported is {short} bytes shorter than its catalog says: scrub it")
        self._left -= len(piece)
        self.digest.update(piece)
        return piece


class _Files:
    """The names and hashes so far."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._digests: dict[str, str] = {}

    def hashed(self, content: IO[bytes], size: int) -> _Hashed:
        return _Hashed(content, size, self._check)

    def note(self, name: str, passed: _Hashed) -> None:
        self._digests[name] = passed.digest.hexdigest()

    def manifest(self) -> bytes:
        return "".join(f"{digest}  {name}\n" for name, digest in sorted(self._digests.items())).encode()


class _Folder(_Files):
    def __init__(self, root: Path, check: Callable[[], None]) -> None:
        super().__init__(check)
        self._root = root

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        path = self._root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        passed = self.hashed(content, size)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            while piece := passed.read(_PIECE_BYTES):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        self.note(name, passed)


class _Tar(_Files):
    def __init__(self, archive: tarfile.TarFile, top: str, now: float, check: Callable[[], None]) -> None:
        super().__init__(check)
        self._archive, self._top, self._now = archive, top, now

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(f"{self._top}/{name}")
        info.size, info.mode, info.mtime = size, 0o600, int(self._now)
        passed = self.hashed(content, size)
        self._archive.addfile(info, passed)
        self.note(name, passed)


@contextmanager
def opened(
    path: Path, needed_bytes: int, now: float, check: Callable[[], None], reserve_share: float = 0.0
) -> Iterator[Target]:
    """The target at `path`, a tar where its name ends in .tar; it gets its name when the block ends well.

    UsageError where something stands there or the folder above is missing, ExportError where there is no room.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: an export is written to a new place")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder: make it, or choose another one")
    partial = path.with_name(path.name + PARTIAL)
    try:
        _remove(partial)
        usage = shutil.disk_usage(path.parent)
        free = max(0, usage.free - int(reserve_share * usage.total))
        if free < needed_bytes:
            raise ExportError(
                f"{path.parent} has no room for the export: {needed_bytes} bytes are needed, {free} are free"
            )
        if path.suffix == ".tar":
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                with tarfile.TarFile(
                    fileobj=file, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_PIECE_BYTES
                ) as archive:
                    yield _Tar(archive, path.stem, now, check)
                file.flush()
                os.fsync(file.fileno())
        else:
            partial.mkdir(mode=0o700)
            yield _Folder(partial, check)
        os.rename(partial, path)
        _sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _remove(partial)
        if isinstance(error, OSError):
            if error.errno in _NO_ROOM:
                raise ExportError(f"the disk of {path.parent} is full: nothing was left there, make room") from None
            raise ExportError(f"the export to {path} failed ({error.strerror}): nothing was left there") from None
        raise


def _remove(partial: Path) -> None:
    """What a run that was cut off left there."""
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
