"""Writing into fresh files so that zeros stay holes."""

from __future__ import annotations

from typing import Final

from agent.system import descriptors

_ZERO_BLOCK: Final = bytes(16 * 1024)


def write_sparse(handle: int, data: memoryview, offset: int) -> int:
    """Write into a fresh file, which reads as zero where nothing was written: zero blocks stay holes.

    Returns len(data), or 0 where it ends in a hole: the file's length is then the caller's to set.
    A hole shorter than a segment travels as zeros inside one; without this a sparse file would come back filled.
    """
    block = len(_ZERO_BLOCK)
    begun = 0
    for at in range(-offset % block, len(data) - block + 1, block):
        if data[at] == 0 and data[at : at + block] == _ZERO_BLOCK:
            if at > begun:
                write_all(handle, data[begun:at], offset + begun)
            begun = at + block
    if begun < len(data):
        write_all(handle, data[begun:], offset + begun)
        return len(data)
    return 0


def write_all(handle: int, data: memoryview, offset: int) -> None:
    while data:
        written = descriptors.write_at(handle, data, offset)
        offset += written
        data = data[written:]
