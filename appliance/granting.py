"""What a delivery opens without a code: the files of one selection, and no other.

Rules: a version is given out only where the catalog, which knows what lies in which folder, puts it below what was
selected; a segment only where the extents of such a version name it. Small files share segments, so a segment may hold
more than was selected; that much this side cannot tell without a key. Ids lie end to end, sorted: a delivery of a
million files costs 16 MB and not 100. Of another machine's files only what was sealed for this one is given out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.spool import Parcel
from transport.errors import RefusedError
from transport.extents import ExtentPage
from transport.names import ID_BYTES, SegmentId, VersionId
from transport.parcels import chunk_number


class OutsideGrantError(RefusedError):
    """Something was asked for that this delivery does not hold."""

    code = "outside-grant"


class Grant:
    """One delivery's files. One thread at a time."""

    __slots__ = ("_segments", "_versions", "number")

    def __init__(self, number: int, versions: Iterable[VersionId]) -> None:
        self.number = number
        """Of the delivery."""
        self._versions = b"".join(sorted(versions))
        self._segments: set[bytes] = set()

    def _holds(self, version: bytes) -> bool:
        low, high = 0, len(self._versions) // ID_BYTES
        while low < high:
            middle = (low + high) // 2
            found = self._versions[middle * ID_BYTES : (middle + 1) * ID_BYTES]
            if found == version:
                return True
            if found < version:
                low = middle + 1
            else:
                high = middle
        return False

    def check_versions(self, versions: Sequence[VersionId]) -> None:
        """OutsideGrantError where one of them is no version of a selected file."""
        if not all(self._holds(version) for version in versions):
            raise OutsideGrantError("this delivery does not hold that file: restore it with a TOTP code")

    def shown(self, pages: Iterable[ExtentPage]) -> None:
        """These extents were given out: their segments may be fetched."""
        for page in pages:
            self._segments.update(segment for segment, _, _ in page.extents)

    def check_segments(self, segments: Sequence[SegmentId]) -> None:
        """OutsideGrantError where one of them holds nothing that was selected."""
        if not all(segment in self._segments for segment in segments):
            raise OutsideGrantError("this delivery does not hold that segment: restore it with a TOTP code")


class ParcelGrant:
    """Another machine's files, as they were sealed for this one: the chunks of one parcel, and nothing of a repository.
    One thread at a time."""

    __slots__ = ("_parcel", "number")

    def __init__(self, number: int, parcel: Parcel) -> None:
        self.number = number
        """Of the delivery."""
        self._parcel = parcel

    def check_versions(self, versions: Sequence[VersionId]) -> None:
        """OutsideGrantError: a parcel has none."""
        raise OutsideGrantError("this delivery holds no file of this machine: restore it with a TOTP code")

    def shown(self, pages: Iterable[ExtentPage]) -> None:
        """Nothing is shown."""

    def check_segments(self, segments: Sequence[SegmentId]) -> None:
        """OutsideGrantError where one of them is no chunk of the parcel."""
        if not all(1 <= chunk_number(segment) <= self._parcel.chunks for segment in segments):
            raise OutsideGrantError(f"this delivery has {self._parcel.chunks} chunks and not that segment")

    def read(self, segment: SegmentId) -> bytes:
        """A sealed chunk."""
        return self._parcel.read(chunk_number(segment))
