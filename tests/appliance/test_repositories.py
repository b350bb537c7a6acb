"""The service's open repositories: kept while they are used, given up when another process wants them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance import repositories as module
from appliance.repositories import Repositories
from appliance.store.errors import BusyRepositoryError
from appliance.store.repository import Repository
from appliance.store.upkeep.access import Access
from tests.appliance.store_builder import make_repository

PATIENCE_S = 30.0


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for machine in ("aa", "bb"):
        make_repository(tmp_path / machine).close()
    return tmp_path


def test_a_repository_stays_open_between_pieces_of_work(house: Path) -> None:
    repositories = Repositories(house)
    repository = repositories.get("aa")
    repositories.done("aa")
    repositories.give_way()
    assert repositories.get("aa") is repository
    with pytest.raises(BusyRepositoryError):
        Repository.open(house / "aa")
    repositories.close()
    Repository.open(house / "aa").close()


def test_the_idle_are_closed_the_busy_and_used_are_not(house: Path) -> None:
    repositories = Repositories(house)
    repositories.get("aa")
    repositories.get("bb")
    repositories.done("bb")
    later = 1e12
    repositories.close_idle(frozenset({"bb"}), later)
    for machine in ("aa", "bb"):
        with pytest.raises(BusyRepositoryError):
            Repository.open(house / machine)
    repositories.close_idle(frozenset(), later)
    Repository.open(house / "bb").close()
    with pytest.raises(BusyRepositoryError):
        Repository.open(house / "aa")
    repositories.close()


def test_no_more_than_so_many_stay_open(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_LIMIT", 2)
    for machine in ("cc", "dd"):
        make_repository(house / machine).close()
    repositories = Repositories(house)
    for machine in ("aa", "bb", "aa", "cc"):
        repositories.get(machine)
        repositories.done(machine)
    Repository.open(house / "bb").close()
    repositories.get("aa")
    repositories.get("cc")
    repositories.get("dd")
    repositories.done("dd")
    Repository.open(house / "dd").close()
    for machine in ("aa", "cc"):  # at work
        with pytest.raises(BusyRepositoryError):
            Repository.open(house / machine)
    repositories.close()


class Waiting:
    """Somebody who wants to write, in a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self.got = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(folder,))
        self.thread.start()

    def _run(self, folder: Path) -> None:
        with Repository.open(folder, wait_s=PATIENCE_S):
            self.got.set()


def test_an_unused_repository_is_given_up_to_who_waits(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    repositories = Repositories(house)
    first = repositories.get("aa")
    repositories.done("aa")
    waiting = Waiting(house / "aa")
    while not waiting.got.is_set():
        repositories.give_way()
    assert repositories.get("aa") is not first
    repositories.close()
    waiting.thread.join(PATIENCE_S)


def test_a_used_one_is_given_up_after_the_piece_of_work(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    repositories = Repositories(house)
    repository = repositories.get("aa")
    waiting = Waiting(house / "aa")
    while not repository.wanted():
        repositories.give_way()
    repositories.give_way()
    assert not waiting.got.is_set() and repository.head_number == 0
    repositories.done("aa")
    assert waiting.got.wait(PATIENCE_S)
    waiting.thread.join(PATIENCE_S)
    repositories.close()


def test_waiting_for_one_machine_holds_up_no_other(house: Path) -> None:
    repositories = Repositories(house, wait_s=PATIENCE_S)
    with Access(house / "aa") as access:
        with access.turn():
            thread = threading.Thread(target=repositories.get, args=("aa",))
            thread.start()
            while not access.repository.wanted():
                pass
            repositories.get("bb")
            repositories.done("bb")
            repositories.give_way()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    repositories.done("aa")
    repositories.close()


def test_who_keeps_it_too_long_is_named(house: Path) -> None:
    repositories = Repositories(house, wait_s=0.05)
    with Access(house / "aa") as access, access.turn(), pytest.raises(BusyRepositoryError, match="another process"):
        repositories.get("aa")
    repositories.done("aa")
    assert repositories.get("aa").head_number == 0
    repositories.close()
