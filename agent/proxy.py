"""The SOCKS5 proxy through which a machine reaches its appliance, in networks that are closed otherwise.

Set on this machine alone. Owns the setting's form; the password is in a file of its own, never in a setting, an
argument or an address. What speaks SOCKS is `transport.tunnel`.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from transport.errors import UsageError

_HOST: Final = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]"
_URL: Final = re.compile(rf"(?:socks5h?://)?(?P<host>{_HOST}):(?P<port>[0-9]{{1,5}})/?", re.ASCII)
SECRET_LIMIT: Final = 255
"""RFC 1929: user and password have a byte of length each."""


class ProxySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`address` is `host:port`, empty for none."""

    address: Annotated[str, Meta(max_length=300)] = ""
    user: Annotated[str, Meta(max_length=SECRET_LIMIT)] = ""


NO_PROXY: Final = ProxySettings()


def address_of(text: str) -> str:
    """`host:port` of `socks5://host:port`; UsageError otherwise, and for one that carries a password."""
    if "@" in text:
        raise UsageError("give the proxy without user or password: --proxy-user and --proxy-password-file take them")
    match = _URL.fullmatch(text.strip())
    if match is None or not 0 < int(match["port"]) < 65536:
        raise UsageError(f"{text.strip()[:80]!r} is not a proxy's address like socks5://proxy.example.net:1080")
    return f"{match['host']}:{int(match['port'])}"
