"""Whether the network is metered: a telephone's, or one whose owner said so. None where the system does not tell.

On Linux NetworkManager knows (its D-Bus property `Metered`, enumeration NMMetered), asked through systemd's `busctl` or
its own `nmcli`. Other systems are not asked. Costs a process: ask only when something hangs on it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from typing import Final

from agent.system import programs

_TIMEOUT_S: Final = 5.0
_ANSWERS: Final = {1: True, 2: False, 3: True, 4: False}
"""yes, no, yes by a guess, no by a guess; 0 is unknown."""
_BUS: Final = (
    *("--system", "--json=short", "--timeout=3", "get-property", "org.freedesktop.NetworkManager"),
    *("/org/freedesktop/NetworkManager", "org.freedesktop.NetworkManager", "Metered"),
)

Ask = Callable[[Sequence[str]], str | None]
"""Runs a program and gives what it said; None where it is not there, fails or takes too long."""


def ask(argv: Sequence[str]) -> str | None:
    """What a program says."""
    program = shutil.which(argv[0])
    if program is None:
        return None
    try:
        ended = programs.run([program, *argv[1:]], timeout_s=_TIMEOUT_S, apart=True)
    except OSError:
        return None
    return ended.output.decode("utf-8", "replace") if ended.well else None


def metered(asked: Ask = ask) -> bool | None:
    """Whether what is sent now may cost its owner money."""
    said = asked(["busctl", *_BUS])
    if said is not None:
        try:
            return _ANSWERS.get(int(json.loads(said)["data"]))
        except (ValueError, KeyError, TypeError):
            return None
    said = asked(["nmcli", "--terse", "--fields", "GENERAL.STATE,GENERAL.METERED,IP4.GATEWAY", "device", "show"])
    return None if said is None else _by_devices(said)


def _by_devices(said: str) -> bool | None:
    """Of the devices with a way out, whether one is metered; a block of lines for each."""
    answers: list[bool] = []
    for block in said.split("\n\n"):
        fields = dict(line.partition(":")[::2] for line in block.splitlines())
        if fields.get("GENERAL.STATE", "").startswith("100") and fields.get("IP4.GATEWAY"):
            word = fields.get("GENERAL.METERED", "").partition(" ")[0]
            if word in ("yes", "no"):
                answers.append(word == "yes")
    return any(answers) if answers else None
