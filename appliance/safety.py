"""Safety copies: the appliance backs up itself, so that it can be put back on an empty home and agents go on.

A copy holds the control database (taken by SQLite's own backup, checked), the keys and the settings; no repository,
since each is on its own disks and rebuilds itself. It is sealed under a safety key, which never lies in a copy and
belongs on paper in a safe: whoever has a copy and no key has nothing. Copies hold wrapped machine keys, so they go
after a stated number of days: what was deleted by contract is then gone from here too.

Format: magic, 16 random bytes (the vault), then pieces, each a length (4 bytes, big-endian) and a sealed segment
(`transport.sealing`) whose id is its number, with the highest bit set in the last one: a copy that was cut, reordered
or mixed with another is refused. Inside is a tar of regular files (POSIX.1-2001).
"""

from __future__ import annotations

import base64
import io
import os
import re
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from appliance.control.database import Database
from appliance.errors import ControlDatabaseError, HomeError
from appliance.settings import Home, putting_back
from transport.errors import IntegrityError, KeyFileError, SealError, UsageError
from transport.keys import read_key_file, write_key_file
from transport.names import SEALED_LIMIT, SEGMENT_LIMIT, SegmentId, VaultId, random_id
from transport.sealing import Sealer, vault_keys

SUFFIX: Final = ".pilulier-safety"
_MAGIC: Final = b"PLSAFE1\n"
_LENGTH: Final = struct.Struct(">I")
_LAST: Final = 1 << 127
_LABEL: Final = b"pilulier-safety-1 "
_KEY_BYTES: Final = 32
_NAME: Final = re.compile(r"control\.db|settings\.json|keys/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SMALL_LIMIT: Final = 1 << 20
"""Of every file but the database."""
_STAMP: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Copy:
    """A safety copy on disk; `at` in seconds since 1970."""

    path: Path
    at: float
    bytes: int


def folder_of(home: Home) -> Path:
    """Where copies go: the configured folder, else one in the home."""
    chosen = home.load_settings().safety_folder
    return Path(chosen) if chosen else home.root / "safety"


def load_key(home: Home) -> bytes:
    """The safety key, made where there is none yet."""
    path = home.safety_key
    if not path.exists():
        with home.settings_locked():
            if not path.exists():
                write_key_file(path, _LABEL + os.urandom(_KEY_BYTES).hex().encode() + b"\n")
    content = read_key_file(path, _SMALL_LIMIT)
    try:
        key = bytes.fromhex(content.removeprefix(_LABEL).decode("ascii").strip())
    except ValueError:
        key = b""
    if not content.startswith(_LABEL) or len(key) != _KEY_BYTES:
        raise KeyFileError(f"{path} is damaged: type the key from the safe with 'pilulier safety key --from FILE'")
    return key


def written(key: bytes) -> str:
    """The key as it stands on paper: letters and digits (RFC 4648, base32) in groups of four."""
    letters = base64.b32encode(key).decode("ascii").rstrip("=")
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def read(text: str) -> bytes:
    """The key out of what stands on paper; UsageError otherwise."""
    letters = re.sub(r"[\s-]", "", text).upper()
    try:
        key = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise UsageError("this is not a safety key: it has 52 letters and digits in groups of four, A to Z and 2 to 7")
    return key


def save_key(home: Home, key: bytes) -> None:
    """Put a key back into a home."""
    write_key_file(home.safety_key, _LABEL + key.hex().encode() + b"\n")


class _Sealed(io.RawIOBase):
    """A file to write to: what is written leaves in sealed pieces. `finish` writes the last one."""

    def __init__(self, sink: IO[bytes], key: bytes) -> None:
        vault = VaultId(random_id())
        self._sink = sink
        self._sealer = Sealer(vault_keys(key, vault))
        self._pending = bytearray()
        self._number = 0
        sink.write(_MAGIC + vault)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = memoryview(data).cast("B")  # type: ignore[arg-type]
        self._pending += piece
        # One piece stays, so that there is a last one to mark.
        while len(self._pending) > SEGMENT_LIMIT:
            self._put(bytes(self._pending[:SEGMENT_LIMIT]), last=False)
            del self._pending[:SEGMENT_LIMIT]
        return len(piece)

    def finish(self) -> None:
        """The rest, marked as the last."""
        self._put(bytes(self._pending) or b"\0", last=True)

    def _put(self, piece: bytes, *, last: bool) -> None:
        sealed = self._sealer.seal_segment(_id(self._number, last), piece)
        self._sink.write(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


def _id(number: int, last: bool) -> SegmentId:
    return SegmentId((number | (_LAST if last else 0)).to_bytes(16, "big"))


class _Opened(io.RawIOBase):
    """The file to read from; IntegrityError where the copy was cut or altered, or the key is another."""

    def __init__(self, source: IO[bytes], key: bytes) -> None:
        head = source.read(len(_MAGIC) + 16)
        if not head.startswith(_MAGIC) or len(head) != len(_MAGIC) + 16:
            raise IntegrityError("this is no safety copy: it does not begin like one")
        self._source = source
        self._sealer = Sealer(vault_keys(key, VaultId(head[len(_MAGIC) :])))
        self._plain = memoryview(b"")
        self._number = 0
        self._over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._plain and not self._over:
            self._plain = memoryview(self._piece())
        count = min(len(target), len(self._plain))
        target[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def finish(self) -> None:
        """Read to the end: a copy whose last piece is missing is refused even where the tar inside was whole."""
        while self.read(SEGMENT_LIMIT):
            pass

    def _piece(self) -> bytes:
        head = self._source.read(_LENGTH.size)
        if len(head) != _LENGTH.size:
            raise IntegrityError("the safety copy ends in the middle: take another one")
        (length,) = _LENGTH.unpack(head)
        sealed = self._source.read(length) if length <= SEALED_LIMIT else b""
        if len(sealed) != length:
            raise IntegrityError("the safety copy ends in the middle or is damaged: take another one")
        last = False
        try:
            try:
                plain = self._sealer.open_segment(_id(self._number, False), sealed)
            except SealError:
                plain = self._sealer.open_segment(_id(self._number, True), sealed)
                last = True
        except SealError as error:
            why = "the key is another" if self._number == 0 else "it was altered"
            raise IntegrityError(f"the safety copy does not open: {why} ({error})") from None
        if last and self._source.read(1):
            raise IntegrityError("something follows the end of the safety copy: take another one")
        self._over = last
        self._number += 1
        return plain


def write_copy(home: Home, db: Database, now: float, *, check: Callable[[], None] = lambda: None) -> Copy:
    """A new copy, whole under its name or not there; HomeError (its folder), ControlDatabaseError (damaged)."""
    folder = folder_of(home)
    if folder == home.root / "safety":
        folder.mkdir(mode=0o700, exist_ok=True)
    elif not folder.is_dir():
        raise HomeError(f"{folder} is missing: mount the disk for safety copies, or choose another with 'safety set'")
    key = load_key(home)
    path = folder / (datetime.fromtimestamp(now, UTC).strftime(_STAMP) + SUFFIX)
    database, unfinished = home.root / "control.db.copy", path.with_name(path.name + ".new")
    try:
        db.copy_to(database)
        check()
        with Database(database) as copied:
            problems = copied.integrity_problems()
        if problems:
            raise ControlDatabaseError(f"the copy of the control database is not sound ({problems[0]}): see 'doctor'")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            sealed = _Sealed(file, key)
            with tarfile.open(fileobj=sealed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for name, source in _files(home, database):
                    check()
                    _add(archive, name, source)
            sealed.finish()
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        _sync(folder)
    except OSError as error:
        raise HomeError(f"no safety copy can be written to {folder}: {error.strerror}") from None
    finally:
        for leftover in (database, Path(f"{database}-journal"), unfinished):
            leftover.unlink(missing_ok=True)
    return Copy(path, now, path.stat().st_size)


def _files(home: Home, database: Path) -> list[tuple[str, Path]]:
    """Everything in a copy by its name there; the safety key stays out."""
    found = [("control.db", database), ("settings.json", home.settings_file)]
    for path in sorted(home.keys.iterdir()):
        name = f"keys/{path.name}"
        if path.is_file() and path != home.safety_key and _NAME.fullmatch(name) and not path.name.endswith(".new"):
            found.append((name, path))
    return found


def _add(archive: tarfile.TarFile, name: str, source: Path) -> None:
    info = tarfile.TarInfo(name)
    with open(source, "rb") as file:
        info.size, info.mode = os.fstat(file.fileno()).st_size, 0o600
        archive.addfile(info, file)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def listed(home: Home) -> list[Copy]:
    """The copies that are there, oldest first."""
    folder = folder_of(home)
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        try:
            at = datetime.strptime(path.name.removesuffix(SUFFIX), _STAMP).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue  # somebody else's
        found.append(Copy(path, at, path.stat().st_size))
    return found


def expire(home: Home, now: float) -> int:
    """Remove copies that are older than the configured days, but for the newest; how many."""
    kept_s = home.load_settings().safety_days * 86400.0
    gone = [copy for copy in listed(home)[:-1] if now - copy.at > kept_s]
    for copy in gone:
        copy.path.unlink(missing_ok=True)
    return len(gone)


def restore(root: Path, source: Path, key: bytes, now: float) -> Home:
    """Put an appliance back into an empty folder, or one that holds nothing but its repositories.

    Nothing is there unless the whole copy opened. Sessions and mails of then are over, and deletions that waited wait
    their days again: a request may have been cancelled since. IntegrityError, HomeError.
    """
    try:
        file = open(source, "rb")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise UsageError(f"the safety copy {source} cannot be read: {error.strerror}") from None
    with file, putting_back(root) as home:
        opened = _Opened(file, key)
        seen = set()
        try:
            with tarfile.open(fileobj=opened, mode="r|") as archive:
                for info in archive:
                    _take(home, archive, info)
                    seen.add(info.name)
            opened.finish()
        except tarfile.TarError as error:
            raise IntegrityError(f"the safety copy is not one inside ({error}): take another one") from None
        if not {"control.db", "settings.json", "keys/identity.key", "keys/curve.key"} <= seen:
            raise IntegrityError("the safety copy lacks its database or keys: take another one")
        home.load_identity()
        home.load_curve_keys()
        home.load_settings()
        with Database.open(home.control_db) as db:
            problems = db.integrity_problems()
            if problems:
                raise ControlDatabaseError(f"the database in the copy is not sound ({problems[0]}): take another one")
            _begin_again(db, now)
        save_key(home, key)
        return home


def _take(home: Home, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
    """One file of the archive, by the few names that belong there."""
    content = archive.extractfile(info) if info.isreg() else None
    if content is None or not _NAME.fullmatch(info.name):
        raise IntegrityError(f"the safety copy holds {info.name!r}, which does not belong there")
    if info.name != "control.db" and info.size > _SMALL_LIMIT:
        raise IntegrityError(f"the safety copy holds {info.name!r} with {info.size} bytes, which is too much")
    descriptor = os.open(home.root / info.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        while piece := content.read(SEGMENT_LIMIT):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _begin_again(db: Database, now: float) -> None:
    from appliance.control import audit, deletions

    with db.write():
        for table in ("web_session", "pending_login", "step_up"):
            db.execute(f"DELETE FROM {table}")
        db.execute("UPDATE job SET owner = NULL, lease_until = NULL, run_id = NULL")
        db.execute("UPDATE job_run SET outcome = 'interrupted', ended_at = ? WHERE outcome = 'running'", [now])
        # They may have left since the copy was made: better one mail too few than each twice.
        mails = db.execute(
            "UPDATE outbox SET given_up_at = ?, secret = NULL, last_error = 'the appliance was put back from a copy' "
            "WHERE sent_at IS NULL AND given_up_at IS NULL",
            [now],
        )
        waiting = db.execute(
            "UPDATE deletion SET due_at = max(due_at, ?) WHERE outcome = 'waiting'", [now + deletions.WAIT_S]
        )
        audit.write(
            db,
            audit.SYSTEM,
            "appliance.restored",
            now=now,
            object_kind="appliance",
            after={"mails_given_up": mails, "deletions_put_off": waiting},
        )
