"""One file over 4 GiB with holes and real data: backed up, changed in three places, restored and compared.

    python -m tests.benchmarks.big_file --gib 4.5

Shows that offsets past 32 bits hold everywhere, that holes cost nothing, and that a change sends its own size.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import Pilulier, compare, restored
from tests.benchmarks.many_files import line

_PART_BYTES = 4 << 20
_CHANGE_BYTES = 1000
_SENT_LIMIT_BYTES = 1 << 20
"""Three changes of 1000 bytes, their blocks and the metadata fit in this with room to spare."""


def make(path: Path, size: int, seed: int = 1) -> None:
    """A file of `size` bytes: 4 MiB of data at every 64 MiB, the last of it at the very end; holes between."""
    rng = random.Random(f"big/{seed}")
    with open(path, "wb") as file:
        for start in [*range(0, size - _PART_BYTES, 16 * _PART_BYTES), size - _PART_BYTES]:
            file.seek(start)
            file.write(rng.randbytes(_PART_BYTES))


def change(path: Path, seed: int = 1) -> None:
    """Overwrite 1000 bytes near the start, past the fourth gibibyte, and in a hole."""
    rng = random.Random(f"big-change/{seed}")
    size = path.stat().st_size
    with open(path, "r+b") as file:
        for offset in (12_345, size - 2_000_003, 8 * _PART_BYTES + 77):
            file.seek(offset)
            file.write(rng.randbytes(_CHANGE_BYTES))


def main() -> int:
    """Measure, compare and print a markdown table; exit code 1 when a change sent too much."""
    parser = argparse.ArgumentParser(description="One file over 4 GiB through Pilulier.")
    parser.add_argument("--gib", type=float, default=4.5)
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilulier-big-", dir=given.work) as name:
        work = Path(name)
        source = work / "source"
        source.mkdir()
        image = source / "disk.img"
        make(image, int(given.gib * (1 << 30)))
        print(f"{image.stat().st_size} bytes, {image.stat().st_blocks * 512} of them on disk\n")
        print("| step | program | wall | CPU | peak memory | appliance | sent |\n|---|---|---|---|---|---|---|")
        tool = Pilulier(work / "pilulier", source)
        try:
            print(line("first backup", tool.name, tool.backup()), flush=True)
            change(image)
            changed = tool.backup()
            print(line("3 × 1000 bytes changed", tool.name, changed), flush=True)
            target = work / "restored"
            print(line("restore", tool.name, tool.restore(target)), flush=True)
            compare(source, restored(target, source))
        finally:
            tool.close()
        copy = os.stat(restored(target, image))
        print(f"\nRestored and compared: the same bytes, {copy.st_blocks * 512} of them on disk.")
    if changed.moved_bytes > _SENT_LIMIT_BYTES:
        print(f"the change sent {changed.moved_bytes} bytes, over {_SENT_LIMIT_BYTES}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
