"""Another machine's files, sealed for this one: a key for this delivery, a wait, and a landing that trusts nobody.

What comes is the appliance's word: nothing here can prove that another machine ever had it. So the rules of a
quarantine are all there is: each name is one plain component, folders are entered without following anything, nothing
that stands there is replaced, links lead nowhere else, files belong to the folder's owner and have no privileges.
A file gets its name once its content is whole and its sealer vouches for it. Memory: one chunk, and names of folders.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from agent.assembly import RestoreError
from agent.client import Client, one_line
from agent.enrolling import Enrolled
from agent.landing import Folder, Landing, Unfinished
from agent.landing_rules import Keep, LandingError
from agent.receiving import Place
from agent.remote import RemoteSource
from agent.restore import RestoreProgress, RestoreReport
from agent.system import descriptors
from transport import messages as m
from transport.errors import IntegrityError, PilulierError, RefusedError
from transport.escrow import EscrowKey
from transport.keys import read_key_file, write_key_file
from transport.names import VaultId
from transport.parcels import Entry, ParcelReader, Wrapping, chunk_id, opened_parcel
from transport.sealing import Sealer
from transport.snapshot_reader import MissingSegment
from transport.tree import FileType

WAIT_S: Final = 5 * 60.0
"""How long a command waits for the parcel, and keeps backups waiting; the delivery waits for days."""
ASK_AGAIN_S: Final = 2.0
_ERRORS_LIMIT: Final = 10_000
_SMALL_BYTES: Final = 1 << 20
_PLACES_LIMIT: Final = 1_000_000
"""Folders and links of a parcel, which are remembered."""
_SLACK_BYTES: Final = 16 << 20
"""Beyond the size that the owner was shown before saying yes."""


class NotSealedYet(PilulierError):
    """The appliance has not sealed the parcel yet."""

    code = "not-sealed"


@dataclass(slots=True)
class _Attributes:
    """What is put on an entry: its owner is the folder's, whatever came."""

    name: bytes
    size: int
    mode: int
    mtime_ns: int
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    uid: int
    gid: int
    user: str = ""
    group: str = ""


def answer(machine: Enrolled, client: Client, offer: m.Delivery) -> None:
    """Say yes, with a key that this delivery is sealed to. The same key again where the yes was said before."""
    path = machine.home.receiving_key(offer.number)
    if offer.accepted and path.exists():
        return
    key = EscrowKey.generate()
    write_key_file(path, key.seed)  # before the word: a parcel that nobody opens is work for nothing
    public = key.public.data
    signature = machine.keys.signing.sign_receiving(machine.settings.machine, offer.number, public)
    client.ask(m.DeliveryAnswer(offer.number, True, public, signature), m.Noted)


def wait(
    client: Client,
    number: int,
    progress: Callable[[RestoreProgress], None] | None = None,
    *,
    wait_s: float = WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> m.Parcel:
    """The parcel once it is sealed; NotSealedYet after a while, RefusedError where it never will be. `progress` is told
    between looks, and may raise to end it."""
    until = time.monotonic() + wait_s
    while True:
        parcel = client.ask(m.ParcelQuery(number), m.Parcel)
        if parcel.reason:
            raise RefusedError(f"the appliance could not seal delivery {number}: {one_line(parcel.reason)}")
        if parcel.envelope:
            return parcel
        if progress is not None:
            progress(RestoreProgress("listing", 0, 0, 0, 0))
        if time.monotonic() > until:
            raise NotSealedYet(f"delivery {number} is accepted and not sealed yet: accept it once more later")
        sleep(ASK_AGAIN_S)


def land(
    machine: Enrolled,
    source: RemoteSource,
    parcel: m.Parcel,
    offer: m.Delivery,
    place: Place,
    progress: Callable[[RestoreProgress], None] | None = None,
) -> RestoreReport:
    """Fetch, open and write all of it into its folder; SealError or IntegrityError where it is not a parcel for this
    machine and delivery, DiskFullError. What already stands there complete is left and counted."""
    key = EscrowKey(read_key_file(machine.home.receiving_key(offer.number), 1024))
    sealer = opened_parcel(key, Wrapping(parcel.envelope, VaultId(parcel.vault)), machine.settings.machine)
    reader = ParcelReader(_chunks(source, sealer, parcel.chunks))
    return land_entries(reader, place, offer, progress)


def _chunks(source: RemoteSource, sealer: Sealer, count: int) -> Iterator[bytes]:
    numbers = iter(range(1, count + 1))
    for segment, data in source.segments(chunk_id(number) for number in range(1, count + 1)):
        if segment != chunk_id(next(numbers)):
            raise IntegrityError("the appliance sent the chunks of a parcel out of turn")
        if isinstance(data, MissingSegment):
            raise IntegrityError(f"a part of the parcel is missing: {data.reason}")
        yield sealer.open_segment(segment, data)


def land_entries(
    reader: ParcelReader, place: Place, offer: m.Delivery, progress: Callable[[RestoreProgress], None] | None = None
) -> RestoreReport:
    """Write what a parcel holds, by the rules of a quarantine."""
    began = time.monotonic()
    with Landing(os.fsencode(place.path), quarantine=place.identity) as landing:
        job = _Job(landing, reader, offer, place, progress or (lambda _: None))
        job.run()
        return RestoreReport(
            snapshot=offer.snapshot,
            files=job.files,
            files_same=job.same,
            folders=job.folder_count,
            symlinks=job.symlinks,
            bytes=job.bytes,
            seconds=time.monotonic() - began,
            errors=job.errors,
            notes=list(landing.notes.values()),
        )


class _Job:
    def __init__(
        self,
        landing: Landing,
        reader: ParcelReader,
        offer: m.Delivery,
        place: Place,
        tell: Callable[[RestoreProgress], None],
    ) -> None:
        self._landing, self._reader, self._offer, self._place, self._tell = landing, reader, offer, place, tell
        self._folders: dict[tuple[bytes, ...], Folder | str] = {(): landing.root}
        self._finish: list[tuple[Folder, _Attributes]] = []
        self._links: list[tuple[Entry, Folder]] = []
        self.files = self.same = self.bytes = self.symlinks = self.folder_count = 0
        self.errors: list[RestoreError] = []

    def run(self) -> None:
        room = self._offer.bytes + self._offer.bytes // 20 + _SLACK_BYTES
        while (entry := self._reader.next()) is not None:
            room -= entry.size if entry.type == FileType.FILE else 0
            if room < 0:
                raise IntegrityError("the parcel holds more than was announced before it was accepted")
            if len(self._folders) + len(self._links) > _PLACES_LIMIT:
                raise IntegrityError(f"the parcel holds more than {_PLACES_LIMIT} folders and links")
            parent = self._folders.get(tuple(entry.names[:-1]), "its folder is not part of what was sent")
            if entry.type == FileType.FOLDER:
                self._folder(entry, parent)
            elif entry.type == FileType.FILE:
                self._file(entry, parent)
                self._told("files")
            elif entry.type == FileType.SYMLINK and not isinstance(parent, str):
                self._links.append((entry, parent))
            else:
                self._error(entry, parent if isinstance(parent, str) else "it is of a kind that cannot be received")
        self._told("finishing")
        for entry, parent in self._links:
            try:
                kept = self._landing.symlink(parent, _attributes(entry, self._place))
            except LandingError as error:
                self._error(entry, str(error))
                continue
            if kept is None:
                self.symlinks += 1
            else:
                self._error(entry, kept.reason)
        for folder, attributes in reversed(self._finish):
            try:
                self._landing.finish_folder(folder, attributes)
            except LandingError:
                continue  # the files in it stand
            self.folder_count += 1

    def _told(self, phase: str) -> None:
        self._tell(RestoreProgress(phase, self.files, self._offer.files, self.bytes, self._offer.bytes))

    def _error(self, entry: Entry, reason: str) -> None:
        if len(self.errors) < _ERRORS_LIMIT:
            self.errors.append(RestoreError(b"/" + b"/".join(entry.names), reason))

    def _folder(self, entry: Entry, parent: Folder | str) -> None:
        key = tuple(entry.names)
        if key in self._folders:
            self._error(entry, "it comes twice")
            return
        if isinstance(parent, str):
            self._folders[key] = parent
            self._error(entry, parent)
            return
        try:
            made = self._folders[key] = self._landing.folder(parent, entry.names[-1])
        except LandingError as error:
            self._folders[key] = f"its folder was not made: {error}"
            self._error(entry, str(error))
        else:
            self._finish.append((made, _attributes(entry, self._place)))

    def _file(self, entry: Entry, parent: Folder | str) -> None:
        """Write a file as it comes. Whatever goes wrong, its content is read to its end: the next one follows."""
        parts = self._reader.content(entry)
        problem, same = "", False
        data = b""
        unfinished: Unfinished | None = None
        try:
            if isinstance(parent, str):
                raise LandingError(parent)
            standing = self._landing.standing(parent, entry.names[-1])
            if standing is not None:
                same = self._is_same(parent, entry, standing, parts)
                if not same:
                    raise LandingError("something stands under this name already: it was left alone")
            elif entry.size <= _SMALL_BYTES:
                data = b"".join(parts)
            else:
                unfinished = self._landing.create(parent, entry.size)
                offset = 0
                for part in parts:
                    self._landing.write(unfinished, memoryview(part), offset)
                    offset += len(part)
        except LandingError as error:
            problem = str(error)
        for _ in parts:
            pass
        if not self._reader.verdict() and not problem:
            problem = "its content was not what its machine had signed: it was left out"
        if same and not problem:
            self.same += 1
            return
        try:
            if problem or isinstance(parent, str):
                raise LandingError(problem)
            attributes = _attributes(entry, self._place)
            outcome = (
                self._landing.put(parent, attributes, memoryview(data))
                if unfinished is None
                else self._landing.place(unfinished, attributes)
            )
            if isinstance(outcome, Keep):
                raise LandingError(outcome.reason)
        except LandingError as error:
            if unfinished is not None:
                self._landing.discard(unfinished)
            self._error(entry, str(error))
            return
        self.files += 1
        self.bytes += entry.size

    def _is_same(self, parent: Folder, entry: Entry, status: os.stat_result, parts: Iterator[bytes]) -> bool:
        """Whether what stands there is what comes: a delivery that was cut begins anew and fetches it twice."""
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
            return False
        with self._landing.existing(parent, entry.names[-1]) as handle:
            offset = 0
            for part in parts:
                if descriptors.read_at(handle, len(part), offset) != part:
                    return False
                offset += len(part)
        return True


def _attributes(entry: Entry, place: Place) -> _Attributes:
    return _Attributes(
        name=entry.names[-1],
        size=entry.size,
        # An owner must be able to look at what came, and to throw it away.
        mode=(entry.mode & 0o777) | (0o700 if entry.type == FileType.FOLDER else 0o600),
        mtime_ns=entry.mtime_ns,
        target=entry.target,
        xattrs=tuple((name, value) for name, value in entry.xattrs if name.startswith(b"user.")),
        uid=place.uid,
        gid=place.gid,
    )
