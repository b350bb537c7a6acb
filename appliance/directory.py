"""Who may connect: the authorised keys, in memory, kept equal to the control database.

Looked up by the ZAP thread at every handshake and by the service at every message, so that a revocation made by
another process cuts live connections within `REFRESH_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from appliance.control import machines
from appliance.control.database import Database
from appliance.control.machines import AuthorisedMachine

REFRESH_S: Final = 0.5


class Directory:
    """Active machines by CURVE key and by id. Reads are lock-free: the mappings are replaced, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_key: dict[bytes, str] = {}
        self._by_id: dict[str, AuthorisedMachine] = {}
        self._version = -1
        self._looked = 0.0
        self._wanted = threading.Event()
        self._done = threading.Event()
        self.refresh(force=True)

    def refresh(self, *, force: bool = False, at_once: bool = False) -> None:
        """Load again if another connection changed the database; asks at most every REFRESH_S, or `at_once`."""
        now = time.monotonic()
        if self._wanted.is_set():
            self._wanted.clear()
            force = True
        if not force and not at_once and now - self._looked < REFRESH_S:
            return
        self._looked = now
        version = self._database.data_version()
        if version == self._version and not force:
            return
        self._version = version
        authorised = machines.authorised(self._database)
        self._by_key = {key: machine.machine_id.hex() for key, machine in authorised.items()}
        self._by_id = {machine.machine_id.hex(): machine for machine in authorised.values()}
        self._done.set()

    def reload(self, wake: Callable[[], None], timeout_s: float = 5.0) -> None:
        """From another thread: have the polling thread load again now, and wait until it has."""
        self._done.clear()
        self._wanted.set()
        wake()
        self._done.wait(timeout_s)

    def authorise(self, curve_key: bytes) -> str | None:
        """The id of the active machine with this key."""
        return self._by_key.get(curve_key)

    def machine(self, machine: str) -> AuthorisedMachine | None:
        """The active machine with this id."""
        return self._by_id.get(machine)

    def active(self, machine: str) -> bool:
        """Whether the machine is (still) active."""
        return machine in self._by_id
