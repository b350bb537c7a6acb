"""The session as a table: who may say what, in which state, and what may answer. No I/O here.

Both ends walk the same table: the appliance to refuse what an agent may not say, the agent to know a wrong answer
when it gets one. PROTOCOL.md prints this table and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from transport import messages as m
from transport.errors import ProtocolError


class State(Enum):
    """Where a connection stands."""

    NEW = "new"
    READY = "ready"
    BACKUP = "backup"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens when the agent says a message: the state after success, and the possible answers (none: silence)."""

    after: State
    answers: tuple[type[m.Message], ...] = ()


_LIST: dict[type[m.Message], tuple[type[m.Message], ...]] = {
    m.SnapshotsQuery: (m.Snapshots,),
    m.ChildrenQuery: (m.Entries,),
    m.TreeQuery: (m.Entries,),
}
_ALWAYS: dict[type[m.Message], tuple[type[m.Message], ...]] = {
    m.Ping: (m.Pong,),
    m.Pong: (),
    m.Progress: (),
    m.LogLine: (),
}

TABLE: Final[dict[tuple[State, type[m.Message]], Rule]] = {
    (State.NEW, m.Hello): Rule(State.READY, (m.Welcome, m.Refused)),
    (State.READY, m.BackupBegin): Rule(State.BACKUP, (m.BackupBegun, m.Refused)),
    (State.READY, m.SampleQuery): Rule(State.READY, (m.Sample, m.SegmentData, m.SegmentMissing, m.Refused)),
    (State.READY, m.RestoreOpen): Rule(State.RESTORE, (m.RestoreOpened, m.Refused)),
    (State.READY, m.RestoreResume): Rule(State.RESTORE, (m.RestoreOpened, m.Refused)),
    (State.READY, m.ResyncOpen): Rule(State.READY, (m.Resynced, m.Refused)),
    (State.READY, m.Attend): Rule(State.READY, (m.Attended, m.Refused)),
    (State.READY, m.EscrowQuery): Rule(State.READY, (m.EscrowOffer, m.Refused)),
    (State.READY, m.PutKey): Rule(State.READY, (m.Noted, m.Refused)),
    (State.READY, m.PutSettings): Rule(State.READY, (m.Noted, m.Refused)),
    (State.READY, m.SettingsQuery): Rule(State.READY, (m.WantedSettings, m.Refused)),
    (State.READY, m.SettingsReport): Rule(State.READY, (m.Noted, m.Refused)),
    (State.READY, m.CopiesReport): Rule(State.READY, (m.Noted, m.Refused)),
    (State.READY, m.BackupAnswer): Rule(State.READY, (m.Noted, m.Refused)),
    (State.READY, m.DeliveriesQuery): Rule(State.READY, (m.Deliveries, m.Refused)),
    (State.READY, m.SelectionQuery): Rule(State.READY, (m.DeliveredSelection, m.Refused)),
    (State.READY, m.DeliveryAnswer): Rule(State.READY, (m.Noted, m.Refused)),
    (State.READY, m.ParcelQuery): Rule(State.READY, (m.Parcel, m.Refused)),
    (State.READY, m.DeliveryOpen): Rule(State.RESTORE, (m.RestoreOpened, m.Refused)),
    (State.READY, m.DeliveryReport): Rule(State.READY, (m.Noted, m.Refused)),
    (State.BACKUP, m.HeldQuery): Rule(State.BACKUP, (m.Held, m.Refused)),
    (State.BACKUP, m.HasVersions): Rule(State.BACKUP, (m.Versions, m.Refused)),
    (State.BACKUP, m.CareQuery): Rule(State.BACKUP, (m.Care, m.Refused)),
    (State.BACKUP, m.PutSegment): Rule(State.BACKUP, (m.Acknowledged, m.Refused)),
    (State.BACKUP, m.PutVersions): Rule(State.BACKUP, (m.Acknowledged, m.Refused)),
    (State.BACKUP, m.PutEntries): Rule(State.BACKUP, (m.Acknowledged, m.Refused)),
    (State.BACKUP, m.PutDeaths): Rule(State.BACKUP, (m.Acknowledged, m.Refused)),
    (State.BACKUP, m.PutMend): Rule(State.BACKUP, (m.Acknowledged, m.Refused)),
    (State.BACKUP, m.PutCommit): Rule(State.BACKUP, (m.Committed, m.Refused)),
    (State.BACKUP, m.BackupEnd): Rule(State.READY),
    (State.RESTORE, m.RestoreOpen): Rule(State.RESTORE, (m.RestoreOpened, m.Refused)),
    (State.RESTORE, m.DeliveryReport): Rule(State.RESTORE, (m.Noted, m.Refused)),
    (State.RESTORE, m.ExtentsQuery): Rule(State.RESTORE, (m.Extents, m.Refused)),
    (State.RESTORE, m.FetchSegments): Rule(State.RESTORE, (m.SegmentData, m.SegmentMissing, m.Refused)),
}
for _state in (State.READY, State.BACKUP, State.RESTORE):
    for _message, _answers in _LIST.items():
        TABLE[_state, _message] = Rule(_state, (*_answers, m.Refused))
    for _message, _answers in _ALWAYS.items():
        TABLE[_state, _message] = Rule(_state, _answers)


class Session:
    """One connection's state, on either side."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.NEW

    def allowed(self, message: m.Message) -> Rule:
        """The rule for what the agent says now; ProtocolError where the table has none."""
        rule = TABLE.get((self.state, type(message)))
        if rule is None:
            raise ProtocolError(f"{type(message).__name__} is not allowed in state {self.state.value!r}")
        return rule

    def succeeded(self, message: m.Message) -> None:
        """The agent's message was carried out: move on."""
        self.state = self.allowed(message).after


    def back_to_ready(self) -> None:
        """What was begun was refused."""
        self.state = State.READY


def answers(request: m.Message, reply: m.Message) -> bool:
    """Whether `reply` is one of the answers that the table gives for `request` in some state."""
    return any(
        type(reply) in rule.answers for (_, message), rule in TABLE.items() if message is type(request)
    )
