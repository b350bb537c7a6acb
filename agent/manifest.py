"""The manifest of an exported contract: every file by its SHA-256, signed by the appliance that made it.

Owns the check; reads files only. A file that the manifest does not name is as wrong as one that is missing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from transport.errors import IntegrityError, UsageError
from transport.keys import verify_statement

MANIFEST: Final = "MANIFEST.sha256"
SIGNATURE: Final = "MANIFEST.sig"
LABEL: Final = "export"
_LIMIT: Final = 64 << 20
_LINE: Final = re.compile(r"([0-9a-f]{64})  (\S.*)")


class _Signature(msgspec.Struct, frozen=True):
    identity: str
    signature: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: how many files are as they were written, what is wrong, and who signed."""

    identity: bytes
    files: int
    size_bytes: int
    wrong: tuple[str, ...]


def check(folder: Path, identity: bytes | None, told: Callable[[str], None] = lambda _: None) -> Checked:
    """Read every file of an export. UsageError where it is none, IntegrityError where the signature does not hold.

    Without `identity` (32-byte public key) the one that the signature names is taken, which proves nothing to whoever
    does not compare it.
    """
    manifest, signature = _read(folder / MANIFEST), _read(folder / SIGNATURE)
    try:
        signed = msgspec.json.decode(signature, type=_Signature)
        by, proof = bytes.fromhex(signed.identity), bytes.fromhex(signed.signature)
        lines = manifest.decode().splitlines()
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"{folder / SIGNATURE} is damaged ({error})") from None
    if identity is not None and by != identity:
        raise IntegrityError("another appliance than the expected one signed this export")
    verify_statement(by, LABEL, manifest, proof)
    wrong, files, size, named = [], 0, 0, {MANIFEST, SIGNATURE}
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None or not _inside(found[2]):
            raise IntegrityError(f"the manifest has a line that no export has: {line[:80]!r}")
        named.add(found[2])
        told(found[2])
        path = folder / found[2]
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                length = file.tell()
        except OSError as error:
            wrong.append(f"{found[2]}: {error.strerror}")
            continue
        if digest != found[1]:
            wrong.append(f"{found[2]}: it was altered")
            continue
        files, size = files + 1, size + length
    wrong += [
        f"{name}: the manifest does not name it"
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and (name := path.relative_to(folder).as_posix()) not in named
    ]
    return Checked(by, files, size, tuple(wrong))


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): this is no whole export") from None
