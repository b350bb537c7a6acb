"""`python -m tests.fuzz.seeds`: writes the first inputs of each fuzz target into tests/fuzz/corpus/.

Seeds are well-formed, so that mutation starts behind the first checks; they are made without chance (os.urandom is
replaced while this runs), so that running it again changes nothing. Inputs that once were findings stand in the
corpus beside them under the name `found-…` and are never removed.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.sheet_lines import to_lines
from appliance.store import records
from appliance.store.packs import Identity
from appliance.store.records import Kind
from tests.fuzz.targets import PAYLOADS, SEALER, SEGMENT, SIGNING, TARGETS, VAULT, seal_entry
from tests.support.memory_source import Item, Repository
from transport import messages as m
from transport.enrolment import EnrolmentCode
from transport.extents import Copy, ExtentPage, Fragment, VersionRecord, Zero, encode_operations
from transport.keys import SigningKey
from transport.mending import MEND_LABEL, MendOrder, Repoint, encode_mend
from transport.messages_onsite import CopyTold
from transport.names import (
    NO_VERSION,
    ROOT,
    Digest,
    InstallationId,
    PathId,
    RepositoryId,
    SegmentId,
    SessionId,
    VersionId,
)
from transport.parcels import Entry, ParcelWriter
from transport.schedule import Schedule
from transport.succession import SUCCESSION_LABEL, Succession, encode_succession
from transport.tree import EntryBatch, FileType, Metadata, encode_metadata

CORPUS = Path(__file__).parent / "corpus"
_pack = msgspec.msgpack.encode
SIXTEEN, THIRTY_TWO = b"i" * 16, b"h" * 32


def _metadata(name: bytes = b"name", type: int = 0, **changes: Any) -> Metadata:
    fields = {"user": "root", "group": "", "mac": b"m" * 32, "target": b"", "link_group": b"", "xattrs": []} | changes
    return Metadata(name, type, 0o644, 1_700_000_000_123_456_789, 0, 0, **fields)


def _messages() -> dict[str, list[bytes]]:
    repository = Repository()
    repository.commit([Item(b"/a/b", b"content"), Item(b"/l", type=FileType.SYMLINK, target=b"t")])
    signed = repository.head
    entry, header = seal_entry(encode_metadata(_metadata()), name=b"name")
    certificate = SIGNING.certify(THIRTY_TWO, 1)
    version = VersionRecord(VersionId(SIXTEEN), 7, NO_VERSION, 0, encode_operations([Fragment(SEGMENT, 0, 7)]))
    figures = m.BackupFigures(1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0.5, 0.25, 0)
    used = m.UsedConfiguration("scheduled", Schedule((750,)), 2, 3, 4, 65536, 0.5, 60.0)
    (page,) = list(repository.tree(1))
    extents = list(repository.extents(list(repository.versions)))
    agent = [
        m.Hello(1, "0.1", "Linux", 7, SIXTEEN), m.Ping(), m.BackupBegin(SIXTEEN, THIRTY_TWO), m.HeldQuery(SIXTEEN),
        m.HasVersions([VersionId(SIXTEEN)]), m.PutSegment(1, SIXTEEN), m.PutVersions(2, [version]),
        m.PutEntries(3, EntryBatch(header, [entry])), m.PutDeaths(4, [PathId(SIXTEEN)]),
        m.PutCommit(5, signed, figures), m.PutCommit(5, signed, figures, used), m.BackupEnd(),
        m.PutCommit(5, signed, figures, None, m.Observed(6, 2, -86_400, 3, 40)),
        m.Progress("files", 1, 2, 3, 4), m.LogLine("info", "a", "b"),
        m.SnapshotsQuery(0), m.ChildrenQuery(1, SIXTEEN, SIXTEEN), m.TreeQuery(1, SIXTEEN), m.SampleQuery(1.5),
        m.RestoreOpen("a@b", "123456"), m.ResyncOpen("a@b", "123456", SIXTEEN),
        m.ExtentsQuery([VersionId(SIXTEEN)], 0), m.FetchSegments([SegmentId(SIXTEEN)], 9),
        m.Pong(), m.CareQuery(), m.PutMend(6, SIGNING.sign_mend(_order())),
        m.RestoreResume(SIXTEEN), m.Attend(), m.EscrowQuery(), m.PutKey(b"PLW1" * 30),
        m.PutSettings(b"PLS1" * 30),
        m.CopiesReport([CopyTold(SIXTEEN, "nas", 0, "written", 1_700_000_000_000, -1)], 7),
        m.SettingsQuery(), m.BackupAnswer(3, False, "no"),
        m.DeliveriesQuery(), m.SelectionQuery(3), m.DeliveryAnswer(3, True), m.DeliveryOpen(3), m.ParcelQuery(3),
        m.DeliveryAnswer(3, True, b"k" * 1216, b"s" * 64),
        m.DeliveryReport(3, "done", 7, 8, 1, ""),
        m.SettingsReport(
            4, "applied", "", True, Schedule((750, 1170), (0, 1, 4)), 4, "fr", THIRTY_TWO, 0, 2, 3, True, 1
        ),
    ]
    appliance = [
        m.Deliveries([m.Delivery(3, 2, 5, "a@b", 6, 7, True, 8, 9)]), m.DeliveredSelection(3, [SIXTEEN], [SIXTEEN]),
        m.Parcel(3, b"PLW1", SIXTEEN, 9, ""),
        m.Welcome(1, SIXTEEN, "n", "c", SIXTEEN, False, False, 90, 30, certificate, signed),
        m.Refused("busy", "wait", 3), m.Pong(), m.BackupBegun(1, 2, 3), m.Held([SegmentId(SIXTEEN)]),
        m.Versions([]), m.Acknowledged(9), m.Committed(1, 2, THIRTY_TWO), m.Snapshots(repository.history, False),
        m.Snapshots([], False, [SIGNING.sign_succession(_succession())]),
        m.Entries(page), m.Sample(3), m.RestoreOpened(900, 1 << 20, SIXTEEN), m.Resynced(None), m.Extents(extents),
        m.SegmentData(SIXTEEN), m.SegmentMissing(SIXTEEN, "gone"), m.Ping(), m.Care([]),
        m.Attended(4, 3, False, "de", 600, 20, 1_800_000_000_000), m.Noted(),
        m.WantedSettings(4, m.RemoteSelection(["/a", "C:\\b"], ["*.tmp"]), 4, Schedule((750,)), 2),
        m.WantedSettings(4, None, 0, None, 0),
        m.EscrowOffer(SIGNING.certify_escrow(b"e" * 1216, 7)),
    ]
    enrolment = [
        m.Enrol(1, SIXTEEN, "poste", THIRTY_TWO, THIRTY_TWO, SIXTEEN, SIXTEEN, "0.1", "Linux"),
        m.Enrolled(SIXTEEN, "poste", "c", certificate), m.Refused("enrol-code", "no"),
        m.RecoverOpen(1, "a@b", "password", "123456", "poste", b"w" * 1216), m.RecoverHistory(SIXTEEN, 3),
        m.RecoverTake(SIXTEEN, THIRTY_TWO, THIRTY_TWO, THIRTY_TWO, SIXTEEN, "0.1", "Linux"),
    ]
    return {
        "message-agent": [m.encode(message) for message in agent],
        "message-appliance": [m.encode(message) for message in appliance],
        "message-enrolment": [m.encode(message) for message in enrolment],
    }


def _order() -> MendOrder:
    repoint = Repoint(SEGMENT, 5, 10, SegmentId(SIXTEEN), 0)
    return MendOrder(MEND_LABEL, VAULT, RepositoryId(b"R" * 16), InstallationId(b"I" * 16), 3, [repoint])


def _succession() -> Succession:
    return Succession(
        *(SUCCESSION_LABEL, VAULT, RepositoryId(b"R" * 16), 1, 3, Digest(THIRTY_TWO), SIGNING.public, THIRTY_TWO),
        *(InstallationId(b"I" * 16), SIGNING.public, 5),
    )


def _packs() -> dict[str, list[bytes]]:
    repository = RepositoryId(b"R" * 16)
    entry, header = seal_entry(encode_metadata(_metadata()), name=b"name")
    signed = Repository()
    signed.commit([Item(b"/a", b"x")])
    by = records.StagedBy(SessionId(SIXTEEN), 1, 2)
    succession = records.SuccessionRecord(9, SIGNING.sign_succession(_succession()))
    sealed = bytes(SEALER.seal_segment(SEGMENT, b"plaintext " * 30))
    payloads: list[tuple[Kind, records.Payload]] = [
        (Kind.HEADER, records.HeaderRecord(records.LABEL, repository, VAULT, SIGNING.public, 1)),
        (Kind.PAGES, records.PagesRecord([records.PageRow(1, 9, b"e" * 24)])),
        (Kind.VERSIONS, records.VersionsRecord([records.VersionRow(VersionId(SIXTEEN), 9, 0, b"e" * 24)])),
        (Kind.ENTRIES, records.EntriesRecord(by, 1, EntryBatch(header, [entry]))),
        (Kind.DEATHS, records.DeathsRecord(by, [PathId(SIXTEEN)])),
        (Kind.COMMIT, records.CommitRecordOnDisk(by, 5, 6, signed.head)),
        (Kind.RETIREMENT, records.RetirementRecord(7, [1, 2], True)),
        (Kind.MEND, records.MendRecord(8, SIGNING.sign_mend(_order()))),
        (Kind.CHECKPOINT, records.CheckpointRecord(SIXTEEN, 0, records.CheckpointBegin(1, 2, 3, 4, 5))),
        (Kind.SUCCESSION, succession),
        (Kind.CHECKPOINT, records.CheckpointRecord(SIXTEEN, 1, records.CheckpointSuccessions([succession]))),
    ]
    encoded = [records.encode_payload(payload) for _, payload in payloads]
    parts = [(kind, [payload]) for (kind, _), payload in zip(payloads, encoded, strict=True)]
    parts.append((Kind.SEGMENT, [SEGMENT + sealed]))
    pieces = [records.encode_head(kind, some) + some[0] for kind, some in parts]
    pack = b"".join(pieces)
    assert encoded[0] == Identity(repository, VAULT, SIGNING.public).header(1)
    torn, flipped = pack[:-20], bytearray(pack)
    flipped[len(pieces[0]) + 60] ^= 1
    return {
        "record-head": [records.encode_head(kind, some) for kind, some in parts],
        "record-payload": [
            bytes([PAYLOADS.index(type(payload))]) + data for (_, payload), data in zip(payloads, encoded, strict=True)
        ],
        "sealed-head": [sealed],
        "pack-walk": [b"", pieces[0], pack, torn, bytes(flipped), pack[5:], pieces[-1] + b"junk" + pieces[0], pack * 3],
        "segment": [sealed, sealed[:100], bytes(SEALER.seal_segment(SEGMENT, random.Random(1).randbytes(200)))],
    }


def _deltas() -> dict[str, list[bytes]]:
    ops = encode_operations([Copy(0, 100), Fragment(SEGMENT, 5, 50), Zero(10), Copy(500, 40)])
    magic = struct.pack(">I", 0x72730236)
    stream = magic + b"\x45\x00\x64" + b"\x03abc" + b"\x41\x05hello" + b"\x4a\x01\x00\x10\x00" + b"\x00"
    block = struct.pack(">III", 0x72730147, 1024, 32)
    return {
        "operations": [
            bytes([flags]) + struct.pack(">II", size, 1000) + ops for flags, size in ((1, 200), (3, 1000), (0, 200))
        ],
        "delta-stream": [stream, magic + b"\x00", stream[:-1], magic + b"\x44" + (5).to_bytes(8, "big") + b"hello\0"],
        "signature": [block, block + b"\x00" * 36 * 3, block + b"x"],
    }


def _seals() -> dict[str, list[bytes]]:
    import zstandard

    frame = zstandard.ZstdCompressor(write_content_size=True).compress(b"z" * 500)
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(b"z" * 500)
    bomb = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(4 << 20))
    metadata = [
        _metadata(), _metadata(b"..", 0), _metadata(b"d", 1), _metadata(b"l", 2, target=b"../x"), _metadata(b"", 0),
        _metadata(b"x", 9), _metadata(b"x", 0, xattrs=[(b"user.a", b"v" * 100)]), _metadata(b"a/b", 0, user="\u202e"),
    ]
    return {
        "segment-inside": [
            b"\x00" + struct.pack(">I", 5) + b"hello", b"\x01" + struct.pack(">I", 500) + frame,
            b"\x01" + struct.pack(">I", 500) + unknown, b"\x01" + struct.pack(">I", 4 << 20) + bomb,
            b"\x01" + struct.pack(">I", 500) + bomb, b"\x02" + struct.pack(">I", 5) + b"hello",
        ],
        "entry-metadata": [bytes([one.type % 3]) + encode_metadata(one) for one in metadata],
    }


def _trees() -> dict[str, list[bytes]]:
    repository = Repository(page=2, span=2)
    repository.sealer = SEALER
    items = [Item(b"/a/%d" % n, b"%d" % n * 50) for n in range(4)]
    items.append(Item(b"/hole", bytes(500) + b"x", holes=[(0, 500)]))
    repository.commit(items)
    repository.commit(items[:2])
    versions = list(repository.versions)
    wanted = [(bytes(version), repository.versions[version][0]) for version in versions]
    pages = list(repository.extents(versions))
    odd = [ExtentPage(versions[0], 50, 0, [(SEGMENT, 0, 25)], True), ExtentPage(versions[0], 50, 25, [], False)]
    return {
        "tree-pages": [_pack(list(repository.tree(1))), _pack(list(repository.children(1, ROOT))), _pack([])],
        "restore-plan": [_pack((wanted, pages)), _pack((wanted[:1], odd)), _pack((wanted * 2, pages)), _pack(([], []))],
        "commit": [commit.signed.record for commit in repository.history],
        "history": [_pack(repository.history), _pack(repository.history[1:]), _pack([])],
    }


def _exported() -> bytes:
    """What `key export` writes: fields, and a checksum over them in their order."""
    fields: dict[str, Any] = {
        "format": "pilulier-key/1", "name": "poste", "contract": "c", "machine": "ab" * 16, "vault": "cd" * 16,
        "machine_key": "01" * 32, "signing_public": "02" * 32, "appliance": ["tcp://127.0.0.1:9444"],
        "identity": "03" * 32,
    }
    told = "\n".join(["pilulier/key-file/1", *(str(value) for value in fields.values())])
    fields["checksum"] = hashlib.sha256(told.encode()).hexdigest()[:16]
    return msgspec.json.encode(fields)


def _parcel() -> list[bytes]:
    chunks: list[bytes] = []
    writer = ParcelWriter(chunks.append)
    writer.entry(Entry([b"srv"], FileType.FOLDER, 0, 0o755, 5, b"", []))
    writer.entry(Entry([b"srv", b"a"], FileType.FILE, 7, 0o644, 5, b"", [(b"user.x", b"1")]))
    writer.content(b"content")
    writer.verdict(True)
    writer.entry(Entry([b"srv", b".."], FileType.SYMLINK, 0, 0o777, 5, b"/etc", []))
    writer.end()
    (whole,) = chunks
    return [whole, whole[:-3], whole + b"\0", whole[30:]]


def _rest() -> dict[str, list[bytes]]:
    code = EnrolmentCode(["tcp://127.0.0.1:9444"], ["tcp://127.0.0.1:9445"], THIRTY_TWO, THIRTY_TWO, SIXTEEN)
    text = code.encode().encode()
    names = [b"letter.txt", b"..", b".", b"", b"a/b", b"nul\0", b"CON.txt", b"a:b", b"x" * 256, b"\xff", b"\n", b"d."]
    keys = [random.Random(5).randbytes(size) for size in (128, 127, 0)]
    return {
        "enrolment-code": [text, text.lower(), text[:-3], b"PIL1-", _pack(code), _pack(["x"])],
        "restore-path": names,
        "certificate": [_pack(SigningKey(THIRTY_TWO).certify(THIRTY_TWO, 1)), _pack([THIRTY_TWO, -1, bytes(64)])],
        "key-files": keys,
        "parcel": _parcel(),
        "exported-key": [
            *(keys[0][:32], _exported(), b"{}", _exported().replace(b"poste", b"p\\ud800ste")),
            "\n".join(f"{line.label} {line.symbols}" for line in to_lines("K", bytes(range(96)))).encode(),
        ],
        "mend": [encode_mend(_order())],
        "succession": [encode_succession(_succession())],
    }


def seeds() -> dict[str, list[bytes]]:
    """The seeds of every target; the same each time."""
    chance, real = random.Random("pilulier seeds"), os.urandom
    os.urandom = chance.randbytes
    try:
        made = _messages() | _packs() | _deltas() | _seals() | _trees() | _rest()
    finally:
        os.urandom = real
    assert made.keys() == TARGETS.keys()
    return made


def main() -> None:
    """Write them; only files that this makes are replaced."""
    for target, inputs in seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("seed-*"):
            stale.unlink()
        for number, data in enumerate(inputs):
            (folder / f"seed-{number:02}").write_bytes(data)
    sys.stdout.write(f"{sum(map(len, seeds().values()))} seeds of {len(TARGETS)} targets\n")


if __name__ == "__main__":
    main()
