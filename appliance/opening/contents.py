"""The plaintext of files out of a repository, in the order of files, for archives that are written as they are read.

Owns the reading ahead: segments that are needed next are fetched and opened by two threads while the one before is
written, and stay for as long as room allows, since small files share them. Memory is bounded by `WINDOW` opened
segments of 1 MiB. A file's MAC is checked as its last byte is read; what does not prove itself is `IntegrityError`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from appliance.store.repository import Repository
from transport.contents import CHUNK_BYTES, chunk_digest, file_mac, same_mac
from transport.errors import IntegrityError
from transport.extents import ExtentPage
from transport.names import NO_VERSION, ZERO_SEGMENT, SegmentId, VersionId
from transport.sealing import Sealer
from transport.snapshot_reader import Node

WINDOW: Final = 48
"""Opened segments that are kept."""
AHEAD: Final = 12
"""Segments that are fetched before they are needed."""
_EXTENTS: Final = 20_000
_GROUP: Final = 64
"""Versions whose extents are looked up together."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes at `offset` of a segment; of zeros for ZERO_SEGMENT. `last` ends its file."""

    file: int
    segment: SegmentId
    offset: int
    length: int
    last: bool


class Contents:
    """Reads files one after the other. A context manager: its threads end with it."""

    def __init__(self, repository: Repository, sealer: Sealer) -> None:
        self._repository = repository
        self._sealer = sealer
        self._content_key = sealer.keys.content
        self._opened: OrderedDict[SegmentId, Future[bytes]] = OrderedDict()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="opening")

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _open(self, segment: SegmentId) -> bytes:
        # The seal proves more than the pack's checksum does: one pass over the bytes is enough.
        return self._sealer.open_segment(segment, self._repository.read_segment(segment, summed=False))

    def _wanted(self, segment: SegmentId) -> Future[bytes]:
        found = self._opened.get(segment)
        if found is None:
            found = self._opened[segment] = self._pool.submit(self._open, segment)
            while len(self._opened) > WINDOW:
                self._opened.popitem(last=False)
        else:
            self._opened.move_to_end(segment)
        return found

    def _pages(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        at, start = 0, 0
        while at < len(versions):
            pages = self._repository.extent_pages(versions[at : at + _GROUP], start, _EXTENTS)
            yield from pages
            last = pages[-1]
            at += len(pages) - 1 if last.more else len(pages)
            start = last.start + sum(length for _, _, length in last.extents) if last.more else 0

    def _pieces(self, nodes: Sequence[Node]) -> Iterator[Piece]:
        """Every piece of every file, in order; extents that do not make the file exactly are IntegrityError."""
        for first in range(0, len(nodes), _GROUP):
            group = [
                index
                for index in range(first, min(first + _GROUP, len(nodes)))
                if nodes[index].size and nodes[index].version_id != NO_VERSION
            ]
            pages = self._pages([nodes[index].version_id for index in group])
            for index in group:
                yield from self._of_file(index, nodes[index], pages)

    def _of_file(self, index: int, node: Node, pages: Iterator[ExtentPage]) -> Iterator[Piece]:
        done = 0
        while True:
            page = next(pages, None)
            if page is None or page.version_id != node.version_id or page.size != node.size or page.start != done:
                raise IntegrityError("the extents of a version are not those of its file")
            for segment, offset, length in page.extents:
                done += length
                if length <= 0 or done > node.size:
                    raise IntegrityError("the extents of a version go beyond its file")
                yield Piece(index, segment, offset, length, done == node.size)
            if not page.more:
                break
        if done != node.size:
            raise IntegrityError(f"the extents of a version make {done} bytes of {node.size}")

    def files(self, nodes: Sequence[Node]) -> Iterator[tuple[Node, Iterator[bytes]]]:
        """Each file with its content, which must be read to its end before the next one is asked for."""
        stream = self._ahead(self._pieces(nodes))
        for index, node in enumerate(nodes):
            yield node, self._checked(node, self._content(index, node, stream))

    def _ahead(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The same pieces, with the segments of those that follow under way."""
        waiting: deque[Piece] = deque()
        source = iter(pieces)
        distinct = 0
        last = ZERO_SEGMENT
        while True:
            while distinct < AHEAD and len(waiting) < 4096:
                piece = next(source, None)
                if piece is None:
                    break
                waiting.append(piece)
                if piece.segment not in (ZERO_SEGMENT, last):
                    self._wanted(SegmentId(piece.segment))
                    distinct += 1
                    last = piece.segment
            if not waiting:
                return
            piece = waiting.popleft()
            if not waiting or waiting[0].segment != piece.segment:
                distinct = max(0, distinct - (piece.segment != ZERO_SEGMENT))
            yield piece

    def _content(self, index: int, node: Node, stream: Iterator[Piece]) -> Iterator[bytes]:
        if not node.size:
            return
        for piece in stream:
            if piece.file != index:
                raise IntegrityError("pieces of files came out of turn")
            if piece.segment == ZERO_SEGMENT:
                left = piece.length
                while left:
                    part = min(left, CHUNK_BYTES)
                    yield bytes(part)
                    left -= part
            else:
                plaintext = self._wanted(SegmentId(piece.segment)).result()
                part_bytes = plaintext[piece.offset : piece.offset + piece.length]
                if len(part_bytes) != piece.length:
                    raise IntegrityError("an extent goes beyond its segment")
                yield part_bytes
            if piece.last:
                return

    def _checked(self, node: Node, parts: Iterator[bytes]) -> Iterator[bytes]:
        """The parts as chunks of 1 MiB; IntegrityError behind the last one where the MAC does not hold."""
        digests: list[bytes] = []
        held, size = bytearray(), 0
        for part in parts:
            if not held and len(part) == CHUNK_BYTES:
                digests.append(chunk_digest(part))
                size += len(part)
                yield part
                continue
            held += part
            while len(held) >= CHUNK_BYTES:
                chunk = bytes(held[:CHUNK_BYTES])
                del held[:CHUNK_BYTES]
                digests.append(chunk_digest(chunk))
                size += len(chunk)
                yield chunk
        if held:
            digests.append(chunk_digest(held))
            size += len(held)
            yield bytes(held)
        if size != node.size or not same_mac(file_mac(self._content_key, size, digests), node.mac):
            raise IntegrityError("the content of a file is not what its machine signed")
