"""Entries on their way: sealed in batches for the appliance, staged in the ledger, counted in the digest of additions.

Owns that the three agree in content and order, and that an entry which would say what the last one said is not sent
again. One thread.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.ledger import Ledger
from agent.metadata import MetadataReader, digest_of_encoded
from agent.scanner import Found
from agent.staging import Known
from agent.uploader import Uploader
from transport import messages as m
from transport.names import Digest, VersionId
from transport.sealing import Sealer
from transport.tree import AddedDigest, EntryBatch, EntryKind, EntryRecord, FileType, encode_metadata

BATCH_ENTRIES: Final = 1000
BATCH_BYTES: Final = 300_000
_KINDS: Final = {
    FileType.FILE: int(EntryKind.FILE),
    FileType.FOLDER: int(EntryKind.FOLDER),
    FileType.SYMLINK: int(EntryKind.OTHER),
}


class EntryWriter:
    """Collects entries and deaths; `flush` before a commit."""

    def __init__(self, sealer: Sealer, ledger: Ledger, uploader: Uploader, metadata: MetadataReader) -> None:
        self._sealer = sealer
        self._ledger = ledger
        self._uploader = uploader
        self._metadata = metadata
        self._batch = sealer.seal_entries()
        self._records: list[EntryRecord] = []
        self._records_bytes = 0
        self._staged: list[Known] = []
        self._deaths: list[Known] = []
        self._refreshed: list[Known] = []
        self._added = AddedDigest()

    def add(
        self,
        path: bytes,
        found: Found,
        version: VersionId,
        mac: bytes,
        size: int,
        *,
        known: Known | None,
        signed: bool,
        settled: bool,
    ) -> None:
        """A path as it is now; `known` as it was, if it was there."""
        plain = encode_metadata(self._metadata.read(path, found, mac))
        digest = digest_of_encoded(plain)
        settled = settled and size == (found.size if found.type is FileType.FILE else 0)
        if known is not None and (known.metadata_digest, known.version_id, known.size) == (digest, version, size):
            self.refresh(found, known, settled=settled, signed=signed)
            return
        kind = _KINDS[found.type]
        record = self._batch.seal(
            EntryRecord(found.path_id, found.parent_id, kind, size, version, 0, b""), plain
        )
        token = record.token()
        self._added.entry(token)
        self._records.append(record)
        self._records_bytes += len(record.sealed) + 80
        self._staged.append(
            Known(
                found.path_id, found.parent_id, found.name, kind, int(found.type), size, found.mode, found.mtime_ns,
                found.ctime_ns, found.uid, found.gid, found.ino, found.target, found.link_group, version, mac, token,
                digest, signed, settled,
            )
        )  # fmt: skip
        if len(self._records) >= BATCH_ENTRIES or self._records_bytes >= BATCH_BYTES:
            self._send_records()

    def death(self, known: Known) -> None:
        """An entry that is gone; those below it are the caller's to name as well."""
        if self._records:  # deaths and entries count in the order in which they are sent
            self._send_records()
        self._deaths.append(known)
        self._added.death(known.path_id)
        if len(self._deaths) >= m.IDS_PER_MESSAGE:
            self._send_deaths()

    def refresh(self, found: Found, known: Known, *, settled: bool = True, signed: bool | None = None) -> None:
        """Correct what only the ledger knows of an entry; nothing is sent."""
        self._refreshed.append(
            msgspec.structs.replace(
                known,
                ctime_ns=found.ctime_ns,
                ino=found.ino,
                settled=settled,
                has_signature=known.has_signature if signed is None else signed,
            )
        )
        if len(self._refreshed) >= 10 * BATCH_ENTRIES:
            self._write_refreshed()

    def flush(self) -> None:
        """Hand everything on."""
        self._send_deaths()
        self._send_records()
        self._write_refreshed()

    def take_added(self) -> Digest:
        """The digest over what was added since it was last taken."""
        digest = self._added.digest()
        self._added = AddedDigest()
        return digest

    def _send_records(self) -> None:
        self._send_deaths()
        if not self._records:
            return
        self._ledger.stage(self._staged)
        self._uploader.put(EntryBatch(self._batch.header, self._records))
        self._records, self._records_bytes, self._staged = [], 0, []
        self._batch = self._sealer.seal_entries()

    def _send_deaths(self) -> None:
        if not self._deaths:
            return
        self._ledger.stage_deaths(self._deaths)
        self._uploader.put([known.path_id for known in self._deaths])
        self._deaths = []

    def _write_refreshed(self) -> None:
        if self._refreshed:
            self._ledger.refresh(self._refreshed)
            self._refreshed = []
