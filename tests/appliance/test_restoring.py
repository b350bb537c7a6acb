"""Restore sessions without a socket: who may take one up again, when it ends, and what may be under way."""

from __future__ import annotations

import pytest

from appliance.connections import (
    RESTORE_S,
    RESUME_S,
    WINDOW_BYTES,
    WINDOW_FLOOR_BYTES,
    WINDOW_POOL_BYTES,
    Connection,
)
from appliance.restoring import CodeNeededError, RestoreSessions
from transport.channel import Peer
from transport.names import InstallationId

MIB = 1 << 20
PC = InstallationId(b"installation 1  ")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> RestoreSessions:
    return RestoreSessions(clock)


def connection(route: str, machine: str = "machine", installation: InstallationId = PC) -> Connection:
    return Connection(Peer(route.encode(), machine), installation=installation)


def test_a_broken_restore_goes_on_over_another_connection(sessions: RestoreSessions, clock: Clock) -> None:
    first, second = connection("1"), connection("2")
    opened = sessions.open(first, "account")
    first.overdrawn = True
    sessions.gone(first)
    clock.now += RESUME_S
    session, former = sessions.resume(opened.secret, second)
    assert session is opened and former is None and session.account_id == "account"
    assert sessions.held_by(second) is opened
    with pytest.raises(CodeNeededError):
        sessions.held_by(first)


def test_who_takes_it_over_takes_it_away(sessions: RestoreSessions) -> None:
    """The appliance may not have noticed that the line is broken; two lines never share one code's restore."""
    first, second = connection("1"), connection("2")
    opened = sessions.open(first, "account")
    sessions.delivered(first, 5 * MIB)
    assert sessions.resume(opened.secret, second) == (opened, first)
    with pytest.raises(CodeNeededError):
        sessions.held_by(first)
    sessions.gone(first)  # noticed later
    assert sessions.held_by(second) is opened
    assert second.delivered_bytes == second.confirmed_bytes == 0


@pytest.mark.parametrize(
    "other",
    [
        connection("2", machine="another machine"),
        connection("2", installation=InstallationId(b"another install.")),
        Connection(Peer(b"2", "machine")),
    ],
    ids=["machine", "installation", "no installation"],
)
def test_nobody_else_takes_it_up(sessions: RestoreSessions, other: Connection) -> None:
    first = connection("1")
    opened = sessions.open(first, "account")
    with pytest.raises(CodeNeededError, match="TOTP"):
        sessions.resume(opened.secret, other)
    assert sessions.held_by(first) is opened


@pytest.mark.parametrize("secret", [b"", bytes(16), b"x" * 16])
def test_a_wrong_secret_opens_nothing(sessions: RestoreSessions, secret: bytes) -> None:
    sessions.open(connection("1"), "account")
    with pytest.raises(CodeNeededError):
        sessions.resume(secret, connection("2"))


def test_a_restore_left_for_too_long_is_over(sessions: RestoreSessions, clock: Clock) -> None:
    first = connection("1")
    opened = sessions.open(first, "account")
    sessions.gone(first)
    clock.now += RESUME_S + 1
    with pytest.raises(CodeNeededError):
        sessions.resume(opened.secret, connection("2"))
    assert len(sessions) == 0


def test_going_on_makes_it_no_longer(sessions: RestoreSessions, clock: Clock) -> None:
    """Only data that flows renews a restore: one that is taken up again and again ends all the same."""
    holder = connection("1")
    opened = sessions.open(holder, "account")
    for number in range(2, 100):
        clock.now += 60.0
        if clock.now > 1000.0 + RESTORE_S:
            break
        holder, former = connection(str(number)), holder
        sessions.gone(former)
        sessions.resume(opened.secret, holder)
    with pytest.raises(CodeNeededError):
        sessions.held_by(holder)
    with pytest.raises(CodeNeededError):
        sessions.resume(opened.secret, connection("another"))


def test_another_code_on_the_same_connection_ends_the_former_restore(sessions: RestoreSessions) -> None:
    first = connection("1")
    former = sessions.open(first, "account")
    newer = sessions.open(first, "account")
    assert newer.secret != former.secret and len(sessions) == 1
    with pytest.raises(CodeNeededError):
        sessions.resume(former.secret, connection("2"))


def test_an_ended_session_is_nobodys(sessions: RestoreSessions) -> None:
    first = connection("1")
    opened = sessions.open(first, "account")
    sessions.end(opened)
    with pytest.raises(CodeNeededError):
        sessions.held_by(first)


# What may be under way


def fill(sessions: RestoreSessions, one: Connection) -> int:
    """Deliver a megabyte at a time as far as there is room; bytes under way then."""
    while sessions.room(one):
        sessions.delivered(one, MIB)
    return one.delivered_bytes - one.confirmed_bytes


def test_a_machine_has_one_window_however_many_restores(sessions: RestoreSessions) -> None:
    all_of_it = [connection(str(number)) for number in range(8)]
    for one in all_of_it:
        sessions.open(one, "account")
    under_way = [fill(sessions, one) for one in all_of_it]
    assert under_way == [WINDOW_BYTES] + [WINDOW_FLOOR_BYTES] * 7


def test_all_restores_share_a_pool_and_each_goes_on(sessions: RestoreSessions) -> None:
    crowd = [connection(str(number), machine=f"m{number}") for number in range(30)]
    for one in crowd:
        sessions.open(one, "account")
    total = sum(fill(sessions, one) for one in crowd)
    assert total <= WINDOW_POOL_BYTES + len(crowd) * WINDOW_FLOOR_BYTES
    last = crowd[-1]
    for _ in range(10):
        sessions.confirmed(last, last.delivered_bytes)
        assert fill(sessions, last) == WINDOW_FLOOR_BYTES


def test_what_is_confirmed_or_gone_makes_room(sessions: RestoreSessions) -> None:
    crowd = [connection(str(number), machine=f"m{number}") for number in range(4)]
    for one in crowd:
        sessions.open(one, "account")
        fill(sessions, one)
    late = connection("late", machine="late")
    sessions.open(late, "account")
    assert fill(sessions, late) == WINDOW_FLOOR_BYTES
    sessions.confirmed(crowd[0], crowd[0].delivered_bytes)
    assert fill(sessions, late) == WINDOW_BYTES
    for one in crowd:
        one.overdrawn = True
        sessions.gone(one)
        sessions.delivered(one, MIB)  # a worker that had not noticed yet
    sessions.gone(late)
    assert sessions._total == 0 and not sessions._under_way and not sessions._of_machine
