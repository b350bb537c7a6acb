"""`check` finds what is wrong, names pack and offset, and mends nothing; the rest still reads."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from appliance.store.errors import DamagedRecordError
from appliance.store.repository import Repository
from appliance.store.upkeep.check import CheckReport
from tests.appliance.store_builder import Client, content, make_repository


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = Client(make_repository(tmp_path / "r"))
    client.begin()
    client.put_folders((b"a",), (b"e",))
    client.put_file((b"a", b"one"), client.random.randbytes(2_000_000))
    client.put_file((b"two",), client.random.randbytes(300_000))
    client.commit()
    client.begin()
    base = client.live[client.path(b"a", b"one")].version_id
    version, items = client.delta(base, [(0, 500_000), b"x", (500_001, 1_499_999)])
    client.stage(*items, client.entries(client.entry((b"a", b"one"), version)))
    client.commit()
    client.repository.close()
    return client


def check(tmp_path: Path, *, read_data: bool = False) -> CheckReport:
    with Repository.open(tmp_path / "r", read_only=True) as repository:
        return repository.check(read_data=read_data)


def test_a_sound_repository_has_nothing_to_report(client: Client, tmp_path: Path) -> None:
    size = (tmp_path / "r" / "packs" / "00000001.pack").stat().st_size
    for read_data in (False, True):
        report = check(tmp_path, read_data=read_data)
        assert report.ok and report.errors == [] and report.records_checked == 16
        assert report.bytes_read == size if read_data else report.bytes_read < size // 2


def test_a_flipped_byte_in_a_segment_is_named_and_the_others_still_read(client: Client, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        rows = catalog.execute("SELECT id, offset, length FROM segment ORDER BY number").fetchall()
    catalog.close()
    segment, offset, length = rows[1]
    flip(tmp_path, offset + 44 + length // 2)
    assert check(tmp_path).ok
    report = check(tmp_path, read_data=True)
    assert [(error.pack, error.offset, error.kind) for error in report.errors] == [("00000001.pack", offset, "SEGMENT")]
    with Repository.open(tmp_path / "r", read_only=True) as repository:
        with pytest.raises(DamagedRecordError, match=f"00000001.pack at byte {offset}"):
            repository.read_segment(segment)
        unsummed = repository.read_segment(segment, summed=False)
        assert len(unsummed) == length - 16, "whoever opens the seal meets the flipped byte"
        for other, _, _ in (rows[0], *rows[2:]):
            repository.read_segment(other)
        two = client.live[client.path(b"two")].version_id
        assert content(repository, two) == client.contents[two]


def flip(tmp_path: Path, at: int) -> None:
    path = tmp_path / "r" / "packs" / "00000001.pack"
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_any_flipped_byte_of_any_other_record_is_found_without_reading_data(client: Client, tmp_path: Path) -> None:
    whole = (tmp_path / "r" / "packs" / "00000001.pack").read_bytes()
    with sqlite3.connect(tmp_path / "r" / "catalog.sqlite") as catalog:
        segments = catalog.execute("SELECT offset, offset + 44 + length FROM segment").fetchall()
    catalog.close()
    others = [at for at in range(len(whole)) if not any(start <= at < end for start, end in segments)]
    for at in others[:: max(1, len(others) // 40)]:
        flip(tmp_path, at)
        report = check(tmp_path)
        assert not report.ok and report.errors[0].pack == "00000001.pack", at
        flip(tmp_path, at)
    assert check(tmp_path, read_data=True).ok


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE snapshot SET received_ms = received_ms + 1 WHERE number = 1", "COMMIT"),
        ("DELETE FROM snapshot WHERE number = 1", "COMMIT"),
        ("UPDATE snapshot SET signature = zeroblob(64) WHERE number = 2", "COMMIT"),
        ("UPDATE segment SET plain = plain - 1 WHERE number = 1", "SEGMENT"),
        ("UPDATE segment SET offset = offset + 1 WHERE number = 2", "SEGMENT"),
        ("DELETE FROM page WHERE number = 1", "extents"),
        ("UPDATE page SET length = 5 WHERE number = 1", "PAGES"),
        ("UPDATE version SET size = size + 1 WHERE span = 0", "VERSIONS"),
        ("DELETE FROM version WHERE span = 0", "VERSIONS"),
        ("UPDATE entry SET sealed = zeroblob(30) WHERE kind = 0", "ENTRIES"),
        ("DELETE FROM entry WHERE kind = 0 AND died > 100", "tree"),
        ("UPDATE entry SET died = 2 WHERE parent = zeroblob(16) AND kind = 0", "tree"),
        ("DELETE FROM entry WHERE parent = zeroblob(16) AND kind = 1", "tree"),
        ("UPDATE folder SET digest = zeroblob(32) WHERE path = zeroblob(16)", "tree"),
        ("DELETE FROM folder WHERE path != zeroblob(16)", "tree"),
    ],
)
def test_a_catalog_that_says_something_else_is_found(
    client: Client, tmp_path: Path, statement: str, kind: str
) -> None:
    catalog = sqlite3.connect(tmp_path / "r" / "catalog.sqlite")
    assert catalog.execute(statement).rowcount > 0
    catalog.commit()
    catalog.close()
    report = check(tmp_path)
    assert not report.ok
    assert kind in {error.kind for error in report.errors}


def test_missing_foreign_and_shortened_packs_are_named(client: Client, tmp_path: Path) -> None:
    pack = tmp_path / "r" / "packs" / "00000001.pack"
    whole = pack.read_bytes()
    os.truncate(pack, 1000)
    report = check(tmp_path)
    assert ("00000001.pack", 1000, "pack") in {(error.pack, error.offset, error.kind) for error in report.errors}
    pack.unlink()
    assert any("is missing" in error.detail for error in check(tmp_path).errors)
    other = Client(make_repository(tmp_path / "other"))
    other.repository.close()
    pack.write_bytes(whole.replace(b"repository-id-01", b"repository-id-02", 1))
    assert any(error.offset == 0 for error in check(tmp_path).errors)


def test_a_check_runs_beside_a_writer(client: Client, tmp_path: Path) -> None:
    with Repository.open(tmp_path / "r") as writer, Repository.open(tmp_path / "r", read_only=True) as reader:
        client.repository = writer
        client.begin()
        client.put_file((b"more",), b"not committed")
        assert reader.check(read_data=True).ok
        client.commit()
        assert reader.check(read_data=True).ok
