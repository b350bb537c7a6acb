"""Wrapped machine keys: what lets a customer back in when the PC is gone.

Owns two envelopes for a machine's keyring (the machine key, and one more for each rotation). *Confided*: HPKE (RFC
9180, X25519 with ML-KEM-768, HKDF-SHA256, AES-256-GCM) to the appliance's escrow key, so that the host can open backups
on behalf of a customer who lost everything. *Private*: AES-256-GCM under Argon2id (RFC 9106) of a passphrase, which the
host never learns. Both are bound to the machine and its vault: an envelope moved to another machine does not open. The
signing key is never wrapped, so whoever opens an envelope can read history and never forge it. The private half of an
escrow key itself may lie closed by an operator's passphrase, in the same way as a private envelope.

*Why both a classical and a post-quantum key exchange?* **Because what is copied today is opened later**: health data
stays sensitive for a lifetime, and the wrapped key is the one place where a public-key cipher guards it.

Sizes are bounded before anything is computed: Argon2's cost stands in the envelope, and a hostile host could write one
that takes a PC's whole memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import unicodedata
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from transport.errors import KeyFileError, SealError
from transport.names import RepositoryId, VaultId
from transport.sealing import MACHINE_KEY_BYTES, checked_keyring

MAGIC: Final = b"PLW1"
MODE_CONFIDED: Final = 1
MODE_PRIVATE: Final = 2
MODE_ESCROW: Final = 3
"""Of no machine: an escrow key under the operator's passphrase."""
ENVELOPE_LIMIT: Final = 4096
"""Bytes of a wrapped key at most; a confided one has 1,189."""
KEY_ID_BYTES: Final = 16
PUBLIC_BYTES: Final = 1184 + 32
"""ML-KEM-768 and X25519, in this order."""
SEED_BYTES: Final = 64 + 32
_HEADER: Final = struct.Struct(">4sB")
_ARGON: Final = struct.Struct(">IBB")  # memory in KiB, passes, lanes
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO: Final = b"pilulier/1/escrow/"
_ESCROW_INFO: Final = b"pilulier/1/escrow-key/"

MEMORY_KIB: Final = 64 * 1024
PASSES: Final = 3
LANES: Final = 4
"""RFC 9106's second recommended set: 64 MiB, three passes, four lanes (0.1 to 0.3 s on a PC)."""
_MEMORY_LIMIT_KIB: Final = 1024 * 1024
_PASSES_LIMIT: Final = 16
_LANES_LIMIT: Final = 16
PASSPHRASE_MINIMUM: Final = 12
"""Characters. The host holds the envelope and may guess for years."""


@dataclass(frozen=True, slots=True)
class EscrowPublic:
    """The public half of an appliance's escrow key, 1,216 bytes."""

    data: bytes

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the key: part of its digest."""
        return hashlib.sha256(b"pilulier/escrow-key/1\0" + self.data).digest()[:KEY_ID_BYTES]

    def loaded(self) -> MLKEM768X25519PublicKey:
        """For the cipher; SealError where it is none."""
        if len(self.data) != PUBLIC_BYTES:
            raise SealError(f"an escrow key has {PUBLIC_BYTES} bytes, not {len(self.data)}")
        try:
            return MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.data[:1184]),
                X25519PublicKey.from_public_bytes(self.data[1184:]),
            )
        except ValueError:
            raise SealError("this is not an escrow key") from None


@dataclass(frozen=True, slots=True)
class EscrowKey:
    """An escrow key pair, as its 96 bytes of seed. Its repr shows the name only."""

    seed: bytes

    def __repr__(self) -> str:
        return f"EscrowKey({self.public.key_id.hex()})"

    @classmethod
    def generate(cls) -> EscrowKey:
        """A new random one."""
        return cls(os.urandom(SEED_BYTES))

    def _halves(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        if len(self.seed) != SEED_BYTES:
            raise KeyFileError(f"an escrow key has {SEED_BYTES} bytes, not {len(self.seed)}")
        return MLKEM768PrivateKey.from_seed_bytes(self.seed[:64]), X25519PrivateKey.from_private_bytes(self.seed[64:])

    @property
    def public(self) -> EscrowPublic:
        """What agents wrap to."""
        post_quantum, classical = self._halves()
        return EscrowPublic(post_quantum.public_key().public_bytes_raw() + classical.public_key().public_bytes_raw())

    def loaded(self) -> MLKEM768X25519PrivateKey:
        """For the cipher."""
        return MLKEM768X25519PrivateKey(*self._halves())


def _bound(mode: int, machine: RepositoryId, vault: VaultId) -> bytes:
    """What an envelope belongs to."""
    return _INFO + bytes((mode,)) + machine + vault


def mode_of(envelope: bytes) -> int:
    """MODE_CONFIDED or MODE_PRIVATE; SealError for anything else."""
    if not _HEADER.size < len(envelope) <= ENVELOPE_LIMIT:
        raise SealError(f"a wrapped key of {len(envelope)} bytes is outside of {_HEADER.size + 1}..{ENVELOPE_LIMIT}")
    magic, mode = _HEADER.unpack_from(envelope)
    if magic != MAGIC or mode not in (MODE_CONFIDED, MODE_PRIVATE):
        raise SealError(f"a wrapped key begins with {envelope[: _HEADER.size].hex()}: this program does not know it")
    return int(mode)


def wrap_confided(public: EscrowPublic, keyring: bytes, machine: RepositoryId, vault: VaultId) -> bytes:
    """The machine key for the appliance's escrow key alone."""
    checked_keyring(keyring)
    sealed = _SUITE.encrypt(keyring, public.loaded(), info=_bound(MODE_CONFIDED, machine, vault) + public.key_id)
    return _HEADER.pack(MAGIC, MODE_CONFIDED) + public.key_id + sealed


def escrow_key_of(envelope: bytes) -> bytes:
    """Which escrow key opens a confided envelope: its id, 16 bytes."""
    if mode_of(envelope) != MODE_CONFIDED:
        raise SealError("this key is wrapped with its owner's passphrase: no escrow key opens it")
    name = envelope[_HEADER.size : _HEADER.size + KEY_ID_BYTES]
    if len(name) != KEY_ID_BYTES:
        raise SealError("a wrapped key is cut short")
    return name


def unwrap_confided(key: EscrowKey, envelope: bytes, machine: RepositoryId, vault: VaultId) -> bytes:
    """The machine key; SealError where the envelope is another's, was altered or is for another escrow key."""
    public = key.public
    if escrow_key_of(envelope) != public.key_id:
        raise SealError("this key was wrapped for another escrow key of the appliance")
    sealed = envelope[_HEADER.size + KEY_ID_BYTES :]
    try:
        keyring = _SUITE.decrypt(sealed, key.loaded(), info=_bound(MODE_CONFIDED, machine, vault) + public.key_id)
    except (InvalidTag, ValueError):
        raise SealError("a wrapped key was altered, or belongs to another machine") from None
    return checked_keyring(keyring)


def checked_passphrase(passphrase: str) -> bytes:
    """The bytes that count (NFC, so that keyboards agree); SealError where it is too short."""
    text = unicodedata.normalize("NFC", passphrase.strip())
    if len(text) < PASSPHRASE_MINIMUM:
        raise SealError(
            f"the passphrase has {len(text)} characters: give at least {PASSPHRASE_MINIMUM}, best four or five words"
        )
    return text.encode()


_one_at_a_time: Final = threading.Lock()
"""Several lanes share OpenSSL's pool of threads; three derivations at once never end (cryptography 50, measured)."""


def _stretched(passphrase: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    with _one_at_a_time:
        return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib).derive(passphrase)


def wrap_private(
    passphrase: str,
    keyring: bytes,
    machine: RepositoryId,
    vault: VaultId,
    *,
    memory_kib: int = MEMORY_KIB,
    passes: int = PASSES,
    lanes: int = LANES,
) -> bytes:
    """The machine key for whoever knows the passphrase."""
    place = _bound(MODE_PRIVATE, machine, vault)
    return _closed(passphrase, checked_keyring(keyring), MODE_PRIVATE, place, (memory_kib, passes, lanes))


def _closed(passphrase: str, secret: bytes, mode: int, place: bytes, cost: tuple[int, int, int]) -> bytes:
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    head = _HEADER.pack(MAGIC, mode) + _ARGON.pack(*cost) + salt + nonce
    key = _stretched(checked_passphrase(passphrase), salt, *cost)
    return head + AESGCM(key).encrypt(nonce, secret, place + head)


def unwrap_private(passphrase: str, envelope: bytes, machine: RepositoryId, vault: VaultId) -> bytes:
    """The machine key; SealError where the passphrase is wrong or the envelope altered or another's."""
    if mode_of(envelope) != MODE_PRIVATE:
        raise SealError("this key was confided to the appliance: no passphrase opens it")
    return checked_keyring(_opened(passphrase, envelope, _bound(MODE_PRIVATE, machine, vault)))


def _opened(passphrase: str, envelope: bytes, place: bytes) -> bytes:
    head_bytes = _HEADER.size + _ARGON.size + _SALT_BYTES + _NONCE_BYTES
    if len(envelope) <= head_bytes + 16 or (len(envelope) - head_bytes - 16) % MACHINE_KEY_BYTES:
        raise SealError(f"a key wrapped with a passphrase has not {len(envelope)} bytes")
    memory_kib, passes, lanes = _ARGON.unpack_from(envelope, _HEADER.size)
    if not (
        8 * lanes <= memory_kib <= _MEMORY_LIMIT_KIB and 1 <= passes <= _PASSES_LIMIT and 1 <= lanes <= _LANES_LIMIT
    ):
        raise SealError(f"a wrapped key asks for {memory_kib} KiB, {passes} passes and {lanes} lanes: out of bounds")
    head = envelope[:head_bytes]
    salt = head[_HEADER.size + _ARGON.size :][:_SALT_BYTES]
    key = _stretched(checked_passphrase(passphrase), salt, memory_kib, passes, lanes)
    try:
        return AESGCM(key).decrypt(head[-_NONCE_BYTES:], envelope[head_bytes:], place + head)
    except InvalidTag:
        raise SealError("the passphrase does not open this key: check it, spaces and capitals count") from None


def wrap_escrow(passphrase: str, key: EscrowKey) -> bytes:
    """An escrow key for the operator who knows the passphrase; SealError where it is too short."""
    place = _ESCROW_INFO + key.public.key_id
    return _closed(passphrase, key.seed, MODE_ESCROW, place, (MEMORY_KIB, PASSES, LANES))


def unwrap_escrow(passphrase: str, envelope: bytes, key_id: bytes) -> EscrowKey:
    """The escrow key of this id; SealError where the passphrase is wrong or the envelope altered or another's."""
    if len(envelope) < _HEADER.size or _HEADER.unpack_from(envelope) != (MAGIC, MODE_ESCROW):
        raise SealError("this is no escrow key under a passphrase")
    key = EscrowKey(_opened(passphrase, envelope, _ESCROW_INFO + key_id))
    if len(key.seed) != SEED_BYTES or key.public.key_id != key_id:
        raise SealError("an escrow key under a passphrase is another one than its name says")
    return key
