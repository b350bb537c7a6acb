"""From where an account has logged in before: a login from elsewhere is told to its person by mail.

A place is a network, not an address: providers hand out another address of the same network every few days, and a mail
for each would be one that nobody reads. The first login of an account is no news. Remembered for a year, as attempts
are kept.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from appliance.control import accounts, outbox, throttling
from appliance.control.accounts import Account
from appliance.control.database import Database
from appliance.control.sessions import Session

IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 48
REMEMBERED_S: Final = 365 * 86400.0
_PLACES_LIMIT: Final = 1000


def network(address: str) -> str:
    """The network of an address; the text itself where it is none. Pure."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    prefix = IPV4_PREFIX if found.version == 4 else IPV6_PREFIX
    return str(ipaddress.ip_network(f"{found}/{prefix}", strict=False))


def tell_if_new(db: Database, account: Account, session: Session, now: float) -> None:
    """Mail the account where its new session comes from elsewhere than its logins before, in the login's transaction.

    The login itself stands among the attempts already, so one of its own address is known by that of before only.
    """
    rows = db.rows(
        "SELECT address, count(*) AS logins FROM attempt WHERE email = ? AND at > ? AND purpose = ? "
        "AND outcome = 'accepted' GROUP BY address ORDER BY max(at) DESC LIMIT ?",
        [account.email, now - REMEMBERED_S, throttling.LOGIN, _PLACES_LIMIT],
    )
    before = {row["address"]: row["logins"] - (row["address"] == session.address) for row in rows}
    known = {network(address) for address, logins in before.items() if logins > 0}
    if not known or network(session.address) in known:
        return
    outbox.add(
        db,
        recipient=account.email,
        kind=outbox.NEW_ADDRESS,
        language=account.language,
        space_id=accounts.space_of(db, account),
        fields={"address": session.address, "browser": session.user_agent, "at": now},
        now=now,
    )
