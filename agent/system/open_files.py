"""Which files other programs have open.

On Linux /proc tells (proc(5)), of all processes to root, of one's own to others. Elsewhere nobody is asked: Windows
refuses to open what another program holds for itself, and macOS has no cheap way; the answer is then empty.
"""

from __future__ import annotations

import contextlib
import os
import sys


def open_elsewhere() -> frozenset[bytes]:
    """Absolute paths that processes other than this one have open, as the kernel names them."""
    if sys.platform != "linux":
        return frozenset()
    own = str(os.getpid()).encode()
    found: set[bytes] = set()
    for pid in os.listdir(b"/proc"):
        if not pid.isdigit() or pid == own:
            continue
        folder = b"/proc/" + pid + b"/fd"
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(folder):
                with contextlib.suppress(OSError):
                    target = os.readlink(folder + b"/" + descriptor)
                    if target.startswith(b"/"):
                        found.add(target)
    return frozenset(found)
