"""A backup run: scan, plan, read, pack, upload, agree on the root, commit.

Owns the order of things and the figures. The calling thread scans, plans, reads small files and keeps the ledger; two
threads read large files (delta or signature beside the MAC); two seal; one sends. Nothing is decided here about a single
entry: that is the planner's. Rules: a version is staged after its segments, an entry any time before its commit; the
ledger's next state is durable before a commit is sent (prepare) and becomes the present when the appliance has
confirmed it (apply); gone means absent from a folder that was listed without error.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent import __version__, reading
from agent.enrolling import Enrolled, check_welcome
from agent.errors import EmptySourceError
from agent.ledger import Known, Ledger, Staged
from agent.metadata import MetadataReader
from agent.packing import Outgoing, Packer, VersionDraft
from agent.pending import PendingSegments
from agent.planner import Gone, Kept, MetadataOnly, Read, Unchanged, plan_folder
from agent.reading import Content, SourceFile
from agent.resync import open_ledger
from agent.scanner import Found, Listing, RootState, Scanner
from agent.state import LastRun, write_state
from agent.uploader import Uploader
from transport import delta as deltas
from transport import messages as m
from transport.commits import COMMIT_FORMAT, COMMIT_LABEL, FIRST_PREVIOUS, CommitRecord
from transport.contents import CHUNK_BYTES, chunk_digest, file_mac
from transport.errors import DeltaBudgetError, LibrsyncError, RefusedError
from transport.names import NO_VERSION, PathId, SessionId, VersionId, random_id
from transport.tree import AddedDigest, EntryBatch, EntryKind, EntryRecord, FileType, encode_metadata

LARGE_READERS: Final = 2
LARGE_AHEAD: Final = 64
"""Large files handed to the readers and not yet settled."""
BATCH_ENTRIES: Final = 1000
BATCH_BYTES: Final = 300_000
CHECKPOINT_S: Final = 600.0
"""A run that takes longer commits what it has every ten minutes, so that days of first upload are never at stake."""
CHECKPOINT_BYTES: Final = 16 << 30


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that was not backed up as it should be."""

    path: bytes
    reason: str


@dataclass(slots=True)
class BackupReport:
    """What a backup did."""

    snapshot: int = 0
    state: str = "complete"
    files_total: int = 0
    files_full: int = 0
    files_delta: int = 0
    files_unchanged: int = 0
    files_moved: int = 0
    files_deleted: int = 0
    bytes_source: int = 0
    bytes_read: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: float = 0.0
    over_quota: bool = False
    reconnections: int = 0
    warnings: list[Warned] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """Where a backup stands; totals are zero while unknown."""

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


@dataclass(slots=True)
class _Settled:
    """A large file that a reader is done with."""

    path: bytes
    found: Found
    known: Known | None
    content: Content | None
    same_as: VersionId | None
    as_delta: bool
    bytes_read: int
    error: BaseException | None


def run_backup(
    machine: Enrolled,
    *,
    allow_empty: bool = False,
    progress: Callable[[BackupProgress], None] | None = None,
) -> BackupReport:
    """Make a snapshot of the selection; raises PilulierError with a sentence where that is not possible."""
    if not machine.settings.selection.include:
        raise EmptySourceError("nothing is selected: run pilulier-agent select include PATH first")
    client = machine.client()
    try:
        welcome = client.connect()
        check_welcome(machine, welcome)
        if welcome.paused:
            raise RefusedError(
                f"contract {welcome.contract} is paused, so no backup is accepted; restores go on. "
                "Ask whoever manages the contract to resume it"
            )
        ledger = open_ledger(machine, client, welcome)
        try:
            run = _Run(machine, ledger, client, welcome, allow_empty, progress)
            return run.run()
        finally:
            ledger.close()
    finally:
        client.close()


class _Run:
    def __init__(
        self,
        machine: Enrolled,
        ledger: Ledger,
        client: "object",
        welcome: m.Welcome,
        allow_empty: bool,
        progress: Callable[[BackupProgress], None] | None,
    ) -> None:
        from agent.client import Client

        assert isinstance(client, Client)
        self.machine = machine
        self.ledger = ledger
        self.client = client
        self.welcome = welcome
        self.allow_empty = allow_empty
        self.tell = progress
        self.report = BackupReport(over_quota=welcome.over_quota)
        self.began = time.monotonic()
        self.began_ms = int(time.time() * 1000)
        self.sealer = machine.sealer()
        self.keys = self.sealer.keys
        self.scanner = Scanner(
            machine.settings.selection, self.keys, home=os.fsencode(machine.home.path), allow_missing=allow_empty
        )
        self.metadata = MetadataReader(self.keys)
        self.pending = PendingSegments(machine.home.pending)
        self.uploader = Uploader(client, SessionId(random_id()), self.pending)
        self.sealing = ThreadPoolExecutor(2, thread_name_prefix="sealing")
        self.readers = ThreadPoolExecutor(LARGE_READERS, thread_name_prefix="reading")
        self.packer = Packer(self.sealer, self.sealing, self._emit, self._find_sent)
        self.settled: queue.SimpleQueue[_Settled] = queue.SimpleQueue()
        self.outstanding = 0
        self.batch = self.sealer.seal_entries()
        self.entries: list[EntryRecord] = []
        self.entries_bytes = 0
        self.staged: list[Staged] = []
        self.deaths: list[PathId] = []
        self.added = AddedDigest()
        self.fresh: dict[bytes, tuple[VersionId, bool]] = {}
        self.links: dict[bytes, tuple[bytes, VersionId, int, bool]] = {}
        self.sent_since_checkpoint = 0
        self.checkpoint_at = time.monotonic() + CHECKPOINT_S
        self.progress_lock = threading.Lock()
        self.bytes_done = 0
        self.files_done = 0
        self.totals = (ledger.file_count, ledger.bytes_source)
        self.told = 0.0
        self.had_files = ledger.file_count > 0

    # the whole

    def run(self) -> BackupReport:
        self._check_roots()
        head = self.ledger.head
        self.uploader.begin_with(head.hash() if head else FIRST_PREVIOUS, self.pending)
        self.uploader.start()
        try:
            self._say_totals()
            for listing in self.scanner.scan():
                self._folder(listing)
                self._drain(block=False)
                self._maybe_checkpoint()
            while self.outstanding:
                self._drain(block=True)
                self._maybe_checkpoint()
            number = self._commit(complete=True)
            self.uploader.close()
        except BaseException as error:
            self._abandon(error)
            raise
        finally:
            self.readers.shutdown(wait=True, cancel_futures=True)
            self.sealing.shutdown(wait=True, cancel_futures=True)
            self.pending.close()
        self.report.snapshot = number
        self._figures()
        self.ledger.sweep_signatures()
        self._leave_state()
        return self.report

    def _abandon(self, error: BaseException) -> None:
        self.uploader.abort()

    def _leave_state(self) -> None:
        write_state(
            self.machine.home,
            LastRun(self.report.snapshot, int(time.time() * 1000), self.report.state, len(self.report.warnings)),
        )

    def _check_roots(self) -> None:
        """Refuse a source that looks like an unmounted disk."""
        if self.allow_empty or not self.had_files:
            return
        for root in self.scanner.included_roots():
            if root.state in (RootState.MISSING, RootState.EMPTY) and self.ledger.has_files_below(root.path_id):
                raise EmptySourceError(
                    f"{os.fsdecode(root.path)} {root.reason} but held files at the last snapshot: check that its disk "
                    "is mounted, or use --allow-empty if the files were really deleted"
                )

    def _figures(self) -> m.BackupFigures:
        report = self.report
        report.seconds = time.monotonic() - self.began
        report.bytes_sent = self.client.channel.bytes_sent
        report.bytes_received = self.client.channel.bytes_received
        report.reconnections = self.uploader.reconnections
        return m.BackupFigures(
            files_total=report.files_total,
            files_full=report.files_full,
            files_delta=report.files_delta,
            files_unchanged=report.files_unchanged,
            files_moved=report.files_moved,
            files_deleted=report.files_deleted,
            bytes_source=report.bytes_source,
            bytes_read=report.bytes_read,
            bytes_sent=report.bytes_sent,
            bytes_received=report.bytes_received,
            seconds=report.seconds,
            transfer_seconds=self.uploader.transfer_s,
            warnings=len(report.warnings),
        )

    # what goes out

    def _emit(self, item: Outgoing) -> None:
        self.uploader.put(item)

    def _find_sent(self, digest: bytes, length: int) -> "object":
        return self.pending.find(digest, length)

    def _warn(self, path: bytes, reason: str) -> None:
        self.report.warnings.append(Warned(path, reason))

    # folders

    def _folder(self, listing: Listing) -> None:
        for warning in listing.warnings:
            self._warn(warning.path, warning.reason)
        if listing.error is not None:
            self._warn(listing.path, listing.error)
        known = self.ledger.children(listing.path_id)
        for decision in plan_folder(listing, known):
            if isinstance(decision, Unchanged):
                if decision.found.type == FileType.FILE:
                    self._count_file(decision.found.size)
                    self.report.files_unchanged += 1
            elif isinstance(decision, MetadataOnly):
                self._metadata_only(listing, decision.found, decision.known)
            elif isinstance(decision, Read):
                self._read(listing, decision)
            elif isinstance(decision, Gone):
                self._gone(decision.known)
            elif isinstance(decision, Kept):
                self._kept(listing, decision)

    def _path(self, listing: Listing, found: Found) -> bytes:
        return found.name if listing.path == b"/" and os.name == "nt" else os.path.join(listing.path, found.name)

    def _count_file(self, size: int) -> None:
        self.report.files_total += 1
        self.report.bytes_source += size
        self.files_done += 1
        self._advance(size)

    def _advance(self, count: int) -> None:
        with self.progress_lock:
            self.bytes_done += count
        now = time.monotonic()
        if now - self.told < 1.0:
            return
        self.told = now
        self._say_totals()

    def _say_totals(self) -> None:
        files, size = self.totals
        where = BackupProgress(
            "sending", self.files_done, max(files, self.files_done), self.bytes_done, max(size, self.bytes_done)
        )
        if self.tell is not None:
            self.tell(where)
        self.uploader.hint(
            m.Progress(where.phase, where.files_done, where.files_total, where.bytes_done, where.bytes_total)
        )

    def _gone(self, known: Known) -> None:
        for gone in (known, *self.ledger.descendants(known.path_id)) if known.type == FileType.FOLDER else (known,):
            if gone.type == FileType.FILE:
                self.report.files_deleted += 1
            self.deaths.append(gone.path_id)
        if len(self.deaths) >= m.IDS_PER_MESSAGE:
            self._flush_deaths()

    def _kept(self, listing: Listing, decision: Kept) -> None:
        """What could not be looked at keeps its previous version, descendants included."""
        for kept in (decision.known, *self.ledger.descendants(decision.known.path_id)):
            if kept.type == FileType.FILE:
                self._count_file(kept.size)
                self.report.files_unchanged += 1

    # entries

    def _metadata_only(self, listing: Listing, found: Found, known: Known | None) -> None:
        same_content = known is not None and known.type == found.type == FileType.FILE
        version = known.version_id if known is not None and same_content else NO_VERSION
        mac = known.mac if known is not None and same_content else b""
        signed = known.has_signature if known is not None and same_content else False
        self._entry(self._path(listing, found), found, version, mac, signed, settled=True, known=known)
        if found.type == FileType.FILE:
            self._count_file(found.size)
            self.report.files_unchanged += 1

    def _entry(
        self,
        path: bytes,
        found: Found,
        version: VersionId,
        mac: bytes,
        signed: bool,
        *,
        settled: bool,
        known: Known | None,
        size: int | None = None,
    ) -> None:
        """Stage an entry, or only its local side where what would be sealed is what was sealed before."""
        size = (found.size if size is None else size) if found.type == FileType.FILE else 0
        metadata, warnings = self.metadata.build(path, found, mac)
        for reason in warnings:
            self._warn(path, reason)
        plain = encode_metadata(metadata)
        kind = {FileType.FILE: EntryKind.FILE, FileType.FOLDER: EntryKind.FOLDER}.get(found.type, EntryKind.OTHER)
        clear = EntryRecord(found.path_id, found.parent_id, int(kind), size, version, 0, b"")
        told = chunk_digest(clear.aad() + plain)[:16]
        if known is not None and known.told == told:
            self.staged.append(Staged.of(found, size, kind, version, mac, known.token, told, signed, settled))
        else:
            record = self.batch.seal(clear, plain)
            token = record.token()
            self.entries.append(record)
            self.entries_bytes += len(record.sealed) + 80
            self.staged.append(Staged.of(found, size, kind, version, mac, token, told, signed, settled))
            if len(self.entries) >= BATCH_ENTRIES or self.entries_bytes >= BATCH_BYTES:
                self._flush_entries()
        if len(self.staged) >= BATCH_ENTRIES:
            self._flush_staged()

    def _flush_staged(self) -> None:
        if self.staged:
            self.ledger.stage(self.staged)
            self.staged = []

    def _flush_entries(self) -> None:
        self._flush_staged()
        if not self.entries:
            return
        for record in self.entries:
            self.added.entry(record.token())
        self.uploader.put(EntryBatch(self.batch.header, self.entries))
        self.entries, self.entries_bytes = [], 0
        self.batch = self.sealer.seal_entries()

    def _flush_deaths(self) -> None:
        if not self.deaths:
            return
        self._flush_entries()
        for path_id in self.deaths:
            self.added.death(path_id)
        self.ledger.stage_deaths(self.deaths)
        self.uploader.put(self.deaths)
        self.deaths = []

    # contents

    def _read(self, listing: Listing, decision: Read) -> None:
        found, known = decision.found, decision.known
        path = self._path(listing, found)
        if found.link_group and (linked := self.links.get(found.link_group)) is not None:
            mac, version, size, signed = linked
            self._file_entry(path, found, known, version, mac, size, signed, settled=True)
            self.report.files_moved += 1
            return
        if found.size <= CHUNK_BYTES:
            self._read_small(path, found, known)
            return
        while self.outstanding >= LARGE_AHEAD:
            self._drain(block=True)
        self.outstanding += 1
        self.readers.submit(self._large, path, found, known, decision.probably_same, decision.reason)

    def _read_small(self, path: bytes, found: Found, known: Known | None) -> None:
        """A file of at most one chunk, read here: two threads would only wait for each other's turn."""
        try:
            with SourceFile(path) as file:
                settled_before = time.time_ns() - reading.SETTLED_NS
                chunk = file.chunk(0)
                changed = file.changed() if len(chunk) == file.size else True
                settled = not changed and file.status.st_ctime_ns < settled_before
                size = len(chunk)
        except OSError as error:
            self._unreadable(path, found, known, error)
            return
        if size > CHUNK_BYTES or file.size > CHUNK_BYTES:
            self.outstanding += 1  # it grew past a chunk since it was listed
            self.readers.submit(self._large, path, found, known, False, "grew")
            return
        self.report.bytes_read += size
        digest = chunk_digest(chunk)
        mac = file_mac(self.keys.content, size, [digest] if size else [])
        if changed:
            self._warn(path, "changed while it was read; it will be read again at the next backup")
        known_file = known if known is not None and known.type == FileType.FILE else None
        if known_file is not None and known_file.mac == mac and known_file.size == size:
            self._file_entry(path, found, known, known_file.version_id, mac, size, known_file.has_signature, settled)
            self.report.files_unchanged += 1
            return
        twin = self.fresh.get(mac) or (self.ledger.find_content(mac, size) if self.had_files else None)
        if twin is not None:
            self._file_entry(path, found, known, twin[0], mac, size, twin[1], settled)
            self.report.files_moved += 1
            return
        version = VersionId(random_id())
        if known_file is not None and known_file.has_signature and size >= deltas.MIN_DELTA_BYTES:
            self.outstanding += 1
            self.readers.submit(self._large, path, found, known, False, "changed")
            return
        signature: bytes | None = None
        if size >= deltas.MIN_DELTA_BYTES and not reading.looks_incompressible(chunk):
            signature = reading.sign_chunk(chunk)
            self.ledger.write_signature(version, signature)
        operations = [] if not size else [reading.Zero(size)] if reading.is_zero(chunk) else [
            self.packer.add(chunk, digest)
        ]
        self.packer.finish(VersionDraft(version, size, list(operations)))
        self.sent_since_checkpoint += size
        self.fresh[mac] = (version, signature is not None)
        self._file_entry(path, found, known, version, mac, size, signature is not None, settled)
        self.report.files_full += 1

    def _file_entry(
        self,
        path: bytes,
        found: Found,
        known: Known | None,
        version: VersionId,
        mac: bytes,
        size: int,
        signed: bool,
        settled: bool,
    ) -> None:
        self._entry(path, found, version, mac, signed, settled=settled, known=known, size=size)
        if found.link_group:
            self.links[found.link_group] = (mac, version, size, signed)
        self._count_file(size)

    def _unreadable(self, path: bytes, found: Found, known: Known | None, error: OSError) -> None:
        """Keep the previous version where there is one, and say so."""
        vanished = isinstance(error, FileNotFoundError)
        reason = "vanished before it could be read" if vanished else f"cannot be read: {error.strerror}"
        if known is not None and known.type == FileType.FILE:
            reason += "; the previous version is kept"
            self._count_file(known.size)
            self.report.files_unchanged += 1
        elif known is not None:
            self._gone(known)
        self._warn(path, reason)

    # large files, on the readers

    def _large(self, path: bytes, found: Found, known: Known | None, probably_same: bool, reason: str) -> None:
        settled = _Settled(path, found, known, None, None, False, 0, None)
        try:
            with SourceFile(path) as file:
                try:
                    self._read_large(file, settled, probably_same)
                finally:
                    settled.bytes_read = file.bytes_read
        except BaseException as error:  # the edge of a thread: the main thread decides
            settled.error = error
        self.settled.put(settled)

    def _read_large(self, file: SourceFile, settled: _Settled, probably_same: bool) -> None:
        known = settled.known if settled.known is not None and settled.known.type == FileType.FILE else None
        key = self.keys.content
        if known is None or probably_same:
            twin = known if known is not None else self.ledger.find_moved(settled.found)
            if twin is not None and twin.size == file.size:
                content = reading.hash_file(file, key)
                if content.mac == twin.mac:
                    settled.content, settled.same_as = content, twin.version_id
                    if not twin.has_signature and file.size >= deltas.MIN_DELTA_BYTES:
                        content.signature = reading.sign_file(file)
                    return
        version = VersionId(random_id())
        if known is not None and known.has_signature and file.size >= deltas.MIN_DELTA_BYTES:
            base = self.ledger.read_signature(known.version_id)
            if base is not None and self.uploader.held_versions([known.version_id]):
                try:
                    settled.content = reading.send_delta(
                        file,
                        version,
                        known.version_id,
                        known.size,
                        base,
                        self.packer,
                        key,
                        self.budget(),
                        self._advance,
                    )
                    settled.as_delta = settled.content.copied_bytes > 0
                    return
                except (DeltaBudgetError, LibrsyncError):
                    pass  # the file goes whole
        settled.content = reading.send_whole(
            file, version, self.packer, key, with_signature=True, progress=self._advance
        )

    def budget(self) -> deltas.Budget:
        """What a delta may cost on this machine."""
        chosen = self.machine.settings.delta
        return deltas.Budget(seconds_per_gib=chosen.seconds_per_gib, literal_share=chosen.literal_share)

    def _drain(self, *, block: bool) -> None:
        while self.outstanding:
            try:
                settled = self.settled.get(timeout=0.5) if block else self.settled.get_nowait()
            except queue.Empty:
                if block:
                    self.uploader.check()
                return
            block = False
            self.outstanding -= 1
            self._settle(settled)

    def _settle(self, settled: _Settled) -> None:
        path, found, known, content = settled.path, settled.found, settled.known, settled.content
        self.report.bytes_read += settled.bytes_read
        if settled.error is not None:
            if isinstance(settled.error, OSError):
                self._unreadable(path, found, known, settled.error)
                return
            raise settled.error
        assert content is not None
        if content.changed:
            self._warn(path, "changed while it was read; it will be read again at the next backup")
        version = settled.same_as
        if version is not None:
            if known is not None:
                self.report.files_unchanged += 1
            else:
                self.report.files_moved += 1
        else:
            assert content.draft is not None
            version = content.draft.version_id
            self.packer.finish(content.draft)
            self.sent_since_checkpoint += content.literal_bytes
            if settled.as_delta:
                self.report.files_delta += 1
            else:
                self.report.files_full += 1
        signed = content.signature is not None
        if content.signature is not None:
            self.ledger.write_signature(version, content.signature)
        elif settled.same_as is not None:
            signed = self.ledger.signature_path(version).exists()
        fresh = found.ctime_ns < self.began_ms * 1_000_000 - reading.SETTLED_NS
        self._entry(
            path,
            found,
            version,
            content.mac,
            signed,
            settled=fresh and not content.changed and content.size == found.size,
            known=known,
            size=content.size,
        )
        if found.link_group:
            self.links[found.link_group] = (content.mac, version, content.size, signed)
        self.report.files_total += 1
        self.report.bytes_source += content.size
        self.files_done += 1

    # commits

    def _maybe_checkpoint(self) -> None:
        due = time.monotonic() > self.checkpoint_at and self.sent_since_checkpoint
        if (due or self.sent_since_checkpoint > CHECKPOINT_BYTES) and not self.outstanding:
            self._commit(complete=False)
            self.checkpoint_at = time.monotonic() + CHECKPOINT_S
            self.sent_since_checkpoint = 0

    def _commit(self, *, complete: bool) -> int:
        self.packer.flush()
        self._flush_deaths()
        self._flush_entries()
        outcome = self.ledger.root_digest_after()
        head = self.ledger.head
        settings = self.machine.settings
        record = CommitRecord(
            label=COMMIT_LABEL,
            format=COMMIT_FORMAT,
            vault=settings.vault,
            repository=settings.machine,
            installation=settings.installation,
            epoch=self.keys.epoch,
            number=self.ledger.number + 1,
            previous=head.hash() if head else FIRST_PREVIOUS,
            root=outcome.root,
            entry_count=outcome.entry_count,
            bytes_source=outcome.bytes_source,
            started_ms=self.began_ms,
            ended_ms=int(time.time() * 1000),
            complete=complete,
            selection=settings.selection.digest(),
            retention_floor_days=self.welcome.retention_floor_days,
            agent_version=__version__,
            added=self.added.digest(),
        )
        signed = self.machine.keys.signing.sign_commit(record)
        self.ledger.prepare(signed)
        self.uploader.commit(signed, self._figures)
        self.ledger.apply()
        self.pending.clear()
        self.added = AddedDigest()
        return record.number


def to_json(report: BackupReport) -> bytes:
    """The report as JSON bytes."""
    return msgspec.json.encode(report)
