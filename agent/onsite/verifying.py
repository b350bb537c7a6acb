"""Copies on site in a verification: the same trees as the appliance's, and segments of them that open.

Equal roots are equal names, attributes and content MACs, so comparing the originals with the appliance's tree compares
them with each such copy as well; what is left to look at is whether a copy's own bytes still open.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from agent.onsite.nearer import NearCopy
from agent.verify import VerifyReport, open_sample
from transport.errors import PilulierError
from transport.names import ZERO_SEGMENT, Digest, SegmentId
from transport.sealing import Sealer
from transport.snapshot_reader import SnapshotReader

LEAST_SEGMENTS: Final = 8
MOST_SEGMENTS: Final = 4096


@dataclass(frozen=True, slots=True)
class CopyVerified:
    """What was found of one copy. `same`: whether its newest snapshot is the appliance's; None where that is not known.
    """

    name: str
    snapshot: int
    same: bool | None
    segments_checked: int
    damaged: tuple[str, ...]


def verify_copy(
    near: NearCopy, sealer: Sealer, root: Digest | None, percent: float, chance: random.Random
) -> CopyVerified:
    """Compare a copy's newest snapshot with the appliance's root, and open `percent` of the segments it needs."""
    held = [snapshot for snapshot in near.snapshots if not snapshot.retired]
    if not held:
        return CopyVerified(near.place.name, 0, None if root is None else False, 0, ())
    newest = held[-1]
    report = VerifyReport()
    damaged: list[str] = []
    try:
        reader = SnapshotReader(near.source, sealer, newest)
        versions = list({node.version_id for node in reader.whole_tree() if node.size})
        named = {extent[0] for page in near.source.extents(versions) for extent in page.extents}
        segments = sorted(map(SegmentId, named - {ZERO_SEGMENT}))
        count = min(len(segments), MOST_SEGMENTS, max(LEAST_SEGMENTS, round(len(segments) * percent / 100)))
        open_sample(sealer, near.source.segments(chance.sample(segments, count)), report)
    except PilulierError as error:
        damaged.append(str(error))
    damaged += [f"segment {one.segment.hex()}: {one.reason}" for one in report.segments_damaged]
    same = None if root is None else newest.record.root == root
    return CopyVerified(near.place.name, newest.number, same, report.segments_checked, tuple(damaged))
