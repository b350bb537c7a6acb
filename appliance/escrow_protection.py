"""The operator's passphrase on escrow keys: closing them, opening them for the running service, taking it away again.

Owns the order of files. Closing: the envelope is written, synced and read back, then the clear half is renamed aside,
overwritten and removed; a crash between leaves rests, which show as half protected, and the same command ends it.
Opening the file again: the clear half first, then the envelope goes. One passphrase for all keys of a home. Nothing
here prints.

Losing the passphrase loses every confided envelope, and no machine's own key: a clear copy belongs on paper in a safe.
"""

from __future__ import annotations

import os
from pathlib import Path

from appliance import escrow, escrow_holder
from appliance.errors import ConflictError
from appliance.escrow import KeyState
from appliance.settings import Home
from transport.escrow import EscrowKey, EscrowPublic, unwrap_escrow, wrap_escrow
from transport.keys import read_key_file, write_key_file

_LIMIT = 4096


def protect(home: Home, passphrase: str) -> list[EscrowKey]:
    """Close every private half in the home under the passphrase; those that it closed.

    ConflictError where there is none, SealError where the passphrase is too short or keys are under another one.
    """
    with home.settings_locked():
        known = escrow.listed(home)
        clear = [info.key_id for info in known if escrow.private_path(home, info.key_id).exists()]
        closed = [info.key_id for info in known if escrow.wrapped_path(home, info.key_id).exists()]
        for key_id in closed:
            if key_id not in clear:
                _open(home, key_id, passphrase)  # one passphrase for all
        if not clear and not closed:
            raise ConflictError(
                "no private half of an escrow key lies in this home: it is a credential of systemd, or there is no key "
                "yet, or it is in the safe"
            )
        keys = [_close(home, key_id, passphrase) for key_id in clear]
        for key_id in closed:
            _destroy(escrow.aside_path(home, key_id))
        return keys


def _close(home: Home, key_id: bytes, passphrase: str) -> EscrowKey:
    key = escrow.private(home, key_id)
    path = escrow.wrapped_path(home, key_id)
    write_key_file(path, wrap_escrow(passphrase, key))
    _open(home, key_id, passphrase)  # what the disk gives back, before the clear half goes
    aside = escrow.aside_path(home, key_id)
    # Aside first: a half that was overwritten and has its name still would be a damaged key.
    os.replace(escrow.private_path(home, key_id), aside)
    _sync(home.keys)
    _destroy(aside)
    return key


def _open(home: Home, key_id: bytes, passphrase: str) -> EscrowKey:
    return unwrap_escrow(passphrase, read_key_file(escrow.wrapped_path(home, key_id), _LIMIT), key_id)


def _destroy(path: Path) -> None:
    """Overwrite, then remove: on a disk that writes elsewhere each time it is the removal alone that counts."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _closed(home: Home, passphrase: str) -> list[EscrowKey]:
    """All keys under the passphrase; ConflictError where none is protected, SealError where it is a wrong one."""
    names = [info.key_id for info in escrow.listed(home) if escrow.wrapped_path(home, info.key_id).exists()]
    if not names:
        raise ConflictError("no escrow key of this home is protected: 'pilulier escrow protect' does that")
    return [_open(home, key_id, passphrase) for key_id in names]


def unlock(home: Home, passphrase: str) -> list[EscrowKey]:
    """Have the running service hold every protected key; EscrowLockedError where no service runs."""
    keys = _closed(home, passphrase)
    escrow_holder.hand_over(home, keys)
    return keys


def unprotect(home: Home, passphrase: str) -> list[EscrowKey]:
    """Lay every private half down in clear again."""
    with home.settings_locked():
        keys = _closed(home, passphrase)
        for key in keys:
            key_id = key.public.key_id
            escrow.write_private(home, key)
            escrow.wrapped_path(home, key_id).unlink()
            _destroy(escrow.aside_path(home, key_id))
            _sync(home.keys)
        return keys


def rotate(home: Home, passphrase: str) -> tuple[EscrowPublic, EscrowKey]:
    """Make another key the present one, protected from its first moment; SealError for another passphrase."""
    with home.settings_locked():
        _closed(home, passphrase)
        key = EscrowKey.generate()
        write_key_file(escrow.wrapped_path(home, key.public.key_id), wrap_escrow(passphrase, key))
        return escrow.make_present(home, key.public), key


def is_protected(home: Home) -> bool:
    """Whether a key of this home is under a passphrase, so that a new one must be too."""
    return any(info.state in (KeyState.LOCKED, KeyState.UNLOCKED, KeyState.HALF) for info in escrow.listed(home))
