"""When this machine tells its own people, on the screen: once per streak of failures, and once that all is well again.

Owns notices.json, so that a service that starts anew tells nothing twice. A backup that lost its appliance is no news
for an hour: it is tried again, and mostly with success. Reads what runs leave behind (`agent.state`, `agent.canaries`);
whether there is a screen is `agent.system.desktop`'s matter. One thread.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from agent import canaries
from agent.notice_words import OTHER_REASON, REASONS, WORDS, News
from agent.scheduler import Clock, Ending
from agent.settings import AgentHome, Settings
from agent.state import read_last
from agent.system.desktop import Notice
from agent.system.language import machine_language

LATE_S: Final = 3600.0
"""A run that could not begin for so long because the appliance is out of reach is told."""


class Told(msgspec.Struct, frozen=True):
    """notices.json: the streak that was told (empty while all is well), since when, and the newest decoy told of."""

    failing: str = ""
    since: float = 0.0
    decoys_ms: int = 0


class Notifier:
    """Tells; `show` takes a notice and must not block."""

    def __init__(self, home: AgentHome, settings: Callable[[], Settings], show: Callable[[Notice], object]) -> None:
        self._home = home
        self._settings = settings
        self._show = show
        self._told = self._load()

    def ended(self, ending: Ending, now: float) -> None:
        """A run of the service ended like this."""
        if ending is Ending.FAILED:
            code = read_last(self._home).error_code
            self._fail(News.FAILED, code or "failed", now, reason=code)
        elif ending is Ending.DONE:
            self._well()
            self._decoys()

    def waiting(self, since: float, away_since: float, clock: Clock) -> None:
        """A run is owed since then and cannot begin: the appliance is out of reach, as seen since `away_since`."""
        if clock.now - max(since, away_since) >= LATE_S:
            self._fail(News.LATE, "unreachable", clock.now, since=datetime.fromtimestamp(since, clock.zone))

    def look(self) -> None:
        """Did a backup by hand succeed since? Asks the disk only while something was told."""
        if self._told.failing and read_last(self._home).began_ms / 1000 > self._told.since:
            self._well()

    def _fail(
        self, news: News, failing: str, now: float, *, reason: str = "", since: datetime | None = None
    ) -> None:
        if self._told.failing:
            return
        language = machine_language(self._settings().language)
        said = REASONS.get(reason, {}).get(language, OTHER_REASON[language])
        form = "%Y-%m-%d %H:%M" if language == "en" else "%d.%m.%Y %H:%M" if language == "de" else "%d/%m/%Y à %H:%M"
        self._tell(news, {"reason": said, "since": since.strftime(form) if since else ""}, urgent=True)
        self._keep(msgspec.structs.replace(self._told, failing=failing, since=now))

    def _well(self) -> None:
        if not self._told.failing:
            return
        if self._settings().notices.shown == "on":
            self._tell(News.FINE_AGAIN, {}, urgent=False)
        self._keep(msgspec.structs.replace(self._told, failing="", since=0.0))

    def _decoys(self) -> None:
        touched = [one.since_ms for one in canaries.load(self._home) if one.touched]
        newest = max(touched, default=0)
        if newest > self._told.decoys_ms:
            self._tell(News.DECOYS, {}, urgent=True)
            self._keep(msgspec.structs.replace(self._told, decoys_ms=newest))

    def _tell(self, news: News, facts: dict[str, str], *, urgent: bool) -> None:
        settings = self._settings()
        if settings.notices.shown == "off":
            return
        title, body = WORDS[machine_language(settings.language)][news]
        self._show(Notice(title, body.format(**facts).strip(), urgent))

    # notices.json

    def _load(self) -> Told:
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return msgspec.json.decode(self._home.notices.read_bytes(), type=Told)
        return Told()

    def _keep(self, told: Told) -> None:
        self._told = told
        with contextlib.suppress(OSError):  # a full disk is told of, perhaps twice
            new = self._home.notices.with_name(f"{self._home.notices.name}.{os.getpid()}")
            new.write_bytes(msgspec.json.encode(told))
            os.replace(new, self._home.notices)
