"""A dump as a stream: the program that makes it, its end that must be proved, and its death in any case.

Rule: the stream ends with b"" only where the program ended with 0 and its last words are those of a whole dump;
anything else raises, so that a cut dump can never become a version. What one kind of database needs is said by its own
module.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

from agent.errors import DatabaseError
from agent.reading import SourceFile
from agent.sources.backlog import STALL_S, Backlog
from agent.sources.streaming import StreamFile
from agent.system import owners, programs

_TRAILER_WITHIN: Final = 4096
_END_S: Final = 60.0
_LOAD_S: Final = 7 * 86_400.0
_DISK_SHARE: Final = 2
"""At most a half of what is free is taken for a backlog."""
_WORDS: Final = 400
_SPEAKER: Final = re.compile(r"^(psql|pg_dump|mariadb-dump|mysqldump): (error: |detail: )?")


class Dumper(Protocol):
    """Makes dumps of one database. Any thread, one dump at a time."""

    remarks: list[str]
    """What the last dump has to tell besides its content."""
    keep: Path | None
    """Where a copy of the dump is to be left, if anywhere; what cannot be written there is no reason to fail."""

    def open(self, check: Callable[[], None]) -> AbstractContextManager[SourceFile | StreamFile]:
        """A dump of this moment; DatabaseError where there is none. `check` is called now and then and may raise."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """How a program is called: its words, its user, what it finds in its environment and inherits."""

    argv: Sequence[str]
    run_as: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()

    def run(self, timeout_s: float, limit: int = programs.OUTPUT_BYTES, stdin: IO[bytes] | None = None) -> bytes:
        """Run it to its end; what it said on stdout. DatabaseError with its complaint where it failed."""
        name = Path(self.argv[0]).name
        try:
            ended = programs.run(
                self.argv,
                timeout_s=timeout_s,
                run_as=self.run_as,
                extra=self.extra,
                pass_fds=self.pass_fds,
                limit=limit,
                apart=True,
                stdin=stdin,
            )
        except OSError as error:
            raise DatabaseError(f"{name} could not be started: {(error.strerror or str(error)).lower()}") from None
        if ended.timed_out:
            raise DatabaseError(f"{name} gave no answer within {timeout_s:.0f} s")
        if not ended.well:
            raise DatabaseError(f"{name} failed: {words(ended.output)}")
        return ended.output

    def feed(self, path: Path) -> None:
        """Run it with a file as its input; it may take its time."""
        with open(path, "rb") as file:
            self.run(_LOAD_S, stdin=file)


def words(output: bytes) -> str:
    """The last line of a complaint, fit for one sentence."""
    lines = [_SPEAKER.sub("", line.strip()) for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return " ".join("; ".join(lines[-2:]).split())[-_WORDS:] or "it did not say why"


def found(name: str, package: str, folders: Sequence[str] = ()) -> str:
    """The path of a client program; DatabaseError names the package that has it."""
    for folder in (None, *folders):
        path = shutil.which(name, path=folder) if folder else shutil.which(name)
        if path is not None:
            return path
    raise DatabaseError(f"{name} is not installed on this machine: it comes with the package {package}")


class ProgramDump:
    """What a program writes, after `head`. `read` belongs to one thread."""

    def __init__(
        self,
        call: Call,
        *,
        head: bytes,
        trailer: bytes,
        folder: Path,
        check: Callable[[], None],
        stall_s: float = STALL_S,
    ) -> None:
        self._name = Path(call.argv[0]).name
        self._rest = head
        self._trailer = trailer
        self._tail = b""
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            self._process = programs.start(call.argv, run_as=call.run_as, extra=call.extra, pass_fds=call.pass_fds)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DatabaseError(f"{self._name} could not be started: {reason}") from None
        assert self._process.stdout is not None and self._process.stderr is not None
        self._errors = programs.Tail(self._process.stderr)
        room = shutil.disk_usage(folder).free // _DISK_SHARE
        self.backlog = Backlog(self._process.stdout, folder, room, check, stall_s)

    def read(self, limit: int) -> bytes:
        """The next bytes; b"" at the proved end."""
        if self._rest:
            piece, self._rest = self._rest[:limit], self._rest[limit:]
            return piece
        piece = self.backlog.read(limit)
        if piece:
            self._tail = (self._tail + piece)[-_TRAILER_WITHIN:]
        else:
            self._prove_end()
        return piece

    def _prove_end(self) -> None:
        try:
            code = self._process.wait(_END_S)
        except programs.TimeoutExpired:
            raise DatabaseError(f"{self._name} closed its output and did not end") from None
        if code:
            how = f"ended with code {code}" if code > 0 else f"was ended by signal {-code}"
            raise DatabaseError(f"{self._name} {how}: {words(self._errors.take())}")
        if self._trailer not in self._tail:
            raise DatabaseError(f"the dump of {self._name} is cut: it does not end as a whole one does")

    def close(self) -> None:
        """End the program if it runs, and let go of everything."""
        programs.kill(self._process)
        self.backlog.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def uid_of(run_as: str) -> int | None:
    """The user id of the programs that run as this user; None for the agent's own."""
    if not run_as or sys.platform == "win32":
        return None
    number = owners.number_of(run_as)
    if number is None:
        raise DatabaseError(f"there is no user {run_as!r} on this machine")
    return number
