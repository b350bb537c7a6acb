"""Metrics: text that Prometheus' own parser reads, the figures of a known house, a token without which nobody reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance import metrics
from appliance.control import alert_table, job_table, machine_alerts, machine_logs, outbox, statistics
from appliance.control.job_table import Outcome
from appliance.control.scope import EVERYTHING
from appliance.settings import Home
from tests.support.control_house import NOW, House, build, figures

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.repositories.mkdir()
    home.keys.mkdir()
    return home


@pytest.fixture
def house(home: Home, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(home.root, monkeypatch)


def scrape(home: Home, house: House) -> Samples:
    read = text_string_to_metric_families(metrics.text(home, house.db, NOW).decode())
    samples = [sample for family in read for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def test_the_figures_of_a_house(home: Home, house: House) -> None:
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(5000), now=NOW - 60)
    machine_logs.add(house.db, house.machine.id, level="error", module="m", text="x", now=NOW - 30)
    outbox.add(house.db, recipient="p@x.org", kind="test", language="fr", fields={}, now=NOW - 90)
    job_table.know(house.db, "prune", NOW - 10)
    claim = job_table.claim(house.db, "prune", now=NOW - 9)
    job_table.finish(house.db, claim, Outcome.FAILED, "x", next_at=NOW - 4, now=NOW - 5)
    alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, NOW), NOW)
    found = scrape(home, house)
    machine = (("client", "ours"), ("machine", house.machine.hex), ("name", "PC-1"), ("space", "near"))
    for name, value in (
        ("pilulier_machine_snapshot_age_seconds", 60),
        ("pilulier_machine_source_bytes", 5000),
        ("pilulier_machine_last_duration_seconds", 1.5),
        ("pilulier_machine_last_sent_bytes", 100),
    ):
        assert found[(name, machine)] == value
    assert found[("pilulier_machines", (("state", "failed"),))] == 1
    assert found[("pilulier_machines", (("state", "never"),))] == 2
    assert found[("pilulier_mails", (("state", "waiting"),))] == 1
    assert found[("pilulier_mail_oldest_waiting_seconds", ())] == 90
    assert found[("pilulier_job_succeeded", (("job", "prune"),))] == 0
    assert found[("pilulier_job_overdue_seconds", (("job", "prune"),))] == 4
    assert found[("pilulier_alerts", (("kind", "failed"), ("state", "open")))] == 1
    assert found[("pilulier_last_day_snapshots", ())] == 1 and found[("pilulier_clock_trusted", ())] == 1
    assert 0 < found[("pilulier_disk_free_bytes", ())] <= found[("pilulier_disk_total_bytes", ())]


def test_names_cannot_break_the_text(home: Home, house: House) -> None:
    with house.db.write():
        house.db.execute("UPDATE machine SET name = ? WHERE id = ?", ['a"} 1\nx{y="\\', house.machine.id])
    statistics.record(house.db, house.machine.id, 1, complete=True, figures=figures(), now=NOW)
    assert any(("name", 'a"} 1\nx{y="\\') in labels for _, labels in scrape(home, house))


def test_the_token(home: Home) -> None:
    mine = metrics.token(home)
    assert len(mine) >= 43 and metrics.token(home) == mine and home.metrics_token.stat().st_mode & 0o777 == 0o600
    assert metrics.may_read(home, mine)
    assert not any(metrics.may_read(home, wrong) for wrong in ("", mine[:-1], mine + "x", "é"))
    other = metrics.renew_token(home)
    assert other != mine and not metrics.may_read(home, mine) and metrics.may_read(home, other)
