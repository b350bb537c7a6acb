"""The recovery sheet: all that opens a machine's backups, as a person keeps it on paper; and the way back from it.

Owns what stands on a sheet and which of it is typed: lines K1 and up hold the key (machine, vault, public signing key,
keyring with every epoch so far), lines A1 and up the appliance's address code. The K lines alone open a repository in
hand; the A lines add where to recover from, and who must answer there. It is as secret as an exported key, which it
replaces wherever a key file is asked for. How it looks is in `sheet_page`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from agent.key_files import RepositoryKey
from agent.ledger import last_head
from agent.settings import KeptAs
from agent.sheet_lines import Line, find_lines, from_lines, to_lines
from transport.commits import head_code
from transport.enrolment import NO_TOKEN, EnrolmentCode, decode_code
from transport.errors import KeyFileError, SealError
from transport.names import ID_BYTES, RepositoryId, VaultId
from transport.sealing import MACHINE_KEY_BYTES, checked_keyring

if TYPE_CHECKING:  # the standalone reader has no ZeroMQ
    from agent.enrolling import Enrolled

META_NAME: Final = "pilulier-sheet"
"""Of the HTML element that carries the lines once more, for whoever has the file and not the paper."""
_PICTURE_LINES: Final = 32
_PUBLIC_BYTES: Final = 32
_FIXED_BYTES: Final = 2 * ID_BYTES + _PUBLIC_BYTES
_META: Final = re.compile(rf'<meta name="{META_NAME}" content="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Head:
    """The newest snapshot when the sheet was made: what a history that is given back must reach."""

    number: int
    code: str
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """All that a sheet says. Its repr holds no secret."""

    name: str
    contract: str
    endpoints: tuple[str, ...]
    identity: bytes
    address_code: str
    repository: RepositoryId
    vault: VaultId
    kept: KeptAs
    epochs: int
    head: Head | None
    made_ms: int
    key_lines: tuple[Line, ...]
    address_lines: tuple[Line, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """All that is typed."""
        return self.key_lines + self.address_lines

    @property
    def compact(self) -> str:
        """All lines in one, of those characters that a QR code packs best; `read_sheet` takes it."""
        return _compact(self.lines)

    def pictures(self) -> list[str]:
        """What each QR code says: one holds a key that was rotated a few times, cameras read no larger ones well."""
        return [_compact(self.lines[at : at + _PICTURE_LINES]) for at in range(0, len(self.lines), _PICTURE_LINES)]


def _compact(lines: Iterable[Line]) -> str:
    return "/".join(["PILULIER", *(f"{line.label}:{line.symbols}" for line in lines)])


class _Address(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    transport: Annotated[list[str], Meta(min_length=1, max_length=64)]
    enrolment: Annotated[list[str], Meta(min_length=1, max_length=64)]
    identity: Annotated[bytes, Meta(min_length=32, max_length=32)]
    curve_key: Annotated[bytes, Meta(min_length=32, max_length=32)]


_addresses = msgspec.msgpack.Decoder(_Address)


def sheet_of(machine: Enrolled, now_ms: int) -> Sheet:
    """The sheet of an enrolled machine as it stands now."""
    settings, keys = machine.settings, machine.keys
    head = last_head(machine.home)
    code = decode_code(settings.appliance.code())
    address = _Address(code.transport, code.enrolment, code.identity, code.curve_key)
    body = settings.machine + settings.vault + keys.signing.public + checked_keyring(keys.machine)
    return Sheet(
        name=settings.name,
        contract=settings.contract,
        endpoints=settings.appliance.endpoints,
        identity=settings.appliance.identity,
        address_code=settings.appliance.code(),
        repository=settings.machine,
        vault=settings.vault,
        kept=settings.key_mode,
        epochs=len(keys.machine) // MACHINE_KEY_BYTES,
        head=None if head is None else Head(head.decoded().number, head_code(head.hash()), head.decoded().ended_ms),
        made_ms=now_ms,
        key_lines=tuple(to_lines("K", body)),
        address_lines=tuple(to_lines("A", msgspec.msgpack.encode(address))),
    )


def read_sheet(text: str) -> RepositoryKey | None:
    """The key on a sheet: typed lines, what its QR code says, or the file itself, HTML or text.

    None where nothing in `text` looks like a sheet; KeyFileError that names the lines with a typing error, or missing.
    """
    inside = _META.search(text)
    typed = find_lines(re.split(r"[\r\n/]+", html.unescape(inside[1]) if inside else text))
    if typed.wrong:
        raise KeyFileError("; ".join(typed.wrong))
    body = from_lines("K", typed)
    address = from_lines("A", typed)
    if body is None:
        if address is None:
            return None
        raise KeyFileError("the lines of the key, K1 and up, are missing: lines A1 and up say only where it is kept")
    if len(body) <= _FIXED_BYTES:
        raise KeyFileError(f"the key on this sheet has {len(body)} bytes: it was made by another program")
    try:
        keyring = checked_keyring(body[_FIXED_BYTES:])
    except SealError as error:
        raise KeyFileError(f"the key on this sheet cannot be used: {error}") from None
    code = None if address is None else _code(address)
    return RepositoryKey(
        keyring,
        RepositoryId(body[:ID_BYTES]),
        VaultId(body[ID_BYTES : 2 * ID_BYTES]),
        body[2 * ID_BYTES : _FIXED_BYTES],
        None if code is None else code.identity,
        code,
    )


def _code(body: bytes) -> EnrolmentCode:
    try:
        address = _addresses.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise KeyFileError("the address on this sheet is of another version of Pilulier: update this program") from None
    return EnrolmentCode(address.transport, address.enrolment, address.identity, address.curve_key, NO_TOKEN)
