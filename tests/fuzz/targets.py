"""What is fuzzed: one function a format, from any bytes to nothing.

A target may raise PilulierError and its subclasses: those are answers. Anything else is a finding, and so is a broken
promise: canonical formats must encode back to the bytes they were read from, messages to bytes that read the same,
parsers fed in pieces must say what they say when fed whole, a walk over a pack must cover it without a gap. Targets
are deterministic and keep nothing between inputs.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
import unittest.mock
from base64 import b32encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.enrolling import load_keys
from agent.key_files import read_exported_key
from agent.landing import Landing
from agent.settings import AgentHome
from agent.system import paths
from appliance.store import packs, records
from appliance.store.packs import Damage, Found, PackWalk
from transport import messages as m
from transport import sealing
from transport.commits import CommitRecord, SignedCommit, StoredCommit, decode_commit, encode_commit
from transport.delta import DeltaParser, SignatureBytes
from transport.enrolment import CODE_PREFIX, EnrolmentCode, decode_code
from transport.errors import DecodeError, IntegrityError, PilulierError
from transport.extents import ExtentPage, decode_operations, encode_operations
from transport.history import choose_snapshot, verify_history
from transport.keys import (
    Certificate,
    SigningKey,
    read_key_file,
    verify_certificate,
    verify_commit,
    verify_mend,
    verify_succession,
)
from transport.mending import SignedMend, decode_mend, encode_mend
from transport.names import NO_VERSION, ROOT, PathId, SegmentId, VaultId, VersionId
from transport.parcels import ParcelReader
from transport.restore_plan import WantedFile, plan_restore, versions_to_ask
from transport.sealing import Sealer, vault_keys
from transport.signers import Signers
from transport.snapshot_reader import Snapshot, SnapshotReader, split_path
from transport.succession import SignedSuccession, decode_succession, encode_succession
from transport.tree import (
    EMPTY_FOLDER,
    BatchHeader,
    Child,
    EntryKind,
    EntryPage,
    EntryRecord,
    FileType,
    ListedEntry,
    decode_metadata,
    encode_metadata,
    folder_digest,
)

VAULT: Final = VaultId(b"V" * 16)
SEALER: Final = Sealer(vault_keys(bytes(range(32)), VAULT))
SIGNING: Final = SigningKey(bytes(range(1, 33)))
SEGMENT: Final = SegmentId(b"S" * 16)
_WALK_WINDOW_BYTES: Final = 16 * 1024
"""The walk's own window of 8 MiB would cost more than the walk."""
CHAIN_MORE: Final = 200
"""Pages that a source of fuzzed answers gives before it ends: endless ones are the hostile-host suite's."""

Target = Callable[[bytes], None]


@functools.cache
def _folder() -> Path:
    """A folder of this process's own, in memory where the machine has such a place; gone when it ends."""
    import atexit

    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="pilulier-fuzz-", dir=shared))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _unpack(data: bytes, kind: Any) -> Any:
    """msgpack as the message decoders read it, for nouns that travel inside a message."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(str(error)) from None


# -- frames and messages


def _message(decode: Callable[[bytes], m.Message], data: bytes) -> None:
    message = decode(data)
    again = m.encode(message)
    assert m.encode(decode(again)) == again, "a message that changes when it is passed on"


def message_agent(data: bytes) -> None:
    """What an agent may say."""
    _message(m.decode_agent, data)


def message_appliance(data: bytes) -> None:
    """What the appliance may say."""
    _message(m.decode_appliance, data)


def message_enrolment(data: bytes) -> None:
    """Both sides of an enrolment."""
    with contextlib.suppress(DecodeError):
        _message(m.decode_enrolment, data)
    _message(m.decode_enrolment_reply, data)


# -- packs


def record_head(data: bytes) -> None:
    """The 44 bytes before a payload."""
    head = records.decode_head(data)
    again = records.encode_head(head.kind, [bytes(head.length_bytes)])
    assert again[: records.HEAD_BYTES] == data[: records.HEAD_BYTES]


PAYLOADS: Final[tuple[Any, ...]] = get_args(records.Payload)


def record_payload(data: bytes) -> None:
    """A payload of any kind; the first byte says which."""
    if not data:
        return
    kind = PAYLOADS[data[0] % len(PAYLOADS)]
    assert records.encode_payload(records.decode_payload(data[1:], kind)) == data[1:]


def sealed_head(data: bytes) -> None:
    """What the appliance reads of a sealed segment without a key."""
    assert 0 < records.sealed_plain_length(data) <= 1 << 20


def pack_walk(data: bytes) -> None:
    """A whole pack, with and without reading segments: every byte is a record's or a damage's, once."""
    path = _folder() / f"pack-{os.getpid()}"
    data = data[:_WALK_WINDOW_BYTES]
    path.write_bytes(data)
    with unittest.mock.patch.object(packs, "_WINDOW_BYTES", _WALK_WINDOW_BYTES):
        _walked(path, data)


def _walked(path: Path, data: bytes) -> None:
    for read_data in (True, False):
        at = 0
        for step in PackWalk(path, len(data), read_data=read_data):
            assert step.offset == at, f"the walk leaves a gap ({at} to {step.offset})"
            if isinstance(step, Damage):
                assert step.end > at
                at = step.end
            else:
                assert isinstance(step, Found)
                payload = bytes(step.payload)
                if read_data:
                    assert records.encode_head(step.kind, [payload]) == data[at : at + records.OVERHEAD_BYTES]
                at += records.OVERHEAD_BYTES + step.length_bytes
        assert at == len(data) or not data, f"the walk ends at {at} of {len(data)}"


# -- parcels


def parcel(data: bytes) -> None:
    """A parcel's stream: fed whole and byte by byte it says the same, or the same error."""
    said = {_parcel(data, step) for step in (max(1, len(data)), 1)}
    assert len(said) == 1, said


def _parcel(data: bytes, step: int) -> str:
    reader = ParcelReader(data[at : at + step] for at in range(0, len(data), step))
    said = []
    try:
        while (entry := reader.next()) is not None:
            said.append(repr(entry))
            if entry.type == FileType.FILE:
                said.append(hashlib.sha256(b"".join(reader.content(entry))).hexdigest() + str(reader.verdict()))
    except IntegrityError as error:
        said.append(str(error))
    return "\n".join(said)


# -- operations


def operations(data: bytes) -> None:
    """Operations of a version: one byte of rules, size and base size in front."""
    if len(data) < 9:
        return
    size, base = int.from_bytes(data[1:5], "big"), int.from_bytes(data[5:9], "big")
    decoded = decode_operations(data[9:], size=size, base_size=base if data[0] & 1 else None, partial=bool(data[0] & 2))
    assert encode_operations(decoded) == data[9:]


def delta_stream(data: bytes) -> None:
    """librsync's delta: fed whole, byte by byte and in threes it says the same, or the same error."""
    said = {_delta(data, step) for step in (max(1, len(data)), 1, 3)}
    assert len(said) == 1, said


def _delta(data: bytes, step: int) -> str:
    heard: list[object] = []

    def literal(piece: bytes) -> None:
        if heard and isinstance(heard[-1], bytearray):
            heard[-1] += piece
        else:
            heard.append(bytearray(piece))

    parser = DeltaParser(lambda offset, length: heard.append((offset, length)), literal, 10_000)
    try:
        for at in range(0, len(data), step):
            parser.write(data[at : at + step])
        parser.close()
    except PilulierError as error:
        # Copies are joined until something else comes, so what was heard before an error may differ; the error not.
        return str(error)
    return repr(heard)


def signature(data: bytes) -> None:
    """librsync's signature."""
    read = SignatureBytes(data)
    assert read.blocks >= 0 and read.block_bytes >= 1


# -- seals


def segment(data: bytes) -> None:
    """A sealed segment from outside."""
    SEALER.open_segment(SEGMENT, data)


def seal_anything(body: bytes, codec: int, length: int, segment_id: SegmentId = SEGMENT) -> bytes:
    """What only a key holder can make: a seal that holds, around a body of any kind and any claimed length."""
    header = sealing._HEADER.pack(b"PLS1", 1, sealing.KIND_SEGMENT, codec, 1, 1, length)
    salt = hashlib.sha256(body).digest()
    key, commitment = sealing._record_key(SEALER.keys.epoch_key(1), salt, sealing.KIND_SEGMENT, 1)
    return header + salt + commitment + AESGCM(key).encrypt(bytes(12), body, header + VAULT + segment_id)


def segment_inside(data: bytes) -> None:
    """What is inside a seal that holds: codec, claimed length (4 bytes), body."""
    if len(data) < 5:
        return
    length = int.from_bytes(data[1:5], "big")
    plaintext = SEALER.open_segment(SEGMENT, seal_anything(data[5:], data[0] % 3, length))
    assert len(plaintext) == length <= 1 << 20


def seal_entry(metadata: bytes, *, name: bytes, parent: PathId = ROOT, kind: int = EntryKind.FILE, size: int = 0) -> (
    tuple[EntryRecord, BatchHeader]
):
    """An entry sealed for the place where `name` belongs, around any metadata."""
    header = BatchHeader(1, b"\x05" * 32, b"")
    key, commitment = sealing._record_key(SEALER.keys.epoch_key(1), header.salt, sealing.KIND_ENTRIES, 1)
    header = BatchHeader(1, header.salt, commitment)
    path_id = SEALER.keys.path_id(parent, name)
    clear = EntryRecord(path_id, parent, kind, size, NO_VERSION, 0, b"")
    return sealing.EntrySealer(VAULT, header, key).seal(clear, metadata), header


class _Answers:
    """A source that answers each question about a tree with the same pages, over and over where `again`."""

    def __init__(self, pages: list[EntryPage], again: bool) -> None:
        self._pages, self._again = pages, again

    def tree(self, snapshot: int) -> Iterator[EntryPage]:
        if not self._again:
            return iter(self._pages)
        return itertools.islice(itertools.cycle(self._pages), max(CHAIN_MORE, len(self._pages)))

    def children(self, snapshot: int, folder: PathId) -> Iterator[EntryPage]:
        return self.tree(snapshot)

    def commits(self) -> Iterator[StoredCommit]:
        raise NotImplementedError

    def extents(self, versions: Sequence[VersionId]) -> Iterator[ExtentPage]:
        raise NotImplementedError

    def segments(self, ids: object) -> Iterator[Any]:
        raise NotImplementedError


def _reader(pages: list[EntryPage], root: bytes = b"\x01" * 32, count: int = 3, again: bool = True) -> SnapshotReader:
    record = CommitRecord(
        "pilulier/commit/1", 1, VAULT, b"R" * 16, b"I" * 16, 1, 1, bytes(32), root,  # type: ignore[arg-type]
        count, 0, 0, 0, True, bytes(32), 90, "0", bytes(32),  # type: ignore[arg-type]
    )
    return SnapshotReader(_Answers(pages, again), SEALER, Snapshot(record, SignedCommit(b"", b""), 0, 0, False))


def entry_metadata(data: bytes) -> None:
    """Metadata under a seal that holds, in a signed tree: the kind, then the bytes. What reads is landed."""
    if not data:
        return
    kind, inside = data[0] % 3, data[1:]
    name = b"n"
    with contextlib.suppress(ValueError, RecursionError, msgspec.MsgspecError):
        metadata = decode_metadata(inside)
        name = metadata.name
        assert decode_metadata(encode_metadata(metadata)) == metadata
    record, header = seal_entry(inside, name=name, kind=kind)
    page = EntryPage([header], [ListedEntry(0, record, EMPTY_FOLDER)], False)
    root = folder_digest([Child(record.path_id, record.token(), EMPTY_FOLDER if record.kind == 1 else None)])
    (node,) = _reader([page], root, 1, again=False).whole_tree()
    with _target() as landing:
        if node.type == FileType.FILE:
            landing.put(landing.root, node, memoryview(b""))
        elif node.is_folder:
            landing.finish_folder(landing.folder(landing.root, node.name), node)
        else:
            landing.symlink(landing.root, node)
        assert os.listdir(landing.root.name) == [node.name]
        assert not node.is_folder or not os.listdir(os.path.join(landing.root.name, node.name))


@contextlib.contextmanager
def _target() -> Iterator[Landing]:
    """An empty target, emptied afterwards."""
    target = os.fsencode(_folder() / f"target-{os.getpid()}")
    with Landing(target) as landing:
        try:
            yield landing
        finally:
            for name in os.listdir(target):
                path = os.path.join(target, name)
                os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)


def tree_pages(data: bytes) -> None:
    """Pages of a tree as the appliance sends them, read as a whole and folder by folder."""
    pages = _unpack(data, list[EntryPage])
    reads = (lambda r: r.whole_tree(), lambda r: r.listing(b"/"), lambda r: r.select([b"/a/b"]))
    for read, again in itertools.product(reads, (True, False)):
        with contextlib.suppress(PilulierError):
            read(_reader(pages, again=again))
            raise AssertionError("a tree that nobody signed was believed")


def restore_plan(data: bytes) -> None:
    """Extents as the appliance sends them; what is planned covers each file exactly."""
    wanted, pages = _unpack(data, tuple[list[tuple[bytes, int]], list[ExtentPage]])
    files = [WantedFile(VersionId(version), size) for version, size in wanted]
    versions_to_ask(files)
    for strict in (True, False):
        with contextlib.suppress(PilulierError):
            plan = plan_restore(files, itertools.islice(pages, CHAIN_MORE), strict=strict)
            refused = {refusal.file for refusal in plan.refused}
            covered = [0] * len(files)
            for position in range(len(plan.segments)):
                for piece in plan.pieces(position):
                    assert piece.segment_offset + piece.length <= 1 << 20
                    covered[piece.file] += piece.length
            for index, file in enumerate(files):
                held = covered[index] + sum(hole.length for hole in plan.holes(index))
                assert held == (0 if index in refused else file.size), (index, held)


# -- paths


@dataclass(frozen=True)
class _Wanted:
    name: bytes
    target: bytes = b"t"
    size: int = 1
    mode: int = 0o4755
    mtime_ns: int = 1
    uid: int = os.geteuid()
    gid: int = os.getegid()
    user: str = ""
    group: str = ""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def restore_path(data: bytes) -> None:
    """A name is landed as file, folder and link: as exactly itself within the target, or not at all."""
    paths.WINDOWS.refusal(data)
    with contextlib.suppress(PilulierError):
        split_path(data)
    with _target() as landing:
        target = landing.root.name
        try:
            landing.put(landing.root, _Wanted(data), memoryview(b"x"))
            assert os.listdir(target) == [data]
            assert not os.lstat(os.path.join(target, data)).st_mode & (stat.S_ISUID | stat.S_ISGID)
            os.unlink(os.path.join(target, data))
            landing.symlink(landing.root, _Wanted(data, target=data))
            assert os.listdir(target) == [data]
            os.unlink(os.path.join(target, data))
            landing.folder(landing.root, data)
            assert os.listdir(target) == [data]
            os.rmdir(os.path.join(target, data))
        except PilulierError:
            assert os.listdir(target) == [], "something of a refused name is left"
            raise


# -- codes, commits, keys


def enrolment_code(data: bytes) -> None:
    """What a person pasted, and what a liar put under a checksum that holds."""
    with contextlib.suppress(PilulierError):
        _code(data.decode("utf-8", "surrogateescape"))
    check = hashlib.sha256(b"pilulier/enrolment/1" + data).digest()[:4]
    _code(CODE_PREFIX + b32encode(check + data).decode().rstrip("="))


def _code(text: str) -> None:
    code = decode_code(text)
    assert isinstance(code, EnrolmentCode) and decode_code(code.encode()) == code


def commit(data: bytes) -> None:
    """A commit record, and a signature over it that does not hold."""
    assert encode_commit(decode_commit(data)) == data
    with contextlib.suppress(PilulierError):
        verify_commit(SIGNING.public, SignedCommit(data, bytes(64)))
        raise AssertionError("a signature of nobody holds")


def history(data: bytes) -> None:
    """Commits as the appliance lists them; those that read as records are signed, so that the walk goes on."""
    stored = [_signed(commit) for commit in _unpack(data, list[StoredCommit])]
    for number, at_ms in ((None, None), (1, None), (None, 10**13)):
        with contextlib.suppress(PilulierError):
            choose_snapshot(verify_history(stored, SIGNING.public, None), number=number, at_ms=at_ms)
    if stored:
        verify_history(stored, SIGNING.public, stored[0].signed, vault=VAULT)


def _signed(stored: StoredCommit) -> StoredCommit:
    try:
        return msgspec.structs.replace(stored, signed=SIGNING.sign_commit(decode_commit(stored.signed.record)))
    except PilulierError:
        return stored


def certificate(data: bytes) -> None:
    """What vouches for a connection key."""
    verify_certificate(SIGNING.public, _unpack(data, Certificate))
    raise AssertionError("a certificate of nobody holds")


def key_files(data: bytes) -> None:
    """The three key files of an agent, cut out of the input."""
    home = AgentHome(_folder() / f"home-{os.getpid()}")
    home.create()
    third = len(data) // 4
    for path, part in (
        (home.machine_key, data[:third]),
        (home.signing_key, data[third : 2 * third]),
        (home.curve_key, data[2 * third :]),
    ):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(part)
        assert read_key_file(path) == part
    keys = load_keys(home)
    assert len(keys.signing.public) == 32 and "seed" not in repr(keys)


def exported_key(data: bytes) -> None:
    """The file that `key export` writes."""
    path = _folder() / f"exported-{os.getpid()}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    key = read_exported_key(path)
    assert len(key.machine_key) == 32 and key.machine_key.hex() not in repr(key)


def mend(data: bytes) -> None:
    """An order to mend, and a signature over it that does not hold."""
    assert encode_mend(decode_mend(data)) == data
    with contextlib.suppress(PilulierError):
        verify_mend(SIGNING.public, SignedMend(data, bytes(64)))
        raise AssertionError("a signature of nobody holds")


def succession(data: bytes) -> None:
    """A succession of signing keys, and a signature over it that does not hold."""
    assert encode_succession(decode_succession(data)) == data
    with contextlib.suppress(PilulierError):
        verify_succession(SignedSuccession(data, bytes(64)))
        raise AssertionError("a signature of nobody holds")
    with contextlib.suppress(PilulierError):
        Signers.of(None, [SIGNING.sign_succession(decode_succession(data))])


TARGETS: Final[dict[str, Target]] = {
    "message-agent": message_agent,
    "message-appliance": message_appliance,
    "message-enrolment": message_enrolment,
    "record-head": record_head,
    "record-payload": record_payload,
    "sealed-head": sealed_head,
    "pack-walk": pack_walk,
    "operations": operations,
    "delta-stream": delta_stream,
    "parcel": parcel,
    "signature": signature,
    "segment": segment,
    "segment-inside": segment_inside,
    "entry-metadata": entry_metadata,
    "tree-pages": tree_pages,
    "restore-plan": restore_plan,
    "restore-path": restore_path,
    "enrolment-code": enrolment_code,
    "commit": commit,
    "history": history,
    "certificate": certificate,
    "key-files": key_files,
    "exported-key": exported_key,
    "mend": mend,
    "succession": succession,
}


def attempt(target: Target, data: bytes) -> bool:
    """Run a target; whether it accepted the input. Whatever is no PilulierError comes through: a finding."""
    try:
        target(data)
    except PilulierError:
        return False
    return True
