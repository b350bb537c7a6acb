"""Whatever a host answers, no wrong byte gets a name: each lie against each way of asking, with the right refusal.

The host holds all it has (packs, catalog, transport, the confided machine key) but not the signing key. For every
mutation and mode: the error is the expected one, every file under its final name is bit-exact one that the asked
snapshot holds (or, in place, what stood there before), nothing unfinished is left, and it ends soon.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from agent.restore import RestoreReport, restore
from agent.verify import VerifyReport, compare, disk_original, open_sample
from tests.support.hostile_content import EXTENTS, SEGMENTS
from tests.support.hostile_host import HISTORY, NEWEST, OLDER, TREE, Layer, Mutation, Stage, stage
from tests.support.memory_source import HOUR_MS, Item, LyingSource
from transport.commits import StoredCommit
from transport.errors import PilulierError, UsageError
from transport.history import History, choose_snapshot, iso_time
from transport.snapshot_reader import Node, SnapshotReader, SnapshotSource, verify_history
from transport.tree import FileType

DEADLINE_S = 20
"""Far above what the slowest takes; an answer without end would run into it."""
BEFORE = b"what stood there before, older than any backup"
LETTER = b"doc/letter"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the machine's files are."""
    return tmp_path_factory.mktemp("origin")


@pytest.fixture(scope="module")
def true(home: Path) -> Stage:
    """What the host holds; mutations fork it and change nothing in it."""
    return stage(os.fsencode(home / "files"))


@contextlib.contextmanager
def soon(what: str) -> Iterator[None]:
    """AssertionError where it takes longer than DEADLINE_S."""

    def ring(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"{what} is not over after {DEADLINE_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- the ways of asking

Outcome = RestoreReport | VerifyReport | list[Node] | History


def originals(true: Stage, content: Callable[[Item], bytes], mtime: Callable[[Item], int]) -> None:
    """The machine's own files, made anew."""
    shutil.rmtree(true.prefix, ignore_errors=True)
    for item in true.items[NEWEST]:
        if item.type == FileType.FILE:
            os.makedirs(os.path.dirname(item.path), exist_ok=True)
            with open(item.path, "wb") as file:
                file.write(content(item))
            os.utime(item.path, ns=(mtime(item), mtime(item)))


def restoring(true: Stage, source: SnapshotSource, target: bytes | None, **options: object) -> RestoreReport:
    """A restore by an agent that remembers its last head."""
    repository = true.repository
    given = {"witness": repository.head, "target": target, "repository": repository.id, **options}
    return restore(source, repository.sealer, repository.signing.public, **given)  # type: ignore[arg-type]


def in_place(true: Stage, source: SnapshotSource, _: bytes) -> Outcome:
    originals(true, lambda item: BEFORE, lambda item: 1_000_000_000)
    return restoring(true, source, None, paths=[true.prefix])


def verifying(true: Stage, source: SnapshotSource, _: bytes) -> Outcome:
    originals(true, lambda item: item.content, lambda item: item.mtime_ns)
    sealer = true.repository.sealer
    report = compare(reader(true, source).whole_tree(), disk_original, sealer.keys.content)
    open_sample(sealer, source.segments(list(true.repository.sealed)), report)
    return report


def history(true: Stage, source: SnapshotSource, _: bytes = b"") -> History:
    repository = true.repository
    vault = repository.sealer.keys.vault
    return verify_history(
        source.commits(), repository.signing.public, repository.head, vault=vault, repository=repository.id
    )


def reader(true: Stage, source: SnapshotSource) -> SnapshotReader:
    return SnapshotReader(source, true.repository.sealer, choose_snapshot(history(true, source)))


MODES: dict[str, Callable[[Stage, SnapshotSource, bytes], Outcome]] = {
    "whole": restoring,
    "one-file": lambda true, source, target: restoring(true, source, target, paths=[true.path(LETTER)]),
    "in-place": in_place,
    "by-number": lambda true, source, target: restoring(true, source, target, snapshot=OLDER),
    "by-time": lambda true, source, target: restoring(true, source, target, at_ms=NEWEST * HOUR_MS - 1),
    "blank-agent": lambda true, source, target: restoring(true, source, target, witness=None),
    "verify": verifying,
    "ls": lambda true, source, _: reader(true, source).listing(true.path(b"doc")),
    "snapshots": history,
}
OLDER_MODES = ("by-number", "by-time")
BY_FOLDER = ("one-file", "in-place", "ls")
RESTORES = ("whole", "one-file", "in-place", *OLDER_MODES, "blank-agent")


# --- what may stand afterwards


def held(true: Stage, snapshot: int) -> dict[bytes, Item]:
    """The files and links of a snapshot by path."""
    return {item.path: item for item in true.items[snapshot]}


def no_wrong_byte(root: bytes, true: Stage, snapshot: int, *, place: bool) -> set[bytes]:
    """The restored paths; every name stands for exactly what the snapshot says, or (in place) for what was there."""
    expected = held(true, snapshot)
    stand = set()
    for where, _, names in os.walk(true.prefix if place else root):
        for name in names:
            path = os.path.join(where, name)
            item = expected.get(path if place else path[len(root) :])
            assert item is not None, f"{path!r} is in no snapshot"
            if os.path.islink(path):
                assert item.type == FileType.SYMLINK and os.readlink(path) == item.target
                continue
            with open(path, "rb") as file:
                content = file.read()
            assert item.type == FileType.FILE
            if place and content == BEFORE:
                continue
            assert content == item.content, f"wrong bytes under {path!r}"
            stand.add(item.path)
    return stand


# --- the table

MUTATIONS = HISTORY | TREE | EXTENTS | SEGMENTS
MINIMUM = 40


def test_there_are_enough_mutations_and_modes() -> None:
    assert len(MUTATIONS) >= MINIMUM
    assert {m.layer for m in MUTATIONS.values()} == set(Layer)
    assert len(MODES) == 9


@pytest.mark.parametrize("mode", MODES)
def test_the_truth_is_believed(true: Stage, tmp_path: Path, mode: str) -> None:
    """Without a lie each mode succeeds: what follows would prove nothing otherwise."""
    target = os.fsencode(tmp_path / "out")
    outcome = MODES[mode](true, true.repository, target)
    snapshot = OLDER if mode in OLDER_MODES else NEWEST
    files = {item.path for item in true.items[snapshot] if item.type == FileType.FILE}
    if isinstance(outcome, RestoreReport):
        assert outcome.errors == [] and outcome.snapshot == snapshot
        wanted = {true.path(LETTER)} if mode == "one-file" else files
        assert no_wrong_byte(target, true, snapshot, place=mode == "in-place") == wanted
    elif isinstance(outcome, VerifyReport):
        assert (outcome.files_same, outcome.files_checked) == (len(files), len(files))
        assert outcome.segments_damaged == [] and outcome.segments_checked == len(true.repository.sealed)


def refused_at_once(mutation: Mutation, mode: str) -> bool:
    """Whether this question must end in an error (rather than in reasons, one a file, or in the truth)."""
    if mutation.layer is Layer.HISTORY:
        return True
    if mutation.layer is Layer.NEWEST:
        return mode not in (*OLDER_MODES, "snapshots")
    if mutation.layer is Layer.TREE:
        return mode != "snapshots"
    return bool(mutation.code) and mode in RESTORES


CASES = [
    (name, mode)
    for name, mutation in MUTATIONS.items()
    for mode in MODES
    # A sample is not asked for by ids; how it may lie stands in test_hostile_wire.
    if mode != "verify" or mutation.layer is not Layer.SEGMENTS or not mutation.code
]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_lie_is_refused_with_the_right_error(true: Stage, tmp_path: Path, name: str, mode: str) -> None:
    mutation = MUTATIONS[name]
    target = os.fsencode(tmp_path / "out")
    snapshot = OLDER if mode in OLDER_MODES else NEWEST
    source = mutation.lie(true)
    if mutation.witness_only and mode == "blank-agent":
        return blank_agent(true, source, target)
    with soon(f"{name}, {mode}"):
        if refused_at_once(mutation, mode):
            with pytest.raises(PilulierError) as caught:
                MODES[mode](true, source, target)
            folders_first = mode in BY_FOLDER
            assert caught.value.code == (mutation.code if folders_first or not mutation.whole else mutation.whole), (
                f"{type(caught.value).__name__}: {caught.value}"
            )
            assert re.search(mutation.says, str(caught.value)), str(caught.value)
            stand = no_wrong_byte(target, true, snapshot, place=mode == "in-place")
            if mutation.layer in (Layer.HISTORY, Layer.TREE):
                assert stand == set() and not os.path.exists(target), "nothing is written before the tree is proved"
            return None
        outcome = MODES[mode](true, source, target)
    if isinstance(outcome, RestoreReport) and mutation.layer is Layer.NEWEST:
        assert outcome.errors == [] and outcome.snapshot == OLDER
    elif isinstance(outcome, RestoreReport):
        only_reasons(mutation, outcome, true, no_wrong_byte(target, true, snapshot, place=mode == "in-place"), snapshot)
    elif isinstance(outcome, VerifyReport):
        assert outcome.files_same == outcome.files_checked > 0
        lied = mutation.layer is Layer.SEGMENTS and not mutation.opens
        assert len(outcome.segments_damaged) == (len(true.repository.sealed) if lied else 0)
    elif isinstance(outcome, History):
        assert [one.number for one in outcome.snapshots] == [1, OLDER, NEWEST]
    else:
        assert [os.path.basename(node.path()) for node in outcome] == [b"bill", b"letter", b"new"]
    return None


def only_reasons(mutation: Mutation, report: RestoreReport, true: Stage, stand: set[bytes], snapshot: int) -> None:
    """Each file is restored or has a reason of the expected kind, and the letter has one."""
    assert report.errors, "the lie was not noticed"
    for error in report.errors:
        assert re.search(mutation.says, error.reason), error
    failed = {error.path for error in report.errors}
    assert true.path(LETTER) in failed
    assert not failed & stand
    assert report.files == len(stand) and report.snapshot == snapshot


def blank_agent(true: Stage, source: SnapshotSource, target: bytes) -> None:
    """The known limit: without a witness an older true history is believed. What lands is true all the same, and the
    number and time that the person sees are the older ones."""
    shown = list(source.commits())
    if not shown:
        with pytest.raises(UsageError, match="no snapshot yet"):
            restoring(true, source, target, witness=None)
        return
    last = shown[-1].signed.decoded()
    if shown == true.repository.history[: len(shown)]:
        report = restoring(true, source, target, witness=None)
        assert report.errors == [] and report.snapshot == last.number < NEWEST
        expected = {item.path for item in true.items[last.number] if item.type == FileType.FILE}
        assert no_wrong_byte(target, true, last.number, place=False) == expected
    seen = verify_history(shown, true.repository.signing.public, None)
    assert seen.head is not None and iso_time(seen.head.received_ms) == iso_time(last.number * HOUR_MS)
    assert seen.head.signed.hash() != true.repository.head.hash(), "what a head code is made of tells them apart"


def test_times_are_the_hosts_word_and_numbers_are_signed(true: Stage, tmp_path: Path) -> None:
    """The other known limit: when a snapshot was received is told by the host's clock, so a host can make `--at` choose
    another one. What lands is true, whole, and named by its signed number and the agent's own time."""
    repository = true.repository
    turned = [one.received_ms for one in repository.history][::-1]

    def lie(commits: list[StoredCommit]) -> list[StoredCommit]:
        return [msgspec.structs.replace(one, received_ms=ms) for one, ms in zip(commits, turned, strict=True)]

    target = os.fsencode(tmp_path / "out")
    report = restoring(true, LyingSource(repository, commits=lie), target, at_ms=HOUR_MS)
    assert (report.snapshot, report.errors) == (NEWEST, [])
    assert len(no_wrong_byte(target, true, NEWEST, place=False)) == report.files
    seen = verify_history(lie(repository.history), repository.signing.public, repository.head)
    assert [one.record.ended_ms for one in seen.snapshots] == sorted(one.record.ended_ms for one in seen.snapshots)
