"""Restoring: from a selection to files on disk, in segment order, proved before they get their names.

Owns the job: history and tree are proved (transport), existing files judged, each segment fetched once and
handed on, links and folders finished. Two things overlap: the calling thread fetches (the source never leaves it),
two workers open, hash and write (agent.assembly). One bad segment costs the files that need it and
nothing else. Must not know the network; what may be written is `agent.landing`'s to say.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from agent import restore_order
from agent.assembly import ALTERED, Assembler, Crew, FileRecords, Sealed, Unusable
from agent.assembly import RestoreError as RestoreError
from agent.landing import Folder, Landing, LandingError, Note, Unfinished
from agent.landing_rules import Keep
from agent.sources.places import apart
from agent.verify import content_mac, read_chunks
from transport import messages as m
from transport.commits import SignedCommit
from transport.contents import chunk_digest, file_mac, same_mac
from transport.errors import IntegrityError, UsageError
from transport.names import PathId, RepositoryId, SegmentId
from transport.restore_plan import RestorePlan, WantedFile, plan_restore, versions_to_ask
from transport.sealing import Sealer
from transport.snapshot_reader import (
    MissingSegment,
    Node,
    Selection,
    SnapshotReader,
    SnapshotSource,
    choose_snapshot,
    verify_history,
)
from transport.succession import Succession
from transport.tree import FileType

_WORKERS: Final = 2


class RestoreProgress(msgspec.Struct, frozen=True):
    """Where a restore stands: phase `listing`, `files` or `finishing`."""

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


class RestoreReport(msgspec.Struct, frozen=True):
    """What a restore did. `files` and `bytes` count what was written (hard links as files of no bytes);
    `files_same` stood there already with the same content. `notes` are attributes not put back, by reason."""

    snapshot: int
    files: int
    files_same: int
    folders: int
    symlinks: int
    bytes: int
    seconds: float
    errors: list[RestoreError]
    notes: list[Note]
    taken_over: tuple[Succession, ...] = ()
    """Installations that came after the one whose key was given."""


def restore(
    source: SnapshotSource,
    sealer: Sealer,
    public_key: bytes,
    *,
    witness: SignedCommit | None,
    target: bytes | None,
    paths: Sequence[bytes] = (),
    snapshot: int | None = None,
    at_ms: int | None = None,
    overwrite: bool = False,
    keep_privileges: bool = False,
    repository: RepositoryId | None = None,
    recent_first: bool = False,
    approver: bytes | None = None,
    may_have_moved_on: bool = False,
    delivered: m.DeliveredSelection | None = None,
    quarantine: tuple[int, int] | None = None,
    progress: Callable[[RestoreProgress], None] | None = None,
) -> RestoreReport:
    """Restore `paths` (none: everything) of a snapshot (by number, by time, or the newest) under `target`.

    `/a/b` lands at target/a/b; `target` None restores in place. Existing files: same content stays, older is
    replaced, newer is kept and reported unless `overwrite`. Folders on the way to a selected path get their
    attributes only where this job made them. `repository`, where known, is the one whose history it must be;
    `recent_first` begins with the folders that were used last. `approver` and `may_have_moved_on` are as in
    `verify_history`.
    `delivered` selects by path ids in place of `paths`; a `quarantine` is as `Landing` has it.
    Raises UsageError (nothing to restore), IntegrityError or SealError (the tree or history is not what was signed;
    nothing is written then), DiskFullError, and what the source raises. `progress` is called from the calling thread.
    """
    began = time.monotonic()
    tell = progress or (lambda _: None)
    history = verify_history(
        source.commits(),
        public_key,
        witness,
        vault=sealer.keys.vault,
        repository=repository,
        successions=source.successions(),
        approver=approver,
        may_have_moved_on=may_have_moved_on,
    )
    chosen = choose_snapshot(history, number=snapshot, at_ms=at_ms)
    reader = SnapshotReader(source, sealer, chosen)
    total = chosen.record.entry_count

    def listed(count: int) -> None:
        tell(RestoreProgress("listing", count, total, 0, 0))

    if delivered is None:
        selection = reader.select(paths, listed)
    else:
        selection = reader.select_ids(_ids(delivered.paths), frozenset(_ids(delivered.above)), listed)
    if not selection.nodes and selection.missing:
        shown = ", ".join(path.decode("utf-8", "backslashreplace") for path in selection.missing[:3])
        raise UsageError(f"snapshot {chosen.number} does not hold {shown}: look for it with ls")
    dumps: list[Node] = []
    if target is None:
        selection, dumps = apart(selection)
    with Landing(
        target,
        overwrite=overwrite,
        keep_privileges=keep_privileges,
        quarantine=quarantine,
    ) as landing:
        job = _Job(landing, sealer, selection, recent_first=recent_first)
        for dump in dumps:
            job.records.error(dump, "it is a database's: pilulier-agent restore-database puts it back")
        job.prepare()
        job.fetch(source, tell)
        job.finish(tell)
        return RestoreReport(
            snapshot=chosen.number,
            files=job.records.files,
            files_same=job.same,
            folders=job.folder_count,
            symlinks=job.symlink_count,
            bytes=job.records.bytes,
            seconds=time.monotonic() - began,
            errors=job.records.errors,
            notes=list(landing.notes.values()),
            taken_over=history.taken_over,
        )


def _ids(listed: Sequence[bytes]) -> list[PathId]:
    return [PathId(one) for one in listed]


class _Links(msgspec.Struct):
    """The names of one hard-linked file: the first is restored, the others linked to it."""

    first: int
    folder: Folder
    node: Node
    others: list[tuple[Node, Folder]]


class _Job:
    def __init__(
        self, landing: Landing, sealer: Sealer, selection: Selection, *, recent_first: bool = False
    ) -> None:
        self._landing = landing
        self._sealer = sealer
        self._content_key = sealer.keys.content
        self._selection = selection
        self._recent_first = recent_first
        self._folders: dict[PathId, Folder | str] = {}
        self._symlinks: list[tuple[Node, Folder]] = []
        self._links: dict[tuple[bytes, bytes, bytes], _Links] = {}
        self.records = FileRecords()
        self.records.errors += [RestoreError(path, "this path is not in the snapshot") for path in selection.missing]
        self.same = 0
        self.folder_count = 0
        self.symlink_count = 0

    # -- before: folders exist, what already stands is judged

    def prepare(self) -> None:
        """Make the folders and decide which files have to be fetched."""
        nodes = self._selection.nodes
        for node in (*self._selection.ancestors, *(restore_order.recent_first(nodes) if self._recent_first else nodes)):
            parent = self._landing.root if node.parent is None else self._folders[node.parent.path_id]
            if isinstance(parent, str):
                if node.is_folder:
                    self._folders[node.path_id] = parent
                self.records.error(node, parent)
                continue
            try:
                if node.is_folder:
                    self._folders[node.path_id] = self._landing.folder(parent, node.name)
                elif node.type == FileType.FILE:
                    self._consider(node, parent)
                elif node.type == FileType.SYMLINK:
                    self._symlinks.append((node, parent))
                else:
                    self.records.error(node, f"it is of a kind ({node.type}) that this agent cannot restore: update it")
            except LandingError as error:
                self.records.error(node, str(error))
                if node.is_folder:
                    self._folders[node.path_id] = f"its folder was not restored: {error}"

    def _consider(self, node: Node, folder: Folder) -> None:
        index = len(self.records.nodes)
        if node.link_group:
            # The group alone is the agent's word; version and MAC make it safe to link instead of writing.
            key = (node.link_group, node.version_id, node.mac)
            links = self._links.get(key)
            if links is not None and links.node.size == node.size:
                links.others.append((node, folder))
                return
            self._links[key] = _Links(index, folder, node, [])
            self.records.linked.add(index)
        self.records.nodes.append(node)
        self.records.folders.append(folder)
        if folder.created:
            return
        try:
            status = self._landing.standing(folder, node.name)
            if status is None or self._already_same(index, node, folder, status):
                return
        except LandingError as error:
            self.records.fail(index, str(error))
            return
        verdict = self._landing.judge(folder, status, node.mtime_ns)
        if isinstance(verdict, Keep):
            self.records.fail(index, verdict.reason)

    def _already_same(self, index: int, node: Node, folder: Folder, status: os.stat_result) -> bool:
        if not stat.S_ISREG(status.st_mode) or status.st_size != node.size:
            return False
        with self._landing.existing(folder, node.name) as handle:
            size, mac = content_mac(read_chunks(handle), self._content_key)
            if size != node.size or not same_mac(mac, node.mac):
                return False
            if status.st_mtime_ns <= node.mtime_ns:
                self._landing.touch_up(handle, folder, node)
        self.same += 1
        self.records.landed[index] = (status.st_dev, status.st_ino)
        self.records.settled[index] = ""
        return True

    # -- the overlapped part

    def fetch(self, source: SnapshotSource, tell: Callable[[RestoreProgress], None]) -> None:
        """Plan, then fetch, open and write until every file stands or has its reason."""
        # What is already decided keeps its index but is planned as empty, so that it costs no extents.
        wanted = [
            WantedFile(node.version_id, 0 if index in self.records.settled else node.size)
            for index, node in enumerate(self.records.nodes)
        ]
        versions = versions_to_ask(wanted)
        plan = plan_restore(wanted, source.extents(versions) if versions else (), strict=False)
        for refused in plan.refused:
            self.records.fail(refused.file, refused.reason)
        bytes_total = sum(file.size for file in wanted)
        files_total = len(wanted) - len(self.records.settled)
        self.records.files_done = 0

        def told(phase: str = "files") -> None:
            tell(RestoreProgress(phase, self.records.files_done, files_total, self.records.bytes_done, bytes_total))

        told()
        with contextlib.ExitStack() as stack:
            siblings = [stack.enter_context(self._landing.sibling()) for _ in range(_WORKERS)]
            crew = Crew(Assembler(self._landing, self._sealer, plan, self.records), siblings)
            try:
                self._feed(source, plan, crew, told)
            except BaseException:
                crew.stop = True
                raise
            finally:
                crew.finish()
                for sibling in siblings:
                    for note in sibling.notes.values():
                        self._landing.add_note(note)
        if crew.failure is not None:
            raise crew.failure
        told()

    def _feed(self, source: SnapshotSource, plan: RestorePlan, crew: Crew, told: Callable[[], None]) -> None:
        asked: deque[int] = deque()

        def ids() -> Iterator[SegmentId]:
            for position, segment in enumerate(plan.segments):
                asked.append(position)
                yield segment

        if not plan.segments:
            return
        done = 0
        for segment, data in source.segments(ids()):
            if not asked or plan.segments[asked[0]] != segment:
                raise IntegrityError(f"the appliance sent segment {segment.hex()} out of turn")
            position = asked.popleft()
            done += 1
            if crew.failure is not None:
                return
            if isinstance(data, MissingSegment):
                reason = f"a part of it is missing (segment {segment.hex()}: {data.reason})"
                crew.put(Unusable(plan.pieces(position), reason))
            else:
                crew.put(Sealed(position, data))
            del data  # its megabyte is the worker's now
            told()
        if done != len(plan.segments):
            raise IntegrityError(f"the appliance sent {done} segments of {len(plan.segments)} and stopped")

    # -- after: hard links, symbolic links, folders from the leaves up

    def finish(self, tell: Callable[[RestoreProgress], None]) -> None:
        """Everything that must wait for the files."""
        files, size = self.records.files_done, self.records.bytes_done
        tell(RestoreProgress("finishing", files, files, size, size))
        for links in self._links.values():
            for node, folder in links.others:
                self._link(links, node, folder)
        for node, folder in self._symlinks:
            try:
                kept = self._landing.symlink(folder, node)
            except LandingError as error:
                self.records.error(node, str(error))
                continue
            if kept is None:
                self.symlink_count += 1
            else:
                self.records.error(node, kept.reason)
        selected = self._selection.nodes
        for ancestor, nodes in ((False, reversed(selected)), (True, reversed(self._selection.ancestors))):
            for node in nodes:
                if not node.is_folder:
                    continue
                made = self._folders[node.path_id]
                if isinstance(made, str) or (ancestor and not made.created):
                    continue
                try:
                    self._landing.finish_folder(made, node)
                except LandingError as error:
                    self.records.error(node, f"the folder's attributes were not put back: {error}")
                else:
                    self.folder_count += 1

    def _link(self, links: _Links, node: Node, folder: Folder) -> None:
        identity = self.records.landed.get(links.first)
        if identity is None:
            reason = self.records.settled.get(links.first, ALTERED)
            self.records.error(node, f"it is a hard link to a file that was not restored: {reason}")
            return
        try:
            status = self._landing.standing(folder, node.name)
            if status is not None and (status.st_dev, status.st_ino) == identity:
                self.same += 1
                return
            kept = self._landing.link(links.folder, links.node.name, identity, folder, node.name, node.mtime_ns)
        except LandingError:
            kept = self._copy(links, node, folder)  # no hard links on this disk
        if kept is None:
            self.records.files += 1
        else:
            self.records.error(node, kept.reason)

    def _copy(self, links: _Links, node: Node, folder: Folder) -> Keep | None:
        unfinished: Unfinished | None = None
        try:
            with self._landing.existing(links.folder, links.node.name) as handle:
                unfinished = self._landing.create(folder, node.size)
                digests, offset = [], 0
                for chunk in read_chunks(handle):
                    self._landing.write(unfinished, memoryview(chunk), offset)
                    digests.append(chunk_digest(chunk))
                    offset += len(chunk)
            if offset == node.size and same_mac(file_mac(self._content_key, offset, digests), node.mac):
                return self._landing.place(unfinished, node)
            self._landing.discard(unfinished)
            return Keep(ALTERED)
        except LandingError as error:
            if unfinished is not None:
                with contextlib.suppress(LandingError):
                    self._landing.discard(unfinished)
            return Keep(str(error))


