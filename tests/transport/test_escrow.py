"""Wrapped keys: they open for whom they were made, for the machine they belong to, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport import escrow
from transport.errors import KeyFileError, SealError
from transport.escrow import EscrowKey, EscrowPublic
from transport.names import RepositoryId, VaultId

MACHINE, OTHER = RepositoryId(b"m" * 16), RepositoryId(b"o" * 16)
VAULT = VaultId(b"v" * 16)
KEY = bytes(range(32))
WORDS = "quatre mots et un cheval"
CHEAP = {"memory_kib": 64, "passes": 1, "lanes": 1}


@pytest.fixture(scope="module")
def pair() -> EscrowKey:
    return EscrowKey.generate()


def test_a_confided_key_opens_for_its_escrow_key_and_machine(pair: EscrowKey) -> None:
    envelope = escrow.wrap_confided(pair.public, KEY, MACHINE, VAULT)
    assert escrow.mode_of(envelope) == escrow.MODE_CONFIDED
    assert escrow.escrow_key_of(envelope) == pair.public.key_id
    assert escrow.unwrap_confided(pair, envelope, MACHINE, VAULT) == KEY
    assert KEY not in envelope and len(envelope) == 1189
    with pytest.raises(SealError, match="another machine"):
        escrow.unwrap_confided(pair, envelope, OTHER, VAULT)
    with pytest.raises(SealError, match="another machine"):
        escrow.unwrap_confided(pair, envelope, MACHINE, VaultId(b"w" * 16))
    with pytest.raises(SealError, match="another escrow key"):
        escrow.unwrap_confided(EscrowKey.generate(), envelope, MACHINE, VAULT)


def test_a_rotated_key_travels_whole(pair: EscrowKey) -> None:
    keyring = KEY + bytes(range(32, 64)) + bytes(32)
    assert (
        escrow.unwrap_confided(pair, escrow.wrap_confided(pair.public, keyring, MACHINE, VAULT), MACHINE, VAULT)
        == keyring
    )
    assert (
        escrow.unwrap_private(WORDS, escrow.wrap_private(WORDS, keyring, MACHINE, VAULT, **CHEAP), MACHINE, VAULT)
        == keyring
    )
    largest = bytes(32 * 64)
    assert len(escrow.wrap_confided(pair.public, largest, MACHINE, VAULT)) <= escrow.ENVELOPE_LIMIT


def test_two_envelopes_of_a_key_have_nothing_in_common(pair: EscrowKey) -> None:
    one, two = (escrow.wrap_confided(pair.public, KEY, MACHINE, VAULT) for _ in range(2))
    assert one[21:] != two[21:]


def test_every_altered_byte_of_a_confided_key_is_noticed(pair: EscrowKey) -> None:
    envelope = escrow.wrap_confided(pair.public, KEY, MACHINE, VAULT)
    for at in (*range(25), *range(25, len(envelope), 97), len(envelope) - 1):
        altered = envelope[:at] + bytes((envelope[at] ^ 1,)) + envelope[at + 1 :]
        with pytest.raises(SealError):
            escrow.unwrap_confided(pair, altered, MACHINE, VAULT)
    for length in (*range(30), len(envelope) - 1):
        with pytest.raises(SealError):
            escrow.unwrap_confided(pair, envelope[:length], MACHINE, VAULT)


def test_a_private_key_opens_for_its_passphrase_and_machine() -> None:
    envelope = escrow.wrap_private(WORDS, KEY, MACHINE, VAULT, **CHEAP)
    assert escrow.mode_of(envelope) == escrow.MODE_PRIVATE
    assert escrow.unwrap_private(f"  {WORDS} ", envelope, MACHINE, VAULT) == KEY
    with pytest.raises(SealError, match="passphrase"):
        escrow.unwrap_private("Quatre mots et un cheval", envelope, MACHINE, VAULT)
    with pytest.raises(SealError, match="passphrase"):
        escrow.unwrap_private(WORDS, envelope, OTHER, VAULT)
    with pytest.raises(SealError, match="no passphrase opens it"):
        escrow.unwrap_private(
            WORDS, escrow.wrap_confided(EscrowKey.generate().public, KEY, MACHINE, VAULT), MACHINE, VAULT
        )
    with pytest.raises(SealError, match="owner's passphrase"):
        escrow.escrow_key_of(envelope)


def test_accents_typed_in_two_ways_are_one_passphrase() -> None:
    envelope = escrow.wrap_private("pharmacie de l'\u00e9glise", KEY, MACHINE, VAULT, **CHEAP)
    assert escrow.unwrap_private("pharmacie de l'e\u0301glise", envelope, MACHINE, VAULT) == KEY


def test_every_altered_byte_of_a_private_key_is_noticed() -> None:
    envelope = escrow.wrap_private(WORDS, KEY, MACHINE, VAULT, **CHEAP)
    for at in range(len(envelope)):
        altered = envelope[:at] + bytes((envelope[at] ^ 1,)) + envelope[at + 1 :]
        with pytest.raises(SealError):
            escrow.unwrap_private(WORDS, altered, MACHINE, VAULT)


def test_a_hostile_cost_is_refused_before_it_is_paid() -> None:
    envelope = escrow.wrap_private(WORDS, KEY, MACHINE, VAULT, **CHEAP)
    for cost in (b"\xff\xff\xff\xff\x01\x01", b"\x00\x00\x00\x40\xff\x01", b"\x00\x00\x00\x04\x01\x01", bytes(6)):
        with pytest.raises(SealError, match="out of bounds"):
            escrow.unwrap_private(WORDS, envelope[:5] + cost + envelope[11:], MACHINE, VAULT)


def test_the_usual_cost_is_that_of_the_standard() -> None:
    envelope = escrow.wrap_private(WORDS, KEY, MACHINE, VAULT)
    assert envelope[5:11] == (65536).to_bytes(4, "big") + bytes((3, 4))
    assert escrow.unwrap_private(WORDS, envelope, MACHINE, VAULT) == KEY


def test_short_passphrases_and_wrong_keys_are_refused(pair: EscrowKey) -> None:
    with pytest.raises(SealError, match="at least 12"):
        escrow.wrap_private("  too short ", KEY, MACHINE, VAULT)
    with pytest.raises(SealError, match="32 bytes"):
        escrow.wrap_confided(pair.public, KEY[:-1], MACHINE, VAULT)
    with pytest.raises(SealError, match="1216 bytes"):
        escrow.wrap_confided(EscrowPublic(b"x"), KEY, MACHINE, VAULT)
    with pytest.raises(KeyFileError):
        EscrowKey(b"short").public  # noqa: B018  the property raises


def test_secrets_stay_out_of_repr(pair: EscrowKey) -> None:
    assert pair.seed.hex()[:16] not in repr(pair)


@given(st.binary(max_size=escrow.ENVELOPE_LIMIT + 10))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with pytest.raises(SealError):
        escrow.unwrap_private(WORDS, data, MACHINE, VAULT)
