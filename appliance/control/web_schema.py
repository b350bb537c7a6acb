"""The third step of the schema: what people who log in need, and what the pages of the web interface read.

Statements only; `migrations` gives them their number. Sessions, tokens and codes are stored as SHA-256 alone: who
reads this file logs in nowhere. The audit log has no foreign keys, since its lines outlive what they are about.
"""

from __future__ import annotations

from typing import Final

STATEMENTS: Final = (
    "ALTER TABLE account ADD COLUMN language TEXT NOT NULL DEFAULT 'fr'",
    "ALTER TABLE account ADD COLUMN totp_pending TEXT",
    "CREATE INDEX account_space ON account(space_id)",
    "CREATE INDEX account_contract ON account(contract_id)",
    "ALTER TABLE contract ADD COLUMN notify TEXT NOT NULL DEFAULT 'all' "
    "CHECK (notify IN ('all', 'warnings', 'failures'))",
    "ALTER TABLE contract ADD COLUMN late_hours INTEGER CHECK (late_hours > 0)",
    "ALTER TABLE machine ADD COLUMN language TEXT",
    # Kept beside the machine so that a wall of 2,000 of them need not search their logs.
    "ALTER TABLE machine ADD COLUMN last_error_at REAL",
    "ALTER TABLE machine ADD COLUMN last_error TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX machine_contract ON machine(contract_id)",
    "ALTER TABLE attempt ADD COLUMN address TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX attempt_address ON attempt(address, at)",
    "CREATE INDEX machine_log_time ON machine_log(at)",
    "CREATE INDEX machine_log_level ON machine_log(level, id)",
    """CREATE TABLE web_session (
        id TEXT PRIMARY KEY,
        token_sha256 BLOB NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
        account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE,
        created_at REAL NOT NULL,
        last_seen_at REAL NOT NULL,
        address TEXT NOT NULL,
        user_agent TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX web_session_account ON web_session(account_id)",
    """CREATE TABLE pending_login (
        token_sha256 BLOB PRIMARY KEY CHECK (length(token_sha256) = 32),
        account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE,
        expires_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX pending_login_account ON pending_login(account_id)",
    """CREATE TABLE step_up (
        session_id TEXT NOT NULL REFERENCES web_session(id) ON DELETE CASCADE,
        account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE,
        action TEXT NOT NULL,
        object_id TEXT NOT NULL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (session_id, action, object_id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE recovery_code (
        account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE,
        code_sha256 BLOB NOT NULL CHECK (length(code_sha256) = 32),
        created_at REAL NOT NULL,
        PRIMARY KEY (account_id, code_sha256)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE invitation (
        id TEXT PRIMARY KEY,
        token_sha256 BLOB NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
        email TEXT NOT NULL,
        role TEXT NOT NULL,
        space_id TEXT REFERENCES space(id) ON DELETE CASCADE,
        contract_id TEXT REFERENCES contract(id) ON DELETE CASCADE,
        language TEXT NOT NULL,
        totp_secret TEXT NOT NULL,
        invited_by TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        used_at REAL
    ) STRICT""",
    # purpose: password = choose a new one; device = enrol another authenticator, once someone above approved.
    """CREATE TABLE account_token (
        token_sha256 BLOB PRIMARY KEY CHECK (length(token_sha256) = 32),
        purpose TEXT NOT NULL CHECK (purpose IN ('password', 'device')),
        account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        used_at REAL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX account_token_account ON account_token(account_id, purpose)",
    """CREATE TABLE lost_device (
        id TEXT PRIMARY KEY,
        account_id TEXT NOT NULL REFERENCES account(id) ON DELETE CASCADE,
        requested_at REAL NOT NULL,
        address TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'refused')),
        decided_by TEXT,
        decided_at REAL
    ) STRICT""",
    "CREATE INDEX lost_device_account ON lost_device(account_id)",
    # secret: what only the mail itself may say (a link's token); emptied once the mail has left.
    """CREATE TABLE outbox (
        id INTEGER PRIMARY KEY,
        recipient TEXT NOT NULL,
        kind TEXT NOT NULL,
        language TEXT NOT NULL,
        space_id TEXT,
        fields TEXT NOT NULL,
        secret TEXT,
        created_at REAL NOT NULL,
        sent_at REAL
    ) STRICT""",
    "CREATE INDEX outbox_waiting ON outbox(id) WHERE sent_at IS NULL",
    """CREATE TABLE audit (
        line INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        account_id TEXT NOT NULL,
        email TEXT NOT NULL,
        role TEXT NOT NULL,
        address TEXT NOT NULL,
        kind TEXT NOT NULL,
        object_kind TEXT NOT NULL,
        object_id TEXT NOT NULL,
        object_name TEXT NOT NULL,
        space_id TEXT,
        contract_id TEXT,
        before TEXT,
        after TEXT,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT""",
    "CREATE INDEX audit_space ON audit(space_id, line)",
    "CREATE INDEX audit_time ON audit(at_ms)",
    # The newest line again, so that lines cut off the end are missed too.
    """CREATE TABLE audit_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        line INTEGER NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT""",
    # Against a slip of our own; whoever can drop a trigger is what the chain is for.
    """CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'lines of the audit log are never changed'); END""",
    """CREATE TRIGGER audit_remains BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'lines of the audit log are never removed'); END""",
    """CREATE TABLE theme (
        space_id TEXT PRIMARY KEY REFERENCES space(id) ON DELETE CASCADE,
        product_name TEXT NOT NULL,
        colour TEXT NOT NULL,
        accent TEXT NOT NULL,
        support_line TEXT NOT NULL,
        logo BLOB,
        logo_type TEXT,
        logo_digest TEXT,
        updated_at REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE space_settings (
        space_id TEXT PRIMARY KEY REFERENCES space(id) ON DELETE CASCADE,
        language TEXT NOT NULL,
        late_hours INTEGER NOT NULL CHECK (late_hours > 0),
        expiring_days INTEGER NOT NULL CHECK (expiring_days >= 0),
        suspicious_percent INTEGER NOT NULL CHECK (suspicious_percent BETWEEN 1 AND 100),
        keep_days INTEGER NOT NULL,
        floor_days INTEGER NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT""",
    # Outlives what it deletes: no foreign keys.
    """CREATE TABLE deletion (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('contract', 'machine', 'space')),
        object_id TEXT NOT NULL,
        object_name TEXT NOT NULL,
        space_id TEXT NOT NULL,
        contract_id TEXT,
        requested_by TEXT NOT NULL,
        requested_at REAL NOT NULL,
        due_at REAL NOT NULL,
        was_paused INTEGER NOT NULL DEFAULT 0,
        outcome TEXT NOT NULL DEFAULT 'waiting' CHECK (outcome IN ('waiting', 'cancelled', 'done')),
        ended_by TEXT,
        ended_at REAL
    ) STRICT""",
    "CREATE UNIQUE INDEX deletion_waiting ON deletion(kind, object_id) WHERE outcome = 'waiting'",
    """CREATE TABLE snapshot_configuration (
        machine_id BLOB NOT NULL REFERENCES machine(id),
        number INTEGER NOT NULL,
        agent_version TEXT NOT NULL,
        platform TEXT NOT NULL,
        pid INTEGER NOT NULL,
        selection BLOB NOT NULL,
        retention_floor_days INTEGER NOT NULL,
        key_epoch INTEGER NOT NULL,
        PRIMARY KEY (machine_id, number)
    ) STRICT, WITHOUT ROWID""",
    # Contracts that were marked before there was a table for it wait their days from then.
    """INSERT INTO deletion
        (id, kind, object_id, object_name, space_id, contract_id, requested_by, requested_at, due_at)
        SELECT 'd' || substr(id, 2), 'contract', id, client_id, space_id, id, 'unknown', delete_requested_at,
        delete_requested_at + 604800 FROM contract WHERE delete_requested_at IS NOT NULL""",
)
