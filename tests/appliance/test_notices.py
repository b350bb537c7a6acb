"""Who is told what, once: preferences, roles, digests, quiet hours, and that every mail written can be composed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from appliance import notices, synthesis
from appliance.control import (
    alarms,
    alert_table,
    contracts,
    disk_readings,
    machine_alerts,
    machine_logs,
    outbox,
    space_settings,
    statistics,
    themes,
)
from appliance.control.contracts import Changes, Notify
from appliance.control.disk_readings import DiskReading
from appliance.control.outbox import Mail
from appliance.control.restores import Purpose, verify_restore_code
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext, Stopping
from appliance.mail.composing import Sender, compose
from appliance.notices import NO_QUIET, WEEK_S, Quiet
from appliance.settings import Home
from appliance.store.upkeep.changes import SnapshotChange
from tests.support.control_house import NOW, House, build, enrol, figures
from tests.support.dated_history import write_history
from tests.support.mail_samples import text_of

HOUR = 3600.0
OURS = {"ours@example.org", "customer@example.org"}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    house = build(tmp_path, monkeypatch)
    for machine in (house.machine, house.neighbour_machine, house.elsewhere_machine):
        statistics.record(house.db, machine.id, 1, complete=True, figures=figures(), now=NOW - HOUR)
    return house


def tell(house: House, now: float = NOW, quiet: Quiet = NO_QUIET) -> int:
    alert_table.sync(house.db, machine_alerts.every(house.db, EVERYTHING, now), now)
    return notices.tell_alerts(house.db, now, quiet)


def fail(house: House, at: float = NOW, machine_id: bytes | None = None) -> None:
    text = "C:\\secret\\file.db"
    machine_logs.add(house.db, machine_id or house.machine.id, level="error", module="m", text=text, now=at)


def mails(house: House) -> list[Mail]:
    """What waits, each proved to become a message."""
    waiting = outbox.pending(house.db, 1000)
    for mail in waiting:
        text = text_of(compose(mail, themes.DEFAULT, None, Sender("a@x.org", "", "https://x.org"), now=NOW))
        assert "secret" not in text, "names of files stay out of mails"
    return waiting


def told(house: House) -> set[tuple[str, str]]:
    return {(mail.kind, mail.recipient) for mail in mails(house)}


def test_a_failure_is_told_once_to_the_contract_s_people_in_their_language(house: House) -> None:
    with house.db.write():
        house.db.execute("UPDATE account SET language = 'de' WHERE email = 'customer@example.org'")
    fail(house)
    assert tell(house) == 2
    assert told(house) == {(outbox.BACKUP_FAILED, email) for email in OURS}
    assert {mail.recipient: mail.language for mail in mails(house)} == {
        "ours@example.org": "fr",
        "customer@example.org": "de",
    }
    assert tell(house, NOW + 300) == 0 and tell(house, NOW + 30 * HOUR) == 0
    # The next failure is another one.
    statistics.record(house.db, house.machine.id, 2, complete=True, figures=figures(), now=NOW + 31 * HOUR)
    assert tell(house, NOW + 31 * HOUR) == 0
    fail(house, NOW + 32 * HOUR)
    assert tell(house, NOW + 32 * HOUR) == 2


def test_admins_hear_of_failures_where_their_space_says_so(house: House) -> None:
    settings = replace(space_settings.DEFAULT, tell_admins=True)
    space_settings.save(house.db, house.ours.space_id, settings, NOW)
    fail(house)
    fail(house, machine_id=house.elsewhere_machine.id)
    tell(house)
    heard = {mail.recipient for mail in mails(house) if mail.kind == outbox.BACKUP_FAILED}
    assert heard == OURS | {"admin@example.org", "away@example.org"}, "the other space's admins did not ask for it"


@pytest.mark.parametrize(
    ("notify", "kinds"),
    [
        (Notify.ALL, {outbox.BACKUP_WARNINGS, outbox.CONTRACT_EXPIRING}),
        (Notify.WARNINGS, {outbox.BACKUP_WARNINGS}),
        (Notify.FAILURES, set()),
    ],
)
def test_preferences_hold_for_the_contract_s_people(house: House, notify: Notify, kinds: set[str]) -> None:
    end = date.fromtimestamp(NOW) + timedelta(days=10)
    contracts.edit(house.db, house.ours, Changes(notify=notify, end_date=end))
    some = figures()
    warned = type(some)(**{name: getattr(some, name) for name in some.__struct_fields__} | {"warnings": 3})
    statistics.record(house.db, house.machine.id, 2, complete=True, figures=warned, now=NOW)
    tell(house)
    assert {kind for kind, email in told(house) if email in OURS} == kinds
    # Admins hear of the contract's end either way: only they can renew it.
    assert (outbox.CONTRACT_EXPIRING, "admin@example.org") in told(house)


def test_what_looks_like_ransomware_is_told_at_any_hour_until_somebody_answers(house: House) -> None:
    statistics.record_changes(house.db, house.machine.id, [SnapshotChange(1, 1000, 620)])
    contracts.edit(house.db, house.ours, Changes(notify=Notify.FAILURES))
    night = Quiet(0, 23)
    assert tell(house, quiet=night) == 3
    assert told(house) == {(outbox.SUSPICIOUS_CHANGE, email) for email in (*OURS, "admin@example.org")}
    assert all(mail.next_at <= NOW for mail in mails(house))
    assert tell(house, NOW + 2 * HOUR) == 0
    assert tell(house, NOW + 25 * HOUR) == 3, "a day later it is told again"
    (alert,) = (one for one in alert_table.living(house.db, EVERYTHING) if one.alert.machine_id == house.machine.id)
    alert_table.acknowledge(house.db, EVERYTHING, alert.id, by="x", now=NOW)
    assert tell(house, NOW + 30 * HOUR) == 0


def test_quiet_hours_hold_back_what_can_wait(house: House) -> None:
    evening = datetime.fromtimestamp(NOW).replace(hour=22, minute=30).timestamp()
    quiet = Quiet(21, 7)
    fail(house, evening)
    tell(house, evening, quiet)
    due = {datetime.fromtimestamp(mail.next_at) for mail in mails(house)}
    assert due == {datetime.fromtimestamp(evening).replace(hour=7, minute=0) + timedelta(days=1)}
    assert not outbox.anything_due(house.db, evening + 60)
    for hour, expected in ((6, 7), (7, 7), (12, 12), (20, 20), (0, 7)):
        at = datetime.fromtimestamp(NOW).replace(hour=hour, minute=0, second=0, microsecond=0)
        assert datetime.fromtimestamp(quiet.until(at.timestamp())).hour == expected
    assert Quiet(9, 17).until(NOW) >= NOW and NO_QUIET.until(NOW) == NOW


def test_many_at_once_are_one_digest(house: House) -> None:
    for seed in range(10, 14):
        fail(house, machine_id=enrol(house.db, house.ours, seed, f"PC-{seed}").id)
    assert tell(house) == 2
    assert told(house) == {(outbox.DIGEST, email) for email in OURS}
    rows = mails(house)[0].fields["rows"]
    assert isinstance(rows, list) and len(rows) == 4 and rows[0]["what"] == outbox.BACKUP_FAILED


def test_the_appliance_s_own_alarms_are_the_super_user_s(house: House) -> None:
    disk_readings.note(house.db, DiskReading(NOW, 5 * 10**9, 100 * 10**9))
    alarms.sound(house.db, alarms.DISK, "95 % of the disk is used", now=NOW)
    assert tell(house) == 1 and told(house) == {(outbox.APPLIANCE_ALARM, "super@example.org")}
    (mail,) = mails(house)
    assert (mail.fields["used_percent"], mail.fields["free_bytes"], mail.fields["detail"]) == (95, 5 * 10**9, "")


def test_a_new_machine_has_time_before_it_is_told_as_never_backed_up(house: House) -> None:
    enrol(house.db, house.ours, 9, "NEW")
    assert tell(house) == 0 and tell(house, NOW + 35 * HOUR) == 0
    tell(house, NOW + 36 * HOUR)
    assert (outbox.NEVER_BACKED_UP, "ours@example.org") in told(house)


def test_full_spaces_are_told_weekly_to_their_admins(house: House) -> None:
    assert notices.tell_full_spaces(house.db, NOW) == 0
    for contract in (house.ours, house.neighbour, house.elsewhere):
        contracts.edit(house.db, contract, Changes(allocated_bytes=800))
    assert notices.tell_full_spaces(house.db, NOW) == 1, "the other space has no admin"
    (mail,) = mails(house)
    assert (mail.recipient, mail.fields["percent"], mail.fields["space"]) == ("admin@example.org", 125, "near")
    assert notices.tell_full_spaces(house.db, NOW + WEEK_S - 1) == 0
    assert notices.tell_full_spaces(house.db, NOW + WEEK_S) == 1
    contracts.edit(house.db, house.ours, Changes(allocated_bytes=10**6))
    assert notices.tell_full_spaces(house.db, NOW + WEEK_S) == 0
    contracts.edit(house.db, house.ours, Changes(allocated_bytes=0))
    assert notices.tell_full_spaces(house.db, NOW + WEEK_S + 1) == 1, "over again is told again"


def test_restores_are_told_once_to_the_contract_and_to_whose_code_it_was(house: House) -> None:
    verify_restore_code(house.db, "admin@example.org", house.code("admin"), house.machine.id, NOW, Purpose.RESTORE)
    assert notices.tell_restores(house.db, NOW + 60) == 3
    assert told(house) == {(outbox.RESTORE_OPENED, email) for email in (*OURS, "admin@example.org")}
    assert notices.tell_restores(house.db, NOW + 120) == 0


def test_a_changed_key_is_told(house: House) -> None:
    notices.tell_key_changed(house.db, house.machine, by="admin@example.org", now=NOW)
    assert told(house) == {(outbox.KEY_CHANGED, email) for email in (*OURS, "admin@example.org")}


def test_the_synthesis_comes_once_a_day_to_those_who_want_all(house: House, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.repositories.mkdir()
    write_history(home.repository(house.machine.id), [int((NOW - HOUR) * 1000)])
    enrol(house.db, house.ours, 9, "NEW")
    contracts.edit(house.db, house.neighbour, Changes(notify=Notify.WARNINGS))
    contracts.pause(house.db, house.elsewhere)

    def run(now: float) -> str:
        return synthesis.tell_all(JobContext(home, house.db, lambda: now, Stopping())).text

    assert run(NOW) == "1 contracts told in 2 mails"
    assert run(NOW + 60) == "0 contracts told in 0 mails"
    assert told(house) == {(outbox.SYNTHESIS, email) for email in OURS}
    fields = mails(house)[0].fields
    machines = fields["machines"]
    assert isinstance(machines, list)
    assert [(row["name"], row["state"]) for row in machines] == [("NEW", "none"), ("PC-1", "complete")]
    assert (fields["complete"], fields["started"], fields["used_bytes"]) == (1, 0, 1000)
    head = str(machines[1]["head"])
    assert len(head) == 14 and head.count("-") == 2 and machines[0]["head"] == ""
    assert run(NOW + 86400) == "1 contracts told in 2 mails"


def test_a_crash_between_mail_and_mark_is_not_possible(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(house)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(alert_table, "mark_told", die)
        with pytest.raises(KeyboardInterrupt):
            tell(house)
    assert outbox.pending(house.db) == []
    assert tell(house) == 2
