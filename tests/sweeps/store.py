"""The full sweeps of the repository engine: `python -m tests.sweeps.store [--workload W] [--sample K] [--jobs N]`.

Every workload is stopped at every operation, recovered, stopped again during the recovery, and refused with every
error; packs are changed byte by byte. Prints a table, and every loss; exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.support.faults import small_disk
from tests.sweeps.crashes import Tally, sweep_crashes
from tests.sweeps.errors import exhaust_descriptors, fill_for_real, sweep_errors, sweep_flips, sweep_unreadable
from tests.sweeps.workloads import WORKLOADS

_COLUMNS = (
    ("crash points", "crash_points"),
    ("killed", "killed"),
    ("hot journals", "hot_journals"),
    ("power-loss states", "power_states"),
    ("recovery points", "recovery_points"),
    ("states after them", "recovery_states"),
    ("errors", "errors"),
    ("flips", "flips"),
    ("found", "flips_found"),
)
_SMALL_DISK_BYTES = 4 << 20
_SHARDS = 8
"""Parts into which the crash points of one workload are cut, so that processes have something to share."""

Job = Callable[[Path], Tally]


def main(arguments: Sequence[str]) -> int:
    """Sweep, print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweeps.store")
    choices = [*WORKLOADS, "flips", "unreadable", "full", "descriptors"]
    parser.add_argument("--workload", choices=choices, action="append", help="only this; may be given again")
    parser.add_argument("--sample", type=int, default=1, help="every K-th crash point, error and flip only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    total, began = Tally(), time.monotonic()
    rows: dict[str, Tally] = {}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        pending = {
            pool.submit(_do, index, options.sample): name
            for index, (name, _) in enumerate(_jobs(options.sample))
            if not options.workload or name in options.workload
        }
        for done in as_completed(pending):
            name, tally = pending[done], done.result()
            rows.setdefault(name, Tally()).add(tally)
            total.add(tally)
            left = sum(not job.done() for job in pending)
            done_s = time.monotonic() - began
            print(f"{done_s:.0f} s: {name}; {left} jobs left", file=sys.stderr)
            for loss in tally.losses:
                print(f"LOSS  {loss}", flush=True)
    _print(rows, total, time.monotonic() - began)
    return 1 if total.losses else 0


def _jobs(sample: int) -> list[tuple[str, Job]]:
    """Everything there is to do, in an order that is the same in every process."""
    jobs: list[tuple[str, Job]] = []
    for name, workload in WORKLOADS.items():
        for shard in range(_SHARDS):
            steps = {"step": sample * _SHARDS, "first": sample * shard, "nested_step": sample}
            jobs.append((name, partial(sweep_crashes, workload, **steps)))
        jobs.append((name, partial(sweep_errors, workload, step=sample)))
    jobs.append(("flips", partial(sweep_flips, step=17 * sample)))
    jobs.append(("unreadable", sweep_unreadable))
    jobs.append(("full", partial(_full, step_bytes=8192 * sample)))
    jobs.append(("descriptors", exhaust_descriptors))
    return jobs


def _do(index: int, sample: int) -> Tally:
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="pilulier-sweep-", dir=fast if fast.is_dir() else None) as scratch:
        return _jobs(sample)[index][1](Path(scratch))


def _full(scratch: Path, step_bytes: int) -> Tally:
    tally = Tally()
    try:
        with small_disk(scratch / "small", _SMALL_DISK_BYTES) as disk:
            for room in range(0, 20 * 8192, step_bytes):
                tally.add(fill_for_real(disk, scratch, room))
    except pytest.skip.Exception as reason:
        print(f"no small file system: {reason}", flush=True)
    return tally


def _print(rows: dict[str, Tally], total: Tally, seconds: float) -> None:
    names = [*WORKLOADS, *(name for name in rows if name not in WORKLOADS)]
    print(f"{'':14}" + "".join(f"{title:>19}" for title, _ in _COLUMNS) + f"{'losses':>8}")
    for name in [name for name in names if name in rows]:
        _row(name, rows[name])
    _row("total", total)
    print(
        f"crash points swept {total.crash_points + total.recovery_points} "
        f"({total.recovery_points} of them during a recovery), states after a kill {total.killed}, "
        f"power-loss states replayed {total.power_states}, states after a crash in a recovery {total.recovery_states}, "
        f"errors injected {total.errors}, flips made {total.flips} and found {total.flips_found}, "
        f"losses {len(total.losses)}; {seconds:.0f} s"
    )


def _row(name: str, tally: Tally) -> None:
    cells = "".join(f"{getattr(tally, field) or '':>19}" for _, field in _COLUMNS)
    print(f"{name:14}{cells}{len(tally.losses):>8}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
