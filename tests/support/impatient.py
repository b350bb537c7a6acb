"""Starts an agent's command with its patience shortened to seconds, so that a test can wait for it to end.

    python -m tests.support.impatient PROGRAM ARGUMENT…

PROGRAM is the console script that would have run (`Agent.under` puts this before it) and is replaced by the same
program in this process. Nothing but the waits differs.
"""

from __future__ import annotations

import sys

from agent import client, remote, uploader
from agent.cli import main

SILENCE_S = 4.0


def shorten() -> None:
    """Every wait for the appliance's word."""
    uploader._SILENCE_S = SILENCE_S
    uploader._PING_S = SILENCE_S / 6
    client.ANSWER_S = remote.ANSWER_S = SILENCE_S  # type: ignore[misc]
    client.Client.hear.__defaults__ = (SILENCE_S,)
    client.Client.ask.__defaults__ = (SILENCE_S,)


if __name__ == "__main__":
    shorten()
    program = sys.argv.index("--home")
    sys.argv = ["pilulier-agent", *sys.argv[program:]]
    sys.exit(main())
