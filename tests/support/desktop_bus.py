"""A desktop for tests: a session bus of its own, and a notification service on it that remembers what it was shown."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method

_NAME = "org.freedesktop.Notifications"
_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
<allow user="*"/></policy></busconfig>
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One notice as the desktop got it."""

    application: str
    title: str
    body: str
    urgency: int
    stays_ms: int


class _Notifications(ServiceInterface):
    def __init__(self, shown: list[Shown]) -> None:
        super().__init__(_NAME)
        self._shown = shown

    @dbus_method()
    def Notify(  # noqa: N802
        self, app: "s", replaces: "u", icon: "s", title: "s", body: "s", actions: "as", hints: "a{sv}", stays: "i"  # type: ignore[name-defined,valid-type,syntax]  # noqa: F821,F722,UP037,E501
    ) -> "u":  # type: ignore[name-defined,valid-type]  # noqa: F821,UP037
        self._shown.append(Shown(app, title, body, int(hints["urgency"].value), stays))
        return len(self._shown)

    @dbus_method()
    def GetServerInformation(self) -> "ssss":  # type: ignore[name-defined,valid-type]  # noqa: F821,N802,UP037
        return ["tests", "pilulier", "1", "1.2"]

    @dbus_method()
    def GetCapabilities(self) -> "as":  # type: ignore[name-defined,valid-type,syntax]  # noqa: F821,F722,N802,UP037
        return ["body"]


class DesktopBus:
    """Serves until the `with` ends."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:path={folder / 'bus'}"
        self.shown: list[Shown] = []
        self._folder = folder
        self._program = shutil.which("dbus-daemon")
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._bus: Any = None

    def __enter__(self) -> DesktopBus:
        if self._program is None:
            pytest.skip("no dbus-daemon here: apt-get install dbus")
        config = self._folder / "bus.conf"
        config.write_text(_CONFIG.format(socket=self._folder / "bus"))
        argv = [self._program, f"--config-file={config}", "--nofork", "--print-address"]
        self._daemon = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self._daemon.stdout is not None and self._daemon.stdout.readline(), "dbus-daemon did not start"
        self._thread.start()
        assert self._ready.wait(20)
        if self._failure is not None:
            raise self._failure
        return self

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._open())
        except BaseException as error:  # the edge of a thread: the test gets it
            self._failure = error
            self._ready.set()
            return
        self._ready.set()
        self._loop.run_forever()

    async def _open(self) -> None:
        self._bus = await MessageBus(self.address).connect()
        self._bus.export("/org/freedesktop/Notifications", _Notifications(self.shown))
        await self._bus.request_name(_NAME)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        with contextlib.suppress(Exception):
            self._bus.disconnect()
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(10)
            if self._daemon.stdout is not None:
                self._daemon.stdout.close()
