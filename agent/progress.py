"""Progress on a terminal: files, bytes, rate and time left, for every long command.

Shown on stderr and only where that is a terminal; scripts and services see nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def watched(title: str) -> Iterator[Callable[[Any], None] | None]:
    """A callback for progress objects that have files_done and bytes_done, and maybe totals. Fits 80 columns.

    None where nobody watches.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[files]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None, files="")

        def tell(progress: Any) -> None:
            files_total = getattr(progress, "files_total", 0)
            files = f"{progress.files_done}/{files_total} files" if files_total else f"{progress.files_done} files"
            bar.update(
                task,
                completed=progress.bytes_done,
                total=getattr(progress, "bytes_total", 0) or None,
                files=files,
            )

        yield tell
