"""What is said inside a restore session, at its beginning and its end, answered in order: opening, taking up again,
extents, segments, what became of a delivery.

Runs on worker threads, one at a time per machine. Who may open what is `delivery`'s to say, who holds a session
`restoring`'s; the session table moves on here, once an opening was accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appliance import attendance, delivery, handing
from appliance.connections import Connection
from appliance.control.database import Database
from appliance.control.machines import AuthorisedMachine
from appliance.restoring import RestoreSessions
from appliance.store.repository import Repository
from transport import messages as m
from transport.names import Buffer

Opening = m.RestoreOpen | m.RestoreResume | m.DeliveryOpen
OPENINGS: Final = (m.RestoreOpen, m.RestoreResume, m.DeliveryOpen)
"""What begins a session on a connection; it moves on only when that was accepted."""
Word = Opening | m.ExtentsQuery | m.FetchSegments | m.DeliveryReport
WORDS: Final = (*OPENINGS, m.ExtentsQuery, m.FetchSegments, m.DeliveryReport)


def serve(
    message: Word,
    connection: Connection,
    machine: AuthorisedMachine,
    repository: Repository,
    database: Database,
    sessions: RestoreSessions,
    post: Callable[[m.Message, Buffer], None],
) -> Connection | None:
    """Answer one word through `post`; the connection that lost its session to this one, for whoever ends it."""
    if isinstance(message, m.DeliveryOpen | m.DeliveryReport):
        attendance.check_installation(connection, machine)
        delivery.slow_down(machine.machine_id)
    match message:
        case m.RestoreOpen():
            opened = delivery.open_restore(message, connection, machine, database, sessions)
            connection.session.succeeded(message)
            post(opened, b"")
        case m.RestoreResume():
            opened, former = delivery.resume_restore(message, connection, machine, database, sessions)
            connection.session.succeeded(message)
            post(opened, b"")
            return former
        case m.DeliveryOpen():
            session = handing.open_delivery(message, connection, machine, repository, database, sessions)
            connection.session.succeeded(message)
            post(delivery.opened(session), b"")
        case m.DeliveryReport():
            post(handing.report(message, machine, database, sessions), b"")
        case m.ExtentsQuery():
            post(delivery.extents(message, connection, repository, sessions), b"")
        case m.FetchSegments():
            parcel = delivery.want(message, connection, sessions)
            for answer, payload in delivery.deliver(connection, repository, sessions, parcel):
                post(answer, payload)
    return None
