"""What a snapshot lost and gained, measured in real catalogs: moves are no loss, and what does not compress is seen."""

from __future__ import annotations

import random
from pathlib import Path

from appliance.store.upkeep.storms import Storm, measure
from tests.appliance.store_builder import Client, make_repository
from transport.names import VersionId

TEXT = b"Ordonnance du jour : paracetamol 500 mg, trois fois par jour. " * 40


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(len(TEXT))


def begin_with(client: Client, count: int, folder: bytes = b"a") -> list[VersionId]:
    """`count` files of compressible text in a first snapshot."""
    client.begin()
    client.put_folders((folder,))
    versions = []
    for number in range(count):
        version, items = client.whole(b"%d " % number + TEXT)
        client.stage(*items, client.entries(client.entry((folder, b"f%d" % number), version)))
        versions.append(version)
    client.commit()
    return versions


def test_encrypted_and_renamed(tmp_path: Path) -> None:
    with make_repository(tmp_path / "r") as repository:
        client = Client(repository)
        begin_with(client, 40)
        client.begin()
        for number in range(12):
            version, items = client.whole(noise(number))
            client.stage(*items, client.entries(client.entry((b"a", b"f%d.locked" % number), version)))
            client.stage(client.deaths(client.path(b"a", b"f%d" % number)))
        client.commit()
        assert measure(tmp_path / "r", 2) == Storm(2, 41, 12, 12, 100)
        first = measure(tmp_path / "r", 1)
        assert first is not None and (first.entries_before, first.files_lost) == (0, 0)
        assert measure(tmp_path / "r", 3) is None


def test_encrypted_in_place_and_replaced_by_what_compresses(tmp_path: Path) -> None:
    with make_repository(tmp_path / "r") as repository:
        client = Client(repository)
        begin_with(client, 40)
        for snapshot, content in ((2, noise), (3, lambda number: b"version two, %d " % number + TEXT)):
            client.begin()
            for number in range(12):
                version, items = client.whole(content(number))
                client.stage(*items, client.entries(client.entry((b"a", b"f%d" % number), version)))
            client.commit()
            storm = measure(tmp_path / "r", snapshot)
            assert storm is not None and (storm.files_lost, storm.files_fresh) == (12, 12)
            assert storm.incompressible_percent == (100 if snapshot == 2 else 0)


def test_a_moved_folder_and_new_times_lose_nothing(tmp_path: Path) -> None:
    with make_repository(tmp_path / "r") as repository:
        client = Client(repository)
        versions = begin_with(client, 40)
        client.begin()
        client.put_folders((b"b",))
        for number, version in enumerate(versions[:30]):
            client.stage(client.entries(client.entry((b"b", b"f%d" % number), version)))
            client.stage(client.deaths(client.path(b"a", b"f%d" % number)))
        for number, version in enumerate(versions[30:], 30):
            client.stage(client.entries(client.entry((b"a", b"f%d" % number), version, b"another time")))
        client.commit()
        storm = measure(tmp_path / "r", 2)
        assert storm is not None and (storm.files_lost, storm.files_fresh) == (0, 0)


def test_what_is_only_added_and_only_deleted(tmp_path: Path) -> None:
    with make_repository(tmp_path / "r") as repository:
        client = Client(repository)
        begin_with(client, 40)
        client.begin()
        for number in range(20):
            version, items = client.whole(noise(number))
            client.stage(*items, client.entries(client.entry((b"a", b"scan-%d.jpg" % number), version)))
        client.commit()
        client.begin()
        client.stage(client.deaths(*[client.path(b"a", b"f%d" % number) for number in range(25)]))
        client.commit()
        assert measure(tmp_path / "r", 2) == Storm(2, 41, 0, 20, 100)
        assert measure(tmp_path / "r", 3) == Storm(3, 61, 25, 0, 0)
