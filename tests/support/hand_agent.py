"""An appliance in this process and agents that speak its protocol by hand, well or badly.

`Served` runs a real Exchange with a real channel on 127.0.0.1 and a real home in a thread. `HandAgent` is an enrolled
machine reduced to its keys and a connection: it says whatever it is told to, in any order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pyotp

from appliance.control import accounts, contracts, spaces
from appliance.control.accounts import Role
from appliance.control.contracts import Contract
from appliance.control.database import Database
from appliance.directory import Directory
from appliance.enrolling import Enroller
from appliance.exchange import Exchange
from appliance.repositories import Repositories
from appliance.settings import Settings, initialising
from appliance.store.repository import Repository
from transport import PROTOCOL_VERSION
from transport import messages as m
from transport.channel import AgentChannel, ApplianceChannel, new_curve_keys
from transport.commits import COMMIT_FORMAT, COMMIT_LABEL, FIRST_PREVIOUS, CommitRecord, SignedCommit
from transport.extents import Fragment, Operation, VersionRecord, encode_operations
from transport.keys import SigningKey
from transport.names import (
    NO_VERSION,
    ROOT,
    Digest,
    InstallationId,
    PathId,
    RepositoryId,
    SegmentId,
    VaultId,
    VersionId,
    random_id,
)
from transport.sealing import Sealer, vault_keys
from transport.tree import AddedDigest, EntryBatch, EntryKind, EntryRecord, digest_of_tree

_M = TypeVar("_M", bound=m.Message)
ANSWER_S = 20.0
FIGURES = m.BackupFigures(1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0.1, 0.1, 0)


class Served:
    """A running exchange; `close` ends it."""

    def __init__(self, root: Path) -> None:
        with initialising(root, Settings()) as self.home:
            self.db = Database.create(self.home.control_db)
        self.space = spaces.add(self.db, "tests", time.time())
        self.code = -1
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="exchange")
        self._thread.start()
        assert ready.wait(30)

    def _run(self, ready: threading.Event) -> None:
        """As `service.serve` does it, all in the thread that owns sockets and database."""

        def open_database() -> Database:
            return Database.open(self.home.control_db)

        curve = self.home.load_curve_keys()
        self.server_key = curve.public
        certificate = self.home.load_identity().certify(curve.public, 1)
        database = open_database()
        directory = Directory(database)
        channel = self.channel = ApplianceChannel(curve, directory.authorise)
        try:
            self.address, self.enrolment = channel.bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
            enroller = Enroller(
                self.home, open_database, certificate, channel, lambda: directory.reload(channel.wake)
            )
            repositories = Repositories(self.home.repositories)
            self.exchange = Exchange(channel, directory, repositories, enroller, certificate, open_database)
            ready.set()
            self.code = self.exchange.run()
        finally:
            channel.close()
            database.close()

    @property
    def alive(self) -> bool:
        """Whether agents are still served."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End it; the exit code stands in `code`."""
        self.exchange.stop()
        self._thread.join(30)
        self.db.close()

    def machine(self, contract: Contract | None = None) -> HandAgent:
        """A newly enrolled machine, of a contract of its own where none is given; not yet connected."""
        contract = contract or self.contract()
        token = contracts.new_token(self.db, contract, time.time()).token
        return HandAgent(self, contract, token)

    def contract(self) -> Contract:
        """A new contract."""
        client_id = f"client-{random_id().hex()}"
        return contracts.add(
            self.db, space_id=self.space.id, client_id=client_id, email="x@example.org", now=time.time()
        )

    def account(self) -> tuple[str, str]:
        """A new super-user: address and current code."""
        email = f"{random_id().hex()}@example.org"
        made = accounts.add(
            self.db, email=email, role=Role.SUPER, password="correct horse battery staple 42", now=time.time()
        )
        return email, pyotp.TOTP(made.totp.secret).now()

    def repository(self, machine: HandAgent) -> Repository:
        """The machine's repository, beside its writer."""
        return Repository.open(self.home.repositories / machine.machine.hex(), read_only=True)


class HandAgent:
    """A machine with its keys and at most one connection of its own."""

    def __init__(self, served: Served, contract: Contract, token: bytes) -> None:
        self.served = served
        self.contract = contract
        self.curve = new_curve_keys()
        self.signing = SigningKey.generate()
        self.vault = VaultId(random_id())
        self.installation = InstallationId(random_id())
        self.sealer = Sealer(vault_keys(random_id() * 2, self.vault))
        channel = AgentChannel([served.enrolment], served.server_key, self.curve)
        channel.connect()
        channel.send(
            m.Enrol(
                PROTOCOL_VERSION,
                token,
                "PC",
                self.curve.public,
                self.signing.public,
                self.vault,
                self.installation,
                "",
                "",
            )
        )
        frames = channel.receive_frames(ANSWER_S)
        channel.close()
        assert frames is not None
        enrolled = m.decode_enrolment_reply(frames[0])
        assert isinstance(enrolled, m.Enrolled), enrolled
        self.machine = RepositoryId(enrolled.machine)
        self.connections: list[Connection] = []
        self.number = 0
        self.previous = FIRST_PREVIOUS
        self.live: dict[PathId, EntryRecord] = {}
        self.added = AddedDigest()

    def connect(self, *, hello: bool = True) -> Connection:
        """A new connection."""
        connection = Connection(self)
        self.connections.append(connection)
        if hello:
            connection.hello()
        return connection

    def close(self) -> None:
        """End all connections."""
        while self.connections:
            self.connections.pop().channel.close()

    def segment(self, plaintext: bytes = b"some content") -> tuple[SegmentId, bytes]:
        """A sealed segment."""
        segment = SegmentId(random_id())
        return segment, bytes(self.sealer.seal_segment(segment, plaintext))

    def entries(self, *clear: EntryRecord) -> EntryBatch:
        """The entries sealed, taken for alive and counted."""
        batch = self.sealer.seal_entries()
        records = [batch.seal(record, b"name") for record in clear]
        for record in records:
            self.live[record.path_id] = record
            self.added.entry(record.token())
        return EntryBatch(batch.header, records)

    def root(self) -> Digest:
        """The root over what is alive."""
        children: dict[PathId, list[tuple[PathId, Digest, bool]]] = {}
        for record in self.live.values():
            children.setdefault(record.parent_id, []).append(
                (record.path_id, record.token(), record.kind == EntryKind.FOLDER)
            )
        return digest_of_tree(children, ROOT)[ROOT]

    def record(self) -> CommitRecord:
        """The next commit."""
        return CommitRecord(
            label=COMMIT_LABEL,
            format=COMMIT_FORMAT,
            vault=self.vault,
            repository=self.machine,
            installation=self.installation,
            epoch=1,
            number=self.number + 1,
            previous=self.previous,
            root=self.root(),
            entry_count=len(self.live),
            bytes_source=1,
            started_ms=1,
            ended_ms=2,
            complete=True,
            selection=Digest(bytes(32)),
            retention_floor_days=90,
            agent_version="hand",
            added=self.added.digest(),
        )

    def signed(self, **changes: object) -> SignedCommit:
        """The next commit, signed, with fields changed before."""
        return self.signing.sign_commit(msgspec.structs.replace(self.record(), **changes))

    def stands(self, signed: SignedCommit) -> None:
        """The commit was accepted."""
        self.number += 1
        self.previous = signed.hash()
        self.added = AddedDigest()


class Connection:
    """One connection; messages go out as they are told, answers are returned."""

    def __init__(self, agent: HandAgent) -> None:
        self.agent = agent
        self.channel = AgentChannel([agent.served.address], agent.served.server_key, agent.curve)
        self.channel.connect()
        self.seq = 0

    def say(self, message: m.Message, payload: bytes = b"") -> None:
        """Send."""
        self.channel.send(message, payload)

    def hear(self, timeout_s: float = ANSWER_S) -> m.ApplianceMessage | None:
        """The next word that is no heartbeat."""
        while (got := self.channel.receive(timeout_s)) is not None:
            if not isinstance(got[0], m.Ping):
                return got[0]
        return None

    def ask(self, message: m.Message, expected: type[_M], payload: bytes = b"") -> _M:
        """Send and return the answer, which must be of this type; acknowledgements are passed over."""
        self.say(message, payload)
        return self.answer(expected)

    def answer(self, expected: type[_M]) -> _M:
        """The next answer but acknowledgements, of this type."""
        while True:
            answer = self.hear()
            if isinstance(answer, m.Acknowledged) and expected is not m.Acknowledged:
                continue
            assert isinstance(answer, expected), answer
            return answer

    def refused(self, message: m.Message, payload: bytes = b"") -> str:
        """Send what must be refused; the code, which is never the one of an unforeseen error."""
        refused = self.ask(message, m.Refused, payload)
        assert refused.code != "failed", refused
        return refused.code

    def hello(self) -> m.Welcome:
        """Say hello."""
        return self.ask(m.Hello(PROTOCOL_VERSION, "hand", "test", 1, self.agent.installation), m.Welcome)

    def begin(self, session: bytes | None = None) -> m.BackupBegun:
        """Begin a session."""
        begun = self.ask(m.BackupBegin(session or random_id(), self.agent.previous), m.BackupBegun)
        self.seq = begun.received_upto
        return begun

    def next(self) -> int:
        """The next number."""
        self.seq += 1
        return self.seq

    def put_segment(self, plaintext: bytes = b"some content") -> SegmentId:
        """Send a segment."""
        segment, sealed = self.agent.segment(plaintext)
        self.say(m.PutSegment(self.next(), segment), sealed)
        return segment

    def put_version(self, operations: Sequence[Operation]) -> VersionId:
        """Send a version without base."""
        size = sum(operation.length for operation in operations)
        version = VersionId(random_id())
        record = VersionRecord(version, size, NO_VERSION, 0, encode_operations(operations))
        self.say(m.PutVersions(self.next(), [record]))
        return version

    def put_file(self, plaintext: bytes = b"some content", *, parent: PathId = ROOT) -> tuple[SegmentId, EntryRecord]:
        """Send a segment, a version and its entry."""
        segment = self.put_segment(plaintext)
        version = self.put_version([Fragment(segment, 0, len(plaintext))])
        entry = file_entry(version, len(plaintext), parent=parent)
        self.say(m.PutEntries(self.next(), self.agent.entries(entry)))
        return segment, entry

    def commit(self) -> m.Committed:
        """Commit what was put."""
        signed = self.agent.signed()
        committed = self.ask(m.PutCommit(self.next(), signed, FIGURES), m.Committed)
        assert committed.hash == signed.hash()
        self.agent.stands(signed)
        return committed

    def backup(self, plaintext: bytes = b"some content") -> tuple[SegmentId, EntryRecord]:
        """A whole small backup."""
        self.begin()
        made = self.put_file(plaintext)
        self.commit()
        self.say(m.BackupEnd())
        return made

    def open_restore(self) -> m.RestoreOpened:
        """Open a restore session with a new account's code."""
        return self.ask(m.RestoreOpen(*self.agent.served.account()), m.RestoreOpened)


def file_entry(version: VersionId, size: int, *, parent: PathId = ROOT, path: PathId | None = None) -> EntryRecord:
    """A file's entry, not sealed yet."""
    return EntryRecord(path or PathId(random_id()), parent, int(EntryKind.FILE), size, version, 0, b"")
