"""Export of a whole contract for another host: sealed repositories, what they are, a reader, a procedure, a signature.

Owns what goes in and in which order; where it goes is `export_target`'s. Rules: nothing is opened and no key is needed;
each repository is copied as it stood at one moment, while its agent may go on backing up (`store.duplicate`); wrapped
keys go along only where they are asked for; the manifest over everything comes last and is signed by the appliance's
identity, so that what lacks it is no export. Memory does not grow with the contract.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from appliance import export_target, reader_bundle
from appliance.control import machine_keys, machines
from appliance.control.contracts import Contract
from appliance.control.database import Database
from appliance.control.machines import Machine
from appliance.control.scope import EVERYTHING, OneContract
from appliance.export_target import MANIFEST, Target
from appliance.export_words import read_me
from appliance.settings import Home
from appliance.store.duplicate import HeldStill, held_still
from appliance.store.layout import Layout

LABEL: Final = "export"
FORMAT: Final = "pilulier-export/1"
WAIT_S: Final = 60.0
"""How long a repository that is pruned or scrubbed is waited for."""
_SPARE_BYTES: Final = 16 << 20
"""Beside repositories: reader, manifest, blocks of small files."""


class _Machine(msgspec.Struct, frozen=True):
    machine: str
    name: str
    vault: str
    signing_public: str
    state: str
    platform: str
    head: int
    """The newest commit's number when it was copied."""
    bytes: int
    wrapped_key: str
    """confided, private, or empty where the appliance holds none."""


class _Description(msgspec.Struct, frozen=True):
    """contract.json."""

    format: str
    exported_at: int
    identity: str
    contract: str
    client: str
    email: str
    created_at: int
    end: str | None
    allocated_bytes: int
    escrow: str
    with_wrapped_keys: bool
    machines: list[_Machine]


class _Signature(msgspec.Struct, frozen=True):
    """MANIFEST.sig: over `pilulier/sign/statement/1`, 0, `export`, 0, and the bytes of MANIFEST.sha256."""

    identity: str
    signature: str


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was made. `size_bytes` is of the repositories."""

    path: Path
    machines: int
    size_bytes: int
    identity: bytes


def write_export(
    home: Home,
    db: Database,
    contract: Contract,
    path: Path,
    *,
    now: float,
    with_wrapped_keys: bool = False,
    reserve_share: float = 0.0,
    check: Callable[[], None] = lambda: None,
) -> Exported:
    """Write the export of a contract to `path`, which must not exist: a tar where it ends in .tar, else a folder.

    ExportError where there is no room or a file is missing, BusyRepositoryError where a repository is pruned for long,
    UsageError for a path that cannot be. Nothing that looks finished is left then. `reserve_share` of the disk
    stays free for others. `check` is called between pieces and
    may raise.
    """
    identity = home.load_identity()
    every = [one.machine for one in machines.overviews(db, OneContract(contract.id))]
    needed = _SPARE_BYTES + sum(_size_of(home.repository(machine.id)) for machine in every)
    described: list[_Machine] = []
    with export_target.opened(path, needed, now, check, reserve_share) as target:
        for machine in every:
            held = machine_keys.find(db, EVERYTHING, machine.id)
            copied = _repository(home, machine, target, path.parent)
            size = sum(pack.size_bytes for pack in copied.packs)
            mode = "" if held is None else str(held.mode)
            described.append(_described(machine, copied.head, size, mode))
            if held is not None and with_wrapped_keys:
                _add(target, f"wrapped-keys/{machine.hex}.{mode}", held.envelope)
        total = sum(one.bytes for one in described)
        description = _Description(
            format=FORMAT,
            exported_at=int(now),
            identity=identity.public.hex(),
            contract=contract.id,
            client=contract.client_id,
            email=contract.email,
            created_at=int(contract.created_at),
            end=contract.end_date.isoformat() if contract.end_date else None,
            allocated_bytes=contract.allocated_bytes,
            escrow=str(contract.escrow),
            with_wrapped_keys=with_wrapped_keys,
            machines=described,
        )
        _add(target, "contract.json", msgspec.json.format(msgspec.json.encode(description), indent=2) + b"\n")
        shown = [(one.machine, one.name, one.bytes) for one in described]
        words = read_me(contract.client_id, now, shown, identity.public.hex(), with_keys=with_wrapped_keys)
        _add(target, "LISEZ-MOI.md", words.encode())
        _add(target, f"reader/{reader_bundle.NAME}", reader_bundle.reader())
        _add(target, "reader/requirements.txt", "".join(f"{need}\n" for need in reader_bundle.NEEDS).encode())
        _add(target, "reader/FORMAT.md", files("appliance.store").joinpath("FORMAT.md").read_bytes())
        manifest = target.manifest()
        signature = _Signature(identity.public.hex(), identity.sign_statement(LABEL, manifest).hex())
        _add(target, "MANIFEST.sig", msgspec.json.encode(signature) + b"\n")
        _add(target, MANIFEST, manifest)
    return Exported(path, len(every), total, identity.public)


def _described(machine: Machine, head: int, size: int, mode: str) -> _Machine:
    return _Machine(
        machine=machine.hex,
        name=machine.name,
        vault=machine.vault.hex(),
        signing_public=machine.signing_key.hex(),
        state=str(machine.state),
        platform=machine.platform,
        head=head,
        bytes=size,
        wrapped_key=mode,
    )


def _add(target: Target, name: str, content: bytes) -> None:
    target.add(name, io.BytesIO(content), len(content))


def _repository(home: Home, machine: Machine, target: Target, beside: Path) -> HeldStill:
    """One repository, as it stands now; a machine that never made one has none."""
    folder = home.repository(machine.id)
    if not Layout(folder).catalog.exists():
        return HeldStill((), 0)
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix=".pilulier-catalog-", dir=beside))
        catalog = Path(place, Layout(folder).catalog.name)
        held = stack.enter_context(held_still(folder, catalog, wait_s=WAIT_S))
        top = f"machines/{machine.hex}"
        with open(catalog, "rb") as file:
            target.add(f"{top}/{catalog.name}", file, os.fstat(file.fileno()).st_size)
        for pack in held.packs:
            with open(pack.path, "rb") as file:
                target.add(f"{top}/packs/{pack.file.name}", file, pack.size_bytes)
    return held


def _size_of(folder: Path) -> int:
    """Bytes of a repository's files, and of its catalog once more while it is copied."""
    layout = Layout(folder)
    if not layout.packs.is_dir():
        return 0
    packs = sum(entry.stat().st_size for entry in os.scandir(layout.packs))
    return packs + 2 * (layout.catalog.stat().st_size if layout.catalog.exists() else 0)
