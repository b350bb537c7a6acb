"""Every message of the protocol: typed, bounded, versioned.

A message travels as two ZeroMQ frames: a msgpack header (one of the structs below, tagged by its class name)
and a payload, empty except where a docstring says otherwise. Decoding is strict: unknown tags, unknown or
missing fields and trailing bytes are errors. The table of who may say what, and when, is in
`transport.session`; PROTOCOL.md is checked against both by a test. Nothing in a message says who the sender
is: that comes from the authenticated channel.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from transport.commits import SignedCommit, StoredCommit
from transport.errors import DecodeError
from transport.extents import ExtentPage, VersionRecord
from transport.keys import Certificate, EscrowCertificate
from transport.mending import SignedMend
from transport.message_types import Count as Count
from transport.message_types import Hash as Hash
from transport.message_types import Id as Id
from transport.message_types import Language as Language
from transport.message_types import Message as Message
from transport.message_types import RemoteRule as RemoteRule
from transport.message_types import Text as Text
from transport.messages_deliveries import DELIVERIES_LIMIT as DELIVERIES_LIMIT
from transport.messages_deliveries import DeliveredSelection as DeliveredSelection
from transport.messages_deliveries import Deliveries as Deliveries
from transport.messages_deliveries import DeliveriesQuery as DeliveriesQuery
from transport.messages_deliveries import Delivery as Delivery
from transport.messages_deliveries import DeliveryAnswer as DeliveryAnswer
from transport.messages_deliveries import DeliveryOpen as DeliveryOpen
from transport.messages_deliveries import DeliveryReport as DeliveryReport
from transport.messages_deliveries import Parcel as Parcel
from transport.messages_deliveries import ParcelQuery as ParcelQuery
from transport.messages_deliveries import SelectionQuery as SelectionQuery
from transport.messages_guards import Observed as Observed
from transport.messages_onsite import CopiesReport as CopiesReport
from transport.messages_recovery import FormerSettings as FormerSettings
from transport.messages_recovery import PutSettings as PutSettings
from transport.messages_recovery import RecoverChoice as RecoverChoice
from transport.messages_recovery import Recovered as Recovered
from transport.messages_recovery import RecoverHistory as RecoverHistory
from transport.messages_recovery import RecoverOffered as RecoverOffered
from transport.messages_recovery import RecoverOpen as RecoverOpen
from transport.messages_recovery import RecoverTake as RecoverTake
from transport.names import (
    MESSAGE_LIMIT,
    REMOTE_RULES_LIMIT,
    PathId,
    SegmentId,
    VersionId,
)
from transport.schedule import Schedule
from transport.succession import SUCCESSIONS_LIMIT, SignedSuccession
from transport.tree import EntryBatch, EntryPage

_T = TypeVar("_T")

IDS_PER_MESSAGE: Final = 4096
"""Ids in one list at most."""
CARE_LIMIT: Final = 8000
"""Ranges in one `Care`."""
FETCH_LIMIT: Final = 64
"""Segments that one FetchSegments may name."""
SPREAD_LIMIT_S: Final = 4 * 3600
"""Longest delay of a scheduled backup that the appliance may ask for."""


KeyMode = Literal["confided", "private"]
"""Who can open a machine's backups without the machine: the appliance too, or its owner's passphrase alone."""


class Enrol(Message, frozen=True):
    """Agent, on the enrolment endpoint: register this machine under a one-time token."""

    protocol: int
    token: Annotated[bytes, Meta(min_length=16, max_length=16)]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    curve_key: Hash
    signing_key: Hash
    vault: Id
    installation: Id
    agent_version: Text
    platform: Text
    key_mode: KeyMode = "confided"
    """What this machine will do with its key; an appliance whose contract says otherwise refuses, code unused."""


class Enrolled(Message, frozen=True):
    """Appliance: the machine exists; its id is also its repository's."""

    machine: Id
    name: Text
    contract: Text
    certificate: Certificate


class Hello(Message, frozen=True):
    """Agent: first message on a connection."""

    protocol: int
    agent_version: Text
    platform: Text
    pid: Count
    installation: Id


class KeptKey(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the appliance holds of a machine's key: nothing (empty `envelope`), or an envelope with this SHA-256."""

    mode: KeyMode
    """What the contract wants. A machine follows its owner: it confides nothing because an appliance asks."""
    escrow_key: Annotated[bytes, Meta(max_length=16)] = b""
    """The present escrow key's id; empty where the appliance has none."""
    envelope: Annotated[bytes, Meta(max_length=32)] = b""
    wrapped_to: Annotated[bytes, Meta(max_length=16)] = b""
    """The escrow key that opens it; empty for a passphrase."""


class Welcome(Message, frozen=True):
    """Appliance: the connection is served. `heartbeat_s` without a message either way means a dead peer."""

    protocol: int
    machine: Id
    name: Text
    contract: Text
    vault: Id
    paused: bool
    over_quota: bool
    retention_floor_days: int
    heartbeat_s: int
    certificate: Certificate
    head: SignedCommit | None
    key: KeptKey = KeptKey("confided")
    now_ms: Count = 0
    """The appliance's clock, milliseconds since 1970; 0 where it does not say."""


class Refused(Message, frozen=True):
    """Appliance: no, and why, in a sentence for people. `code` is stable; `seq` names the message it answers."""

    code: Text
    reason: Text
    seq: Count = 0


class Ping(Message, frozen=True):
    """Either side: are you there?"""


class Pong(Message, frozen=True):
    """Answer to Ping."""


class BackupBegin(Message, frozen=True):
    """Agent: start, or after a broken connection resume, upload session `session` on top of commit `head`."""

    session: Id
    head: Hash


class BackupBegun(Message, frozen=True):
    """Appliance: numbers up to `received_upto` of this session are durable; `credit_bytes` may be unacknowledged."""

    received_upto: Count
    credit_bytes: Count
    held_count: Count
    """Uncommitted segments of earlier sessions that may be used without sending them again (see Held)."""


class HeldQuery(Message, frozen=True):
    """Agent: which uncommitted segments are held, after id `after`?"""

    after: Id


class Held(Message, frozen=True):
    """Appliance: uncommitted segments it holds for this machine, ascending; an empty list ends them."""

    segments: Annotated[list[SegmentId], Meta(max_length=IDS_PER_MESSAGE)]


class HasVersions(Message, frozen=True):
    """Agent: can these versions serve as bases? Asked before a delta is made."""

    versions: Annotated[list[VersionId], Meta(max_length=IDS_PER_MESSAGE)]


class Versions(Message, frozen=True):
    """Appliance: those of the asked versions that it holds."""

    held: Annotated[list[VersionId], Meta(max_length=IDS_PER_MESSAGE)]


class CareQuery(Message, frozen=True):
    """Ask which parts of present files the appliance wants to have again."""


class CareRange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """`length` bytes at `offset` of a version. With `segment` other than 16 zero bytes they stand damaged at
    `segment_offset` of it, and an order to mend is wanted; else a new version that does not need the old segments."""

    version: VersionId
    offset: int
    length: int
    segment: SegmentId
    segment_offset: int


class Care(Message, frozen=True):
    """What the appliance wants to have again, CARE_LIMIT ranges at most; the rest is asked for the next time."""

    ranges: Annotated[list[CareRange], Meta(max_length=CARE_LIMIT)]


class PutSegment(Message, frozen=True):
    """Agent: one sealed segment; payload: its bytes."""

    seq: Count
    segment: Id


class PutVersions(Message, frozen=True):
    """Agent: versions whose segments were sent before."""

    seq: Count
    versions: Annotated[list[VersionRecord], Meta(max_length=IDS_PER_MESSAGE)]


class PutEntries(Message, frozen=True):
    """Agent: entries that are born with the next commit; an entry that is alive under the same path id is replaced."""

    seq: Count
    batch: EntryBatch


class PutDeaths(Message, frozen=True):
    """Agent: paths that are gone with the next commit."""

    seq: Count
    paths: Annotated[list[PathId], Meta(max_length=IDS_PER_MESSAGE)]


class PutMend(Message, frozen=True):
    """A signed order to read damaged extents from fresh segments, sent before it. Only for what `Care` asked for."""

    seq: int
    mend: SignedMend


class Acknowledged(Message, frozen=True):
    """Appliance: every message of the session up to `upto` is on disk and survives power loss."""

    upto: Count


class BackupFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup did, as the agent counts it, for statistics; nothing is decided from it."""

    files_total: Count
    files_full: Count
    files_delta: Count
    files_unchanged: Count
    files_moved: Count
    files_deleted: Count
    bytes_source: Count
    bytes_read: Count
    bytes_sent: Count
    bytes_received: Count
    seconds: float
    transfer_seconds: float
    warnings: Count


class UsedConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup went by, as the agent says it, for people; nothing is decided from it. No names: counts alone."""

    started_by: Literal["manual", "scheduled", "missed", "asked", "continuous"]
    schedule: Schedule
    includes: Count
    excludes: Count
    settings_version: Count
    """The newest version of the appliance's settings that it had taken over; 0 for none."""
    delta_minimum_bytes: Count
    """Smaller files always go whole."""
    delta_literal_share: Annotated[float, Meta(ge=0, le=1)]
    delta_seconds_per_gib: Annotated[float, Meta(ge=0, le=10**9)]
    """Limits beyond which a delta gives up and its file goes whole."""


class PutCommit(Message, frozen=True, omit_defaults=True):
    """Agent: make what was staged a snapshot."""

    seq: Count
    commit: SignedCommit
    figures: BackupFigures
    configuration: UsedConfiguration | None = None
    observed: Observed | None = None


class Committed(Message, frozen=True):
    """Appliance: the snapshot stands, durable."""

    seq: Count
    number: Count
    hash: Hash


class BackupEnd(Message, frozen=True):
    """Agent: the session is over."""


class Progress(Message, frozen=True):
    """Agent: where a running backup or restore stands; at most one a second, never answered."""

    phase: Text
    files_done: Count
    files_total: Count
    bytes_done: Count
    bytes_total: Count


class LogLine(Message, frozen=True):
    """Agent: one line for the machine's log; counts and labels only, never file names. Never answered."""

    level: Annotated[str, Meta(max_length=10)]
    module: Annotated[str, Meta(max_length=40)]
    text: Text


class Attend(Message, frozen=True):
    """Agent, as a service: here I am; is anything wanted of me? Its sign of life between backups, too."""


class Attended(Message, frozen=True):
    """Appliance: the version of the settings that are wanted (0: none), and the number of a backup that is asked for
    (0: none). Scheduled backups begin `spread_s` after their time; the agent asks again after `again_s`."""

    settings: Count
    backup: Count
    paused: bool
    language: Language
    """Of what the machine's owner reads; empty leaves it to the machine."""
    spread_s: Annotated[int, Meta(ge=0, le=SPREAD_LIMIT_S)]
    again_s: Annotated[int, Meta(ge=5, le=300)]
    delivery: Count = 0
    """The newest delivery that waits for this machine's owner (see `messages_deliveries`); 0 where none does."""
    now_ms: Count = 0
    """As in `Welcome`."""


class SettingsQuery(Message, frozen=True):
    """Agent: which settings are wanted of me?"""


class RemoteSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Included paths and excluded paths or patterns, as an admin typed them: the appliance knows these."""

    include: Annotated[list[RemoteRule], Meta(min_length=1, max_length=REMOTE_RULES_LIMIT)]
    exclude: Annotated[list[RemoteRule], Meta(max_length=REMOTE_RULES_LIMIT)]


class WantedSettings(Message, frozen=True):
    """Appliance: what is wanted of this machine. A part that is None is left to it; each part names the version that
    changed it last. There is no field for commands or hooks, and none for whether remote settings are allowed."""

    version: Count
    selection: RemoteSelection | None
    selection_version: Count
    schedule: Schedule | None
    schedule_version: Count


class SettingsReport(Message, frozen=True):
    """Agent: what became of version `version` of the wanted settings, and what the machine has now.

    A selection is told by its digest and the number of its rules alone; `shrunk` where something that was selected at
    the last report is so no more. `selection_version` and `schedule_version`: the wanted version they stand from, 0
    for the machine's own. `next_run_ms`: when a backup begins by itself, 0 where none does."""

    version: Count
    outcome: Literal["none", "applied", "refused", "invalid"]
    reason: Text
    remote_allowed: bool
    schedule: Schedule
    schedule_version: Count
    language: Language
    selection: Hash
    selection_version: Count
    includes: Count
    excludes: Count
    shrunk: bool
    next_run_ms: Count


class BackupAnswer(Message, frozen=True):
    """Agent: it takes up the backup that was asked for under this number, or not, and why not."""

    backup: Count
    taken: bool
    reason: Text


class Noted(Message, frozen=True):
    """Appliance: that is written down."""


class EscrowQuery(Message, frozen=True):
    """Agent: which escrow key does the appliance have now?"""


class EscrowOffer(Message, frozen=True):
    """Appliance: the public half of its escrow key, signed by its identity."""

    escrow: EscrowCertificate


class PutKey(Message, frozen=True):
    """Agent: this machine's key, wrapped (see `transport.escrow`); takes the place of the envelope before."""

    envelope: Annotated[bytes, Meta(min_length=1, max_length=4096)]


class SnapshotsQuery(Message, frozen=True):
    """Agent: the commits numbered above `after`."""

    after: Count


class Snapshots(Message, frozen=True):
    """Appliance: commits in ascending order, a bounded page; and all successions of signing keys."""

    commits: list[StoredCommit]
    more: bool
    successions: Annotated[list[SignedSuccession], Meta(max_length=SUCCESSIONS_LIMIT)] = []


class ChildrenQuery(Message, frozen=True):
    """Agent: the entries of one folder in a snapshot, path ids above `after`."""

    snapshot: Count
    folder: Id
    after: Id


class TreeQuery(Message, frozen=True):
    """Agent: all entries of a snapshot, path ids above `after`."""

    snapshot: Count
    after: Id


class Entries(Message, frozen=True):
    """Appliance: the answer to ChildrenQuery and TreeQuery."""

    page: EntryPage


class SampleQuery(Message, frozen=True):
    """Agent: show me segments of your choice, `percent` of what is live at most; the appliance bounds the number."""

    percent: Annotated[float, Meta(ge=0, le=100)]


class Sample(Message, frozen=True):
    """Appliance: `count` SegmentData follow."""

    count: Count


class RestoreOpen(Message, frozen=True):
    """Agent: open a restore session with an account's TOTP code, which works once."""

    account: Text
    code: Annotated[str, Meta(max_length=32)]


class RestoreResume(Message, frozen=True):
    """Agent: go on with the restore `session` whose connection broke. Only for the machine and installation it had."""

    session: Id


class RestoreOpened(Message, frozen=True):
    """Appliance: segments may be fetched on this connection for `seconds`; `window_bytes` at most are in flight.

    `session` is secret: RestoreResume takes it.
    """

    seconds: Count
    window_bytes: Count
    session: Id


class ResyncOpen(Message, frozen=True):
    """Agent: this PC was restored from an image; continue the history as `installation` after a TOTP code."""

    account: Text
    code: Annotated[str, Meta(max_length=32)]
    installation: Id


class Resynced(Message, frozen=True):
    """Appliance: `installation` is now this machine's only one."""

    head: SignedCommit | None


class ExtentsQuery(Message, frozen=True):
    """Agent, in a restore session: the extents of a version from byte `start`."""

    versions: Annotated[list[VersionId], Meta(max_length=IDS_PER_MESSAGE)]
    start: Count
    """Applies to the first version; the others are listed from their beginning."""


class Extents(Message, frozen=True):
    """Appliance: pages in the order asked, as many as fit; the agent asks again for the rest."""

    pages: list[ExtentPage]


class FetchSegments(Message, frozen=True):
    """Agent, in a restore session: send these; `received_bytes` is the total received so far and returns credit."""

    segments: Annotated[list[SegmentId], Meta(max_length=FETCH_LIMIT)]
    received_bytes: Count


class SegmentData(Message, frozen=True):
    """Appliance: payload: a sealed segment."""

    segment: Id


class SegmentMissing(Message, frozen=True):
    """Appliance: it cannot give this segment (damaged, unknown), and why."""

    segment: Id
    reason: Text


AgentMessage = (
    Hello
    | Ping
    | Pong
    | BackupBegin
    | HeldQuery
    | HasVersions
    | CareQuery
    | PutSegment
    | PutVersions
    | PutEntries
    | PutDeaths
    | PutMend
    | PutCommit
    | BackupEnd
    | Progress
    | LogLine
    | Attend
    | SettingsQuery
    | EscrowQuery
    | PutKey
    | PutSettings
    | SettingsReport
    | CopiesReport
    | BackupAnswer
    | SnapshotsQuery
    | ChildrenQuery
    | TreeQuery
    | SampleQuery
    | RestoreOpen
    | RestoreResume
    | ResyncOpen
    | ExtentsQuery
    | FetchSegments
    | DeliveriesQuery
    | SelectionQuery
    | DeliveryAnswer
    | DeliveryOpen
    | DeliveryReport
    | ParcelQuery
)
"""What an agent may say on the transport endpoint."""

ApplianceMessage = (
    Welcome
    | Refused
    | Ping
    | Pong
    | BackupBegun
    | Held
    | Versions
    | Care
    | Acknowledged
    | Committed
    | Attended
    | WantedSettings
    | EscrowOffer
    | Noted
    | Snapshots
    | Entries
    | Sample
    | RestoreOpened
    | Resynced
    | Extents
    | SegmentData
    | SegmentMissing
    | Deliveries
    | DeliveredSelection
    | Parcel
)
"""What the appliance may say on the transport endpoint."""

EnrolmentRequest = Enrol | RecoverOpen | RecoverHistory | RecoverTake
"""What a stranger may say on the enrolment endpoint."""
EnrolmentReply = Enrolled | RecoverChoice | RecoverOffered | Snapshots | Recovered | Refused

_encoder = msgspec.msgpack.Encoder()
_agent_decoder: msgspec.msgpack.Decoder[AgentMessage] = msgspec.msgpack.Decoder(AgentMessage)
_appliance_decoder: msgspec.msgpack.Decoder[ApplianceMessage] = msgspec.msgpack.Decoder(ApplianceMessage)
_enrolment_decoder: msgspec.msgpack.Decoder[EnrolmentRequest] = msgspec.msgpack.Decoder(EnrolmentRequest)
_enrolment_reply_decoder: msgspec.msgpack.Decoder[EnrolmentReply] = msgspec.msgpack.Decoder(EnrolmentReply)


def encode(message: Message) -> bytes:
    """A message's header frame; ValueError where it would not fit one."""
    data = _encoder.encode(message)
    if len(data) > MESSAGE_LIMIT:
        raise ValueError(f"{type(message).__name__} of {len(data)} bytes is over {MESSAGE_LIMIT}")
    return data


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes | memoryview) -> _T:
    if len(data) > MESSAGE_LIMIT:
        raise DecodeError(f"a message of {len(data)} bytes is over {MESSAGE_LIMIT}")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a message of protocol 1: {error}") from None


def decode_agent(data: bytes | memoryview) -> AgentMessage:
    """What an agent said; DecodeError otherwise."""
    return _decode(_agent_decoder, data)


def decode_appliance(data: bytes | memoryview) -> ApplianceMessage:
    """What the appliance said; DecodeError otherwise."""
    return _decode(_appliance_decoder, data)


def decode_enrolment(data: bytes | memoryview) -> EnrolmentRequest:
    """What a stranger asked; DecodeError otherwise."""
    return _decode(_enrolment_decoder, data)


def decode_enrolment_reply(data: bytes | memoryview) -> EnrolmentReply:
    """The answer to a stranger; DecodeError otherwise."""
    return _decode(_enrolment_reply_decoder, data)
