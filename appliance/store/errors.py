"""What can go wrong in a repository, sorted by who must act: the disk's owner, the operator, or the peer.

Peer faults are transport's DecodeError and ProtocolError; the classes here are the store's own. `code` is
stable and travels in `Refused`.
"""

from __future__ import annotations

from transport.errors import IntegrityError, PilulierError, RefusedError


class StoreError(PilulierError):
    """A repository cannot do what was asked."""

    code = "store"


class FatalDiskError(StoreError):
    """The disk failed while writing: the process must stop, nothing since the last acknowledgement is certain.

    Never retried: after a failed fsync the kernel drops the dirty pages and a second fsync would lie. The
    repository object that raised it refuses everything afterwards; opening it anew finds the last durable state.
    """

    code = "disk-failed"


class DamagedRepositoryError(StoreError):
    """Packs and catalog do not belong together, or one of them cannot be read."""

    code = "damaged"


class DamagedRecordError(DamagedRepositoryError):
    """A record in a pack is not what was written there; the sentence names pack and offset."""

    def __init__(self, pack: str, offset: int, detail: str) -> None:
        super().__init__(f"{pack} at byte {offset}: {detail}")
        self.pack = pack
        self.offset = offset
        self.detail = detail


class DiskFullError(RefusedError):
    """No room for new data: refused whole, earlier snapshots untouched; free space and try again."""

    code = "disk-full"


class BusyRepositoryError(RefusedError):
    """Another process has the repository open for writing, or held a lock for too long."""

    code = "busy"


class StaleHeadError(RefusedError):
    """The agent stands on another snapshot than the repository's newest one."""

    code = "stale-head"


class UnknownItemError(RefusedError):
    """A snapshot, version or segment that this repository does not hold."""

    code = "unknown"


class CommitRefusedError(IntegrityError):
    """A commit that would make a broken or foreign snapshot; what was staged is kept."""

    code = "commit-refused"


class LedgerDriftError(CommitRefusedError):
    """The agent's idea of the tree differs from the catalog's: its ledger must be rebuilt from the repository."""

    code = "drift"
