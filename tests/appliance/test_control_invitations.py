"""Invitations: who may invite whom where, and what a link is good for."""

from __future__ import annotations

from pathlib import Path

import pyotp
import pytest

from appliance.control import accounts, contracts, invitations, outbox
from appliance.control.accounts import Account, Role
from appliance.control.invitations import Invitation, NewInvitation
from appliance.control.scope import EVERYTHING, OneContract, OneSpace, Scope
from appliance.control.two_factor import Rejected
from appliance.errors import ConflictError, NotFoundError, OneTimeCodeError
from tests.support.control_house import NOW, PASSWORD, House, build
from transport.errors import RefusedError, UsageError


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(tmp_path, monkeypatch)


def invited(house: House, by: str = "admin", email: str = "new@example.org") -> NewInvitation:
    return invitations.invite(
        house.db, email=email, role=Role.CUSTOMER, contract_id=house.ours.id, by=house.accounts[by], now=NOW
    )


def test_a_link_makes_one_account_with_both_factors(house: House) -> None:
    new = invited(house)
    [mail] = outbox.pending(house.db)
    assert (mail.recipient, mail.kind, mail.secret, mail.space_id) == (
        "new@example.org", outbox.INVITATION, new.token, house.ours.space_id,
    )  # fmt: skip
    assert new.token not in repr(new) and new.token not in repr(mail)
    totp = invitations.totp_of(house.db, new.token, NOW)
    assert invitations.totp_of(house.db, new.token, NOW + 1).secret == totp.secret
    code = pyotp.TOTP(totp.secret).at(int(NOW))
    with pytest.raises(OneTimeCodeError):
        invitations.accept(house.db, new.token, password=PASSWORD, code="000000", now=NOW)
    with pytest.raises(UsageError):
        invitations.accept(house.db, new.token, password="short", code=code, now=NOW)
    made = invitations.accept(house.db, new.token, password=PASSWORD, code=code, now=NOW)
    assert made.account.role is Role.CUSTOMER and made.account.contract_id == house.ours.id
    assert len(made.recovery_codes) == 10 and made.recovery_codes[0] not in repr(made)
    assert accounts.password_matches(house.db, made.account, PASSWORD)
    assert isinstance(accounts.take_code(house.db, made.account, code, NOW), Rejected), "the first code is used up"
    for again in (invitations.find, invitations.totp_of):
        with pytest.raises(NotFoundError, match="was used"):
            again(house.db, new.token, NOW)


def test_links_expire_are_replaced_and_withdrawn(house: House) -> None:
    new = invited(house)
    assert invitations.find(house.db, new.token, NOW + invitations.LIFE_S - 1).email == "new@example.org"
    with pytest.raises(NotFoundError):
        invitations.find(house.db, new.token, NOW + invitations.LIFE_S)
    newer = invited(house)
    with pytest.raises(NotFoundError):
        invitations.find(house.db, new.token, NOW)
    invitations.withdraw(house.db, EVERYTHING, newer.invitation.id, by=house.accounts["admin"])
    with pytest.raises(NotFoundError):
        invitations.find(house.db, newer.token, NOW)
    with pytest.raises(NotFoundError):
        invitations.find(house.db, "", NOW)
    with pytest.raises(ConflictError):
        invited(house, email="support@example.org")


def test_nobody_invites_above_or_beside_themselves(house: House) -> None:
    near, far = house.ours.space_id, house.elsewhere.space_id

    def invite(by: Account, role: Role, space: str | None = None, contract: str | None = None) -> None:
        invitations.invite(
            house.db, email="x@example.org", role=role, space_id=space, contract_id=contract, by=by, now=NOW
        )

    admin, support, boss = house.accounts["admin"], house.accounts["support"], house.accounts["super"]
    for by, role, space in ((admin, Role.ADMIN, near), (admin, Role.SUPER, None), (support, Role.SUPPORT, near)):
        with pytest.raises(RefusedError):
            invite(by, role, space)
    for role, space, contract in ((Role.SUPPORT, far, None), (Role.CUSTOMER, None, house.elsewhere.id)):
        with pytest.raises(NotFoundError):
            invite(admin, role, space, contract)
    invite(admin, Role.SUPPORT, near)
    invite(boss, Role.ADMIN, far)
    assert len(invitations.unanswered(house.db, EVERYTHING, NOW)) == 1, "of one address the newest counts"
    invite(admin, Role.SUPPORT, near)
    found = invitations.unanswered(house.db, EVERYTHING, NOW)
    assert {(one.invitation.role, one.space_name) for one in found} == {(Role.ADMIN, "far"), (Role.SUPPORT, "near")}, (
        "no tenant undoes another's invitation"
    )


def test_lists_and_withdrawals_keep_to_their_scope(house: House) -> None:
    own = invited(house).invitation
    neighbour = invitations.invite(
        house.db, email="n@example.org", role=Role.CUSTOMER, contract_id=house.neighbour.id,
        by=house.accounts["admin"], now=NOW + 1,
    ).invitation  # fmt: skip
    far = invitations.invite(
        house.db, email="f@example.org", role=Role.SUPPORT, space_id=house.elsewhere.space_id,
        by=house.accounts["super"], now=NOW + 2,
    ).invitation  # fmt: skip
    near_space, far_space = OneSpace(house.ours.space_id), OneSpace(house.elsewhere.space_id)

    def shown(scope: Scope) -> list[Invitation]:
        return [found.invitation for found in invitations.unanswered(house.db, scope, NOW)]

    assert shown(EVERYTHING) == [far, neighbour, own]
    assert shown(near_space) == [neighbour, own]
    assert shown(far_space) == [far]
    assert shown(OneContract(house.ours.id)) == [own]
    boss = house.accounts["super"]
    for scope, foreign in ((far_space, own), (near_space, far), (OneContract(house.ours.id), neighbour)):
        with pytest.raises(NotFoundError):
            invitations.withdraw(house.db, scope, foreign.id, by=boss)
        with pytest.raises(NotFoundError):
            invitations.renew(house.db, scope, foreign.id, by=boss, now=NOW)
    assert len(shown(EVERYTHING)) == 3


def test_an_invitation_is_sent_again_by_who_stands_above_only(house: House) -> None:
    boss, admin, near = house.accounts["super"], house.accounts["admin"], OneSpace(house.ours.space_id)
    first = invitations.invite(
        house.db, email="chief@example.org", role=Role.ADMIN, space_id=near.space_id, by=boss, now=NOW, language="de"
    )
    for act in (
        lambda: invitations.renew(house.db, near, first.invitation.id, by=admin, now=NOW),
        lambda: invitations.withdraw(house.db, near, first.invitation.id, by=admin),
    ):
        with pytest.raises(RefusedError):
            act()
    late = NOW + invitations.LIFE_S + 1
    [shown] = invitations.unanswered(house.db, near, late)
    assert shown.invitation.id == first.invitation.id, "an expired one is shown, to be sent again"
    assert invitations.unanswered(house.db, near, late + invitations.SHOWN_S) == []
    again = invitations.renew(house.db, near, first.invitation.id, by=boss, now=late)
    assert (again.invitation.email, again.invitation.role, again.invitation.language) == (
        "chief@example.org", Role.ADMIN, "de",
    )  # fmt: skip
    with pytest.raises(NotFoundError):
        invitations.find(house.db, first.token, late)
    assert invitations.find(house.db, again.token, late).expires_at == late + invitations.LIFE_S


def test_an_invitation_ends_with_its_contract(house: House) -> None:
    empty = contracts.add(house.db, space_id=house.ours.space_id, client_id="e", email="e@x.org", now=NOW)
    new = invitations.invite(
        house.db, email="n@example.org", role=Role.CUSTOMER, contract_id=empty.id, by=house.accounts["super"], now=NOW
    )
    contracts.delete(house.db, empty, NOW)
    with pytest.raises(NotFoundError):
        invitations.find(house.db, new.token, NOW)
