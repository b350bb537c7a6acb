"""agent.scanner on real trees: order, odd names, links, what is missing and what cannot be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent import scanner
from agent.scanner import Listing, RootState, Scanner
from agent.selection import Selection
from transport.names import ROOT, VaultId
from transport.sealing import vault_keys
from transport.tree import FileType

KEYS = vault_keys(b"k" * 32, VaultId(b"v" * 16))


def walk(include: list[Path], exclude: list[bytes] | None = None, **options: object) -> dict[bytes, Listing]:
    selection = Selection.of([os.fsencode(path) for path in include], exclude or [])
    listings = list(Scanner(selection, KEYS, **options).scan())  # type: ignore[arg-type]
    seen = {ROOT}
    for listing in listings:
        assert listing.path_id in seen or listing.missing_root or listing.error, "parents come first"
        seen.update(child.path_id for child in listing.children)
        assert [c.name for c in listing.children] == sorted(c.name for c in listing.children)
    return {listing.path: listing for listing in listings}


def names(listing: Listing) -> list[bytes]:
    return [child.name for child in listing.children]


def test_path_ids_are_those_of_the_vault() -> None:
    fast = scanner.path_ids(KEYS)
    assert fast(ROOT, b"etc") == KEYS.path_id(ROOT, b"etc")
    assert Scanner(Selection(), KEYS).path_id(b"/a/b") == KEYS.path_id(KEYS.path_id(ROOT, b"a"), b"b")


def test_a_tree_as_it_stands(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    (tmp_path / "empty").mkdir()
    with open(top + b"/caf\xe9\n", "wb") as file:
        file.write(b"12345")
    os.link(top + b"/caf\xe9\n", top + b"/second")
    os.symlink(b"nowhere/\xff", top + b"/link")
    os.symlink(tmp_path, top + b"/loop")
    os.mkfifo(top + b"/pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    os.chmod(top + b"/second", 0o4751)
    os.utime(top + b"/second", ns=(0, -5))
    tree = walk([tmp_path])
    listing = tree[top]
    assert names(listing) == [b"caf\xe9\n", b"empty", b"link", b"loop", b"second"]
    first, empty, link, loop, second = listing.children
    assert (first.size, first.mode, first.mtime_ns, first.nlink) == (5, 0o4751, -5, 2)
    assert first.link_group == second.link_group and len(first.link_group) == 8
    assert (first.ino, first.dev, first.uid) == (second.ino, second.dev, os.getuid())
    assert (link.type, link.target, link.size, link.link_group) == (FileType.SYMLINK, b"nowhere/\xff", 0, b"")
    assert (empty.type, loop.type) == (FileType.FOLDER, FileType.SYMLINK)
    assert listing.specials == 2 and listing.complete and listing.included and listing.error is None
    assert tree[top + b"/empty"].children == [] and top + b"/loop" not in tree
    for above in tmp_path.parents:
        assert len(tree[os.fsencode(above)].children) == 1 and not tree[os.fsencode(above)].complete
    assert tree[b"/"].folder is None and tree[b"/"].path_id == ROOT


def test_a_count_meets_the_same_files_without_ids(tmp_path: Path) -> None:
    for name in ("a/one", "a/b/two", "three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    selection = Selection.of([os.fsencode(tmp_path)], [b"*.tmp"])

    def files(**options: bool) -> list[tuple[bytes, int]]:
        walked = Scanner(selection, KEYS, **options).scan()
        return [(child.name, child.size) for listing in walked for child in listing.children]

    assert files(count_only=True) == files()
    counted = Scanner(selection, KEYS, count_only=True).scan()
    assert {child.path_id for listing in counted for child in listing.children} == {ROOT}


def test_rules_while_walking(tmp_path: Path) -> None:
    for name in ("keep/a.txt", "keep/b.tmp", "out/x", "out/in/y", "out/in/z.tmp", "p/cache/k", "p/cache/l"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    top = os.fsencode(tmp_path)
    tree = walk([tmp_path, tmp_path / "out/in"], [top + b"/out", b"*.tmp", b"**/cache/**"])
    assert names(tree[top]) == [b"keep", b"out", b"p"]
    assert names(tree[top + b"/keep"]) == [b"a.txt"] and names(tree[top + b"/out"]) == [b"in"]
    assert names(tree[top + b"/out/in"]) == [b"y"] and names(tree[top + b"/p/cache"]) == []
    assert tree[top + b"/out/in"].included and not tree[top + b"/out"].complete


def test_included_files_and_the_agents_own_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/ledger.db").write_bytes(b"")
    (tmp_path / "f").write_bytes(b"")
    top = os.fsencode(tmp_path)
    assert names(walk([tmp_path], home=top + b"/home")[top]) == [b"f"]
    assert names(walk([tmp_path / "f", tmp_path / "home"], home=top + b"/home")[top]) == [b"f"]


def test_a_missing_root_is_told_apart_from_a_deletion(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    gone, deep, top = tmp_path / "gone", tmp_path / "mnt/disk/data", os.fsencode(tmp_path)
    tree = walk([tmp_path / "there", gone, deep])
    missing = tree[os.fsencode(gone)]
    assert missing.missing_root and missing.error == f"{gone} does not exist" and missing.folder is None
    assert tree[os.fsencode(deep)].missing_root
    ids = Scanner(Selection(), KEYS)
    assert tree[top].unsure == {ids.path_id(top + b"/gone"), ids.path_id(top + b"/mnt")}
    tree = walk([tmp_path / "there", gone], allow_missing=True)
    assert os.fsencode(gone) not in tree and tree[top].unsure == frozenset()
    # Included once more below an included folder: still a mount point that may be missing.
    tree = walk([tmp_path, gone])
    assert tree[os.fsencode(gone)].missing_root and tree[top].unsure == {ids.path_id(top + b"/gone")}


def test_a_root_behind_a_link_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "real/x").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_bytes(b"")
    tree = walk([tmp_path / "link/x", tmp_path / "file/y"])
    behind = tree[os.fsencode(tmp_path / "link/x")]
    assert behind.missing_root and "a symbolic link: include its real path" in (behind.error or "")
    assert tree[os.fsencode(tmp_path / "file/y")].missing_root
    assert names(tree[os.fsencode(tmp_path)]) == []


def test_included_roots_before_a_backup(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/f").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    selection = Selection.of(os.fsencode(tmp_path / name) for name in ("full", "empty", "gone", "full/f", "full/f/x"))
    states = {Path(os.fsdecode(r.path)).name: r.state for r in Scanner(selection, KEYS).included_roots()}
    assert states == {
        "full": RootState.PRESENT, "f": RootState.PRESENT, "empty": RootState.EMPTY, "gone": RootState.MISSING,
        "x": RootState.MISSING,
    }  # fmt: skip


def test_an_unreadable_folder_is_an_error_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    real = scanner.open_folder

    def refuse(path: bytes) -> int:
        if path.endswith(b"/a"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(scanner, "open_folder", refuse)
    tree = walk([tmp_path])
    assert tree[os.fsencode(tmp_path / "a")].error == "permission denied"
    assert tree[os.fsencode(tmp_path / "c")].error is None and os.fsencode(tmp_path / "a/b") not in tree


def test_a_folder_exchanged_for_a_link_is_not_followed(tmp_path: Path) -> None:
    for name in ("secret", "a", "b"):
        (tmp_path / name).mkdir()
    top = os.fsencode(tmp_path)
    errors: dict[bytes, str | None] = {}
    for listing in Scanner(Selection.of([top]), KEYS).scan():
        errors[listing.path] = listing.error
        if listing.path == top:
            (tmp_path / "a").rmdir()
            (tmp_path / "a").symlink_to("secret")
            (tmp_path / "b").rename(tmp_path / "old")
            (tmp_path / "b").mkdir()
    assert errors[top + b"/a"] and "exchanged" in (errors[top + b"/b"] or "") and errors[top + b"/secret"] is None


def test_an_entry_that_cannot_be_looked_at_is_unsure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l").symlink_to("x")
    (tmp_path / "m").symlink_to("x")

    def fail(path: bytes) -> bytes:
        raise (FileNotFoundError(2, "gone") if path.endswith(b"l") else OSError(5, "Input/output error"))

    monkeypatch.setattr(scanner.os, "readlink", fail)
    listing = walk([tmp_path])[os.fsencode(tmp_path)]
    assert names(listing) == [] and listing.unsure == {KEYS.path_id(listing.path_id, b"m")}
    assert [w.reason for w in sorted(listing.warnings, key=lambda w: w.path)] == [
        "vanished while its folder was listed", "input/output error",
    ]  # fmt: skip


def test_twenty_thousand_files(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / f"{folder}").mkdir()
        for file in range(1000):
            os.close(os.open(tmp_path / f"{folder}/{file}", os.O_CREAT | os.O_WRONLY))
    tree = walk([tmp_path])
    ids = [child.path_id for listing in tree.values() for child in listing.children]
    assert len(ids) == len(set(ids)) == 20_020 + len(tmp_path.parts) - 1
