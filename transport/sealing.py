"""Sealing: AES-256-GCM under a key derived per record, bound to the record's place.

Owns every sealed byte layout and, with the key modules, is the only room that `cryptography` enters. Each
segment (and each batch of entries) gets its own key: HKDF-SHA256 (RFC 5869) over the epoch key with a random
32-byte salt, so neither a cloned PC nor a rolled-back state can repeat a (key, nonce) pair; the nonce is then a
constant (segments) or the index within the batch (entries). GCM does not commit to its key, so HKDF's second
32 bytes stand in the header as a key commitment. Algorithm ids stand in every header.
"""

from __future__ import annotations

import hmac
import os
import struct
import threading
from dataclasses import dataclass
from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from transport.errors import SealError
from transport.names import SEGMENT_LIMIT, Buffer, PathId, SegmentId, VaultId
from transport.tree import BatchHeader, EntryRecord

MACHINE_KEY_BYTES: Final = 32
EPOCHS_LIMIT: Final = 64
"""Rotations of one machine's key in the life of its vault; a key for each stands in its keyring."""
MAGIC: Final = b"PLS1"
FORMAT: Final = 1
KIND_SEGMENT: Final = 1
KIND_ENTRIES: Final = 2
CODEC_RAW: Final = 0
CODEC_ZSTD: Final = 1
AEAD_AES256GCM_HKDF_SHA256: Final = 1

_HEADER = struct.Struct(">4sBBBBII")  # magic, format, kind, codec, aead, epoch, plaintext length
_SALT_BYTES: Final = 32
_COMMITMENT_BYTES: Final = 32
_TAG_BYTES: Final = 16
SEGMENT_OVERHEAD: Final = _HEADER.size + _SALT_BYTES + _COMMITMENT_BYTES + _TAG_BYTES
_SEGMENT_NONCE = bytes(12)

_ZSTD: Final = zstandard.ZstdCompressionParameters(
    compression_level=1,
    strategy=zstandard.STRATEGY_FAST,
    window_log=18,
    hash_log=15,
    min_match=7,
    write_content_size=True,
)
"""Level 1 with a hash table that fills the first-level cache and a window in reach of it: 3 % faster than level 1 as it
stands and 5 % smaller on a pharmacy's database, 1 % on a system's files (measured). Level 3 stores 3 % less at half the
speed: not worth the wait. A table of 2**16 takes a quarter more time for 3 %."""
_PROBE_BYTES: Final = 16 * 1024
_WORTH_IT: Final = 0.95
"""Compression is kept only below this share of the plaintext."""

_local = threading.local()


def _hkdf(key: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869) by two or three HMACs: the object of `cryptography` costs 100 µs, this 6 µs (measured)."""
    pseudorandom = hmac.digest(salt or bytes(32), key, "sha256")
    block = b""
    blocks = []
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(pseudorandom, block + info + bytes((counter,)), "sha256")
        blocks.append(block)
    return b"".join(blocks)[:length]


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """Everything that derives from one machine's keyring for one vault; never sent, never logged.

    `path` and `content` derive from the machine key, the keyring's first, and stay for the life of the vault; sealing
    keys are per epoch (`epoch_key`), each from a random key of its own, so that whoever learns an early one reads
    nothing that was sealed after a rotation.
    """

    vault: VaultId
    epoch: int
    path: bytes
    content: bytes
    _keyring: bytes

    def __repr__(self) -> str:
        return f"VaultKeys(vault={self.vault.hex()}, epoch={self.epoch})"

    def epoch_key(self, epoch: int) -> bytes:
        """The 32-byte sealing key of an epoch (1 and up)."""
        if not 1 <= epoch <= self.epoch:
            raise SealError(f"sealed under key epoch {epoch}, but this keyring holds 1 to {self.epoch}")
        key = self._keyring[MACHINE_KEY_BYTES * (epoch - 1) : MACHINE_KEY_BYTES * epoch]
        return _hkdf(key, self.vault, b"pilulier/1/seal/" + str(epoch).encode(), 32)

    def path_id(self, parent: PathId, name: bytes) -> PathId:
        """The opaque, stable id of `name` within `parent`."""
        return PathId(hmac.digest(self.path, parent + name, "sha256")[:16])


def checked_keyring(keyring: bytes) -> bytes:
    """The keyring; SealError unless it holds whole keys: the machine key, then one for each epoch from 2 on."""
    if not keyring or len(keyring) % MACHINE_KEY_BYTES or len(keyring) > EPOCHS_LIMIT * MACHINE_KEY_BYTES:
        raise SealError(
            f"a machine key is {MACHINE_KEY_BYTES} bytes long, and as many for each rotation, not {len(keyring)}"
        )
    return keyring


def rotated(keyring: bytes) -> bytes:
    """The keyring with a new random key for the next epoch; SealError where it is full."""
    if len(checked_keyring(keyring)) >= EPOCHS_LIMIT * MACHINE_KEY_BYTES:
        raise SealError(f"this key was rotated {EPOCHS_LIMIT - 1} times, which is all a vault has room for")
    return keyring + os.urandom(MACHINE_KEY_BYTES)


def vault_keys(keyring: bytes, vault: VaultId) -> VaultKeys:
    """Derive a vault's keys from a machine's keyring; new records are sealed in its newest epoch."""
    machine_key = checked_keyring(keyring)[:MACHINE_KEY_BYTES]
    return VaultKeys(
        vault=vault,
        epoch=len(keyring) // MACHINE_KEY_BYTES,
        path=_hkdf(machine_key, vault, b"pilulier/1/path", 32),
        content=_hkdf(machine_key, vault, b"pilulier/1/content", 32),
        _keyring=keyring,
    )


def _record_key(epoch_key: bytes, salt: bytes, kind: int, epoch: int) -> tuple[bytes, bytes]:
    """(AES key, commitment) of one record."""
    info = b"pilulier/1/record/" + struct.pack(">BI", kind, epoch)
    both = _hkdf(epoch_key, salt, info, 32 + _COMMITMENT_BYTES)
    return both[:32], both[32:]


def _compress(plaintext: bytes) -> bytes | None:
    """The zstd frame, or None where it does not pay; a probe of the first bytes spares incompressible data."""
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "cctx", None)
    if compressor is None:
        compressor = _local.cctx = zstandard.ZstdCompressor(compression_params=_ZSTD)
    size = len(plaintext)
    if size > 8 * _PROBE_BYTES:
        for at in (0, size // 2):
            probe = memoryview(plaintext)[at : at + _PROBE_BYTES]
            if len(compressor.compress(probe)) < _PROBE_BYTES * _WORTH_IT:
                break
        else:
            return None
    packed = compressor.compress(plaintext)
    return packed if len(packed) < size * _WORTH_IT else None


class Sealer:
    """Seals and opens records of one vault. Thread-safe: keys are cached, no state changes after that."""

    def __init__(self, keys: VaultKeys) -> None:
        self._keys = keys
        self._epoch_keys: dict[int, bytes] = {}

    @property
    def keys(self) -> VaultKeys:
        """The keys this sealer works with."""
        return self._keys

    def _epoch_key(self, epoch: int) -> bytes:
        key = self._epoch_keys.get(epoch)
        if key is None:
            key = self._epoch_keys[epoch] = self._keys.epoch_key(epoch)
        return key

    def seal_segment(self, segment: SegmentId, plaintext: bytes) -> bytearray:
        """A sealed segment (at most SEGMENT_LIMIT bytes of plaintext), compressed where that pays."""
        if not 0 < len(plaintext) <= SEGMENT_LIMIT:
            raise SealError(f"a segment of {len(plaintext)} bytes is outside 1..{SEGMENT_LIMIT}")
        packed = _compress(plaintext)
        codec, body = (CODEC_RAW, plaintext) if packed is None else (CODEC_ZSTD, packed)
        epoch = self._keys.epoch
        header = _HEADER.pack(
            MAGIC, FORMAT, KIND_SEGMENT, codec, AEAD_AES256GCM_HKDF_SHA256, epoch, len(plaintext)
        )
        salt = os.urandom(_SALT_BYTES)
        key, commitment = _record_key(self._epoch_key(epoch), salt, KIND_SEGMENT, epoch)
        # Encrypted where it stays: joining header and ciphertext was another copy of every byte sent.
        clear = header + salt + commitment
        sealed = bytearray(len(clear) + len(body) + _TAG_BYTES)
        sealed[: len(clear)] = clear
        place = memoryview(sealed)[len(clear) :]
        AESGCM(key).encrypt_into(_SEGMENT_NONCE, body, header + self._keys.vault + segment, place)
        return sealed

    def open_segment(self, segment: SegmentId, sealed: Buffer) -> bytes:
        """The plaintext of a sealed segment; SealError if it was altered, moved or sealed under another key."""
        if len(sealed) < SEGMENT_OVERHEAD:
            raise SealError(f"segment {segment.hex()} is {len(sealed)} bytes long, under {SEGMENT_OVERHEAD}")
        magic, form, kind, codec, aead, epoch, length = _HEADER.unpack_from(sealed)
        if (magic, form, kind, aead) != (MAGIC, FORMAT, KIND_SEGMENT, AEAD_AES256GCM_HKDF_SHA256):
            raise SealError(f"segment {segment.hex()} has an unknown header {bytes(sealed[: _HEADER.size]).hex()}")
        if codec not in (CODEC_RAW, CODEC_ZSTD) or not 0 < length <= SEGMENT_LIMIT:
            raise SealError(f"segment {segment.hex()} announces codec {codec} and {length} bytes")
        at = _HEADER.size
        salt = bytes(sealed[at : at + _SALT_BYTES])
        at += _SALT_BYTES
        commitment = bytes(sealed[at : at + _COMMITMENT_BYTES])
        at += _COMMITMENT_BYTES
        key, expected = _record_key(self._epoch_key(epoch), salt, KIND_SEGMENT, epoch)
        if not hmac.compare_digest(commitment, expected):
            raise SealError(f"segment {segment.hex()} was sealed under another key")
        aad = bytes(sealed[: _HEADER.size]) + self._keys.vault + segment
        try:
            body = AESGCM(key).decrypt(_SEGMENT_NONCE, memoryview(sealed)[at:], aad)
        except InvalidTag:
            raise SealError(f"segment {segment.hex()} was altered or belongs elsewhere") from None
        return _expand(body, codec, length, segment)

    def seal_entries(self) -> EntrySealer:
        """A new batch of entries under a fresh derived key."""
        epoch = self._keys.epoch
        salt = os.urandom(_SALT_BYTES)
        key, commitment = _record_key(self._epoch_key(epoch), salt, KIND_ENTRIES, epoch)
        return EntrySealer(self._keys.vault, BatchHeader(epoch, salt, commitment), key)

    def entry_opener(self, header: BatchHeader) -> EntryOpener:
        """Opens the entries of one batch; SealError where its commitment is not this keyring's."""
        if len(header.salt) != _SALT_BYTES or len(header.commitment) != _COMMITMENT_BYTES:
            raise SealError("an entry batch header of wrong lengths")
        key, expected = _record_key(self._epoch_key(header.epoch), header.salt, KIND_ENTRIES, header.epoch)
        if not hmac.compare_digest(header.commitment, expected):
            raise SealError("an entry batch was sealed under another key")
        return EntryOpener(self._keys.vault, header, key)


def _expand(body: bytes, codec: int, length: int, segment: SegmentId) -> bytes:
    """Undo the codec; the authenticated length caps what decompression may allocate."""
    if codec == CODEC_RAW:
        plaintext = body
    else:
        try:
            if zstandard.frame_content_size(body) != length:
                raise SealError(f"segment {segment.hex()} holds a frame of another length than {length}")
            decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "dctx", None)
            if decompressor is None:
                decompressor = _local.dctx = zstandard.ZstdDecompressor()
            plaintext = decompressor.decompress(body, max_output_size=length)
        except zstandard.ZstdError as error:
            raise SealError(f"segment {segment.hex()} does not decompress: {error}") from None
    if len(plaintext) != length:
        raise SealError(f"segment {segment.hex()} opens to {len(plaintext)} bytes, not {length}")
    return plaintext


def _entry_place(vault: VaultId, header: BatchHeader) -> bytes:
    """Associated data of an entry, before its clear fields."""
    return MAGIC + struct.pack(">BBBI", FORMAT, KIND_ENTRIES, AEAD_AES256GCM_HKDF_SHA256, header.epoch) + vault


class EntrySealer:
    """One batch being filled; `seal` numbers the entries, and a number is a nonce: it is never given twice."""

    LIMIT: Final = 4096

    def __init__(self, vault: VaultId, header: BatchHeader, key: bytes) -> None:
        self.header = header
        self._place = _entry_place(vault, header)
        self._aead = AESGCM(key)
        self._next = 0

    def seal(self, clear: EntryRecord, metadata: bytes) -> EntryRecord:
        """`clear` with its index and sealed metadata filled in."""
        index = self._next
        if index >= self.LIMIT:
            raise SealError(f"a batch holds at most {self.LIMIT} entries")
        self._next = index + 1
        sealed = self._aead.encrypt(index.to_bytes(12, "big"), metadata, self._place + clear.aad())
        return EntryRecord(
            clear.path_id, clear.parent_id, clear.kind, clear.size, clear.version_id, index, sealed
        )


class EntryOpener:
    """Opens entries of one batch."""

    def __init__(self, vault: VaultId, header: BatchHeader, key: bytes) -> None:
        self._place = _entry_place(vault, header)
        self._aead = AESGCM(key)

    def open(self, record: EntryRecord) -> bytes:
        """The metadata bytes of an entry; SealError where entry or place were altered."""
        try:
            return self._aead.decrypt(
                record.index.to_bytes(12, "big"), record.sealed, self._place + record.aad()
            )
        except (InvalidTag, OverflowError, ValueError):
            raise SealError(f"entry {record.path_id.hex()} was altered or belongs elsewhere") from None


