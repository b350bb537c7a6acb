"""Restore sessions: what one accepted code opened, who holds it now, and how many bytes may be on their way to whom.

Questions and answers:

*May a restore whose line broke go on without another code?* **Yes: the same restore, for RESUME_S, over a connection
that the channel proves to be the same machine, that named the same installation, and that shows the session's
secret.** One code still opens one restore. The session is held by one connection at a time; who takes it over takes it
away. It ends when it would have ended on an unbroken line, its account must still be active and in charge of the
machine, and nothing of it survives a restart of the appliance. The secret (16 random bytes) travels inside CURVE and is
kept in the agent's memory alone, so that a machine's keys, stolen from its disk, resume nothing: whoever reads the
memory of a restoring agent has its line as well. Options: a new code for each break (a restore of hours over a bad line
would need a person beside it), or the machine's key alone (a stolen PC would get three minutes with everything behind
every restore that its owner begins).

*How much memory may restores take?* **A window for each machine, a pool for all, and a floor below which nobody waits
for anybody.** An agent confirms what it took before it waits, so that each restore always has FLOOR under way and
moves. What it confirms is held against what its kernel acknowledged (`Exchange`): one that confirms what it never
took is cut off.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.connections import (
    RESTORE_S,
    RESUME_S,
    WINDOW_BYTES,
    WINDOW_FLOOR_BYTES,
    WINDOW_POOL_BYTES,
    Connection,
)
from appliance.granting import Grant, ParcelGrant
from transport.errors import RefusedError
from transport.names import InstallationId

SECRET_BYTES: Final = 16


class CodeNeededError(RefusedError):
    """Data was asked for outside a restore session."""

    code = "code-needed"


@dataclass(slots=True)
class RestoreSession:
    """One restore. `until` and `left` on the monotonic clock; `holder` None while its line is broken, since `left`."""

    secret: bytes
    machine: str
    installation: InstallationId | None
    account_id: str
    until: float
    holder: Connection | None
    left: float = 0.0
    resumed: int = 0
    grant: Grant | ParcelGrant | None = None
    """What a delivery bounds it to; None where a code opened all of the machine's backups."""
    kept_until: float = 0.0
    """Until then it waits for a connection however long nobody holds it."""


class RestoreSessions:
    """All restores of this appliance. Any thread; of one machine one at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_secret: dict[bytes, RestoreSession] = {}
        self._under_way: dict[bytes, int] = {}
        """Bytes delivered and not confirmed, by route."""
        self._of_machine: dict[str, int] = {}
        self._total = 0

    def __len__(self) -> int:
        return len(self._by_secret)

    def open(self, connection: Connection, account_id: str, grant: Grant | ParcelGrant | None = None) -> RestoreSession:
        """A code, or a delivery, was accepted on this connection; a restore that it held before is over, and so is
        another one of the same delivery."""
        now = self._clock()
        secret = secrets.token_bytes(SECRET_BYTES)
        session = RestoreSession(
            secret, connection.peer.machine, connection.installation, account_id, now + RESTORE_S, None, grant=grant
        )
        with self._lock:
            self._forget_old(now)
            former = connection.restore_secret
            if former is not None:
                self._by_secret.pop(former, None)
            if grant is not None:
                self._end_delivery(session.machine, grant.number)
            self._by_secret[secret] = session
            self._hand_over(session, connection)
        return session

    def grant(self, machine: str, installation: InstallationId, account_id: str, seconds: float) -> bytes:
        """The secret of a session that a code opened before there was a connection (a recovery): whoever this machine
        is from now on takes it up, as often as it likes, for so many seconds."""
        now = self._clock()
        secret = secrets.token_bytes(SECRET_BYTES)
        with self._lock:
            self._forget_old(now)
            self._by_secret[secret] = RestoreSession(
                *(secret, machine, installation, account_id, now + seconds, None, now), kept_until=now + seconds
            )
        return secret

    def resume(self, secret: bytes, connection: Connection) -> tuple[RestoreSession, Connection | None]:
        """The session, held by this connection from now on, and the connection that held it, if it is still there.

        CodeNeededError where there is none: wrong, over, left for too long, or another machine's or installation's.
        """
        now = self._clock()
        with self._lock:
            self._forget_old(now)
            session = self._by_secret.get(secret)
            if session is None or (session.machine, session.installation) != (
                connection.peer.machine,
                connection.installation,
            ):
                raise CodeNeededError("this restore cannot go on: its session has ended, give a new TOTP code")
            former = session.holder
            if former is not None and former is not connection:
                self._let_go(former)
            session.resumed += 1
            self._hand_over(session, connection)
        return session, former if former is not connection else None

    def held_by(self, connection: Connection) -> RestoreSession:
        """The live session of this connection; CodeNeededError where it has none."""
        with self._lock:
            session = self._by_secret.get(connection.restore_secret or b"")
            if session is None or session.holder is not connection or self._clock() > session.until:
                raise CodeNeededError("the restore session has ended: give a new TOTP code")
            return session

    def gone(self, connection: Connection) -> None:
        """The connection has ended. Its restore waits a while for another one of the same agent."""
        with self._lock:
            session = self._by_secret.get(connection.restore_secret or b"")
            self._let_go(connection)
            if session is not None and session.holder is connection:
                session.holder, session.left = None, self._clock()

    def end_delivery(self, machine: str, number: int) -> None:
        """Whatever restores this delivery of the machine ends."""
        with self._lock:
            self._end_delivery(machine, number)

    def _end_delivery(self, machine: str, number: int) -> None:
        for secret, session in list(self._by_secret.items()):
            if session.machine == machine and session.grant is not None and session.grant.number == number:
                del self._by_secret[secret]
                if session.holder is not None:
                    self._let_go(session.holder)

    def end(self, session: RestoreSession) -> None:
        """No connection goes on with it."""
        with self._lock:
            self._by_secret.pop(session.secret, None)
            if session.holder is not None:
                self._let_go(session.holder)

    def sweep(self) -> None:
        """Forget what has ended."""
        with self._lock:
            self._forget_old(self._clock())

    def _hand_over(self, session: RestoreSession, connection: Connection) -> None:
        session.holder, session.left = connection, 0.0
        self._count(connection, 0)
        connection.restore_secret = session.secret
        connection.delivered_bytes = connection.confirmed_bytes = 0
        connection.wanted.clear()

    def _let_go(self, connection: Connection) -> None:
        connection.restore_secret = None
        connection.wanted.clear()
        self._count(connection, 0)

    def _forget_old(self, now: float) -> None:
        for secret, session in list(self._by_secret.items()):
            kept = now <= session.kept_until or now - session.left <= RESUME_S
            if now > session.until or (session.holder is None and not kept):
                del self._by_secret[secret]

    # what is under way

    def room(self, connection: Connection) -> bool:
        """Whether another segment may go out to this connection now."""
        with self._lock:
            own = self._under_way.get(connection.peer.route, 0)
            if own < WINDOW_FLOOR_BYTES:
                return True
            return self._of_machine.get(connection.peer.machine, 0) < WINDOW_BYTES and self._total < WINDOW_POOL_BYTES

    def delivered(self, connection: Connection, count: int) -> None:
        """A segment of so many bytes is on its way; the session lives on."""
        with self._lock:
            connection.delivered_bytes += count
            self._count(connection, connection.delivered_bytes - connection.confirmed_bytes)
            session = self._by_secret.get(connection.restore_secret or b"")
            if session is not None:
                session.until = self._clock() + RESTORE_S

    def confirmed(self, connection: Connection, total: int) -> None:
        """The agent has taken so many bytes in all."""
        with self._lock:
            connection.confirmed_bytes = total
            self._count(connection, connection.delivered_bytes - total)

    def _count(self, connection: Connection, under_way: int) -> None:
        route, machine = connection.peer.route, connection.peer.machine
        if connection.overdrawn:
            under_way = 0  # it is gone, whatever a worker still delivers to it
        change = under_way - self._under_way.pop(route, 0)
        if under_way:
            self._under_way[route] = under_way
        of_machine = self._of_machine.pop(machine, 0) + change
        if of_machine:
            self._of_machine[machine] = of_machine
        self._total += change
