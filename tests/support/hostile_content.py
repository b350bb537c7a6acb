"""Lies about contents: where a file's bytes lie (extents), and the sealed bytes themselves (segments).

The other half of hostile_host. Most cost only the files they touch: those have a reason each, the others are restored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import zstandard

from tests.support.hostile_host import ENDLESS, NEWEST, Layer, Mutation, Stage, flip, seal_anything
from tests.support.memory_source import LyingSource
from transport.errors import UnreachableError
from transport.extents import Extent, ExtentPage
from transport.names import SegmentId, VersionId
from transport.sealing import Sealer
from transport.snapshot_reader import MissingSegment, SnapshotSource

replace = msgspec.structs.replace

# --- extents

ExtentPages = Callable[[list[ExtentPage]], list[ExtentPage]]


def _extents(change: ExtentPages) -> Callable[[Stage], SnapshotSource]:
    return lambda stage: LyingSource(stage.repository, extents=change)


def _extent(change: Callable[[Extent], Extent]) -> Callable[[Stage], SnapshotSource]:
    return _extents(lambda pages: [replace(page, extents=[change(e) for e in page.extents]) for page in pages])


def _page(**changes: Callable[[ExtentPage], object]) -> Callable[[Stage], SnapshotSource]:
    return _extents(
        lambda pages: [replace(p, **{name: value(p) for name, value in changes.items()}) for p in pages]
    )


def _borrowed(stage: Stage, *, other_file: bool) -> SnapshotSource:
    """Letters get the extents of the bill, or of themselves in another snapshot: same size, other bytes."""
    repository = stage.repository
    place: dict[VersionId, VersionId] = {}
    for number, items in stage.items.items():
        letter, bill = items[0], items[1]
        assert len(letter.content) == len(bill.content)
        other = bill if other_file else stage.items[number % NEWEST + 1][0]
        place[repository.store(letter)] = repository.store(other)

    def change(pages: list[ExtentPage]) -> list[ExtentPage]:
        return [
            replace(page, extents=repository.versions[place[page.version_id]][1]) if page.version_id in place else page
            for page in pages
        ]

    return LyingSource(repository, extents=change)


class _EndlessExtents(LyingSource):
    """The first version goes on for ever, byte by byte."""

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        size = next(iter(self._honest.extents(versions[:1]))).size
        for start in range(ENDLESS):
            yield ExtentPage(versions[0], size, start, [(SegmentId(b"s" * 16), 0, 1)], True)
        raise AssertionError("the reader takes whatever comes")


def _of_extents(lie: Callable[[Stage], SnapshotSource], says: str, code: str = "") -> Mutation:
    return Mutation(Layer.EXTENTS, lie, code, says)


_ALTERED = "whole-file check"
EXTENTS: dict[str, Mutation] = {
    "other offsets": _of_extents(_extent(lambda e: (e[0], e[1] + 1, e[2])), f"{_ALTERED}|beyond its segment"),
    "beyond the plaintext": _of_extents(_extent(lambda e: (e[0], 900_000, e[2])), "beyond its segment"),
    "beyond any segment": _of_extents(_extent(lambda e: (e[0], 1 << 40, e[2])), "beyond its segment|gave no extents"),
    "negative offsets": _of_extents(_extent(lambda e: (e[0], -1, e[2])), "beyond its segment"),
    "shorter": _of_extents(_extent(lambda e: (e[0], e[1], e[2] - 1)), "short|leave a gap|overlap|beyond its file"),
    "longer": _of_extents(_extent(lambda e: (e[0], e[1], e[2] + 1)), "beyond its file|leave a gap|overlap"),
    "of no bytes": _of_extents(_extent(lambda e: (e[0], e[1], 0)), "beyond its file"),
    "of negative lengths": _of_extents(_extent(lambda e: (e[0], e[1], -e[2])), "beyond its file"),
    "everything a hole": _of_extents(_extent(lambda e: (SegmentId(bytes(16)), 0, e[2])), _ALTERED),
    "an unknown segment": _of_extents(_extent(lambda e: (SegmentId(b"?" * 16), e[1], e[2])), "missing"),
    "a segment id that is none": _of_extents(
        _extent(lambda e: (SegmentId(b"?" * 9), e[1], e[2])), "beyond its segment"
    ),
    "another size": _of_extents(_page(size=lambda p: p.size + 1), "extents of [0-9]+ bytes for a file of"),
    "a gap": _of_extents(_page(start=lambda p: p.start + 7), "leave a gap"),
    "more, and nothing comes": _of_extents(_page(more=lambda p: True), "short|goes on|go on"),
    "the end told too early": _of_extents(
        _extents(lambda pages: [replace(p, more=False, extents=p.extents[:1] if p.more else []) for p in pages]),
        "short|go on after|leave a gap",
    ),
    "pages twice": _of_extents(
        _extents(lambda pages: [p for page in pages for p in (page, page)]), "go on after|overlap"
    ),
    "no extents at all": _of_extents(_extents(lambda pages: []), "gave no extents"),
    "extents of versions not asked for": _of_extents(
        _extents(lambda pages: [*pages, replace(pages[0], version_id=VersionId(b"u" * 16))]), "out of turn", "integrity"
    ),
    "extents of another version first": _of_extents(
        _extents(lambda pages: [replace(pages[0], version_id=VersionId(b"u" * 16)), *pages]), "out of turn", "integrity"
    ),
    "another file's extents": _of_extents(lambda stage: _borrowed(stage, other_file=True), _ALTERED),
    "another snapshot's extents": _of_extents(lambda stage: _borrowed(stage, other_file=False), _ALTERED),
    "extents for ever": _of_extents(lambda stage: _EndlessExtents(stage.repository), "without end", "integrity"),
}

# --- segments

Answer = bytes | MissingSegment


def _sealed(change: Callable[[SegmentId, bytes], Answer]) -> Callable[[Stage], SnapshotSource]:
    def answer(segment: SegmentId, sealed: Answer) -> Answer:
        return change(segment, sealed) if isinstance(sealed, bytes) else sealed

    return lambda stage: LyingSource(stage.repository, segment=answer)


def _by_key(make: Callable[[Sealer, SegmentId, bytes], bytes]) -> Callable[[Stage], SnapshotSource]:
    """Segments that the host seals anew with the machine key, out of the true plaintext."""

    def lie(stage: Stage) -> SnapshotSource:
        sealer = stage.repository.sealer

        def answer(segment: SegmentId, sealed: Answer) -> Answer:
            assert isinstance(sealed, bytes)
            return make(sealer, segment, sealer.open_segment(segment, sealed))

        return LyingSource(stage.repository, segment=answer)

    return lie


def _packed(data: bytes, *, told: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=told).compress(data)


_BOMB = _packed(bytes(64 << 20))
_SILENT_BOMB = _packed(bytes(64 << 20), told=False)


def _swapped(stage: Stage) -> SnapshotSource:
    ids = list(stage.repository.sealed)
    other = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    return LyingSource(stage.repository, segment=lambda segment, _: stage.repository.sealed[other[segment]])


class _Turns(LyingSource):
    """The right bytes in the wrong order or number."""

    def __init__(self, stage: Stage, how: str) -> None:
        super().__init__(stage.repository)
        self._how = how

    def segments(self, ids: Iterable[SegmentId]) -> Iterator[tuple[SegmentId, bytes | memoryview | MissingSegment]]:
        answers = [*self._honest.segments(ids)]
        if self._how == "none":
            return
        if self._how == "short":
            yield from answers[:-1]
        elif self._how == "other id":
            for segment, data in answers:
                yield SegmentId(flip(segment, 5)), data
        elif self._how == "order":
            yield from answers[::-1] if len(answers) > 1 else [(SegmentId(flip(answers[0][0], 5)), answers[0][1])]
        elif self._how == "twice":
            yield from (answer for answer in answers for _ in (0, 1))
        elif self._how == "for ever":
            yield from answers
            for _ in range(ENDLESS):
                yield answers[0]
            raise AssertionError("the reader takes whatever comes")
        else:
            raise UnreachableError("the appliance stopped sending")


def _of_segments(
    lie: Callable[[Stage], SnapshotSource], says: str, code: str = "", *, opens: bool = False
) -> Mutation:
    return Mutation(Layer.SEGMENTS, lie, code, says, opens=opens)


def _turns(how: str, says: str, code: str = "integrity") -> Mutation:
    return _of_segments(lambda stage: _Turns(stage, how), says, code, opens=True)


_DAMAGED = "part of it is damaged"
SEGMENTS: dict[str, Mutation] = {
    **{
        f"{part} flipped": _of_segments(_sealed(lambda _, s, at=at: flip(s, at)), _DAMAGED)  # type: ignore[misc]
        for part, at in (
            ("magic", 0), ("format", 4), ("kind", 5), ("codec", 6), ("algorithm", 7), ("epoch", 11),
            ("plaintext length", 14), ("segment salt", 20), ("segment commitment", 50), ("ciphertext", 90), ("tag", -1),
        )
    },
    **{
        f"segment cut to {length}": _of_segments(_sealed(lambda _, s, length=length: s[:length]), _DAMAGED)  # type: ignore[misc]
        for length in (0, 15, 95, 200)
    },
    "bytes after the segment": _of_segments(_sealed(lambda _, s: s + b"\0"), _DAMAGED),
    "segments swapped": _of_segments(_swapped, _DAMAGED),
    "one segment for all": _of_segments(
        lambda stage: LyingSource(
            stage.repository,
            segment=lambda segment, _: bytes(stage.repository.sealer.seal_segment(SegmentId(b"1" * 16), b"one")),
        ),
        _DAMAGED,
    ),
    "segments hidden": _of_segments(_sealed(lambda *_: MissingSegment("it was never here")), "missing"),
    "another machine's seal": _of_segments(
        lambda stage: LyingSource(
            stage.repository, segment=lambda segment, _: bytes(stage.others.sealer.seal_segment(segment, b"x" * 40_000))
        ),
        _DAMAGED,
    ),
    "a batch of entries as a segment": _of_segments(
        _sealed(lambda _, s: s[:5] + b"\x02" + s[6:]), _DAMAGED
    ),
    "sealed by the host: other bytes": _of_segments(
        _by_key(lambda k, segment, p: bytes(k.seal_segment(segment, bytes(b ^ 1 for b in p)))), _ALTERED, opens=True
    ),
    "sealed by the host: one bit": _of_segments(
        _by_key(lambda k, segment, p: bytes(k.seal_segment(segment, _a_bit_in_each_64(p)))), _ALTERED, opens=True
    ),
    "sealed by the host: too short": _of_segments(
        _by_key(lambda k, segment, p: bytes(k.seal_segment(segment, p[:1]))), "beyond its segment", opens=True
    ),
    "sealed by the host: all zero": _of_segments(
        _by_key(lambda k, segment, p: bytes(k.seal_segment(segment, bytes(len(p))))), _ALTERED, opens=True
    ),
    "sealed by the host: a bomb under a true length": _of_segments(
        _by_key(lambda k, segment, p: seal_anything(k, segment, _BOMB, 1, len(p))), _DAMAGED
    ),
    "sealed by the host: a bomb under its own length": _of_segments(
        _by_key(lambda k, segment, p: seal_anything(k, segment, _BOMB, 1, 64 << 20)), _DAMAGED
    ),
    "sealed by the host: a bomb that tells no length": _of_segments(
        _by_key(lambda k, segment, p: seal_anything(k, segment, _SILENT_BOMB, 1, len(p))), _DAMAGED
    ),
    "sealed by the host: no zstd": _of_segments(
        _by_key(lambda k, segment, p: seal_anything(k, segment, p, 1, len(p))), _DAMAGED
    ),
    "sealed by the host: another length": _of_segments(
        _by_key(lambda k, segment, p: seal_anything(k, segment, p, 0, len(p) - 1)), _DAMAGED
    ),
    "sealed by the host: an unknown codec": _of_segments(
        _by_key(lambda k, segment, p: seal_anything(k, segment, p, 2, len(p))), _DAMAGED
    ),
    "no segment comes": _turns("none", "and stopped"),
    "the last segment does not come": _turns("short", "and stopped"),
    "segments out of order": _turns("order", "out of turn"),
    "segments under other ids": _turns("other id", "out of turn"),
    "each segment twice": _turns("twice", "out of turn"),
    "segments for ever": _turns("for ever", "out of turn"),
    "the connection breaks": _turns("break", "stopped sending", "unreachable"),
}


def _a_bit_in_each_64(plaintext: bytes) -> bytes:
    changed = bytearray(plaintext)
    for at in range(0, len(changed), 64):
        changed[at] ^= 0x10
    return bytes(changed)
