"""The appliance's home folder: every path in it, its settings file, its keys, its locks.

Rules: folders are 0700 and secret files 0600; a marker file, written last, says that the folder is a home, so
that neither a half-made one nor an unmounted disk is mistaken for it; a settings file that does not read strictly
is an error that names it, never a default. Knows nothing of what the control database or repositories hold.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.errors import AlreadyServingError, HomeError
from transport.errors import KeyFileError
from transport.keys import SigningKey, read_key_file, write_key_file

if TYPE_CHECKING:
    from transport.channel import CurveKeys

DEFAULT_HOME: Final = "/var/lib/pilulier"
DEFAULT_LISTEN: Final = "tcp://0.0.0.0:9444"
DEFAULT_WEB: Final = "127.0.0.1:8787"
_MARKER_NAME: Final = ".pilulier-home"
_MARKER: Final = b"This folder is the home of a Pilulier appliance. Without this file it counts as not mounted.\n"
_IDENTITY_LABEL: Final = b"pilulier-identity-1 "
_CURVE_LABEL: Final = b"pilulier-curve-1 "
_WEB_LABEL: Final = b"pilulier-web-1 "
_SETTINGS_LIMIT: Final = 65536


class ChosenPorts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ports picked for addresses whose configured port is 0; 0 where none was picked yet."""

    transport: int = 0
    enrolment: int = 0
    web: int = 0


class MailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The mail server that takes our mails. `host` empty: none is sent. The password is no setting but a secret file.

    `security`: starttls, tls (from the first byte), or none, for a server on this machine. `authority`: a file of
    certificates to believe beside the system's own.
    """

    host: str = ""
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    sender: str = ""
    sender_name: str = ""
    authority: str = ""
    quiet_from: Annotated[int, Meta(ge=0, le=23)] = 0
    quiet_until: Annotated[int, Meta(ge=0, le=23)] = 0
    """Hours of the day in which only what cannot wait is mailed; none where both are the same."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """settings.json. `enrol_listen` empty: the port after `listen`'s; `public_host` empty: derived from `listen`.

    `web_certificate` and `web_key`: files for TLS, absolute paths. `behind_proxy`: a proxy in front ends TLS instead.
    """

    version: int = 1
    listen: str = DEFAULT_LISTEN
    enrol_listen: str = ""
    web: str = DEFAULT_WEB
    public_host: str = ""
    web_certificate: str = ""
    web_key: str = ""
    behind_proxy: bool = False
    spread_minutes: Annotated[int, Meta(ge=0, le=240)] = 20
    """Scheduled backups of all machines begin spread over so many minutes after their time."""
    chosen_ports: ChosenPorts = ChosenPorts()
    mail: MailSettings = MailSettings()
    public_url: str = ""
    """Where people reach the web interface, for links in mails; no slash at its end."""
    safety_folder: str = ""
    """Where safety copies of the appliance itself go, an absolute path; empty: `safety` in the home."""
    webhooks_private: bool = False
    """Webhooks may go to this machine and its network, and unencrypted: for receivers on site."""
    safety_days: Annotated[int, Meta(ge=1, le=365)] = 14


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one appliance. Making one checks nothing: `Home.open` does."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Home:
        """The home at `root`; HomeError unless it was initialised and its disk is mounted."""
        home = cls(root.absolute())
        if not home.marker.is_file():
            raise HomeError(
                f"{home.root} is not a Pilulier home: run 'pilulier init' first, or mount its disk if it was one"
            )
        if not home.repositories_marker.is_file():
            raise HomeError(
                f"{home.repositories} has lost its marker file: mount its disk, or copy {_MARKER_NAME} there"
            )
        return home

    @property
    def marker(self) -> Path:
        """Says that this folder is a home."""
        return self.root / _MARKER_NAME

    @property
    def repositories_marker(self) -> Path:
        """The same for the repositories, which may lie on a disk of their own."""
        return self.repositories / _MARKER_NAME

    @property
    def settings_file(self) -> Path:
        """Addresses."""
        return self.root / "settings.json"

    @property
    def control_db(self) -> Path:
        """The control database."""
        return self.root / "control.db"

    @property
    def jobs_db(self) -> Path:
        """The job queue's wake-ups."""
        return self.root / "jobs.db"

    @property
    def running_file(self) -> Path:
        """What backups are under way, for the web interface; worth nothing after a restart."""
        return self.root / "running.json"

    @property
    def spool(self) -> Path:
        """Parcels that wait for their machines: sealed, and gone when they are taken."""
        return self.root / "spool"

    @property
    def repositories(self) -> Path:
        """One folder per machine."""
        return self.root / "repositories"

    def repository(self, machine_id: bytes) -> Path:
        """The folder of one machine's repository."""
        return self.repositories / machine_id.hex()

    @property
    def keys(self) -> Path:
        """Secret files, 0600."""
        return self.root / "keys"

    @property
    def identity_key(self) -> Path:
        """The Ed25519 key that enrolment codes pin."""
        return self.keys / "identity.key"

    @property
    def curve_key(self) -> Path:
        """The key pair of the connections."""
        return self.keys / "curve.key"

    @property
    def web_key(self) -> Path:
        """What signs the cookies of the web interface; a new one only logs everybody out."""
        return self.keys / "web.key"

    @property
    def mail_password(self) -> Path:
        """What the mail server asks for; a systemd credential named `mail-password` goes before it."""
        return self.keys / "mail.password"

    @property
    def safety_key(self) -> Path:
        """What safety copies are sealed under; on paper in a safe too."""
        return self.keys / "safety.key"

    @property
    def metrics_token(self) -> Path:
        """What a monitoring system shows to read the metrics."""
        return self.keys / "metrics.token"

    @property
    def logs(self) -> Path:
        """Details that do not belong on a terminal."""
        return self.root / "logs"

    @property
    def exports(self) -> Path:
        """Exports of contracts that the web asked for, until they are over."""
        return self.root / "exports"

    @property
    def cache(self) -> Path:
        """What can be found out again: which fonts this machine has."""
        return self.root / "cache"

    @property
    def service_lock(self) -> Path:
        """Held for as long as a service runs on this home."""
        return self.root / "serve.lock"

    @property
    def escrow_socket(self) -> Path:
        """Where the running service takes and gives unlocked escrow keys."""
        return self.root / "escrow.sock"

    @property
    def settings_lock(self) -> Path:
        """Held while settings are read and rewritten."""
        return self.root / "settings.lock"

    def load_settings(self) -> Settings:
        """settings.json, strictly; HomeError where it is missing, damaged or of a newer version."""
        path = self.settings_file
        repair = "put it back from a backup or correct it by hand"
        try:
            with open(path, "rb") as file:
                content = file.read(_SETTINGS_LIMIT + 1)
        except OSError as error:
            raise HomeError(f"{path} cannot be read ({error.strerror}): {repair}") from None
        try:
            settings = msgspec.json.decode(content[: _SETTINGS_LIMIT + 1], type=Settings)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HomeError(f"{path} is damaged ({error}): {repair}") from None
        if settings.version != 1:
            raise HomeError(f"{path} is of version {settings.version}, this Pilulier reads 1: update this program")
        return settings

    def save_settings(self, settings: Settings) -> None:
        """Replace settings.json, whole or not at all."""
        try:
            write_key_file(self.settings_file, msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
        except OSError as error:
            raise HomeError(f"{self.settings_file} cannot be written: {error.strerror}") from None

    @contextmanager
    def settings_locked(self) -> Iterator[None]:
        """Keep other processes from rewriting the settings meanwhile."""
        descriptor = _open_lock(self.settings_lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Hold the home as its only service; AlreadyServingError where another one does."""
        descriptor = _open_lock(self.service_lock)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyServingError(
                    f"another 'pilulier serve' runs on {self.root}: stop it first, or give another --home"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def is_served(self) -> bool:
        """Whether a service holds the home now."""
        try:
            with self.serving():
                return False
        except AlreadyServingError:
            return True

    def load_identity(self) -> SigningKey:
        """The appliance's identity; KeyFileError where its file is missing, open to others or damaged."""
        (seed,) = _read_keys(self.identity_key, _IDENTITY_LABEL, 1)
        return SigningKey(seed)

    def load_curve_keys(self) -> CurveKeys:
        """The CURVE key pair; KeyFileError as for the identity."""
        from transport.channel import CurveKeys

        public, secret = _read_keys(self.curve_key, _CURVE_LABEL, 2)
        return CurveKeys(public, secret)

    def load_web_key(self) -> bytes:
        """What signs cookies, 32 bytes; made where a home does not have it yet."""
        if not self.web_key.exists():
            with self.settings_locked():
                if not self.web_key.exists():
                    write_key_file(self.web_key, _WEB_LABEL + secrets.token_hex(32).encode() + b"\n")
        (key,) = _read_keys(self.web_key, _WEB_LABEL, 1)
        return key

    def curve_public(self) -> bytes:
        """The public half of the CURVE key pair, 32 bytes, without loading ZeroMQ."""
        return _read_keys(self.curve_key, _CURVE_LABEL, 2)[0]


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeError(
            f"{path} cannot be opened ({error.strerror}): run this as the user that owns the home"
        ) from None


def _read_keys(path: Path, label: bytes, count: int) -> list[bytes]:
    content = read_key_file(path, 1024)
    damaged = f"{path} is damaged: put it back from a backup (a new key would lock every agent out)"
    if not content.startswith(label):
        raise KeyFileError(damaged)
    try:
        keys = [bytes.fromhex(word.decode("ascii")) for word in content[len(label) :].split()]
    except ValueError:
        raise KeyFileError(damaged) from None
    if len(keys) != count or any(len(key) != 32 for key in keys):
        raise KeyFileError(damaged)
    return keys


@contextmanager
def initialising(root: Path, settings: Settings) -> Iterator[Home]:
    """Make a new home; it becomes one when the block ends well, and vanishes again when it does not.

    HomeError where `root` is, or holds part of, a home already. Within the block the folders, keys and settings exist.
    """
    home = Home(root.absolute())
    if home.marker.exists():
        raise HomeError(f"{home.root} is a Pilulier home already: its keys and contracts are not made anew")
    parts = (home.control_db, home.keys, home.repositories, home.settings_file)
    for part in parts:
        if part.exists():
            raise HomeError(
                f"{home.root} holds part of a Pilulier home ({part.name}): mount the rest, or choose an empty folder"
            )
    try:
        root_is_new = _make_folder(home.root)
    except OSError as error:
        raise HomeError(f"{home.root} cannot be made ({error.strerror}): choose a folder you may write to") from None
    try:
        for folder in (home.keys, home.repositories, home.logs):
            _make_folder(folder)
        _write_new_keys(home)
        home.save_settings(settings)
        yield home
        write_key_file(home.repositories_marker, _MARKER)
        write_key_file(home.marker, _MARKER)
    except BaseException as error:
        for part in (*parts, home.logs, home.marker, home.settings_lock):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
        if root_is_new:
            home.root.rmdir()
        if isinstance(error, OSError):
            raise HomeError(f"{home.root} cannot be written ({error.strerror}): choose another folder") from None
        raise


@contextmanager
def putting_back(root: Path) -> Iterator[Home]:
    """Make a home out of a copy: as `initialising`, but repositories may be there, and stay whatever happens.

    Within the block the folders exist, and the caller fills in keys, settings and database.
    """
    home = Home(root.absolute())
    for part in (home.marker, home.control_db, home.keys, home.settings_file):
        if part.exists():
            raise HomeError(f"{home.root} holds {part.name} already: put an appliance back into an empty folder only")
    try:
        _make_folder(home.root)
        for folder in (home.keys, home.logs):
            _make_folder(folder)
        yield home
        _make_folder(home.repositories)
        if not home.repositories_marker.exists():
            write_key_file(home.repositories_marker, _MARKER)
        write_key_file(home.marker, _MARKER)
    except BaseException as error:
        for part in (home.control_db, home.settings_file, home.settings_lock, home.marker):
            part.unlink(missing_ok=True)
        for folder in (home.keys, home.logs):
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise HomeError(f"{home.root} cannot be written ({error.strerror}): choose another folder") from None
        raise


def _make_folder(path: Path) -> bool:
    """Whether the folder had to be made; either way it ends as 0700."""
    new = not path.is_dir()
    if new:
        path.mkdir(mode=0o700, parents=True)
    path.chmod(0o700)
    return new


def _write_new_keys(home: Home) -> None:
    from transport.channel import new_curve_keys

    identity = SigningKey.generate()
    write_key_file(home.identity_key, _IDENTITY_LABEL + identity.seed.hex().encode() + b"\n")
    pair = new_curve_keys()
    write_key_file(home.curve_key, _CURVE_LABEL + f"{pair.public.hex()} {pair.secret.hex()}\n".encode())
