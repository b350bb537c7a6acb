"""The agent as a service of the machine: what each system wants to be given, so that `run` begins with it.

systemd gets the unit that stands in `systemd/`, macOS a property list for launchd, Windows a task of its scheduler that
begins at start-up and is begun again when it ends: a service in its own sense would need a library for a single call.
Pure but for the unit's template. The two for other systems are checked for their form, and were not run there.
"""

from __future__ import annotations

import plistlib
import re
import sys
import sysconfig
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from transport.errors import UsageError

System = Literal["linux", "macos", "windows"]
LABEL: Final = "fr.pilulier.agent"
_UNIT: Final = "pilulier-agent.service"
_PLAIN: Final = re.compile(r"/[A-Za-z0-9._/+:,@=-]*")
"""No space, quote, percent, dollar or backslash: each means something to systemd."""
_TASK: Final = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_SYSTEM_ACCOUNT: Final = "S-1-5-18"


@dataclass(frozen=True, slots=True)
class Definition:
    """A file for the system, where it belongs, and what is typed next."""

    name: str
    folder: str
    content: bytes
    next_command: str


def this_system() -> System:
    """The one this runs on."""
    return "windows" if sys.platform == "win32" else "macos" if sys.platform == "darwin" else "linux"


def definition(system: System, words: list[str], home: str) -> Definition:
    """`words` start the agent, `home` is its folder, both as the system writes them. UsageError where they cannot stand
    in its file."""
    command = [*words, "--home", home, "run"]
    if system == "macos":
        return _launchd(command)
    if system == "windows":
        return _task(command)
    for word in command:
        if word.startswith("/") and not _PLAIN.fullmatch(word) or re.search(r"[\s\"'%$\\]", word):
            raise UsageError(f"{word!r} cannot stand in a unit of systemd: give a path of plain letters")
    text = _template().replace("@COMMAND@", " ".join(words)).replace("@HOME@", home)
    return Definition(
        _UNIT, "/etc/systemd/system", text.encode(), f"systemctl daemon-reload && systemctl enable --now {_UNIT}"
    )


def _template() -> str:
    """The unit: beside the packages in a checkout or a build of one file, else where the installer put it."""
    beside = Path(__file__).resolve().parents[2] / "systemd" / _UNIT
    installed = Path(sysconfig.get_path("data")) / "share" / "pilulier" / "systemd" / _UNIT
    for path in (beside, installed):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise UsageError(f"the unit's template is neither {beside} nor {installed}: install the agent again")


def _launchd(command: list[str]) -> Definition:
    content = plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": command,
            "RunAtLoad": True,
            "KeepAlive": True,
            "ThrottleInterval": 10,
            "ProcessType": "Background",
            "LowPriorityIO": True,
            "Umask": 0o077,
        }
    )
    name = f"{LABEL}.plist"
    folder = "/Library/LaunchDaemons"
    return Definition(name, folder, content, f"launchctl bootstrap system {folder}/{name}")


def _task(command: list[str]) -> Definition:
    ET.register_namespace("", _TASK)
    task = ET.Element(f"{{{_TASK}}}Task", version="1.2")

    def put(parent: ET.Element, name: str, text: str | None = None, **attributes: str) -> ET.Element:
        made = ET.SubElement(parent, f"{{{_TASK}}}{name}", attributes)
        made.text = text
        return made

    put(put(put(task, "Triggers"), "BootTrigger"), "Enabled", "true")
    principal = put(put(task, "Principals"), "Principal", id="Author")
    put(principal, "UserId", _SYSTEM_ACCOUNT)
    put(principal, "RunLevel", "HighestAvailable")
    settings = put(task, "Settings")
    put(settings, "MultipleInstancesPolicy", "IgnoreNew")
    # What a backup waits for is the agent's to decide: its service runs all the time.
    put(settings, "DisallowStartIfOnBatteries", "false")
    put(settings, "StopIfGoingOnBatteries", "false")
    put(settings, "StartWhenAvailable", "true")
    put(settings, "ExecutionTimeLimit", "PT0S")
    put(settings, "Priority", "7")
    again = put(settings, "RestartOnFailure")
    put(again, "Interval", "PT1M")
    put(again, "Count", "999")
    action = put(put(task, "Actions", Context="Author"), "Exec")
    put(action, "Command", command[0])
    put(action, "Arguments", " ".join(_quoted(word) for word in command[1:]))
    text = ET.tostring(task, encoding="unicode")
    content = ('<?xml version="1.0" encoding="UTF-16"?>\r\n' + text).encode("utf-16")
    name = "pilulier-agent.xml"
    return Definition(name, "", content, f"schtasks /create /tn Pilulier /xml {name} && schtasks /run /tn Pilulier")


def _quoted(word: str) -> str:
    """A word of a Windows command line (CommandLineToArgvW): quotes around blanks, backslashes before them doubled."""
    if word and not re.search(r'[\s"]', word):
        return word
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), word) + '"'
