"""A host that lies in its messages: wrong answers, other questions' answers, answers without end.

Below the source: the real client, remote source and commands' functions, over a channel that a hostile host holds.
What it says passes through the real encoders and decoders. The clock is ours, so that waiting costs nothing.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import client as client_module
from agent.enrolling import Enrolled, Keys, check_welcome
from agent.history import list_path, list_snapshots
from agent.mending import CARE_BYTES, believable
from agent.remote import RemoteSource
from agent.restore import restore
from agent.settings import AgentHome, ApplianceAddress, Settings
from agent.verify import VerifyReport, open_sample
from tests.support.hostile_host import Stage, stage
from transport import messages as m
from transport.channel import CurveKeys
from transport.errors import PilulierError, ProtocolError
from transport.keys import Certificate, SigningKey
from transport.names import InstallationId, RepositoryId, SegmentId, VaultId, VersionId

IDENTITY = SigningKey(b"identity" * 4)
SERVER_KEY = b"c" * 32
MACHINE = RepositoryId(b"R" * 16)
ANSWERS_LIMIT = 30_000
"""Messages after which the agent has taken whatever came."""

Said = tuple[m.Message | bytes, bytes]
"""A header, as a message or raw, and a payload."""


SECRET = b"restore session "


class HostChannel:
    """Answers like the appliance, out of a repository in memory, unless `lie` says otherwise."""

    def __init__(self, true: Stage, lie: Callable[[m.Message, list[Said]], list[Said]]) -> None:
        self._true, self._lie = true, lie
        self._queue: deque[Said] = deque()
        self.for_ever: Said | None = None
        self.told = 0
        self.bytes_sent = self.bytes_received = 0

    def connect(self, timeout_s: float) -> None:
        """It is connected."""

    def close(self) -> None:
        """Nothing to close."""

    def send(self, message: m.Message, payload: bytes = b"") -> None:
        """Hear a question and put its answers in line."""
        heard = m.decode_agent(m.encode(message))
        self._queue.extend(self._lie(heard, self._answers(heard)))

    def receive(self, timeout_s: float) -> Any:
        """The next answer; None (at once) where nothing comes."""
        self.told += 1
        assert self.told < ANSWERS_LIMIT, "the agent takes whatever comes"
        if not self._queue:
            return None
        said, payload = self._queue[0]
        if isinstance(said, m.Ping) and len(self._queue) == 1:
            return said, payload  # for ever
        self._queue.popleft()
        return m.decode_appliance(said if isinstance(said, bytes) else m.encode(said)), payload

    def _answers(self, question: m.Message) -> list[Said]:
        repository = self._true.repository
        if isinstance(question, m.Hello):
            certificate = IDENTITY.certify(SERVER_KEY, 5)
            vault = repository.sealer.keys.vault
            welcome = m.Welcome(1, MACHINE, "n", "c", vault, False, False, 90, 30, certificate, repository.head)
            return [(welcome, b"")]
        if isinstance(question, m.SnapshotsQuery):
            page = repository.history[question.after : question.after + 2]
            return [(m.Snapshots(page, question.after + 2 < len(repository.history)), b"")]
        if isinstance(question, m.TreeQuery | m.ChildrenQuery):
            pages = (
                repository.tree(question.snapshot)
                if isinstance(question, m.TreeQuery)
                else repository.children(question.snapshot, question.folder)  # type: ignore[arg-type]
            )
            after = question.after
            held = list(pages)
            later = [p for p in held if not p.entries or p.entries[-1].record.path_id > after]
            return [(m.Entries((later or held[-1:])[0]), b"")]
        if isinstance(question, m.ExtentsQuery):
            pages = list(repository.extents(question.versions))
            pages = [p for p in pages if p.version_id != question.versions[0] or p.start >= question.start]
            return [(m.Extents(pages[:3]), b"")]
        if isinstance(question, m.FetchSegments):
            return [(m.SegmentData(one), repository.sealed[one]) for one in question.segments]
        if isinstance(question, m.SampleQuery):
            ids = list(repository.sealed)[:3]
            return [(m.Sample(3), b""), *((m.SegmentData(one), repository.sealed[one]) for one in ids)]
        if isinstance(question, m.RestoreOpen):
            return [(m.RestoreOpened(900, 24 << 20, SECRET), b"")]
        if isinstance(question, m.RestoreResume):
            return [(m.RestoreOpened(900, 24 << 20, SECRET), b"")] if question.session == SECRET else [(_REFUSED, b"")]
        if isinstance(question, m.Pong | m.Ping | m.Progress):
            return []
        raise AssertionError(question)


@dataclass(frozen=True)
class Machine(Enrolled):
    """An enrolled machine whose line the host holds."""

    channel: Any = None

    def client(self) -> client_module.Client:
        """A client on that line."""
        made = super().client()
        made.channel.close()
        made.channel = self.channel
        return made


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return stage(os.fsencode(tmp_path_factory.mktemp("origin") / "files"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second passes with every look at it."""
    ticks = itertools.count()
    monkeypatch.setattr(client_module.time, "monotonic", lambda: next(ticks) / 10)
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: None)


def machine(true: Stage, home: Path, lie: Callable[[m.Message, list[Said]], list[Said]]) -> Machine:
    repository = true.repository
    address = ApplianceAddress(("tcp://127.0.0.1:1",), IDENTITY.public, SERVER_KEY)
    vault = repository.sealer.keys.vault
    settings = Settings(MACHINE, "n", "c", vault, InstallationId(b"I" * 16), address)
    keys = Keys(bytes(range(32)), repository.signing, CurveKeys(b"p" * 32, b"s" * 32))
    return Machine(AgentHome(home), settings, keys, HostChannel(true, lie))


# --- the ways of asking


def _source(of: Machine) -> RemoteSource:
    client = of.client()
    check_welcome(of, client.connect())
    return RemoteSource(client)


def _restore(of: Machine, target: Path, paths: list[bytes]) -> object:
    source = _source(of)
    source.open_restore("a@b", "123456")
    return restore(
        source, of.sealer(), of.keys.signing.public, witness=None, target=os.fsencode(target), paths=paths
    ).errors


def _sample(of: Machine) -> object:
    report = VerifyReport()
    open_sample(of.sealer(), _source(of).sample(100.0), report)
    assert report.segments_checked == 3
    return report.segments_damaged


MODES: dict[str, Callable[[Machine, Stage, Path], object]] = {
    "snapshots": lambda of, true, _: [one.number for one in list_snapshots(of)][3:],
    "ls": lambda of, true, _: list_path(of, true.path(b"doc"), None, None)[3:],
    "whole": lambda of, true, target: _restore(of, target, []),
    "one-file": lambda of, true, target: _restore(of, target, [true.path(b"doc/letter")]),
    "sample": lambda of, true, _: _sample(of),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_truth_is_believed(true: Stage, tmp_path: Path, mode: str) -> None:
    """Nothing failed, nothing damaged, nothing more than there is."""
    honest = machine(true, tmp_path / "home", lambda question, said: said)
    assert MODES[mode](honest, true, tmp_path / "out") == []


# --- the lies

EVERY = tuple(MODES)
LISTS = ("snapshots", "ls", "whole", "one-file")
TREES = ("ls", "whole", "one-file")
RESTORES = ("whole", "one-file")


@dataclass(frozen=True)
class Lie:
    """`tell` gets the question and the true answers; `code` and `says` are of the error, in each of `modes`."""

    tell: Callable[[m.Message, list[Said]], list[Said]]
    code: str
    says: str
    modes: tuple[str, ...]


def _to(question: type[m.Message], change: Callable[[Any], Any]) -> Callable[[m.Message, list[Said]], list[Said]]:
    """Change the header of the answers to one kind of question."""
    return lambda asked, said: [(change(s), p) for s, p in said] if isinstance(asked, question) else said


def _instead(question: type[m.Message], *answers: Said) -> Callable[[m.Message, list[Said]], list[Said]]:
    return lambda asked, said: list(answers) if isinstance(asked, question) else said


def _welcome(**changes: object) -> Callable[[m.Message, list[Said]], list[Said]]:
    return _to(m.Hello, lambda welcome: msgspec.structs.replace(welcome, **changes))


def _entries(change: Callable[[Any], Any]) -> Callable[[m.Message, list[Said]], list[Said]]:
    def both(asked: m.Message, said: list[Said]) -> list[Said]:
        if not isinstance(asked, m.TreeQuery | m.ChildrenQuery):
            return said
        return [(m.Entries(change(s.page)), p) for s, p in said if isinstance(s, m.Entries)]

    return both


def _extents(**changes: Callable[[Any], Any]) -> Callable[[m.Message, list[Said]], list[Said]]:
    def change(answer: Any) -> Any:
        pages = [
            msgspec.structs.replace(page, **{name: value(page) for name, value in changes.items()})
            for page in answer.pages
        ]
        return m.Extents(pages)

    return _to(m.ExtentsQuery, change)


def _drop_payloads(asked: m.Message, said: list[Said]) -> list[Said]:
    return [(s, b"") for s, _ in said] if isinstance(asked, m.FetchSegments) else said


def _repeat_first(asked: m.Message, said: list[Said]) -> list[Said]:
    return [said[0], said[1], said[1], said[1]] if isinstance(asked, m.SampleQuery) else said


def _first_again(asked: m.Message, said: list[Said]) -> list[Said]:
    """Whatever snapshots are asked for, one that ends where the asker stands, and more (another house's is as good)."""
    if not isinstance(asked, m.SnapshotsQuery):
        return said
    return [(m.Snapshots(stage(b"/any").repository.history[max(0, asked.after - 1) : max(1, asked.after)], True), b"")]


_CERTIFIED = IDENTITY.certify(SERVER_KEY, 5)
_REFUSED = m.Refused("damaged", "a pack is damaged")
_ESCAPES = m.Refused("pau\x1bsed", "wait\r\x1b[2Jroot@pharmacy:~# rm\n\u202e")

LIES: dict[str, Lie] = {
    "another connection key certified": Lie(
        _welcome(certificate=IDENTITY.certify(b"x" * 32, 5)), "integrity", "another connection key", EVERY
    ),
    "certified by another identity": Lie(
        _welcome(certificate=SigningKey(b"x" * 32).certify(SERVER_KEY, 5)), "integrity", "not certified", EVERY
    ),
    "a certificate of another time": Lie(
        _welcome(certificate=Certificate(SERVER_KEY, 6, _CERTIFIED.signature)), "integrity", "not certified", EVERY
    ),
    "a certificate before all time": Lie(
        _welcome(certificate=Certificate(SERVER_KEY, -5, _CERTIFIED.signature)), "integrity", "not certified", EVERY
    ),
    "another machine welcomed": Lie(_welcome(machine=b"x" * 16), "protocol", "another machine", EVERY),
    "another vault welcomed": Lie(_welcome(vault=VaultId(b"x" * 16)), "protocol", "another machine", EVERY),
    "no welcome but a pong": Lie(_instead(m.Hello, (m.Pong(), b"")), "unreachable", "did not answer", EVERY),
    "hello answered with snapshots": Lie(
        _instead(m.Hello, (m.Snapshots([], False), b"")), "protocol", "answered Hello with Snapshots", EVERY
    ),
    "silence": Lie(_instead(m.Hello), "unreachable", "did not answer", EVERY),
    "pings for ever": Lie(_instead(m.Hello, (m.Ping(), b"")), "unreachable", "did not answer", EVERY),
    "no message at all": Lie(_instead(m.Hello, (b"\xc1garbage", b"")), "decode", "not a message", EVERY),
    "an empty header": Lie(_instead(m.Hello, (b"", b"")), "decode", "not a message", EVERY),
    "a header too large": Lie(_instead(m.Hello, (bytes((1 << 20) + 1), b"")), "decode", "is over", EVERY),
    "what only agents say": Lie(_instead(m.Hello, (m.encode(m.BackupEnd()), b"")), "decode", "not a message", EVERY),
    "snapshots answered with entries": Lie(
        _instead(m.SnapshotsQuery, (m.Entries(msgspec.convert([[], [], False], type=m.EntryPage)), b"")),
        "protocol", "answered SnapshotsQuery with Entries", LISTS,
    ),
    "the first snapshots for ever": Lie(_first_again, "protocol|integrity", "do not go forward|history jumps", LISTS),
    "more snapshots, none shown": Lie(
        _instead(m.SnapshotsQuery, (m.Snapshots([], True), b"")), "protocol", "announced more snapshots", LISTS
    ),
    "entries answered with snapshots": Lie(
        lambda asked, said: [(m.Snapshots([], False), b"")]
        if isinstance(asked, m.TreeQuery | m.ChildrenQuery) else said,
        "protocol", "with Snapshots", TREES,
    ),
    "the same entries for ever": Lie(
        _entries(lambda page: msgspec.structs.replace(page, more=True)), "protocol|integrity",
        "do not go forward|twice or out of order|ends early", TREES,
    ),
    "more entries, none shown": Lie(
        _entries(lambda page: msgspec.structs.replace(page, entries=[], more=True)), "protocol|integrity",
        "do not go forward|empty page", TREES,
    ),
    "restore answered with a pong": Lie(
        _instead(m.RestoreOpen, (m.Pong(), b"")), "unreachable", "did not answer", RESTORES
    ),
    "restore answered with extents": Lie(
        _instead(m.RestoreOpen, (m.Extents([]), b"")), "protocol", "answered RestoreOpen with Extents", RESTORES
    ),
    "no extents": Lie(_instead(m.ExtentsQuery, (m.Extents([]), b"")), "protocol", "sent no extents", RESTORES),
    "extents of another version": Lie(
        _extents(version_id=lambda page: VersionId(b"x" * 16)), "protocol", "not asked for", RESTORES
    ),
    "extents from elsewhere": Lie(_extents(start=lambda page: page.start + 1), "protocol", "not asked for", RESTORES),
    "extents that stand still": Lie(
        _extents(extents=lambda page: [], more=lambda page: True), "integrity|protocol",
        "empty page|does not go forward", RESTORES,
    ),
    "extents that go back": Lie(
        _extents(extents=lambda page: [(SegmentId(b"s" * 16), 0, -5)], more=lambda page: True), "protocol",
        "does not go forward", RESTORES,
    ),
    "extents without end": Lie(
        lambda asked, said: [(m.Extents([_byte_by_byte(asked, said)]), b"")]
        if isinstance(asked, m.ExtentsQuery) else said,
        "integrity", "without end", RESTORES,
    ),
    "another segment": Lie(
        _to(m.FetchSegments, lambda said: m.SegmentData(b"x" * 16)), "protocol", "instead of segment", RESTORES
    ),
    "a pong instead of each segment": Lie(
        _to(m.FetchSegments, lambda said: m.Pong()), "unreachable", "stopped sending", RESTORES
    ),
    "an acknowledgement instead of a segment": Lie(
        _to(m.FetchSegments, lambda said: m.Acknowledged(1)), "protocol", "instead of segment", RESTORES
    ),
    "a refusal instead of a segment": Lie(
        _to(m.FetchSegments, lambda said: _REFUSED), "damaged", "a pack is damaged", RESTORES
    ),
    "a refusal that would write over the screen": Lie(
        _instead(m.Hello, (_ESCAPES, b"")),
        "pau\ufffdsed",
        "^wait\ufffd\ufffd\\[2Jroot@pharmacy:~# rm\ufffd\ufffd$",
        EVERY,
    ),
    "segments that stop": Lie(_instead(m.FetchSegments), "unreachable", "stopped sending", RESTORES),
    "a sample of all the world": Lie(
        _instead(m.SampleQuery, (m.Sample(1 << 53), b"")), "protocol", "announced a sample", ("sample",)
    ),
    "a sample of one segment": Lie(_repeat_first, "protocol", "twice in one sample", ("sample",)),
    "a sample that stops": Lie(_instead(m.SampleQuery, (m.Sample(2), b"")), "unreachable", "stopped", ("sample",)),
    "a sample of something else": Lie(
        _instead(m.SampleQuery, (m.Sample(1), b""), (m.Acknowledged(1), b"")), "protocol", "of a sample", ("sample",)
    ),
}


def _byte_by_byte(asked: Any, said: list[Said]) -> Any:
    """The next byte of the first version, and never its end."""
    page = said[0][0].pages[0] if isinstance(said[0][0], m.Extents) and said[0][0].pages else None
    size = page.size if page is not None and page.version_id == asked.versions[0] else 3000
    return m.ExtentPage(asked.versions[0], size, asked.start, [(SegmentId(b"s" * 16), 0, 1)], True)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, lie in LIES.items() for mode in lie.modes])
def test_a_lying_answer_is_refused(true: Stage, tmp_path: Path, name: str, mode: str) -> None:
    lie = LIES[name]
    with pytest.raises(PilulierError) as caught:
        MODES[mode](machine(true, tmp_path / "home", lie.tell), true, tmp_path / "out")
    assert caught.value.code in lie.code.split("|"), f"{type(caught.value).__name__}: {caught.value}"
    assert re.search(lie.says, str(caught.value)), str(caught.value)
    assert {name for _, _, names in os.walk(tmp_path / "out") for name in names} <= {"empty"}, "which no segment makes"


def test_segments_without_their_bytes_cost_their_files(true: Stage, tmp_path: Path) -> None:
    """A payload that is not what its header announces is that segment's damage, not the job's."""
    errors = MODES["whole"](machine(true, tmp_path / "home", _drop_payloads), true, tmp_path / "out")
    assert isinstance(errors, list) and errors
    assert all("is damaged" in error.reason for error in errors)


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": -1}, {"length": 0}, {"length": -5}, {"offset": -(1 << 62), "length": 1 << 62},
        {"length": (1 << 20) + 1}, {"segment_offset": -1}, {"segment_offset": 1 << 20}, {"segment": b"s" * 15},
        {"version": b"v" * 17}, {"segment": bytes(16), "length": -1},
    ],
    ids=str,
)
def test_impossible_care_is_refused(lie: dict[str, Any]) -> None:
    """What the appliance wants to have again is read into memory and signed: its numbers are held against bounds."""
    true = m.CareRange(VersionId(b"v" * 16), 0, 4096, SegmentId(b"s" * 16), 100)
    assert believable([true]) == [true]
    with pytest.raises(ProtocolError, match="which cannot be"):
        believable([true, msgspec.structs.replace(true, **lie)])


def test_wishes_are_heeded_within_a_budget() -> None:
    wish = m.CareRange(VersionId(b"v" * 16), 0, 50 << 20, SegmentId(bytes(16)), 0)
    assert sum(one.length for one in believable([wish] * 5)) <= CARE_BYTES
    assert believable([msgspec.structs.replace(wish, length=1 << 50)]) == []
