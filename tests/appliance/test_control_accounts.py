"""Accounts, their passwords and their one-time codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control import account_list, accounts, logins, passwords, recovery_codes, two_factor
from appliance.control.accounts import AccountState, Role
from appliance.control.scope import EVERYTHING, OneContract, OneSpace
from appliance.control.text import checked_email, one_line
from appliance.control.two_factor import Accepted, Reason, Rejected
from appliance.errors import ConflictError, NotFoundError, OneTimeCodeError
from tests.support.control_house import NOW, PASSWORD, build
from transport.errors import PilulierError, UsageError

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""RFC 6238's test secret, "12345678901234567890"."""


def test_codes_are_those_of_the_rfc() -> None:
    # Appendix B, SHA-1, the last six of eight digits.
    for now, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert two_factor.verify(SECRET, code, now, 0) == Accepted(now // 30)


def test_a_step_is_accepted_once_and_never_goes_back() -> None:
    totp = pyotp.TOTP(SECRET)
    step = int(NOW // 30)
    code = totp.at(int(NOW))
    assert two_factor.verify(SECRET, code, NOW, step - 1) == Accepted(step)
    assert two_factor.verify(SECRET, code, NOW, step) == Rejected(Reason.USED)
    assert two_factor.verify(SECRET, totp.at(int(NOW) - 30), NOW, step) == Rejected(Reason.USED)
    assert two_factor.verify(SECRET, totp.at(int(NOW) + 30), NOW, step) == Accepted(step + 1)


def test_window_is_one_step_each_way() -> None:
    totp = pyotp.TOTP(SECRET)
    for offset, accepted in ((-60, False), (-30, True), (0, True), (30, True), (60, False)):
        verdict = two_factor.verify(SECRET, totp.at(int(NOW) + offset), NOW, 0)
        assert isinstance(verdict, Accepted) is accepted, offset


@given(st.text(max_size=40))
def test_no_text_is_more_than_a_wrong_code(text: str) -> None:
    verdict = two_factor.verify(SECRET, text, NOW, int(NOW // 30) + 1)
    assert isinstance(verdict, Rejected)


def test_spaces_in_a_code_do_not_matter_and_foreign_digits_do() -> None:
    code = pyotp.TOTP(SECRET).at(int(NOW))
    assert isinstance(two_factor.verify(SECRET, f" {code[:3]} {code[3:]}\n", NOW, 0), Accepted)
    assert two_factor.verify(SECRET, "١٢٣٤٥٦", NOW, 0) == Rejected(Reason.MALFORMED)


def test_password_hashes_carry_their_parameters_and_a_salt() -> None:
    one, two = passwords.hash_password("grüezi mitenand"), passwords.hash_password("grüezi mitenand")
    assert one != two and one.startswith("scrypt$32768$8$3$")
    assert passwords.verify_password("grüezi mitenand", one)
    assert not passwords.verify_password("gruezi mitenand", one)


@pytest.mark.parametrize("stored", ["", "plain", "scrypt$2$8$3$AA==$!!", "scrypt$1073741824$8$1$AA==$AA=="])
def test_damaged_hash_is_an_error_and_costs_no_memory(stored: str) -> None:
    with pytest.raises(PilulierError, match="damaged"):
        passwords.verify_password("x", stored)


def test_short_and_endless_passwords_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 8"):
        passwords.checked_password("short")
    with pytest.raises(UsageError, match="longer than 1024"):
        passwords.checked_password("é" * 600)


def test_addresses_are_normalised_and_unique(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    assert checked_email("  Anne.Dupont@Example.ORG ") == "anne.dupont@example.org"
    for wrong in ("", "nobody", "a@b@c", "a b@c", "a@b\nBcc: x@y", "<a@b>"):
        with pytest.raises(UsageError, match="is not an e-mail address"):
            checked_email(wrong)
    with pytest.raises(ConflictError, match="exists already"):
        accounts.add(house.db, email="SUPER@example.org", role=Role.SUPER, password=PASSWORD, now=NOW)


def test_role_and_belonging_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    space, contract = house.ours.space_id, house.ours.id
    for role, space_id, contract_id in (
        (Role.SUPER, space, None),
        (Role.SUPER, None, contract),
        (Role.ADMIN, None, None),
        (Role.ADMIN, space, contract),
        (Role.SUPPORT, None, contract),
        (Role.CUSTOMER, None, None),
        (Role.CUSTOMER, space, contract),
    ):
        with pytest.raises(UsageError):
            accounts.add(
                house.db,
                email="x@example.org",
                role=role,
                password=PASSWORD,
                now=NOW,
                space_id=space_id,
                contract_id=contract_id,
            )
    with pytest.raises(NotFoundError):
        accounts.add(house.db, email="x@example.org", role=Role.ADMIN, password=PASSWORD, now=NOW, space_id="snothing")


def test_scopes_follow_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    scopes = {who: accounts.scope_of(account) for who, account in house.accounts.items()}
    space = OneSpace(house.ours.space_id)
    assert scopes == {"super": EVERYTHING, "admin": space, "support": space, "customer": OneContract(house.ours.id)}


def test_secrets_show_in_no_repr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    new = accounts.add(house.db, email="n@example.org", role=Role.SUPER, password=PASSWORD, now=NOW)
    assert new.totp.secret not in repr(new) and PASSWORD not in repr(new)
    assert new.totp.secret in new.totp.uri


def test_password_state_and_totp_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    boss = house.accounts["super"]
    assert accounts.password_matches(house.db, boss, PASSWORD)
    accounts.set_password(house.db, boss, "another one entirely")
    assert not accounts.password_matches(house.db, boss, PASSWORD)
    with pytest.raises(ConflictError, match="last active super"):
        accounts.set_state(house.db, boss, AccountState.DISABLED)
    accounts.set_state(house.db, house.accounts["admin"], AccountState.DISABLED)
    assert accounts.find(house.db, "admin@example.org").state is AccountState.DISABLED
    assert accounts.renew_totp(house.db, boss).secret != house.secrets["super"]


def test_one_line_takes_out_what_could_deceive() -> None:
    assert one_line("a\r\nERROR b\x1b[31m\x00 \u202ec\u2028d", 100) == "a ERROR b[31m c d"
    assert one_line("x" * 50, 10) == "x" * 10


def test_accounts_of_a_scope_and_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    far = accounts.add(
        house.db,
        email="far@example.org",
        role=Role.ADMIN,
        password=PASSWORD,
        now=NOW,
        space_id=house.elsewhere.space_id,
    ).account
    next_door = accounts.add(
        house.db, email="next@example.org", role=Role.CUSTOMER, password=PASSWORD, now=NOW,
        contract_id=house.neighbour.id,
    ).account  # fmt: skip
    near = OneSpace(house.ours.space_id)
    for scope, expected in (
        (EVERYTHING, {"super", "admin", "support", "customer", "far", "next"}),
        (near, {"admin", "support", "customer", "next"}),
        (OneSpace(house.elsewhere.space_id), {"far"}),
        (OneContract(house.ours.id), {"customer"}),
    ):
        rows = account_list.search(house.db, scope).rows
        assert {row.account.email.split("@")[0] for row in rows} == expected
        for account in (*house.accounts.values(), far, next_door):
            if account.email.split("@")[0] in expected:
                assert accounts.find_in(house.db, scope, account.id) == account
            else:
                with pytest.raises(NotFoundError):
                    accounts.find_in(house.db, scope, account.id)
    [row] = account_list.search(house.db, OneContract(house.ours.id)).rows
    assert (row.space_name, row.client_id, row.recovery_codes_left, row.last_login_at) == ("near", "ours", 0, None)
    assert account_list.one(house.db, near, row.account.id) == row
    with pytest.raises(NotFoundError):
        account_list.one(house.db, near, far.id)


def test_lists_are_searched_and_cut_into_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)

    def found(**filters: Any) -> set[str]:
        return {row.account.email.split("@")[0] for row in account_list.search(house.db, EVERYTHING, **filters).rows}

    accounts.set_state(house.db, house.accounts["support"], AccountState.DISABLED)
    assert found(text="NEAR") == {"admin", "support", "customer"}
    assert found(text=" ours ") == {"customer"} and found(text="%") == set()
    assert found(role=Role.ADMIN) == {"admin"} and found(state=AccountState.DISABLED) == {"support"}
    first = account_list.search(house.db, EVERYTHING, per_page=3)
    assert (first.total, first.page, first.pages, len(first.rows)) == (4, 1, 2, 3)
    last = account_list.search(house.db, EVERYTHING, per_page=3, page=99)
    assert (last.page, [row.account.email for row in last.rows]) == (2, ["support@example.org"])
    step = logins.check_password(house.db, "admin@example.org", PASSWORD, address="a", now=NOW + 30)
    assert account_list.one(house.db, EVERYTHING, house.accounts["admin"].id).last_login_at is None, "no code yet"
    logins.finish(house.db, step.token, house.code("admin", NOW + 30), address="a", user_agent="b", now=NOW + 31)
    assert account_list.one(house.db, EVERYTHING, house.accounts["admin"].id).last_login_at == NOW + 31


def test_who_stands_above_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = build(tmp_path, monkeypatch).accounts
    above = {who: {other for other in people if accounts.may_manage(people[who], people[other])} for who in people}
    assert above == {
        "super": {"admin", "support", "customer"},
        "admin": {"support", "customer"},
        "support": set(),
        "customer": set(),
    }


def test_address_role_and_language_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    db, support, boss = house.db, house.accounts["support"], house.accounts["super"]
    assert support.language == "fr" and accounts.set_language(db, support, "de").language == "de"
    with pytest.raises(UsageError, match="no language 'it'"):
        accounts.set_language(db, support, "it")
    assert accounts.set_email(db, support, " New@Example.org").email == "new@example.org"
    with pytest.raises(ConflictError, match="exists already"):
        accounts.set_email(db, support, "ADMIN@example.org")
    changed = accounts.set_role(db, support, Role.CUSTOMER, contract_id=house.ours.id)
    assert (changed.role, changed.space_id, changed.contract_id) == (Role.CUSTOMER, None, house.ours.id)
    with pytest.raises(UsageError):
        accounts.set_role(db, changed, Role.ADMIN)
    with pytest.raises(NotFoundError):
        accounts.set_role(db, changed, Role.ADMIN, space_id="snothing")
    with pytest.raises(ConflictError, match="last active super"):
        accounts.set_role(db, boss, Role.ADMIN, space_id=house.ours.space_id)
    assert accounts.space_of(db, changed) == house.ours.space_id and accounts.space_of(db, boss) is None


def test_a_new_authenticator_counts_once_its_code_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = build(tmp_path, monkeypatch)
    db, me = house.db, house.accounts["admin"]
    recovery_codes.renew(db, me.id, NOW)
    with pytest.raises(ConflictError, match="begin again"):
        accounts.confirm_totp(db, me, "123456", NOW)
    pending = accounts.begin_totp(db, me)
    assert accounts.pending_totp(db, me) == pending and pending.secret not in repr(pending)
    with pytest.raises(OneTimeCodeError):
        accounts.confirm_totp(db, me, house.code("admin"), NOW)
    assert isinstance(accounts.take_code(db, me, house.code("admin"), NOW), Accepted), "the old one goes on"
    code = pyotp.TOTP(pending.secret).at(int(NOW))
    accounts.confirm_totp(db, me, code, NOW)
    assert accounts.take_code(db, me, code, NOW) == Rejected(Reason.USED)
    assert isinstance(accounts.take_code(db, me, house.code("admin", NOW + 60), NOW + 60), Rejected)
    assert accounts.pending_totp(db, me) is None and recovery_codes.left(db, me.id) == 0
