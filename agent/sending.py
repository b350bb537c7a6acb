"""Sending contents: which of a file's bytes must travel, and as what.

Owns the choice between nothing (same MAC, a twin elsewhere), a delta, and the whole file, once the planner has said
that the file must be read. Small files are read by the calling thread; large ones by readers beside it, whose
outcomes come back through a queue, since the ledger belongs to one thread. Nothing here knows folders, entries or
commits.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from agent import differing, reading
from agent.errors import DatabaseError
from agent.ledger import Known, Ledger
from agent.packing import Packer, Piece, VersionDraft
from agent.planner import is_settled
from agent.reading import Content, SourceFile
from agent.scanner import Found
from agent.signatures import Signatures
from agent.sources.streaming import StreamFile, send_stream_delta
from agent.uploader import Uploader
from transport import delta as deltas
from transport.contents import CHUNK_BYTES, chunk_digest, small_file_macs
from transport.errors import DeltaBudgetError, LibrsyncError, UsageError
from transport.extents import Operation, Zero
from transport.names import VersionId, random_id, random_ids
from transport.tree import FileType

if TYPE_CHECKING:
    from agent.sources.dumps import Dumper

LARGE_READERS: Final = 2
"""Beside each other and the caller, each sealing what it fills: a pool for sealing woke a thread twice for every
segment, and a first backup of 1.7 GB took 8.0 s instead of 7.4 (measured)."""
LARGE_AHEAD: Final = 64
"""Large files handed to the readers and not yet settled."""


class How(Enum):
    """What a file's content cost."""

    SAME = "same"
    MOVED = "moved"
    DELTA = "delta"
    FULL = "full"


class Wanted(msgspec.Struct, frozen=True):
    """A file to be read: where it is, what the scan saw, what the ledger knows at its path and elsewhere.

    A msgspec struct, as `Sent`, because there is one for every file: a frozen dataclass takes 15 times as long to make.
    """

    path: bytes
    found: Found
    known: Known | None
    twins: tuple[Known, ...] = ()
    """Files of the ledger with this inode, size and time: probably this one under its old name."""
    probably_same: bool = False


class Sent(msgspec.Struct, frozen=True):
    """The outcome for one file. `error` set: nothing was read, the previous version stays."""

    wanted: Wanted
    how: How
    version: VersionId
    mac: bytes
    size: int
    signed: bool
    settled: bool
    changed: bool
    bytes_read: int
    error: OSError | None = None
    remarks: tuple[str, ...] = ()
    """What should be told although the content is as it should be."""


class Sender:
    """Reads and sends contents for one backup. `send` and `next_outcome` belong to one thread."""

    def __init__(
        self,
        ledger: Ledger,
        signatures: Signatures,
        packer: Packer,
        uploader: Uploader,
        content_key: bytes,
        budget: deltas.Budget,
        advance: Callable[[int], None],
    ) -> None:
        self._ledger = ledger
        self._signatures = signatures
        self._packer = packer
        self._uploader = uploader
        self._key = content_key
        self._small_mac = small_file_macs(content_key)
        self._ids = random_ids()
        self._budget = budget
        self._count = advance
        self._any_known = not ledger.verify_empty()
        self._readers = ThreadPoolExecutor(LARGE_READERS, thread_name_prefix="reading")
        self._outcomes: queue.SimpleQueue[Sent | BaseException] = queue.SimpleQueue()
        self._fresh: dict[bytes, tuple[VersionId, bool]] = {}
        self._fresh_large: dict[int, dict[bytes, tuple[VersionId, bool]]] = {}
        """Large contents sent in this run, by size and MAC: a new file of such a size is hashed before it is sent."""
        self._lock = threading.Lock()
        self.unsound: frozenset[VersionId] = frozenset()
        """Versions that the appliance cannot read whole: neither bases nor what another file could be a copy of."""
        self.dumpers: Mapping[bytes, Dumper] = {}
        """Paths that stand on no disk: what is asked for their content."""
        self.outstanding = 0
        self.literal_bytes = 0
        """Bytes handed to the packer since the caller last set it to zero."""

    def close(self) -> None:
        """Drop what has not begun."""
        self._readers.shutdown(wait=True, cancel_futures=True)

    def send(self, wanted: Wanted) -> Sent | None:
        """The outcome where it is known at once, None where a reader will bring it."""
        dumper = self.dumpers.get(wanted.path)
        if dumper is not None:
            self.outstanding += 1
            self._readers.submit(self._dumped, wanted, dumper)
            return None
        if wanted.found.size <= CHUNK_BYTES:
            outcome = self._small(wanted)
            if outcome is not None:
                return outcome
        self.outstanding += 1
        self._readers.submit(self._large, wanted)
        return None

    def next_outcome(self, timeout_s: float) -> Sent | None:
        """An outcome of the readers, None after `timeout_s` without one; raises what ended a reader."""
        try:
            outcome = self._outcomes.get(timeout=timeout_s) if timeout_s else self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self.outstanding -= 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _advance(self, size: int) -> None:
        """Progress, and the place where a long read notices that the upload has ended."""
        self._uploader.check()
        self._count(size)

    def _check(self, _: int) -> None:
        self._uploader.check()

    def _small(self, wanted: Wanted) -> Sent | None:
        """At most one chunk, read by the caller (threads would wait for each other's turn). None: a reader's."""
        known = _file(wanted.known)
        try:
            began_ns = time.time_ns()
            read = reading.read_small(wanted.path)
        except OSError as error:
            return _failed(wanted, error, 0)
        if read is None:
            return None
        chunk, changed = read.content, read.changed
        settled = not changed and is_settled(read.ctime_ns, began_ns)
        size = len(chunk)
        digest = chunk_digest(chunk)
        mac = self._small_mac(size, digest if size else b"")
        if known is not None and known.mac == mac and known.size == size and known.version_id not in self.unsound:
            self._advance(size)
            return Sent(
                wanted, How.SAME, known.version_id, mac, size, known.has_signature, settled, changed, size
            )
        twin = self._fresh.get(mac)
        if twin is None and self._any_known:
            found = self._ledger.find_content(mac, size)
            if found is not None and found.version_id not in self.unsound:
                twin = (found.version_id, found.has_signature)
        if twin is not None:
            self._advance(size)
            return Sent(wanted, How.MOVED, twin[0], mac, size, twin[1], settled, changed, size)
        if known is not None and known.has_signature and size >= deltas.MIN_DELTA_BYTES:
            return None
        self._advance(size)
        version = VersionId(next(self._ids))
        signed = False
        if size >= deltas.MIN_DELTA_BYTES:
            self._signatures.write(version, reading.sums_of(chunk, signed=reading.worth_signing(wanted.path)))
            signed = True
        operations: list[Operation | Piece] = []
        if size:
            operations.append(Zero(size) if reading.is_zero(chunk) else self._packer.add(chunk, digest))
        self._packer.finish(VersionDraft(version, size, operations))
        self.literal_bytes += size
        self._fresh[mac] = (version, signed)
        return Sent(wanted, How.FULL, version, mac, size, signed, settled, changed, size)

    # on the readers

    def _large(self, wanted: Wanted) -> None:
        try:
            with SourceFile(wanted.path) as file:
                settled = is_settled(file.status.st_ctime_ns, time.time_ns())
                outcome: Sent | BaseException = self._read(file, wanted, settled)
        except OSError as error:
            outcome = _failed(wanted, error, 0)
        except BaseException as error:  # the edge of a thread: the caller gets it
            outcome = error
        self._outcomes.put(outcome)

    def _dumped(self, wanted: Wanted, dumper: Dumper) -> None:
        """A dump's content. One that fails is a file that cannot be read: its last good version stays."""
        outcome: Sent | BaseException
        try:
            made: Sent | None
            with dumper.open(self._uploader.check) as dump:
                if isinstance(dump, SourceFile):
                    made = self._read(dump, msgspec.structs.replace(wanted, probably_same=True), False)
                else:
                    made = self._streamed(dump, wanted)
            if made is None:
                with dumper.open(self._uploader.check) as dump:
                    assert isinstance(dump, StreamFile)
                    made = self._whole(dump, wanted)
            outcome = msgspec.structs.replace(made, remarks=tuple(dumper.remarks))
        except (OSError, DatabaseError, UsageError) as error:
            outcome = _failed(wanted, error if isinstance(error, OSError) else OSError(errno.EIO, str(error)), 0)
        except BaseException as error:  # the edge of a thread: the caller gets it
            outcome = error
        self._outcomes.put(outcome)

    def _streamed(self, dump: StreamFile, wanted: Wanted) -> Sent | None:
        """A delta where there is a base, else the whole; None where it must be dumped anew: a stream is read once."""
        known = _file(wanted.known)
        if known is not None and known.has_signature:
            with self._signatures.mapped(known.version_id) as base:
                if base is not None and base.signature and base.size == known.size and self._held(known):
                    version = VersionId(random_id())
                    try:
                        content = send_stream_delta(
                            *(dump, version, known.version_id, base, self._packer, self._key, self._budget),
                            self._advance,
                        )
                    except (DeltaBudgetError, LibrsyncError):
                        return None
                    return self._stored(wanted, version, content, dump.bytes_read)
        return self._whole(dump, wanted)

    def _whole(self, dump: StreamFile, wanted: Wanted) -> Sent:
        version = VersionId(random_id())
        content = reading.send_whole(
            dump, version, self._packer, self._key, with_signature=True, progress=self._advance
        )
        return self._stored(wanted, version, content, dump.bytes_read)

    def _stored(self, wanted: Wanted, version: VersionId, content: Content, bytes_read: int) -> Sent:
        known, signed = _file(wanted.known), content.sums is not None
        same = known is not None and content.mac == known.mac and known.version_id not in self.unsound
        if same and not content.literal_bytes:
            assert known is not None
            how, version, signed = How.SAME, known.version_id, known.has_signature
        else:
            how = How.DELTA if content.copied_bytes else How.FULL
            assert content.draft is not None
            self._packer.finish(content.draft)
            with self._lock:
                self.literal_bytes += content.literal_bytes
            if content.sums is not None:
                self._signatures.write(version, content.sums)
        return Sent(wanted, how, version, content.mac, content.size, signed, False, False, bytes_read)

    def _read(self, file: SourceFile, wanted: Wanted, settled: bool) -> Sent:
        known = _file(wanted.known)
        candidates = wanted.twins
        if known is not None and wanted.probably_same and not known.has_signature:
            candidates = (known, *candidates)  # with its sums at hand, the delta finds out by itself
        candidates = tuple(c for c in candidates if c.size == file.size and c.version_id not in self.unsound)
        if candidates:
            unsigned = file.size >= deltas.MIN_DELTA_BYTES and not all(c.has_signature for c in candidates)
            if unsigned:
                content = reading.sign_file(
                    file, self._key, self._check, signed=reading.worth_signing(wanted.path)
                )
            else:
                content = reading.hash_file(file, self._key, self._check)
            for candidate in candidates:
                if candidate.mac == content.mac:
                    how = How.SAME if candidate is known else How.MOVED
                    if content.sums is not None:  # a rebuilt ledger: the next change is a delta again
                        self._signatures.write(candidate.version_id, content.sums)
                    signed = candidate.has_signature or content.sums is not None
                    self._advance(content.size)
                    return self._sent(wanted, how, candidate.version_id, content, signed, settled, file)
        with self._lock:
            twins = dict(self._fresh_large.get(file.size, {})) if known is None else {}
        if twins:
            content = reading.hash_file(file, self._key)
            twin = twins.get(content.mac) if content.size == file.size else None
            if twin is not None:
                self._advance(content.size)
                return self._sent(wanted, How.MOVED, twin[0], content, twin[1], settled, file)
        version = VersionId(random_id())
        how, content = self._new_version(file, wanted, known, version)
        assert content.draft is not None
        if (
            known is not None
            and content.mac == known.mac
            and not content.literal_bytes
            and known.version_id not in self.unsound
        ):
            return self._sent(wanted, How.SAME, known.version_id, content, known.has_signature, settled, file)
        self._packer.finish(content.draft)
        with self._lock:
            self.literal_bytes += content.literal_bytes
            self._fresh_large.setdefault(content.size, {})[content.mac] = (version, content.sums is not None)
        if content.sums is not None:
            self._signatures.write(version, content.sums)
        return self._sent(wanted, how, version, content, content.sums is not None, settled, file)

    def _new_version(
        self, file: SourceFile, wanted: Wanted, known: Known | None, version: VersionId
    ) -> tuple[How, Content]:
        if known is not None and known.has_signature and file.size >= deltas.MIN_DELTA_BYTES:
            with self._signatures.mapped(known.version_id) as base:
                if base is not None and base.size == known.size and self._held(known):
                    try:
                        content = differing.send_delta(
                            file,
                            version,
                            known.version_id,
                            base,
                            self._packer,
                            self._key,
                            self._budget,
                            self._advance,
                        )
                        return (How.DELTA if content.copied_bytes else How.FULL), content
                    except (DeltaBudgetError, LibrsyncError):
                        pass  # the file goes whole
        content = reading.send_whole(
            file,
            version,
            self._packer,
            self._key,
            with_signature=reading.worth_signing(wanted.path),
            progress=self._advance,
        )
        return How.FULL, content

    def _held(self, known: Known) -> bool:
        return known.version_id not in self.unsound and bool(self._uploader.held_versions([known.version_id]))

    def _sent(
        self,
        wanted: Wanted,
        how: How,
        version: VersionId,
        content: Content,
        signed: bool,
        settled: bool,
        file: SourceFile,
    ) -> Sent:
        settled = settled and not content.changed
        return Sent(
            wanted, how, version, content.mac, content.size, signed, settled, content.changed, file.bytes_read
        )


def _file(known: Known | None) -> Known | None:
    return known if known is not None and known.type == FileType.FILE else None


def _failed(wanted: Wanted, error: OSError, bytes_read: int) -> Sent:
    return Sent(wanted, How.SAME, VersionId(bytes(16)), b"", 0, False, False, False, bytes_read, error)
