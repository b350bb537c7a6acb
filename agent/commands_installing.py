"""`install-service`: the file with which this machine starts the agent's service by itself."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from agent.commands import show
from agent.settings import AgentHome
from agent.system import services
from agent.system.program import program_words
from transport.errors import UsageError


def install_service(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """Write it; nothing is started."""
    made = services.definition(services.this_system(), program_words(), str(home.path.absolute()))
    folder = Path(options.to or made.folder or os.getcwd())
    target = folder / made.name
    temporary = folder / f".{made.name}.new"
    try:
        temporary.write_bytes(made.content)
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"{target} cannot be written ({reason}): run this as root, or give a folder with --to"
        ) from None
    if not (home.path / "config.json").is_file():
        print(f"note: {home.path} is not enrolled yet: pilulier-agent enrol comes first", file=sys.stderr)
    show(as_json, {"file": str(target), "next": made.next_command}, f"{target}\nNext: {made.next_command}")
    return 0
