"""The jobs there are: name, time, purpose, and who does each.

Times of day keep apart what reads the same disks: prunes in the first hours of the night, reading again after them,
what people read in the morning just before they come.
"""

from __future__ import annotations

import time
from typing import Final

from appliance import (
    export_job,
    housekeeping,
    nightly,
    notices,
    parcel_making,
    safety,
    synthesis,
    watching,
    webhook_sending,
)
from appliance.control import outbox, webhooks
from appliance.control.text import one_line
from appliance.errors import NotFoundError
from appliance.job_running import JobContext, JobKind, JobReport
from appliance.mail import delivery
from appliance.notices import Quiet
from appliance.schedules import Daily, Every
from appliance.sizes import format_size


def _quiet(context: JobContext) -> Quiet:
    mail = context.home.load_settings().mail
    return Quiet(mail.quiet_from, mail.quiet_until)


def _alerts(context: JobContext) -> JobReport:
    synced = watching.refresh(context)
    now = context.now()
    mails = notices.tell_alerts(context.db, now, _quiet(context)) + notices.tell_restores(context.db, now)
    return JobReport(f"{synced.opened} alerts opened, {synced.resolved} resolved, {mails} mails written")


def _quota(context: JobContext) -> JobReport:
    return JobReport(f"{notices.tell_full_spaces(context.db, context.now(), _quiet(context))} mails about full spaces")


def _prune(context: JobContext) -> JobReport:
    # First, so that what a machine sent this evening can freeze its own prune.
    watching.refresh(context)
    return nightly.prune_all(context)


def _scrub(context: JobContext) -> JobReport:
    return nightly.scrub_in_turn(context, monotonic=time.monotonic)


def _outbox(context: JobContext) -> JobReport:
    done = delivery.deliver(context.home, context.db, now=context.now, pause=context.stopping.check)
    text = f"{done.sent} mails sent, {done.put_off} put off, {done.given_up} given up"
    if done.stopped:
        return JobReport(f"{text}; {done.stopped}", warnings=True)
    return JobReport(text, warnings=bool(done.put_off or done.given_up))


def _mails_are_due(context: JobContext) -> bool:
    return bool(context.home.load_settings().mail.host) and outbox.anything_due(context.db, context.now())


def _webhooks(context: JobContext) -> JobReport:
    private = context.home.load_settings().webhooks_private
    done = webhook_sending.deliver(context.db, private=private, now=context.now, check=context.stopping.check)
    text = f"{done.sent} webhooks told, {done.put_off} put off, {done.given_up} given up"
    return JobReport(text, warnings=bool(done.put_off or done.given_up))


def _webhooks_are_due(context: JobContext) -> bool:
    return webhooks.anything_due(context.db, context.now())


def _safety(context: JobContext) -> JobReport:
    copy = safety.write_copy(context.home, context.db, context.now(), check=context.stopping.check)
    expired = safety.expire(context.home, context.now())
    return JobReport(f"{copy.path} written, {format_size(copy.bytes)}; {expired} older copies expired")


KINDS: Final = {
    kind.name: kind
    for kind in (
        JobKind("alerts", Every(300), "looks for what is wrong; opens, resolves and mails alerts", _alerts),
        JobKind("deletions", Every(3600), "carries out deletions that are due", housekeeping.carry_out_deletions),
        JobKind("exports", Every(60), "makes exports of contracts", export_job.make_exports, needed=export_job.is_due),
        JobKind("logs", Daily(5, 0), "removes logs and sent mails older than a year", housekeeping.vacuum_logs),
        JobKind("outbox", Every(60), "sends the mails that wait", _outbox, needed=_mails_are_due),
        JobKind("parcels", Every(60), "seals what one machine is sent of another's", parcel_making.make,
                needed=parcel_making.needed),  # fmt: skip
        JobKind("prune", Daily(0, 30), "prunes every machine by its contract's policy", _prune),
        JobKind("quota", Daily(6, 30), "tells of spaces that use more than they were allocated", _quota),
        JobKind("safety", Daily(23, 30), "copies the appliance's own database, keys and settings, sealed", _safety),
        JobKind("scrub", Daily(3, 0), "reads stored data again, all of it within 30 days", _scrub),
        JobKind("sessions", Every(3600), "ends sessions that are over", housekeeping.sweep_sessions),
        JobKind("synthesis", Daily(7, 0), "mails each contract how its machines stand", synthesis.tell_all),
        JobKind("webhooks", Every(60), "tells webhooks what happened", _webhooks, needed=_webhooks_are_due),
    )
}
"""By name."""


def find(name: str) -> JobKind:
    """The job of this name; NotFoundError otherwise."""
    kind = KINDS.get(name)
    if kind is None:
        raise NotFoundError(f"there is no job {one_line(name, 40)!r}: there are {', '.join(sorted(KINDS))}")
    return kind
