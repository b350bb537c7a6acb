"""The schema of the control database, as numbered steps that are never edited once released.

Each step runs in one transaction together with its row in `schema_migration`. Times are seconds since 1970
(REAL, the appliance's clock), dates are ISO 8601 text, sizes are bytes, ids of machines are 16-byte blobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.control import (
    api_schema,
    certificate_schema,
    delivery_schema,
    export_schema,
    job_schema,
    key_schema,
    recovery_schema,
    remote_schema,
    site_copy_schema,
    web_schema,
    webhook_schema,
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: a number, a name for people, and its statements in order."""

    number: int
    name: str
    statements: tuple[str, ...]


_FIRST = Migration(
    1,
    "spaces, accounts, contracts, machines, statistics, logs",
    (
        """CREATE TABLE schema_migration (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            applied_at REAL NOT NULL
        ) STRICT""",
        """CREATE TABLE space (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL UNIQUE COLLATE NOCASE,
            created_at REAL NOT NULL
        ) STRICT""",
        """CREATE TABLE contract (
            id TEXT PRIMARY KEY,
            space_id TEXT NOT NULL REFERENCES space(id),
            client_id TEXT NOT NULL COLLATE NOCASE,
            email TEXT NOT NULL,
            allocated_bytes INTEGER NOT NULL CHECK (allocated_bytes >= 0),
            machine_quota INTEGER NOT NULL CHECK (machine_quota >= 0),
            created_at REAL NOT NULL,
            start_date TEXT NOT NULL,
            end_date TEXT,
            escrow TEXT NOT NULL CHECK (escrow IN ('confided', 'private')),
            state TEXT NOT NULL CHECK (state IN ('active', 'paused')),
            delete_requested_at REAL
        ) STRICT""",
        "CREATE INDEX contract_space ON contract(space_id)",
        "CREATE INDEX contract_client ON contract(client_id)",
        """CREATE TABLE account (
            id TEXT PRIMARY KEY,
            email TEXT NOT NULL UNIQUE,
            role TEXT NOT NULL CHECK (role IN ('super', 'admin', 'support', 'customer')),
            space_id TEXT REFERENCES space(id),
            contract_id TEXT REFERENCES contract(id) ON DELETE CASCADE,
            password_hash TEXT NOT NULL,
            totp_secret TEXT NOT NULL,
            totp_last_step INTEGER NOT NULL DEFAULT 0,
            state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
            created_at REAL NOT NULL,
            CHECK (
                (role = 'super' AND space_id IS NULL AND contract_id IS NULL)
                OR (role IN ('admin', 'support') AND space_id IS NOT NULL AND contract_id IS NULL)
                OR (role = 'customer' AND space_id IS NULL AND contract_id IS NOT NULL)
            )
        ) STRICT""",
        """CREATE TABLE machine (
            id BLOB PRIMARY KEY CHECK (length(id) = 16),
            name TEXT NOT NULL COLLATE NOCASE,
            contract_id TEXT NOT NULL REFERENCES contract(id),
            curve_key BLOB NOT NULL UNIQUE CHECK (length(curve_key) = 32),
            signing_key BLOB NOT NULL CHECK (length(signing_key) = 32),
            vault BLOB NOT NULL CHECK (length(vault) = 16),
            installation BLOB NOT NULL CHECK (length(installation) = 16),
            state TEXT NOT NULL CHECK (state IN ('active', 'revoked')),
            created_at REAL NOT NULL,
            last_seen_at REAL,
            agent_version TEXT NOT NULL,
            platform TEXT NOT NULL,
            UNIQUE (contract_id, name)
        ) STRICT""",
        """CREATE TABLE enrol_token (
            token_sha256 BLOB PRIMARY KEY CHECK (length(token_sha256) = 32),
            contract_id TEXT NOT NULL REFERENCES contract(id) ON DELETE CASCADE,
            created_at REAL NOT NULL,
            expires_at REAL NOT NULL,
            used_at REAL,
            machine_id BLOB REFERENCES machine(id)
        ) STRICT""",
        """CREATE TABLE snapshot_statistics (
            machine_id BLOB NOT NULL REFERENCES machine(id),
            number INTEGER NOT NULL,
            received_at REAL NOT NULL,
            complete INTEGER NOT NULL CHECK (complete IN (0, 1)),
            files_total INTEGER NOT NULL,
            files_full INTEGER NOT NULL,
            files_delta INTEGER NOT NULL,
            files_unchanged INTEGER NOT NULL,
            files_moved INTEGER NOT NULL,
            files_deleted INTEGER NOT NULL,
            bytes_source INTEGER NOT NULL,
            bytes_read INTEGER NOT NULL,
            bytes_sent INTEGER NOT NULL,
            bytes_received INTEGER NOT NULL,
            seconds REAL NOT NULL,
            transfer_seconds REAL NOT NULL,
            warnings INTEGER NOT NULL,
            PRIMARY KEY (machine_id, number)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX snapshot_statistics_time ON snapshot_statistics(received_at)",
        """CREATE TABLE machine_log (
            id INTEGER PRIMARY KEY,
            machine_id BLOB NOT NULL REFERENCES machine(id),
            at REAL NOT NULL,
            level TEXT NOT NULL,
            module TEXT NOT NULL,
            text TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX machine_log_machine ON machine_log(machine_id, id)",
        # E-mails and machines here are what was claimed or meant at the time: no foreign keys, rows outlive both.
        """CREATE TABLE attempt (
            id INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            purpose TEXT NOT NULL,
            email TEXT NOT NULL,
            machine_id BLOB,
            outcome TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX attempt_email ON attempt(email, at)",
        "CREATE INDEX attempt_machine ON attempt(machine_id, at)",
        """CREATE TABLE restore_opening (
            id INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            purpose TEXT NOT NULL,
            email TEXT NOT NULL,
            machine_id BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX restore_opening_machine ON restore_opening(machine_id, at)",
    ),
)

_RETENTION = Migration(
    2,
    "retention: what contracts keep, holds, the clock's witness, alarms",
    (
        "ALTER TABLE contract ADD COLUMN floor_days INTEGER NOT NULL DEFAULT 7 CHECK (floor_days >= 3)",
        "ALTER TABLE contract ADD COLUMN keep_days INTEGER NOT NULL DEFAULT 90 CHECK (keep_days >= floor_days)",
        "ALTER TABLE contract ADD COLUMN keep_daily INTEGER NOT NULL DEFAULT 0 CHECK (keep_daily >= 0)",
        "ALTER TABLE contract ADD COLUMN keep_weekly INTEGER NOT NULL DEFAULT 0 CHECK (keep_weekly >= 0)",
        "ALTER TABLE contract ADD COLUMN keep_monthly INTEGER NOT NULL DEFAULT 0 CHECK (keep_monthly >= 0)",
        "ALTER TABLE contract ADD COLUMN keep_yearly INTEGER NOT NULL DEFAULT 0 CHECK (keep_yearly >= 0)",
        """CREATE TABLE snapshot_hold (
            machine_id BLOB NOT NULL REFERENCES machine(id),
            number INTEGER NOT NULL,
            reason TEXT NOT NULL,
            held_by TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (machine_id, number)
        ) STRICT, WITHOUT ROWID""",
        # What a prune under way is about to drop: a hold that comes later is refused, never silently broken.
        """CREATE TABLE snapshot_dropping (
            machine_id BLOB NOT NULL REFERENCES machine(id),
            number INTEGER NOT NULL,
            PRIMARY KEY (machine_id, number)
        ) STRICT, WITHOUT ROWID""",
        # Outlives the sweep that takes away what was counted.
        """CREATE TABLE snapshot_change (
            machine_id BLOB NOT NULL REFERENCES machine(id),
            number INTEGER NOT NULL,
            entries_before INTEGER NOT NULL,
            entries_ended INTEGER NOT NULL,
            PRIMARY KEY (machine_id, number)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE clock_witness (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            at REAL NOT NULL,
            boot TEXT NOT NULL,
            counted REAL NOT NULL
        ) STRICT""",
        # machine: the id, or 16 zeros for the appliance itself; rows may outlive the machine.
        """CREATE TABLE alarm (
            kind TEXT NOT NULL,
            machine BLOB NOT NULL,
            text TEXT NOT NULL,
            first_seen_at REAL NOT NULL,
            last_seen_at REAL NOT NULL,
            PRIMARY KEY (kind, machine)
        ) STRICT, WITHOUT ROWID""",
    ),
)

_WEB: Final = Migration(
    3, "web: sessions, second factors, invitations, outbox, audit, themes, deletions", web_schema.STATEMENTS
)

_REMOTE: Final = Migration(
    4, "remote settings of machines, what agents report, backups asked for", remote_schema.STATEMENTS
)

_JOBS: Final = Migration(5, "jobs and their runs, delivery of mails, alerts with a life", job_schema.STATEMENTS)

_KEYS: Final = Migration(6, "wrapped machine keys", key_schema.STATEMENTS)

_USED: Final = Migration(7, "what each backup went by", remote_schema.USED)

_STORMS: Final = Migration(8, "what tells an attack from work", job_schema.STORMS)

_API: Final = Migration(9, "tokens of the REST API, answers that may be asked for again", api_schema.STATEMENTS)

_HOOKS: Final = Migration(10, "webhooks and what they are to be told", webhook_schema.STATEMENTS)

_DAYS: Final = Migration(
    11,
    "opening days of spaces and contracts",
    (
        "ALTER TABLE space_settings ADD COLUMN open_days TEXT NOT NULL DEFAULT 'mon,tue,wed,thu,fri,sat,sun'",
        "ALTER TABLE contract ADD COLUMN open_days TEXT",
    ),
)

_ADMINS: Final = Migration(
    12,
    "admins of a space who want to hear of each failure",
    ("ALTER TABLE space_settings ADD COLUMN tell_admins INTEGER NOT NULL DEFAULT 0 CHECK (tell_admins IN (0, 1))",),
)

_DELIVERIES: Final = Migration(13, "deliveries to machines", delivery_schema.STATEMENTS)

_RESTING: Final = Migration(14, "webhooks that rest, and hear of deliveries", webhook_schema.PAUSES)

_OBSERVED: Final = Migration(15, "what the guards of agents saw", job_schema.OBSERVED)

_RECOVERY: Final = Migration(16, "what a recovered machine gets back", recovery_schema.STATEMENTS)

_CERTIFICATES: Final = Migration(17, "certificates of erasure", certificate_schema.STATEMENTS)

_CROSSINGS: Final = Migration(18, "deliveries to another machine of a contract", delivery_schema.CROSSINGS)

_EXPORTS: Final = Migration(19, "exports of contracts", export_schema.STATEMENTS)

_SITE_COPIES: Final = Migration(20, "copies on site, as machines tell of them", site_copy_schema.STATEMENTS)

MIGRATIONS: Final = (
    *(_FIRST, _RETENTION, _WEB, _REMOTE, _JOBS, _KEYS, _USED, _STORMS, _API, _HOOKS, _DAYS),
    *(_ADMINS, _DELIVERIES, _RESTING, _OBSERVED, _RECOVERY, _CERTIFICATES, _CROSSINGS, _EXPORTS, _SITE_COPIES),
)
"""In order; the number of the last one is the schema version."""
