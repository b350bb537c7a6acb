"""Short work that keeps the control database small and honest: what is over goes, old logs go, the clock is noted.

Statistics, the audit log and openings of restores stay: bills and certificates are made from them.
"""

from __future__ import annotations

from typing import Final

from appliance import erasing
from appliance.control import clock, outbox, sessions
from appliance.erasing import Carried
from appliance.job_running import JobContext, JobReport
from appliance.store.upkeep.clock import Suspect

LOG_DAYS: Final = 365
"""Twelve months: what a tenant may ask about, and no longer."""
MAIL_DAYS: Final = 365
_BATCH: Final = 5000
"""Rows deleted in one transaction, so that nobody waits long for the database."""


def sweep_sessions(context: JobContext) -> JobReport:
    """Sessions, half logins and step-ups that are over."""
    return JobReport(f"{sessions.sweep(context.db, context.now())} sessions were over")


def carry_out_deletions(context: JobContext) -> JobReport:
    """Deletions whose days are over."""
    outcomes = erasing.carry_out_due(context.home, context.db, clock.read(context.now()))
    done = [one for one in outcomes if isinstance(one, Carried)]
    refused = [one for one in outcomes if not isinstance(one, Carried)]
    text = f"{len(done)} deletions carried out"
    if refused:
        text += f"; {len(refused)} not yet, the first of them {refused[0].deletion.object_name}: {refused[0].reason}"
    return JobReport(text, bool(refused))


def vacuum_logs(context: JobContext) -> JobReport:
    """Log lines, attempts to log in and sent mails older than a year."""
    now = context.now()
    verdict = clock.note(context.db, clock.read(now))
    if isinstance(verdict, Suspect):
        return JobReport(f"nothing was removed: {verdict.text}", warnings=True)
    before = now - LOG_DAYS * 86400.0
    lines = _delete(context, "machine_log", "at", before)
    attempts = _delete(context, "attempt", "at", before)
    mails = outbox.forget_before(context.db, now - MAIL_DAYS * 86400.0)
    resolved = _delete(context, "alert", "resolved_at", before)
    return JobReport(f"{lines} log lines, {attempts} attempts, {mails} mails, {resolved} alerts were over a year old")


def _delete(context: JobContext, table: str, column: str, before: float) -> int:
    removed = 0
    while True:
        context.stopping.check()
        with context.db.write():
            count = context.db.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {column} < ? LIMIT {_BATCH})", [before]
            )
        removed += count
        if count < _BATCH:
            return removed
