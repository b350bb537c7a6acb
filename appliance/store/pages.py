"""Extent pages: how a version's flat list of extents is cut into spans that versions share.

A version is either inline (small: its extents stand in its row) or paged: one page for each `span` of the file, the
span doubling with the size so that no version has more than PAGES_PER_VERSION. `resolve` turns the operations of a
delta into pages; a span that a copy covers whole, at its own offset, is the base's page itself. Page number 0 is the
span of a hole and is stored nowhere. Pure: pages are loaded and kept by whoever calls; every bound on what a hostile
agent may make us build stands here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from transport.errors import DecodeError
from transport.extents import Copy, Extent, Fragment, Operation, merge_extents, slice_extents
from transport.names import ID_BYTES, ZERO_SEGMENT, SegmentId

EXTENT: Final = struct.Struct(f">{ID_BYTES}sIQ")  # segment, offset in its plaintext, length
_NUMBER = struct.Struct(">Q")

SPAN_BYTES: Final = 256 << 10
PAGES_PER_VERSION: Final = 16384
EXTENTS_PER_PAGE: Final = 32768
INLINE_BYTES: Final = 4 * SPAN_BYTES
"""Versions up to this size are inline unless scattered over more than INLINE_EXTENTS."""
INLINE_EXTENTS: Final = 256
ZERO_PAGE: Final = 0
CELLS_PER_MESSAGE: Final = 2 << 20
"""Extents and page numbers that one message may make the appliance write: a short copy of a long list is cheap
to send, so what it resolves to is bounded by itself."""
_CACHED_EXTENTS: Final = 1 << 16
_PAGES_PER_READ: Final = 32

LoadPages = Callable[[list[int]], Mapping[int, bytes]]
"""Packed extents of the asked pages (never ZERO_PAGE)."""


class Layout(msgspec.Struct, frozen=True, gc=False):
    """Where a version's bytes stand: `body` is packed extents when `span_bytes` is 0, else 8-byte page numbers."""

    size_bytes: int
    span_bytes: int
    body: bytes

    def page_number(self, index: int) -> int:
        """The number of page `index`."""
        return int(_NUMBER.unpack_from(self.body, index * _NUMBER.size)[0])

    def page_bytes(self, index: int) -> int:
        """How many bytes of the file page `index` spans."""
        return min(self.span_bytes, self.size_bytes - index * self.span_bytes)

    def page_numbers(self) -> list[int]:
        """All page numbers in file order; empty when inline."""
        if not self.span_bytes:
            return []
        if len(self.body) % _NUMBER.size:
            raise DecodeError(f"a page list of {len(self.body)} bytes, no multiple of {_NUMBER.size}")
        return [number for (number,) in _NUMBER.iter_unpack(self.body)]


class NewPage(msgspec.Struct, frozen=True, gc=False):
    """A page that did not exist before."""

    number: int
    length_bytes: int
    extents: bytes


class Resolved(msgspec.Struct, frozen=True, gc=False):
    """A version resolved: its layout, the pages to keep before it, and what it cost in cells."""

    layout: Layout
    pages: list[NewPage]
    cells: int


def span_for(size_bytes: int) -> int:
    """The span of a version of this size: SPAN_BYTES, doubled until PAGES_PER_VERSION suffice."""
    span = SPAN_BYTES
    while size_bytes > span * PAGES_PER_VERSION:
        span *= 2
    return span


def pack_extents(extents: Iterable[Extent]) -> bytes:
    """Extents in the form that pages hold."""
    pack = EXTENT.pack
    return b"".join([pack(*extent) for extent in extents])


def unpack_extents(data: bytes) -> list[Extent]:
    """Extents of a page or of an inline body; DecodeError where the length is no multiple of one."""
    if len(data) % EXTENT.size:
        raise DecodeError(f"an extent list of {len(data)} bytes, no multiple of {EXTENT.size}")
    return [(SegmentId(segment), offset, length) for segment, offset, length in EXTENT.iter_unpack(data)]


class BaseReader:
    """Random access to the extents of a base version, with the last pages kept decoded."""

    def __init__(self, layout: Layout, load: LoadPages) -> None:
        self.layout = layout
        self._load = load
        self._views: dict[int, tuple[list[Extent], list[int]]] = {}
        self._held = 0

    def _view(self, index: int) -> tuple[list[Extent], list[int]]:
        view = self._views.get(index)
        if view is not None:
            return view
        layout = self.layout
        if not layout.span_bytes:
            at, extents = 0, unpack_extents(layout.body)
        else:
            at, number = index * layout.span_bytes, layout.page_number(index)
            if number == ZERO_PAGE:
                extents = [(ZERO_SEGMENT, 0, layout.page_bytes(index))]
            else:
                extents = unpack_extents(self._load([number])[number])
        starts = []
        for _, _, length in extents:
            starts.append(at)
            at += length
        if self._held + len(extents) > _CACHED_EXTENTS:
            self._views.clear()
            self._held = 0
        self._held += len(extents)
        self._views[index] = view = (extents, starts)
        return view

    def slice(self, offset: int, length: int) -> Iterator[Extent]:
        """The extents of `length` bytes from `offset`; both within the version."""
        span = self.layout.span_bytes or max(1, self.layout.size_bytes)
        while length:
            index = offset // span
            take = min(length, (index + 1) * span - offset)
            yield from slice_extents(*self._view(index), offset, take)
            offset += take
            length -= take


def _too_many_cells() -> DecodeError:
    return DecodeError(
        f"these versions resolve to more than {CELLS_PER_MESSAGE} extents and pages in one message: "
        "send fewer at a time, or the file whole"
    )


class _Filler:
    """Cuts a stream of extents at page ends and numbers the new pages."""

    def __init__(self, size: int, first_number: int, budget: int) -> None:
        self.size = size
        self.span = span_for(size)
        self.at = 0
        self.cells = 0
        self.page_end = min(self.span, size)
        self.numbers: list[int] = []
        self.pages: list[NewPage] = []
        self._current: list[Extent] = []
        self._next = first_number
        self._budget = budget

    def spend(self, cells: int) -> None:
        """Count cells; DecodeError when the message makes more than it may."""
        self.cells += cells
        if self.cells > self._budget:
            raise _too_many_cells()

    def put(self, segment: SegmentId, offset: int, length: int) -> None:
        """The next `length` bytes of the file."""
        if self.at + length > self.size:
            raise DecodeError(f"operations make {self.at + length} bytes or more of a version of {self.size}")
        current = self._current
        while length:
            take = min(length, self.page_end - self.at)
            if current:
                last, last_offset, last_length = current[-1]
                if last == segment and (segment == ZERO_SEGMENT or last_offset + last_length == offset):
                    current[-1] = (segment, last_offset, last_length + take)
                else:
                    current.append((segment, offset, take))
                    self.spend(1)
            else:
                current.append((segment, offset, take))
                self.spend(1)
            self.at += take
            length -= take
            if segment != ZERO_SEGMENT:
                offset += take
            if self.at == self.page_end:
                self._close()
                current = self._current
        if len(current) > EXTENTS_PER_PAGE:
            raise DecodeError(f"more than {EXTENTS_PER_PAGE} extents within {self.span} bytes: send the file whole")

    def _close(self) -> None:
        current = self._current
        length = self.page_end - (len(self.numbers) * self.span)
        if len(current) > EXTENTS_PER_PAGE:
            raise DecodeError(f"more than {EXTENTS_PER_PAGE} extents within {self.span} bytes: send the file whole")
        if len(current) == 1 and current[0][0] == ZERO_SEGMENT:
            number = ZERO_PAGE
        else:
            number = self._next
            self._next += 1
            self.pages.append(NewPage(number, length, pack_extents(current)))
        self._append(number)
        self._current = []

    def _append(self, number: int) -> None:
        self.spend(1)
        self.numbers.append(number)
        self.page_end = min(self.page_end + self.span, self.size)

    @property
    def at_page_start(self) -> bool:
        """Whether nothing of the current page was put yet."""
        return not self._current

    def reuse(self, number: int, length: int) -> None:
        """The current page, empty so far, is one that exists."""
        self.at += length
        self._append(number)


def resolve(
    size_bytes: int,
    operations: Sequence[Operation],
    base: Layout | None,
    load: LoadPages,
    plain_bytes: Mapping[SegmentId, int],
    first_number: int,
    budget: int = CELLS_PER_MESSAGE,
) -> Resolved:
    """The pages of a version made by `operations` over `base`.

    `plain_bytes` gives the plaintext length of every segment that may be named; a fragment of another one, a
    fragment or copy out of bounds, or operations that do not make exactly `size_bytes` raise DecodeError.
    """
    if len(operations) == 1 and size_bytes <= INLINE_BYTES and isinstance(only := operations[0], Fragment):
        return _single(only, size_bytes, plain_bytes, budget)
    filler = _Filler(size_bytes, first_number, budget)
    reader = None if base is None else BaseReader(base, load)
    for operation in _joined(operations):
        if isinstance(operation, Fragment):
            _check_fragment(operation, plain_bytes)
            filler.put(operation.segment, operation.offset, operation.length)
        elif isinstance(operation, Copy):
            if reader is None:
                raise DecodeError(f"a copy (offset={operation.offset}, length={operation.length}) without a base")
            _copy(filler, reader, operation)
        else:
            filler.put(ZERO_SEGMENT, 0, operation.length)
    if filler.at != size_bytes:
        raise DecodeError(f"operations make {filler.at} bytes of a version of {size_bytes}")
    return _finished(filler, reader)


def _check_fragment(fragment: Fragment, plain_bytes: Mapping[SegmentId, int]) -> None:
    plain = plain_bytes.get(fragment.segment)
    if plain is None:
        raise DecodeError(f"a fragment names segment {fragment.segment.hex()}, which is not held")
    if fragment.length < 1 or fragment.offset < 0 or fragment.offset + fragment.length > plain:
        raise DecodeError(
            f"fragment out of bounds (offset={fragment.offset}, length={fragment.length}, segment={plain})"
        )


def _single(fragment: Fragment, size_bytes: int, plain_bytes: Mapping[SegmentId, int], budget: int) -> Resolved:
    """A small file in one piece, as most files are: no pages to think about."""
    _check_fragment(fragment, plain_bytes)
    if fragment.length != size_bytes:
        raise DecodeError(f"operations make {fragment.length} bytes of a version of {size_bytes}")
    if budget < 1:
        raise _too_many_cells()
    body = EXTENT.pack(fragment.segment, fragment.offset, size_bytes)
    return Resolved(Layout(size_bytes, 0, body), [], 1)


def _joined(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Neighbouring copies as one, so that a page covered by two of them is still seen as unchanged."""
    pending: Copy | None = None
    for operation in operations:
        if pending is not None:
            if isinstance(operation, Copy) and operation.offset == pending.offset + pending.length:
                pending = Copy(pending.offset, pending.length + operation.length)
                continue
            yield pending
            pending = None
        if isinstance(operation, Copy):
            pending = operation
        else:
            yield operation
    if pending is not None:
        yield pending


def _copy(filler: _Filler, reader: BaseReader, copy: Copy) -> None:
    base = reader.layout
    offset, length = copy.offset, copy.length
    if length < 1 or offset < 0 or offset + length > base.size_bytes:
        raise DecodeError(f"copy out of bounds (offset={offset}, length={length}, base={base.size_bytes})")
    if filler.at + length > filler.size:
        raise DecodeError(f"operations make {filler.at + length} bytes or more of a version of {filler.size}")
    shareable = offset == filler.at and base.span_bytes == filler.span
    while length:
        room = filler.page_end - filler.at
        if shareable and filler.at_page_start and length >= room:
            index = offset // filler.span
            if base.page_bytes(index) == room:
                filler.reuse(base.page_number(index), room)
                offset += room
                length -= room
                continue
        take = min(length, room)
        for extent in reader.slice(offset, take):
            filler.put(*extent)
        offset += take
        length -= take


def _finished(filler: _Filler, reader: BaseReader | None) -> Resolved:
    """Inline where the version is small and not scattered; then the pages made for it are not kept."""
    size = filler.size
    if size <= INLINE_BYTES:
        made = {page.number: page.extents for page in filler.pages}
        extents: list[Extent] = []
        for index, number in enumerate(filler.numbers):
            length = min(filler.span, size - index * filler.span)
            if number == ZERO_PAGE:
                extents.append((ZERO_SEGMENT, 0, length))
            elif number in made:
                extents.extend(unpack_extents(made[number]))
            elif reader is not None:
                extents.extend(reader.slice(index * filler.span, length))
        extents = merge_extents(extents)
        if len(extents) <= INLINE_EXTENTS:
            return Resolved(Layout(size, 0, pack_extents(extents)), [], filler.cells)
    body = b"".join([_NUMBER.pack(number) for number in filler.numbers])
    return Resolved(Layout(size, filler.span, body), filler.pages, filler.cells)


def flat_extents(layout: Layout, load: LoadPages, start: int, limit: int) -> tuple[list[Extent], bool]:
    """At most `limit` merged extents from byte `start`, and whether the file goes on after them."""
    if not 0 <= start <= layout.size_bytes:
        raise DecodeError(f"extents from byte {start} of a version of {layout.size_bytes} bytes")
    merged: list[Extent] = []
    end = start
    for extent in _from(layout, load, start):
        segment, offset, length = extent
        if merged:
            last, last_offset, last_length = merged[-1]
            if last == segment and (segment == ZERO_SEGMENT or last_offset + last_length == offset):
                merged[-1] = (segment, last_offset, last_length + length)
                end += length
                continue
        if len(merged) == limit:
            return merged, True
        merged.append(extent)
        end += length
    return merged, end < layout.size_bytes


def _from(layout: Layout, load: LoadPages, start: int) -> Iterator[Extent]:
    if start == layout.size_bytes:
        return
    if not layout.span_bytes:
        yield from BaseReader(layout, load).slice(start, layout.size_bytes - start)
        return
    numbers = layout.page_numbers()
    first = start // layout.span_bytes
    for at in range(first, len(numbers), _PAGES_PER_READ):
        portion = numbers[at : at + _PAGES_PER_READ]
        held = load([number for number in portion if number != ZERO_PAGE])
        for index, number in enumerate(portion, at):
            begin = max(start, index * layout.span_bytes)
            part = Layout(layout.page_bytes(index), 0, b"")
            if number == ZERO_PAGE:
                yield (ZERO_SEGMENT, 0, part.size_bytes - (begin - index * layout.span_bytes))
                continue
            whole = BaseReader(Layout(part.size_bytes, 0, held[number]), load)
            skip = begin - index * layout.span_bytes
            yield from whole.slice(skip, part.size_bytes - skip)
