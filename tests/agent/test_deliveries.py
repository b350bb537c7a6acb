"""What a delivery may do to a machine, whatever the appliance says: bring its own files back, into a new folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import receiving
from agent.landing_rules import LandingError, leads_out
from agent.restore import RestoreReport, restore
from agent.settings import AgentHome
from tests.support.memory_source import Item, LyingSource, Repository
from transport import messages as m
from transport.errors import IntegrityError, UsageError
from transport.names import ROOT, PathId
from transport.snapshot_reader import SnapshotSource, split_path
from transport.tree import FileType


def ids(repository: Repository, path: bytes) -> list[PathId]:
    """The path ids on the way to a path, its own last."""
    found, at = [], ROOT
    for name in split_path(path):
        at = repository.sealer.keys.path_id(at, name)
        found.append(at)
    return found


def selected(repository: Repository, *paths: bytes) -> m.DeliveredSelection:
    """What the appliance sends for these paths."""
    chains = [ids(repository, path) for path in paths]
    return m.DeliveredSelection(1, [chain[-1] for chain in chains], [one for chain in chains for one in chain[:-1]])


def deliver(
    repository: Repository, target: Path, selection: m.DeliveredSelection, source: SnapshotSource | None = None
) -> RestoreReport:
    target.mkdir(mode=0o700, exist_ok=True)
    status = target.stat()
    return restore(
        source or repository,
        repository.sealer,
        repository.signing.public,
        witness=repository.head,
        target=os.fsencode(target),
        delivered=selection,
        quarantine=(status.st_dev, status.st_ino),
    )


def items() -> list[Item]:
    return [
        Item(b"/srv/doc/letter", b"letter", mode=0o4755),
        Item(b"/srv/doc/deep/er/note", b"note"),
        Item(b"/srv/other", b"other"),
        Item(b"/etc/shadow", b"secret"),
        *(Item(b"/srv/many/%04d/x" % n, b"x") for n in range(120)),
    ]


@pytest.fixture
def repository() -> Repository:
    made = Repository()
    made.commit(items())
    return made


def files(folder: Path) -> Sequence[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_only_what_was_selected_lands_and_without_privileges(repository: Repository, tmp_path: Path) -> None:
    report = deliver(repository, tmp_path / "q", selected(repository, b"/srv/doc", b"/srv/other"))
    assert files(tmp_path / "q") == ["srv/doc/deep/er/note", "srv/doc/letter", "srv/other"] and not report.errors
    assert stat.S_IMODE((tmp_path / "q/srv/doc/letter").stat().st_mode) == 0o755


def test_few_paths_list_few_folders_and_many_folders_the_tree(repository: Repository, tmp_path: Path) -> None:
    deliver(repository, tmp_path / "a", selected(repository, b"/srv/other"))
    assert repository.asked_trees == 0 and len(repository.asked_folders) == 2
    report = deliver(repository, tmp_path / "b", selected(repository, b"/srv/many", b"/etc/shadow"))
    assert repository.asked_trees == 1 and report.files == 121
    everything = deliver(repository, tmp_path / "c", m.DeliveredSelection(1, [], []))
    assert everything.files == len(items())


def test_ids_that_mean_nothing_here_are_said_and_nothing_else_comes(repository: Repository, tmp_path: Path) -> None:
    selection = selected(repository, b"/srv/other")
    unknown = PathId(b"u" * 16)
    report = deliver(
        repository, tmp_path / "q", m.DeliveredSelection(1, [*selection.paths, unknown], [*selection.above, unknown])
    )
    assert files(tmp_path / "q") == ["srv/other"] and [error.path for error in report.errors] == [
        unknown.hex().encode()
    ]
    with pytest.raises(UsageError):
        deliver(repository, tmp_path / "r", m.DeliveredSelection(1, [unknown], []))
    assert not (tmp_path / "r").exists() or os.listdir(tmp_path / "r") == []


def test_a_nested_selection_comes_once(repository: Repository, tmp_path: Path) -> None:
    report = deliver(repository, tmp_path / "q", selected(repository, b"/srv/doc", b"/srv/doc/letter"))
    assert report.files == 2 and not report.errors


def test_nothing_that_stands_there_is_replaced(repository: Repository, tmp_path: Path) -> None:
    target = tmp_path / "q"
    (target / "srv" / "doc").mkdir(parents=True)
    old = target / "srv" / "doc" / "letter"
    old.write_text("older, and mine")
    os.utime(old, (1, 1))
    (target / "srv" / "doc" / "deep").symlink_to(tmp_path)
    report = deliver(repository, target, selected(repository, b"/srv/doc"))
    assert old.read_text() == "older, and mine"
    assert sorted(error.path for error in report.errors) == [
        *(b"/srv/doc/deep", b"/srv/doc/deep/er", b"/srv/doc/deep/er/note", b"/srv/doc/letter")
    ]
    assert not (tmp_path / "er").exists()


OUT = (
    *(b"/etc/passwd", b"../../../x", b"doc/../../../../x", b"a/../b"),
    *(b"\\\\host\\share", b"C:\\x", b"..\\..\\..\\..\\x"),
)
IN = (b"letter", b"./letter", b"deep/er", b"..", b"../other", b"../../srv/other")


@pytest.mark.parametrize("target", [*OUT, *IN])
def test_links_lead_nowhere_else(target: bytes, tmp_path: Path) -> None:
    repository = Repository()
    repository.commit([*items(), Item(b"/srv/doc/link", type=FileType.SYMLINK, target=target)])
    report = deliver(repository, tmp_path / "q", selected(repository, b"/srv/doc"))
    link = tmp_path / "q" / "srv" / "doc" / "link"
    if target in OUT:
        assert not link.is_symlink()
        assert [error.path for error in report.errors] == [b"/srv/doc/link"] and "lead out" in report.errors[0].reason
    else:
        assert os.readlink(os.fsencode(link)) == target and not report.errors
        assert link.resolve().is_relative_to(tmp_path / "q")


def test_two_links_together_lead_nowhere_else_either() -> None:
    """`self/..` is the folder above the target, where `self` is a link to the target: only the beginning goes up."""
    assert leads_out(b"self/..", 0) and leads_out(b"../self/..", 1) and not leads_out(b"..", 1) and leads_out(b"..", 0)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"", b"/etc/cron.d/x"])
def test_hostile_names_never_land(name: bytes, tmp_path: Path) -> None:
    """Sealed by whoever has the confided key, and signed as only a stolen PC could."""
    repository = Repository()
    repository.commit([*items(), Item(b"/srv/doc/evil", b"evil", name=name)])
    with pytest.raises(IntegrityError):
        deliver(repository, tmp_path / "q", selected(repository, b"/srv/doc"))
    assert not files(tmp_path / "q")


def test_an_appliance_that_shows_another_tree_is_not_believed(repository: Repository, tmp_path: Path) -> None:
    forged = repository.fork()
    number = forged.commit([*items(), Item(b"/srv/doc/evil.sh", b"#!/bin/sh", mode=0o755)])

    class Forged(LyingSource):
        def children(self, snapshot: int, folder: PathId):  # type: ignore[no-untyped-def]
            return forged.children(number, folder)

    with pytest.raises(IntegrityError):
        deliver(repository, tmp_path / "q", selected(repository, b"/srv/doc"), Forged(repository))
    assert not files(tmp_path / "q")


def test_a_folder_that_was_exchanged_is_not_entered(repository: Repository, tmp_path: Path) -> None:
    """Between its making and its filling: whoever owns the folder above may do that."""
    made, elsewhere = tmp_path / "q", tmp_path / "elsewhere"
    made.mkdir()
    elsewhere.mkdir()
    status = made.stat()
    made.rmdir()
    made.symlink_to(elsewhere)
    with pytest.raises(LandingError, match="took the place"):
        restore(
            repository, repository.sealer, repository.signing.public, witness=repository.head,
            target=os.fsencode(made), delivered=selected(repository, b"/srv/doc"),
            quarantine=(status.st_dev, status.st_ino),
        )  # fmt: skip
    assert not list(elsewhere.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "agent")
    made.create()
    return made


def folder_of(home: AgentHome, number: int, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(receiving, "base_folder", lambda home, settings=None: base)
    return receiving.folder_of(home, number, "2026-11-25").path


def test_each_delivery_has_a_folder_of_its_own_and_goes_on_there(
    home: AgentHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "received"
    base.mkdir()
    (base / "Pilulier restauration 2026-11-25 1").symlink_to(tmp_path)
    first = folder_of(home, 7, base, monkeypatch)
    assert first.name.endswith(" 2") and stat.S_IMODE(first.stat().st_mode) == 0o700
    assert folder_of(home, 8, base, monkeypatch) != first
    assert folder_of(home, 7, base, monkeypatch) == first, "cut, and begun again"
    first.rmdir()
    first.symlink_to(tmp_path)
    again = folder_of(home, 7, base, monkeypatch)
    assert again != first and not again.is_symlink(), "what took its place is not entered"
    receiving.ended(home, 7)
    assert folder_of(home, 7, base, monkeypatch) != again, "an end is an end"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_service_that_runs_as_root_gives_it_to_whoever_owns_the_folder_above(
    home: AgentHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "received"
    base.mkdir()
    os.chown(base, 1234, 1235)
    monkeypatch.setattr(receiving, "base_folder", lambda home, settings=None: base)
    place = receiving.folder_of(home, 7, "2026-11-25")
    status = place.path.stat()
    assert (status.st_uid, status.st_gid) == (place.uid, place.gid) == (1234, 1235)
    assert receiving.folder_of(home, 7, "2026-11-25") == place


def test_a_folder_that_cannot_be_made_is_a_sentence(
    home: AgentHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LandingError, match="--folder DIR"):
        folder_of(home, 1, tmp_path / "file" / "x", monkeypatch)


def test_a_damaged_memory_forgets_and_breaks_nothing(home: AgentHome) -> None:
    home.deliveries.write_text("{")
    assert receiving.read(home) == receiving.Received() and receiving.waiting(home) == []


def test_no_message_of_a_delivery_can_name_a_place() -> None:
    """A field for a folder, a name or a command would be a way to choose where something lands or what runs."""
    fields = {field for kind in (m.Delivery, m.DeliveredSelection, m.Deliveries) for field in kind.__struct_fields__}
    assert fields == {
        *("number", "snapshot", "snapshot_ms", "sender", "created_ms", "expires_ms", "accepted", "files", "bytes"),
        *("paths", "above", "deliveries", "source"),
    }
