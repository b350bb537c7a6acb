"""The agent's home folder, its config.json, and the lock that keeps two runs apart.

Owns every path below the home, and the strict reading and whole-or-not-at-all writing of the settings. A file
that cannot be read is named and left alone: it may hold the only copy of a selection. Keys are not settings;
they live in keys/ through `transport.keys`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from agent.errors import BusyError, NotEnrolledError, SelectionError, SettingsError
from agent.limits import Limits
from agent.notice_settings import NoticeSettings
from agent.onsite.configured import OnSite
from agent.proxy import NO_PROXY, ProxySettings
from agent.selection import Selection
from agent.sources.configured import Databases, Hooks, Volumes
from agent.system import descriptors
from transport.enrolment import NO_TOKEN, EnrolmentCode
from transport.keys import write_key_file
from transport.names import InstallationId, RepositoryId, VaultId
from transport.schedule import Schedule

HOME_VARIABLE: Final = "PILULIER_AGENT_HOME"
DEFAULT_HOME: Final = Path("/var/lib/pilulier-agent")
SETTINGS_FORMAT: Final = 1
_SETTINGS_LIMIT: Final = 16 << 20
_HEX_PREFIX: Final = "hex:"
_CHANGE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class AgentHome:
    """Every path of an agent's home. Making one touches no disk."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings, JSON."""
        return self.path / "config.json"

    @property
    def keys(self) -> Path:
        """The folder of key files, 0700."""
        return self.path / "keys"

    @property
    def machine_key(self) -> Path:
        """The secret from which data keys derive."""
        return self.keys / "machine.key"

    @property
    def signing_key(self) -> Path:
        """This installation's Ed25519 seed."""
        return self.keys / "signing.key"

    @property
    def curve_key(self) -> Path:
        """This machine's CURVE key pair."""
        return self.keys / "curve.key"

    @property
    def proxy_password(self) -> Path:
        """What the proxy asks for, where it asks."""
        return self.keys / "proxy.password"

    @property
    def left_key(self) -> Path:
        """Which envelope was left with the appliance last: no secret, and worth nothing when lost."""
        return self.keys / "left.json"

    @property
    def wrapped_key(self) -> Path:
        """The machine key under its owner's passphrase, as the appliance holds it too."""
        return self.keys / "wrapped.key"

    @property
    def ledger(self) -> Path:
        """What was sent; staging.db beside it holds what is not committed yet."""
        return self.path / "ledger.db"

    @property
    def pending(self) -> Path:
        """Acknowledged segments that no snapshot names yet."""
        return self.path / "pending.log"

    @property
    def signatures(self) -> Path:
        """librsync signatures by version, two levels deep."""
        return self.path / "signatures"

    @property
    def state(self) -> Path:
        """What the last run did, for `status`."""
        return self.path / "state.json"

    @property
    def reported(self) -> Path:
        """What the appliance was told of the settings last."""
        return self.path / "reported.json"

    @property
    def left_settings(self) -> Path:
        """The digest of the settings that were left with the appliance last."""
        return self.path / "left-settings"

    @property
    def recovery(self) -> Path:
        """What opens restores without another code for a while after a recovery, 0600."""
        return self.path / "recovery.json"

    @property
    def unsent(self) -> Path:
        """Log lines that the appliance has not heard yet."""
        return self.path / "unsent.jsonl"

    @property
    def diary(self) -> Path:
        """What ran on this machine and how it ended, for its own people."""
        return self.path / "diary.jsonl"

    @property
    def under_way(self) -> Path:
        """How far the run is that holds the home now."""
        return self.path / "running.json"

    @property
    def interface(self) -> Path:
        """The folder of the local interface: where it listens, and tokens that open it once."""
        return self.path / "interface"

    @property
    def interface_lock(self) -> Path:
        """Held by the one local interface of this home."""
        return self.path / "interface.lock"

    def receiving_key(self, number: int) -> Path:
        """The key that another machine's files are sealed to for one delivery; gone with that."""
        return self.keys / f"receiving-{number}.key"

    @property
    def deliveries(self) -> Path:
        """What is known of deliveries, and where they landed."""
        return self.path / "deliveries.json"

    @property
    def books(self) -> Path:
        """What the scheduler remembers."""
        return self.path / "schedule.json"

    @property
    def hook_runs(self) -> Path:
        """How hooks ended, and what they said."""
        return self.path / "hooks.jsonl"

    @property
    def large_databases(self) -> Path:
        """The sizes of databases of which a word was said."""
        return self.path / "large-databases.json"

    @property
    def dumps(self) -> Path:
        """What a database's dump needs on the disk while it runs."""
        return self.path / "dumps"

    @property
    def canaries(self) -> Path:
        """Where decoys lie, and what became of them."""
        return self.path / "canaries.json"

    @property
    def notices(self) -> Path:
        """What was shown on the screen last."""
        return self.path / "notices.json"

    @property
    def sealed_entries(self) -> Path:
        """The sealed entries of the present tree, for copies on site."""
        return self.path / "onsite.db"

    @property
    def copies(self) -> Path:
        """When each copy on site was written last, and which snapshots it holds."""
        return self.path / "onsite.json"

    @property
    def stale(self) -> Path:
        """Files without a fresh copy, and how old their last good one is."""
        return self.path / "stale.json"

    @property
    def guards(self) -> Path:
        """What guards remember of the last complete run: which disks there were, what was told already."""
        return self.path / "guards.json"

    @property
    def marks(self) -> Path:
        """Folders that a backup under way was told to look at, and no others."""
        return self.path / "marks"

    @property
    def troubled(self) -> Path:
        """Paths that the last backup could not read."""
        return self.path / "troubled"

    @property
    def service(self) -> Path:
        """Where the running service listens for a knock."""
        return self.path / "service.json"

    @property
    def service_lock(self) -> Path:
        """Held by the one service of this home."""
        return self.path / "service.lock"

    @property
    def config_lock(self) -> Path:
        """Held for the moment of a change of config.json."""
        return self.path / "config.lock"

    @property
    def lock(self) -> Path:
        """Held by the one run that may write here."""
        return self.path / "lock"

    def create(self) -> None:
        """Make the folders, readable by their owner only; existing ones stay as they are."""
        for folder in (self.path, self.keys, self.signatures):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def agent_home(given: str | None = None) -> AgentHome:
    """The home from `--home`, else the environment, else /var/lib/pilulier-agent."""
    path = Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
    return AgentHome(path.absolute())


class DeltaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a changed file travels as a delta, and when a delta gives up and the file goes whole."""

    enabled: bool = True
    minimum_bytes: Annotated[int, Meta(ge=0)] = 64 * 1024
    literal_share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """A delta whose literals pass this share of the file gives up."""
    seconds_per_gib: Annotated[float, Meta(gt=0)] = 60.0
    """Time budget, on top of a fixed few seconds."""


class RemoteState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that the appliance sent: whether they may be, and what became of them. Versions are the appliance's."""

    allowed: bool = True
    """The owner's word; nothing that the appliance says changes it."""
    answered: int = 0
    """The newest version whose outcome is known here."""
    applied: int = 0
    """The newest version that was taken over."""
    outcome: Literal["none", "applied", "refused", "invalid"] = "none"
    reason: str = ""
    selection_version: int = 0
    """The version that the selection stands from; 0 where it was made on this machine."""
    schedule_version: int = 0
    language: str = ""
    """As the appliance said it last."""


class ReceivingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where deliveries get their folders (see `agent.receiving`); empty for `received` in the agent's home."""

    folder: str = ""


DEFAULT_SCHEDULE: Final = Schedule.of(["12:30", "19:30"])
"""At noon and in the evening, every day: a day of work is then never lost, and each run is short."""


@dataclass(frozen=True, slots=True)
class ApplianceAddress:
    """Where the appliance is and who it must be: endpoints in the order tried, identity and CURVE key (32 bytes)."""

    endpoints: tuple[str, ...]
    identity: bytes
    curve_key: bytes
    enrolment: tuple[str, ...] = ()
    """Where machines enrol and are recovered; unknown to those enrolled long ago."""

    def code(self) -> str:
        """The address code (see `transport.enrolment`), which a recovery begins with."""
        doors = self.enrolment or tuple(map(_next_port, self.endpoints))
        return EnrolmentCode(list(self.endpoints), list(doors), self.identity, self.curve_key, NO_TOKEN).encode()


def _next_port(endpoint: str) -> str:
    """Where an appliance opens enrolment unless it is told otherwise."""
    host, _, port = endpoint.rpartition(":")
    return f"{host}:{int(port) + 1}" if port.isdecimal() else endpoint


KeptAs = Literal["local", "confided", "private"]
"""Who holds the machine key besides this machine: nobody, the appliance, or the appliance under a passphrase."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that config.json says."""

    machine: RepositoryId
    name: str
    contract: str
    vault: VaultId
    installation: InstallationId
    appliance: ApplianceAddress
    selection: Selection = Selection()
    delta: DeltaSettings = DeltaSettings()
    key_mode: KeptAs = "local"
    schedule: Schedule = DEFAULT_SCHEDULE
    language: str = ""
    """Of the local interface and of messages on this machine; empty for the system's."""
    remote: RemoteState = RemoteState()
    hooks: Hooks = Hooks()
    receiving: ReceivingSettings = ReceivingSettings()
    databases: Databases = Databases()
    volumes: Volumes = Volumes()
    limits: Limits = Limits()
    proxy: ProxySettings = NO_PROXY
    notices: NoticeSettings = NoticeSettings()
    onsite: OnSite = OnSite()

    @property
    def has_source(self) -> bool:
        """Whether there is anything to back up: paths, or databases to dump."""
        return bool(self.selection.include or self.databases.sources)


_HexId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_HexKey = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _ApplianceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoints: Annotated[list[str], Meta(min_length=1)]
    identity: _HexKey
    curve_key: _HexKey
    enrolment: list[str] = []


class _SelectionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include: list[str] = []
    exclude: list[str] = []


class _SettingsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """config.json: ids and keys in lower-case hex, paths as text."""

    format: int
    machine: _HexId
    name: Annotated[str, Meta(min_length=1)]
    contract: str
    vault: _HexId
    installation: _HexId
    appliance: _ApplianceFile
    selection: _SelectionFile = _SelectionFile()
    delta: DeltaSettings = DeltaSettings()
    key_mode: KeptAs = "local"
    schedule: Schedule = DEFAULT_SCHEDULE
    language: str = ""
    remote: RemoteState = RemoteState()
    hooks: Hooks = Hooks()
    databases: Databases = Databases()
    volumes: Volumes = Volumes()
    limits: Limits = Limits()
    proxy: ProxySettings = NO_PROXY
    notices: NoticeSettings = NoticeSettings()
    receiving: ReceivingSettings = ReceivingSettings()
    onsite: OnSite = OnSite()


_decoder = msgspec.json.Decoder(_SettingsFile)


def _rule_text(rule: bytes) -> str:
    """A rule as JSON text: itself where it is UTF-8, else `hex:` and its bytes."""
    try:
        text = rule.decode()
    except UnicodeDecodeError:
        return _HEX_PREFIX + rule.hex()
    return _HEX_PREFIX + rule.hex() if text.startswith(_HEX_PREFIX) else text


def _rule_bytes(text: str) -> bytes:
    return bytes.fromhex(text[len(_HEX_PREFIX) :]) if text.startswith(_HEX_PREFIX) else text.encode()


def load_settings(home: AgentHome) -> Settings:
    """The settings; NotEnrolledError without a config.json, SettingsError where it cannot be understood."""
    try:
        with open(home.config, "rb") as file:
            data = file.read(_SETTINGS_LIMIT + 1)
    except FileNotFoundError:
        raise NotEnrolledError("this machine is not enrolled: run pilulier-agent enrol CODE") from None
    except OSError as error:
        raise SettingsError(f"{home.config} cannot be read: {error.strerror}") from None
    try:
        if len(data) > _SETTINGS_LIMIT:
            raise ValueError(f"longer than {_SETTINGS_LIMIT} bytes")
        stored = _decoder.decode(data)
        if stored.format != SETTINGS_FORMAT:
            raise ValueError(f"format {stored.format}, this program reads {SETTINGS_FORMAT}")
        return Settings(
            machine=RepositoryId(bytes.fromhex(stored.machine)),
            name=stored.name,
            contract=stored.contract,
            vault=VaultId(bytes.fromhex(stored.vault)),
            installation=InstallationId(bytes.fromhex(stored.installation)),
            appliance=ApplianceAddress(
                tuple(stored.appliance.endpoints),
                bytes.fromhex(stored.appliance.identity),
                bytes.fromhex(stored.appliance.curve_key),
                tuple(stored.appliance.enrolment),
            ),
            selection=Selection.of(
                map(_rule_bytes, stored.selection.include), map(_rule_bytes, stored.selection.exclude)
            ),
            delta=stored.delta,
            key_mode=stored.key_mode,
            schedule=stored.schedule,
            language=stored.language,
            remote=stored.remote,
            hooks=stored.hooks,
            databases=stored.databases,
            volumes=stored.volumes,
            limits=stored.limits,
            proxy=stored.proxy,
            notices=stored.notices,
            receiving=stored.receiving,
            onsite=stored.onsite,
        )
    except (msgspec.MsgspecError, SelectionError, ValueError) as error:
        raise SettingsError(
            f"{home.config} is damaged or of another version ({error}): mend it or put a copy back; "
            "it was left as it is"
        ) from None


def save_settings(home: AgentHome, settings: Settings) -> None:
    """Write config.json whole or not at all; SettingsError where a file stands there that cannot be understood."""
    with contextlib.suppress(NotEnrolledError):
        load_settings(home)
    stored = _SettingsFile(
        format=SETTINGS_FORMAT,
        machine=settings.machine.hex(),
        name=settings.name,
        contract=settings.contract,
        vault=settings.vault.hex(),
        installation=settings.installation.hex(),
        appliance=_ApplianceFile(
            list(settings.appliance.endpoints),
            settings.appliance.identity.hex(),
            settings.appliance.curve_key.hex(),
            list(settings.appliance.enrolment),
        ),
        selection=_SelectionFile(
            [_rule_text(rule) for rule in settings.selection.include],
            [_rule_text(rule) for rule in settings.selection.exclude],
        ),
        delta=settings.delta,
        key_mode=settings.key_mode,
        schedule=settings.schedule,
        language=settings.language,
        remote=settings.remote,
        hooks=settings.hooks,
        databases=settings.databases,
        volumes=settings.volumes,
        limits=settings.limits,
        proxy=settings.proxy,
        notices=settings.notices,
        receiving=settings.receiving,
        onsite=settings.onsite,
    )
    write_key_file(home.config, msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")


def change_settings(home: AgentHome, change: Callable[[Settings], Settings]) -> Settings:
    """Read, change and write config.json as one: a service and a command may both want to. Returns what stands now."""
    with exclusive(home, "change of settings", lock=home.config_lock, patience_s=_CHANGE_S):
        settings = load_settings(home)
        changed = change(settings)
        if changed != settings:
            save_settings(home, changed)
        return changed


@contextlib.contextmanager
def exclusive(
    home: AgentHome, doing: str = "backup", *, lock: Path | None = None, patience_s: float = 0.1
) -> Iterator[None]:
    """Hold the home for one run, or `lock`; BusyError names the process that has it.

    A killed holder leaves no lock behind.
    """
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(lock or home.lock, descriptors.KEEP, 0o600)
    try:
        try:
            _lock_soon(descriptor, patience_s)
        except OSError:
            holder = descriptors.read_at(descriptor, 200, 0)
            pid, _, what = holder.decode("utf-8", "replace").strip().partition(" ")
            raise BusyError(
                f"a {what or 'run'} of this agent is already going on (process {pid or 'unknown'}): "
                "wait for it to end, or stop it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {doing}\n".encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock_soon(descriptor: int, patience_s: float) -> None:
    """Take the lock, waiting a tenth of a second by default: `status` holds it for an instant to see who runs."""
    for _ in range(round(patience_s / 0.02)):
        with contextlib.suppress(OSError):
            return descriptors.lock_now(descriptor)
        time.sleep(0.02)
    descriptors.lock_now(descriptor)
