"""Lost authenticators: a request that someone above must approve, told to its person at every step.

The way: right password at login → request → an admin of the space or a super-user approves → a link by mail (48 h) →
the password again → within ten minutes a code of the new authenticator. Never around the second factor: the mailbox
alone, the password alone or the approval alone open nothing. Recovery codes are the quick way and need none of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from appliance.control import account_tokens, accounts, logins, outbox, recovery_codes, sessions
from appliance.control.account_tokens import Purpose
from appliance.control.accounts import Account, NewTotp
from appliance.control.database import Database, new_id
from appliance.control.text import one_line
from appliance.errors import ConflictError, LoginError, NotFoundError

LIFE_S: Final = 7 * 86400.0
"""A request that nobody decided on within this is over."""


@dataclass(frozen=True, slots=True)
class LostDevice:
    """One waiting request: whose, when (seconds since 1970), from where."""

    id: str
    account: Account
    requested_at: float
    address: str


def request(db: Database, account: Account, *, address: str, now: float) -> LostDevice:
    """Ask for another authenticator, after the right password; one that waits already stands."""
    with db.write():
        for present in _waiting(db, "lost_device.account_id = ?", [account.id], now):
            return present
        made = LostDevice(new_id("l"), account, now, one_line(address, 64))
        db.insert(
            "lost_device",
            {
                "id": made.id,
                "account_id": account.id,
                "requested_at": now,
                "address": made.address,
                "state": "waiting",
            },
        )
        space_id = accounts.space_of(db, account)
        fields: dict[str, outbox.Value] = {"email": account.email, "address": made.address}
        _mail(db, account, outbox.DEVICE_REQUESTED, fields, now)
        for row in db.rows(
            "SELECT id FROM account WHERE state = 'active' AND (role = 'super' OR (role = 'admin' AND space_id = ?))",
            [space_id],
        ):
            above = accounts.find(db, row["id"])
            if accounts.may_manage(above, account):
                _mail(db, above, outbox.DEVICE_TO_APPROVE, fields, now)
        return made


def _mail(
    db: Database,
    account: Account,
    kind: str,
    fields: dict[str, outbox.Value],
    now: float,
    secret: str | None = None,
) -> None:
    outbox.add(
        db,
        recipient=account.email,
        kind=kind,
        language=account.language,
        space_id=accounts.space_of(db, account),
        fields=fields,
        secret=secret,
        now=now,
    )


def _waiting(db: Database, sql: str, parameters: list[object], now: float) -> list[LostDevice]:
    rows: list[dict[str, Any]] = db.rows(
        "SELECT lost_device.id, lost_device.account_id, lost_device.requested_at, lost_device.address "
        "FROM lost_device JOIN account ON account.id = lost_device.account_id WHERE lost_device.state = 'waiting' "
        f"AND account.state = 'active' AND requested_at > ? AND {sql} ORDER BY requested_at, lost_device.id",
        [now - LIFE_S, *parameters],
    )
    return [
        LostDevice(row["id"], accounts.find(db, row["account_id"]), row["requested_at"], row["address"]) for row in rows
    ]


def waiting(db: Database, approver: Account, now: float) -> list[LostDevice]:
    """The requests that this account may decide on, oldest first; never its own."""
    return [found for found in _waiting(db, "1", [], now) if _may_decide(db, approver, found.account)]


def of_account(db: Database, account: Account, now: float) -> LostDevice | None:
    """The account's own request that nobody decided on yet."""
    found = _waiting(db, "lost_device.account_id = ?", [account.id], now)
    return found[0] if found else None


def _may_decide(db: Database, approver: Account, account: Account) -> bool:
    if not accounts.may_manage(approver, account):
        return False
    try:
        accounts.find_in(db, accounts.scope_of(approver), account.id)
    except NotFoundError:
        return False
    return True


def someone_above(db: Database, account: Account) -> bool:
    """Whether there is anybody to decide on a request of this account; else it is for the box's operator."""
    others = db.value(
        "SELECT count(*) AS n FROM account WHERE role = 'super' AND state = 'active' AND id != ?", [account.id]
    )
    return bool(others)


def _decided(db: Database, approver: Account, request_id: str, state: str, now: float) -> LostDevice:
    for found in waiting(db, approver, now):
        if found.id == request_id:
            db.update("lost_device", request_id, {"state": state, "decided_by": approver.email, "decided_at": now})
            return found
    raise NotFoundError("this request was decided on already, has expired, or is not yours to decide")


def approve(db: Database, approver: Account, request_id: str, now: float) -> LostDevice:
    """Let the person enrol another authenticator, by a link; NotFoundError where it is not this account's to decide."""
    with db.write():
        found = _decided(db, approver, request_id, "approved", now)
        token = account_tokens.issue(db, found.account.id, Purpose.DEVICE, now)
        # Whoever holds a session of this account must not be the one whose authenticator is confirmed.
        sessions.end_all(db, found.account.id)
        db.update("account", found.account.id, {"totp_pending": None})
        fields: dict[str, outbox.Value] = {"by": approver.email, "expires_at": now + account_tokens.LIFE_S}
        _mail(db, found.account, outbox.DEVICE_APPROVED, fields, now, secret=token)
        return found


def refuse(db: Database, approver: Account, request_id: str, now: float) -> LostDevice:
    """Say no; the person is told. NotFoundError as for `approve`."""
    with db.write():
        found = _decided(db, approver, request_id, "refused", now)
        _mail(db, found.account, outbox.DEVICE_REFUSED, {"by": approver.email}, now)
        return found


def find(db: Database, token: str, now: float) -> Account:
    """Whose link it is; NotFoundError where it leads nowhere any more."""
    return account_tokens.find(db, Purpose.DEVICE, token, now)


def prove(db: Database, token: str, password: str, *, address: str, now: float) -> str:
    """The proof that who has the link has the password too, good for ten minutes; counted and throttled as at login."""
    account = find(db, token, now)
    return logins.check_password(db, account.email, password, address=address, now=now).token


def _proven(db: Database, token: str, proof: str, now: float) -> Account:
    account = find(db, token, now)
    if logins.pending(db, proof, now) != account:
        raise LoginError("this took too long: type the password again")
    return account


def totp_of(db: Database, token: str, proof: str, now: float) -> NewTotp:
    """The new authenticator's secret, for who has both the link and the password; the same when asked again.

    LoginError where the password must be typed again; NotFoundError where the link leads nowhere any more.
    """
    with db.write():
        account = _proven(db, token, proof, now)
        return accounts.pending_totp(db, account) or accounts.begin_totp(db, account)


def finish(db: Database, token: str, proof: str, code: str, now: float) -> tuple[str, ...]:
    """Enrol the new authenticator and end all sessions; ten new recovery codes, shown once.

    OneTimeCodeError for a wrong code leaves the link as it was; LoginError and NotFoundError as for `totp_of`;
    ConflictError where that was not asked before.
    """
    with db.write():
        account = _proven(db, token, proof, now)
        account_tokens.use(db, Purpose.DEVICE, token, now)
        if accounts.pending_totp(db, account) is None:
            raise ConflictError("no new authenticator is waiting to be confirmed: begin again")
        return confirm(db, account, code, now)


def confirm(db: Database, account: Account, code: str, now: float, keep_session: str | None = None) -> tuple[str, ...]:
    """Make a pending authenticator the account's own and tell the person; ten new recovery codes, shown once.

    The caller has checked that whoever asks may. OneTimeCodeError and ConflictError as for `accounts.confirm_totp`.
    """
    with db.write():
        accounts.confirm_totp(db, account, code, now, keep_session)
        codes = recovery_codes.renew(db, account.id, now)
        _mail(db, account, outbox.DEVICE_CHANGED, {}, now)
        return codes
