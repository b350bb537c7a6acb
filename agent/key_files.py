"""The exported key: one small file with which a repository can be read, by whoever holds it.

Owns its format: JSON for people to keep, with a checksum that tells a damaged copy from a wrong one. It holds the
machine key, so it is as secret as the data; the signing key is not in it, so that it can read history and never forge
it. A recovery sheet (`recovery_sheet`) is taken as well, and a bare key of 32 bytes, without its protection against a
forged repository.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from transport.enrolment import EnrolmentCode, decode_code
from transport.errors import KeyFileError, UsageError
from transport.keys import read_key_file, write_key_file
from transport.names import RepositoryId, VaultId
from transport.sealing import MACHINE_KEY_BYTES

if TYPE_CHECKING:  # the standalone reader has no ZeroMQ
    from agent.enrolling import Enrolled

KEY_FILE_FORMAT: Final = "pilulier-key/1"
_FILE_LIMIT: Final = 1 << 20
"""Bytes of a key file; a sheet with its picture has the most."""

_HexId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_HexKey = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_HexKeyring = Annotated[str, Meta(pattern="^([0-9a-f]{64}){1,64}$")]


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    name: str
    contract: str
    machine: _HexId
    vault: _HexId
    machine_key: _HexKeyring
    signing_public: _HexKey
    appliance: list[str]
    identity: _HexKey
    checksum: str
    address: Annotated[str, Meta(max_length=5000)] = ""
    """An address code (`transport.enrolment`); files of old have none."""

    def expected(self) -> str:
        named = [name for name in self.__struct_fields__ if name != "checksum" and (name != "address" or self.address)]
        fields = [str(getattr(self, name)) for name in named]
        return hashlib.sha256("\n".join(["pilulier/key-file/1", *fields]).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """What a key file says. All but the key are None for a bare key; `address` is missing in files of old."""

    machine_key: bytes
    repository: RepositoryId | None = None
    vault: VaultId | None = None
    public_key: bytes | None = None
    identity: bytes | None = None
    """Of the appliance that the machine was enrolled with: who may say that another installation took over."""
    address: EnrolmentCode | None = None

    def __repr__(self) -> str:
        return f"RepositoryKey(repository={self.repository.hex() if self.repository else None})"


def export_key(machine: Enrolled, path: Path) -> None:
    """Write the key of an enrolled machine, readable by its owner only; UsageError where a file stands there."""
    if path.exists():
        raise UsageError(f"{path} exists already: choose another name, keys are not overwritten")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder: make it, or choose another one")
    settings = machine.settings
    stored = _KeyFile(
        format=KEY_FILE_FORMAT,
        name=settings.name,
        contract=settings.contract,
        machine=settings.machine.hex(),
        vault=settings.vault.hex(),
        machine_key=machine.keys.machine.hex(),
        signing_public=machine.keys.signing.public.hex(),
        appliance=list(settings.appliance.endpoints),
        identity=settings.appliance.identity.hex(),
        checksum="",
        address=settings.appliance.code(),
    )
    stored = msgspec.structs.replace(stored, checksum=stored.expected())
    write_key_file(path, msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")


def read_exported_key(path: Path) -> RepositoryKey:
    """The key in a file that `export_key` wrote, on a recovery sheet, or a bare one; KeyFileError that says what is
    wrong with it."""
    content = read_key_file(path, _FILE_LIMIT)
    if len(content) == MACHINE_KEY_BYTES:  # no exported file is as short, and one bare key in 256 begins like JSON
        return RepositoryKey(content)
    if not content.lstrip().startswith(b"{"):
        return _on_a_sheet(content, path)
    try:
        stored = msgspec.json.decode(content, type=_KeyFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} is no key of pilulier-agent ({error}): use a file that key export wrote") from None
    if stored.format != KEY_FILE_FORMAT:
        raise KeyFileError(f"{path} is of format {stored.format!r}, this program reads {KEY_FILE_FORMAT!r}")
    if stored.checksum != stored.expected():
        raise KeyFileError(f"{path} is damaged (its checksum does not hold): use another copy of it")
    return RepositoryKey(
        bytes.fromhex(stored.machine_key),
        RepositoryId(bytes.fromhex(stored.machine)),
        VaultId(bytes.fromhex(stored.vault)),
        bytes.fromhex(stored.signing_public),
        bytes.fromhex(stored.identity),
        _address(stored, path),
    )


def _on_a_sheet(content: bytes, path: Path) -> RepositoryKey:
    from agent.recovery_sheet import read_sheet

    try:
        # Editors of some systems write UTF-16; letters and digits are all that is looked at.
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
        found = read_sheet(text)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
    if found is None:
        raise KeyFileError(
            f"{path} is no key of pilulier-agent: use a file that key export wrote, or a recovery sheet's lines, each "
            "with its number: K1, then what stands beside it"
        )
    return found


def _address(stored: _KeyFile, path: Path) -> EnrolmentCode | None:
    if not stored.address:
        return None
    code = decode_code(stored.address)
    if code.identity.hex() != stored.identity:
        raise KeyFileError(f"{path} names two appliances: use another copy of it")
    return code
