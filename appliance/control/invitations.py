"""Invitations: a link by mail that makes one account, with a password and an authenticator of its own.

Rules: a token is random, stored hashed, good once and for 48 hours; no account exists before a code of the new
authenticator was typed; who invites stands above what is invited. The TOTP secret is made with the invitation, so
that reloading the page shows the same QR code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from appliance.control import accounts, outbox, recovery_codes, tokens, two_factor
from appliance.control.accounts import Account, NewTotp, Role
from appliance.control.database import Database, new_id
from appliance.control.scope import EVERYTHING, Scope, over
from appliance.control.text import checked_email
from appliance.errors import ConflictError, NotFoundError
from transport.errors import RefusedError

LIFE_S: Final = 48 * 3600.0
SHOWN_S: Final = 30 * 86400.0
"""An expired invitation is shown for so long, to be sent again."""
_PURPOSE: Final = "invitation"
_COLUMNS: Final = (
    "invitation.id, invitation.email, invitation.role, invitation.space_id, invitation.contract_id, "
    "invitation.language, invitation.invited_by, invitation.created_at, invitation.expires_at"
)
_GONE: Final = "this link was used, has expired or was withdrawn: ask for another one"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an account will be once its person has come. Times in seconds since 1970; `invited_by` is an address."""

    id: str
    email: str
    role: Role
    space_id: str | None
    contract_id: str | None
    language: str
    invited_by: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """An invitation with its token, for whoever hands the link over by other means. Its repr does not show it."""

    invitation: Invitation
    token: str

    def __repr__(self) -> str:
        return f"NewInvitation({self.invitation.id}, …)"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The new account and its recovery codes, shown once. Its repr does not show them."""

    account: Account
    recovery_codes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Accepted({self.account.id}, …)"


def _invitation(row: dict[str, Any]) -> Invitation:
    return Invitation(**{**row, "role": Role(row["role"])})


def invite(
    db: Database,
    *,
    email: str,
    role: Role,
    by: Account,
    now: float,
    space_id: str | None = None,
    contract_id: str | None = None,
    language: str = accounts.LANGUAGES[0],
) -> NewInvitation:
    """Invite a person; unanswered invitations of the same address that `by` may withdraw are replaced.

    Another's stay, so that no tenant can undo another's: of two, the one that is accepted first makes the account.

    ConflictError where the address has an account; RefusedError where `by` may not make such accounts there;
    NotFoundError for a space or contract outside of what `by` sees.
    """
    email = checked_email(email)
    accounts.check_belonging(role, space_id, contract_id)
    if not accounts.may_give(by, role):
        raise RefusedError(f"an account of role {by.role} makes no account of role {role}: ask someone above")
    token = tokens.new_token()
    accounts.checked_language(language)
    invitation = Invitation(new_id("i"), email, role, space_id, contract_id, language, by.email, now, now + LIFE_S)
    with db.write():
        mail_space = accounts.checked_place(db, accounts.scope_of(by), space_id, contract_id)
        if db.row("SELECT id FROM account WHERE email = ?", [email]):
            raise ConflictError(f"an account for {email} exists already")
        for other in _select(db, accounts.scope_of(by), "invitation.email = ?", [email]):
            if accounts.may_give(by, other.invitation.role):
                db.execute("DELETE FROM invitation WHERE id = ?", [other.invitation.id])
        db.insert(
            "invitation",
            {
                "id": invitation.id,
                "token_sha256": tokens.digest(_PURPOSE, token),
                "email": email,
                "role": str(role),
                "space_id": space_id,
                "contract_id": contract_id,
                "language": language,
                "totp_secret": two_factor.new_secret(),
                "invited_by": by.email,
                "created_at": now,
                "expires_at": invitation.expires_at,
            },
        )
        outbox.add(
            db,
            recipient=email,
            kind=outbox.INVITATION,
            language=language,
            space_id=mail_space,
            fields={"role": str(role), "by": by.email, "expires_at": invitation.expires_at},
            secret=token,
            now=now,
        )
    return NewInvitation(invitation, token)


def _row(db: Database, token: str, now: float) -> dict[str, Any]:
    row = db.row(
        f"SELECT {_COLUMNS}, totp_secret FROM invitation WHERE token_sha256 = ? AND used_at IS NULL AND expires_at > ?",
        [tokens.digest(_PURPOSE, token), now],
    )
    if row is None:
        raise NotFoundError(_GONE)
    return row


def find(db: Database, token: str, now: float) -> Invitation:
    """What a link leads to; NotFoundError where it is unknown, used, expired or withdrawn."""
    row = _row(db, token, now)
    row.pop("totp_secret")
    return _invitation(row)


def space_of(db: Database, invitation: Invitation) -> str | None:
    """The space whose theme the invited person sees; None for a super account."""
    return accounts.checked_place(db, EVERYTHING, invitation.space_id, invitation.contract_id)


def totp_of(db: Database, token: str, now: float) -> NewTotp:
    """The secret that the invited person's authenticator is to learn; NotFoundError as for `find`."""
    row = _row(db, token, now)
    return accounts.totp_of_secret(row["email"], row["totp_secret"])


def accept(db: Database, token: str, *, password: str, code: str, now: float) -> Accepted:
    """The account; OneTimeCodeError, UsageError (password) and NotFoundError leave the invitation as it was."""
    with db.write():
        row = _row(db, token, now)
        step = accounts.confirmed_step(row["totp_secret"], code, now)
        account = accounts.add(
            db,
            email=row["email"],
            role=Role(row["role"]),
            password=password,
            now=now,
            space_id=row["space_id"],
            contract_id=row["contract_id"],
            language=row["language"],
            totp_secret=row["totp_secret"],
        ).account
        db.update("account", account.id, {"totp_last_step": step})
        # The secret stays with the account alone.
        db.update("invitation", row["id"], {"used_at": now, "totp_secret": ""})
        return Accepted(account, recovery_codes.renew(db, account.id, now))


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An invitation that nobody used yet, with the names of the space and contract that it leads to."""

    invitation: Invitation
    space_name: str | None
    client_id: str | None


def _select(db: Database, scope: Scope, sql: str, parameters: list[object]) -> list[Unanswered]:
    where = over(scope, space="coalesce(invitation.space_id, contract.space_id)", contract="invitation.contract_id")
    rows = db.rows(
        f"SELECT {_COLUMNS}, space.name AS space_name, contract.client_id FROM invitation "
        "LEFT JOIN contract ON contract.id = invitation.contract_id "
        "LEFT JOIN space ON space.id = coalesce(invitation.space_id, contract.space_id) "
        f"WHERE used_at IS NULL AND {sql} AND {where.sql} ORDER BY invitation.created_at DESC, invitation.id",
        [*parameters, *where.parameters],
    )
    return [
        Unanswered(space_name=row.pop("space_name"), client_id=row.pop("client_id"), invitation=_invitation(row))
        for row in rows
    ]


def unanswered(db: Database, scope: Scope, now: float) -> list[Unanswered]:
    """Invitations in a scope that still wait for their person, or expired in the last month, newest first."""
    return _select(db, scope, "invitation.expires_at > ?", [now - SHOWN_S])


def of_id(db: Database, scope: Scope, invitation_id: str) -> Unanswered:
    """An unanswered one of this id, expired or not; NotFoundError otherwise."""
    for found in _select(db, scope, "invitation.id = ?", [invitation_id]):
        return found
    raise NotFoundError("this invitation was used or withdrawn already")


def _above(by: Account, invitation: Invitation) -> None:
    if not accounts.may_give(by, invitation.role):
        raise RefusedError(f"an invitation of role {invitation.role} is for someone above {by.email} to change")


def renew(db: Database, scope: Scope, invitation_id: str, *, by: Account, now: float) -> NewInvitation:
    """The same invitation again, under a new link; the old link stops. Errors as for `of_id` and `invite`."""
    with db.write():
        old = of_id(db, scope, invitation_id).invitation
        return invite(
            db,
            email=old.email,
            role=old.role,
            by=by,
            now=now,
            space_id=old.space_id,
            contract_id=old.contract_id,
            language=old.language,
        )


def withdraw(db: Database, scope: Scope, invitation_id: str, *, by: Account) -> Invitation:
    """Make an unanswered invitation worthless; NotFoundError as for `of_id`, RefusedError where `by` is not above."""
    with db.write():
        found = of_id(db, scope, invitation_id).invitation
        _above(by, found)
        db.execute("DELETE FROM invitation WHERE id = ?", [invitation_id])
        return found
