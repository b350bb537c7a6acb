"""The spool: parcels that were sealed for a machine and wait for it, one file each, gone when taken or over.

Holds nothing that anybody here could open: each is sealed to a key of its receiving machine. Bounded in all, and by a
reserve of the disk that backups need. A file is written under another name first, so that what has its name is whole.
"""

from __future__ import annotations

import array
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from appliance.control.crossings import NotSealableError, Why
from appliance.errors import NotFoundError
from appliance.opening.parcel_sealing import LENGTH
from appliance.settings import Home
from transport.names import SEALED_LIMIT

LIMIT_BYTES: Final = 64 << 30
"""All parcels together."""
RESERVE_SHARE: Final = 0.1
"""Of the disk, kept free for backups."""
_ENDING: Final = ".parcel"


def path_of(home: Home, machine_id: bytes, number: int) -> Path:
    """Where a delivery's parcel lies, or would."""
    return home.spool / f"{machine_id.hex()}-{number}{_ENDING}"


def _used(home: Home) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(one.stat().st_size for one in os.scandir(home.spool) if one.is_file())
    return 0


def check_room(home: Home, size_bytes: int) -> None:
    """NotSealableError where a parcel of about this size would take room that others need."""
    usage = shutil.disk_usage(home.root)
    if _used(home) + size_bytes > LIMIT_BYTES:
        raise NotSealableError(Why.ROOM)
    if usage.free - size_bytes < RESERVE_SHARE * usage.total:
        raise NotSealableError(Why.ROOM)


class ParcelFile:
    """A parcel being written; `keep` gives it its name, leaving the context without that removes it."""

    def __init__(self, home: Home, machine_id: bytes, number: int, limit_bytes: int) -> None:
        home.spool.mkdir(mode=0o700, exist_ok=True)
        self._path = path_of(home, machine_id, number)
        self._new = self._path.with_name(self._path.name + ".new")
        self._file: IO[bytes] = open(  # noqa: SIM115 - closed by the context
            os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb"
        )
        self._limit_bytes, self._written = limit_bytes, 0
        self.chunks = 0

    def __enter__(self) -> ParcelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._new.unlink(missing_ok=True)

    def add(self, chunk: bytes) -> None:
        """The next sealed chunk; NotSealableError where the parcel grows beyond its bound."""
        self._written += len(chunk) + LENGTH.size
        if self._written > self._limit_bytes or not 0 < len(chunk) <= SEALED_LIMIT:
            raise NotSealableError(Why.LARGE)
        self._file.write(LENGTH.pack(len(chunk)) + chunk)
        self.chunks += 1

    def keep(self) -> None:
        """It is whole."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._new, self._path)


class Parcel:
    """A whole parcel, its chunks by number from 1 on. One thread at a time."""

    def __init__(self, home: Home, machine_id: bytes, number: int) -> None:
        """NotFoundError where there is none."""
        try:
            self._handle = os.open(path_of(home, machine_id, number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(f"nothing is sealed for delivery {number}: ask for another") from None
        self._places = array.array("Q", _places(self._handle))

    def close(self) -> None:
        """Give the file back; harmless twice."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    @property
    def chunks(self) -> int:
        """How many it has."""
        return len(self._places)

    def read(self, number: int) -> bytes:
        """A sealed chunk; NotFoundError for a number that it has not."""
        if not 1 <= number <= len(self._places) or self._handle < 0:
            raise NotFoundError(f"a parcel of {len(self._places)} chunks has no chunk {number}")
        place = self._places[number - 1]
        (length,) = LENGTH.unpack(os.pread(self._handle, LENGTH.size, place))
        return os.pread(self._handle, length, place + LENGTH.size)

    def __del__(self) -> None:
        self.close()


def _places(handle: int) -> Iterator[int]:
    size, at = os.fstat(handle).st_size, 0
    while at + LENGTH.size <= size:
        (length,) = LENGTH.unpack(os.pread(handle, LENGTH.size, at))
        if not 0 < length <= SEALED_LIMIT or at + LENGTH.size + length > size:
            return
        yield at
        at += LENGTH.size + length


def remove(home: Home, machine_id: bytes, number: int) -> None:
    """Taken, or not wanted any more."""
    path_of(home, machine_id, number).unlink(missing_ok=True)


def waiting(home: Home) -> list[tuple[bytes, int]]:
    """The deliveries whose parcels lie here: machine ids and numbers; what else lies here is left alone."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for one in os.scandir(home.spool):
            name, ending, machine = one.name.removesuffix(_ENDING), one.name.endswith(_ENDING), b""
            machine_hex, _, number = name.partition("-")
            with contextlib.suppress(ValueError):
                machine = bytes.fromhex(machine_hex)
            if ending and len(machine) == 16 and number.isdigit():
                found.append((machine, int(number)))
    return found
