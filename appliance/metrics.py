"""What a monitoring system reads, in the text format of Prometheus, and the token without which nobody reads it.

All figures come from the control database, the disk and the running file: no repository is opened, so that a scrape of
thousands of machines costs a few queries. Names of machines and clients are labels; nothing else of a customer is.
The only room for prometheus_client.
"""

from __future__ import annotations

import hmac
import secrets
import shutil
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from appliance.control import alarms, alert_table, control_room, job_table, outbox, running
from appliance.control.control_room import RoomRow, State
from appliance.control.database import Database
from appliance.control.job_table import Outcome
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from transport.keys import read_key_file, write_key_file

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SCRUB_CURSOR: Final = "scrub-oldest"
"""Where the nightly reading notes the oldest time at which a repository was last read to its end."""
_TOKEN_LIMIT: Final = 200


def text(home: Home, db: Database, now: float) -> bytes:
    """All metrics, to be served as `CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Appliance(home, db, now))
    return generate_latest(registry)


def token(home: Home) -> str:
    """What a monitoring system shows as a bearer token; made where there is none yet."""
    if not home.metrics_token.exists():
        with home.settings_locked():
            if not home.metrics_token.exists():
                write_key_file(home.metrics_token, secrets.token_urlsafe(32).encode() + b"\n")
    return read_key_file(home.metrics_token, _TOKEN_LIMIT).decode().strip()


def renew_token(home: Home) -> str:
    """Another token; the former one is worth nothing from now on."""
    home.metrics_token.unlink(missing_ok=True)
    return token(home)


def may_read(home: Home, shown: str) -> bool:
    """Whether a bearer token that was shown is the right one, in the same time for every wrong one."""
    return hmac.compare_digest(token(home).encode(), shown.encode("utf-8", "replace"))


class _Appliance(Collector):
    """One look at everything."""

    def __init__(self, home: Home, db: Database, now: float) -> None:
        self._home = home
        self._db = db
        self._now = now

    def collect(self) -> Iterator[Metric]:
        ids = running.ids(self._home.running_file, self._now)
        rows = control_room.rows(self._db, EVERYTHING, self._now, ids)
        yield from self._machines(rows)
        yield from self._last_day()
        yield from self._work()
        yield from self._disk()
        yield InfoMetricFamily(
            "pilulier_appliance",
            "The version of the control database's schema.",
            value={"schema": str(self._db.schema_version())},
        )

    def _machines(self, rows: list[RoomRow]) -> Iterator[Metric]:
        states = GaugeMetricFamily("pilulier_machines", "Machines by state.", labels=["state"])
        counts = control_room.counts(rows)
        for state in State:
            states.add_metric([state.value], getattr(counts, state.value))
        yield states
        labels = ["machine", "name", "client", "space"]
        figures = {
            row["machine_id"]: row
            for row in self._db.rows(
                "SELECT figures.machine_id, figures.seconds, figures.bytes_sent, figures.warnings "
                "FROM snapshot_statistics AS figures JOIN machine ON machine.id = figures.machine_id "
                "WHERE figures.number = (SELECT max(number) FROM snapshot_statistics WHERE machine_id = machine.id)"
            )
        }

        def family(name: str, about: str, values: Iterable[tuple[RoomRow, float | None]]) -> Metric:
            made = GaugeMetricFamily(f"pilulier_machine_{name}", about, labels=labels)
            for row, value in values:
                if value is not None:
                    made.add_metric([row.hex, row.name, row.client_id, row.space_name], value)
            return made

        def of_last(name: str) -> Iterator[tuple[RoomRow, float | None]]:
            return ((row, figures[row.machine_id][name] if row.machine_id in figures else None) for row in rows)

        good = [(row, row.good_at) for row in rows]
        yield family(
            "snapshot_age_seconds",
            "Since the last complete snapshot was received.",
            ((row, None if at is None else max(0.0, self._now - at)) for row, at in good),
        )
        yield family("snapshot_timestamp_seconds", "When the last complete snapshot was received.", good)
        source = ((row, row.bytes_source) for row in rows)
        yield family("source_bytes", "What the last complete snapshot covers.", source)
        yield family("last_duration_seconds", "How long the last backup took.", of_last("seconds"))
        yield family("last_sent_bytes", "What the last backup sent.", of_last("bytes_sent"))
        yield family("last_warnings", "Warnings of the last backup.", of_last("warnings"))

    def _last_day(self) -> Iterator[Metric]:
        day = control_room.last_day(self._db, EVERYTHING, self._now)
        for name, about, value in (
            ("snapshots", "Snapshots received in the last 24 hours.", day.backups),
            ("sent_bytes", "Bytes sent by machines in the last 24 hours.", day.bytes_sent),
            ("errors", "Machines whose log has an error of the last 24 hours.", day.errors),
        ):
            yield GaugeMetricFamily(f"pilulier_last_day_{name}", about, value=value)

    def _work(self) -> Iterator[Metric]:
        mails = outbox.counts(self._db)
        queue = GaugeMetricFamily("pilulier_mails", "Mails of the outbox by state.", labels=["state"])
        for state, count in (("waiting", mails.waiting), ("sent", mails.sent), ("given-up", mails.given_up)):
            queue.add_metric([state], count)
        yield queue
        yield GaugeMetricFamily(
            "pilulier_mail_oldest_waiting_seconds",
            "How long the oldest mail has waited.",
            value=0.0 if mails.oldest_at is None else max(0.0, self._now - mails.oldest_at),
        )
        running_now = GaugeMetricFamily("pilulier_job_running", "Whether a job runs now.", labels=["job"])
        ended = GaugeMetricFamily("pilulier_job_ended_timestamp_seconds", "When a job ended last.", labels=["job"])
        well = GaugeMetricFamily("pilulier_job_succeeded", "Whether a job's last run was done.", labels=["job"])
        overdue = GaugeMetricFamily("pilulier_job_overdue_seconds", "How long a job has been due.", labels=["job"])
        for job in job_table.every(self._db):
            running_now.add_metric([job.name], job.running_since is not None)
            overdue.add_metric(
                [job.name], max(0.0, self._now - job.next_at) if job.running_since is None else 0.0
            )
            if job.last is not None and job.last.ended_at is not None:
                ended.add_metric([job.name], job.last.ended_at)
                well.add_metric([job.name], job.last.outcome in (Outcome.DONE, Outcome.WARNINGS, Outcome.STOPPED))
        yield from (running_now, ended, well, overdue)
        alerts = GaugeMetricFamily("pilulier_alerts", "Unresolved alerts.", labels=["kind", "state"])
        found: dict[tuple[str, str], int] = {}
        for one in alert_table.living(self._db, EVERYTHING):
            key = (str(one.alert.kind), str(one.state))
            found[key] = found.get(key, 0) + 1
        for (kind, state), count in sorted(found.items()):
            alerts.add_metric([kind, state], count)
        yield alerts
        trusted = not any(alarm.kind == alarms.CLOCK and alarm.machine_id is None for alarm in alarms.every(self._db))
        yield GaugeMetricFamily("pilulier_clock_trusted", "Whether the appliance's clock is believed.", value=trusted)

    def _disk(self) -> Iterator[Metric]:
        usage = shutil.disk_usage(self._home.repositories)
        yield GaugeMetricFamily("pilulier_disk_free_bytes", "Free on the disk of the repositories.", value=usage.free)
        yield GaugeMetricFamily("pilulier_disk_total_bytes", "Size of the disk of the repositories.", value=usage.total)
        oldest = self._db.value("SELECT value FROM notice_cursor WHERE name = ?", [SCRUB_CURSOR])
        if oldest is not None:
            yield GaugeMetricFamily(
                "pilulier_scrub_age_seconds",
                "Since every byte of every repository has been read again.",
                value=max(0.0, self._now - oldest),
            )
