"""`limits`, `network`, `notices`: what each does, and what it shows."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import msgspec

from agent import surroundings
from agent.commands import Row, show
from agent.commands_service import days_of
from agent.key_keeping import passphrase_from
from agent.knocking import knock
from agent.limits import Limits, Window, rate_of, rate_text
from agent.notice_settings import NoticeSettings, Shown
from agent.notice_words import WORDS, News
from agent.proxy import ProxySettings, address_of
from agent.proxy_files import use_proxy
from agent.settings import AgentHome, change_settings, load_settings
from agent.system import desktop, power
from agent.system import network as networks
from agent.system.language import machine_language
from agent.system.zone import LocalZone
from transport.errors import UsageError
from transport.schedule import DAYS, minute_of, time_of, weekday_of


def limits(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`limits show`, `set`, `clear`."""
    if options.limiting == "set":
        changed = _changed(options)
        change_limits(home, changed)
    elif options.limiting == "clear":
        change_limits(home, lambda limits: msgspec.structs.replace(limits, windows=()))
    settings = load_settings(home)
    now = settings.limits.rate(time.time(), LocalZone()())
    waiting = surroundings.holding(settings.limits)
    document: Row = {
        "windows": [
            {
                "from": time_of(one.start),
                "to": time_of(one.end),
                "days": [DAYS[day] for day in one.weekdays],
                "bytes_per_second": one.bytes_per_s,
            }
            for one in settings.limits.windows
        ],
        "restores": settings.limits.restores,
        "on_battery": settings.limits.on_battery,
        "on_metered": settings.limits.on_metered,
        "bytes_per_second_now": now,
        "battery_now": power.on_battery(),
        "metered_now": networks.metered(),
        "waiting_now": waiting or None,
    }
    lines = [one.text() for one in settings.limits.windows] or ["No rate is limited."]
    lines.append(f"Now: {rate_text(now) if now else 'as much as the line takes'}.")
    lines.append(f"Restores {'keep to the rates too' if settings.limits.restores else 'are not limited'}.")
    lines.append(
        f"On battery, scheduled backups {settings.limits.on_battery}; on a metered network they "
        f"{settings.limits.on_metered}. Asked for by somebody, they run."
    )
    if waiting:
        lines.append(f"Scheduled backups wait now: {waiting}.")
    show(as_json, document, "\n".join(lines))
    return 0


def change_limits(home: AgentHome, change: Callable[[Limits], Limits]) -> None:
    """Change the limits and let a running service know; a running backup sees it within a second."""
    change_settings(home, lambda settings: dataclasses.replace(settings, limits=change(settings.limits)))
    knock(home)


def _changed(options: argparse.Namespace) -> Callable[[Limits], Limits]:
    """What `limits set` is to do; UsageError where it says nothing, or half of a window."""
    window: Window | None = None
    hours = (options.start, options.end)
    if options.rate is not None:
        if None in hours and hours != (None, None):
            raise UsageError("give both --from and --to, or neither for the whole day")
        start, end = (0, 0) if hours == (None, None) else map(minute_of, hours)
        days = tuple(sorted({weekday_of(day) for day in days_of(options.days or "mon-sun")}))
        window = Window(start, end, days, rate_of(options.rate))
    elif hours != (None, None) or options.days is not None:
        raise UsageError("--from, --to and --days say when a --rate counts: give one, like --rate 2Mbit")
    plain = {
        name: value
        for name, value in (("on_battery", options.on_battery), ("on_metered", options.on_metered))
        if value is not None
    }
    if options.restores is not None:
        plain["restores"] = options.restores == "yes"
    if window is None and not plain:
        raise UsageError("nothing to set: give --rate, --restores, --on-battery or --on-metered")

    def change(limits: Limits) -> Limits:
        limits = msgspec.structs.replace(limits, **plain)
        return limits if window is None else limits.with_window(window)

    return change


def network(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`network`, with or without a proxy."""
    if options.direct and options.proxy:
        raise UsageError("--direct and --proxy exclude each other")
    if options.direct or options.proxy:
        use_proxy(home, *proxy_from(options))
    elif options.proxy_user or options.proxy_password_file:
        raise UsageError("--proxy-user and --proxy-password-file belong to a --proxy")
    settings = load_settings(home)
    set_ = settings.proxy
    user = f" as {set_.user}" if set_.user else ""
    how = f"through the SOCKS5 proxy {set_.address}{user}" if set_.address else "straight on"
    document: Row = {
        "proxy": f"socks5://{set_.address}" if set_.address else None,
        "proxy_user": set_.user or None,
        "appliance": list(settings.appliance.endpoints),
    }
    show(as_json, document, f"The appliance ({', '.join(settings.appliance.endpoints)}) is reached {how}.")
    return 0


def proxy_from(options: argparse.Namespace) -> tuple[ProxySettings, str]:
    """The proxy that the command line names, and its password; an empty one where it names none."""
    if not options.proxy:
        return ProxySettings(), ""
    if bool(options.proxy_user) != bool(options.proxy_password_file):
        raise UsageError("give both --proxy-user and --proxy-password-file, or neither")
    password = passphrase_from(options.proxy_password_file) if options.proxy_password_file else ""
    return ProxySettings(address_of(options.proxy), options.proxy_user or ""), password


def notices(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`notices`, `notices on|failures|off`, `notices --test`; exit code 1 where a test found no desktop."""
    if options.shown is not None:
        shown: Shown = options.shown
        change_settings(home, lambda settings: dataclasses.replace(settings, notices=NoticeSettings(shown)))
        knock(home)
    settings = load_settings(home)
    document: Row = {"notices": settings.notices.shown}
    lines = [_SHOWN[settings.notices.shown]]
    if options.test:
        title, body = WORDS[machine_language(settings.language)][News.FINE_AGAIN]
        taken = desktop.show(desktop.Notice(title, body))
        document["desktops"] = taken
        lines.append(f"{taken} desktops took the test." if taken else "No desktop took it: is anybody logged in here?")
    show(as_json, document, "\n".join(lines))
    return 1 if options.test and not document["desktops"] else 0


_SHOWN = {
    "on": "Shown on the screen: that backups begin to fail, once, and that all is well again.",
    "failures": "Shown on the screen: that backups begin to fail, once.",
    "off": "Nothing is shown on the screen.",
}
