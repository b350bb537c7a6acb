"""What each snapshot replaced or lost, counted from real catalogs."""

from __future__ import annotations

from pathlib import Path

from appliance.store.upkeep.changes import SnapshotChange, snapshot_changes
from tests.appliance.store_builder import Client, make_repository


def test_replaced_and_lost_entries_are_counted_and_new_ones_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    with make_repository(folder) as repository:
        client = Client(repository)
        client.begin()
        names = [b"file-%d" % number for number in range(40)]
        client.put_folders((b"a",))
        version, items = client.whole(b"content")
        client.stage(*items, client.entries(*[client.entry((b"a", name), version) for name in names]))
        client.commit()
        client.begin()
        changed, items = client.whole(b"sealed by somebody else")
        client.stage(*items, client.entries(*[client.entry((b"a", name), changed) for name in names[:30]]))
        client.stage(client.deaths(*[client.path(b"a", name) for name in names[30:33]]))
        client.stage(client.entries(client.entry((b"a", b"new"), changed)))
        client.commit()
        client.begin()
        client.commit()
        client.begin()
        # Staged and not committed: nobody's change yet.
        client.stage(client.deaths(client.path(b"a", names[0])))
        expected = [SnapshotChange(1, 0, 0), SnapshotChange(2, 41, 33), SnapshotChange(3, 39, 0)]
        assert snapshot_changes(folder, 0) == expected
        assert snapshot_changes(folder, 1) == expected[1:]
        assert snapshot_changes(folder, 3) == []


def test_entries_at_the_root_and_anywhere_are_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    with make_repository(folder) as repository:
        client = Client(repository)
        client.begin()
        folders = [(b"folder-%d" % number,) for number in range(300)]
        client.put_folders(*folders)
        version, items = client.whole(b"x")
        client.stage(*items, client.entries(*[client.entry((*name, b"f"), version) for name in folders]))
        client.commit()
        client.begin()
        client.stage(client.deaths(*[client.path(*name, b"f") for name in folders]))
        client.stage(client.deaths(*[client.path(*name) for name in folders]))
        client.commit()
        assert snapshot_changes(folder, 1) == [SnapshotChange(2, 600, 600)]
