"""What the web and an opener say to each other: frames over two pipes, one question and one answer at a time.

A frame is four bytes of length and msgpack. Paths are bytes, as a machine has them. Bounded on both sides: neither
trusts the other with its memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

FRAME_LIMIT: Final = 64 << 20
FOLDER_LIMIT: Final = 100_000
"""Entries of one folder that are shown."""
SEARCH_LIMIT: Final = 500
PATHS_LIMIT: Final = 10_000
_LENGTH: Final = struct.Struct(">I")

Path = Annotated[bytes, Meta(max_length=65_536)]


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """One snapshot that can be read. `received_ms` by the appliance's clock."""

    number: int
    received_ms: int
    complete: bool
    entries: int


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a snapshot. `kind`: f, d, l (symbolic link) or o; `mark` differs where content or attributes do."""

    path: bytes
    kind: str
    size: int
    mtime_ns: int
    mark: bytes


class Question(msgspec.Struct, frozen=True, tag=True):
    """Base of what the web asks."""


class Begin(Question, frozen=True):
    """First: whose backups, and where. Holds no secret: the opener fetches the escrow key by itself."""

    home: str
    folder: str
    machine: bytes
    vault: bytes
    public_key: bytes
    envelope: bytes


class Rewrap(Question, frozen=True):
    """Instead of Begin: open a confided key and wrap it to `wrap_to`, then end. Holds no secret either."""

    home: str
    machine: bytes
    vault: bytes
    envelope: bytes
    wrap_to: bytes


class ListFolder(Question, frozen=True):
    """The entries of a folder of a snapshot, by name; `/` for the top."""

    snapshot: int
    path: Path


class Search(Question, frozen=True):
    """Entries whose name holds the text, whatever its case."""

    snapshot: int
    text: Annotated[str, Meta(min_length=1, max_length=200)]


class FileVersions(Question, frozen=True):
    """A path in every snapshot, oldest first, one entry for each time that it differs."""

    path: Path


class Measure(Question, frozen=True):
    """How much a selection is."""

    snapshot: int
    paths: Annotated[list[Path], Meta(max_length=PATHS_LIMIT)]


class Identify(Question, frozen=True):
    """What a selection is called without a key: the path ids of its parts, and of the folders above them."""

    snapshot: int
    paths: Annotated[list[Path], Meta(max_length=PATHS_LIMIT)]


class Archive(Question, frozen=True):
    """Write a selection as an archive to the opener's stdout, raw, and end. `form`: tar or zip."""

    snapshot: int
    paths: Annotated[list[Path], Meta(max_length=PATHS_LIMIT)]
    form: str
    label: str
    """What the manifest calls the machine."""


class Seal(Question, frozen=True):
    """Seal a selection anew for another machine and end: `Sealing`, then chunks, raw, to the opener's stdout, each
    behind four bytes of length; a length of zero says that all were written."""

    snapshot: int
    ids: list[bytes]
    above: list[bytes]
    machine: bytes
    """The receiving one, whose signing key is `signing`, and which signed `key` for its delivery `number`."""
    signing: bytes
    number: int
    key: bytes
    signature: bytes


class Answer(msgspec.Struct, frozen=True, tag=True):
    """Base of what an opener answers."""


class Failed(Answer, frozen=True):
    """It could not be done: the code of the error and its sentence, for logs."""

    code: str
    reason: str


class Rewrapped(Answer, frozen=True):
    """The machine key, for the holder of `wrap_to` alone."""

    envelope: bytes


class Ready(Answer, frozen=True):
    """The key opens, the history is proved: these snapshots can be read, oldest first."""

    snapshots: list[Snapshot]


class Entries(Answer, frozen=True):
    """Some entries; `more` where a bound cut them."""

    entries: list[Entry]
    more: bool


class FoundVersion(msgspec.Struct, frozen=True, array_like=True):
    """A path as it was from a snapshot on."""

    snapshot: int
    received_ms: int
    entry: Entry


class Versions(Answer, frozen=True):
    """Oldest first."""

    versions: list[FoundVersion]


class Measured(Answer, frozen=True):
    """Of a selection: files, folders, bytes, and paths that the snapshot does not hold."""

    files: int
    folders: int
    size: int
    missing: list[bytes]


class Identified(Answer, frozen=True):
    """Path ids, 16 bytes each; `missing` are paths that the snapshot does not hold."""

    ids: list[bytes]
    above: list[bytes]
    missing: list[bytes]


class Sealing(Answer, frozen=True):
    """What lets the receiving machine open the chunks that follow."""

    envelope: bytes
    vault: bytes


AnyQuestion = Begin | Rewrap | ListFolder | Search | FileVersions | Measure | Identify | Archive | Seal
AnyAnswer = Failed | Ready | Rewrapped | Entries | Versions | Measured | Identified | Sealing

_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[AnyQuestion] = msgspec.msgpack.Decoder(AnyQuestion)
_answers: msgspec.msgpack.Decoder[AnyAnswer] = msgspec.msgpack.Decoder(AnyAnswer)
_T = TypeVar("_T")


class BrokenPipeOfWords(Exception):
    """The other side is gone, or does not speak this language."""


def frame(word: Question | Answer) -> bytes:
    """A word as it travels."""
    data = _encoder.encode(word)
    if len(data) > FRAME_LIMIT:
        raise BrokenPipeOfWords(f"a word of {len(data)} bytes")
    return _LENGTH.pack(len(data)) + data


def _read(read: Callable[[int], bytes], decode: Callable[[bytes], _T]) -> _T | None:
    """The next word; None at the end of the pipe."""
    head = _exactly(read, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_LIMIT:
        raise BrokenPipeOfWords(f"a frame of {length} bytes")
    data = _exactly(read, length)
    if data is None:
        raise BrokenPipeOfWords("a frame was cut short")
    try:
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BrokenPipeOfWords(str(error)) from None


def _exactly(read: Callable[[int], bytes], length: int) -> bytes | None:
    parts: list[bytes] = []
    while length:
        part = read(length)
        if not part:
            if parts:
                raise BrokenPipeOfWords("a frame was cut short")
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def read_question(read: Callable[[int], bytes]) -> AnyQuestion | None:
    """The next question; None where the web is gone."""
    return _read(read, _questions.decode)


def read_answer(read: Callable[[int], bytes]) -> AnyAnswer | None:
    """The next answer; None where the opener is gone."""
    return _read(read, _answers.decode)
