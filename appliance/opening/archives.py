"""A selection of a snapshot as one stream: tar (PAX, POSIX.1-2001) as the faithful format, zip for convenience.

Files come in the order of their tree and are proved as they pass. A small file that does not prove itself is left out
and named in the manifest, the last entry; a large one has begun to leave when that shows, so the stream ends there,
cut, which every program that unpacks it notices. Names in a zip are made safe for any system: no drive, no `..`,
nothing that Windows takes for a separator; in a tar they stay as they were, relative.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

from appliance.opening.contents import Contents
from transport.errors import IntegrityError, PilulierError
from transport.snapshot_reader import Node, Selection
from transport.tree import FileType

MANIFEST: Final = "pilulier-manifest.json"
HELD_BYTES: Final = 8 << 20
"""Files up to this size are proved before their first byte leaves."""
_COPY_BYTES: Final = 1 << 20
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
)
"""Names that Windows takes for devices, with or without an extension."""


@dataclass(slots=True)
class Manifest:
    """What an archive holds, for whoever checks it later."""

    machine: str
    snapshot: int
    received_ms: int
    files: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    def encoded(self) -> bytes:
        """As JSON."""
        document = {
            "format": "pilulier-manifest/1",
            "machine": self.machine,
            "snapshot": self.snapshot,
            "received_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.received_ms / 1000)),
            "files": self.files,
            "left_out": self.left_out,
        }
        return json.dumps(document, ensure_ascii=False, indent=1).encode()

    def add(self, node: Node, digest: str) -> None:
        """A file that was written."""
        self.files.append(
            {
                "path": _shown(node.path()),
                "size": node.size,
                "modified": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0, node.mtime_ns) // 10**9)),
                "sha256": digest,
            }
        )

    def omit(self, node: Node, reason: str) -> None:
        """A file that was not."""
        self.left_out.append({"path": _shown(node.path()), "reason": reason})


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


class _Reading(io.RawIOBase):
    """A file's parts as something to read from, its digest counted on the way."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        super().__init__()
        self._parts = parts
        self._held = b""
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, `size` at most; b"" at the end, once the file has proved itself."""
        if not self._held:
            self._held = next(self._parts, b"")
            self.digest.update(self._held)
        if 0 <= size < len(self._held):
            part, self._held = self._held[:size], self._held[size:]
            return part
        part, self._held = self._held, b""
        return part

    def finish(self) -> str:
        """Read what is left, so that the proof is made; the digest in hex."""
        while self.read(_COPY_BYTES):
            pass
        return self.digest.hexdigest()


def _ready(node: Node, parts: Iterator[bytes], manifest: Manifest) -> _Reading | None:
    """The file to write; None where it is small and did not prove itself: said in the manifest."""
    if node.size > HELD_BYTES:
        return _Reading(parts)
    try:
        whole = b"".join(parts)
    except PilulierError as error:
        manifest.omit(node, str(error))
        return None
    return _Reading(iter((whole,) if whole else ()))


def write_tar(out: IO[bytes], contents: Contents, selection: Selection, manifest: Manifest) -> None:
    """A tar to a pipe. Owners by name and number, times to the nanosecond, links, extended attributes."""
    # typeshed does not know copybufsize here.
    opened: Any = tarfile.open
    with opened(
        mode="w|",
        fileobj=out,
        format=tarfile.PAX_FORMAT,
        bufsize=_COPY_BYTES,
        encoding="utf-8",
        errors="surrogateescape",
        # 16 KiB at a time would be half of what a large file costs.
        copybufsize=_COPY_BYTES,
    ) as tar:
        for node in (*selection.ancestors, *selection.nodes):
            if node.type == FileType.FOLDER:
                tar.addfile(_header(node, tarfile.DIRTYPE))
        files, links = _with_links(selection)
        written: set[bytes] = set()
        for node, parts in contents.files(files):
            reading = _ready(node, parts, manifest)
            if reading is None:
                continue
            header = _header(node, tarfile.REGTYPE)
            header.size = node.size
            tar.addfile(header, reading)
            manifest.add(node, reading.finish())
            written.add(node.path_id)
        for node, first in links:
            if first.path_id in written:
                header = _header(node, tarfile.LNKTYPE)
                header.linkname = _relative(first)
                tar.addfile(header)
            else:
                manifest.omit(node, "it is a hard link to a file that was left out")
        for node in selection.nodes:
            if node.type == FileType.SYMLINK:
                header = _header(node, tarfile.SYMTYPE)
                header.linkname = node.target.decode("utf-8", "surrogateescape")
                tar.addfile(header)
        _tar_bytes(tar, MANIFEST, manifest.encoded())


def _with_links(selection: Selection) -> tuple[list[Node], list[tuple[Node, Node]]]:
    """The files to write, and further names of files that are written, each with its first one."""
    files: list[Node] = []
    links: list[tuple[Node, Node]] = []
    firsts: dict[tuple[bytes, bytes, bytes], Node] = {}
    for node in selection.nodes:
        if node.type != FileType.FILE:
            continue
        # The group alone is the machine's word; the same version and MAC make it the same content.
        key = (node.link_group, node.version_id, node.mac)
        first = firsts.setdefault(key, node) if node.link_group else node
        if first is node:
            files.append(node)
        else:
            links.append((node, first))
    return files, links


def _tar_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    header.mtime = int(time.time())
    tar.addfile(header, io.BytesIO(data))


def _relative(node: Node) -> str:
    return node.path().lstrip(b"/").decode("utf-8", "surrogateescape")


def _header(node: Node, kind: bytes) -> tarfile.TarInfo:
    header = tarfile.TarInfo(_relative(node))
    header.type = kind
    # Set-uid and set-gid stay behind: who unpacks as root must not gain a privileged program.
    header.mode = stat.S_IMODE(node.mode) & 0o1777
    header.uid, header.gid, header.uname, header.gname = node.uid, node.gid, node.user, node.group
    header.mtime = node.mtime_ns / 1e9
    header.pax_headers = {"mtime": f"{node.mtime_ns // 10**9}.{node.mtime_ns % 10**9:09d}"}
    for name, value in node.xattrs:
        if name != b"security.capability":
            keyword = "SCHILY.xattr." + name.decode("utf-8", "surrogateescape")
            header.pax_headers[keyword] = value.decode("utf-8", "surrogateescape")
    return header


def write_zip(out: IO[bytes], contents: Contents, selection: Selection, manifest: Manifest) -> None:
    """A zip to a pipe: files and empty folders; links are left out and named in the manifest."""
    taken: set[str] = {MANIFEST}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as archive:
        for node in selection.nodes:
            if node.type == FileType.FOLDER:
                archive.writestr(zipfile.ZipInfo(_zip_name(node, taken) + "/", _zip_time(node)), b"")
            elif node.type != FileType.FILE:
                manifest.omit(node, "a zip holds no links: take the tar for them")
        files = [node for node in selection.nodes if node.type == FileType.FILE]
        for node, parts in contents.files(files):
            reading = _ready(node, parts, manifest)
            if reading is None:
                continue
            info = zipfile.ZipInfo(_zip_name(node, taken), _zip_time(node))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (stat.S_IMODE(node.mode) & 0o777)) << 16
            with archive.open(info, "w", force_zip64=node.size >= (1 << 31)) as file:
                while part := reading.read(_COPY_BYTES):
                    file.write(part)
            manifest.add(node, reading.digest.hexdigest())
        archive.writestr(MANIFEST, manifest.encoded())


def _zip_time(node: Node) -> tuple[int, int, int, int, int, int]:
    moment = time.localtime(max(0, node.mtime_ns) // 10**9)
    # The format knows no year before 1980 and none after 2107.
    return (min(max(moment.tm_year, 1980), 2107), *moment[1:6])


def safe_name(name: bytes) -> str:
    """One name of a path as any system may have it."""
    text = name.decode("utf-8", "replace")
    text = "".join("_" if letter in '\\/:*?"<>|' or ord(letter) < 32 else letter for letter in text)
    text = text.rstrip(" .") or "_"
    return f"_{text}" if text.partition(".")[0].lower() in _RESERVED else text


def _zip_name(node: Node, taken: set[str]) -> str:
    """The path with safe names, told apart from those that were given already (also by case alone)."""
    name = "/".join(safe_name(part) for part in node.path().split(b"/") if part)
    if node.type == FileType.FOLDER:
        return name
    stem, dot, extension = name.rpartition(".")
    candidate, number = name, 1
    while candidate.lower() in taken:
        number += 1
        candidate = f"{stem} ({number}).{extension}" if dot and "/" not in extension else f"{name} ({number})"
    taken.add(candidate.lower())
    return candidate


def write(form: str, out: IO[bytes], contents: Contents, selection: Selection, manifest: Manifest) -> None:
    """An archive in the form asked for; IntegrityError where a large file did not prove itself."""
    for path in selection.missing:
        manifest.left_out.append({"path": _shown(path), "reason": "it is not in this snapshot"})
    if form == "tar":
        write_tar(out, contents, selection, manifest)
    elif form == "zip":
        write_zip(out, contents, selection, manifest)
    else:
        raise IntegrityError(f"there is no archive of form {form!r}")


def chosen_paths(paths: Sequence[bytes]) -> list[bytes]:
    """What a selection of the whole snapshot means to a reader: nothing named is everything."""
    return [] if b"/" in paths else list(paths)
