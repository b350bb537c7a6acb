"""A backup run: scan, plan, send, agree on the root, commit.

Owns the order of things. The calling thread scans, plans, reads small files and keeps the ledger; two threads read
large files, one sends; who filled a segment seals it. What happens to a single path is the planner's decision, what
to a content the sender's. Rules: a version is staged after its segments, an entry any time before its commit; the
ledger's next state is durable before a commit is sent (prepare) and becomes the present when the appliance has
confirmed it (apply).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from agent import journal, planner
from agent.bookkeeping import next_run
from agent.caring import Caretaker
from agent.client import ApplianceFailed, Client
from agent.committing import Terms, commit_record
from agent.counting import Counting
from agent.enrolling import Enrolled, check_not_paused, check_welcome
from agent.entries import EntryWriter
from agent.errors import EmptySourceError
from agent.guards import Guards, clock_ahead_s
from agent.key_keeping import keep_key
from agent.ledger import Ledger
from agent.marks import Marks, keep_troubled
from agent.metadata import MetadataReader
from agent.onsite.copies import Copies, TeeingUploader
from agent.onsite.telling import tell
from agent.pacing import Bucket, RateNow
from agent.packing import Packer
from agent.partial import Coverage, marks_to_follow
from agent.pending import PendingSegments
from agent.presence import Presence
from agent.report import BackupProgress, BackupReport, Figures, StartedBy, Warned, used_configuration
from agent.reporting import report_if_changed
from agent.resync import after_drift, open_ledger
from agent.retrying import Retries
from agent.scanner import Found, Listing, Scanner, ScanWarning
from agent.sending import LARGE_AHEAD, How, Sender, Sent, Wanted
from agent.settings_keeping import keep_settings
from agent.signatures import Signatures
from agent.sources.dumped import Dumped
from agent.staging import Known
from agent.state import LastRun, last_files, last_walk_ms, write_state
from agent.system.paths import joined
from agent.system.zone import LocalZone
from transport import delta as deltas
from transport.commits import FIRST_PREVIOUS
from transport.errors import UnreachableError
from transport.names import NO_VERSION, SessionId, random_id
from transport.tree import EntryKind, FileType

log = logging.getLogger("pilulier-agent")

CHECKPOINT_S: Final = 600.0
"""A run that takes longer commits what it has every ten minutes, so that days of first upload are never at stake."""
CHECKPOINT_BYTES: Final = 16 << 30
_FILE: Final = int(EntryKind.FILE)


def run_backup(
    machine: Enrolled,
    *,
    allow_empty: bool = False,
    progress: Callable[[BackupProgress], None] | None = None,
    watched: bool = False,
    checkpoint_s: float = CHECKPOINT_S,
    started_by: StartedBy = "manual",
    warnings: tuple[Warned, ...] = (),
    pause: Callable[[float], None] = time.sleep,
    marks: Marks | None = None,
) -> BackupReport:
    """Make a snapshot of the selection; raises PilulierError with a sentence where that is not possible.

    `watched`: somebody waits for the end, so that counting what there is first is worth a second walk. `warnings`: what
    the report is to begin with. `pause`: waits before files that were locked are tried again. `marks`: only what is
    marked is looked at, and the rest stays as the last snapshot has it, where that may be.
    """
    if not machine.settings.has_source:
        raise EmptySourceError("nothing is selected: run pilulier-agent select include PATH first")
    client = machine.client()
    try:
        try:
            welcome = client.connect()
        except UnreachableError as error:
            if machine.settings.onsite.copies:
                from agent.onsite.alone import back_up_alone  # loaded only where there is something to write to

                back_up_alone(machine, client, error, started_by, progress, warnings, pause)
            raise
        ahead_s = clock_ahead_s(welcome.now_ms, time.time())
        check_welcome(machine, welcome)
        check_not_paused(welcome)
        remark = keep_key(machine, client, welcome)
        keep_settings(machine, client)
        if remark is not None:
            log.warning("%s", remark)
        following = next_run(machine.home, machine.settings, time.time(), LocalZone()())
        report_if_changed(machine.home, machine.settings, client, following)
        journal.send(machine.home, client)
        try:
            with open_ledger(machine, client, welcome) as ledger:
                terms = Terms(welcome.over_quota, welcome.retention_floor_days)
                run = Run(
                    machine, ledger, client, terms, allow_empty, progress, watched, checkpoint_s, started_by, marks
                )
                return run.run(warnings, ahead_s, pause)
        except ApplianceFailed as error:
            raise after_drift(machine, error) from error
    finally:
        client.close()


class Run:
    """One run. `agent.onsite.alone` makes another kind of it."""

    def __init__(
        self,
        machine: Enrolled,
        ledger: Ledger,
        client: Client,
        terms: Terms,
        allow_empty: bool,
        progress: Callable[[BackupProgress], None] | None,
        watched: bool,
        checkpoint_s: float,
        started_by: StartedBy,
        marks: Marks | None,
    ) -> None:
        self._machine = machine
        self._ledger = ledger
        self._client = client
        self._terms = terms
        self._allow_empty = allow_empty
        self._checkpoint_s = checkpoint_s
        self._began_ms = int(time.time() * 1000)
        self._had_files = not ledger.verify_empty()
        sealer = machine.sealer()
        self._epoch = sealer.keys.epoch
        marked = marks_to_follow(marks, ledger, machine)
        self._coverage = Coverage(ledger, everything=marked.whole)
        self._scanner = Scanner(
            machine.settings.selection,
            sealer.keys,
            home=os.fsencode(machine.home.path),
            allow_missing=allow_empty,
            marked=marked,
            familiar=self._coverage.familiar,
        )
        self._pending = PendingSegments.open(machine.home.pending)
        self._copies = Copies(machine)
        self._uploader = self.uploader(client)
        self._uploader.bucket = Bucket(RateNow(machine.home, machine.settings.limits))
        self._figures = Figures(client, self._uploader, terms.over_quota, ledger.tree().bytes_source, progress)
        counts = self._coverage.everything and (watched or not self._had_files)
        self._counting = Counting(machine, self._figures, wanted=counts)
        self._started_by = started_by
        self._uploader.words = self._figures.words
        self._uploader.configuration = used_configuration(machine.settings, started_by)
        self._figures.expected_files = last_files(machine.home) if self._had_files else 0
        self._packer = Packer(sealer, self._uploader.put, self._copies.finder(self._pending.find))
        self._entries = EntryWriter(
            sealer, ledger, self._uploader, MetadataReader(lambda w: self._figures.warn(w.path, w.reason))
        )
        delta = machine.settings.delta
        signatures = Signatures(machine.home.signatures)
        self._sender = Sender(
            ledger,
            signatures,
            self._packer,
            self._uploader,
            sealer.keys.content,
            deltas.Budget(seconds_per_gib=delta.seconds_per_gib, literal_share=delta.literal_share),
            self._figures.advance,
        )
        self._care = Caretaker(machine, self._packer, signatures, self._sender, self._entries)
        self._dumped = Dumped(machine.home, machine.settings.databases, sealer.keys)
        self._sender.dumpers = self._dumped.dumpers
        self._linked: dict[bytes, Sent] = {}
        self._linking: set[bytes] = set()
        """Link groups whose first name is with a reader: the other names wait for its version."""
        self._checkpoint_at = time.monotonic() + checkpoint_s

    def uploader(self, client: Client) -> TeeingUploader:
        """Where everything goes."""
        return TeeingUploader(client, SessionId(random_id()), self._pending, self._copies)

    def run(self, warnings: tuple[Warned, ...], ahead_s: int, pause: Callable[[float], None]) -> BackupReport:
        self._figures.warnings += warnings
        selection, content_key = self._machine.settings.selection, self._machine.sealer().keys.content
        self._guards = Guards(self._machine.home, selection, content_key, self._figures, ahead_s=ahead_s)
        self._retries = Retries(pause)
        presence = Presence(self._scanner, self._ledger)
        allow = self._allow_empty or not self._had_files
        if not allow:
            presence.check_roots()
        self._guards.before(presence.count, allow=allow)
        self._counting.start()
        try:
            head = self._ledger.head()
            self._uploader.begin(head.hash() if head else FIRST_PREVIOUS)
            self._uploader.start()
            self._copies.begin(self._ledger.tree().root)
            self._dumped.keep(self._copies.lagging)
            self._figures.say("info", "backup", f"Backup started ({self._started_by})")
            self._guards.say_first()
            self._care.take_care(head, self._ledger, self._uploader, self._figures)
            for listing in self._dumped.besides(self._scanner.scan(), dump=self._coverage.everything):
                self._folder(listing)
                self._take_outcomes(0.0)
                self._maybe_checkpoint()
            for folder, path_id, names in self._coverage.other_names():
                self._folder(self._scanner.look(folder, path_id, names))
            self._settle()
            for again in self._retries.rounds():
                for wanted in again:
                    self._send(wanted)
                self._settle()
            self._figures.files(How.SAME, self._coverage.rest_files, self._coverage.rest_bytes)
            self._guards.lost()
            self._warn_all(self._dumped.raw.warnings())
            self._figures.tell_end()
            number = self._commit(complete=True)
            self._uploader.close()
        except BaseException:
            self._copies.abort()
            self._uploader.abort()
            raise
        finally:
            self._counting.stop()
            self._sender.close()
            self._pending.close()
        return self.wind_up(number)

    def wind_up(self, number: int) -> BackupReport:
        """After the last commit stands."""
        self._guards.done(self._began_ms)
        self._ledger.sweep_signatures()
        report = self._figures.report(number)
        keep_troubled(self._machine.home, (warning.path for warning in report.warnings))
        ended_ms = int(time.time() * 1000)
        write_state(
            self._machine.home,
            LastRun(
                *(number, ended_ms, report.state, len(report.warnings)),
                began_ms=self._began_ms,
                walked_ms=self._began_ms if self._coverage.everything else last_walk_ms(self._machine.home),
                files=report.files_total,
            ),
        )
        with contextlib.closing(self._dumped):
            copies = self._copies.finish(self._ledger, self._client)
        tell(self._machine.home, self._machine.settings, self._client)
        return self._figures.with_copies(report, copies)

    def _settle(self) -> None:
        """Wait until every reader has brought what it was given."""
        while self._sender.outstanding:
            self._take_outcomes(0.5)
            self._maybe_checkpoint()

    # folders

    def _folder(self, listing: Listing) -> None:
        self._warn_all(listing.warnings)
        self._guards.folder(listing)
        if listing.error is not None:
            self._figures.warn(listing.path, listing.error)
            self._guards.stale(joined(listing.path, b""), listing.error, had=self._had_files)
        known = self._coverage.known(listing) if self._had_files else {}
        decisions = planner.plan_folder(listing, known)
        self._coverage.met(known, decisions)
        same_files = same_bytes = 0
        for decision in decisions:
            match decision:
                case planner.Unchanged(found=found, known=before, refresh=refresh):
                    if refresh:
                        self._entries.refresh(found, before)
                    if self._care.wishes and before.version_id in self._care.wishes:
                        self._care.lay_out_anew(joined(listing.path, found.name), found, before)
                    if before.kind == _FILE:
                        same_files += 1
                        same_bytes += before.size
                case planner.MetadataOnly(found=found, known=earlier):
                    self._metadata_only(listing.path, found, earlier)
                case planner.Read(found=found, base=base, probably_same=probably_same):
                    self._warn_all(self._dumped.raw.look(listing, found))
                    self._read(listing.path, found, base, probably_same)
                case planner.Gone(known=before):
                    self._gone([before, *self._below(before)])
                case planner.Emptied(known=before):
                    self._gone(self._below(before))
                case planner.Kept(known=before):
                    for kept in (before, *self._below(before)):
                        self._unchanged(kept)
        if same_files:  # told once a folder: one by one they were a tenth of a backup without changes (measured)
            self._figures.files(How.SAME, same_files, same_bytes)
            self._figures.advance(same_bytes)

    def _warn_all(self, warnings: Iterable[ScanWarning]) -> None:
        for warning in warnings:
            self._figures.warn(warning.path, warning.reason)

    def _below(self, known: Known) -> Iterable[Known]:
        return self._ledger.descendants(known.path_id) if known.type == FileType.FOLDER else ()

    def _unchanged(self, known: Known) -> None:
        if known.type == FileType.FILE:
            self._figures.file(How.SAME, known.size)
            self._figures.passed(known.size)

    def _gone(self, gone: Iterable[Known]) -> None:
        for known in gone:
            if known.type == FileType.FILE:
                self._figures.deleted += 1
            self._entries.death(known)

    def _metadata_only(self, folder: bytes, found: Found, known: Known | None) -> None:
        path = joined(folder, found.name)
        if known is not None and known.type == found.type == FileType.FILE:
            self._entries.add(
                path,
                found,
                known.version_id,
                known.mac,
                known.size,
                known=known,
                signed=known.has_signature,
                settled=known.settled,
            )
            self._unchanged(known)
        else:
            self._entries.add(path, found, NO_VERSION, b"", 0, known=known, signed=False, settled=True)

    # contents

    def _read(self, folder: bytes, found: Found, base: Known | None, probably_same: bool) -> None:
        path = joined(folder, found.name)
        while found.link_group in self._linking:
            self._take_outcomes(0.5)
        if found.link_group and (twin := self._linked.get(found.link_group)) is not None:
            how = How.SAME if base is not None and base.mac == twin.mac else How.MOVED
            self._store(
                Sent(
                    Wanted(path, found, base),
                    how,
                    twin.version,
                    twin.mac,
                    twin.size,
                    twin.signed,
                    twin.settled,
                    changed=False,
                    bytes_read=0,
                )
            )
            return
        twins: tuple[Known, ...] = ()
        if base is None and self._had_files:
            moved = self._ledger.find_moved(found.ino, found.size, found.mtime_ns)
            twins = tuple(moved or self._ledger.find_size(found.size))
        while self._sender.outstanding >= LARGE_AHEAD:
            self._take_outcomes(0.5)
        self._send(Wanted(path, found, base, twins, probably_same))

    def _send(self, wanted: Wanted) -> None:
        outcome = self._sender.send(wanted)
        if outcome is not None:
            self._store(outcome)
        elif wanted.found.link_group:
            self._linking.add(wanted.found.link_group)

    def _take_outcomes(self, timeout_s: float) -> None:
        while self._sender.outstanding:
            outcome = self._sender.next_outcome(timeout_s)
            if outcome is None:
                self._uploader.check()
                return
            timeout_s = 0.0
            self._store(outcome)

    def _store(self, sent: Sent) -> None:
        """Write down the outcome for one file."""
        wanted = sent.wanted
        self._figures.bytes_read += sent.bytes_read
        self._linking.discard(wanted.found.link_group)
        if self._retries.take(sent):
            return
        if sent.error is not None:
            self._unreadable(wanted, sent.error)
            return
        if sent.changed:
            self._figures.warn(wanted.path, "it changed while it was read: kept as read, and read again next time")
            self._guards.stale(wanted.path, "it changes faster than it can be read", had=wanted.known is not None)
        self._warn_all(self._dumped.remarks(sent))
        found, known = wanted.found, wanted.known
        self._entries.add(
            wanted.path, found, sent.version, sent.mac, sent.size, known=known, signed=sent.signed, settled=sent.settled
        )
        if found.link_group:
            self._linked[found.link_group] = sent
        self._figures.file(sent.how, sent.size)

    def _unreadable(self, wanted: Wanted, error: OSError) -> None:
        """Keep the previous version where there is one, and say so."""
        vanished = isinstance(error, FileNotFoundError)
        if not vanished or wanted.known is not None:
            self._guards.stale(wanted.path, f"it cannot be read: {error.strerror}", had=wanted.known is not None)
        reason = "it vanished before it could be read" if vanished else f"it cannot be read: {error.strerror}"
        if wanted.known is not None:
            reason += "; its previous version is kept"
            self._unchanged(wanted.known)
        self._dumped.failed(wanted.path, self._figures.say)
        self._figures.warn(wanted.path, reason)

    # commits

    def _maybe_checkpoint(self) -> None:
        due = time.monotonic() > self._checkpoint_at or self._sender.literal_bytes > CHECKPOINT_BYTES
        if due and self._sender.literal_bytes:
            while self._sender.outstanding:  # where large files follow each other there is no moment without one
                self._take_outcomes(0.5)
            self._commit(complete=False)
            self._sender.literal_bytes = 0
            self._checkpoint_at = time.monotonic() + self._checkpoint_s

    def _commit(self, *, complete: bool) -> int:
        self._figures.commits(True)
        self._packer.flush()
        self._entries.flush()
        record = commit_record(
            self._machine,
            self._ledger,
            epoch=self._epoch,
            began_ms=self._began_ms,
            complete=complete,
            retention_floor_days=self._terms.retention_floor_days,
            added=self._entries.take_added(),
        )
        signed = self._machine.keys.signing.sign_commit(record)
        self._ledger.prepare(signed)
        self._uploader.observed = self._guards.observed()
        self._uploader.commit(signed, self._figures.message)
        self._guards.committed()
        self._ledger.apply()
        self._pending.clear()
        self._figures.commits(False)
        self._had_files = True
        return record.number
