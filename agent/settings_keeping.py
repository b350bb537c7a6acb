"""This machine's settings, left with the appliance for the day on which new hardware recovers it.

Sealed under the machine's key like a segment of its own fixed id, since paths are names and names never reach the
appliance in clear. Rule: only what chooses files and times is in it, never a command or a hook: whoever holds a
confided key could write one into the envelope, and recovering must not run anybody's program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from typing import Final

import msgspec

from agent.client import Client
from agent.enrolling import Enrolled
from agent.errors import SelectionError
from agent.limits import Limits
from agent.notice_settings import NoticeSettings
from agent.selection import Selection
from agent.settings import DeltaSettings, KeptAs, RemoteState, Settings
from agent.sources.configured import Volumes
from transport import messages as m
from transport.errors import PilulierError, SealError
from transport.messages_recovery import SEALED_SETTINGS_LIMIT, FormerSettings
from transport.names import SegmentId
from transport.schedule import Schedule
from transport.sealing import Sealer

log = logging.getLogger("pilulier-agent")

_PLACE: Final = SegmentId(hashlib.sha256(b"pilulier/settings/1").digest()[:16])
_RULES: Final = 100_000


class KeptSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comes back. Rules are bytes, as the machine has them."""

    include: list[bytes]
    exclude: list[bytes]
    schedule: Schedule
    delta: DeltaSettings
    language: str
    key_mode: KeptAs = "local"
    """The owner's word on who else may open the backups; the appliance's own is none."""
    databases: list[str] = []
    """Names of databases that were dumped: to be told, and set again by a person."""
    hooks: int = 0
    """How many there were, for the same reason."""
    copies: int = 0
    """On-site copies: each begins anew, on a medium of the new machine."""
    remote: RemoteState = RemoteState()
    """The owner's word on settings from the appliance among it, and what was taken over of them."""
    limits: Limits = Limits()
    notices: NoticeSettings = NoticeSettings()
    volumes: Volumes = Volumes()


_decoder: Final = msgspec.msgpack.Decoder(KeptSettings)


def kept_of(settings: Settings) -> KeptSettings:
    """What is left of these settings."""
    selection = settings.selection
    return KeptSettings(
        *(list(selection.include), list(selection.exclude), settings.schedule, settings.delta, settings.language),
        key_mode=settings.key_mode,
        databases=[source.name for source in settings.databases.sources],
        hooks=len(settings.hooks.before) + len(settings.hooks.after),
        copies=len(settings.onsite.copies),
        remote=settings.remote,
        limits=settings.limits,
        notices=settings.notices,
        volumes=settings.volumes,
    )


def keep_settings(machine: Enrolled, client: Client) -> None:
    """Leave the settings with the appliance where they are others than those left last. Never keeps a backup from
    going on: it is tried again with the next one."""
    data = msgspec.msgpack.encode(kept_of(machine.settings))
    digest = hashlib.sha256(data).hexdigest()
    left = machine.home.left_settings
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if left.read_text() == digest:
            return
    try:
        sealed = bytes(machine.sealer().seal_segment(_PLACE, data))
        if len(sealed) > SEALED_SETTINGS_LIMIT:
            log.warning("the settings are too long to be left with the appliance: a recovery would not bring them back")
            return
        client.ask(m.PutSettings(sealed), m.Noted)
        left.write_text(digest)
    except (PilulierError, OSError) as error:
        log.info("the settings were not left with the appliance this time: %s", error)


def opened(former: FormerSettings, sealer: Sealer) -> KeptSettings | None:
    """The settings that the machine sealed; None where it left none, or they do not open."""
    with contextlib.suppress(SealError, msgspec.MsgspecError, UnicodeDecodeError):
        return _decoder.decode(sealer.open_segment(_PLACE, former.sealed))
    return None


def to_set_again(kept: KeptSettings | None) -> tuple[str, ...]:
    """What the machine had that does not come back by itself, for people: a database's name each, and hooks."""
    if kept is None:
        return ()
    hooks = (f"{kept.hooks} hook{'s' if kept.hooks > 1 else ''}",) if kept.hooks else ()
    copies = (f"{kept.copies} on-site cop{'ies' if kept.copies > 1 else 'y'}",) if kept.copies else ()
    return (*(f"database {name}" for name in kept.databases), *hooks, *copies)


def taken_back(settings: Settings, former: FormerSettings, sealer: Sealer) -> Settings:
    """The settings of a recovered machine: its own as it left them, else what the appliance knows of them."""
    kept = opened(former, sealer)
    include = kept.include if kept is not None else [rule.encode() for rule in former.include]
    exclude = kept.exclude if kept is not None else [rule.encode() for rule in former.exclude]
    selection = settings.selection
    with contextlib.suppress(SelectionError):  # what makes no sense on this system is chosen anew
        selection = Selection.of(include[:_RULES], exclude[:_RULES])
    if kept is None:
        return dataclasses.replace(
            settings,
            selection=selection,
            schedule=former.schedule or settings.schedule,
            language=former.language,
        )
    return dataclasses.replace(
        settings,
        selection=selection,
        schedule=kept.schedule,
        delta=kept.delta,
        language=kept.language,
        key_mode=kept.key_mode,
        remote=kept.remote,
        limits=kept.limits,
        notices=kept.notices,
        volumes=kept.volumes,
    )
