"""One machine's page, how to restore from it, and the acts on it: what each role sees, codes, refusals, the log."""

from __future__ import annotations

import re

import pytest

from appliance.control import (
    acts,
    audit,
    backup_requests,
    contracts,
    deletions,
    machine_keys,
    machine_logs,
    machine_settings,
    machines,
    site_copies,
)
from appliance.control import statistics as figures_of
from appliance.control.audit import Act
from appliance.control.backup_requests import RequestState
from appliance.control.contracts import Changes, Escrow
from appliance.control.deletions import Kind
from appliance.control.machine_settings import Outcome, Report
from appliance.control.machines import Machine, MachineState
from appliance.control.scope import EVERYTHING, OneSpace
from tests.support.control_house import NOW, enrol, figures
from tests.webui.web_house import Browser, WebHouse
from transport.escrow import EscrowKey, wrap_confided
from transport.messages_onsite import CopiesReport, CopyTold
from transport.schedule import Schedule


def ours(web: WebHouse) -> Machine:
    """The machine as it is now."""
    return machines.get(web.house.db, web.house.machine.id)


def path(web: WebHouse, act: str = "") -> str:
    """An address of the machine."""
    return f"/machines/{web.house.machine.hex}" + (f"/{act}" if act else "")


def text(browser: Browser, address: str) -> str:
    """A page that must be there, its spaces as one reads them."""
    answer = browser.get(address)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return re.sub(r"[ \n]+", " ", answer.get_data(as_text=True))


def lines(web: WebHouse, kind: str) -> list[Act]:
    """What the log says."""
    return audit.search(web.house.db, EVERYTHING, kind=kind).acts


def report(**changes: object) -> Report:
    """What an agent says of itself."""
    facts: dict[str, object] = {
        "at": NOW,
        "version": 0,
        "outcome": Outcome.NONE,
        "reason": "",
        "remote_allowed": True,
        "schedule": Schedule.of(["12:30", "19:00"]),
        "schedule_version": 0,
        "language": "",
        "selection": "00" * 32,
        "selection_version": 0,
        "includes": 2,
        "excludes": 1,
        "next_run_at": NOW + 3600,
        **changes,
    }
    return Report(**facts)  # type: ignore[arg-type]


def test_the_page_says_what_there_is(web: WebHouse) -> None:
    db = web.house.db
    figures_of.record(db, ours(web).id, 1, complete=True, figures=figures(1_900_000_000), now=NOW)
    machine_logs.add(db, ours(web).id, level="info", module="backup", text="Backup ok", now=NOW)
    machine_settings.note(db, ours(web).id, report(), shrunk=False)
    page = text(web.browser("admin"), path(web))
    for words in (
        *("PC-1", "1,9\xa0Go", "À jour", "12:30, 19:00, tous les jours", "2 chemins inclus, 1 exclusion", "complète"),
        *("autorisé par le client", "Backup ok", "Sauvegarder maintenant", "Changer contrat", ours(web).hex),
    ):
        assert words in page, words


def test_a_takeover_is_shown_to_whoever_reads_the_page(web: WebHouse) -> None:
    assert "nouveau matériel" not in text(web.browser("customer"), path(web))
    actor = audit.Actor("", "customer@example.org", "customer", "192.0.2.1")
    with web.house.db.write():
        acts.note(web.house.db, actor, "machine.recover", ours(web), now=NOW)
    for person in ("customer", "admin", "support"):
        assert "sur un nouveau matériel le" in text(web.browser(person), path(web))


def test_support_and_customers_read_only(web: WebHouse) -> None:
    for who in ("support", "customer"):
        page = text(web.browser(who), path(web))
        assert "PC-1" in page and "Restaurer" in page
        for word in ("Sauvegarder maintenant", "Modifier les réglages", "Révoquer", "Supprimer"):
            assert word not in page, (who, word)


def test_only_a_whole_id_in_scope_names_a_machine(web: WebHouse) -> None:
    browser = web.browser("admin")
    for wrong in (
        *(web.house.elsewhere_machine.hex, ours(web).hex[:12], "PC-1"),
        *(ours(web).hex.upper(), "f" * 32, "%2e%2e"),
    ):
        assert browser.get(f"/machines/{wrong}").status_code == 404
    assert web.browser("customer").get(f"/machines/{web.house.neighbour_machine.hex}").status_code == 404


def test_what_a_machine_says_is_never_markup(web: WebHouse) -> None:
    machines.rename(web.house.db, ours(web), "<img src=x onerror=alert(1)>")
    machine_logs.add(web.house.db, ours(web).id, level="error", module="x", text="<script>alert(2)</script>", now=NOW)
    page = text(web.browser("admin"), path(web))
    assert "<img src=x" not in page and "<script>alert" not in page
    assert "La dernière sauvegarde a échoué" in page


def test_restoring_is_explained_with_the_readers_account(web: WebHouse) -> None:
    figures_of.record(web.house.db, ours(web).id, 7, complete=True, figures=figures(), now=NOW)
    page = text(web.browser("customer"), path(web, "restore"))
    assert "pilulier-agent restore --snapshot 7 --target /tmp/restauration --account customer@example.org" in page
    assert "key rotate" not in page


def test_without_a_backup_there_is_nothing_to_restore(web: WebHouse) -> None:
    page = text(web.browser("customer"), path(web, "restore"))
    assert "aucune sauvegarde" in page and "pilulier-agent restore" not in page


def test_a_new_name_is_free_and_on_one_line(web: WebHouse) -> None:
    enrol(web.house.db, web.house.ours, 9, "SERVEUR")
    browser = web.browser("admin")
    assert 'value="PC-1"' in text(browser, path(web, "rename"))
    taken = browser.post(path(web, "rename"), {"name": "serveur"})
    assert "porte ce nom" in taken.get_data(as_text=True) and 'value="serveur"' in taken.get_data(as_text=True)
    assert "Un nom sur une ligne" in browser.post(path(web, "rename"), {"name": "x" * 101}).get_data(as_text=True)
    assert "À remplir." in browser.post(path(web, "rename"), {"name": ""}).get_data(as_text=True)
    assert browser.post(path(web, "rename"), {"name": "Comptoir"}).status_code == 303
    assert ours(web).name == "Comptoir"
    (line,) = lines(web, "machine.rename")
    assert "PC-1" in (line.before or "") and "Comptoir" in (line.after or "")


def test_a_language_is_one_of_ours_or_none(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get(path(web, "language"))
    browser.post(path(web, "language"), {"language": "de"})
    assert ours(web).language == "de" and len(lines(web, "machine.language")) == 1
    assert browser.post(path(web, "language"), {"language": "xx"}).status_code == 200
    browser.post(path(web, "language"), {"language": ""})
    assert ours(web).language is None


def test_a_move_needs_a_code_and_leaves_a_line_on_both_sides(web: WebHouse) -> None:
    browser, target = web.browser("admin"), web.house.neighbour
    page = text(browser, path(web, "move"))
    assert "next – next@example.org" in page and "away@example.org" not in page
    answer = browser.post(path(web, "move"), {"contract": target.id, "code": "123456"})
    assert "Ce code n’est pas le bon" in answer.get_data(as_text=True)
    assert f'selected value="{target.id}"' in answer.get_data(as_text=True)
    assert browser.post(path(web, "move"), {"contract": target.id, "code": browser.code()}).status_code == 303
    assert ours(web).contract_id == target.id
    # The new contract has a PC-1 of its own.
    assert ours(web).name == "PC-1-2"
    assert {line.contract_id for line in lines(web, "machine.move")} == {web.house.ours.id, target.id}


@pytest.mark.parametrize(
    ("quota", "paused", "sentence"),
    [(0, False, "augmentez d’abord son quota"), (5, True, "en pause et n’accepte pas de machine")],
)
def test_a_move_that_does_not_fit_is_said(web: WebHouse, quota: int, paused: bool, sentence: str) -> None:
    db, target = web.house.db, web.house.neighbour
    contracts.edit(db, target, Changes(machine_quota=quota))
    if paused:
        contracts.pause(db, target)
    browser = web.browser("admin")
    browser.get(path(web, "move"))
    answer = browser.post(path(web, "move"), {"contract": target.id, "code": browser.code()})
    assert sentence in answer.get_data(as_text=True)
    assert ours(web).contract_id == web.house.ours.id and not lines(web, "machine.move")


def test_a_confided_key_does_not_move_among_private_ones(web: WebHouse) -> None:
    db, machine = web.house.db, ours(web)
    private = contracts.add(
        db, space_id=web.house.ours.space_id, client_id="p", email="p@x.fr", now=NOW, escrow=Escrow.PRIVATE
    )
    pair = EscrowKey.generate()
    machine_keys.put(db, machine.id, wrap_confided(pair.public, bytes(32), machine.id, machine.vault), NOW)
    browser = web.browser("admin")
    assert "confiée" in text(browser, path(web)) and "confiée" in text(browser, f"/contracts/{machine.contract_id}")
    browser.get(path(web, "move"))
    answer = browser.post(path(web, "move"), {"contract": private.id, "code": browser.code()})
    assert "ce contrat veut des clés privées" in answer.get_data(as_text=True)
    assert ours(web).contract_id == web.house.ours.id


def test_a_machine_is_not_moved_where_the_reader_sees_nothing(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get(path(web, "move"))
    answer = browser.post(path(web, "move"), {"contract": web.house.elsewhere.id, "code": browser.code()})
    assert "Choisissez un contrat de la liste." in answer.get_data(as_text=True)
    assert ours(web).contract_id == web.house.ours.id


def test_a_revocation_needs_a_code_and_is_for_ever(web: WebHouse) -> None:
    browser = web.browser("admin")
    assert "ne s’annule pas" in text(browser, path(web, "revoke"))
    assert browser.post(path(web, "revoke"), {"code": ""}).status_code == 200
    assert ours(web).state is MachineState.ACTIVE
    browser.post(path(web, "revoke"), {"code": browser.code()})
    assert ours(web).state is MachineState.REVOKED and len(lines(web, "machine.revoke")) == 1
    assert browser.get(path(web, "revoke")).status_code == 303
    assert "révoquée" in text(browser, path(web))


def test_a_deletion_waits_and_is_taken_back(web: WebHouse) -> None:
    browser = web.browser("admin")
    assert "sept jours" in text(browser, path(web, "delete"))
    assert browser.post(path(web, "delete"), {"code": "1"}).status_code == 200
    browser.post(path(web, "delete"), {"code": browser.code()})
    waiting = deletions.of_object(web.house.db, EVERYTHING, Kind.MACHINE, ours(web).hex)
    assert waiting is not None and len(lines(web, "machine.delete")) == 1
    page = text(browser, path(web))
    assert "La machine PC-1 sera supprimée" in page and "Changer contrat" not in page
    page = text(browser, f"/contracts/{ours(web).contract_id}")
    assert "La machine PC-1 sera supprimée" in page and "Annuler la suppression" in page
    page = text(web.browser("customer"), f"/contracts/{ours(web).contract_id}")
    assert "La machine PC-1 sera supprimée" in page and "Annuler la suppression" not in page
    assert browser.get(path(web, "move")).status_code == 303
    assert "Annuler la suppression" in text(browser, path(web, "delete"))
    browser.post(f"/deletions/{waiting.id}/cancel")
    assert not deletions.pending(web.house.db, EVERYTHING)
    assert ours(web).state is MachineState.ACTIVE
    assert lines(web, "deletion.cancel")[0].object_id == ours(web).hex


def test_a_backup_is_asked_for_once(web: WebHouse) -> None:
    browser = web.browser("admin")
    browser.get(path(web))
    browser.post(path(web, "backup"))
    browser.post(path(web, "backup"))
    found = backup_requests.get(web.house.db, EVERYTHING, ours(web).id, web.clock.at)
    assert found is not None and found.state is RequestState.WAITING and found.requested_by == "admin@example.org"
    assert "demandée, en attente de la machine" in text(browser, path(web))
    assert len(lines(web, "machine.backup")) == 1


def test_a_backup_that_cannot_be_asked_for_is_said(web: WebHouse) -> None:
    db, browser = web.house.db, web.browser("admin")
    browser.get(path(web))

    def said() -> str:
        return text(browser, browser.post(path(web, "backup")).headers["Location"])

    machine_settings.note(db, ours(web).id, report(remote_allowed=False), shrunk=False)
    assert "Le client refuse les ordres à distance" in said()
    machine_settings.note(db, ours(web).id, report(), shrunk=False)
    contracts.pause(db, web.house.ours)
    assert "Le contrat est en pause" in said()
    contracts.resume(db, web.house.ours)
    backup_requests.ask(db, EVERYTHING, ours(web).id, "x", web.clock.at)
    backup_requests.answer(db, ours(web).id, 1, taken=True, reason="", now=web.clock.at)
    assert "réessayez dans cinq minutes" in said()
    machines.revoke(db, ours(web))
    assert "Cette machine est révoquée" in said()
    assert not lines(web, "machine.backup")


def test_a_smaller_selection_is_accepted_by_a_manager(web: WebHouse) -> None:
    machine_settings.note(web.house.db, ours(web).id, report(), shrunk=True)
    assert "C’est voulu" not in text(web.browser("customer"), path(web))
    browser = web.browser("admin")
    assert "a été réduit" in text(browser, path(web))
    browser.post(path(web, "accept-selection"))
    assert "a été réduit" not in text(browser, path(web))
    assert len(lines(web, "machine.accept-selection")) == 1


@pytest.mark.parametrize("act", ["rename", "language", "move", "revoke", "delete", "backup", "settings"])
def test_acts_are_for_managers_of_the_space(web: WebHouse, act: str) -> None:
    for who in ("support", "customer"):
        browser = web.browser(who)
        assert browser.post(path(web, act)).status_code == 403
    browser = web.browser("admin")
    assert browser.post(f"/machines/{web.house.elsewhere_machine.hex}/{act}").status_code == 404
    scope = OneSpace(web.house.elsewhere.space_id)
    assert machines.find(web.house.db, scope, web.house.elsewhere_machine.hex) == web.house.elsewhere_machine


def test_copies_on_site_are_shown_as_the_machine_tells_them(web: WebHouse) -> None:
    assert "Copies sur site" not in text(web.browser("admin"), path(web))
    told = [
        CopyTold(b"a" * 16, "NAS <b>bureau</b>", 0, "written", int(NOW * 1000), 2_000_000_000),
        CopyTold(b"b" * 16, "disque", 1, "failed", 0, -1),
    ]
    site_copies.keep(web.house.db, web.house.machine.id, CopiesReport(told, 7), NOW)
    page = text(web.browser("admin"), path(web))
    assert "Copies sur site" in page and "NAS &lt;b&gt;bureau&lt;/b&gt;" in page and "<b>bureau" not in page
    assert "à jour" in page and "en échec" in page and "jamais" in page
    assert re.search(r"2(,0+)?\sGo", page)
