"""Where deliveries land, and what is known of them here: the quarantine folder, deliveries.json.

Rules: the folder is this machine's choice alone, and each delivery gets a new one of its own inside it, readable by the
owner of that folder only; a delivery that was cut goes on in the folder that it began, and in no other. What is
remembered is a cache of the appliance's word, for notices and local pages; losing it loses no file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent.client import Client, one_line
from agent.landing_rules import LandingError
from agent.settings import AgentHome, ReceivingSettings, Settings, change_settings, load_settings
from agent.system import descriptors, owners
from agent.system.open_folders import OpenFolder, open_root
from transport import messages as m
from transport.errors import UsageError

_KEPT: Final = 100
_FOLDERS_LIMIT: Final = 10_000
"""New folders of one day that are tried."""


class Begun(msgspec.Struct, frozen=True):
    """A delivery whose restore began here, and in which folder; `done` once it came to its end."""

    number: int
    folder: str
    done: bool = False
    device: int = 0
    inode: int = 0
    """Which folder that was: another one in its place is not entered."""


class Received(msgspec.Struct, frozen=True):
    """All that deliveries.json says: what the appliance last said that it has, and what began here."""

    offered: list[m.Delivery] = []
    begun: list[Begun] = []


def read(home: AgentHome) -> Received:
    """What is known; nothing where the file is missing or cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(home.deliveries.read_bytes(), type=Received)
    return Received()


def _write(home: AgentHome, received: Received) -> None:
    new = home.deliveries.with_name(f"{home.deliveries.name}.{os.getpid()}")
    new.write_bytes(msgspec.json.encode(received))
    os.replace(new, home.deliveries)


def ask(home: AgentHome, client: Client) -> list[m.Delivery]:
    """What the appliance has for this machine, kept for who looks without asking; a disk that does not take it costs a
    notice, no more."""
    told = client.ask(m.DeliveriesQuery(), m.Deliveries).deliveries
    offered = [
        msgspec.structs.replace(one, sender=one_line(one.sender), source=one_line(one.source)) for one in told
    ]
    with contextlib.suppress(OSError):
        _write(home, msgspec.structs.replace(read(home), offered=offered))
    return offered


def waiting(home: AgentHome) -> list[m.Delivery]:
    """What waits for this machine's owner, as far as is known here without asking anybody."""
    now_ms = time.time() * 1000
    return [one for one in read(home).offered if not one.accepted and one.expires_ms > now_ms]


def base_folder(home: AgentHome, settings: Settings | None = None) -> Path:
    """Where deliveries get their folders: chosen on this machine, else `received` in the agent's home."""
    chosen = (settings or load_settings(home)).receiving.folder
    return Path(chosen) if chosen else home.path / "received"


def choose_folder(home: AgentHome, folder: str) -> Path:
    """From now on deliveries land below this folder, which is made where it is missing; UsageError."""
    path = Path(os.path.realpath(folder))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be a folder for deliveries: {error.strerror}") from None
    change_settings(home, lambda settings: dataclasses.replace(settings, receiving=ReceivingSettings(str(path))))
    return path


@dataclass(frozen=True, slots=True)
class Place:
    """A delivery's own folder: where it is, which it is (device and inode), whose what lands in it should be."""

    path: Path
    identity: tuple[int, int]
    uid: int
    gid: int


def folder_of(home: AgentHome, number: int, day: str) -> Place:
    """The folder of a delivery: the one that it began and did not end, or a new one. `day`: as its name says it."""
    known = read(home)
    for one in known.begun:
        if one.number == number and not one.done and (begun := _begun(one)) is not None:
            return begun
    place = _new_folder(base_folder(home), day)
    others = [one for one in known.begun if one.number != number][-_KEPT:]
    device, inode = place.identity
    # Before the first file: what was restored is found again, and a second attempt goes on there.
    _write(
        home,
        msgspec.structs.replace(
            known, begun=[*others, Begun(number, str(place.path), device=device, inode=inode)]
        ),
    )
    return place


def _begun(one: Begun) -> Place | None:
    """The folder, if it is still that one."""
    try:
        status = os.lstat(one.folder)
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or (status.st_dev, status.st_ino) != (one.device, one.inode):
        return None
    return Place(Path(one.folder), (status.st_dev, status.st_ino), status.st_uid, status.st_gid)


def _new_folder(base: Path, day: str) -> Place:
    """A folder that did not exist before: what stands in the way is never entered.

    A service that runs as root gives it to whoever owns the folder above, so that they can open what they were sent.
    """
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        above = open_root(os.fsencode(base))
        try:
            for count in range(1, _FOLDERS_LIMIT):
                name = f"Pilulier restauration {day} {count}"
                with contextlib.suppress(FileExistsError):
                    above.make(os.fsencode(name))
                    return _made(base / name, above)
        finally:
            above.close()
    except OSError as error:
        raise LandingError(
            f"{base} cannot take a delivery ({error.strerror}): pilulier-agent deliveries --folder DIR chooses another"
        ) from None
    raise LandingError(f"{base} holds {_FOLDERS_LIMIT} folders of this day: clear it up")


def _made(path: Path, above: OpenFolder) -> Place:
    """The folder that was just made, by a handle: its owner may be at it already."""
    with contextlib.ExitStack() as stack:
        made = above.enter(os.fsencode(path.name))
        stack.callback(made.close)
        handle = made.handle()
        stack.callback(os.close, handle)
        if owners.is_administrator():
            outer = above.handle()
            stack.callback(os.close, outer)
            owner = os.fstat(outer)
            descriptors.set_owner(handle, owner.st_uid, owner.st_gid)
        status = os.fstat(handle)
        return Place(path, made.identity, status.st_uid, status.st_gid)


def ended(home: AgentHome, number: int) -> None:
    """A delivery came to its end: another of this number would begin anew."""
    known = read(home)
    begun = [msgspec.structs.replace(one, done=True) if one.number == number else one for one in known.begun]
    offered = [one for one in known.offered if one.number != number]
    with contextlib.suppress(OSError):
        _write(home, Received(offered, begun))
