"""All copies of one run: finding them, feeding them what the appliance gets, bringing them level, telling what became
of them.

Rule: nothing here raises for a copy's sake. Owns the store of sealed entries while the run lasts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec

from agent.client import Client
from agent.enrolling import Enrolled
from agent.ledger import Ledger
from agent.onsite.levelling import Leveller, StillBehind
from agent.onsite.medium import found_within
from agent.onsite.sealed import SealedEntries
from agent.onsite.standing import CopyStanding, Standing, read_standing, with_pair, write_standing
from agent.onsite.writing import PATIENCE_S, CopyOutcome, CopyState, CopyWriter
from agent.packing import Outgoing, SealedSegment, VersionBatch
from agent.pending import PendingSegments
from agent.remote import RemoteSource
from agent.uploader import Uploader
from transport import messages as m
from transport.commits import CommitRecord, SignedCommit
from transport.errors import PilulierError
from transport.mending import SignedMend
from transport.names import Digest, PathId, SegmentId, SessionId, VersionId
from transport.tree import EntryBatch


class Copies:
    """The copies of one run. `put` from any thread, the rest from one."""

    def __init__(self, machine: Enrolled, *, alone: bool = False, patience_s: float = PATIENCE_S) -> None:
        self._machine = machine
        self._alone = alone
        self._onsite = machine.settings.onsite
        self._patience_s = patience_s
        self._writers: list[CopyWriter] = []
        self._failed: list[CopyOutcome] = []
        self._sent: set[SegmentId] = set()
        self._sealed: SealedEntries | None = None
        self._record: CommitRecord | None = None

    def begin(self, root: Digest) -> int:
        """Look for the media and open them; how many take part. `root` is the tree that the run builds on."""
        if not self._onsite.copies:
            return 0
        settings, signing = self._machine.settings, self._machine.keys.signing
        self._sealed = SealedEntries.open(self._machine.home.sealed_entries)
        found = found_within(settings, self._onsite, self._patience_s)
        for place in self._onsite.copies:
            medium = found.get(place.id)
            if medium is None:
                reason = "its medium is not connected, or not mounted"
                self._failed.append(CopyOutcome(place.id, place.name, CopyState.ABSENT, reason=reason))
                continue
            writer = CopyWriter(medium, settings, signing, patience_s=self._patience_s)
            writer.begin(root)
            self._writers.append(writer)
        return len(self._alive())

    @property
    def lagging(self) -> bool:
        """Whether a copy that takes part has to be brought level after the run: contents are then read once more."""
        return any(not writer.level for writer in self._alive())

    def _alive(self) -> list[CopyWriter]:
        return [writer for writer in self._writers if not writer.failure]

    def finder(self, find: Callable[[bytes, int], SegmentId | None]) -> Callable[[bytes, int], SegmentId | None]:
        """`find` (a segment that the appliance holds), for segments that every copy holds as well."""

        def found(digest: bytes, length: int) -> SegmentId | None:
            segment = find(digest, length)
            if segment is None or segment in self._sent:
                return segment
            return segment if all(segment in writer.held for writer in self._alive()) else None

        return found if self._onsite.copies else find

    def put(self, item: Outgoing | EntryBatch | list[PathId]) -> None:
        """Something that the appliance gets too."""
        if isinstance(item, EntryBatch) and self._sealed is not None:
            self._sealed.add(item.header, item.entries)
        if isinstance(item, SealedSegment) and self._writers:
            self._sent.add(item.segment_id)
        for writer in self._writers:
            writer.put(item)

    @property
    def reasons(self) -> str:
        """Why those that failed did."""
        return "; ".join(f"{writer.place.name}: {writer.failure}" for writer in self._writers if writer.failure)

    @property
    def taking_part(self) -> int:
        """How many are written to."""
        return len(self._alive())

    def held_versions(self, versions: list[VersionId]) -> frozenset[VersionId]:
        """Which of these every copy can take as bases."""
        held = set(versions)
        for writer in self._alive():
            with contextlib.suppress(PilulierError):
                held &= set(writer.call(lambda writer=writer: writer.repository.has_versions(versions)))  # type: ignore[misc]
        return frozenset(held)

    def commit(self, signed: SignedCommit) -> None:
        """A snapshot that stands on the appliance."""
        self._record = signed.decoded()
        for writer in self._writers:
            writer.commit(self._record)

    def finish(self, ledger: Ledger, client: Client | None) -> tuple[CopyOutcome, ...]:
        """Bring level what lags, end, and write down what became of each. `client` is ready for questions."""
        if self._sealed is None:
            return ()
        leveller = Leveller(
            ledger, self._sealed, self._machine.sealer(), self._fetcher(client), self._machine.home.sealed_entries
        )
        outcomes = list(self._failed)
        with contextlib.closing(self._sealed):
            for writer in self._writers:
                if self._record is not None and not writer.failure:
                    self._level(leveller, writer, self._record)
                outcomes.append(writer.finish())
            if not self._alone:
                with contextlib.suppress(PilulierError):
                    self._sealed.sweep(self._machine.home.ledger)
        self._write_down(outcomes)
        order = [place.id for place in self._onsite.copies]
        return tuple(sorted(outcomes, key=lambda outcome: order.index(outcome.id)))

    def _level(self, leveller: Leveller, writer: CopyWriter, record: CommitRecord) -> None:
        def work() -> None:
            if not writer.level:  # known only once all commits before this were carried out
                try:
                    leveller.level(writer, record)
                except StillBehind as error:
                    writer.remark(str(error))

        with contextlib.suppress(PilulierError):
            writer.call(work)

    def _fetcher(self, client: Client | None) -> Callable[[Sequence[Digest]], None]:
        def fetch(tokens: Sequence[Digest]) -> None:
            if client is None or self._sealed is None or self._record is None:
                return
            wanted = set(tokens)
            with contextlib.suppress(PilulierError):
                for page in RemoteSource(client).tree(self._record.number):
                    for number, header in enumerate(page.headers):
                        entries = [e.record for e in page.entries if e.batch == number]
                        self._sealed.add(header, [entry for entry in entries if entry.token() in wanted])

        return fetch

    def _write_down(self, outcomes: Sequence[CopyOutcome]) -> None:
        now_ms = int(time.time() * 1000)
        before = read_standing(self._machine.home).copies
        media = {writer.place.id: writer.medium for writer in self._writers}
        exact = {writer.place.id for writer in self._writers if writer.exact}
        after: dict[str, CopyStanding] = {}
        for outcome in outcomes:
            known = before.get(outcome.id, CopyStanding())
            written = outcome.state is CopyState.WRITTEN
            known = msgspec.structs.replace(
                known,
                tried_ms=now_ms,
                state=str(outcome.state),
                reason=outcome.reason,
                written_ms=now_ms if written else known.written_ms,
                snapshot=outcome.snapshot or known.snapshot,
            )
            if not self._alone and outcome.id in exact and written and self._record is not None:
                known = with_pair(known, self._record.number, outcome.snapshot)
            if outcome.id in media and outcome.state is not CopyState.FAILED:
                with contextlib.suppress(OSError):
                    known = msgspec.structs.replace(known, free_bytes=media[outcome.id].free_bytes())
            after[outcome.id] = known
        with contextlib.suppress(OSError):
            write_standing(self._machine.home, Standing(after))

    def abort(self) -> None:
        """The run ended early: what the media hold stays, uncommitted."""
        for writer in self._writers:
            writer.give_up("the backup was stopped")
        if self._sealed is not None:
            self._sealed.close()


class TeeingUploader(Uploader):
    """An uploader whose contents, entries and commits go to the copies on site as well."""

    def __init__(self, client: Client, session: SessionId, pending: PendingSegments, copies: Copies) -> None:
        super().__init__(client, session, pending)
        self.copies = copies

    def put(self, item: Outgoing | EntryBatch | list[PathId] | SignedMend | m.Progress | m.LogLine) -> None:
        """Queue something for the appliance, and hand it to the copies."""
        super().put(item)
        self.hand_on(item)

    def hand_on(self, item: object) -> None:
        """To the copies, what concerns them."""
        if isinstance(item, SealedSegment | VersionBatch | EntryBatch | list):
            self.copies.put(item)

    def commit(self, signed: SignedCommit, figures: Callable[[], m.BackupFigures]) -> m.Committed:
        """Commit on the appliance, then in the copies."""
        answer = super().commit(signed, figures)
        self.copies.commit(signed)
        return answer
