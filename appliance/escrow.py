"""The appliance's escrow keys: what confided machine keys are wrapped to.

Owns their files. The public half of the present key is all that a running service needs: it offers it, signed by the
identity, and never opens an envelope. The private half is a file of its own in `keys/` (0600), in clear or under an
operator's passphrase (`escrow_protection`; the running service then holds it in memory once it was unlocked), or a
systemd credential named `pilulier-escrow` (`LoadCredentialEncrypted=`), in which case no private file need lie on the
disk. Rotating makes another key present; agents wrap anew as they connect, and an old key goes once no envelope names
it.

Losing the private half makes every confided envelope worthless and leaves the machines' own keys as they are: it
belongs into the appliance's own backup and on paper in a safe.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from appliance import escrow_holder
from appliance.errors import EscrowLockedError
from appliance.settings import Home
from transport.errors import KeyFileError
from transport.escrow import SEED_BYTES, EscrowKey, EscrowPublic
from transport.keys import EscrowCertificate, SigningKey, read_key_file, write_key_file

CREDENTIAL: Final = "pilulier-escrow"
_LABEL: Final = b"pilulier-escrow-1 "
_LIMIT: Final = 65536


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """keys/escrow.json: the present key's id and every public half, in hex."""

    present: str
    public: dict[str, str]


class KeyState(StrEnum):
    """Where a private half is, as this process sees it."""

    CLEAR = "clear"
    HALF = "half-protected"
    """A crash left it, or a rest of it, in clear beside its envelope: `escrow protect` again."""
    LOCKED = "locked"
    UNLOCKED = "unlocked"
    CREDENTIAL = "credential"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class EscrowKeyInfo:
    """One escrow key."""

    key_id: bytes
    present: bool
    state: KeyState

    @property
    def private_there(self) -> bool:
        """Whether its private half is within reach of this process."""
        return self.state not in (KeyState.LOCKED, KeyState.ELSEWHERE)


def _index_path(home: Home) -> Path:
    return home.keys / "escrow.json"


def private_path(home: Home, key_id: bytes) -> Path:
    """Where a private half lies in clear, if it does."""
    return home.keys / f"escrow-{key_id.hex()}.key"


def wrapped_path(home: Home, key_id: bytes) -> Path:
    """Where it lies under the operator's passphrase, if it does."""
    return home.keys / f"escrow-{key_id.hex()}.wrapped"


def _index(home: Home) -> _Index | None:
    if not _index_path(home).exists():
        return None
    content = read_key_file(_index_path(home), _LIMIT)
    try:
        found = msgspec.json.decode(content, type=_Index)
        for name, public in found.public.items():
            if EscrowPublic(bytes.fromhex(public)).key_id.hex() != name:
                raise ValueError(f"key {name} is not what its name says")
        if found.present not in found.public:
            raise ValueError(f"key {found.present} is missing")
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise KeyFileError(f"{_index_path(home)} is damaged ({error}): put it back from a backup") from None
    return found


def aside_path(home: Home, key_id: bytes) -> Path:
    """What is left of a clear half while it is destroyed."""
    return home.keys / f"escrow-{key_id.hex()}.aside"


def write_private(home: Home, key: EscrowKey) -> None:
    """Lay a private half down in clear."""
    write_key_file(private_path(home, key.public.key_id), _LABEL + key.seed.hex().encode() + b"\n")


def make_present(home: Home, public: EscrowPublic) -> EscrowPublic:
    """Offer this key from the next start of the service on. For whoever holds the settings' lock and has written the
    private half: a key that is offered must be one that can be opened again."""
    before = _index(home)
    known = {} if before is None else before.public
    index = _Index(public.key_id.hex(), {**known, public.key_id.hex(): public.data.hex()})
    write_key_file(_index_path(home), msgspec.json.encode(index) + b"\n")
    return public


def _add(home: Home) -> EscrowPublic:
    key = EscrowKey.generate()
    write_private(home, key)
    return make_present(home, key.public)


def ensure(home: Home) -> EscrowPublic:
    """The present escrow key's public half; made where the home has none yet."""
    found = _index(home)
    if found is not None:
        return EscrowPublic(bytes.fromhex(found.public[found.present]))
    with home.settings_locked():
        found = _index(home)
        return _add(home) if found is None else EscrowPublic(bytes.fromhex(found.public[found.present]))


def rotate(home: Home) -> EscrowPublic:
    """Make another key the present one, in clear; the former ones stay to open what is wrapped to them."""
    with home.settings_locked():
        _index(home)  # damaged: said before a key is made for nothing
        return _add(home)


def certificate(home: Home, identity: SigningKey) -> EscrowCertificate:
    """The present key as agents are offered it."""
    return identity.certify_escrow(ensure(home).data, int(time.time() * 1000))


def listed(home: Home) -> list[EscrowKeyInfo]:
    """All keys, the present one first."""
    found = _index(home)
    if found is None:
        return []
    credential = _credential_key()
    held: frozenset[bytes] | None = None
    infos = []
    for name in sorted(found.public, key=lambda name: (name != found.present, name)):
        key_id = bytes.fromhex(name)
        wrapped = wrapped_path(home, key_id).exists()
        if credential is not None and credential.public.key_id == key_id:
            state = KeyState.CREDENTIAL
        elif wrapped and (private_path(home, key_id).exists() or aside_path(home, key_id).exists()):
            state = KeyState.HALF
        elif private_path(home, key_id).exists():
            state = KeyState.CLEAR
        elif wrapped:
            held = escrow_holder.held(home) if held is None else held
            state = KeyState.UNLOCKED if key_id in held else KeyState.LOCKED
        else:
            state = KeyState.ELSEWHERE
        infos.append(EscrowKeyInfo(key_id, name == found.present, state))
    return infos


def is_locked(home: Home, key_id: bytes) -> bool:
    """Whether an operator must unlock this key before an envelope of it can be opened."""
    return any(info.key_id == key_id and info.state is KeyState.LOCKED for info in listed(home))


def private(home: Home, key_id: bytes) -> EscrowKey:
    """The key pair of an id; EscrowLockedError where an operator must unlock it first, KeyFileError that says what to
    do where its private half is not there."""
    credential = _credential_key()
    if credential is not None and credential.public.key_id == key_id:
        return credential
    path = private_path(home, key_id)
    if not path.exists() and wrapped_path(home, key_id).exists():
        unlocked = escrow_holder.take(home, key_id)
        if unlocked is None:
            raise EscrowLockedError(
                f"escrow key {key_id.hex()} is locked: an operator unlocks it with 'pilulier escrow unlock'"
            )
        return unlocked
    if not path.exists():
        raise KeyFileError(
            f"the private half of escrow key {key_id.hex()} is neither in {home.keys} nor a credential of this "
            "service: put it back from the safe"
        )
    key = _decoded(read_key_file(path, 1024), str(path))
    if key.public.key_id != key_id:
        raise KeyFileError(f"{path} holds another key than its name says: put it back from a backup")
    return key


def forget(home: Home, used: frozenset[bytes]) -> list[bytes]:
    """Remove keys that are neither present nor named by an envelope; the ids of those that went."""
    with home.settings_locked():
        found = _index(home)
        if found is None:
            return []
        gone = [name for name in found.public if name != found.present and bytes.fromhex(name) not in used]
        if gone:
            kept = {name: public for name, public in found.public.items() if name not in gone}
            write_key_file(_index_path(home), msgspec.json.encode(_Index(found.present, kept)) + b"\n")
        for name in gone:
            for path in (private_path, wrapped_path, aside_path):
                path(home, bytes.fromhex(name)).unlink(missing_ok=True)
        return [bytes.fromhex(name) for name in gone]


def _credential_key() -> EscrowKey | None:
    """The key that systemd hands to this service, if it does (systemd.exec(5), CREDENTIALS)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / CREDENTIAL
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    return _decoded(content, str(path))


def _decoded(content: bytes, where: str) -> EscrowKey:
    damaged = f"{where} is damaged: put it back from a backup"
    if not content.startswith(_LABEL):
        raise KeyFileError(damaged)
    try:
        seed = bytes.fromhex(content[len(_LABEL) :].decode("ascii").strip())
    except ValueError:
        raise KeyFileError(damaged) from None
    if len(seed) != SEED_BYTES:
        raise KeyFileError(damaged)
    return EscrowKey(seed)
