"""Entries and deaths on their way: one message for many deaths, and an order that both sides count alike."""

from __future__ import annotations

from typing import Any, cast

from agent.entries import EntryWriter
from agent.ledger import Ledger
from agent.metadata import MetadataReader
from agent.scanner import Found
from agent.staging import Known
from agent.uploader import Uploader
from transport.names import NO_VERSION, ROOT, Digest, PathId, VaultId, random_id
from transport.sealing import Sealer, vault_keys
from transport.tree import AddedDigest, EntryBatch, EntryKind, FileType, Metadata


class Played:
    """Ledger, uploader and metadata in one: keeps the order of what it is given."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.staged: list[str] = []

    def put(self, item: Any) -> None:
        self.sent.append(item)

    def stage(self, known: list[Known]) -> None:
        self.staged.append(f"{len(known)} born")

    def stage_deaths(self, known: list[Known]) -> None:
        self.staged.append(f"{len(known)} dead")

    def read(self, path: bytes, found: Found, mac: bytes) -> Metadata:
        return Metadata(b"name", int(FileType.FOLDER), 0, 0, 0, 0, "", "", b"", b"", b"", [])


def known() -> Known:
    return Known(
        path_id=PathId(random_id()),
        parent_id=ROOT,
        name=b"name",
        kind=int(EntryKind.FOLDER),
        type=int(FileType.FOLDER),
        size=0,
        mode=0,
        mtime_ns=0,
        ctime_ns=0,
        uid=0,
        gid=0,
        ino=0,
        target=b"",
        link_group=b"",
        version_id=NO_VERSION,
        mac=b"",
        token=Digest(bytes(32)),
        metadata_digest=b"",
        has_signature=False,
        settled=True,
    )


def writer(played: Played) -> EntryWriter:
    return EntryWriter(
        Sealer(vault_keys(bytes(32), VaultId(bytes(16)))),
        cast(Ledger, played),
        cast(Uploader, played),
        cast(MetadataReader, played),
    )


def born(to: EntryWriter) -> None:
    class Folder:
        path_id, parent_id, type, name, target, link_group = PathId(random_id()), ROOT, FileType.FOLDER, b"n", b"", b""
        mode = mtime_ns = ctime_ns = uid = gid = ino = size = 0

    to.add(b"/n", cast(Found, Folder()), NO_VERSION, b"", 0, known=None, signed=False, settled=True)


def test_many_deaths_travel_together() -> None:
    played = Played()
    entries = writer(played)
    for _ in range(5000):
        entries.death(known())
    entries.flush()
    assert [len(paths) for paths in played.sent] == [4096, 904]
    assert played.staged == ["4096 dead", "904 dead"]


def test_deaths_and_entries_keep_their_order() -> None:
    played = Played()
    entries = writer(played)
    for _ in range(2):
        entries.death(known())
        entries.death(known())
        born(entries)
        born(entries)
    entries.flush()
    assert played.staged == ["2 dead", "2 born", "2 dead", "2 born"]
    added = AddedDigest()
    for item in played.sent:
        if isinstance(item, EntryBatch):
            for record in item.entries:
                added.entry(record.token())
        else:
            for path in item:
                added.death(path)
    assert entries.take_added() == added.digest()
