"""Machines in alert: every kind in words with figures, whose it is, who answers for it, what there was."""

from __future__ import annotations

import html
import re
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from appliance.control import (
    alarms,
    alert_table,
    audit,
    contracts,
    machine_alerts,
    machine_logs,
    statistics,
)
from appliance.control.contracts import Changes
from appliance.control.machine_alerts import Alert, AlertFacts, AlertKind
from appliance.control.scope import EVERYTHING, OneContract
from tests.support.control_house import NOW, figures
from tests.webui.web_house import Browser, WebHouse
from webui import alert_texts

HOUR = 3600.0
FRAGMENT = {"X-Pilulier-Fragment": "1"}


def text_of(browser: Browser, path: str = "/alerts") -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    plain = re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))
    return re.sub(r"\s+", " ", html.unescape(plain)).replace("\N{NO-BREAK SPACE}", " ")


def backup(web: WebHouse, at: float, *, number: int = 1, size: int = 1000, warnings: int = 0) -> None:
    done = msgspec.structs.replace(figures(size), warnings=warnings)
    statistics.record(web.house.db, web.house.machine.id, number, complete=True, figures=done, now=at)


def suspicious(web: WebHouse, at: float) -> None:
    """A backup that ended most of what was there before, and a calm one after it."""
    backup(web, at)
    web.house.db._run("INSERT INTO snapshot_change VALUES (?, 1, 1000, 820)", [web.house.machine.id])


def fact(kind: AlertKind, **facts: object) -> Alert:
    return Alert(kind, NOW - 50 * HOUR, b"m" * 16, "PC-1", "c1", "ours", "s1", AlertFacts(**facts))  # type: ignore[arg-type]


@pytest.mark.parametrize("customer", [False, True])
@pytest.mark.parametrize("kind", list(AlertKind))
def test_every_kind_has_a_reason_and_something_to_do_for_everybody(
    web: WebHouse, kind: AlertKind, customer: bool
) -> None:
    with web.app.test_request_context("/", headers={"Accept-Language": "fr"}):
        told = alert_texts.tell(fact(kind, days=3, warnings=2, percent=82), NOW, customer=customer)
        assert told.reason.endswith(".") and told.advice.endswith(".")
        assert str(alert_texts.KINDS[kind].label)
    for alarm in ("clock", "disk", "mail", "scrub-late", "of a newer version"):
        with web.app.test_request_context("/", headers={"Accept-Language": "fr"}):
            told = alert_texts.tell(fact(AlertKind.ALARM, alarm=alarm, text="words"), NOW, customer=customer)
            assert told.reason and told.quote == ("" if customer else "words")


@pytest.mark.parametrize(
    ("alert", "said"),
    [
        (fact(AlertKind.LATE), "Aucune sauvegarde complète depuis 2 j 2 h"),
        (fact(AlertKind.SUSPICIOUS, percent=82), "82 % des fichiers"),
        (fact(AlertKind.EXPIRED, days=1), "échu depuis hier"),
        (fact(AlertKind.EXPIRED, days=12), "depuis 12 jours"),
        (fact(AlertKind.EXPIRING, days=0), "se termine aujourd’hui"),
        (fact(AlertKind.EXPIRING, days=1), "demain"),
        (fact(AlertKind.OVER_QUOTA, used_bytes=394_600_000_000, allocated_bytes=50 * 10**9, percent=789), "789 %"),
        (fact(AlertKind.OVER_QUOTA, used_bytes=10**9), "rien n’est alloué"),
        (fact(AlertKind.WARNINGS, warnings=1), "un fichier n’a pas pu"),
        (fact(AlertKind.WARNINGS, warnings=1200), "1 200 fichiers"),
        (fact(AlertKind.FAILED), "restée incomplète"),
        (fact(AlertKind.FAILED, text="E: gone"), "a échoué le"),
    ],
)
def test_a_reason_names_its_figures(web: WebHouse, alert: Alert, said: str) -> None:
    with web.app.test_request_context("/", headers={"Accept-Language": "fr"}):
        reason = alert_texts.tell(alert, NOW, customer=False).reason
    assert said in reason.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_the_page_lists_what_is_wrong_with_its_machine_message_and_links(web: WebHouse) -> None:
    backup(web, NOW - 5 * HOUR)
    machine_logs.add(
        web.house.db, web.house.machine.id, level="error", module="x", text="<i>E: is gone", now=NOW - HOUR
    )
    browser = web.browser("admin")
    page = browser.get("/alerts").get_data(as_text=True)
    for piece in (
        f'href="/machines/{web.house.machine.hex}"',
        f'href="/logs?machine={web.house.machine.hex}"',
        f'href="/contracts/{web.house.ours.id}"',
        "&lt;i&gt;E: is gone",
    ):
        assert piece in page, piece
    text = text_of(browser)
    assert "Sauvegarde en échec PC-1 · ours" in text and "L’agent réessaiera" in text
    assert text.index("À traiter maintenant") < text.index("Jamais sauvegardée PC-1 · next")
    assert "away" not in text


def test_contracts_over_their_volume_and_near_their_end_are_listed(web: WebHouse) -> None:
    backup(web, NOW - HOUR, size=60 * 10**9)
    today = datetime.fromtimestamp(NOW, UTC).date()
    contracts.edit(web.house.db, web.house.ours, Changes(end_date=today + timedelta(days=5)))
    old = Changes(start_date=date(2026, 1, 1), end_date=date(2026, 12, 31))
    contracts.edit(web.house.db, web.house.neighbour, old)
    text = text_of(web.browser("admin"))
    assert "60 Go utilisés sur 50 Go alloués, soit 120 %" in text
    assert "Le contrat se termine dans 5 jours." in text and "À prévoir" in text
    assert "Contrat échu" in text


def test_filters_narrow_and_keep_what_was_typed(web: WebHouse) -> None:
    backup(web, NOW - 3 * 24 * HOUR)
    browser = web.browser("admin")
    assert "PC-1 · next" not in text_of(browser, "/alerts?kind=late")
    assert "PC-1 · ours" not in text_of(browser, "/alerts?severity=warning")
    page = browser.get("/alerts?text=NEXT").get_data(as_text=True)
    assert 'value="NEXT"' in page and "PC-1" in page and "En retard" not in page
    assert "Aucune alerte ne correspond" in text_of(browser, "/alerts?text=nobody")
    assert "PC-1 · next" in text_of(browser, "/alerts?kind=purple&severity=blue&page=x")


def test_taking_an_alert_in_charge_is_kept_shown_and_audited(web: WebHouse) -> None:
    backup(web, NOW - 3 * 24 * HOUR)
    browser = web.browser("admin")
    assert ">2<span" in browser.get("/alerts").get_data(as_text=True)
    form = {"kind": "late", "key": web.house.machine.hex, "next": "/alerts?kind=late"}
    answer = browser.post("/alerts/acknowledge", form)
    assert answer.status_code == 303 and answer.headers["Location"] == "/alerts?kind=late"
    text = text_of(browser)
    assert "PC-1 : prise en charge par admin@example.org." in text
    assert "Prise en charge par admin@example.org il y a" in text
    assert ">1<span" in browser.get("/alerts").get_data(as_text=True)
    [act] = [act for act in audit.search(web.house.db, EVERYTHING).acts if act.kind == "alert.acknowledge"]
    assert (act.object_kind, act.object_name, act.contract_id) == ("late", "PC-1", web.house.ours.id)
    [row] = alert_table.living(web.house.db, EVERYTHING)
    assert row.acknowledged_by == "admin@example.org"
    # Once more changes nothing and writes no second line.
    browser.post("/alerts/acknowledge", form)
    assert len([act for act in audit.search(web.house.db, EVERYTHING).acts if act.kind == "alert.acknowledge"]) == 1
    # The nightly look finds the row that the page has written.
    found = machine_alerts.every(web.house.db, EVERYTHING, web.clock.at)
    assert alert_table.sync(web.house.db, found, web.clock.at).opened == 2


def test_an_alert_that_is_over_or_anothers_is_not_taken(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get("/alerts")
    for form in (
        {"kind": "late", "key": web.house.machine.hex},
        {"kind": "never", "key": web.house.elsewhere_machine.hex},
    ):
        assert browser.post("/alerts/acknowledge", form).status_code == 303
        assert "s’est résolue entre-temps" in text_of(browser)
    assert browser.post("/alerts/acknowledge", {"kind": "purple"}).status_code == 400
    assert alert_table.living(web.house.db, EVERYTHING) == []


def test_support_and_customers_read_and_take_nothing(web: WebHouse) -> None:
    form = {"kind": "never", "key": web.house.machine.hex}
    for who in ("support", "customer"):
        browser = web.browser(who)
        assert "/alerts/acknowledge" not in browser.get("/alerts").get_data(as_text=True)
        assert browser.post("/alerts/acknowledge", form).status_code == 403
        text = text_of(browser)
        assert ("PC-1 · next" in text) is (who == "support")
    assert "Ouvrez l’agent sur la machine" in text


def test_a_suspicious_change_stays_until_somebody_answers_for_it(web: WebHouse) -> None:
    db = web.house.db
    with db.write():
        suspicious(web, NOW - 2 * HOUR)
    alert_table.sync(db, machine_alerts.every(db, EVERYTHING, NOW), NOW)
    backup(web, NOW - HOUR, number=2)
    with db.write():
        db._run("INSERT INTO snapshot_change VALUES (?, 2, 1000, 3)", [web.house.machine.id])
    browser = web.browser("admin")
    assert "82 % des fichiers" in text_of(browser) and "rançongiciel" in text_of(browser)
    assert "si vous n’avez rien changé" in text_of(web.browser("customer")).lower()
    assert alert_table.pruning_is_frozen(db, web.house.machine.id)
    browser.get("/alerts")
    browser.post("/alerts/acknowledge", {"kind": "suspicious", "key": f"{web.house.machine.hex}:1"})
    assert "82 %" not in text_of(browser)
    assert not alert_table.pruning_is_frozen(db, web.house.machine.id)


def test_alarms_of_the_appliance_are_the_super_users(web: WebHouse) -> None:
    alarms.sound(web.house.db, alarms.DISK, "4 % are left", now=NOW)
    text = text_of(web.browser("super"))
    assert "L’appliance elle-même" in text and "4 % are left" in text and "Ajoutez de la place" in text
    assert "L’appliance elle-même" not in text_of(web.browser("admin"))


def test_the_history_tells_what_there_was(web: WebHouse) -> None:
    db = web.house.db
    browser = web.browser("admin")
    assert "Aucune alerte jusqu’ici" in text_of(browser, "/alerts/history")
    alert_table.sync(db, machine_alerts.every(db, EVERYTHING, NOW), NOW)
    backup(web, NOW)
    alert_table.sync(db, machine_alerts.every(db, EVERYTHING, NOW + 60), NOW + 60)
    text = text_of(browser, "/alerts/history")
    assert text.count("Résolue") == 2 and text.count("Ouverte") >= 2 and "away" not in text
    assert len(alert_table.history(db, OneContract(web.house.ours.id))) == 1


def test_nothing_wrong_says_so(web: WebHouse) -> None:
    backup(web, NOW - HOUR)
    browser = web.browser("customer")
    assert "Vos machines sont sauvegardées comme prévu." in text_of(browser)
    part = browser.get("/alerts", headers=FRAGMENT).get_data(as_text=True)
    assert "<html" not in part and "data-refreshed" in part
