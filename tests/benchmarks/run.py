"""Pilulier beside restic on a pharmacy: `make bench`, or

    python -m tests.benchmarks.run --scale 1 --page-ends both --out figures.json
    python -m tests.benchmarks.run --steps backups --repetitions 5    # first backup and nothing changed alone

Owns the order of the steps, their targets and the table. Both programs work on the same folder, take turns at going
first, and repeat each step; the table shows medians. Every full restore is compared with the source, bit for bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.contenders import Contender, Pilulier, Restic, Taken, compare, python, restored, size_of

MIB = 1 << 20
MEMORY_LIMIT_BYTES = 300 * 10**6
DAY_ALLOWANCE_BYTES = 3 * 10**6
UNCHANGED_PER_FIRST = 3
"""Backups without a change after each first one, where only these two steps are measured."""
RENAME_ALLOWANCE_BYTES = 1024
"""A renamed file's metadata, bytes at most: its entry, and what a batch adds."""

FIRST, UNCHANGED, RENAMED, DATABASE, DAY, EVERYTHING, ONE = (
    "first backup",
    "nothing changed",
    "renamed folder",
    "database alone",
    "day of work",
    "restore everything",
    "one 10 KiB file",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured command."""

    page_ends: str
    step: str
    tool: str
    taken: Taken


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `met` is None where there is no target."""

    page_ends: str
    step: str
    what: str
    pilulier: str
    other: str
    ratio: str
    target: str
    met: bool | None


@dataclass(slots=True)
class Bench:
    """All that one run has measured so far."""

    scale: float
    repetitions: int
    work: Path
    samples: list[Sample] = field(default_factory=list)
    floors: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    renamed_files: dict[str, int] = field(default_factory=dict)
    turn: int = 0

    def step(self, page_ends: str, step: str, tools: list[Contender], do: Callable[[Contender], Taken]) -> None:
        """Let each tool do a step, another one first each time, and keep what it took."""
        order = tools if len(self.of(page_ends, step, tools[0].name)) % 2 == 0 else tools[::-1]
        self.turn += 1
        for tool in order:
            taken = do(tool)
            self.samples.append(Sample(page_ends, step, tool.name, taken))
            say(
                f"  {step:<19} {tool.name:<9} {taken.wall_s:8.2f} s  CPU {taken.cpu_s:7.2f} s  "
                f"{taken.moved_bytes / MIB:9.2f} MiB  {taken.peak_bytes / MIB:5.0f} MiB"
                + (f" + {taken.server_peak_bytes / MIB:.0f} MiB" if taken.server_peak_bytes else "")
            )

    def of(self, page_ends: str, step: str, tool: str) -> list[Taken]:
        """The samples of one step."""
        return [s.taken for s in self.samples if (s.page_ends, s.step, s.tool) == (page_ends, step, tool)]


def say(text: str) -> None:
    """Progress, for people, beside the table."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _contenders(work: Path, source: Path, codes: int) -> Iterator[list[Contender]]:
    with ExitStack() as stack:
        pilulier = Pilulier(work / "pilulier", source, codes=codes)
        stack.callback(pilulier.close)
        restic = Restic(work / "restic", source)
        stack.callback(restic.close)
        yield [pilulier, restic]


def _pharmacy(source: Path, bench: Bench, page_ends: str, *what: str) -> dict[str, Any]:
    given = [str(source), "--scale", str(bench.scale), "--page-ends", page_ends, *what]
    done: dict[str, Any] = python("tests.benchmarks.pharmacy", *given)
    return done


def _small_file(source: Path) -> Path:
    """A document of about 10 KiB."""
    return min((source / "documents").rglob("*.doc"), key=lambda path: (abs(path.stat().st_size - 10_240), path))


def _make_pharmacy(bench: Bench, page_ends: str) -> tuple[Path, Path]:
    """Where to work, and the pharmacy in it."""
    work = bench.work / page_ends
    source = work / "pharmacy"
    say(f"pages that end in {page_ends}: making the pharmacy at scale {bench.scale:g}")
    work.mkdir(parents=True)
    _pharmacy(source, bench, page_ends)
    say(f"  {size_of(source) / MIB:.0f} MiB")
    return work, source


def measure_backups(bench: Bench, page_ends: str) -> None:
    """First backup and nothing changed alone, with new repositories for each repetition."""
    work, source = _make_pharmacy(bench, page_ends)
    for repetition in range(bench.repetitions):
        with _contenders(work / f"first-{repetition}", source, 0) as tools:
            bench.step(page_ends, FIRST, tools, lambda tool: tool.backup())
            for _ in range(UNCHANGED_PER_FIRST):
                bench.step(page_ends, UNCHANGED, tools, lambda tool: tool.backup())


def measure(bench: Bench, page_ends: str) -> None:
    """Every step with pages that end in `page_ends`."""
    work, source = _make_pharmacy(bench, page_ends)
    for repetition in range(bench.repetitions - 1):
        with _contenders(work / f"first-{repetition}", source, 0) as tools:
            bench.step(page_ends, FIRST, tools, lambda tool: tool.backup())
    with _contenders(work / "main", source, 2 * bench.repetitions) as tools:
        bench.step(page_ends, FIRST, tools, lambda tool: tool.backup())
        for _ in range(bench.repetitions):
            bench.step(page_ends, UNCHANGED, tools, lambda tool: tool.backup())
        renamed = _pharmacy(source, bench, page_ends, "--rename-day", "90")
        bench.renamed_files[page_ends] = renamed["renamed_files"]
        bench.step(page_ends, RENAMED, tools, lambda tool: tool.backup())
        _pharmacy(source, bench, page_ends, "--database-day", "91")
        bench.step(page_ends, DATABASE, tools, lambda tool: tool.backup())
        for day in range(1, bench.repetitions + 1):
            bench.floors.setdefault(page_ends, []).append(_pharmacy(source, bench, page_ends, "--day", str(day)))
            bench.step(page_ends, DAY, tools, lambda tool: tool.backup())
        for _ in range(bench.repetitions):
            bench.step(page_ends, EVERYTHING, tools, lambda tool: _restore_all(tool, bench, work, source))
        small = _small_file(source)
        for _ in range(bench.repetitions):
            bench.step(page_ends, ONE, tools, lambda tool: _restore_one(tool, work, small))


def _restore_all(tool: Contender, bench: Bench, work: Path, source: Path) -> Taken:
    """Into a folder of its own, which stays until the end: for minutes after 28,000 files were deleted, ext4 searches
    its bitmaps for inodes that were not, and whoever creates files then pays (a third of a restore, seen in a profile).
    """
    target = work / f"restored-{bench.turn}-{tool.name}"
    taken = tool.restore(target)
    if tool.name == Pilulier.name:
        compare(source, restored(target, source))
    return taken


def _restore_one(tool: Contender, work: Path, small: Path) -> Taken:
    target = work / "restored-one"
    taken = tool.restore(target, small)
    if restored(target, small).read_bytes() != small.read_bytes():
        raise AssertionError(f"{tool.name} restored {small} with other bytes")
    shutil.rmtree(target)
    return taken


def _wall(bench: Bench, page_ends: str, step: str, target: float | None) -> Row:
    ours = median(taken.wall_s for taken in bench.of(page_ends, step, Pilulier.name))
    theirs = median(taken.wall_s for taken in bench.of(page_ends, step, Restic.name))
    ratio = ours / theirs
    wanted = f"≤ {target:.1f}" if target is not None else ""
    met = None if target is None else ratio <= target
    return Row(page_ends, step, "wall time", f"{ours:.2f} s", f"{theirs:.2f} s", f"{ratio:.2f}", wanted, met)


def _cpu(bench: Bench, page_ends: str, step: str) -> Row:
    ours = median(taken.cpu_s for taken in bench.of(page_ends, step, Pilulier.name))
    theirs = median(taken.cpu_s for taken in bench.of(page_ends, step, Restic.name))
    return Row(page_ends, step, "CPU", f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.2f}", "", None)


def _size(count: float) -> str:
    return f"{count / MIB:.2f} MiB" if count >= MIB / 10 else f"{count / 1024:.1f} KiB"


def _moved(bench: Bench, page_ends: str, step: str, judge: Callable[[float, float], tuple[str, bool | None]]) -> Row:
    ours = median(taken.moved_bytes for taken in bench.of(page_ends, step, Pilulier.name))
    theirs = median(taken.moved_bytes for taken in bench.of(page_ends, step, Restic.name))
    ratio = f"1/{theirs / ours:.0f}" if 0 < ours < theirs / 2 else f"{ours / max(theirs, 1):.2f}"
    wanted, met = judge(ours, theirs)
    return Row(page_ends, step, "bytes sent / growth", _size(ours), _size(theirs), ratio, wanted, met)


def _peak(bench: Bench, page_ends: str, what: str, figure: Callable[[Taken], int]) -> Row:
    ours = max(figure(s.taken) for s in bench.samples if s.tool == Pilulier.name and s.page_ends == page_ends)
    theirs = max(s.taken.peak_bytes for s in bench.samples if s.tool == Restic.name and s.page_ends == page_ends)
    met = ours <= MEMORY_LIMIT_BYTES
    ratio = f"{ours / theirs:.2f}"
    return Row(page_ends, "all steps", what, f"{ours / 1e6:.0f} MB", f"{theirs / 1e6:.0f} MB", ratio, "≤ 300 MB", met)


def _memory_rows(bench: Bench, page_ends: str) -> list[Row]:
    return [
        _peak(bench, page_ends, "peak memory, agent", lambda taken: taken.peak_bytes),
        _peak(bench, page_ends, "peak memory, appliance", lambda taken: taken.server_peak_bytes),
    ]


def backup_rows(bench: Bench, page_ends: str) -> list[Row]:
    """The table's lines where only backups were measured."""
    return [
        _wall(bench, page_ends, FIRST, 0.6),
        _cpu(bench, page_ends, FIRST),
        _moved(bench, page_ends, FIRST, lambda ours, theirs: ("", None)),
        _wall(bench, page_ends, UNCHANGED, 0.5),
        _cpu(bench, page_ends, UNCHANGED),
        *_memory_rows(bench, page_ends),
    ]


def rows(bench: Bench, page_ends: str) -> list[Row]:
    """The table's lines for one kind of page ends."""
    floor = median(day["floor_bytes"] for day in bench.floors[page_ends])
    allowed = 1.1 * floor + DAY_ALLOWANCE_BYTES
    renamed_limit = bench.renamed_files[page_ends] * RENAME_ALLOWANCE_BYTES
    renamed = bench.of(page_ends, RENAMED, Pilulier.name)
    no_content = all(taken.report["files_full"] == 0 == taken.report["files_delta"] for taken in renamed)
    return [
        _wall(bench, page_ends, FIRST, 0.6),
        _cpu(bench, page_ends, FIRST),
        _moved(bench, page_ends, FIRST, lambda ours, theirs: ("", None)),
        _wall(bench, page_ends, UNCHANGED, 0.5),
        _moved(
            bench,
            page_ends,
            RENAMED,
            lambda ours, theirs: ("metadata only", no_content and ours <= renamed_limit),
        ),
        _moved(bench, page_ends, DATABASE, lambda ours, theirs: ("≤ 1/60", ours * 60 <= theirs)),
        _wall(bench, page_ends, DAY, 0.6),
        _cpu(bench, page_ends, DAY),
        _moved(
            bench,
            page_ends,
            DAY,
            lambda ours, theirs: (f"≤ {_size(allowed)} (1.1 × {_size(floor)} new + 3 MB)", ours <= allowed),
        ),
        _wall(bench, page_ends, EVERYTHING, 0.8),
        _cpu(bench, page_ends, EVERYTHING),
        _wall(bench, page_ends, ONE, 1.0),
        *_memory_rows(bench, page_ends),
    ]


def table(lines: list[Row]) -> str:
    """The rows as a markdown table."""
    text = ["| pages end in | step | figure | Pilulier | restic | ratio | target | met |", "|---" * 8 + "|"]
    for row in lines:
        met = {None: "", True: "yes", False: "**no**"}[row.met]
        cells = (row.page_ends, row.step, row.what, row.pilulier, row.other, row.ratio, row.target, met)
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    """Measure, print the table, write the figures. A missed target stands in the table; it is not a failure."""
    parser = argparse.ArgumentParser(description="Pilulier beside restic on a generated pharmacy.")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 3.2 GiB in 28,722 files (default %(default)s)")
    parser.add_argument("--page-ends", choices=("zeros", "full", "both"), default="both")
    parser.add_argument("--steps", choices=("all", "backups"), default="all", help="backups: first and unchanged alone")
    parser.add_argument("--repetitions", type=int, default=3, help="of each step; medians are shown")
    parser.add_argument("--work", type=Path, help="where to work: 12 GiB at scale 1 (default: a temporary folder)")
    parser.add_argument("--out", type=Path, help="write every measurement there as JSON")
    given = parser.parse_args()
    if shutil.which("restic") is None:
        parser.error("restic is not installed: as root, run apt-get install restic")
    if given.scale <= 0 or given.repetitions < 1:
        parser.error("--scale must be above 0 and --repetitions at least 1")

    kinds = ["zeros", "full"] if given.page_ends == "both" else [given.page_ends]
    with tempfile.TemporaryDirectory(prefix="pilulier-bench-", dir=given.work) as folder:
        bench = Bench(given.scale, given.repetitions, Path(folder))
        for kind in kinds:
            (measure if given.steps == "all" else measure_backups)(bench, kind)
    lines = [row for kind in kinds for row in (rows if given.steps == "all" else backup_rows)(bench, kind)]
    print(
        f"Scale {given.scale:g}, medians of {given.repetitions}; {os.cpu_count()} cores ({_processor()}), "
        f"Python {platform.python_version()}, {Restic.version()}.\n\n{table(lines)}"
    )
    if given.out:
        document = {
            "scale": given.scale,
            "repetitions": given.repetitions,
            "rows": [dataclasses.asdict(row) for row in lines],
            "samples": [dataclasses.asdict(sample) for sample in bench.samples],
            "days": bench.floors,
        }
        given.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
