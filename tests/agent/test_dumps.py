"""Dumps: a cut one is never whole, a slow reader holds no program up, and nothing of a secret is shown."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import DatabaseError
from agent.sources import backlog
from agent.sources.backlog import Backlog
from agent.sources.dumps import Call, ProgramDump
from agent.system.handing import handed, read_password
from transport.errors import UsageError


def nothing() -> None:
    """A check that lets everything pass."""


@contextlib.contextmanager
def dumping(folder: Path, shell: str, head: bytes = b"") -> Iterator[ProgramDump]:
    dump = ProgramDump(Call(["/bin/sh", "-c", shell]), head=head, trailer=b"-- end", folder=folder, check=nothing)
    try:
        yield dump
    finally:
        dump.close()


def everything(dump: ProgramDump) -> bytes:
    return b"".join(iter(lambda: dump.read(1000), b""))


def test_a_whole_dump_is_its_head_and_all_that_the_program_said(tmp_path: Path) -> None:
    with dumping(tmp_path, "seq 1 20000; echo '-- end'", b"-- head\n") as dump:
        said = everything(dump)
    assert said == b"-- head\n" + b"".join(b"%d\n" % number for number in range(1, 20001)) + b"-- end\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shell", "why"),
    [
        ("echo some; echo 'no such table' >&2; echo '-- end'; exit 3", "sh ended with code 3: no such table"),
        ("echo some; kill -9 $$", "sh was ended by signal 9"),
        ("echo some; exit 0", "the dump of sh is cut"),
        ("exit 0", "the dump of sh is cut"),
    ],
)
def test_a_dump_that_fails_or_is_cut_raises_at_its_end(tmp_path: Path, shell: str, why: str) -> None:
    with dumping(tmp_path, shell) as dump, pytest.raises(DatabaseError, match=why):
        everything(dump)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="could not be started: no such file"):
        ProgramDump(Call([str(tmp_path / "none")]), head=b"", trailer=b"", folder=tmp_path, check=nothing)
    with pytest.raises(DatabaseError, match="gave no answer within"):
        Call(["/bin/sleep", "600"]).run(0.05)


def test_a_dump_that_is_given_up_is_ended(tmp_path: Path) -> None:
    with dumping(tmp_path, "echo some; exec sleep 600") as dump:
        assert dump.read(100) == b"some\n"
        process = dump._process
    assert process.returncode == -15


def pipe_of(data: bytes) -> tuple[int, threading.Thread]:
    """A pipe's end to read from, and the thread that writes."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return reading, thread


def test_a_slow_reader_holds_no_writer_up_and_the_disk_is_given_back(tmp_path: Path) -> None:
    data = os.urandom(3 * backlog.MEMORY_BYTES)
    reading, writer = pipe_of(data)
    with open(reading, "rb", buffering=0) as pipe:
        held = Backlog(pipe, tmp_path, 1 << 30, nothing)
        writer.join(30)
        assert not writer.is_alive(), "the writer waited for the reader"
        assert held.read(10) == data[:10]
        assert b"".join(iter(lambda: held.read(70_001), b"")) == data[10:]
        assert backlog.MEMORY_BYTES < held.most_on_disk < len(data)
        held.close()
    assert list(tmp_path.iterdir()) == []


def test_beyond_its_share_of_the_disk_the_writer_waits(tmp_path: Path) -> None:
    data = os.urandom(4 * backlog.MEMORY_BYTES)
    reading, writer = pipe_of(data)
    with open(reading, "rb", buffering=0) as pipe:
        held = Backlog(pipe, tmp_path, 1 << 20, nothing)
        assert b"".join(iter(lambda: held.read(1 << 20), b"")) == data
        assert held.most_on_disk <= 1 << 20
        held.close()
    writer.join(30)


def test_a_dump_that_says_nothing_for_long_is_stuck(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as pipe:
        held = Backlog(pipe, tmp_path, 1 << 30, nothing, stall_s=0.0)
        with pytest.raises(DatabaseError, match="no byte for"):
            held.read(1)
        os.close(writing)
        held.close()


def test_a_password_is_read_from_a_closed_file_only(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("two\nlines\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="one line"):
        read_password(str(path))
    path.write_text("pa:ss\n")
    assert read_password(str(path)) == "pa:ss"
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_password(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        read_password(str(tmp_path / "none"))


@pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
def test_a_secret_is_handed_without_a_name_and_to_one_user_only() -> None:
    with handed("secret\n", None) as given:
        shown = Call(["/bin/cat", given.path], pass_fds=given.pass_fds)
        assert shown.run(10.0) == b"secret\n"
    if os.geteuid() != 0:
        return
    import pwd

    with handed("secret\n", pwd.getpwnam("nobody").pw_uid) as given:
        assert Call(["/bin/cat", given.path], "nobody", pass_fds=given.pass_fds).run(10.0) == b"secret\n"
        with pytest.raises(DatabaseError, match="[Pp]ermission denied"):
            Call(["/bin/cat", given.path], "daemon", pass_fds=given.pass_fds).run(10.0)
