"""Logging in: two steps, one sentence for every failure, throttling that cannot be turned against others."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.control import accounts, logins, outbox, recovery_codes, restores, sessions, throttling
from appliance.control.accounts import AccountState
from appliance.errors import LoginError, OneTimeCodeError, ThrottledError
from tests.support.control_house import NOW, PASSWORD, House, build


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    logins._nobody.cache_clear()
    return build(tmp_path, monkeypatch)


def first(
    house: House, who: str = "admin", password: str = PASSWORD, address: str = "192.0.2.1", now: float = NOW
) -> logins.PendingLogin:
    return logins.check_password(house.db, f"{who}@example.org", password, address=address, now=now)


def second(house: House, token: str, code: str, now: float = NOW) -> sessions.NewSession:
    return logins.finish(house.db, token, code, address="192.0.2.1", user_agent="browser", now=now)


def test_password_then_code_makes_a_session(house: House) -> None:
    step = first(house, "ADMIN")
    assert step.account == house.accounts["admin"] and step.token not in repr(step)
    assert logins.pending(house.db, step.token, NOW + 1) == house.accounts["admin"]
    assert sessions.find(house.db, step.token, NOW) is None, "the first step alone opens nothing"
    new = second(house, step.token, house.code("admin"))
    assert sessions.find(house.db, new.token, NOW) == new.session
    with pytest.raises(LoginError, match="took too long"):
        second(house, step.token, house.code("admin", NOW + 30), NOW + 30)


def test_every_failure_of_the_first_step_reads_alike(house: House) -> None:
    accounts.set_state(house.db, house.accounts["support"], AccountState.DISABLED)
    sentences = set()
    for who, password in (("admin", "wrong wrong"), ("nobody", PASSWORD), ("support", PASSWORD), ("admin", "x" * 5000)):
        with pytest.raises(LoginError) as error:
            first(house, who, password)
        sentences.add(str(error.value))
    assert len(sentences) == 1


def test_the_way_between_the_steps_closes(house: House) -> None:
    step = first(house)
    assert logins.pending(house.db, step.token, NOW + logins.PENDING_S) is None
    with pytest.raises(LoginError):
        second(house, step.token, house.code("admin", NOW + 600), NOW + 600)
    step = first(house)
    accounts.set_password(house.db, house.accounts["admin"], PASSWORD)
    assert logins.pending(house.db, step.token, NOW) is None
    step = first(house)
    accounts.set_state(house.db, house.accounts["admin"], AccountState.DISABLED)
    assert logins.pending(house.db, step.token, NOW) is None
    assert logins.pending(house.db, "", NOW) is None


def test_a_recovery_code_stands_in_once_and_is_told(house: House) -> None:
    account = house.accounts["admin"]
    [code, *_] = recovery_codes.renew(house.db, account.id, NOW)
    second(house, first(house).token, f" {code.upper()} ")
    assert recovery_codes.left(house.db, account.id) == 9
    [mail] = outbox.pending(house.db)
    assert (mail.recipient, mail.kind, mail.fields["left"]) == (account.email, outbox.RECOVERY_CODE_USED, 9)
    with pytest.raises(OneTimeCodeError):
        second(house, first(house).token, code)


def test_five_wrong_passwords_close_this_account_from_this_address_only(house: House) -> None:
    for _ in range(5):
        with pytest.raises(LoginError):
            first(house, password="wrong wrong")
    with pytest.raises(ThrottledError, match="15 minutes"):
        first(house)
    assert first(house, address="198.51.100.7").account == house.accounts["admin"]
    assert first(house, "support").account == house.accounts["support"]
    assert first(house, now=NOW + throttling.WINDOW_S + 1).account == house.accounts["admin"]


def test_one_address_cannot_try_everybody(house: House) -> None:
    for number in range(throttling.PASSWORDS_FROM_ADDRESS):
        with pytest.raises(LoginError):
            first(house, f"person{number}")
    with pytest.raises(ThrottledError):
        first(house)
    assert first(house, address="198.51.100.7").account == house.accounts["admin"]


def test_right_passwords_close_no_address(house: House) -> None:
    """A practice behind one address logs in and out all day."""
    for _ in range(throttling.PASSWORDS_FROM_ADDRESS + 1):
        assert first(house).account == house.accounts["admin"]


def test_guessing_passwords_does_not_close_restores(house: House) -> None:
    for number in range(20):
        with pytest.raises(LoginError):
            first(house, "customer", "wrong wrong", address=f"192.0.2.{number}")
    opened = restores.verify_restore_code(
        house.db, "customer@example.org", house.code("customer"), house.machine.id, NOW
    )
    assert opened == house.accounts["customer"]


def test_a_right_password_wins_no_free_guesses_at_codes(house: House) -> None:
    for _ in range(5):
        with pytest.raises(OneTimeCodeError):
            second(house, first(house).token, "000000")
    with pytest.raises(ThrottledError):
        second(house, first(house).token, house.code("admin"))


def test_attempts_are_written_down_with_their_address(house: House) -> None:
    with pytest.raises(LoginError):
        first(house, password="wrong wrong", address="198.51.100.7")
    [attempt] = throttling.recent(house.db, NOW)
    assert (attempt.address, attempt.outcome, attempt.purpose) == ("198.51.100.7", "wrong", throttling.PASSWORD)
