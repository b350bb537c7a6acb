"""Bringing a copy level: what the ledger's tree has and the copy's newest snapshot lacks.

Entries come out of the store of sealed entries, contents from the disk, read once more and taken only where their MAC
is the one of the version that is lacking. A file that changed meanwhile, or is gone, keeps in the copy what the copy
had; the snapshot is then partial, and the next run finds it behind and goes on. Runs on the copy's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent import reading
from agent.ledger import Ledger
from agent.onsite.sealed import SealedEntries
from agent.onsite.writing import CopyWriter
from agent.overlay import tree_after
from agent.packing import Outgoing, Packer, SealedSegment
from agent.reading import SourceFile
from agent.staging import Known, Staging
from appliance.store.source import RepositorySource
from transport import messages as m
from transport.commits import CommitRecord
from transport.errors import PilulierError
from transport.names import Digest, PathId, SegmentId, VersionId
from transport.sealing import Sealer
from transport.tree import AddedDigest, EntryKind, EntryRecord

_PORTION: Final = 1000
_ENTRIES: Final = 1000

Fetch = Callable[[Sequence[Digest]], None]
"""Puts entries with these tokens into the store, as far as they can be had."""


class StillBehind(PilulierError):
    """Something that the copy lacks cannot be had now; what was written stays, and the next run goes on from there."""

    code = "onsite-behind"


class Leveller:
    """Brings copies level with one ledger."""

    def __init__(self, ledger: Ledger, sealed: SealedEntries, sealer: Sealer, fetch: Fetch, scratch: Path) -> None:
        self._ledger = ledger
        self._sealed = sealed
        self._sealer = sealer
        self._fetch = fetch
        self._scratch = scratch
        self.files_read = 0

    def level(self, copy: CopyWriter, record: CommitRecord) -> None:
        """Make the copy's tree the ledger's, and a snapshot of it. StillBehind."""
        copy.flush()
        copy.begin_anew()
        there = _present(copy)
        lacking: list[Known] = []
        were_folders: set[PathId] = set()
        for known in self._ledger.everything():
            token, kind = there.pop(known.path_id, (b"", EntryKind.OTHER))
            if token != known.token:
                lacking.append(known)
                if kind == EntryKind.FOLDER != known.kind:
                    were_folders.add(known.path_id)
            copy.moves()
        unread = self._contents(copy, {k.version_id for k in lacking if k.kind == EntryKind.FILE})
        kept = [k for k in lacking if k.version_id in unread and k.kind == EntryKind.FILE]
        taken = [k for k in lacking if k.version_id not in unread or k.kind != EntryKind.FILE]
        gone = sorted([*map(PathId, there), *(k.path_id for k in kept if k.path_id in were_folders)])
        added = AddedDigest()
        self._entries(copy, taken, added)
        for at in range(0, len(gone), m.IDS_PER_MESSAGE):
            part = gone[at : at + m.IDS_PER_MESSAGE]
            copy.take_entries(part)
            for path in part:
                added.death(path)
        copy.flush()
        record = msgspec.structs.replace(record, added=added.digest())
        if kept:
            record = self._without(copy, record, kept, were_folders)
            names = f"{len(kept)} files" if len(kept) > 1 else "1 file"
            copy.exact = False
            copy.remark(f"{names} changed since the backup read them, and will follow with the next one")
        copy.make_snapshot(record)
        copy.level = True

    def _contents(self, copy: CopyWriter, versions: set[VersionId]) -> frozenset[VersionId]:
        """Put the contents that the copy lacks; those of which none could be had."""
        unread: set[VersionId] = set()
        wanted = sorted(versions)
        for at in range(0, len(wanted), _PORTION):
            part = wanted[at : at + _PORTION]
            absent = set(part) - set(copy.repository.has_versions(part))
            unread |= absent
            packer = Packer(self._sealer, lambda item: _hand_on(copy, item), lambda digest, length: None)
            for known, paths in self._ledger.places_of(sorted(absent)):
                if any(self._content(copy, packer, known, path) for path in paths):
                    unread.discard(known.version_id)
            packer.flush()
        return frozenset(unread)

    def _content(self, copy: CopyWriter, packer: Packer, known: Known, path: bytes) -> bool:
        """Whether the file there is what that version holds."""
        key = self._sealer.keys.content
        with contextlib.suppress(OSError), SourceFile(path) as file:
            if file.size != known.size:
                return False
            self.files_read += 1
            content = reading.send_whole(
                file, known.version_id, packer, key, with_signature=False, progress=copy.moves
            )
            if content.mac == known.mac and content.draft is not None:
                packer.finish(content.draft)
                return True
        return False

    def _entries(self, copy: CopyWriter, taken: list[Known], added: AddedDigest) -> None:
        tokens = [known.token for known in taken]
        if missing := self._sealed.lacking(tokens):
            self._fetch(missing)
            if still := self._sealed.lacking(missing):
                raise StillBehind(
                    f"{len(still)} entries that were backed up while it was away are only on the appliance, which "
                    "could not be asked: it is brought level by the next backup"
                )
        for at in range(0, len(tokens), _ENTRIES):
            for batch in self._sealed.batches(tokens[at : at + _ENTRIES]):
                copy.take_entries(batch)
                for entry in batch.entries:
                    added.entry(entry.token())

    def _without(
        self, copy: CopyWriter, record: CommitRecord, kept: list[Known], never: set[PathId]
    ) -> CommitRecord:
        """What is signed where some files stay as the copy had them, or stay out."""
        asked = {known.path_id for known in kept} - never
        had = {path: entry for path, entry in _entries_of(copy) if path in asked}
        place = self._scratch.with_name("onsite-staging.db")
        staging = Staging.open(place)
        try:
            staging.clear()
            staging.add(_as_had(known, had[known.path_id]) for known in kept if known.path_id in had)
            staging.add_deaths(known for known in kept if known.path_id not in had)
            after = tree_after(staging, self._ledger.tree(), self._ledger.parent_of, self._ledger.live_children)
        finally:
            staging.close()
            place.unlink(missing_ok=True)
        return msgspec.structs.replace(
            record, root=after.root, entry_count=after.entry_count, bytes_source=after.bytes_source, complete=False
        )


def _hand_on(copy: CopyWriter, item: Outgoing) -> None:
    copy.moves()
    if isinstance(item, SealedSegment):
        copy.stage(m.PutSegment(0, SegmentId(item.segment_id)), item.sealed)
    else:
        copy.take_versions(item.records)


def _entries_of(copy: CopyWriter) -> Iterator[tuple[PathId, EntryRecord]]:
    repository = copy.repository
    if repository.head_number:
        for page in RepositorySource(repository).tree(repository.head_number):
            copy.moves()
            for listed in page.entries:
                yield listed.record.path_id, listed.record


def _present(copy: CopyWriter) -> dict[bytes, tuple[bytes, int]]:
    """Path id → (token, kind) of the copy's newest snapshot."""
    return {path: (record.token(), record.kind) for path, record in _entries_of(copy)}


def _as_had(known: Known, record: EntryRecord) -> Known:
    return msgspec.structs.replace(
        known, token=record.token(), kind=record.kind, size=record.size, version_id=record.version_id
    )
