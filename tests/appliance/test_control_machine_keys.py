"""Wrapped keys in the control database: whose, how, replaced, destroyed, and never more than the contract promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import contracts, machine_keys, machines
from appliance.control.contracts import Escrow
from appliance.control.scope import EVERYTHING, OneContract
from appliance.errors import KeyModeError
from tests.support.control_house import NOW, House, build
from transport.errors import SealError
from transport.escrow import EscrowKey, wrap_confided, wrap_private
from transport.names import RepositoryId, VaultId

PAIR = EscrowKey.generate()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Two spaces, three contracts, a machine each."""
    return build(tmp_path, monkeypatch)


def confided(house: House) -> bytes:
    """An envelope of the first machine for the escrow key."""
    return wrap_confided(PAIR.public, bytes(32), RepositoryId(house.machine.id), VaultId(house.machine.vault))


def private(house: House) -> bytes:
    """One under a passphrase."""
    machine, vault = RepositoryId(house.machine.id), VaultId(house.machine.vault)
    return wrap_private("quatre mots et un cheval", bytes(32), machine, vault, memory_kib=64, passes=1, lanes=1)


def test_the_newest_envelope_counts_and_is_found_in_its_scope(house: House) -> None:
    machine = house.machine.id
    assert machine_keys.put(house.db, machine, confided(house), NOW)
    second = confided(house)
    assert machine_keys.put(house.db, machine, second, NOW + 1)
    assert not machine_keys.put(house.db, machine, second, NOW + 2), "the same again changes nothing"
    found = machine_keys.find(house.db, EVERYTHING, machine)
    assert found is not None and (found.mode, found.envelope, found.received_at) == (Escrow.CONFIDED, second, NOW + 1)
    assert found.escrow_key == PAIR.public.key_id
    assert machine_keys.find(house.db, OneContract(house.neighbour.id), machine) is None
    assert machine_keys.modes(house.db, EVERYTHING, house.ours.id) == {machine: Escrow.CONFIDED}
    assert machine_keys.escrow_keys_in_use(house.db) == {PAIR.public.key_id: 1}
    authorised = machines.authorised(house.db)[house.machine.curve_key]
    assert authorised.key_wrapped_to == PAIR.public.key_id and len(authorised.key_envelope) == 32


def test_a_contract_with_private_keys_takes_no_confided_one(house: House) -> None:
    with house.db.write():
        house.db.update("contract", house.ours.id, {"escrow": "private"})
    with pytest.raises(KeyModeError, match="key protect"):
        machine_keys.put(house.db, house.machine.id, confided(house), NOW)
    assert machine_keys.put(house.db, house.machine.id, private(house), NOW)
    assert machine_keys.modes(house.db, EVERYTHING, house.ours.id) == {house.machine.id: Escrow.PRIVATE}
    assert machine_keys.escrow_keys_in_use(house.db) == {}


def test_what_is_no_envelope_is_refused(house: House) -> None:
    for data in (b"", b"PLW1", b"PLW1\x03" + bytes(40), bytes(5000)):
        with pytest.raises(SealError):
            machine_keys.put(house.db, house.machine.id, data, NOW)
    assert machine_keys.find(house.db, EVERYTHING, house.machine.id) is None


def test_destroyed_keys_leave_no_byte_in_the_file(house: House) -> None:
    envelope = confided(house)
    machine_keys.put(house.db, house.machine.id, envelope, NOW)
    assert envelope[40:400] in house.path.read_bytes()
    assert machine_keys.destroy(house.db, house.machine.id)
    assert not machine_keys.destroy(house.db, house.machine.id)
    assert envelope[40:400] not in house.path.read_bytes()


def test_a_confided_key_does_not_move_into_a_contract_of_private_ones(house: House) -> None:
    private = contracts.add(
        house.db, space_id=house.ours.space_id, client_id="p", email="p@x.org", now=NOW, escrow=Escrow.PRIVATE
    )
    machine_keys.put(house.db, house.machine.id, confided(house), NOW)
    with pytest.raises(KeyModeError, match="key protect"):
        machines.move(house.db, house.machine, private)
    machine_keys.destroy(house.db, house.machine.id)
    assert machines.move(house.db, house.machine, private).contract_id == private.id
