"""Very many tiny files: a first backup, one without changes, a restore, beside restic.

    python -m tests.benchmarks.many_files --files 100000
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import Contender, Pilulier, Restic, Taken, compare, restored

_FILES_PER_FOLDER = 1000


def make(root: Path, count: int, seed: int = 1) -> None:
    """`count` files of 1 to 400 bytes in folders of a thousand, the same for a seed."""
    rng = random.Random(f"many/{seed}")
    for number in range(count):
        folder = root / f"{number // _FILES_PER_FOLDER:04d}"
        if number % _FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"note-{number:06d}.txt").write_bytes(rng.randbytes(rng.randrange(1, 401)))


def line(step: str, tool: str, taken: Taken) -> str:
    """One row of the table."""
    return (
        f"| {step} | {tool} | {taken.wall_s:.2f} s | {taken.cpu_s:.2f} s | {taken.peak_bytes / 1e6:.0f} MB "
        f"| {taken.server_peak_bytes / 1e6:.0f} MB | {taken.moved_bytes / 1024:.0f} KiB |"
    )


def main() -> int:
    """Measure and print a markdown table."""
    parser = argparse.ArgumentParser(description="Very many tiny files, Pilulier beside restic.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    print("| step | program | wall | CPU | peak memory | appliance | sent / grown |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="pilulier-many-", dir=given.work) as name:
        work = Path(name)
        source = work / "source"
        make(source, given.files)
        kinds: list[type[Pilulier] | type[Restic]] = [Pilulier]
        if shutil.which("restic"):
            kinds.append(Restic)
        for kind in kinds:
            tool: Contender = kind(work / kind.name, source)
            try:
                print(line("first backup", tool.name, tool.backup()), flush=True)
                print(line("nothing changed", tool.name, tool.backup()), flush=True)
                target = work / "restored"
                print(line("restore everything", tool.name, tool.restore(target)), flush=True)
                if tool.name == Pilulier.name:
                    compare(source, restored(target, source))
                shutil.rmtree(target)
            finally:
                tool.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
