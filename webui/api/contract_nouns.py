"""What the API says of contracts, their codes and their deletions. The rules are those of `nouns`."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from appliance.control.contracts import ContractState, Escrow, Notify
from webui.api.nouns import Answer, Asked, Bytes, Day, Days, Email, Hours, Line, Listing, Machines, Text

OpenDays = Annotated[list[Day], Meta(min_length=1, max_length=7)]


class Contract(Answer, frozen=True, kw_only=True):
    """One customer. `used_bytes` may exceed `allocated_bytes`: nothing is refused for it.

    `late_hours` and `open_days` null: the space's.
    """

    id: str
    space_id: str
    client_id: str
    email: str
    state: ContractState
    allocated_bytes: int
    used_bytes: int
    machines_active: int
    machines_total: int
    machines_allowed: int
    created_at: datetime
    start_date: date
    end_date: date | None
    last_backup_at: datetime | None
    deletion_due_at: datetime | None
    notify: Notify
    late_hours: int | None
    open_days: list[Day] | None
    escrow: Escrow
    keep_days: int


class ContractPage(Answer, frozen=True, kw_only=True):
    """Some contracts; `next` is the cursor of the page after, null on the last."""

    items: list[Contract]
    next: str | None


class NewContract(Asked, frozen=True, kw_only=True):
    """A contract to be. What is left out is the space's choice."""

    client_id: Line
    email: Email
    allocated_bytes: Bytes | UnsetType = UNSET
    machines_allowed: Machines | UnsetType = UNSET
    start_date: date | None = None
    end_date: date | None = None
    escrow: Escrow = Escrow.CONFIDED
    keep_days: Days | UnsetType = UNSET


class ContractChanges(Asked, frozen=True, kw_only=True):
    """What to change of a contract: what is left out stays, null takes a date, a delay or opening days away."""

    client_id: Line | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    allocated_bytes: Bytes | UnsetType = UNSET
    machines_allowed: Machines | UnsetType = UNSET
    start_date: date | UnsetType = UNSET
    end_date: date | None | UnsetType = UNSET
    notify: Notify | UnsetType = UNSET
    late_hours: Hours | None | UnsetType = UNSET
    open_days: OpenDays | None | UnsetType = UNSET
    keep_days: Days | UnsetType = UNSET


class ContractsWanted(Listing, frozen=True, kw_only=True):
    """Which contracts; `text` is looked for in client, e-mail and id."""

    text: Text = ""
    state: ContractState | None = None


class Deletion(Answer, frozen=True, kw_only=True):
    """A deletion that waits; until `due_at` it can be taken back."""

    id: str
    kind: str
    object_id: str
    name: str
    contract_id: str | None
    requested_by: str
    requested_at: datetime
    due_at: datetime


class Deletions(Answer, frozen=True, kw_only=True):
    """What is to be deleted, next due first."""

    items: list[Deletion]


class EnrolmentCode(Answer, frozen=True, kw_only=True):
    """A code that enrols one machine, shown once; `command` is what is typed on that machine."""

    code: str
    command: str
    expires_at: datetime


class WaitingCode(Answer, frozen=True, kw_only=True):
    """A code that no machine has used yet."""

    created_at: datetime
    expires_at: datetime


class WaitingCodes(Answer, frozen=True, kw_only=True):
    """The codes of a contract that still enrol a machine."""

    items: list[WaitingCode]
