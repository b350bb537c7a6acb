"""Keeping to a rate: a token bucket over the bytes that were handed to the connection, and the rate of this moment.

A message goes as a whole as soon as the bucket is not in debt, however large it is; the debt is waited for afterwards.
So the average holds, and what must not wait (heartbeats) never does: it only adds to the debt. The rate is asked anew
at every look, so that an hour that ends or a setting that changes counts within a second. No thread, no sleep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import tzinfo
from typing import Final

from agent.limits import Limits
from agent.settings import AgentHome, load_settings
from agent.system.zone import LocalZone
from transport.errors import PilulierError

SMOOTH: Final = 1.1
"""The kernel's pace is so much above the rate: it counts its own headers too, and must never be what piles up."""
LOOK_S: Final = 0.25
"""Longest wait before the rate is looked at again."""
_LEAST_S: Final = 0.001
_AGAIN_S: Final = 1.0
"""How often the settings' file is looked at."""

Rate = Callable[[], float | None]
"""Bytes a second at this moment; None for as many as there are."""


class Bucket:
    """Bytes that may go. `sent` and `wait_s` belong to one thread."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._at = clock()
        self._tokens = 0.0
        self._counted = 0
        self.rate: float | None = rate()
        """As it was looked at last."""

    def wait_s(self, total: int) -> float:
        """How long to wait before the next message, at most `LOOK_S`; `total`: all bytes that ever went."""
        now = self._clock()
        passed, self._at = now - self._at, now
        rate = self.rate = self._rate()
        if rate is None:
            self._tokens, self._counted = 0.0, total
            return 0.0
        # A second's worth may be saved up: no more, or a quiet quarter of an hour would end in a burst.
        self._tokens = min(rate, self._tokens + passed * rate) - (total - self._counted)
        self._counted = total
        return 0.0 if self._tokens >= 0 else min(LOOK_S, max(_LEAST_S, -self._tokens / rate))


def for_restores(home: AgentHome, limits: Limits) -> Bucket | None:
    """What keeps a restore to the rate, where its owner wants that."""
    return Bucket(RateNow(home, limits)) if limits.restores else None


class RateNow:
    """The rate that the settings give at this moment; they are read again where their file changed."""

    def __init__(
        self,
        home: AgentHome,
        limits: Limits,
        *,
        now: Callable[[], float] = time.time,
        zone: Callable[[], tzinfo] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._limits = limits
        self._now = now
        self._zone = zone or LocalZone()
        self._clock = clock
        self._looked = clock()
        self._seen = self._stamp()

    def __call__(self) -> float | None:
        """Bytes a second, or None."""
        if self._clock() - self._looked >= _AGAIN_S:
            self._looked = self._clock()
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._limits = load_settings(self._home).limits
                except PilulierError:  # damaged settings leave the limits that were
                    return self._limits.rate(self._now(), self._zone())
        return self._limits.rate(self._now(), self._zone())

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self._home.config.stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino
