"""The systemd units of the appliance and the agent: templates in `systemd/`, filled in for a home, a user, a command.

What a template may hold is `@NAME@`; a name nobody knows is an error here, not at boot. Values are checked so that no
path can add a line or a word to a unit. Knows nothing of a running systemd.
"""

from __future__ import annotations

import pwd
import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import NotFoundError
from transport.errors import UsageError

APPLIANCE: Final = (
    "pilulier.target",
    "pilulier-migrate.service",
    "pilulier-transport.service",
    "pilulier-web.socket",
    "pilulier-web.service",
    "pilulier-jobs.service",
)
AGENT: Final = ("pilulier-agent.service", "pilulier-agent-backup.service", "pilulier-agent-backup.timer")
_HARDENING: Final = "hardening.conf"
_PLACE: Final = re.compile(r"@([A-Z_]+)@")
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9._/+:,@=-]*")
"""No space, quote, percent, dollar or backslash: each means something to systemd."""
_HOMES: Final = ("/home", "/root", "/run/user")


@dataclass(frozen=True, slots=True)
class Unit:
    """A file for /etc/systemd/system."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Site:
    """What the units of an appliance are filled in for. `command` is how `pilulier` is started, its words in order."""

    home: Path
    user: str
    command: tuple[str, ...]
    web: str
    extra_writable: tuple[Path, ...] = ()


def templates() -> Path:
    """The folder of the templates: beside the packages in a checkout, else where the installer put them."""
    beside = Path(__file__).resolve().parents[1] / "systemd"
    installed = Path(sysconfig.get_path("data")) / "share" / "pilulier" / "systemd"
    for folder in (beside, installed):
        if (folder / APPLIANCE[0]).is_file():
            return folder
    raise NotFoundError(f"the units' templates are neither in {beside} nor in {installed}: install Pilulier again")


def checked_path(path: Path, what: str) -> str:
    """An absolute path that stands in a unit as it is; UsageError otherwise."""
    text = str(path)
    if not path.is_absolute() or not _PLAIN_PATH.fullmatch(text) or "//" in text or "/../" in f"{text}/":
        raise UsageError(f"{what} {text!r} cannot stand in a unit: give an absolute path of plain letters")
    return text


def appliance_units(site: Site) -> list[Unit]:
    """The appliance's units; UsageError for a user that is none or a path that cannot stand in a unit."""
    try:
        account = pwd.getpwnam(site.user)
    except KeyError:
        raise UsageError(
            f"there is no user {site.user!r} here: make one with 'useradd --system', or give --user"
        ) from None
    home = checked_path(site.home, "the home")
    programs = [Path(word) for word in site.command if word.startswith("/")]
    hidden = any(_below(path, _HOMES) for path in (site.home, *programs))
    values = {
        "HOME": home,
        "USER": account.pw_name,
        "GROUP": str(account.pw_gid),
        "COMMAND": _command(site.command),
        "WEB": _checked_listen(site.web),
        "WRITABLE": " ".join([home, *(checked_path(path, "the folder") for path in site.extra_writable)]),
        # What lies in people's homes stays visible only where the appliance itself lies there.
        "PROTECT_HOME": "read-only" if hidden else "yes",
    }
    folder = templates()
    hardened = _filled((folder / _HARDENING).read_text(encoding="utf-8"), values)
    body = "\n".join(line for line in hardened.splitlines() if not line.startswith("#"))
    return [
        Unit(name, _filled((folder / name).read_text(encoding="utf-8"), values | {"HARDENED": body}))
        for name in APPLIANCE
    ]


def agent_units(home: Path, command: tuple[str, ...]) -> list[Unit]:
    """The agent's units, for the machine that is backed up."""
    values = {
        "HOME": checked_path(home, "the home"),
        "COMMAND": _command(command),
    }
    folder = templates()
    return [Unit(name, _filled((folder / name).read_text(encoding="utf-8"), values)) for name in AGENT]


def _command(words: tuple[str, ...]) -> str:
    return " ".join(checked_path(Path(word), "the program") if word.startswith("/") else word for word in words)


def _filled(text: str, values: Mapping[str, str]) -> str:
    lines = []
    for line in text.splitlines():
        # Comments speak of the names.
        lines.append(line if line.startswith("#") else _PLACE.sub(lambda found: _value(found[1], values), line))
    return "\n".join(lines) + "\n"


def _value(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise NotFoundError(f"a template of the units asks for @{name}@, which this version does not know")
    return values[name]


def _below(path: Path, folders: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _checked_listen(text: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[0-9.]+):[1-9][0-9]{0,4}", text):
        raise UsageError(f"the web interface's address {text!r} is no IP address and port: give --web to 'serve' first")
    return text
