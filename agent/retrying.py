"""Files that were locked, vanished in a swap or would not hold still: tried again a few times at the end of the run.

A large file that changes under its reading is not read again: its copy, torn or not, is on the appliance already, and
the next reading would be as torn. Everything else gets `PAUSES_S` more chances. Knows no folder, no ledger and no
commit: what is tried again is handed to whoever sends, and its outcome taken as if it were the first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from agent.scanner import Found
from agent.sending import Sent, Wanted

PAUSES_S: Final = (1.0, 4.0)
"""Before each round: what an editor or a scanner of viruses holds is free by then."""
REREAD_BYTES: Final = 64 << 20
"""Of a file that changes while it is read."""
FILES: Final = 2000
"""More trouble than this is not of the passing kind."""
_PASSING: Final = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.ETXTBSY, errno.ESTALE, errno.ETIMEDOUT, errno.EDEADLK, errno.ENOENT}
)
_SHARING: Final = frozenset({32, 33})
"""ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows (winerror.h)."""


def passes(sent: Sent) -> bool:
    """Whether what went wrong with a file may be over in a moment."""
    if sent.error is not None:
        return getattr(sent.error, "winerror", None) in _SHARING or sent.error.errno in _PASSING
    return sent.changed and sent.wanted.found.size <= REREAD_BYTES


def seen_again(found: Found, status: os.stat_result) -> Found:
    """What the scan would say of the file now. Pure."""
    return msgspec.structs.replace(
        found,
        size=status.st_size,
        mode=status.st_mode & 0o7777,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        ino=status.st_ino & ((1 << 63) - 1),
        blocks=getattr(status, "st_blocks", 0),
    )


class Retries:
    """The files of one run that get another chance."""

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self._waiting: list[Sent] = []
        self._round = 0

    def take(self, sent: Sent) -> bool:
        """Whether this outcome is not the last word: it will be tried again."""
        if self._round == len(PAUSES_S) or len(self._waiting) >= FILES or not passes(sent):
            return False
        self._waiting.append(sent)
        return True

    def rounds(self) -> Iterator[list[Wanted]]:
        """What to send once more, round by round; the caller has all outcomes of a round before it asks for the next.

        A file that is no file any more goes as it was first seen: its reading says what became of it.
        """
        while self._waiting:
            self._pause(PAUSES_S[self._round])
            self._round += 1
            again, self._waiting = self._waiting, []
            yield [self._once_more(sent.wanted) for sent in again]

    def _once_more(self, wanted: Wanted) -> Wanted:
        try:
            status = os.lstat(wanted.path)
        except OSError:
            return wanted
        return msgspec.structs.replace(wanted, found=seen_again(wanted.found, status), probably_same=False)
