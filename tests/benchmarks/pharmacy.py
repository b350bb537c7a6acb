"""A pharmacy's disk out of a seed, and days of work on it: the same bytes on every machine.

At scale 1, 3.2 GiB in 28,722 files: a database of 8 KiB pages (1 GiB, 2.5:1 under zstd -3), a CSV export (200 MiB),
28,000 small documents in folders of 500, 700 incompressible scans and 20 growing logs (200 MiB). What each day
changes is in `day_of_work`. Database pages end in a run of zero bytes or in none at all: content-defined chunkers
with a zero window cut at every such run, so a fair comparison makes both kinds. Knows no backup program.

    python -m tests.benchmarks.pharmacy FOLDER --scale 0.05 --page-ends zeros
    python -m tests.benchmarks.pharmacy FOLDER --scale 0.05 --page-ends zeros --day 1
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

PAGE_BYTES = 8192
PAGES = 131_072
CSV_BYTES = 200 << 20
DOCUMENTS = 28_000
DOCUMENTS_PER_FOLDER = 500
SCANS = 700
LOGS = 20
LOG_BYTES = 10 << 20

TOUCHED_PAGES_SHARE = 0.005
TOUCHED_BYTES = 200
APPENDED_PAGES = 200
CSV_INSERT_BYTES = 100
LOG_APPEND_BYTES = 50 << 10
NEW_SCANS = 40
NEW_DOCUMENTS = 100
EDITED_DOCUMENTS = 150
EDIT_BYTES = 250
DELETED_DOCUMENTS = 5

_HEADER_BYTES = 24
_RECORD_BYTES = 128
_UNIQUE_BYTES = 80
_FRAGMENTS = 256
_BATCH_PAGES = 128
_ZSTD_LEVEL = 3
_FIRST_DAY_S = 1_700_000_000
_DAY_S = 86_400

# 256 random byte values become digits, letters and separators with about 4.4 bits each.
_FIELD = bytes((b"0123456789" * 13 + b"aeinrstlou" * 8 + b"ABCDEFGHMP;;;;;;;;      " * 2)[i % 256] for i in range(256))
# About 4.2 bits each: text of documents, which compress about 2:1.
_TEXT = bytes((b"eeeeeaaaaiiiinnnnssssrrrrttttoooolllluuudddcccmmppgbvhfqyxj        \n,.'-" * 4)[i] for i in range(256))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each kind there is at a scale; at least one of everything."""

    pages: int
    csv_bytes: int
    documents: int
    documents_per_folder: int
    scans: int
    log_bytes: int

    @classmethod
    def at(cls, scale: float) -> Sizes:
        """The sizes at `scale` (1.0 is the published one)."""
        return cls(
            _scaled(PAGES, scale),
            _scaled(CSV_BYTES, scale),
            _scaled(DOCUMENTS, scale),
            min(DOCUMENTS_PER_FOLDER, max(1, _scaled(DOCUMENTS, scale) // 4)),
            _scaled(SCANS, scale),
            _scaled(LOG_BYTES, scale),
        )


@dataclass(frozen=True, slots=True)
class NewContent:
    """New content of one kind: files, bytes, and bytes as one zstd -3 stream."""

    files: int
    bytes: int
    compressed_bytes: int


@dataclass(frozen=True, slots=True)
class Day:
    """What a day of work brought. `floor_bytes` is the compressed new content: new scans and documents, log lines."""

    scans: NewContent
    documents: NewContent
    logs: NewContent
    database: NewContent
    edits: NewContent
    csv_inserted_bytes: int
    deleted_files: int
    renamed_folder: str
    renamed_files: int

    @property
    def floor_bytes(self) -> int:
        """What any program must send for the files that are new, and for the lines that logs gained."""
        return self.scans.compressed_bytes + self.documents.compressed_bytes + self.logs.compressed_bytes


class _Measure:
    """Counts what is given to it, and its size as one compressed stream."""

    def __init__(self) -> None:
        self._files, self._bytes, self._compressed = 0, 0, 0
        self._stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def add(self, content: bytes, *, new_file: bool = True) -> bytes:
        """Count `content`, and give it back."""
        self._files += new_file
        self._bytes += len(content)
        self._compressed += len(self._stream.compress(content))
        return content

    def done(self) -> NewContent:
        """The figures; nothing may be added any more."""
        self._compressed += len(self._stream.flush())
        return NewContent(self._files, self._bytes, self._compressed if self._bytes else 0)


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def _rng(seed: int, *labels: object) -> random.Random:
    return random.Random("/".join(map(str, ("pharmacy", seed, *labels))))


def _stamp(path: Path, day: int) -> None:
    moment = (_FIRST_DAY_S + day * _DAY_S) * 10**9 + 123_456_789
    os.utime(path, ns=(moment, moment))


def _fragments(seed: int) -> list[bytes]:
    """Fixed parts that records share: column names, product labels."""
    rng = _rng(seed, "fragments")
    return [rng.randbytes(_RECORD_BYTES - _UNIQUE_BYTES).translate(_TEXT) for _ in range(_FRAGMENTS)]


def _records(rng: random.Random, fragments: list[bytes], count: int) -> Iterator[bytes]:
    """`count` records of 128 bytes: a shared fragment, then fields of their own."""
    fields = rng.randbytes(count * _UNIQUE_BYTES).translate(_FIELD)
    chosen = rng.choices(fragments, k=count)
    for number, fragment in enumerate(chosen):
        yield fragment
        yield fields[number * _UNIQUE_BYTES : (number + 1) * _UNIQUE_BYTES]


def _page_batch(
    rng: random.Random, fragments: list[bytes], first: int, count: int, zero_tails: bool
) -> Iterator[bytes]:
    """Database pages: a header, records, then either 64 to 500 zero bytes or records to the very end."""
    per_page = PAGE_BYTES // _RECORD_BYTES
    body = b"".join(_records(rng, fragments, count * per_page))
    for index in range(count):
        number = first + index
        header = b"PAGE" + rng.randbytes(12) + number.to_bytes(8, "big").replace(b"\0", b"\x11")
        start = index * PAGE_BYTES
        if zero_tails:
            tail = rng.randrange(64, 501)
            yield header + body[start : start + PAGE_BYTES - _HEADER_BYTES - tail] + bytes(tail)
        else:
            yield header + body[start : start + PAGE_BYTES - _HEADER_BYTES]


def pages(seed: int, label: object, first: int, count: int, *, zero_tails: bool) -> Iterator[bytes]:
    """`count` database pages in batches of joined bytes; `first` numbers them."""
    fragments = _fragments(seed)
    for batch in range(0, count, _BATCH_PAGES):
        size = min(_BATCH_PAGES, count - batch)
        rng = _rng(seed, "pages", label, batch)
        yield b"".join(_page_batch(rng, fragments, first + batch, size, zero_tails))


def _lines(seed: int, label: object, size: int) -> Iterator[bytes]:
    """Lines of an export or a log, `size` bytes in all, in parts of about 1 MiB."""
    fragments = _fragments(seed)
    written, part = 0, 0
    while written < size:
        rng = _rng(seed, "lines", label, part)
        fields = list(_records(rng, fragments, 8192))
        content = b"".join(fragment[:40] + b";" + unique[:60] + b"\n" for fragment, unique in _pairs(fields))
        content = content[: size - written]
        written, part = written + len(content), part + 1
        yield content


def _pairs(fields: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)


def document(seed: int, label: object) -> bytes:
    """A document of 2 to 48 KB that compresses about 2:1."""
    rng = _rng(seed, "document", label)
    return b"ORDONNANCE\nPharmacie du Marche\n" + rng.randbytes(rng.randrange(2_000, 48_000)).translate(_TEXT)


def scan(seed: int, label: object) -> bytes:
    """A scan of 1.1 to 2.2 MiB that does not compress."""
    rng = _rng(seed, "scan", label)
    return b"\xff\xd8\xff\xe0" + rng.randbytes(rng.randrange(1_150_000, 2_300_000))


def _write(path: Path, parts: Iterable[bytes], day: int, mode: str = "wb") -> None:
    with open(path, mode) as file:
        for part in parts:
            file.write(part)
    _stamp(path, day)


def database_path(root: Path) -> Path:
    """Where the database file is."""
    return root / "data" / "pharmacie.db"


def generate(root: Path, *, scale: float = 1.0, zero_tails: bool = True, seed: int = 1) -> Sizes:
    """Make the pharmacy in `root`, which must not exist or be empty."""
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: name a new folder for the pharmacy")
    sizes = Sizes.at(scale)
    for name in ("data", "documents", "scans", "logs"):
        (root / name).mkdir()
    _write(database_path(root), pages(seed, "base", 0, sizes.pages, zero_tails=zero_tails), 0)
    _write(root / "data" / "export.csv", _lines(seed, "csv", sizes.csv_bytes), 0)
    for number in range(sizes.documents):
        folder = root / "documents" / f"dossier-{number // sizes.documents_per_folder:03d}"
        if number % sizes.documents_per_folder == 0:
            folder.mkdir()
        _write(folder / f"ordonnance-{number:05d}.doc", [document(seed, number)], 0)
    for number in range(sizes.scans):
        _write(root / "scans" / f"scan-{number:04d}.jpg", [scan(seed, number)], 0)
    for number in range(LOGS):
        _write(root / "logs" / f"service-{number:02d}.log", _lines(seed, f"log-{number}", sizes.log_bytes), 0)
    return sizes


def database_day(root: Path, day: int, *, scale: float = 1.0, zero_tails: bool = True, seed: int = 1) -> NewContent:
    """A day's change of the database alone: 200 bytes in 0.5 % of its pages, and 200 pages more (scaled)."""
    path, measure, rng = database_path(root), _Measure(), _rng(seed, "database", day)
    held = path.stat().st_size // PAGE_BYTES
    fragments = _fragments(seed)
    with open(path, "r+b") as file:
        for page in sorted(rng.sample(range(held), max(1, round(held * TOUCHED_PAGES_SHARE)))):
            # Within the records of any page, so that no run of zeros at its end is touched.
            offset = rng.randrange(_HEADER_BYTES, PAGE_BYTES - 501 - TOUCHED_BYTES)
            file.seek(page * PAGE_BYTES + offset)
            content = b"".join(_records(rng, fragments, 2))[:TOUCHED_BYTES]
            file.write(measure.add(content, new_file=False))
        file.seek(0, os.SEEK_END)
        for batch in pages(seed, f"day-{day}", held, _scaled(APPENDED_PAGES, scale), zero_tails=zero_tails):
            file.write(measure.add(batch, new_file=False))
    _stamp(path, day)
    return measure.done()


def _insert_in_csv(root: Path, day: int, seed: int) -> None:
    """100 bytes in the middle, as an export that has one more line: written anew, then renamed into place."""
    path = root / "data" / "export.csv"
    middle = path.stat().st_size // 2
    inserted = next(_lines(seed, f"csv-day-{day}", CSV_INSERT_BYTES))
    temporary = path.with_suffix(".new")
    with open(path, "rb") as old, open(temporary, "wb") as new:
        remaining = middle
        while remaining:
            part = old.read(min(1 << 20, remaining))
            new.write(part)
            remaining -= len(part)
        new.write(inserted)
        shutil.copyfileobj(old, new, 1 << 20)
    os.replace(temporary, path)
    _stamp(path, day)


def rename_folder(root: Path, day: int) -> tuple[str, int]:
    """Rename one full folder of documents; its new name and how many files it holds."""
    every = sorted((root / "documents").iterdir())
    # In a small pharmacy all have been renamed after some days: then one of these once more.
    folders = [folder for folder in every if not folder.name.startswith("classeur")] or every
    # Never the last one, which may be partly filled; another one each day.
    folder = folders[day % max(1, len(folders) - 1)]
    renamed = folder.with_name(f"classeur-{day:02d}-{folder.name.rpartition('-')[2]}")
    folder.rename(renamed)
    return renamed.name, sum(1 for _ in renamed.iterdir())


def day_of_work(root: Path, day: int, *, scale: float = 1.0, zero_tails: bool = True, seed: int = 1) -> Day:
    """Everything that a day changes; `day` counts from 1, and days come one after the other."""
    rng = _rng(seed, "day", day)
    database = database_day(root, day, scale=scale, zero_tails=zero_tails, seed=seed)
    _insert_in_csv(root, day, seed)

    logs = _Measure()
    for number in range(LOGS):
        lines = b"".join(_lines(seed, f"log-{number}-day-{day}", _scaled(LOG_APPEND_BYTES, scale)))
        _write(root / "logs" / f"service-{number:02d}.log", [logs.add(lines, new_file=False)], day, "ab")

    scans, documents, edits = _Measure(), _Measure(), _Measure()
    for number in range(_scaled(NEW_SCANS, scale)):
        _write(root / "scans" / f"scan-day{day:02d}-{number:03d}.jpg", [scans.add(scan(seed, (day, number)))], day)
    present = sorted((root / "documents").rglob("*.doc"))
    touched = rng.sample(present, min(len(present), _scaled(EDITED_DOCUMENTS + DELETED_DOCUMENTS, scale)))
    deleted = touched[: _scaled(DELETED_DOCUMENTS, scale)]
    for path in touched[len(deleted) :]:
        content = bytearray(path.read_bytes())
        at = rng.randrange(max(1, len(content) - EDIT_BYTES))
        content[at : at + EDIT_BYTES] = edits.add(rng.randbytes(EDIT_BYTES).translate(_TEXT))
        _write(path, [bytes(content)], day)
    for path in deleted:
        path.unlink()
    folders = sorted((root / "documents").iterdir())
    for number in range(_scaled(NEW_DOCUMENTS, scale)):
        content_new = documents.add(document(seed, (day, number)))
        _write(folders[-1] / f"ordonnance-day{day:02d}-{number:03d}.doc", [content_new], day)
    renamed, renamed_files = rename_folder(root, day)
    return Day(
        scans.done(),
        documents.done(),
        logs.done(),
        database,
        edits.done(),
        CSV_INSERT_BYTES,
        len(deleted),
        renamed,
        renamed_files,
    )


def main() -> int:
    """Make a pharmacy, or with `--day` let it work for a day; prints one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--page-ends", choices=("zeros", "full"), default="zeros")
    parser.add_argument("--seed", type=int, default=1)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--day", type=int, help="apply this day of work")
    what.add_argument("--database-day", type=int, help="change the database alone, as on this day")
    what.add_argument("--rename-day", type=int, help="rename a folder alone, as on this day")
    given = parser.parse_args()
    kind = {"scale": given.scale, "zero_tails": given.page_ends == "zeros", "seed": given.seed}
    if given.day is not None:
        day = day_of_work(given.folder, given.day, **kind)
        done: dict[str, object] = dataclasses.asdict(day) | {"floor_bytes": day.floor_bytes}
    elif given.database_day is not None:
        done = dataclasses.asdict(database_day(given.folder, given.database_day, **kind))
    elif given.rename_day is not None:
        name, files = rename_folder(given.folder, given.rename_day)
        done = {"renamed_folder": name, "renamed_files": files}
    else:
        done = dataclasses.asdict(generate(given.folder, **kind))
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
