"""From what a person ticked to a delivery: measured and named by path ids in the opener, then written down.

No key and no name leaves the opener for it: a delivery holds ids that mean something to the machine alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.control.deliveries import Chosen
from appliance.opening import words
from appliance.opening.clients import Opened
from transport.errors import UsageError
from transport.names import PathId


@dataclass(frozen=True, slots=True)
class Parcel:
    """A selection of a snapshot, ready to be sent. `received_at`: when the snapshot came in, seconds since 1970."""

    snapshot: int
    received_at: float
    chosen: Chosen
    files: int
    size_bytes: int


def parcel(opened: Opened, snapshot: words.Snapshot, paths: Sequence[bytes]) -> Parcel:
    """What these paths of a snapshot are; UsageError where it does not hold one of them, OpeningError."""
    wanted = list(paths)
    measured = opened.ask(words.Measure(snapshot.number, wanted), words.Measured)
    if measured.missing:
        raise UsageError(f"snapshot {snapshot.number} does not hold {len(measured.missing)} of these paths")
    named = opened.ask(words.Identify(snapshot.number, wanted), words.Identified)
    chosen = Chosen(tuple(map(PathId, named.ids)), tuple(map(PathId, named.above)))
    return Parcel(snapshot.number, snapshot.received_ms / 1000, chosen, measured.files, measured.size)
