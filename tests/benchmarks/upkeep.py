"""Looking after a repository, beside restic: pruning, reading and checking all data, rebuilding a catalog.

    python -m tests.benchmarks.upkeep --scale 1

Twelve snapshots of the pharmacy, a day of work between them; then all data is checked, the five oldest are dropped, all
is checked again, and the newest is restored and compared. Retention by days would keep all of them (they are of one
day), so that Pilulier's engine is called with the five numbers. Apart from that, a catalog of 100,000 entries is
made anew from its packs; restic's nearest relative, `repair index`, is timed as well.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import Pilulier, Restic, Taken, compare, python, restored
from tests.benchmarks.many_files import make

SNAPSHOTS = 12
OLDEST = 5
_TARGETS = {"check all data": 0.5, "prune the five oldest": 0.3}


def line(step: str, ours: Taken, theirs: Taken) -> str:
    """One row of the table."""
    ratio = ours.wall_s / theirs.wall_s
    wanted = _TARGETS.get(step)
    target = f"≤ {wanted}" if wanted is not None else ""
    met = "" if wanted is None else ("yes" if ratio <= wanted else "**no**")
    return (
        f"| {step} | {ours.wall_s:.2f} s | {ours.cpu_s:.2f} s | {ours.peak_bytes / 1e6:.0f} MB "
        f"| {theirs.wall_s:.2f} s | {theirs.cpu_s:.2f} s | {theirs.peak_bytes / 1e6:.0f} MB "
        f"| {ratio:.2f} | {target} | {met} |"
    )


def upkeep(work: Path, scale: float) -> None:
    """Prune and check."""
    source = work / "pharmacy"
    common = [str(source), "--scale", str(scale), "--page-ends", "zeros"]
    python("tests.benchmarks.pharmacy", *common)
    pilulier, restic = Pilulier(work / "pilulier", source, codes=1), Restic(work / "restic", source)
    try:
        for day in range(SNAPSHOTS):
            if day:
                python("tests.benchmarks.pharmacy", *common, "--day", str(day))
            pilulier.backup()
            restic.backup()
            print(f"snapshot {day + 1} of {SNAPSHOTS}", file=sys.stderr, flush=True)
        print(line("check all data", pilulier.check(), restic.check()), flush=True)
        pruned = pilulier.prune(range(1, OLDEST + 1))
        print(line("prune the five oldest", pruned, restic.prune(SNAPSHOTS - OLDEST)), flush=True)
        print(f"Pilulier freed {pruned.moved_bytes / 2**20:.1f} MiB.", file=sys.stderr)
        print(line("check all data, pruned", pilulier.check(), restic.check()), flush=True)
        target = work / "restored"
        pilulier.restore(target)
        compare(source, restored(target, source))
    finally:
        pilulier.close()
        restic.close()


def rebuild(work: Path, files: int) -> None:
    """Make an index anew."""
    source = work / "source"
    make(source, files)
    pilulier, restic = Pilulier(work / "pilulier-many", source), Restic(work / "restic-many", source)
    try:
        pilulier.backup()
        restic.backup()
        print(line(f"rebuild, {files:,} entries", pilulier.rebuild(), restic.rebuild()), flush=True)
    finally:
        pilulier.close()
        restic.close()


def main() -> int:
    """Measure and print a markdown table."""
    parser = argparse.ArgumentParser(description="Prune, check and rebuild, Pilulier beside restic.")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--files", type=int, default=100_000, help="entries of the catalog that is rebuilt")
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    given = parser.parse_args()
    if shutil.which("restic") is None:
        parser.error("restic is not installed: as root, run apt-get install restic")
    print("| step | Pilulier | CPU | memory | restic | CPU | memory | ratio | target | met |\n|" + "---|" * 10)
    with tempfile.TemporaryDirectory(prefix="pilulier-upkeep-", dir=given.work) as name:
        upkeep(Path(name), given.scale)
        rebuild(Path(name), given.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
