"""A host that rewrites its own disk: packs and catalog changed behind a running system, with checksums that hold.

A sample of tests/agent/test_hostile_host.py through real processes: the appliance serves whatever it was left with,
and the agent must name what is wrong, restore nothing that is not proved, and take the true repository again after.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.store.layout import Layout
from appliance.store.packs import Found, PackWalk
from appliance.store.records import OVERHEAD_BYTES, Kind, encode_head
from tests.support.processes import Agent, House, landed

MIB = 1 << 20


@contextlib.contextmanager
def catalog(repository: Path) -> Iterator[sqlite3.Connection]:
    """The catalog, for writing, while nobody serves it."""
    connection = sqlite3.connect(Layout(repository).catalog, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def segments(pack: Path) -> list[tuple[int, bytes]]:
    """Offset and payload of each SEGMENT record."""
    walk = PackWalk(pack, pack.stat().st_size, read_data=True)
    return [(s.offset, bytes(s.payload)) for s in walk if isinstance(s, Found) and s.kind == Kind.SEGMENT]


def rewrite(pack: Path, offset: int, payload: bytes) -> None:
    """Put another payload of the same length in a record, with a checksum that holds."""
    with open(pack, "r+b") as file:
        file.seek(offset)
        file.write(encode_head(Kind.SEGMENT, [payload]) + payload)


def swap_segments(repository: Path) -> None:
    """Each segment of the size that most have gets the sealed bytes of the next one, under its own id."""
    (pack,) = sorted((repository / "packs").glob("*.pack"))
    found = segments(pack)
    lengths = [len(payload) for _, payload in found]
    most = max(set(lengths), key=lengths.count)
    same = [(offset, payload) for offset, payload in found if len(payload) == most]
    assert len(same) >= 2
    for (offset, payload), (_, other) in zip(same, [*same[1:], same[0]], strict=True):
        rewrite(pack, offset, payload[:16] + other[16:])


def zero_segments(repository: Path) -> None:
    """The ciphertext of every segment becomes zero."""
    (pack,) = sorted((repository / "packs").glob("*.pack"))
    for offset, payload in segments(pack):
        rewrite(pack, offset, payload[:96] + bytes(len(payload) - 96))
    assert OVERHEAD_BYTES == 44


def _sql(statement: str) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        with catalog(repository) as connection:
            assert connection.execute(statement).rowcount > 0, statement

    return change


NEWEST = "(SELECT max(number) FROM snapshot)"
REFUSED_WHOLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "the newest commit hidden": (_sql(f"DELETE FROM snapshot WHERE number = {NEWEST}"), "older history"),
    "the newest hidden as retired": (
        _sql(f"UPDATE snapshot SET retired = 1 WHERE number = {NEWEST}"), "no longer holds snapshot"
    ),
    "a signature exchanged": (
        _sql("UPDATE snapshot SET signature = (SELECT signature FROM snapshot WHERE number = 1)"),
        "signature|another one",
    ),
    "a file hidden": (_sql("DELETE FROM entry WHERE kind = 0 AND size > 1000000"), "is not what snapshot|signed"),
    "a file's seal exchanged": (
        _sql("UPDATE entry SET sealed = (SELECT max(sealed) FROM entry) WHERE kind = 0"), "altered|is not what"
    ),
}
COSTS_FILES: dict[str, Callable[[Path], None]] = {
    "segments swapped, checksums made to hold": swap_segments,
    "segments zeroed, checksums made to hold": zero_segments,
    "contents exchanged in the catalog": _sql(
        "UPDATE version SET body = (SELECT max(v.body) FROM version v WHERE v.size = version.size)"
        " WHERE size > 1000000"
    ),
}


@pytest.fixture
def backed_up(house: House, tmp_path: Path) -> tuple[Agent, Path, Path]:
    """An agent with two snapshots, its sources, and a true copy of its repository."""
    rng = random.Random("hostile host")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"scan-{number}").write_bytes(rng.randbytes(MIB + 300_000))
    (source / "letter").write_bytes(b"first")
    agent = house.agent(source)
    agent.backup()
    (source / "letter").write_bytes(b"second, and longer")
    assert agent.backup()["snapshot"] == 2
    house.appliance.stop()
    true = tmp_path / "true"
    shutil.copytree(house.repository(agent), true)
    return agent, source, true


def put_back(house: House, agent: Agent, true: Path) -> Path:
    """The true repository again, for the next lie."""
    repository = house.repository(agent)
    shutil.rmtree(repository)
    shutil.copytree(true, repository)
    return repository


def serve(house: House, agent: Agent) -> None:
    """Serve on any free port: this test starts the service too often to hold on to one."""
    house.appliance.address = ""
    house.appliance.serve()
    agent.by_way_of(house.appliance.address)


@pytest.mark.slow
def test_a_rewritten_disk_is_refused(house: House, tmp_path: Path, backed_up: tuple[Agent, Path, Path]) -> None:
    agent, source, true = backed_up
    for number, (name, (change, says)) in enumerate(REFUSED_WHOLE.items()):
        change(put_back(house, agent, true))
        serve(house, agent)
        target = tmp_path / f"refused-{number}"
        told = agent.told("restore", "--target", str(target), *house.login(), code=1)
        assert any(part in told for part in says.split("|")), (name, told)
        assert not any(path.is_file() for path in target.rglob("*")), name
        house.appliance.stop()

    for number, (name, change) in enumerate(COSTS_FILES.items()):
        change(put_back(house, agent, true))
        serve(house, agent)
        target = tmp_path / f"costs-{number}"
        report = agent.restore(target, house.admin if not number else house.account(), expect=3)
        damaged = {os.path.basename(error["path"]) for error in report["errors"]}
        assert damaged, name
        stand = {path.name for path in landed(target, source).iterdir()}
        assert stand == {path.name for path in source.iterdir()} - damaged, name
        for path in stand:
            assert (landed(target, source) / path).read_bytes() == (source / path).read_bytes(), name
        house.appliance.stop()

    put_back(house, agent, true)
    serve(house, agent)
    agent.restore(tmp_path / "whole", house.account())
    for path in source.iterdir():
        assert landed(tmp_path / "whole", path).read_bytes() == path.read_bytes()
