"""Messages about deliveries: what somebody at the appliance wants a machine to restore, and what became of it.

A delivery names a snapshot and path ids; there is no field for a folder, a command, or whether something may be
replaced: those are the machine's own to choose. `transport.messages` carries these on.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from transport.message_types import Count, Id, Message, Text

DELIVERIES_LIMIT: Final = 50
"""Deliveries in one answer: older ones wait."""
DELIVERED_PATHS_LIMIT: Final = 20_000
"""Path ids of one delivery, those above them included."""

PathIds = Annotated[list[Id], Meta(max_length=DELIVERED_PATHS_LIMIT)]


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One delivery that waits for this machine's owner, or is under way. Times in milliseconds, by the appliance."""

    number: Count
    """Of this machine's deliveries; never used again."""
    snapshot: Count
    snapshot_ms: Count
    sender: Text
    """Who sent it, as the appliance says."""
    created_ms: Count
    expires_ms: Count
    accepted: bool
    """The owner said yes; it may be begun, and begun again."""
    files: Count
    bytes: Count
    """As measured when it was sent; both 0 where the appliance cannot know."""
    source: Text = ""
    """The machine whose files these are, by its name; empty for this one's own."""


class DeliveriesQuery(Message, frozen=True):
    """Agent: what is there for this machine?"""


class Deliveries(Message, frozen=True):
    """Appliance: what waits or is under way, oldest first."""

    deliveries: Annotated[list[Delivery], Meta(max_length=DELIVERIES_LIMIT)]


class SelectionQuery(Message, frozen=True):
    """Agent: what was selected for delivery `number`?"""

    number: Count


class DeliveredSelection(Message, frozen=True):
    """Appliance: the selected path ids of the snapshot, with all below; none at all is everything. `above`: the folders
    on the way to them."""

    number: Count
    paths: PathIds
    above: PathIds


class DeliveryAnswer(Message, frozen=True):
    """Agent: the machine's owner wants this delivery, or does not. For another machine's files a yes comes with a key
    made for this delivery (`transport.escrow`'s form), signed by this machine."""

    number: Count
    accepted: bool
    key: Annotated[bytes, Meta(max_length=2048)] = b""
    signature: Annotated[bytes, Meta(max_length=64)] = b""


class ParcelQuery(Message, frozen=True):
    """Agent: is another machine's selection sealed for me yet?"""

    number: Count


class Parcel(Message, frozen=True):
    """Appliance: not yet (no `envelope`, no `reason`), never (why), or this: `chunks` segments named 1, 2, 3 …, which
    FetchSegments fetches once DeliveryOpen was accepted, and what opens them (see `transport.parcels`)."""

    number: Count
    envelope: Annotated[bytes, Meta(max_length=4096)]
    vault: Annotated[bytes, Meta(max_length=16)]
    chunks: Count
    reason: Text


class DeliveryOpen(Message, frozen=True):
    """Agent: open a restore session for an accepted delivery. No code: only what was selected is given out."""

    number: Count


class DeliveryReport(Message, frozen=True):
    """Agent: how far an accepted delivery came. Counts alone; where it landed is the machine's own matter."""

    number: Count
    outcome: Literal["done", "failed"]
    files: Count
    bytes: Count
    errors: Count
    reason: Text
