"""Less of the processor and of the disk for this process: a backup by schedule must not slow a counter down.

On Linux the disk's share follows the niceness (ioprio_set(2)); Windows has a priority class. The Windows half is
written from its documentation (SetPriorityClass) and was not run here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Final

NICENESS: Final = 10
_BELOW_NORMAL: Final = 0x4000


def lower() -> None:
    """Step back, unless this process is as low already; where the system does not let it, it stays as it is."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _BELOW_NORMAL)
    else:
        with contextlib.suppress(OSError):
            os.nice(max(0, NICENESS - os.nice(0)))


def lower_thread() -> None:
    """The same for this thread alone, where the system knows such a thing: Linux schedules threads one by one."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
