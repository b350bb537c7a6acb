"""Machines: enrolled PCs and servers, each with one repository of the same id.

Rules: a token enrols one machine, in one transaction with the check of pause and quota; the same machine asking
again with the same token gets the same answer, since the first may have been lost on the way. Names are unique
within a contract. A revoked machine keeps its backups. Keys are raw: CURVE and Ed25519 public halves, 32 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from appliance.control import clock
from appliance.control.accounts import checked_language
from appliance.control.contracts import LATEST, LATEST_COMPLETE, Contract, Escrow, token_digest
from appliance.control.database import Database
from appliance.control.scope import Scope, condition
from appliance.control.text import checked_line, one_line
from appliance.errors import ConflictError, EnrolCodeError, KeyModeError, MachineQuotaError, NotFoundError, PausedError
from transport.names import InstallationId, RepositoryId, VaultId, random_id

NAME_LIMIT: Final = 100
_PREFIX_MINIMUM: Final = 6
"""Hex digits of an id that a command accepts in place of all 32, where only one machine has them."""


class MachineState(StrEnum):
    """A revoked machine may not connect; its backups stay."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Machine:
    """An enrolled machine. Times in seconds since 1970."""

    id: RepositoryId
    name: str
    contract_id: str
    curve_key: bytes
    signing_key: bytes
    vault: VaultId
    installation: InstallationId
    state: MachineState
    created_at: float
    last_seen_at: float | None
    agent_version: str
    platform: str
    language: str | None = None

    @property
    def hex(self) -> str:
        """The id as people and folders spell it."""
        return self.id.hex()


@dataclass(frozen=True, slots=True)
class AuthorisedMachine:
    """What the service must know of a machine that may connect; reloaded when the database changes."""

    machine_id: RepositoryId
    name: str
    contract_id: str
    client_id: str
    signing_key: bytes
    vault: VaultId
    installation: InstallationId
    paused: bool
    over_quota: bool
    retention_floor_days: int
    language: str
    """The machine's own; empty where it has none."""
    settings_version: int
    """Of what the web wants of it; 0 where it wants nothing."""
    backup_request: int
    """The number of a backup that is asked for, 0 where none waits; `requested_at` says since when."""
    requested_at: float
    delivery: int = 0
    """The newest delivery that waits for the machine's owner, 0 where none does; over at `delivery_expires_at`."""
    delivery_expires_at: float = 0.0
    key_wanted: Escrow = Escrow.CONFIDED
    key_envelope: bytes = b""
    """SHA-256 of the wrapped key that is held; empty where none is."""
    key_wrapped_to: bytes = b""
    """The escrow key that opens it; empty for a passphrase."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A machine with its latest snapshot; the last three are None before the first one."""

    machine: Machine
    client_id: str
    last_snapshot: int | None
    last_snapshot_at: float | None
    bytes_source: int | None


_COLUMNS: Final = (
    "machine.id, machine.name, machine.contract_id, machine.curve_key, machine.signing_key, machine.vault, "
    "machine.installation, machine.state, machine.created_at, machine.last_seen_at, machine.agent_version, "
    "machine.platform, machine.language"
)


def _machine(row: dict[str, Any]) -> Machine:
    return Machine(**{**row, "state": MachineState(row["state"])})


def enrol(
    db: Database,
    token: bytes,
    *,
    name: str,
    curve_key: bytes,
    signing_key: bytes,
    vault: bytes,
    installation: bytes,
    agent_version: str,
    platform: str,
    now: float,
    key_mode: Escrow | None = None,
) -> Machine:
    """The machine that the token's holder becomes. `key_mode` is what it will do with its key; None does not say.

    EnrolCodeError (unknown, used, expired), PausedError, MachineQuotaError, ConflictError (key known already),
    KeyModeError (the contract wants the key kept otherwise); the code is good for another try after each.
    """
    name = checked_line(one_line(name, NAME_LIMIT), "the machine's name", NAME_LIMIT)
    with db.write():
        offer = db.row(
            "SELECT contract_id, expires_at, used_at, machine_id FROM enrol_token WHERE token_sha256 = ?",
            [token_digest(token)],
        )
        if offer is None:
            raise EnrolCodeError(
                "this enrolment code is unknown here: check which appliance it came from, or ask for a new one"
            )
        if offer["used_at"] is not None:
            return _resent(db, offer["machine_id"], curve_key, signing_key, vault, installation)
        if now >= offer["expires_at"]:
            day = datetime.fromtimestamp(offer["expires_at"], UTC).date()
            raise EnrolCodeError(f"this enrolment code expired on {day}: ask for a new one")
        contract_id = offer["contract_id"]
        _check_room(db, contract_id)
        _check_key_mode(db, contract_id, key_mode)
        if db.row("SELECT id FROM machine WHERE curve_key = ?", [curve_key]):
            raise ConflictError("this machine's key is enrolled already: remove the agent's home to enrol anew")
        machine = Machine(
            id=RepositoryId(random_id()),
            name=_free_name(db, contract_id, name),
            contract_id=contract_id,
            curve_key=curve_key,
            signing_key=signing_key,
            vault=VaultId(vault),
            installation=InstallationId(installation),
            state=MachineState.ACTIVE,
            created_at=now,
            last_seen_at=now,
            agent_version=one_line(agent_version, 100),
            platform=one_line(platform, 200),
        )
        db.insert(
            "machine",
            {
                "id": machine.id,
                "name": machine.name,
                "contract_id": contract_id,
                "curve_key": curve_key,
                "signing_key": signing_key,
                "vault": vault,
                "installation": installation,
                "state": "active",
                "created_at": now,
                "last_seen_at": now,
                "agent_version": machine.agent_version,
                "platform": machine.platform,
            },
        )
        db.execute(
            "UPDATE enrol_token SET used_at = ?, machine_id = ? WHERE token_sha256 = ?",
            [now, machine.id, token_digest(token)],
        )
        return machine


def _resent(
    db: Database, machine_id: bytes, curve_key: bytes, signing_key: bytes, vault: bytes, installation: bytes
) -> Machine:
    """The machine enrolled before, if it is the same one asking; else the code counts as used."""
    machine = get(db, machine_id)
    same = (machine.curve_key, machine.signing_key, machine.vault, machine.installation) == (
        curve_key,
        signing_key,
        vault,
        installation,
    )
    if not same or machine.state is not MachineState.ACTIVE:
        raise EnrolCodeError("this enrolment code was used already, each enrols one machine: ask for another")
    return machine


def _check_key_mode(db: Database, contract_id: str, key_mode: Escrow | None) -> None:
    """KeyModeError where the contract wants machine keys kept otherwise; more careful than it asks is fine."""
    wanted = Escrow(db.value("SELECT escrow FROM contract WHERE id = ?", [contract_id]))
    if wanted is Escrow.PRIVATE and key_mode is Escrow.CONFIDED:
        raise KeyModeError(
            "this contract keeps private keys: enrol with --passphrase-file F, a passphrase that only its owner knows"
        )


def _check_room(db: Database, contract_id: str) -> None:
    row = db.row(
        "SELECT state, machine_quota, "
        "(SELECT count(*) FROM machine WHERE contract_id = contract.id AND state = 'active') AS present "
        "FROM contract WHERE id = ?",
        [contract_id],
    )
    assert row is not None
    if row["state"] == "paused":
        raise PausedError("this contract is paused and takes no machine: ask whoever manages it to resume it")
    if row["present"] >= row["machine_quota"]:
        raise MachineQuotaError(
            f"machine quota reached ({row['present']} of {row['machine_quota']}): ask whoever manages this contract "
            "for a larger quota, or to revoke a machine"
        )


def _free_name(db: Database, contract_id: str, name: str) -> str:
    """`name`, or with the first free suffix -2, -3 … within the contract."""
    # Compared by SQLite, whose NOCASE folds ASCII only, because its unique index has the last word.
    number = 1
    candidate = name
    while db.row("SELECT id FROM machine WHERE contract_id = ? AND name = ?", [contract_id, candidate]):
        number += 1
        suffix = f"-{number}"
        candidate = name[: NAME_LIMIT - len(suffix)] + suffix
    return candidate


def authorised(db: Database) -> dict[bytes, AuthorisedMachine]:
    """Active machines by their CURVE public key."""
    rows = db.rows(
        f"WITH latest AS (SELECT machine.contract_id AS contract_id, total(figures.bytes_source) AS used FROM machine "
        "JOIN snapshot_statistics AS figures "
        f"ON figures.machine_id = machine.id AND figures.number = {LATEST_COMPLETE} GROUP BY machine.contract_id) "
        "SELECT machine.curve_key, machine.id, machine.name, machine.contract_id, contract.client_id, "
        "machine.signing_key, machine.vault, machine.installation, contract.state AS contract_state, "
        "contract.floor_days, coalesce(latest.used, 0) > contract.allocated_bytes AS over_quota, "
        "coalesce(machine.language, '') AS language, coalesce(wanted.version, 0) AS settings_version, "
        "coalesce(request.number, 0) AS backup_request, coalesce(request.requested_at, 0.0) AS requested_at, "
        "contract.escrow, coalesce(held.envelope_sha256, x'') AS envelope, "
        "coalesce(held.escrow_key, x'') AS wrapped_to, coalesce(delivery.number, 0) AS delivery, "
        "coalesce(delivery.expires_at, 0.0) AS delivery_expires_at "
        "FROM machine JOIN contract ON contract.id = machine.contract_id "
        "LEFT JOIN machine_settings AS wanted ON wanted.machine_id = machine.id "
        "LEFT JOIN backup_request AS request ON request.machine_id = machine.id AND request.state = 'waiting' "
        "LEFT JOIN machine_key AS held ON held.machine_id = machine.id "
        "LEFT JOIN delivery ON delivery.machine_id = machine.id AND delivery.number = (SELECT max(number) "
        "FROM delivery WHERE machine_id = machine.id AND state = 'waiting') "
        "LEFT JOIN latest ON latest.contract_id = contract.id WHERE machine.state = 'active'"
    )
    return {
        row["curve_key"]: AuthorisedMachine(
            machine_id=RepositoryId(row["id"]),
            name=row["name"],
            contract_id=row["contract_id"],
            client_id=row["client_id"],
            signing_key=row["signing_key"],
            vault=VaultId(row["vault"]),
            installation=InstallationId(row["installation"]),
            paused=row["contract_state"] == "paused",
            over_quota=bool(row["over_quota"]),
            retention_floor_days=row["floor_days"],
            language=row["language"],
            settings_version=row["settings_version"],
            backup_request=row["backup_request"],
            requested_at=row["requested_at"],
            delivery=row["delivery"],
            delivery_expires_at=row["delivery_expires_at"],
            key_wanted=Escrow(row["escrow"]),
            key_envelope=row["envelope"],
            key_wrapped_to=row["wrapped_to"],
        )
        for row in rows
    }


def exists(db: Database, machine_id: bytes) -> bool:
    """Whether a machine has this id."""
    return db.row("SELECT 1 AS found FROM machine WHERE id = ?", [machine_id]) is not None


def get(db: Database, machine_id: bytes) -> Machine:
    """The machine with this id, whatever its state; NotFoundError otherwise."""
    row = db.row(f"SELECT {_COLUMNS} FROM machine WHERE id = ?", [machine_id])
    if row is None:
        raise NotFoundError(f"there is no machine {machine_id.hex()}: see 'pilulier machine list'")
    return _machine(row)


def overviews(db: Database, scope: Scope, contract_id: str | None = None) -> list[Overview]:
    """The machines in a scope, or of one contract in it, oldest first."""
    where = condition(scope)
    rows = db.rows(
        f"SELECT {_COLUMNS}, contract.client_id, latest.number, latest.received_at, latest.bytes_source FROM machine "
        "JOIN contract ON contract.id = machine.contract_id LEFT JOIN snapshot_statistics AS latest "
        f"ON latest.machine_id = machine.id AND latest.number = {LATEST} "
        f"WHERE {where.sql} AND (? IS NULL OR contract.id = ?) ORDER BY machine.created_at, machine.rowid",
        [*where.parameters, contract_id, contract_id],
    )
    return [
        Overview(
            client_id=row.pop("client_id"),
            last_snapshot=row.pop("number"),
            last_snapshot_at=row.pop("received_at"),
            bytes_source=row.pop("bytes_source"),
            machine=_machine(row),
        )
        for row in rows
    ]


def find(db: Database, scope: Scope, text: str) -> Machine:
    """The machine in scope whose id is, or alone begins with, `text`, or the only one of that name."""
    where = condition(scope)
    wanted = text.strip().lower()
    is_prefix = len(wanted) >= _PREFIX_MINIMUM and set(wanted) <= set("0123456789abcdef")
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM machine JOIN contract ON contract.id = machine.contract_id WHERE {where.sql} "
        "AND (lower(hex(machine.id)) = ? OR machine.name = ? OR (? AND lower(hex(machine.id)) LIKE ? || '%')) "
        "ORDER BY lower(hex(machine.id)) = ? DESC LIMIT 2",
        [*where.parameters, wanted, text.strip(), is_prefix, wanted, wanted],
    )
    if not rows:
        raise NotFoundError(f"there is no machine {text!r}: see 'pilulier machine list'")
    if len(rows) > 1 and rows[0]["id"].hex() != wanted:
        raise ConflictError(f"several machines are called {text!r}: give the machine's id, see 'pilulier machine list'")
    return _machine(rows[0])


def revoke(db: Database, machine: Machine) -> Machine:
    """Refuse this machine from now on; its backups stay."""
    with db.write():
        db.execute("UPDATE machine SET state = 'revoked' WHERE id = ?", [machine.id])
        return get(db, machine.id)


def rename(db: Database, machine: Machine, name: str) -> Machine:
    """Another name; ConflictError where a machine of the contract has it."""
    name = checked_line(name, "the machine's name", NAME_LIMIT)
    with db.write():
        if db.row(
            "SELECT id FROM machine WHERE contract_id = ? AND name = ? AND id != ?",
            [machine.contract_id, name, machine.id],
        ):
            raise ConflictError(f"another machine of this contract is called {name}: choose another name")
        db.execute("UPDATE machine SET name = ? WHERE id = ?", [name, machine.id])
        return get(db, machine.id)


def set_language(db: Database, machine: Machine, language: str | None) -> Machine:
    """The language of the machine's own pages and messages; None for its contract's."""
    with db.write():
        chosen = None if language is None else checked_language(language)
        db.execute("UPDATE machine SET language = ? WHERE id = ?", [chosen, machine.id])
        return get(db, machine.id)


def move(db: Database, machine: Machine, target: Contract) -> Machine:
    """Hand the machine and its backups to another contract, under a free name there.

    MachineQuotaError when full, PausedError; KeyModeError where a key that the host can open would come into a
    contract whose keys it must not hold.
    """
    with db.write():
        if machine.contract_id == target.id:
            return machine
        mode = db.value("SELECT mode FROM machine_key WHERE machine_id = ?", [machine.id])
        if mode == Escrow.CONFIDED and target.escrow is Escrow.PRIVATE:
            raise KeyModeError(
                f"the key of {machine.name} is confided and contract {target.id} keeps private keys: run "
                "pilulier-agent key protect --passphrase-file F on the machine first"
            )
        if machine.state is MachineState.ACTIVE:
            _check_room(db, target.id)
        db.execute(
            "UPDATE machine SET contract_id = ?, name = ? WHERE id = ?",
            [target.id, _free_name(db, target.id, machine.name), machine.id],
        )
        # What people of the former contract sent is not for the new one's to find.
        db.execute("DELETE FROM delivery WHERE machine_id = ? OR source_id = ?", [machine.id, machine.id])
        return get(db, machine.id)


def check_takeover(db: Database, machine: Machine, curve_key: bytes) -> None:
    """ConflictError where a CURVE key is another machine's; where a revoked machine would come back, MachineQuotaError
    or PausedError as at an enrolment."""
    if machine.state is MachineState.REVOKED:
        _check_room(db, machine.contract_id)
    if db.row("SELECT id FROM machine WHERE curve_key = ? AND id != ?", [curve_key, machine.id]):
        raise ConflictError("this key is another machine's already: remove the agent's home, and recover again")


def take_over(
    db: Database,
    machine: Machine,
    *,
    curve_key: bytes,
    signing_key: bytes,
    installation: bytes,
    agent_version: str,
    platform: str,
    now: float,
) -> Machine:
    """The machine with the keys of another installation, active, after a recovery that a one-time code approved.

    Raises as `check_takeover` does. The former keys open nothing any more.
    """
    with db.write():
        check_takeover(db, machine, curve_key)
        db.execute(
            "UPDATE machine SET curve_key = ?, signing_key = ?, installation = ?, state = 'active', agent_version = ?, "
            "platform = ?, last_seen_at = ? WHERE id = ?",
            [
                *(curve_key, signing_key, installation, one_line(agent_version, 100), one_line(platform, 200), now),
                machine.id,
            ],
        )
        return get(db, machine.id)


def set_installation(db: Database, machine_id: bytes, installation: bytes) -> None:
    """Make `installation` the machine's only one, after a resync that a one-time code approved."""
    with db.write():
        if not db.execute("UPDATE machine SET installation = ? WHERE id = ?", [installation, machine_id]):
            raise NotFoundError(f"there is no machine {machine_id.hex()}: see 'pilulier machine list'")


def seen(db: Database, machine_id: bytes, *, agent_version: str, platform: str, now: float) -> None:
    """The machine said hello. The service calls this at a Hello, not at each message: it is one fsync."""
    with db.write():
        db.execute(
            "UPDATE machine SET last_seen_at = ?, agent_version = ?, platform = ? WHERE id = ?",
            [now, one_line(agent_version, 100), one_line(platform, 200), machine_id],
        )
        clock.note(db, clock.read(now))
