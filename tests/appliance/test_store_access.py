"""The repository by turns: maintenance gives way between portions, and a second maintenance is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.store.errors import BusyRepositoryError
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from tests.appliance.store_builder import make_repository

PATIENCE_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_repository(tmp_path / "r").close()
    return tmp_path / "r"


def test_a_turn_is_a_writer_and_ends(folder: Path) -> None:
    with Access(folder) as access:
        with access.turn() as repository:
            assert access.repository is repository
            with access.turn() as within:
                assert within is repository
            with pytest.raises(BusyRepositoryError):
                Repository.open(folder)
            assert access.pause() is repository, "nobody waits, so the turn goes on"
        Repository.open(folder).close()
        with access.reading() as reader:
            Repository.open(folder).close()
            assert reader.head_number == 0


def test_a_second_maintenance_is_refused_until_the_first_ends(folder: Path) -> None:
    with Access(folder), pytest.raises(BusyRepositoryError, match="another process"), Access(folder):
        pass
    with Access(folder) as access, access.turn():
        pass


def test_pause_gives_way_to_who_waits_and_comes_back(folder: Path) -> None:
    served = threading.Event()

    def serve() -> None:
        with Repository.open(folder, wait_s=PATIENCE_S) as repository:
            assert repository.head_number == 0
            served.set()

    with Access(folder) as access, access.turn() as first:
        thread = threading.Thread(target=serve)
        thread.start()
        while not served.is_set():
            repository = access.pause()
        thread.join(PATIENCE_S)
        assert repository is not first
        with repository.maintaining() as catalog:
            assert catalog.state().head == 0


def test_waiting_for_a_turn_is_bounded(folder: Path) -> None:
    with (
        Repository.open(folder),
        Access(folder, wait_s=0.1) as access,
        pytest.raises(BusyRepositoryError, match="written by another process"),
        access.turn(),
    ):
        pass


def test_an_error_within_a_turn_ends_it(folder: Path) -> None:
    with Access(folder) as access:
        with pytest.raises(ZeroDivisionError), access.turn():
            raise ZeroDivisionError
        Repository.open(folder).close()
