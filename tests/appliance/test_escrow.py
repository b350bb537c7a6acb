"""Escrow keys on the appliance's disk: made once, rotated, found in a credential, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import escrow
from appliance.settings import Home, Settings, initialising
from transport.errors import KeyFileError
from transport.keys import SigningKey, verify_escrow


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new home."""
    with initialising(tmp_path / "home", Settings()) as made:
        return made


def test_a_key_is_made_once_and_signed(home: Home) -> None:
    public = escrow.ensure(home)
    assert escrow.ensure(home) == public
    assert escrow.private(home, public.key_id).public == public
    identity = SigningKey.generate()
    certificate = escrow.certificate(home, identity)
    verify_escrow(identity.public, certificate)
    assert certificate.public == public.data
    for file in home.keys.glob("escrow*"):
        assert file.stat().st_mode & 0o777 == 0o600, file


def test_former_keys_stay_until_nothing_names_them(home: Home) -> None:
    first = escrow.ensure(home)
    second = escrow.rotate(home)
    assert [info.key_id for info in escrow.listed(home)] == [second.key_id, first.key_id]
    assert escrow.forget(home, frozenset({first.key_id})) == []
    assert escrow.private(home, first.key_id).public == first
    assert escrow.forget(home, frozenset()) == [first.key_id]
    with pytest.raises(KeyFileError, match="safe"):
        escrow.private(home, first.key_id)
    assert escrow.ensure(home) == second


def test_a_credential_takes_the_place_of_the_file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = escrow.ensure(home)
    file = home.keys / f"escrow-{public.key_id.hex()}.key"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file.rename(credentials / escrow.CREDENTIAL)
    assert not escrow.listed(home)[0].private_there
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert escrow.listed(home)[0].private_there
    assert escrow.private(home, public.key_id).public == public


@pytest.mark.parametrize(
    "damage", ["{", '{"present": "00", "public": {}}', '{"present": "00", "public": {"00": "00"}}']
)
def test_a_damaged_index_is_named_and_never_replaced(home: Home, damage: str) -> None:
    escrow.ensure(home)
    (home.keys / "escrow.json").write_text(damage)
    with pytest.raises(KeyFileError, match=r"escrow\.json is damaged"):
        escrow.ensure(home)
    with pytest.raises(KeyFileError, match=r"escrow\.json is damaged"):
        escrow.rotate(home)
    assert (home.keys / "escrow.json").read_text() == damage


def test_a_key_under_another_keys_name_is_noticed(home: Home) -> None:
    first, second = escrow.ensure(home), escrow.rotate(home)
    one, two = (home.keys / f"escrow-{public.key_id.hex()}.key" for public in (first, second))
    one.write_bytes(two.read_bytes())
    with pytest.raises(KeyFileError, match="another key"):
        escrow.private(home, first.key_id)
    two.write_text("nothing")
    with pytest.raises(KeyFileError, match="damaged"):
        escrow.private(home, second.key_id)
