"""A step of the schema: webhooks and what they are to be told.

Triggers write down what is to be told, in the transaction of the fact itself, so that neither is without the other
whoever writes it. Nothing happens in them where no webhook wants the event.
"""

from __future__ import annotations

from typing import Final

_MACHINE: Final = (
    "FROM webhook JOIN contract ON contract.space_id = webhook.space_id "
    "JOIN machine ON machine.contract_id = contract.id WHERE machine.id = NEW.machine_id"
)
_ABOUT: Final = "webhook_id, event, space_id, contract_id, client_id, machine_id, machine_name, at"
_WHO: Final = "contract.space_id, contract.id, contract.client_id, lower(hex(machine.id)), machine.name"
# No more than the oldest SQLite lets a trigger do under trusted_schema=OFF, which the functions of JSON are not:
# a trigger that is refused would refuse the backup.
_SNAPSHOT: Final = (
    f"INSERT INTO webhook_delivery ({_ABOUT}, snapshot, sent_bytes, source_bytes, warnings) "
    f"SELECT webhook.id, 'snapshot', {_WHO}, NEW.received_at, NEW.number, NEW.bytes_sent, NEW.bytes_source, "
    f"NEW.warnings {_MACHINE} AND instr(webhook.events, ' snapshot ')"
)
STATEMENTS: Final = (
    """CREATE TABLE webhook (
        id TEXT PRIMARY KEY,
        space_id TEXT NOT NULL REFERENCES space(id) ON DELETE CASCADE,
        url TEXT NOT NULL,
        events TEXT NOT NULL,
        secret TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE webhook_delivery (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        webhook_id TEXT NOT NULL REFERENCES webhook(id) ON DELETE CASCADE,
        event TEXT NOT NULL,
        at REAL NOT NULL,
        space_id TEXT NOT NULL,
        contract_id TEXT NOT NULL,
        client_id TEXT NOT NULL,
        machine_id TEXT,
        machine_name TEXT NOT NULL,
        snapshot INTEGER,
        sent_bytes INTEGER,
        source_bytes INTEGER,
        warnings INTEGER,
        alert INTEGER,
        account TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at REAL NOT NULL DEFAULT 0,
        sent_at REAL,
        given_up_at REAL,
        last_error TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    "CREATE INDEX webhook_delivery_due ON webhook_delivery(next_at) WHERE sent_at IS NULL AND given_up_at IS NULL",
    "CREATE INDEX webhook_delivery_webhook ON webhook_delivery(webhook_id, id)",
    "CREATE TRIGGER webhook_snapshot AFTER INSERT ON snapshot_statistics WHEN NEW.complete = 1 "
    f"BEGIN {_SNAPSHOT}; END",
    # A first upload is received in parts: it is finished once.
    "CREATE TRIGGER webhook_snapshot_completed AFTER UPDATE ON snapshot_statistics "
    f"WHEN OLD.complete = 0 AND NEW.complete = 1 BEGIN {_SNAPSHOT}; END",
    "CREATE TRIGGER webhook_alert AFTER INSERT ON alert WHEN NEW.kind IN ('failed', 'late', 'over-quota') "
    f"BEGIN INSERT INTO webhook_delivery ({_ABOUT}, alert) SELECT webhook.id, NEW.kind, NEW.space_id, "
    "NEW.contract_id, NEW.client_id, nullif(lower(hex(NEW.machine_id)), ''), NEW.machine_name, NEW.opened_at, NEW.id "
    "FROM webhook WHERE webhook.space_id = NEW.space_id AND instr(webhook.events, ' ' || NEW.kind || ' '); END",
    "CREATE TRIGGER webhook_restore AFTER INSERT ON restore_opening WHEN NEW.purpose = 'restore' "
    f"BEGIN INSERT INTO webhook_delivery ({_ABOUT}, account) SELECT webhook.id, 'restore', {_WHO}, NEW.at, NEW.email "
    f"{_MACHINE} AND instr(webhook.events, ' restore '); END",
)

PAUSES: Final = (
    # The events of a webhook that rests: its own column is blank meanwhile, so that no trigger finds it.
    "ALTER TABLE webhook ADD COLUMN paused_events TEXT",
    "CREATE TRIGGER webhook_restored AFTER UPDATE OF state ON delivery WHEN NEW.state = 'done' AND OLD.state <> 'done' "
    f"BEGIN INSERT INTO webhook_delivery ({_ABOUT}, snapshot, account) SELECT webhook.id, 'restored', {_WHO}, "
    f"NEW.ended_at, NEW.snapshot, NEW.sent_by {_MACHINE} AND instr(webhook.events, ' restored '); END",
)
"""A later step: a webhook may rest, and hears of deliveries that were restored."""
