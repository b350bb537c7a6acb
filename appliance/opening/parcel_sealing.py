"""A selection of one machine, sealed anew for another one, chunk by chunk (`transport.parcels`).

Runs in the opener, the only process that sees plaintext, and keeps a chunk of it at a time. Files come with a verdict:
whether they proved to be what their machine signed. What comes is what another machine can use: links, which it may
refuse; each name of a file as a file of its own; of extended attributes those of users; no owners.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import IO, Final

from appliance.opening.archives import HELD_BYTES
from appliance.opening.contents import Contents
from transport.errors import PilulierError
from transport.parcels import Entry, ParcelWriter, chunk_id
from transport.sealing import Sealer
from transport.snapshot_reader import Node, Selection
from transport.tree import FileType

LENGTH: Final = struct.Struct(">I")
"""Before each sealed chunk; zero at the end."""


def write(out: IO[bytes], sealer: Sealer, contents: Contents, selection: Selection) -> None:
    """Write the whole parcel; OSError where nobody reads it any more."""
    written = 0

    def put(chunk: bytes) -> None:
        nonlocal written
        written += 1
        sealed = sealer.seal_segment(chunk_id(written), chunk)
        out.write(LENGTH.pack(len(sealed)))
        out.write(sealed)

    parcel = ParcelWriter(put)
    for node in (*selection.ancestors, *selection.nodes):
        if node.type in (FileType.FOLDER, FileType.SYMLINK):
            parcel.entry(_entry(node))
    files = [node for node in selection.nodes if node.type == FileType.FILE]
    for node, parts in contents.files(files):
        _file(parcel, node, parts)
    parcel.end()
    out.write(LENGTH.pack(0))


def _file(parcel: ParcelWriter, node: Node, parts: Iterator[bytes]) -> None:
    if node.size <= HELD_BYTES:
        try:
            whole = b"".join(parts)
        except PilulierError:
            whole = bytes(node.size)
            proved = False
        else:
            proved = True
        if parcel.entry(_entry(node)):
            parcel.content(whole)
            parcel.verdict(proved)
        return
    begun = parcel.entry(_entry(node))
    left, proved = node.size, True
    try:
        for part in parts:
            left -= len(part)
            if begun:
                parcel.content(part)
    except PilulierError:
        # What was announced must come: zeros stand for what could not be read, and the verdict throws all away.
        proved = False
        while left and begun:
            filler = bytes(min(left, 1 << 20))
            parcel.content(filler)
            left -= len(filler)
    if begun:
        parcel.verdict(proved)


def _entry(node: Node) -> Entry:
    names: list[bytes] = []
    above: Node | None = node
    while above is not None:
        names.append(above.name)
        above = above.parent
    return Entry(
        names=names[::-1],
        type=int(node.type),
        size=node.size if node.type == FileType.FILE else 0,
        # Set-uid and set-gid stay behind.
        mode=stat.S_IMODE(node.mode) & 0o1777,
        mtime_ns=node.mtime_ns,
        target=node.target,
        xattrs=[(name, value) for name, value in node.xattrs if name.startswith(b"user.")],
    )
