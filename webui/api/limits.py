"""How often a token may ask: so many requests a minute, counted in memory.

In memory is enough while one web process serves (`webui.serving` starts one worker): a restart forgives a minute and
no more. Fixed windows, so that the headers can say exactly when the next one begins. Knows no request.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Final

REQUESTS: Final = 300
WINDOW_S: Final = 60.0
_TOKENS_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left after a request; `reset_s` whole seconds until all is there again."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int


class Limiter:
    """The counts of all tokens. Thread-safe."""

    __slots__ = ("_counts", "_lock", "_requests")

    def __init__(self, requests: int = REQUESTS) -> None:
        self._requests = requests
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, int]] = {}

    def take(self, token_id: str, now: float) -> Allowance:
        """Count one request of a token at `now`; refused ones count no further."""
        window = int(now // WINDOW_S)
        reset_s = max(1, math.ceil((window + 1) * WINDOW_S - now))
        with self._lock:
            if len(self._counts) >= _TOKENS_LIMIT:
                self._counts = {key: held for key, held in self._counts.items() if held[0] == window}
            at, count = self._counts.get(token_id, (window, 0))
            # A clock that was set back begins a new window too.
            count = count if at == window else 0
            allowed = count < self._requests
            count += allowed
            self._counts[token_id] = (window, count)
        return Allowance(allowed, self._requests, self._requests - count, reset_s)
