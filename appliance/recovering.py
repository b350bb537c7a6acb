"""Recovery: a machine goes on on new hardware, once a person proved who they are and the new hardware proved the rest.

Owns the tickets of recoveries under way and the order of a takeover: the repository hears of the new signing key first,
so that the former installation can add nothing any more, then the control database learns the new keys, then live
connections of the former one end. Asked again after a lost answer, the same keys get the same answer. Whoever speaks
here is identified by password and one-time code alone; what they may recover is what their account may restore. Runs
on the enrolment's thread, one request after the other; a confided key is opened in a process of its own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import dataclass
from typing import Final

from appliance import delivery, notices
from appliance.connections import Connection
from appliance.control import accounts, acts, audit, logins, machine_keys, machine_logs, machines, restores
from appliance.control import former_settings as former
from appliance.control.accounts import Account, Role
from appliance.control.contracts import Escrow
from appliance.control.contracts import of_machine as contract_of
from appliance.control.database import Database
from appliance.control.machines import Machine, MachineState, Overview
from appliance.control.restores import Purpose
from appliance.control.scope import EVERYTHING
from appliance.errors import NotFoundError
from appliance.opening.rewrapping import rewrapped
from appliance.restoring import RestoreSessions
from appliance.settings import Home
from appliance.store.errors import StaleHeadError
from appliance.store.repository import Repository
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import Peer
from transport.errors import DecodeError, ProtocolError, RefusedError
from transport.keys import Certificate
from transport.messages_recovery import NAMES_LIMIT
from transport.names import NO_DIGEST, InstallationId, RepositoryId
from transport.succession import SUCCESSION_LABEL, SignedSuccession, Succession

TICKET_S: Final = 600.0
"""From the one-time code to the takeover: a long history is read and proved meanwhile."""
RESTORE_S: Final = 15 * 60
"""Without another code, after a takeover."""
_TICKETS: Final = 64
_WAIT_S: Final = 60.0
"""For the turn to write: maintenance gives way within a second."""
_PURPOSE: Final = "recover"


class RevokedMachineError(RefusedError):
    """Whoever looks after the space said no to this machine, and must say yes again."""

    code = "revoked"


class TicketError(RefusedError):
    """The recovery took too long, or the appliance was started anew meanwhile."""

    code = "ticket"


@dataclass(frozen=True, slots=True)
class _Ticket:
    account: Account
    machine_id: RepositoryId
    address: str
    until: float
    took: list[tuple[bytes, bytes, bytes]]
    """The one installation that it was used for: an answer that was lost is asked for again, nothing else."""


class Recoveries:
    """Recoveries under way. `attach` says whose connections end and where restores are kept."""

    def __init__(
        self,
        home: Home,
        certificate: Certificate,
        reload: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._certificate = certificate
        self._reload = reload
        self._clock = clock
        self._tickets: dict[bytes, _Ticket] = {}
        self._restores = RestoreSessions()
        self._connections: Mapping[bytes, Connection] = {}
        self._condemned: MutableSequence[Peer] = []

    def attach(
        self, restores: RestoreSessions, connections: Mapping[bytes, Connection], condemned: MutableSequence[Peer]
    ) -> None:
        """The exchange's own: its restores, its live connections, and those that its next sweep ends."""
        self._restores, self._connections, self._condemned = restores, connections, condemned

    def answer(
        self, db: Database, request: m.RecoverOpen | m.RecoverHistory | m.RecoverTake, address: str
    ) -> m.Message:
        """The answer to a stranger at a network address; RefusedError and its like in words for people."""
        now = self._clock()
        for ticket in [ticket for ticket, held in self._tickets.items() if now > held.until]:
            del self._tickets[ticket]
        match request:
            case m.RecoverOpen():
                return self._open(db, request, address)
            case m.RecoverHistory():
                held = self._held(db, request.ticket)
                with Repository.open(self._home.repository(held.machine_id), read_only=True) as repository:
                    return delivery.snapshots(m.SnapshotsQuery(request.after), repository)
            case m.RecoverTake():
                return self._take(db, request, self._held(db, request.ticket))

    def _held(self, db: Database, ticket: bytes) -> _Ticket:
        held = self._tickets.get(ticket)
        if held is None or not restores.may_still_restore(db, held.account.id, held.machine_id):
            raise TicketError("this recovery has ended: begin again, with a new code")
        return held

    # who, and which machine

    def _open(self, db: Database, request: m.RecoverOpen, address: str) -> m.RecoverOffered | m.RecoverChoice:
        if request.protocol != PROTOCOL_VERSION:
            raise DecodeError(f"protocol {request.protocol}")
        now = time.time()
        account = logins.account_of(db, request.account, request.password, address=address, now=now)
        seen = machines.overviews(db, accounts.scope_of(account))
        machine = _chosen(seen, request.machine.strip())
        if machine is None:
            logins.check_code(db, account, request.code, address=address, now=now, purpose=_PURPOSE)
            return _choice(seen, request.machine.strip())
        restores.verify_restore_code(db, account.email, request.code, machine.id, now, Purpose.RECOVER)
        _check_may_come_back(machine, account)
        held = machine_keys.find(db, EVERYTHING, machine.id)
        opens = held is not None and held.mode is Escrow.CONFIDED and bool(request.wrap_to)
        # Written down before the key is opened, so that none leaves without a line.
        shown = {"key": "opened" if opens else str(held.mode) if held is not None else "none"}
        acts.note(db, audit.actor_of(account, address), "machine.recover-open", machine, now=now, after=shown)
        text = f"Recovery onto new hardware begun by {account.email}"
        machine_logs.add(db, machine.id, level="warning", module=_PURPOSE, text=text, now=now)
        envelope = b"" if held is None or held.mode is Escrow.CONFIDED else held.envelope
        if opens:
            assert held is not None
            envelope = rewrapped(self._home, machine.id, machine.vault, held.envelope, request.wrap_to)
        with Repository.open(self._home.repository(machine.id), read_only=True) as repository:
            head, successions, founding = repository.head, repository.successions(), repository.public_key
        return m.RecoverOffered(
            ticket=self._ticket(account, machine.id, address),
            seconds=int(TICKET_S),
            machine=machine.id,
            name=machine.name,
            contract=contract_of(db, machine.id).client_id,
            vault=machine.vault,
            certificate=self._certificate,
            founding=founding,
            successions=successions,
            head=head,
            key_mode="local" if held is None else "confided" if held.mode is Escrow.CONFIDED else "private",
            envelope=envelope,
            settings=former.of_machine(db, machine.id),
        )

    def _ticket(self, account: Account, machine_id: RepositoryId, address: str) -> bytes:
        while len(self._tickets) >= _TICKETS:
            del self._tickets[next(iter(self._tickets))]
        ticket = secrets.token_bytes(16)
        self._tickets[ticket] = _Ticket(account, machine_id, address, self._clock() + TICKET_S, [])
        return ticket

    # the takeover

    def _take(self, db: Database, request: m.RecoverTake, held: _Ticket) -> m.Recovered:
        wanted = (request.curve_key, request.signing_key, request.installation)
        if held.took not in ([], [wanted]):
            raise TicketError("this recovery was used for another installation: begin again, with a new code")
        machine = machines.get(db, held.machine_id)
        _check_may_come_back(machine, accounts.find(db, held.account.id))
        machines.check_takeover(db, machine, request.curve_key)
        # As another process would: the exchange gives way to whoever waits for the writer's place.
        with Repository.open(self._home.repository(machine.id), wait_s=_WAIT_S) as repository:
            succession = self._succeed(repository, request)
        held.took[:] = [wanted]
        now = time.time()
        with db.write():
            # Once more, and with the act: whoever was mailed about the recovery may have revoked the machine meanwhile.
            machine = machines.get(db, held.machine_id)
            _check_may_come_back(machine, accounts.find(db, held.account.id))
            taken = machines.take_over(
                db,
                machine,
                curve_key=request.curve_key,
                signing_key=request.signing_key,
                installation=request.installation,
                agent_version=request.agent_version,
                platform=request.platform,
                now=now,
            )
            if _keys(taken) != _keys(machine) or machine.state is MachineState.REVOKED:
                before, after = machine.installation.hex(), taken.installation.hex()
                actor = audit.actor_of(held.account, held.address)
                acts.note(db, actor, "machine.recover", taken, now=now, before=before, after=after)
                text = f"A new installation on new hardware took over, approved by {held.account.email}"
                machine_logs.add(db, machine.id, level="warning", module=_PURPOSE, text=text, now=now)
                notices.tell_recovered(db, taken, by=held.account, now=now)
        self._reload()  # from here on the former key opens no connection
        for connection in list(self._connections.values()):
            if connection.peer.machine == machine.hex and connection.installation != taken.installation:
                connection.overdrawn = True
                self._condemned.append(connection.peer)
        session = self._restores.grant(machine.hex, taken.installation, held.account.id, RESTORE_S)
        return m.Recovered(succession, session, RESTORE_S)

    def _succeed(self, repository: Repository, request: m.RecoverTake) -> SignedSuccession:
        """The succession by which the new key signs from now on; the one before, where that is the same key."""
        signers, head = repository.signers(), repository.head
        if (head.hash() if head is not None else NO_DIGEST) != request.head:
            raise StaleHeadError("another backup of this machine came meanwhile: begin the recovery again")
        if signers.current == request.signing_key:
            if not signers.successions:
                raise ProtocolError("a recovered machine needs a signing key of its own")
            return repository.successions()[-1]
        identity = self._home.load_identity()
        now_ms = int(time.time() * 1000)
        succession = identity.sign_succession(
            Succession(
                label=SUCCESSION_LABEL,
                vault=repository.vault,
                repository=repository.repository,
                number=len(signers.successions) + 1,
                after=repository.head_number,
                head=request.head,  # type: ignore[arg-type]
                former=signers.current,
                successor=request.signing_key,
                installation=InstallationId(request.installation),
                approver=identity.public,
                approved_ms=now_ms,
            )
        )
        repository.succeed(succession, received_ms=now_ms)
        return succession


def _check_may_come_back(machine: Machine, account: Account) -> None:
    """RevokedMachineError where a revoked machine would come back by somebody who does not look after the space."""
    if machine.state is MachineState.REVOKED and account.role not in (Role.SUPER, Role.ADMIN):
        raise RevokedMachineError(
            f"machine {machine.name} was revoked: whoever looks after it must recover it, with an account of theirs"
        )


def _keys(machine: Machine) -> tuple[bytes, bytes, bytes]:
    return machine.curve_key, machine.signing_key, machine.installation


def _chosen(seen: list[Overview], wanted: str) -> Machine | None:
    """The only machine that is meant, by name or id."""
    if not wanted:
        return seen[0].machine if len(seen) == 1 else None
    found = [one.machine for one in seen if wanted == one.machine.name or wanted.lower() == one.machine.hex]
    return found[0] if len(found) == 1 else None


def _choice(seen: list[Overview], wanted: str) -> m.RecoverChoice:
    """What there is to choose from; NotFoundError where the account sees nothing, or not what it names."""
    names = [one.machine.name for one in seen]
    shown = [
        one.machine.name
        if names.count(one.machine.name) == 1
        else f"{one.machine.hex} ({one.machine.name} of {one.client_id})"
        for one in seen[:NAMES_LIMIT]
    ]
    if not shown:
        raise NotFoundError("this account sees no machine: recover with one that may see the machine's contract")
    if wanted and wanted not in names:
        raise NotFoundError(f"this account sees no machine {wanted!r}: it sees {', '.join(shown[:20])}")
    return m.RecoverChoice(shown)
