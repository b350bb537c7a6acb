"""What a person is putting together to restore, beside their opener: the snapshot they look at, and ticked paths.

File names of patients must not stand in addresses, which browsers keep: pages name paths by tokens that mean something
only here and only until the opener ends.
"""

from __future__ import annotations

import secrets
import threading
from typing import Final

from appliance.opening.words import PATHS_LIMIT
from appliance.store.errors import UnknownItemError

TOKENS_LIMIT: Final = 400_000
TOP: Final = b"/"


class Basket:
    """Tokens of paths, and what was ticked. Thread-safe."""

    __slots__ = ("_lock", "_paths", "_ticked", "_tokens")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[bytes, str] = {}
        self._paths: dict[str, bytes] = {}
        self._ticked: dict[int, dict[bytes, None]] = {}

    def token(self, path: bytes) -> str:
        """How pages name a path."""
        with self._lock:
            found = self._tokens.get(path)
            if found is None:
                if len(self._tokens) >= TOKENS_LIMIT:
                    self._tokens.clear()
                    self._paths.clear()
                found = self._tokens[path] = secrets.token_hex(8)
                self._paths[found] = path
            return found

    def path(self, token: str) -> bytes:
        """The path of a token; the top for an empty one. UnknownItemError where it means nothing here."""
        if not token:
            return TOP
        with self._lock:
            found = self._paths.get(token)
        if found is None:
            raise UnknownItemError("this page's address means nothing any more: go back to the top folder")
        return found

    def ticked(self, snapshot: int) -> list[bytes]:
        """What is to be restored of a snapshot, in the order ticked."""
        with self._lock:
            return list(self._ticked.get(snapshot, ()))

    def tick(self, snapshot: int, paths: list[bytes]) -> None:
        """Add paths; what lies below one that is ticked is part of it already."""
        with self._lock:
            kept = self._ticked.setdefault(snapshot, {})
            for path in paths:
                if any(_below(path, present) for present in kept):
                    continue
                for present in [present for present in kept if _below(present, path)]:
                    del kept[present]
                if len(kept) < PATHS_LIMIT:
                    kept[path] = None

    def untick(self, snapshot: int, path: bytes | None) -> None:
        """Take a path away; all of them for None."""
        with self._lock:
            if path is None:
                self._ticked.pop(snapshot, None)
            else:
                self._ticked.get(snapshot, {}).pop(path, None)


def _below(path: bytes, top: bytes) -> bool:
    """Whether a path is, or lies below, another one."""
    return path == top or top == TOP or path.startswith(top + b"/")
