"""A view of the disks of this process's own: what is mounted in it is seen by nobody else, and goes with the process.

On Linux a thread can leave the common mount namespace (unshare(2)); threads that it starts follow it. So the backup's
thread goes, and a few that were there before stay behind: what must happen in everybody's view (programs, questions
what is mounted) is handed to them by `outside`. Elsewhere there is no such thing, and nobody enters.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Result = TypeVar("Result")

STAYING: Final = 4
"""Threads that stay behind: readers that start or read a dump at one time, and one for questions."""
_CLONE_NEWNS: Final = 0x00020000
_MS_RDONLY: Final = 1
_MS_BIND: Final = 1 << 12
_MS_REC: Final = 1 << 14
_MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 2

_outside: ThreadPoolExecutor | None = None


def outside(call: Callable[[], Result]) -> Result:
    """The result of `call`, in the view that everybody has."""
    return call() if _outside is None else _outside.submit(call).result()


def enter() -> None:
    """Give the calling thread, and those it starts from now on, a view of their own. OSError where that is refused."""
    global _outside
    if _outside is not None:
        return
    pool = ThreadPoolExecutor(STAYING, thread_name_prefix="outside")
    together = threading.Barrier(STAYING + 1)
    for _ in range(STAYING):
        pool.submit(together.wait)  # each takes one thread: all are started from here, before the view changes
    together.wait()
    try:
        _call("unshare", _CLONE_NEWNS)
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    except OSError:
        pool.shutdown(wait=False)
        raise
    _outside = pool


def bind(source: bytes, target: bytes) -> None:
    """Show `source` at `target` in this view; what was there is covered. OSError where that is refused."""
    _call("mount", source, target, None, _MS_BIND, None)


def unbind(target: bytes) -> None:
    """Uncover what was there."""
    _call("umount2", target, _MNT_DETACH)


def _call(name: str, *arguments: object) -> None:
    import ctypes  # here only: every backup asks what is mounted, few enter

    if sys.platform != "linux":
        raise OSError(f"{name} is Linux's")
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    given = [ctypes.c_ulong(one) if isinstance(one, int) and name == "mount" else one for one in arguments]
    if function(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
