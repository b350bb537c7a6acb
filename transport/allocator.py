"""The C allocator, told to keep megabyte buffers instead of giving each back to the kernel.

Both programs turn over buffers of 1 MiB thousands of times a second; by default glibc maps and unmaps each one, and
the page faults were a third of a restore's kernel time (measured: 3.2 s of system time became 1.5 s for 850 MB). Two
arenas bound what idle threads hold. Elsewhere than glibc nothing is done. No library is bound here: `mallopt` is
the process's own. And Python's collector of cycles, told to look seldom.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_KEEP_BYTES: Final = 64 << 20
_LARGEST_KEPT_BYTES: Final = 32 << 20


def keep_large_buffers() -> bool:
    """Call first in a process; whether the allocator took it."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES), (_M_TRIM_THRESHOLD, _KEEP_BYTES), (_M_ARENA_MAX, 2))
    taken = [mallopt(name, value) == 1 for name, value in settings]  # every one is asked, even after a no
    return all(taken)


def collect_seldom() -> None:
    """Call once a process has its modules: they are never garbage, and what a backup makes by the thousand has no
    cycles. Looking for some was 5 % of the main thread's time (measured)."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
