"""Notices on the screens of this machine: best effort, each told in a second or dropped.

On Linux by the desktops' common interface (org.freedesktop.Notifications), through `notify-send` or systemd's `busctl`.
A service that runs as root has no screen: it goes to each logged-in user's own bus, as that user. On Windows through
`msg.exe`, which reaches every session from a service (Home editions do not have it), on macOS through `osascript`: both
written from their documentation, not run here.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.system import programs

RUNTIME: Final = Path("/run/user")
_TIMEOUT_S: Final = 10.0
_SHOWN_MS: Final = 15_000
_FIRST_PERSON: Final = 1000
"""Smaller user ids are no people (login.defs, UID_MIN)."""
_SERVICE: Final = "org.freedesktop.Notifications"


@dataclass(frozen=True, slots=True)
class Notice:
    """A title and a sentence. An urgent one stays until somebody takes it away."""

    title: str
    body: str
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Desktop:
    """A session's bus, and whose it is; an empty user is whoever runs this program."""

    bus: str
    user: str = ""


Run = Callable[[Sequence[str], str, Mapping[str, str]], bool]
"""Runs a program as a user with these variables; whether it went well."""


def show(notice: Notice) -> int:
    """Show it wherever there is a desktop; how many took it."""
    if sys.platform == "win32":
        text = f"{notice.title}\n\n{notice.body}"
        return int(_run(["msg.exe", "*", f"/TIME:{86400 if notice.urgent else 60}", text], "", {}))
    if sys.platform == "darwin":
        script = "on run words\ndisplay notification (item 2 of words) with title (item 1 of words)\nend run"
        return int(_run(["osascript", "-e", script, notice.title, notice.body], "", {}))
    return show_on(notice, desktops(os.environ, RUNTIME, os.geteuid()))


def desktops(environment: Mapping[str, str], runtime: Path, user_id: int) -> list[Desktop]:
    """The buses that this process may speak to: its own session's, else its user's, else (as root) every person's."""
    own = environment.get("DBUS_SESSION_BUS_ADDRESS", "")
    if own:
        return [Desktop(own)]
    if user_id:
        return [Desktop(f"unix:path={runtime}/{user_id}/bus")] if _is_socket(runtime / str(user_id) / "bus") else []
    import pwd

    found = []
    try:
        folders = sorted(runtime.iterdir())
    except OSError:
        return []
    for folder in folders:
        if folder.name.isdecimal() and int(folder.name) >= _FIRST_PERSON and _is_socket(folder / "bus"):
            try:
                user = pwd.getpwuid(int(folder.name)).pw_name
            except KeyError:
                continue
            found.append(Desktop(f"unix:path={folder}/bus", user))
    return found


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _run(argv: Sequence[str], user: str, variables: Mapping[str, str]) -> bool:
    program = shutil.which(argv[0])
    if program is None:
        return False
    try:
        return programs.run([program, *argv[1:]], timeout_s=_TIMEOUT_S, run_as=user, extra=variables).well
    except OSError:
        return False


def show_on(notice: Notice, found: Sequence[Desktop], run: Run = _run) -> int:
    """Show it on these desktops; how many took it."""
    stays = 0 if notice.urgent else _SHOWN_MS
    ways = (
        [
            *("notify-send", "--app-name=Pilulier", f"--urgency={'critical' if notice.urgent else 'normal'}"),
            *(f"--expire-time={stays}", notice.title, notice.body),
        ],
        [
            *("busctl", "--user", "--timeout=5", "call", _SERVICE, "/org/freedesktop/Notifications", _SERVICE),
            *("Notify", "susssasa{sv}i", "Pilulier", "0", "", notice.title, notice.body, "0"),
            *("1", "urgency", "y", "2" if notice.urgent else "1", str(stays)),
        ],
    )
    taken = 0
    for desktop in found:
        variables = {"DBUS_SESSION_BUS_ADDRESS": desktop.bus}
        taken += any(run(argv, desktop.user, variables) for argv in ways)
    return taken
