"""Which snapshot a restore in the web shows first: the newest, or the last calm one before what may be an attack."""

from __future__ import annotations

import pytest

from appliance.control import alert_table
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.scope import EVERYTHING
from appliance.opening.words import Snapshot
from tests.support.control_house import NOW
from tests.webui.web_house import WebHouse
from webui.restore import shown_first


def snapshots(*complete: bool) -> list[Snapshot]:
    return [Snapshot(number, number * 1000, whole, 10) for number, whole in enumerate(complete, 1)]


@pytest.mark.parametrize(
    ("complete", "suspicious", "first"),
    [
        ((True, True, True), None, 3),
        ((True, True, True), 3, 2),
        ((True, False, True, True), 3, 1),
        ((False, True), 2, 1),
        ((True, True), 1, 2),
    ],
)
def test_the_last_calm_one_comes_first(complete: tuple[bool, ...], suspicious: int | None, first: int) -> None:
    assert shown_first(snapshots(*complete), suspicious).number == first


def test_a_suspicion_lasts_until_it_is_resolved(web: WebHouse) -> None:
    db, machine = web.house.db, web.house.machine

    def about(number: int) -> Alert:
        return Alert(
            AlertKind.SUSPICIOUS,
            NOW,
            machine.id,
            machine.name,
            web.house.ours.id,
            web.house.ours.client_id,
            web.house.ours.space_id,
            AlertFacts(percent=80, snapshot=number),
        )

    assert alert_table.first_suspicious(db, machine.id) is None
    alert_table.sync(db, [about(7)], NOW)
    alert_table.sync(db, [about(8)], NOW + 1)
    assert alert_table.first_suspicious(db, machine.id) == 7
    assert alert_table.first_suspicious(db, web.house.neighbour_machine.id) is None
    for one in alert_table.living(db, EVERYTHING):
        alert_table.acknowledge(db, EVERYTHING, one.id, by="a@example.org", now=NOW + 2)
    assert alert_table.first_suspicious(db, machine.id) == 7, "somebody looks into it"
    alert_table.sync(db, [], NOW + 3)
    assert alert_table.first_suspicious(db, machine.id) is None
