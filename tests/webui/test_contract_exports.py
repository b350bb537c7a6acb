"""Exports of contracts in the web: asked for behind a code, made by the job, fetched in parts, gone after days."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from appliance import erasing, export_job
from appliance.control import audit, clock, contract_exports, deletions, outbox
from appliance.control.audit import Act
from appliance.control.clock import Reading
from appliance.control.contract_exports import KEPT_S, ContractExport, ExportState
from appliance.control.deletions import WAIT_S, Kind
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext, JobStoppedError, Stopping
from tests.support.control_house import NOW
from tests.support.dated_history import write_history
from tests.webui.web_house import Browser, WebHouse


def path(web: WebHouse) -> str:
    """The page of `ours`."""
    return f"/contracts/{web.house.ours.id}/export"


def work(web: WebHouse, now: float = NOW + 100) -> str:
    """Run the job; what it says it did."""
    context = JobContext(web.home, web.house.db, lambda: now, Stopping())
    assert export_job.is_due(context)
    return export_job.make_exports(context).text


def exports(web: WebHouse) -> list[ContractExport]:
    """Those of `ours`."""
    return contract_exports.of_contract(web.house.db, EVERYTHING, web.house.ours.id)


def acts(web: WebHouse, kind: str) -> list[Act]:
    """Their lines in the log."""
    return audit.search(web.house.db, EVERYTHING, kind=kind).acts


def ask(browser: Browser, web: WebHouse) -> None:
    """Type a code."""
    browser.get(path(web))
    assert browser.post(path(web), {"code": browser.code()}).status_code == 303


@pytest.fixture
def asked(web: WebHouse) -> Browser:
    """An admin who asked for an export of a contract with one repository."""
    write_history(web.home.repository(web.house.machine.id), [int(NOW * 1000)])
    browser = web.browser("admin")
    ask(browser, web)
    return browser


def test_an_export_is_asked_for_made_told_and_fetched(web: WebHouse, asked: Browser, tmp_path: Path) -> None:
    (one,) = exports(web)
    assert one.state is ExportState.WAITING and one.requested_by == "admin@example.org"
    assert "En préparation" in asked.get(path(web)).get_data(as_text=True)
    assert asked.get(f"{path(web)}/{one.id}").status_code == 404, "it is not there yet"
    assert work(web) == "1 exports made, 0 failed, 0 removed"
    (one,) = exports(web)
    assert one.state is ExportState.DONE and one.size_bytes > 0
    page = asked.get(path(web)).get_data(as_text=True)
    assert "Prêt" in page and "Télécharger" in page
    fetched = asked.get(f"{path(web)}/{one.id}")
    assert fetched.status_code == 200 and fetched.mimetype == "application/x-tar"
    assert "attachment; filename=export-" in fetched.headers["Content-Disposition"]
    whole = fetched.get_data()
    part = asked.get(f"{path(web)}/{one.id}", headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.get_data() == whole[100:200]
    (tmp_path / "e.tar").write_bytes(whole)
    with tarfile.open(tmp_path / "e.tar") as archive:
        names = archive.getnames()
    assert any(name.endswith("MANIFEST.sig") for name in names) and not any("wrapped-keys" in name for name in names)
    assert [len(acts(web, kind)) for kind in ("contract.export", "contract.export-fetch")] == [1, 2], "a part too"
    told = {(mail.kind, mail.recipient) for mail in outbox.pending(web.house.db)}
    for kind in (outbox.EXPORT_REQUESTED, outbox.EXPORT_DONE):
        assert {who for of, who in told if of == kind} == {
            "admin@example.org", "customer@example.org", web.house.ours.email
        }  # fmt: skip


def test_a_new_one_takes_the_place_of_the_former_and_a_killed_run_leaves_nothing(web: WebHouse, asked: Browser) -> None:
    work(web)
    (first,) = exports(web)
    left = web.home.exports / ".pilulier-catalog-x"
    left.mkdir()
    (left / "catalog.db").write_bytes(b"half a copy")
    ask(asked, web)
    assert "1 exports made" in work(web)
    assert not left.exists()
    states = {one.id: one.state for one in exports(web)}
    assert len(states) == 2 and states[first.id] is ExportState.GONE
    assert len(list(web.home.exports.iterdir())) == 1


def test_it_goes_after_its_days(web: WebHouse, asked: Browser) -> None:
    work(web)
    (one,) = exports(web)
    file = export_job.file_of(web.home, one.id)
    assert file.exists() and file.stat().st_mode & 0o777 == 0o600
    assert work(web, NOW + 200 + KEPT_S) == "0 exports made, 0 failed, 1 removed"
    assert not file.exists() and exports(web)[0].state is ExportState.GONE
    assert asked.get(f"{path(web)}/{one.id}").status_code == 404
    assert "Effacé" in asked.get(path(web)).get_data(as_text=True)


def test_one_at_a_time_and_a_failure_is_shown(web: WebHouse, asked: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.get(path(web))
    assert asked.post(path(web), {"code": asked.code()}).status_code == 200
    assert len(exports(web)) == 1
    pack = next((web.home.repository(web.house.machine.id) / "packs").iterdir())
    pack.write_bytes(pack.read_bytes()[:50])
    assert work(web) == "0 exports made, 1 failed, 0 removed"
    page = asked.get(path(web)).get_data(as_text=True)
    assert "Échoué" in page and "shorter than its catalog says" in page
    assert list(web.home.exports.iterdir()) == []


def test_a_stopped_job_leaves_it_waiting_and_nothing_on_the_disk(web: WebHouse, asked: Browser) -> None:
    stopping = Stopping()
    context = JobContext(web.home, web.house.db, lambda: NOW, stopping)
    calls = 0

    def soon() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            stopping.set()
        Stopping.check(stopping)

    stopping.check = soon  # type: ignore[method-assign, assignment]
    with pytest.raises(JobStoppedError):
        export_job.make_exports(context)
    assert exports(web)[0].state is ExportState.WAITING and list(web.home.exports.iterdir()) == []
    assert work(web) == "1 exports made, 0 failed, 0 removed"


def test_a_wrong_code_asks_for_nothing(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get(path(web))
    answer = browser.post(path(web), {"code": "000000"})
    assert answer.status_code == 200 and exports(web) == []
    for who in ("support", "customer"):
        assert web.browser(who).get(path(web)).status_code == 403


def test_a_deleted_contract_takes_its_exports_along(web: WebHouse, asked: Browser) -> None:
    work(web)
    db = web.house.db
    deletions.request(db, EVERYTHING, Kind.CONTRACT, web.house.ours.id, by="x", now=NOW)
    clock.accept(db, Reading(NOW, "boot", 1000.0))
    erasing.carry_out_due(web.home, db, Reading(NOW + WAIT_S, "boot", 1000.0 + WAIT_S))
    assert list(web.home.exports.iterdir()) == []
    browser = web.browser("super")
    page = browser.get("/certificates").get_data(as_text=True)
    assert web.house.ours.client_id in page


def test_a_certificate_is_a_page_and_a_signed_file(web: WebHouse) -> None:
    from appliance.control import certificates

    db, browser = web.house.db, web.browser("super")
    assert "Aucune attestation" in browser.get("/certificates").get_data(as_text=True)
    write_history(web.home.repository(web.house.machine.id), [int(NOW * 1000)])
    asked = deletions.request(db, EVERYTHING, Kind.CONTRACT, web.house.ours.id, by="chef@example.org", now=NOW)
    clock.accept(db, Reading(NOW, "boot", 1000.0))
    erasing.carry_out_due(web.home, db, Reading(NOW + WAIT_S, "boot", 1000.0 + WAIT_S))
    page = browser.get(f"/certificates/{asked.id}").get_data(as_text=True)
    identity = web.home.load_identity().public
    for part in (web.house.machine.hex, "chef@example.org", identity.hex(), "aucune ne contient plus", "Dépôt effacé"):
        assert part in page, part
    answer = browser.get(f"/certificates/{asked.id}/file")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="certificate-{asked.id}.json"'
    assert certificates.verified(answer.get_data(), identity).certificate == asked.id
    for language, word in (("en", "Certificate of erasure"), ("de", "Löschnachweis")):
        browser.post("/language", {"language": language})
        assert word in browser.get(f"/certificates/{asked.id}").get_data(as_text=True)
