"""agent.metadata on real files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.metadata import XATTR_LIMIT_BYTES, MetadataReader, metadata_digest
from agent.scanner import Found, Scanner, ScanWarning
from agent.selection import Selection
from transport.names import VaultId
from transport.sealing import vault_keys
from transport.tree import FileType, decode_metadata, encode_metadata

KEYS = vault_keys(b"k" * 32, VaultId(b"v" * 16))


def found_in(folder: Path) -> dict[bytes, Found]:
    *_, last = Scanner(Selection.of([os.fsencode(folder)]), KEYS).scan()
    return {child.name: child for child in last.children}


def set_or_skip(path: bytes, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            pytest.skip("no extended attributes here")
        raise


def test_what_an_entry_says(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    with open(path, "wb") as file:
        file.write(b"abc")
    os.symlink(b"\xfe", os.fsencode(tmp_path) + b"/l")
    warnings: list[ScanWarning] = []
    reader = MetadataReader(warnings.append)
    entries = found_in(tmp_path)
    metadata = reader.read(path, entries[b"\xff"], b"m" * 32)
    assert (metadata.name, metadata.type, metadata.mac) == (b"\xff", FileType.FILE, b"m" * 32)
    assert metadata.mtime_ns == os.stat(path).st_mtime_ns
    assert decode_metadata(encode_metadata(metadata)) == metadata
    if os.getuid() == 0:
        assert (metadata.user, metadata.group) == ("root", "root")
    link = reader.read(os.fsencode(tmp_path) + b"/l", entries[b"l"])
    assert (link.target, link.mac, link.xattrs) == (b"\xfe", b"", []) and warnings == []


def test_attributes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"")
    set_or_skip(path, "user.b", b"\0\xff")
    set_or_skip(path, "user.a", b"")
    read = MetadataReader(lambda _: None).read(path, found_in(tmp_path)[b"f"])
    os.setxattr(path, "user.c", b"")
    later = MetadataReader(lambda _: None).read(path, found_in(tmp_path)[b"f"])
    assert metadata_digest(read) != metadata_digest(later)
    assert [pair for pair in read.xattrs if pair[0].startswith(b"user.")] == [(b"user.a", b""), (b"user.b", b"\0\xff")]


def test_attributes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"")
    values = {"user.a": b"x" * (XATTR_LIMIT_BYTES - 20), "user.b": b"y" * 100, "user.c": b"z"}
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks: list(values))
    monkeypatch.setattr(os, "getxattr", lambda path, name, follow_symlinks: values[os.fsdecode(name)])
    warnings: list[ScanWarning] = []
    read = MetadataReader(warnings.append).read(os.fsencode(tmp_path / "f"), found_in(tmp_path)[b"f"])
    assert [name for name, _ in read.xattrs] == [b"user.a", b"user.c"]
    assert [warning.reason.split(" left out")[0] for warning in warnings] == ["attribute 'user.b' of 100 bytes"]


def test_systems_without_attributes_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"")
    asked: list[object] = []

    def refuse(path: bytes, follow_symlinks: bool) -> list[str]:
        asked.append(path)
        raise OSError(errno.ENOTSUP, "no")

    monkeypatch.setattr(os, "listxattr", refuse)
    reader = MetadataReader(lambda warning: pytest.fail(str(warning)))
    for _ in range(3):
        assert reader.read(b"/x", found_in(tmp_path)[b"f"]).xattrs == []
    assert len(asked) == 1
