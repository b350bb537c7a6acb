"""A machine's key: how it is kept, the commands that change it, nothing that changes it from here."""

from __future__ import annotations

from appliance.control import machine_keys
from tests.webui.web_house import WebHouse
from transport.escrow import EscrowKey, wrap_confided, wrap_private
from transport.names import RepositoryId, VaultId


def test_the_page_says_how_the_key_is_kept(web: WebHouse) -> None:
    machine = web.house.machine
    place = RepositoryId(machine.id), VaultId(machine.vault)
    browser = web.browser("customer")
    page = browser.get(f"/machines/{machine.hex}/key").get_data(as_text=True)
    assert "aucune copie" in page and "key rotate" in page
    machine_keys.put(web.house.db, machine.id, wrap_confided(EscrowKey.generate().public, bytes(32), *place), 1.0)
    assert "confiée à l’appliance" in browser.get(f"/machines/{machine.hex}/key").get_data(as_text=True)
    envelope = wrap_private("quatre mots et un cheval", bytes(32), *place, memory_kib=64, passes=1, lanes=1)
    machine_keys.put(web.house.db, machine.id, envelope, 2.0)
    page = browser.get(f"/machines/{machine.hex}/key").get_data(as_text=True)
    assert "privée" in page and "key rotate --passphrase-file" in page


def test_nothing_here_takes_a_post(web: WebHouse) -> None:
    browser = web.browser("admin")
    assert browser.post(f"/machines/{web.house.machine.hex}/key").status_code in (404, 405)
