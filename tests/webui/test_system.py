"""The box in the web: what runs, jobs that are asked for, repositories by size, mails without secrets, checks."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from appliance import doctor, escrow, escrow_protection, job_kinds
from appliance.control import alarms, audit, disk_readings, job_table, outbox
from appliance.control.audit import Act
from appliance.control.disk_readings import DiskReading
from appliance.control.job_table import Outcome
from appliance.control.scope import EVERYTHING
from appliance.mail.wording import SHAPES
from appliance.store.repository import Repository
from tests.support.control_house import NOW
from tests.webui.web_house import WebHouse
from webui import mail_words, system

DAY = 86400.0


def text(answer: TestResponse) -> str:
    return re.sub(r"[ \n]+", " ", answer.get_data(as_text=True))


def acts(web: WebHouse, kind: str) -> list[Act]:
    return [act for act in audit.export(web.house.db, EVERYTHING) if act.kind == kind]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_remembered", {})


PAGES = ("/system", "/system/repositories", "/system/mails", "/system/doctor")


@pytest.mark.parametrize("who", ["admin", "support", "customer"])
def test_nobody_else_sees_the_box(web: WebHouse, who: str) -> None:
    browser = web.browser(who)
    for path in (*PAGES, f"/system/repositories/{web.house.machine.id.hex()}"):
        assert browser.get(path).status_code == 403
    for path in ("/system/jobs/alerts/start", "/system/mails/1/retry", "/system/doctor"):
        assert browser.post(path).status_code == 403


def test_the_overview_tells_disks_services_jobs_clock_and_versions(web: WebHouse) -> None:
    page = text(web.browser("super").get("/system"))
    for part in ("Disques", "Dépôts et base de données", "prévision après trois jours de mesures", "Réception des",
                 "Arrêté", "En marche", "Heure cohérente", "Recherche des alertes", "toutes les 5 minutes",
                 "chaque jour à 03:00", "SQLite", "matplotlib"):  # fmt: skip
        assert part in page, part
    for name in job_kinds.KINDS:
        assert f"/system/jobs/{name}/start" in page


def test_every_job_outcome_and_mail_has_its_words() -> None:
    assert set(system.JOBS) == set(job_kinds.KINDS)
    assert set(system.OUTCOMES) == set(Outcome)
    assert set(mail_words.KINDS) == set(SHAPES)
    made = set(re.findall(r'Check\(\s*"([^"]+)"', inspect.getsource(doctor)))
    assert made and made == set(system.CHECKS)


def test_a_disk_that_fills_up_says_when(web: WebHouse) -> None:
    db = web.house.db
    for day in range(10):
        disk_readings.note(db, DiskReading(NOW - (10 - day) * DAY, (100 - day) * 10**9, 10**12))
    assert "plein vers le" in text(web.browser("super").get("/system"))
    with db.write():
        db.execute("UPDATE disk_reading SET free_bytes = 5")
    assert "aucune saturation en vue" in text(web.browser("super").get("/system"))


def test_a_clock_that_cannot_be_believed_is_said(web: WebHouse) -> None:
    alarms.sound(web.house.db, alarms.CLOCK, "the clock <jumped>", now=NOW)
    page = text(web.browser("super").get("/system"))
    assert "Heure suspecte" in page and "the clock &lt;jumped&gt;" in page


def test_a_job_is_asked_for_once_and_written_down(web: WebHouse) -> None:
    browser = web.browser("super")
    browser.get("/system")
    answer = browser.post("/system/jobs/alerts/start")
    assert answer.status_code == 303 and answer.headers["Location"] == "/system#jobs"
    job = job_table.find(web.house.db, "alerts")
    assert job.asked_by == "super@example.org" and job.asked_at is not None
    [act] = acts(web, "job.start")
    assert (act.object_kind, act.object_id, act.email) == ("job", "alerts", "super@example.org")
    page = text(browser.get("/system"))
    assert "« Recherche des alertes » est demandée" in page and "Demandée" in page
    assert browser.post("/system/jobs/nonsense/start").status_code == 404
    assert len(acts(web, "job.start")) == 1


def test_how_a_job_ended_is_shown(web: WebHouse) -> None:
    db = web.house.db
    job_table.know(db, "prune", NOW)
    claim = job_table.claim(db, "prune", by="command line", now=NOW)
    assert "En cours" in text(web.browser("super").get("/system"))
    job_table.finish(db, claim, Outcome.FAILED, "the <disk> is full", next_at=NOW + 60, now=NOW + 5)
    page = text(web.browser("super").get("/system"))
    assert "Échec" in page and "the &lt;disk&gt; is full" in page and "la ligne de commande" in page


def files(web: WebHouse, machine: bytes, size: int) -> Path:
    packs = web.home.repository(machine) / "packs"
    packs.mkdir(parents=True)
    (packs / "00000001.pack").write_bytes(bytes(size))
    return packs


def test_repositories_are_listed_by_size_and_remembered(web: WebHouse) -> None:
    browser = web.browser("super")
    assert "Aucun dépôt sur le disque" in text(browser.get("/system/repositories"))
    files(web, web.house.machine.id, 2000)
    # Remembered for a while: many pages would otherwise read many folders.
    assert "Aucun dépôt sur le disque" in text(browser.get("/system/repositories"))
    page = text(browser.get("/system/repositories?fresh=1"))
    assert "2\u00a0ko" in page and "PC-1" in page
    packs = files(web, web.house.elsewhere_machine.id, 5000)
    web.clock.tick(system.STORED_S)
    page = text(browser.get("/system/repositories"))
    assert page.index(web.house.elsewhere_machine.id.hex()) < page.index(web.house.machine.id.hex())
    packs.joinpath("00000001.pack").unlink()
    assert "5\u00a0ko" in text(browser.get("/system/repositories"))


def test_one_repository_is_opened_when_asked(web: WebHouse) -> None:
    machine = web.house.machine
    browser = web.browser("super")
    path = f"/system/repositories/{machine.id.hex()}"
    assert browser.get(path).status_code == 404, "no repository before the first backup"
    Repository.create(
        web.home.repository(machine.id), repository=machine.id, vault=machine.vault, public_key=machine.signing_key
    ).close()
    page = text(browser.get(path))
    assert "sauvegardes conservées" in page and f"pilulier repo check {machine.id.hex()} --read-data" in page
    for name in web.home.repository(machine.id).iterdir():
        if name.name == "catalog.sqlite":
            name.write_bytes(b"garbage")
    assert "Ce dépôt ne s’ouvre pas." in text(browser.get(path))
    assert browser.get("/system/repositories/abc").status_code == 404


def test_mails_are_listed_without_what_only_they_may_say(web: WebHouse) -> None:
    db = web.house.db
    secret = "token-that-opens-an-account"
    mail_id = outbox.add(db, recipient="new@example.org", kind="invitation", language="fr", secret=secret, fields={},
                         now=NOW)  # fmt: skip
    browser = web.browser("super")
    page = text(browser.get("/system/mails"))
    assert "new@example.org" in page and "Invitation" in page and secret not in page
    assert "Aucun serveur d’envoi n’est réglé" in page and "Réessayer" not in page
    with db.write():
        db.execute("UPDATE outbox SET attempts = 2, last_error = 'refused <b>', next_at = ?", [NOW + 9999])
    page = text(browser.get("/system/mails"))
    assert "2 essais" in page and "refused &lt;b&gt;" in page
    assert browser.post(f"/system/mails/{mail_id}/retry").status_code == 303
    assert db.value("SELECT next_at FROM outbox") == 0
    [act] = acts(web, "mail.retry")
    assert act.object_id == str(mail_id)
    outbox.mark_sent(db, mail_id, NOW)
    assert browser.post(f"/system/mails/{mail_id}/retry").status_code == 404
    assert browser.post(f"/system/mails/{2**70}/retry").status_code == 404
    assert len(acts(web, "mail.retry")) == 1


def test_checks_run_when_asked_and_what_is_wrong_comes_first(web: WebHouse) -> None:
    browser = web.browser("super")
    assert "Résultats" not in text(browser.get("/system/doctor"))
    alarms.sound(web.house.db, alarms.CLOCK, "wrong", now=NOW)
    answer = browser.post("/system/doctor")
    page = text(answer)
    assert answer.status_code == 200
    assert "Base de données" in page and "Horloge" in page
    assert page.index("À voir") < page.index(">Bon<") if ">Bon<" in page else "À voir" in page


def test_the_overview_says_how_the_escrow_key_is_kept(web: WebHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for cost, value in (("MEMORY_KIB", 64), ("PASSES", 1), ("LANES", 1)):
        monkeypatch.setattr(f"transport.escrow.{cost}", value)
    browser = web.browser("super")
    assert "Clé de séquestre" not in text(browser.get("/system"))
    escrow.ensure(web.home)
    assert "Sans phrase secrète" in text(browser.get("/system"))
    escrow_protection.protect(web.home, "cinq mots pour la clé")
    page = text(browser.get("/system"))
    assert "Verrouillée" in page and "pilulier escrow unlock" in page
    browser.get("/system/doctor")
    assert "Clé de séquestre" in text(browser.post("/system/doctor"))
    (web.home.keys / "escrow.json").write_text("{")
    assert browser.get("/system").status_code == 200
