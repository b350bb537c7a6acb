"""gunicorn's worker with threads, whose loop tells systemd that it lives.

gunicorn's own process ends a worker that hangs, and begins another; nobody ends that process when it hangs itself, or
when no worker comes up any more. So the sign of life comes from the loop that takes the requests, and systemd starts
the whole anew where it stays away.
"""

from __future__ import annotations

from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from appliance.readiness import Pulse


class Worker(ThreadWorker):  # type: ignore[misc]  # untyped base
    """Made in gunicorn's process, at work in a child of it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pulse = Pulse(of=self.ppid)

    def notify(self) -> None:
        """The loop has come around: told to gunicorn, and to systemd."""
        super().notify()
        self._pulse.beat()
