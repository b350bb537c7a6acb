"""Builds repositories for the store's tests: an agent reduced to a dictionary of paths, with real seals and signatures.

`Client` keeps what an agent's ledger would, computes root and added digests on its own, and sends numbered messages
straight into a Repository. `CrashingDisk` and `FullDisk` replace the door to the disk.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store.durable import Buffer, Disk
from appliance.store.repository import Repository
from transport import messages as m
from transport.commits import COMMIT_FORMAT, COMMIT_LABEL, FIRST_PREVIOUS, CommitRecord, SignedCommit
from transport.extents import Copy, Fragment, Operation, VersionRecord, Zero, encode_operations
from transport.keys import SigningKey
from transport.names import (
    NO_VERSION,
    ROOT,
    ZERO_SEGMENT,
    Digest,
    InstallationId,
    PathId,
    RepositoryId,
    SegmentId,
    SessionId,
    VaultId,
    VersionId,
)
from transport.sealing import Sealer, VaultKeys, vault_keys
from transport.succession import SUCCESSION_LABEL, SignedSuccession, Succession
from transport.tree import AddedDigest, EntryBatch, EntryKind, EntryRecord, digest_of_tree

REPOSITORY = RepositoryId(b"repository-id-01")
VAULT = VaultId(b"vault-id-of-test")
KEY = SigningKey(bytes(range(32)))
APPLIANCE = SigningKey(bytes(range(64, 96)))
"""The appliance's identity, which approves successions."""
INSTALLATION = InstallationId(b"installation-id-")


def make_keys() -> VaultKeys:
    return vault_keys(bytes(range(1, 33)), VAULT)


def make_repository(folder: Path, disk: Disk | None = None, reserve_bytes: int = 0) -> Repository:
    return Repository.create(
        folder, repository=REPOSITORY, vault=VAULT, public_key=KEY.public, disk=disk, reserve_bytes=reserve_bytes
    )


def commit_record(number: int, previous: Digest, root: Digest, entry_count: int, added: Digest) -> CommitRecord:
    return CommitRecord(
        label=COMMIT_LABEL,
        format=COMMIT_FORMAT,
        vault=VAULT,
        repository=REPOSITORY,
        installation=INSTALLATION,
        epoch=1,
        number=number,
        previous=previous,
        root=root,
        entry_count=entry_count,
        bytes_source=0,
        started_ms=1,
        ended_ms=2,
        complete=True,
        selection=Digest(bytes(32)),
        retention_floor_days=7,
        agent_version="test",
        added=added,
    )


@dataclass
class Client:
    """One machine's agent, without disk or network. `seq` is the last number that was used."""

    repository: Repository
    seed: int = 1
    seq: int = 0
    live: dict[PathId, EntryRecord] = field(default_factory=dict)
    contents: dict[VersionId, bytes] = field(default_factory=dict)
    segments: dict[SegmentId, bytes] = field(default_factory=dict)
    previous: Digest = FIRST_PREVIOUS
    number: int = 0
    clock_ms: int = 1_700_000_000_000
    """The appliance's, whenever something is staged."""
    key: SigningKey = KEY
    """Of the present installation."""
    successions: int = 0

    def __post_init__(self) -> None:
        self.keys = make_keys()
        self.sealer = Sealer(self.keys)
        self.random = random.Random(self.seed)
        self.added = AddedDigest()
        self.session = SessionId(b"")
        self.committed: dict[int, dict[PathId, EntryRecord]] = {0: {}}

    def new_id(self) -> bytes:
        return self.random.randbytes(16)

    def path(self, *names: bytes) -> PathId:
        parent = ROOT
        for name in names:
            parent = self.keys.path_id(parent, name)
        return parent

    def begin(self, session: bytes | None = None) -> int:
        self.session = SessionId(session or self.new_id())
        self.seq = self.repository.begin(self.session, self.previous)
        self.added = AddedDigest()
        self.live = dict(self.committed[self.number])
        return self.seq

    def next(self) -> int:
        self.seq += 1
        return self.seq

    def segment(self, plaintext: bytes) -> tuple[m.PutSegment, bytes]:
        segment = SegmentId(self.new_id())
        self.segments[segment] = plaintext
        return m.PutSegment(self.next(), segment), bytes(self.sealer.seal_segment(segment, plaintext))

    def whole(self, content: bytes, *, piece: int = 1 << 20) -> tuple[VersionId, list[tuple[m.Message, bytes]]]:
        """Messages that send a file whole."""
        items: list[tuple[m.Message, bytes]] = []
        operations: list[Operation] = []
        for at in range(0, len(content), piece):
            message, payload = self.segment(content[at : at + piece])
            items.append((message, payload))
            operations.append(Fragment(SegmentId(message.segment), 0, len(content[at : at + piece])))
        version = self.version(len(content), operations)
        items.append((m.PutVersions(self.next(), [version]), b""))
        self.contents[version.version_id] = content
        return version.version_id, items

    def version(self, size: int, operations: Sequence[Operation], base: VersionId = NO_VERSION) -> VersionRecord:
        base_size = len(self.contents[base]) if base != NO_VERSION else 0
        version = VersionId(self.new_id())
        return VersionRecord(version, size, base, base_size, encode_operations(operations))

    def delta(
        self, base: VersionId, parts: Sequence[bytes | tuple[int, int] | int]
    ) -> tuple[VersionId, list[tuple[m.Message, bytes]]]:
        """Messages that send a delta: bytes are literals, (offset, length) copies, a number a hole."""
        literals = b"".join(part for part in parts if isinstance(part, bytes))
        items: list[tuple[m.Message, bytes]] = []
        segment = ZERO_SEGMENT
        if literals:
            message, payload = self.segment(literals)
            items.append((message, payload))
            segment = SegmentId(message.segment)
        operations: list[Operation] = []
        content = bytearray()
        at = 0
        for part in parts:
            if isinstance(part, bytes):
                operations.append(Fragment(segment, at, len(part)))
                at += len(part)
                content += part
            elif isinstance(part, tuple):
                operations.append(Copy(*part))
                content += self.contents[base][part[0] : part[0] + part[1]]
            else:
                operations.append(Zero(part))
                content += bytes(part)
        version = self.version(len(content), operations, base)
        items.append((m.PutVersions(self.next(), [version]), b""))
        self.contents[version.version_id] = bytes(content)
        return version.version_id, items

    def entry(self, names: tuple[bytes, ...], version: VersionId | None = None, note: bytes = b"") -> EntryRecord:
        """A file entry, or a folder where `version` is None; not sealed yet."""
        size = len(self.contents[version]) if version is not None else 0
        kind = EntryKind.FOLDER if version is None else EntryKind.FILE
        return EntryRecord(
            self.path(*names), self.path(*names[:-1]), int(kind), size, version or NO_VERSION, 0, names[-1] + note
        )

    def entries(self, *clear: EntryRecord) -> tuple[m.PutEntries, bytes]:
        batch = self.sealer.seal_entries()
        records = [batch.seal(record, record.sealed) for record in clear]
        for record in records:
            self.live[record.path_id] = record
            self.added.entry(record.token())
        return m.PutEntries(self.next(), EntryBatch(batch.header, records)), b""

    def deaths(self, *paths: PathId) -> tuple[m.PutDeaths, bytes]:
        for path in paths:
            del self.live[path]
            self.added.death(path)
        return m.PutDeaths(self.next(), list(paths)), b""

    def root(self) -> Digest:
        children: dict[PathId, list[tuple[PathId, Digest, bool]]] = {}
        for record in self.live.values():
            is_folder = record.kind == EntryKind.FOLDER
            children.setdefault(record.parent_id, []).append((record.path_id, record.token(), is_folder))
        return digest_of_tree(children, ROOT)[ROOT]

    def record(self) -> CommitRecord:
        return commit_record(self.number + 1, self.previous, self.root(), len(self.live), self.added.digest())

    def sign(self) -> SignedCommit:
        return self.key.sign_commit(self.record())

    def succession(self, successor: SigningKey, approver: SigningKey = APPLIANCE) -> SignedSuccession:
        """Another installation's key behind the present head, approved by the appliance unless said otherwise."""
        return approver.sign_succession(
            Succession(
                label=SUCCESSION_LABEL,
                vault=VAULT,
                repository=REPOSITORY,
                number=self.successions + 1,
                after=self.number,
                head=self.previous,
                former=self.key.public,
                successor=successor.public,
                installation=InstallationId(successor.public[:16]),
                approver=approver.public,
                approved_ms=self.clock_ms,
            )
        )

    def commit(self) -> int:
        signed = self.sign()
        number = self.repository.commit(self.next(), signed, received_ms=1000 + self.number, bytes_received=77)
        self.made(signed, number)
        return number

    def made(self, signed: SignedCommit, number: int) -> None:
        self.previous, self.number = signed.hash(), number
        self.added = AddedDigest()
        self.committed[number] = dict(self.live)

    def stage(self, *items: tuple[m.Message, bytes]) -> int:
        return self.repository.stage(list(items), now_ms=self.clock_ms)  # type: ignore[arg-type]

    def put_file(self, names: tuple[bytes, ...], content: bytes) -> VersionId:
        """A whole file and its entry, staged."""
        version, items = self.whole(content)
        self.stage(*items, self.entries(self.entry(names, version)))
        return version

    def put_folders(self, *names: tuple[bytes, ...]) -> None:
        self.stage(self.entries(*[self.entry(name) for name in names]))


def listed(repository: Repository, snapshot: int, limit_bytes: int = 700_000) -> dict[PathId, EntryRecord]:
    """Every entry of a snapshot through `tree`."""
    found: dict[PathId, EntryRecord] = {}
    after = ROOT
    while True:
        page = repository.tree(snapshot, after, limit_bytes)
        for entry in page.entries:
            found[entry.record.path_id] = entry.record
        if not page.more:
            return found
        after = page.entries[-1].record.path_id


def content(repository: Repository, version: VersionId, limit: int = 1000) -> bytes:
    """A version's bytes, read back through extents and real seals."""
    sealer = Sealer(make_keys())
    opened: dict[SegmentId, bytes] = {}
    out = bytearray()
    start = 0
    while True:
        page = repository.extents(version, start, limit)
        for segment, offset, length in page.extents:
            if segment == ZERO_SEGMENT:
                out += bytes(length)
                continue
            if segment not in opened:
                opened[segment] = sealer.open_segment(segment, repository.read_segment(segment))
            out += opened[segment][offset : offset + length]
        if not page.more:
            return bytes(out)
        start += sum(extent[2] for extent in page.extents)


def assert_snapshots(repository: Repository, client: Client) -> None:
    """Every committed snapshot lists and reads as the client made it, and a full check finds nothing."""
    for number, entries in client.committed.items():
        if number:
            assert listed(repository, number) == entries
            for record in entries.values():
                if record.version_id != NO_VERSION:
                    assert content(repository, record.version_id) == client.contents[record.version_id]
    report = repository.check(read_data=True)
    assert report.ok, report.errors


class PowerCut(BaseException):
    """The disk died; a BaseException, so that nothing tidies up what a power cut would not."""


class CrashingDisk(Disk):
    """Dies at operation `at`, leaving in `grave` a copy of `folder` as it was at that moment.

    With `lose_unsynced`, packs in the copy end where they were last synced, plus a few bytes of rubbish.
    """

    def __init__(self, folder: Path, grave: Path, at: int, *, lose_unsynced: bool = False) -> None:
        self.folder, self.grave, self.at, self.lose_unsynced = folder, grave, at, lose_unsynced
        self.operations = 0
        self.dead = False
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, int] = {}

    def _step(self) -> None:
        if self.dead:
            raise PowerCut
        self.operations += 1
        if self.operations == self.at:
            self.dead = True
            if self.folder.exists():
                shutil.copytree(self.folder, self.grave)
                if self.lose_unsynced:
                    self._lose()
            raise PowerCut

    def _lose(self) -> None:
        for path in (self.grave / "packs").glob("*.pack"):
            size = self._synced.get(self.folder / "packs" / path.name)
            if size is not None and path.stat().st_size > size:
                os.truncate(path, size + min(7, path.stat().st_size - size))

    def open_new(self, path: Path) -> int:
        self._step()
        descriptor = super().open_new(path)
        self._paths[descriptor] = path
        self._synced[path] = 0
        return descriptor

    def open_existing(self, path: Path) -> int:
        self._step()
        descriptor = super().open_existing(path)
        self._paths[descriptor] = path
        self._synced[path] = path.stat().st_size
        return descriptor

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._step()
        data = b"".join(buffers)
        half = super().write_at(descriptor, [data[: len(data) // 2]], offset) if len(data) > 1 else 0
        self._step()
        return half + super().write_at(descriptor, [data[half:]], offset + half)

    def truncate(self, descriptor: int, size: int) -> None:
        self._step()
        super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)
        path = self._paths.get(descriptor)
        if path is not None:
            self._synced[path] = os.fstat(descriptor).st_size

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def commit_catalog(self, connection: sqlite3.Connection) -> None:
        self._step()
        super().commit_catalog(connection)
        self._step()


class FullDisk(Disk):
    """Has room for `room` more bytes in packs, and says `free` when asked; None means as the real disk."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.free: int | None = None
        self.catalog_full = False

    def write_at(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        if self.room is None:
            return super().write_at(descriptor, buffers, offset)
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data = b"".join(buffers)[: self.room]
        self.room -= len(data)
        return super().write_at(descriptor, [data], offset)

    def commit_catalog(self, connection: sqlite3.Connection) -> None:
        if self.catalog_full:
            connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
            try:
                connection.execute("CREATE TABLE too_much AS SELECT zeroblob(100000)")
            finally:
                connection.execute("PRAGMA max_page_count = 1073741823")
        super().commit_catalog(connection)

    def free_bytes(self, folder: Path) -> int:
        return super().free_bytes(folder) if self.free is None else self.free


class FailingSync(Disk):
    """fsync says EIO once `broken`."""

    def __init__(self) -> None:
        self.broken = False

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)
