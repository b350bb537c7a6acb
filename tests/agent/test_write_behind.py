"""Advice about pages: bytes stay what they are, handles are given back, and a slow disk or odd file ends it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from agent import write_behind
from agent.write_behind import BEHIND_BYTES, WORTH_BYTES, WriteBehind


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def write(path: Path, data: bytes) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(handle, data, 0)
    return handle


def test_bytes_stay_and_handles_come_back(tmp_path: Path) -> None:
    data = random.Random("behind").randbytes(1 << 20)
    before = handles()
    behind = WriteBehind()
    count = (BEHIND_BYTES >> 20) + 20
    for number in range(count):
        behind.wrote(write(tmp_path / str(number), data), 0, len(data))
        assert handles() - before <= (BEHIND_BYTES >> 20) + 1
    assert handles() > before
    behind.close()
    assert handles() == before
    assert all((tmp_path / str(number)).read_bytes() == data for number in range(count))


def test_what_takes_no_advice_is_only_closed(tmp_path: Path) -> None:
    before = handles()
    reader, writer = os.pipe()
    behind = WriteBehind()
    behind.wrote(writer, 0, WORTH_BYTES)  # a pipe: ESPIPE
    behind.wrote(os.dup(reader), 0, WORTH_BYTES)
    os.close(reader)
    assert handles() == before
    behind.close()


def test_a_disk_that_cannot_keep_up_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(write_behind.time, "monotonic", lambda: float(next(clock)))  # each advice takes a second
    data = bytes(4 << 20)
    before = handles()
    behind = WriteBehind()
    held = []
    for number in range(12):
        behind.wrote(write(tmp_path / str(number), data), 0, len(data))
        held.append(handles() - before)
    assert max(held) == 8 and held[-1] == 0, "32 MiB are tried, then nothing is held any more"
    behind.close()
