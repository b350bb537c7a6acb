"""Enrolment: the door for strangers. It speaks few messages, slowly, on its own thread, and answers with a sentence.

Identity here is only a one-time token; the new machine's keys come in the message and count from the next
connection on. Rate limited as a whole: a guesser and a flood get the same few tries a second. Whoever wants to recover
a machine comes by the same door (`recovering`), with a password and a code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from appliance.connections import Warnings
from appliance.control import contracts, machines
from appliance.control.contracts import Escrow
from appliance.control.database import Database
from appliance.recovering import Recoveries
from appliance.settings import Home
from appliance.store.repository import Repository
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import ApplianceChannel, Arrival
from transport.errors import DecodeError, PilulierError
from transport.keys import Certificate
from transport.names import RepositoryId, VaultId

log = logging.getLogger("pilulier.enrolling")

WAITING_LIMIT: Final = 32
PAUSE_S: Final = 0.05
"""Between two requests: at most 20 tokens of 128 bits can be tried in a second."""


class Enroller:
    """Turns enrolment codes into machines."""

    def __init__(
        self,
        home: Home,
        open_database: Callable[[], Database],
        certificate: Certificate,
        channel: ApplianceChannel,
        enrolled: Callable[[], None],
    ) -> None:
        self._home = home
        self._open_database = open_database
        self._certificate = certificate
        self._channel = channel
        self._enrolled = enrolled
        self.recoveries = Recoveries(home, certificate, enrolled)
        self._warnings = Warnings(log)  # strangers provoke these
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="enrolling")
        self._database: Database | None = None

    def request(self, arrival: Arrival) -> None:
        """Queue a request; beyond WAITING_LIMIT it is dropped."""
        if self._waiting >= WAITING_LIMIT:
            return
        self._waiting += 1
        self._pool.submit(self._serve, arrival)

    def close(self) -> None:
        """Drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _serve(self, arrival: Arrival) -> None:
        try:
            request = m.decode_enrolment(arrival.header)
            if isinstance(request, m.Enrol):
                answer: m.Message = self._enrol(request)
            else:
                answer = self.recoveries.answer(self._opened(), request, arrival.address)
        except DecodeError:
            answer = m.Refused("protocol", "this is not a request of this version: update the agent")
        except PilulierError as error:
            self._warnings.warn("refused a stranger", str(error))
            answer = m.Refused(error.code, str(error)[:500])
        except Exception:  # the edge of a worker
            log.exception("enrolment failed")
            answer = m.Refused("failed", "the appliance met an unexpected error; its log has the details")
        finally:
            self._waiting -= 1
        self._channel.post(arrival.peer, answer, enrolment=True)
        time.sleep(PAUSE_S)

    def _opened(self) -> Database:
        if self._database is None:
            self._database = self._open_database()
        return self._database

    def _enrol(self, request: m.Enrol) -> m.Enrolled:
        if request.protocol != PROTOCOL_VERSION:
            raise DecodeError(f"protocol {request.protocol}")
        database = self._opened()
        machine = machines.enrol(
            database,
            request.token,
            name=request.name,
            curve_key=request.curve_key,
            signing_key=request.signing_key,
            vault=request.vault,
            installation=request.installation,
            agent_version=request.agent_version,
            platform=request.platform,
            now=time.time(),
            key_mode=Escrow(request.key_mode),
        )
        folder = self._home.repositories / machine.hex
        if not folder.exists():
            Repository.create(
                folder,
                repository=RepositoryId(machine.id),
                vault=VaultId(machine.vault),
                public_key=machine.signing_key,
            ).close()
        self._enrolled()
        contract = contracts.of_machine(database, machine.id)
        return m.Enrolled(machine.id, machine.name, contract.client_id, self._certificate)
