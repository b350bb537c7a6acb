"""The opener: a process that holds one machine's key for a while and reads its backups for the web.

    python -P -m appliance.opening.opener

It is told by its stdin whose backups to open (`words.Begin`), fetches the escrow key, unwraps the machine key, proves
the history, and then answers one question after the other until its stdin closes, nobody asked for `IDLE_S`, or
`LIFE_S` is over. Keys are in its memory alone; it cannot be dumped or traced by others (PR_SET_DUMPABLE), writes
nothing, opens no socket, and asks the disk for reading only.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from appliance import escrow
from appliance.opening import archives, parcel_sealing, rewrapping, words
from appliance.opening.contents import Contents
from appliance.settings import Home
from appliance.store.repository import Repository
from appliance.store.source import RepositorySource
from transport.allocator import keep_large_buffers
from transport.errors import PilulierError, UsageError
from transport.escrow import EscrowPublic, escrow_key_of, unwrap_confided
from transport.history import Snapshot, verify_history
from transport.keys import verify_receiving
from transport.names import PathId, RepositoryId, VaultId
from transport.parcels import new_parcel
from transport.sealing import Sealer, vault_keys
from transport.snapshot_reader import Node, SnapshotReader
from transport.tree import FileType

IDLE_S: Final = 600.0
LIFE_S: Final = 1800.0
_READERS: Final = 4
"""Snapshots whose folders are remembered."""
_KINDS: Final = {FileType.FILE: "f", FileType.FOLDER: "d", FileType.SYMLINK: "l"}
_PR_SET_DUMPABLE: Final = 4
log = logging.getLogger("pilulier.opener")


class Opener:
    """One machine's backups, opened."""

    def __init__(self, begin: words.Begin) -> None:
        home = Home.open(Path(begin.home))
        machine, vault = RepositoryId(begin.machine), VaultId(begin.vault)
        key = escrow.private(home, escrow_key_of(begin.envelope))
        self._sealer = Sealer(vault_keys(unwrap_confided(key, begin.envelope, machine, vault), vault))
        self._repository = Repository.open(Path(begin.folder), read_only=True)
        self._source = RepositorySource(self._repository)
        history = verify_history(
            self._source.commits(),
            begin.public_key,
            None,
            vault=vault,
            repository=machine,
            successions=self._source.successions(),
        )
        self._snapshots = {snapshot.number: snapshot for snapshot in history.held()}
        self._readers: dict[int, SnapshotReader] = {}

    def close(self) -> None:
        """Give the files back."""
        self._repository.close()

    def ready(self) -> words.Ready:
        """What can be read."""
        return words.Ready(
            [
                words.Snapshot(one.number, one.received_ms, one.record.complete, one.record.entry_count)
                for one in self._snapshots.values()
            ]
        )

    def _snapshot(self, number: int) -> Snapshot:
        found = self._snapshots.get(number)
        if found is None:
            raise UsageError(f"snapshot {number} is not held any more: choose another one")
        return found

    def _reader(self, number: int) -> SnapshotReader:
        reader = self._readers.pop(number, None) or SnapshotReader(self._source, self._sealer, self._snapshot(number))
        self._readers[number] = reader
        while len(self._readers) > _READERS:
            self._readers.pop(next(iter(self._readers)))
        return reader

    def answer(self, question: words.AnyQuestion) -> words.AnyAnswer:
        """The answer to anything but an archive."""
        match question:
            case words.ListFolder(snapshot=number, path=path):
                nodes = self._reader(number).listing(path)
                shown = nodes[: words.FOLDER_LIMIT]
                return words.Entries([_entry(node) for node in shown], len(nodes) > len(shown))
            case words.Search(snapshot=number, text=text):
                return self._search(number, text)
            case words.FileVersions(path=path):
                return self._versions(path)
            case words.Measure(snapshot=number, paths=paths):
                selection = self._reader(number).select(archives.chosen_paths(paths), lambda _: None)
                files = [node for node in selection.nodes if node.type == FileType.FILE]
                folders = sum(node.is_folder for node in selection.nodes)
                return words.Measured(len(files), folders, sum(node.size for node in files), selection.missing)
            case words.Identify(snapshot=number, paths=paths):
                return self._identified(number, archives.chosen_paths(paths))
        raise UsageError(f"{type(question).__name__} cannot be asked now")

    def _identified(self, number: int, paths: list[bytes]) -> words.Identified:
        ids: dict[bytes, None] = {}
        above: dict[bytes, None] = {}
        missing = []
        for path in paths:
            node = self._reader(number).find(path)
            if node is None:
                missing.append(path)
                continue
            ids[node.path_id] = None
            while node.parent is not None:
                node = node.parent
                above[node.path_id] = None
        return words.Identified(list(ids), [one for one in above if one not in ids], missing)

    def _search(self, number: int, text: str) -> words.Entries:
        wanted = text.casefold()
        found: list[words.Entry] = []
        for node in self._reader(number).whole_tree():
            if wanted in node.name.decode("utf-8", "replace").casefold():
                if len(found) == words.SEARCH_LIMIT:
                    return words.Entries(found, True)
                found.append(_entry(node))
        return words.Entries(found, False)

    def _versions(self, path: bytes) -> words.Versions:
        found: list[words.FoundVersion] = []
        mark = b""
        for number, snapshot in self._snapshots.items():
            node = SnapshotReader(self._source, self._sealer, snapshot).find(path)
            if node is None:
                mark = b""
                continue
            entry = _entry(node)
            if entry.mark != mark:
                found.append(words.FoundVersion(number, snapshot.received_ms, entry))
                mark = entry.mark
        return words.Versions(found)

    def archive(self, question: words.Archive, out: IO[bytes]) -> None:
        """Write an archive, whole or cut short."""
        snapshot = self._snapshot(question.snapshot)
        reader = SnapshotReader(self._source, self._sealer, snapshot)
        selection = reader.select(archives.chosen_paths(question.paths), lambda _: None)
        manifest = archives.Manifest(question.label, snapshot.number, snapshot.received_ms)
        with Contents(self._repository, self._sealer) as contents:
            archives.write(question.form, out, contents, selection, manifest)


    def seal(self, question: words.Seal, out: IO[bytes]) -> None:
        """Write a parcel for another machine; SealError, IntegrityError where its key is not its own."""
        verify_receiving(question.signing, question.signature, question.machine, question.number, question.key)
        reader = SnapshotReader(self._source, self._sealer, self._snapshot(question.snapshot))
        ids, above = map(PathId, question.ids), frozenset(map(PathId, question.above))
        selection = reader.select_ids(list(ids), above)
        sealer, wrapping = new_parcel(EscrowPublic(question.key), RepositoryId(question.machine))
        out.write(words.frame(words.Sealing(wrapping.envelope, wrapping.vault)))
        with Contents(self._repository, self._sealer) as contents:
            parcel_sealing.write(out, sealer, contents, selection)


def _entry(node: Node) -> words.Entry:
    kind = _KINDS.get(FileType(node.type), "o") if node.type in FileType.__members__.values() else "o"
    # Content for files, all attributes for the rest: a new date alone is no other version of a file.
    mark = bytes(node.version_id) + node.mac if node.type == FileType.FILE else bytes(node.token)
    return words.Entry(node.path(), kind, node.size, node.mtime_ns, mark)


def _hide_memory() -> None:
    """Nobody but root may trace this process or find its memory in a core file (prctl(2)); elsewhere than on Linux
    nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _wait(descriptor: int, timeout_s: float) -> bool:
    return bool(select.select([descriptor], [], [], max(0.0, timeout_s))[0])


def run(source: int, target: int, clock: Callable[[], float] = time.monotonic) -> int:
    """Serve on two descriptors; the exit code: 0, or 1 where an archive was cut short."""

    def read(size: int) -> bytes:
        return os.read(source, size)

    def say(word: words.Answer) -> None:
        data = memoryview(words.frame(word))
        while data:
            data = data[os.write(target, data) :]

    began = clock()
    first = words.read_question(read)
    if isinstance(first, words.Rewrap):
        try:
            say(rewrapping.rewrap(first))
        except PilulierError as error:
            say(words.Failed(error.code, str(error)))
        return 0
    if not isinstance(first, words.Begin):
        return 1
    try:
        opener = Opener(first)
    except PilulierError as error:
        say(words.Failed(error.code, str(error)))
        return 1
    try:
        say(opener.ready())
        while _wait(source, min(IDLE_S, LIFE_S - (clock() - began))):
            question = words.read_question(read)
            if question is None:
                break
            if isinstance(question, words.Archive | words.Seal):
                # The pipe carries this alone from here on; its end is the end of the process.
                with os.fdopen(target, "wb", buffering=1 << 20) as out:
                    if isinstance(question, words.Archive):
                        opener.archive(question, out)
                    else:
                        opener.seal(question, out)
                return 0
            try:
                answer: words.Answer = opener.answer(question)
            except PilulierError as error:
                answer = words.Failed(error.code, str(error))
            say(answer)
    finally:
        opener.close()
    return 0


def main() -> int:
    """As a process."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _hide_memory()
    keep_large_buffers()
    try:
        return run(0, 1)
    except (PilulierError, words.BrokenPipeOfWords) as error:
        log.error("%s", error)
    except BrokenPipeError:
        pass  # the person closed the window
    return 1


if __name__ == "__main__":
    # Without the interpreter's own end: it would flush a pipe that a browser has closed, and say so.
    os._exit(main())
