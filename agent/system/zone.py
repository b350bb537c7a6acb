"""The machine's time zone, as it is now: a service must see that someone moved the machine or changed its clock's zone.

The C library keeps the zone that a process began with. Here the zone file is looked at again, and read again only
where it is another one: a look is one `stat`, of a file that every program on the machine keeps in memory.
"""

from __future__ import annotations

import calendar
import os
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOCALTIME: Final = Path("/etc/localtime")


class SystemZone(tzinfo):
    """The zone of this process as the C library has it: for systems without a zone file."""

    def fromutc(self, when: datetime) -> datetime:
        """The local time of a moment that is given in UTC."""
        stamp = calendar.timegm(when.timetuple())
        found = time.localtime(stamp)
        local = datetime(*found[:6], when.microsecond, tzinfo=self)
        second = self.utcoffset(local) != timedelta(seconds=found.tm_gmtoff)
        return local.replace(fold=1) if second else local

    def utcoffset(self, when: datetime | None) -> timedelta:
        """The offset at a local time; `fold` tells the two of an autumn night apart."""
        if when is None:
            return timedelta(seconds=time.localtime().tm_gmtoff)
        stamp = time.mktime((*when.timetuple()[:8], 0 if when.fold else -1))
        return timedelta(seconds=time.localtime(stamp).tm_gmtoff)

    def dst(self, when: datetime | None) -> timedelta | None:
        """Not known apart from the offset."""
        return None

    def tzname(self, when: datetime | None) -> str:
        """Whatever the system calls it."""
        return time.tzname[0]


class LocalZone:
    """Hands out the machine's zone; read again when its file changed."""

    def __init__(self, path: Path = LOCALTIME) -> None:
        self._path = path
        self._seen: tuple[object, ...] | None = None
        self._zone: tzinfo = SystemZone()

    def __call__(self) -> tzinfo:
        """The zone of this moment."""
        name = os.environ.get("TZ", "").removeprefix(":")
        if name:
            try:
                return ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                return SystemZone()  # spelled as a rule (CET-1CEST,…), which the C library reads
        try:
            found = self._path.stat()
            # The link behind the name is followed: another zone is another file.
            seen = (found.st_ino, found.st_dev, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                with open(self._path, "rb") as file:
                    self._zone = ZoneInfo.from_file(file)
                self._seen = seen
        except (OSError, ValueError):
            self._seen, self._zone = None, SystemZone()
        return self._zone
