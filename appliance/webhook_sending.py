"""Telling webhooks: one signed POST each, to an address that was looked at first and is then kept to.

Rules: a name is resolved once, every address it has must lie on the public internet, and the connection goes to the
very address that was checked, so that a name that changes in between leads nowhere else. No redirect is followed. An
attempt ends within `DEADLINE_S`, however slowly the other side speaks. What it answers is read for its status alone.

Signature: HMAC-SHA256 with the webhook's secret over the time, a dot and the body, in `Pilulier-Signature: t=…,v1=…`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from appliance.control import webhooks
from appliance.control.database import Database
from appliance.control.webhooks import Due
from transport.errors import PilulierError, UsageError

DEADLINE_S: Final = 20.0
_STEP_S: Final = 10.0
ROUND: Final = 100
"""Deliveries in one round, so that a round ends."""
_EMBEDDING: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""Addresses of IPv6 that stand for one of IPv4, which a gateway may find inside (RFC 6052, RFC 8215)."""
log = logging.getLogger("pilulier.webhooks")


class TargetRefusedError(PilulierError):
    """The address of a webhook does not lie on the public internet."""

    code = "webhook-target"


class NotPublicError(UsageError):
    """The address that somebody gives a webhook names a place that is not on the public internet."""


class NotTakenError(PilulierError):
    """The other side did not take it: unreachable, not to be believed, or it answered something else than 2xx."""

    code = "webhook-not-taken"


@dataclass(frozen=True, slots=True)
class Round:
    """What became of one round."""

    sent: int
    put_off: int
    given_up: int


def signature(secret: str, at: int, body: bytes) -> str:
    """The header that proves who sent this and when."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


def is_public(address: str) -> bool:
    """Whether an address lies on the public internet; one that embeds another counts as private. Pure."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour is not None or ip.teredo is not None or any(ip in network for network in _EMBEDDING):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _parts(url: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise UsageError("this is no address like https://example.org/pilulier") from None
    return parts, host, port or (443 if parts.scheme == "https" else 80)


def checked_url(url: str, *, private: bool) -> str:
    """The address of a webhook; UsageError for one that cannot be told. `private`: the box's own network is allowed."""
    if len(url) > webhooks.URL_LIMIT or not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
        raise UsageError(f"the address of a webhook is one of at most {webhooks.URL_LIMIT} ASCII letters")
    parts, host, _port = _parts(url)
    if parts.scheme not in (("https", "http") if private else ("https",)) or not host:
        raise UsageError("the address of a webhook begins with https:// and a name")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise UsageError("the address of a webhook holds neither a user nor a part behind #")
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        if not private and not is_public(host):
            raise NotPublicError("this address does not lie on the public internet")
    return url


def resolve(host: str, port: int, *, private: bool) -> str:
    """The address to connect to; TargetRefusedError where any that the name has is not public."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise NotTakenError(f"{host} has no address") from None
    if not private and not all(is_public(address) for address in found):
        raise TargetRefusedError(f"{host} has an address that does not lie on the public internet")
    return found[0]


def send(due: Due, at: int, *, private: bool, trust: ssl.SSLContext | None = None) -> None:
    """Make one delivery; NotTakenError, TargetRefusedError, UsageError for an address that is none."""
    parts, host, port = _parts(checked_url(due.url, private=private))
    address = resolve(host, port, private=private)
    body = due.delivery.body.encode()
    try:
        raw = socket.create_connection((address, port), timeout=_STEP_S)
    except OSError as error:
        raise NotTakenError(f"{host} cannot be reached: {error.strerror or error}") from None
    connection = http.client.HTTPConnection(host, port)
    # A connection that has its socket makes none: it would look the name up anew.
    connection.sock = raw
    # From here on the clock runs: a read may succeed each time, a byte at a time, and never end.
    watch = threading.Timer(DEADLINE_S, _cut, [connection])
    watch.daemon = True
    watch.start()
    try:
        if parts.scheme == "https":
            context = trust or ssl.create_default_context()
            connection.sock = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
            connection.sock.do_handshake()
        connection.request(
            "POST",
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            body,
            {
                "Host": parts.netloc,
                "Content-Type": "application/json",
                "User-Agent": "Pilulier",
                "Pilulier-Event": due.delivery.event,
                "Pilulier-Delivery": str(due.delivery.id),
                "Pilulier-Signature": signature(due.secret, at, body),
            },
        )
        status = connection.getresponse().status
    except ssl.SSLError as error:
        raise NotTakenError(f"{host} is not to be believed: {error.reason or error}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotTakenError(f"{host} broke off: {error or type(error).__name__}") from None
    finally:
        watch.cancel()
        connection.close()
        raw.close()
    if not 200 <= status < 300:
        raise NotTakenError(f"{host} answered {status}")


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a connection under the hands of the thread that reads from it."""
    with contextlib.suppress(OSError, TypeError):
        # The socket's own way: that of TLS would say goodbye first, and touch what the other thread uses.
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def deliver(db: Database, *, private: bool, now: Callable[[], float], check: Callable[[], None]) -> Round:
    """Tell what is due, one after the other. A webhook that does not take it is tried once a round, so that the others
    wait for one attempt of it at most."""
    sent = put_off = given_up = 0
    silent: set[str] = set()
    for _ in range(ROUND):
        check()
        due = webhooks.claim(db, now(), without=frozenset(silent))
        if due is None:
            break
        try:
            send(due, int(now()), private=private)
        except (NotTakenError, TargetRefusedError, UsageError) as error:
            silent.add(due.delivery.webhook_id)
            log.warning("webhook %s: %s", due.delivery.webhook_id, error)
            over = webhooks.put_off(db, due.delivery, str(error), now())
            given_up, put_off = given_up + over, put_off + (not over)
        else:
            webhooks.mark_sent(db, due.delivery, now())
            sent += 1
    return Round(sent, put_off, given_up)
