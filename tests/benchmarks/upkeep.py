"""Looking after a repository, beside restic: pruning, reading and checking all data, rebuilding a catalog.

    python -m tests.benchmarks.upkeep --scale 1

Twelve snapshots of the pharmacy, a day of work between them, and beside it two files of which most is dead after some
days: a dump that is replaced every day, and a container of images of which a seventh is. Nothing of the pharmacy itself
ever dies wholly: what a day changes there stands in segments that live on. Then all data is checked, and a whole cycle
of pruning is gone through by both programs: the five oldest are dropped; a thirteenth backup is made, in which
Pilulier's agent sends again what keeps mostly dead segments alive (restic, which has the key, rewrites such packs); all
but that one are dropped, so that these can go; and Pilulier's quarantine ends a day later by the appliance's clock.
Wall time and bytes on disk are told of each. All is checked once more, and the newest snapshot restored and compared.
Retention by days would keep all of them (they are of one day), so that Pilulier's engine is called with the numbers.
Apart from that, a catalog of 100,000 entries is made anew from its packs; restic's nearest relative, `rebuild-index`,
is timed as well.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.contenders import Pilulier, Restic, Taken, compare, python, restored
from tests.benchmarks.many_files import make

SNAPSHOTS = 12
OLDEST = 5
_HEAD = "\n| step | Pilulier | CPU | memory | restic | CPU | memory | ratio | target | met |\n|" + "---|" * 10
_BLOCK_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
_REPLACED = 1 / 7
_TARGETS = {"check all data": 0.5, "prune the five oldest": 0.3}


def churn(source: Path, day: int, scale: float) -> None:
    """The dump and the container on a day, from 0 on; neither compresses."""
    rng = random.Random(f"churn {day}")
    blocks = max(4, int(64 * scale))
    source.mkdir(parents=True, exist_ok=True)
    with open(source / "dump.bin", "wb") as file:
        for _ in range(blocks):
            file.write(rng.randbytes(_BLOCK_BYTES))
    with open(source / "images.bin", "r+b" if day else "wb") as file:
        for block in range(2 * blocks):
            for piece in range(_BLOCK_BYTES // _PIECE_BYTES):
                if not day or rng.random() < _REPLACED:
                    file.seek(block * _BLOCK_BYTES + piece * _PIECE_BYTES)
                    file.write(rng.randbytes(_PIECE_BYTES))


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


def freed(step: str, ours: Taken, theirs: Taken | None, sizes: tuple[int, int]) -> str:
    """One row of the cycle: wall time, growth on disk, and what is stored then."""

    def cell(taken: Taken | None) -> str:
        return "–" if taken is None else f"{taken.wall_s:.2f} s"

    def grown(taken: Taken | None) -> str:
        return "–" if taken is None else f"{taken.moved_bytes / 2**20:+.1f} MiB"

    wanted = _TARGETS.get(step)
    ratio = "–" if theirs is None else f"{ours.wall_s / theirs.wall_s:.2f}"
    met = "" if wanted is None or theirs is None else f"≤ {wanted}: " + (
        "yes" if ours.wall_s <= wanted * theirs.wall_s else "**no**"
    )
    return (
        f"| {step} | {cell(ours)} | {grown(ours)} | {sizes[0] / 2**20:.1f} MiB "
        f"| {cell(theirs)} | {grown(theirs)} | {sizes[1] / 2**20:.1f} MiB | {ratio} | {met} |"
    )


def cycle(pilulier: Pilulier, restic: Restic, another_day: Callable[[int], None]) -> None:
    """Prune, give back, prune, and the end of the quarantine."""
    print(
        "\n| step | Pilulier | on disk | stored | restic | on disk | stored | ratio | met |\n|" + "---|" * 9, flush=True
    )

    def row(step: str, ours: Taken, theirs: Taken | None) -> None:
        print(freed(step, ours, theirs, (pilulier.stored_bytes, restic.stored_bytes)), flush=True)

    first = pilulier.prune(range(1, OLDEST + 1))
    row("prune the five oldest", first, restic.prune(SNAPSHOTS - OLDEST))
    another_day(SNAPSHOTS)
    before = pilulier.stored_bytes
    ours = pilulier.backup()
    row("the next backup", replace(ours, moved_bytes=pilulier.stored_bytes - before), restic.backup())
    last = pilulier.prune(range(OLDEST + 1, SNAPSHOTS + 1))
    row("prune all but that one", last, restic.prune(1))
    row("a day later", pilulier.prune((), hours_later=25), None)
    for name, taken in (("first", first), ("second", last)):
        told = ", ".join(f"{key} {value:,}" for key, value in taken.report.items())
        print(f"the {name} prune: {told}", file=sys.stderr, flush=True)


def upkeep(scratch: Path, scale: float) -> None:
    """Prune and check."""
    source = scratch / "pharmacy"
    common = [str(source), "--scale", str(scale), "--page-ends", "zeros"]
    python("tests.benchmarks.pharmacy", *common)
    churn(source / "churn", 0, scale)

    def work(day: int) -> None:
        python("tests.benchmarks.pharmacy", *common, "--day", str(day))
        churn(source / "churn", day, scale)

    pilulier, restic = Pilulier(scratch / "pilulier", source, codes=1), Restic(scratch / "restic", source)
    try:
        for day in range(SNAPSHOTS):
            if day:
                work(day)
            pilulier.backup()
            restic.backup()
            print(f"snapshot {day + 1} of {SNAPSHOTS}", file=sys.stderr, flush=True)
        print(line("check all data", pilulier.check(), restic.check()), flush=True)
        cycle(pilulier, restic, work)
        print(_HEAD)
        print(line("check all data, pruned", pilulier.check(), restic.check()), flush=True)
        target = scratch / "restored"
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
    print(_HEAD)
    with tempfile.TemporaryDirectory(prefix="pilulier-upkeep-", dir=given.work) as name:
        upkeep(Path(name), given.scale)
        rebuild(Path(name), given.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
