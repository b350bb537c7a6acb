"""agent.ledger: what it knows, the two phases of a commit, crashes between them, and the digests it promises."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import LedgerError, LedgerLost
from agent.ledger import Known, Ledger, last_head
from agent.pending import PendingSegments
from agent.settings import AgentHome
from transport.commits import COMMIT_FORMAT, COMMIT_LABEL, FIRST_PREVIOUS, CommitRecord, SignedCommit, encode_commit
from transport.errors import IntegrityError
from transport.names import (
    NO_VERSION,
    ROOT,
    Digest,
    InstallationId,
    PathId,
    RepositoryId,
    SegmentId,
    VaultId,
    VersionId,
)
from transport.sealing import vault_keys
from transport.tree import EMPTY_FOLDER, EntryKind, digest_of_tree

KEYS = vault_keys(b"k" * 32, VaultId(b"v" * 16))


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "agent")
    made.create()
    return made


def entry(path: str, kind: EntryKind = EntryKind.FILE, mark: str = "", **changes: object) -> Known:
    parent = ROOT
    *above, name = path.strip("/").split("/")
    for part in above:
        parent = KEYS.path_id(parent, part.encode())
    seed = hashlib.sha256(f"{path} {kind} {mark}".encode()).digest()
    base = Known(
        path_id=KEYS.path_id(parent, name.encode()), parent_id=parent, name=name.encode(), kind=int(kind),
        type=int(kind), size=seed[0] if kind is EntryKind.FILE else 0, mode=0o644, mtime_ns=seed[1], ctime_ns=seed[2],
        uid=0, gid=0, ino=seed[3], target=b"", link_group=b"",
        version_id=VersionId(seed[:16]) if kind is EntryKind.FILE else NO_VERSION,
        mac=seed if kind is EntryKind.FILE else b"", token=Digest(seed), metadata_digest=seed[:16],
        has_signature=kind is EntryKind.FILE, settled=True,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def folder(path: str, mark: str = "") -> Known:
    return entry(path, EntryKind.FOLDER, mark)


def commit_for(ledger: Ledger, **changes: object) -> SignedCommit:
    head, after = ledger.head(), ledger.tree_after()
    record = CommitRecord(
        label=COMMIT_LABEL, format=COMMIT_FORMAT, vault=VaultId(b"v" * 16), repository=RepositoryId(b"r" * 16),
        installation=InstallationId(b"i" * 16), epoch=1, number=1 if head is None else head.decoded().number + 1,
        previous=FIRST_PREVIOUS if head is None else head.hash(), root=after.root, entry_count=after.entry_count,
        bytes_source=after.bytes_source, started_ms=1, ended_ms=2, complete=True, selection=Digest(bytes(32)),
        retention_floor_days=90, agent_version="0", added=Digest(bytes(32)),
    )  # fmt: skip
    return SignedCommit(encode_commit(msgspec.structs.replace(record, **changes)), b"s" * 64)


def commit(ledger: Ledger, entries: Iterable[Known] = (), gone: Iterable[Known] = ()) -> SignedCommit:
    ledger.stage(entries)
    ledger.stage_deaths(gone)
    signed = commit_for(ledger)
    ledger.prepare(signed)
    ledger.apply()
    return signed


def from_scratch(entries: Iterable[Known]) -> Digest:
    children: dict[PathId, list[tuple[PathId, Digest, bool]]] = {}
    for known in entries:
        row = (known.path_id, known.token, known.kind == EntryKind.FOLDER)
        children.setdefault(known.parent_id, []).append(row)
    return digest_of_tree(children, ROOT)[ROOT]


TREE = [folder("/a"), folder("/a/b"), entry("/a/b/x"), entry("/a/y"), folder("/c"), entry("/l", EntryKind.OTHER)]


def test_a_new_ledger_is_empty(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        assert ledger.verify_empty() and ledger.head() is None and ledger.pending_commit() is None
        assert (ledger.tree_after().root, ledger.tree_after().entry_count) == (EMPTY_FOLDER, 0)
        assert ledger.children(ROOT) == {} and ledger.entry(ROOT, TREE[0].path_id) is None
    assert home.ledger.stat().st_mode & 0o777 == 0o600
    assert last_head(home) is None


def test_what_is_committed_is_known(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        signed = commit(ledger, TREE)
    assert last_head(home) == signed
    with Ledger.open(home) as ledger:
        assert ledger.head() == signed and not ledger.verify_empty()
        assert set(ledger.children(ROOT).values()) == {TREE[0], TREE[4], TREE[5]}
        assert {k.path_id for k in ledger.descendants(TREE[0].path_id)} == {k.path_id for k in TREE[1:4]}
        tree = ledger.tree_after()
        assert (tree.root, tree.entry_count) == (from_scratch(TREE), 6)
        assert tree.bytes_source == sum(k.size for k in TREE) and tree.changed == {}
        assert ledger.chain(TREE[1].path_id) == [TREE[1].path_id, TREE[0].path_id]
        assert ledger.chain(TREE[2].path_id) == []
        x = TREE[2]
        assert ledger.find_moved(x.ino, x.size, x.mtime_ns) == [x] and ledger.find_moved(x.ino, x.size + 1, 0) == []
        assert ledger.find_content(x.mac, x.size) == x and ledger.find_content(b"?" * 32, x.size) is None
        assert ledger.has_files_below(ROOT, TREE[0].path_id) and not ledger.has_files_below(ROOT, TREE[4].path_id)
        assert not ledger.has_files_below(ROOT, TREE[5].path_id) and not ledger.has_files_below(ROOT, PathId(b"?" * 16))


def test_only_touched_folders_change(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, TREE)
        ledger.stage([entry("/a/b/x", mark="new")])
        assert set(ledger.tree_after().changed) == {TREE[0].path_id, TREE[1].path_id}
        ledger.discard()
        assert ledger.tree_after().root == from_scratch(TREE)


def test_several_commits_in_one_run(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        for upto in range(1, len(TREE) + 1):
            commit(ledger, TREE[upto - 1 : upto])
            assert ledger.tree().root == from_scratch(TREE[:upto])
        commit(ledger)
        head = ledger.head()
        assert head is not None and head.decoded().number == len(TREE) + 1


def test_a_folder_becomes_a_file_and_back(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, TREE)
        below = list(ledger.descendants(TREE[0].path_id))
        now = [entry("/a"), TREE[4], TREE[5]]
        commit(ledger, now[:1], below)
        assert (ledger.tree().root, ledger.tree().entry_count) == (from_scratch(now), 3)
        commit(ledger, TREE[:4])
        assert ledger.tree().root == from_scratch(TREE) and ledger.tree().bytes_source == sum(k.size for k in TREE)


def test_rows_in_the_air_are_refused(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        ledger.stage([entry("/no/where")])
        with pytest.raises(ValueError, match="no living folder"):
            ledger.tree_after()
        ledger.discard()
        commit(ledger, TREE)
        ledger.stage_deaths([TREE[0]])
        with pytest.raises(ValueError, match="died, entries in it did not"):
            ledger.tree_after()
        ledger.discard()
        ledger.stage_deaths([TREE[0], TREE[1], TREE[3]])
        with pytest.raises(ValueError, match="died, entries in it did not"):
            ledger.tree_after()
        ledger.discard()
        ledger.stage([folder("/a/b/new")])
        ledger.stage_deaths([TREE[0], TREE[1], TREE[2], TREE[3]])
        with pytest.raises(ValueError, match="no living folder"):
            ledger.tree_after()


def test_a_commit_must_fit_what_is_staged(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, TREE)
        with pytest.raises(ValueError, match="another tree"):
            ledger.prepare(commit_for(ledger, entry_count=5))
        with pytest.raises(ValueError, match="does not follow"):
            ledger.prepare(commit_for(ledger, previous=Digest(b"p" * 32)))
        with pytest.raises(ValueError, match="no commit was prepared"):
            ledger.apply()
        ledger.prepare(commit_for(ledger))
        with pytest.raises(ValueError, match="waits to be applied"):
            ledger.stage([entry("/z")])


def test_killed_before_prepare_forgets_and_after_it_asks(home: AgentHome) -> None:
    ledger = Ledger.open(home)
    ledger.stage(TREE)
    ledger.close()
    ledger = Ledger.open(home)
    assert ledger.pending_commit() is None and ledger.tree_after().entry_count == 0
    ledger.stage(TREE)
    signed = commit_for(ledger)
    ledger.prepare(signed)
    ledger.close()
    with Ledger.open(home) as ledger:
        assert ledger.pending_commit() == signed and ledger.head() is None
        assert ledger.tree_after().root == from_scratch(TREE)
        ledger.apply()
        assert ledger.head() == signed and ledger.pending_commit() is None and ledger.tree().entry_count == 6
    with Ledger.open(home) as ledger:
        ledger.stage([entry("/z")])
        ledger.prepare(commit_for(ledger))
    with Ledger.open(home) as ledger:
        ledger.discard()
        assert ledger.head() == signed and ledger.pending_commit() is None
        assert ledger.tree_after().root == from_scratch(TREE)


def test_killed_inside_apply(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's transaction is in, the staged rows are still there: opening again finds nothing to do."""
    ledger = Ledger.open(home)
    ledger.stage(TREE)
    signed = commit_for(ledger)
    ledger.prepare(signed)
    monkeypatch.setattr(ledger._staging, "clear", lambda: None)
    ledger.apply()
    ledger.close()
    with Ledger.open(home) as ledger:
        assert ledger.head() == signed and ledger.pending_commit() is None
        commit(ledger, [entry("/z")])
        assert ledger.tree().root == from_scratch([*TREE, entry("/z")])


def test_refresh_corrects_only_the_same_entry(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, TREE)
        ledger.stage([entry("/z")])
        ledger.refresh([
            msgspec.structs.replace(TREE[3], ctime_ns=99, ino=98, settled=False, has_signature=False, size=7),
            entry("/a/b/x", mark="other", ctime_ns=99),
        ])  # fmt: skip
        kept = ledger.entry(TREE[3].parent_id, TREE[3].path_id)
        expected = msgspec.structs.replace(TREE[3], ctime_ns=99, ino=98, settled=False, has_signature=False)
        assert kept == expected and ledger.entry(TREE[2].parent_id, TREE[2].path_id) == TREE[2]


def test_a_rebuilt_ledger_must_be_the_signed_tree(home: AgentHome, tmp_path: Path) -> None:
    other = AgentHome(tmp_path / "other")
    other.create()
    with Ledger.open(other) as ledger:
        head = commit(ledger, TREE)
    with Ledger.open(home) as ledger:
        commit(ledger, [entry("/old")])
        for lie in (TREE[:-1], [*TREE, entry("/more")], [*TREE[:-1], entry("/l", mark="x")], TREE[1:]):
            with pytest.raises(IntegrityError):
                ledger.replace_all(lie, head)
            assert ledger.tree().root == from_scratch([entry("/old")])
        ledger.replace_all(reversed(TREE), head)
        assert ledger.head() == head and ledger.tree().root == from_scratch(TREE)
        commit(ledger, [entry("/a/b/x", mark="2")])
        loop = folder("/q")
        with pytest.raises(IntegrityError, match="no tree"):
            ledger.replace_all([msgspec.structs.replace(loop, parent_id=loop.path_id)], head)


@pytest.mark.parametrize("damage", ["garbage", "middle", "short", "tables", "format"])
def test_a_damaged_ledger_is_lost_and_nothing_else(home: AgentHome, damage: str) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, [entry(f"/{i}") for i in range(500)])
    data = home.ledger.read_bytes()
    if damage in ("tables", "format"):
        database = sqlite3.connect(home.ledger)
        database.executescript("DROP TABLE head" if damage == "tables" else "PRAGMA user_version = 9")
        database.close()
    else:
        changed = {"garbage": b"x" * 5000, "middle": data[:4096] + b"\xff" * (len(data) - 4096), "short": data[:9000]}
        home.ledger.write_bytes(changed[damage])
    with pytest.raises(LedgerLost, match=r"ledger\.db"), Ledger.open(home) as ledger:
        ledger.children(ROOT)
        ledger.stage([entry("/n")])
        ledger.tree_after()
    last_head(home)


def test_a_damaged_staging_file_is_made_anew(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, TREE)
    home.ledger.with_name("staging.db").write_bytes(b"no database" * 1000)
    with Ledger.open(home) as ledger:
        commit(ledger, [entry("/z")])


def test_a_disk_that_fails_is_no_damage(home: AgentHome) -> None:
    with Ledger.open(home) as ledger:
        commit(ledger, TREE)
        other = sqlite3.connect(home.ledger, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        ledger._db.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(LedgerError, match="cannot be used now .database is locked"):
            ledger.refresh([TREE[3]])
        other.execute("ROLLBACK")
        other.close()
        ledger.refresh([TREE[3]])
    home.ledger.unlink()
    home.ledger.mkdir()
    with pytest.raises(LedgerError):
        Ledger.open(home)


def test_signatures_nobody_names_are_swept(home: AgentHome) -> None:
    def put(known: Known) -> Path:
        text = known.version_id.hex()
        (home.signatures / text[:2]).mkdir(exist_ok=True)
        (home.signatures / text[:2] / text).write_bytes(b"s")
        return home.signatures / text[:2] / text

    with Ledger.open(home) as ledger:
        assert ledger.sweep_signatures() == 0
        commit(ledger, TREE)
        live, dead, staged = put(TREE[2]), put(entry("/dead")), put(entry("/staged"))
        ledger.stage([entry("/staged")])
        assert ledger.sweep_signatures() == 1
        assert (live.exists(), dead.exists(), staged.exists()) == (True, False, True)


def test_pending_segments(tmp_path: Path) -> None:
    path = tmp_path / "pending.log"
    a, b = SegmentId(b"a" * 16), SegmentId(b"b" * 16)
    with PendingSegments.open(path) as pending:
        pending.add_many([(a, b"A" * 32, 5), (b, b"B" * 32, 6)])
    with PendingSegments.open(path) as pending:
        assert pending.find(b"A" * 32, 5) == a and pending.find(b"A" * 32, 6) is None and len(pending) == 2
        pending.restrict_to([b, SegmentId(b"c" * 16)])
        assert pending.find(b"A" * 32, 5) is None and pending.find(b"B" * 32, 6) == b
        pending.clear()
        assert len(pending) == 0
    path.write_bytes(os.urandom(20_000))
    with PendingSegments.open(path) as pending:
        assert len(pending) == 0


class Model:
    """A tree of paths, edited at random; says what a backup would stage for each edit."""

    def __init__(self) -> None:
        self.live: dict[str, Known] = {}

    def edit(self, random_source: random.Random, ledger: Ledger) -> None:
        folders = ["", *(path for path, known in self.live.items() if known.kind == EntryKind.FOLDER)]
        what = random_source.random()
        if what < 0.55 or not self.live:
            path = f"{random_source.choice(folders)}/{random_source.randrange(6)}"
            kind = random_source.choice([EntryKind.FILE, EntryKind.FILE, EntryKind.FOLDER, EntryKind.OTHER])
            before = self.live.get(path)
            if before is not None and before.kind == EntryKind.FOLDER and kind is not EntryKind.FOLDER:
                self._kill(path, ledger, itself=False)
            self.live[path] = entry(path, kind, str(random_source.random()))
            ledger.stage([self.live[path]])
        else:
            self._kill(random_source.choice(list(self.live)), ledger, itself=True)

    def _kill(self, path: str, ledger: Ledger, *, itself: bool) -> None:
        dead = [other for other in self.live if other.startswith(path + "/") or (itself and other == path)]
        ledger.stage_deaths([self.live.pop(other) for other in dead])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), rounds=st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_digests_are_those_of_the_tree_from_scratch(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rounds: list[int]
) -> None:
    home = AgentHome(tmp_path_factory.mktemp("ledger"))
    home.create()
    source, model = random.Random(seed), Model()
    with Ledger.open(home) as ledger:
        for edits in rounds:
            for _ in range(edits):
                model.edit(source, ledger)
            after = ledger.tree_after()
            assert after.root == from_scratch(model.live.values())
            assert after.entry_count == len(model.live)
            assert after.bytes_source == sum(known.size for known in model.live.values())
            ledger.prepare(commit_for(ledger))
            ledger.apply()
            live = ledger.tree()
            assert (live.root, live.entry_count, live.bytes_source) == (
                after.root, after.entry_count, after.bytes_source
            )  # fmt: skip
            found = {k.path_id: k for k in [*ledger.children(ROOT).values()]}
            for top in list(found):
                found.update((k.path_id, k) for k in ledger.descendants(top))
            assert found == {known.path_id: known for known in model.live.values()}
