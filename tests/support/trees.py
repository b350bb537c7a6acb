"""Real trees on a real file system: made with everything people have, and compared bit for bit.

Owns what "the same tree" means for every journey: names, types, contents, modes, owners, times to the nanosecond,
link targets, hard-link groups, extended attributes (ACLs are among them) and holes. Trees come from a seed: the
same seed makes the same tree. Knows nothing of Pilulier.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NANOSECOND_OF_DAY_ONE = 1_700_000_000_123_456_789
_COPY_BYTES = 1 << 20
_HOLE_SLACK_BYTES = 128 << 10
"""A restored hole may be this much smaller than the original: file systems round to their own blocks."""


@dataclass(frozen=True, slots=True)
class Node:
    """One path of a tree, all that a restore must put back. `links` names every path of the same inode."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    digest: str
    target: bytes
    links: tuple[bytes, ...]
    xattrs: tuple[tuple[str, bytes], ...]
    allocated: int


@dataclass(frozen=True, slots=True)
class Made:
    """What a file system let `make_tree` make: a test says what it could not look at."""

    root: Path
    xattrs: bool
    acls: bool
    sparse: bool
    raw_names: bool


def _kind(mode: int) -> str:
    for check, name in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "symlink")):
        if check(mode):
            return name
    return "special"


def _digest(path: bytes) -> str:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_COPY_BYTES):
            whole.update(chunk)
    return whole.hexdigest()


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return ()
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(root, folder) if folder else root) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                yield path, entry.stat(follow_symlinks=False)


def describe(root: Path | bytes) -> dict[bytes, Node]:
    """Every path below `root` (relative, bytes) with what it is. The root itself is not described."""
    top = os.fsencode(root)
    statuses = dict(_walk(top))
    inodes: dict[tuple[int, int], list[bytes]] = {}
    for path, status in statuses.items():
        if stat.S_ISREG(status.st_mode):
            inodes.setdefault((status.st_dev, status.st_ino), []).append(path)
    nodes: dict[bytes, Node] = {}
    for path, status in statuses.items():
        full, kind = os.path.join(top, path), _kind(status.st_mode)
        regular = kind == "file"
        links = sorted(inodes[(status.st_dev, status.st_ino)]) if regular else [path]
        nodes[path] = Node(
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if regular else 0,
            digest=_digest(full) if regular else "",
            target=os.readlink(full) if kind == "symlink" else b"",
            links=tuple(links),
            xattrs=_xattrs(full),
            allocated=status.st_blocks * 512 if regular else 0,
        )
    return nodes


def differences(original: dict[bytes, Node], other: dict[bytes, Node], *, holes: bool = True) -> list[str]:
    """A sentence for each way in which `other` is not `original`; empty when they are the same.

    Specials (sockets, pipes, devices) in the original are not expected in the other. With `holes`, a file may not
    take more room than the original, but for a little slack a hole.
    """
    found: list[str] = []
    expected = {path: node for path, node in original.items() if node.kind != "special"}
    found += [f"{path!r} is missing" for path in expected if path not in other]
    found += [f"{path!r} was not there" for path in other if path not in expected]
    for path, node in expected.items():
        copy = other.get(path)
        if copy is None:
            continue
        for field in ("kind", "mode", "uid", "gid", "mtime_ns", "size", "digest", "target", "links", "xattrs"):
            if getattr(node, field) != getattr(copy, field):
                found.append(f"{path!r}: {field} is {getattr(copy, field)!r}, not {getattr(node, field)!r}")
        if holes and node.allocated < node.size and copy.allocated > node.allocated + _HOLE_SLACK_BYTES:
            found.append(f"{path!r}: {copy.allocated} bytes on disk where the original takes {node.allocated}")
    return found


def assert_same(original: Path | dict[bytes, Node], other: Path | dict[bytes, Node], *, holes: bool = True) -> None:
    """AssertionError that names the first twenty differences; paths are described first."""
    left = describe(original) if isinstance(original, Path) else original
    right = describe(other) if isinstance(other, Path) else other
    found = differences(left, right, holes=holes)
    shown = "\n  ".join(found[:20])
    assert not found, f"{len(found)} differences:\n  {shown}"


def _text(rng: random.Random, size: int) -> bytes:
    """Bytes that compress about 2:1, as documents do."""
    letters = bytes(b"aaaaeeeeiinnoorrsstt      \n,.bcdfghjklmpquvwxyz0123456789AELMNPRST"[i % 66] for i in range(256))
    return rng.randbytes(size).translate(letters)


def _sparse_file(path: Path, rng: random.Random) -> bool:
    with open(path, "wb") as file:
        for part in range(4):
            file.seek(part * (5 << 20) + 12_345)
            file.write(rng.randbytes(70_000))
        file.truncate(24 << 20)
    return path.stat().st_blocks * 512 < 12 << 20


def _extended(root: Path) -> tuple[bool, bool]:
    """Give two files and a folder attributes and an ACL; says whether the file system took each."""
    try:
        os.setxattr(root / "documents" / "ordonnance-1.txt", "user.origin", b"\x00binary \xff value")
        os.setxattr(root / "documents" / "ordonnance-1.txt", "user.empty", b"")
        os.setxattr(root / "documents", "user.folder", "dossier soigné".encode())
    except OSError:
        return False, False
    if shutil.which("setfacl") is None:
        return True, False
    shared = [str(root / "documents" / "ordonnance-2.txt"), str(root / "documents")]
    done = subprocess.run(["setfacl", "-m", "u:12345:r,g:23456:rw", *shared], capture_output=True, timeout=20)
    return True, done.returncode == 0


def make_tree(root: Path, seed: int = 1, *, documents: int = 40, big_bytes: int = 3 << 20) -> Made:
    """Fill `root` (made if missing) with a varied tree: the same for the same arguments, but for device numbers.

    In it: text, incompressible and empty files, a file of several segments, empty and deep folders, relative,
    absolute and dangling links, hard links within and across folders, a sparse file, odd and non-UTF-8 names, odd
    modes, old and future times, a time before 1970, extended attributes, ACLs, and a pipe that a backup must skip.
    """
    rng = random.Random(f"tree/{seed}")
    root.mkdir(parents=True, exist_ok=True)
    folder = root / "documents"
    folder.mkdir()
    for number in range(documents):
        (folder / f"ordonnance-{number}.txt").write_bytes(_text(rng, rng.randrange(1, 30_000)))
    (folder / "numérisé.pdf").write_bytes(rng.randbytes(300_000))
    (folder / "vide").write_bytes(b"")
    (folder / "-rf *?[x] \"quoted' \\ back\ttab\nnewline").write_bytes(b"odd name")
    (folder / ("n" * 255)).write_bytes(b"the longest name")
    (root / "base.db").write_bytes(b"".join(_text(rng, 4000) + bytes(96) for _ in range(big_bytes // 4096)))
    (root / "exact-segment").write_bytes(rng.randbytes(1 << 20))
    (root / "segment-and-one").write_bytes(rng.randbytes((1 << 20) + 1))
    (root / "zeros").write_bytes(bytes(200_000))
    (root / "empty folder").mkdir()
    deep = root / "deep"
    for level in range(40):
        deep = deep / f"{level}"
    deep.mkdir(parents=True)
    (deep / "leaf").write_bytes(b"down here")

    links = root / "links"
    links.mkdir()
    os.symlink("../base.db", links / "relative")
    os.symlink("/etc/hostname", links / "absolute")
    os.symlink("nowhere/at/all", links / "dangling")
    os.symlink("..", links / "up")
    os.link(root / "base.db", links / "hard-a")
    os.link(root / "base.db", links / "hard-b")
    os.link(folder / "ordonnance-3.txt", folder / "ordonnance-3 (lien).txt")
    os.mkfifo(root / "pipe")

    sparse = _sparse_file(root / "sparse.img", rng)
    raw_names = True
    try:
        (root / os.fsdecode(b"caf\xe9-\xff\xfe")).write_bytes(b"not UTF-8")
    except OSError:
        raw_names = False
    xattrs, acls = _extended(root)

    for number, mode in enumerate((0o600, 0o640, 0o444, 0o755, 0o700)):
        os.chmod(folder / f"ordonnance-{number + 5}.txt", mode)
    os.chmod(root / "empty folder", 0o1777)
    _set_times(root)
    return Made(root, xattrs, acls, sparse, raw_names)


def _set_times(root: Path) -> None:
    """Times that a careless restore gets wrong: odd nanoseconds, before 1970, the year 2040; folders last."""
    odd = {b"vide": -86_400_000_000_001, b"zeros": 2_208_988_800_999_999_999}
    paths = sorted((path for path, _ in _walk(os.fsencode(root))), key=lambda path: path.count(b"/"), reverse=True)
    for number, path in enumerate(paths):
        moment = odd.get(os.path.basename(path), _NANOSECOND_OF_DAY_ONE + number * 1_000_000_007)
        os.utime(os.path.join(os.fsencode(root), path), ns=(moment, moment), follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """What `change_tree` did, as counts that a report can be held against."""

    edited: int
    added: int
    deleted: int
    moved: int
    metadata_only: int


def change_tree(root: Path, seed: int = 1) -> Changes:
    """A day on a tree of `make_tree`, once per tree: each kind of change, deterministic for a seed.

    Edits in place, appends, inserts in the middle, shortens; adds, deletes, renames a file and a folder; turns a
    file into a folder and the reverse; changes only a mode or a time; retargets a link; breaks up a hard link.
    """
    rng = random.Random(f"change/{seed}")
    folder = root / "documents"
    with open(root / "base.db", "r+b") as file:
        for _ in range(5):
            file.seek(rng.randrange(0, 2 << 20))
            file.write(rng.randbytes(200))
        file.seek(0, os.SEEK_END)
        file.write(_text(rng, 9000))
    content = (root / "segment-and-one").read_bytes()
    (root / "segment-and-one").write_bytes(content[:500_000] + rng.randbytes(100) + content[500_000:])
    with open(root / "zeros", "r+b") as file:
        file.truncate(150_000)
    (folder / "ordonnance-1.txt").write_bytes(_text(rng, 5000))
    (folder / f"nouvelle-{seed}.txt").write_bytes(_text(rng, 12_000))
    (folder / f"scan-{seed}.jpg").write_bytes(rng.randbytes(150_000))
    (folder / "ordonnance-11.txt").unlink()
    (folder / "ordonnance-12.txt").rename(folder / f"renommée-{seed}.txt")
    (root / "deep" / "0").rename(root / "deep" / f"zéro-{seed}")
    (root / "exact-segment").unlink()
    (root / "exact-segment").mkdir()
    (root / "exact-segment" / "inside").write_bytes(b"was a file")
    (root / "empty folder").rmdir()
    (root / "empty folder").write_bytes(b"was a folder")
    os.chmod(folder / "ordonnance-13.txt", 0o600)
    os.utime(folder / "ordonnance-14.txt", ns=(1, 1_600_000_000_000_000_001))
    (root / "links" / "relative").unlink()
    os.symlink("../zeros", root / "links" / "relative")
    detached = (root / "links" / "hard-b").read_bytes()
    (root / "links" / "hard-b").unlink()
    (root / "links" / "hard-b").write_bytes(detached)
    return Changes(edited=4, added=4, deleted=1, moved=2, metadata_only=2)
