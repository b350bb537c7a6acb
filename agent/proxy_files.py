"""The proxy as connections take it: the setting, and the password out of its own file."""

from __future__ import annotations

import contextlib
import dataclasses

from agent.knocking import knock
from agent.proxy import SECRET_LIMIT, ProxySettings
from agent.settings import AgentHome, change_settings, load_settings
from transport.errors import UsageError
from transport.keys import read_key_file, write_key_file
from transport.line_pacing import Proxy


def proxy_of(home: AgentHome, settings: ProxySettings) -> Proxy | None:
    """The proxy that is set, with its password; KeyFileError where that cannot be read. None: straight on."""
    if not settings.address:
        return None
    password = read_key_file(home.proxy_password).decode("utf-8", "replace") if settings.user else ""
    return Proxy(settings.address, settings.user, password)


def use_proxy(home: AgentHome, proxy: ProxySettings, password: str = "") -> None:
    """Reach the appliance through a proxy from now on; straight on for one without an address."""
    load_settings(home)  # a machine that is not enrolled has nothing to set yet
    keep_password(home, proxy, password)
    change_settings(home, lambda settings: dataclasses.replace(settings, proxy=proxy))
    knock(home)


def keep_password(home: AgentHome, settings: ProxySettings, password: str) -> None:
    """Write the password where a user is named, take it away otherwise; UsageError for what SOCKS cannot carry."""
    if not settings.user:
        with contextlib.suppress(FileNotFoundError):
            home.proxy_password.unlink()
        return
    if not 0 < len(password.encode()) <= SECRET_LIMIT or len(settings.user.encode()) > SECRET_LIMIT:
        raise UsageError(f"user and password of a proxy have 1 to {SECRET_LIMIT} bytes each")
    write_key_file(home.proxy_password, password.encode())
