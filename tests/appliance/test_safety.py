"""Safety copies: whole or refused, private, expiring; an appliance that was put back goes on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from appliance import safety
from appliance.control import audit, contracts, deletions, outbox, sessions
from appliance.control.database import Database
from appliance.control.deletions import Kind
from appliance.control.scope import EVERYTHING
from appliance.errors import HomeError
from appliance.settings import Home
from tests.support.command_line import Shell, initialised
from transport.errors import IntegrityError, PilulierError, UsageError

NOW = 1_795_600_000.0
DAY = 86400.0


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    shell = initialised(tmp_path / "home", capsys)
    assert shell("contract", "add", "--client", "ours", "--email", "o@x.org").code == 0
    return shell


@pytest.fixture
def home(shell: Shell) -> Home:
    return Home(shell.root)


def copy_of(home: Home, at: float = NOW) -> safety.Copy:
    with Database.open(home.control_db) as db:
        return safety.write_copy(home, db, at)


def test_what_is_put_back_is_what_was_there(home: Home, tmp_path: Path) -> None:
    with Database.open(home.control_db) as db:
        (contract,) = contracts.every(db, EVERYTHING)
        account = db.value("SELECT id FROM account")
        sessions.open(db, account, address="127.0.0.1", user_agent="x", now=NOW)
        outbox.add(db, recipient="p@x.org", kind="test", language="fr", fields={}, secret="s", now=NOW)
        deletions.request(db, EVERYTHING, Kind.CONTRACT, contract.id, by="boss", now=NOW - 6 * DAY)
    made = copy_of(home)
    assert made.path.stat().st_mode & 0o777 == 0o600 and made.bytes > 1000
    assert b"identity" not in made.path.read_bytes() and b"SQLite" not in made.path.read_bytes()
    key = safety.load_key(home)
    again = safety.restore(tmp_path / "again", made.path, key, NOW + DAY)
    for name in ("keys/identity.key", "keys/curve.key", "settings.json"):
        assert (again.root / name).read_bytes() == (home.root / name).read_bytes()
        assert (again.root / name).stat().st_mode & 0o777 == 0o600
    assert Home.open(again.root) == again and safety.load_key(again) == key
    with Database.open(again.control_db) as db:
        assert contracts.find(db, EVERYTHING, contract.id).client_id == "ours"
        assert db.value("SELECT count(*) AS n FROM web_session") == 0
        assert outbox.pending(db) == [] and db.value("SELECT secret FROM outbox") is None
        # Asked for six days before the copy: it waits a week again, it may have been cancelled since.
        assert [one.due_at for one in deletions.pending(db, EVERYTHING)] == [NOW + 8 * DAY]
        assert audit.verify(db).ok and "appliance.restored" in audit.kinds(db, EVERYTHING)
    assert not list(home.root.glob("control.db.copy*")) and not list(made.path.parent.glob("*.new"))


def test_repositories_that_are_there_stay(home: Home, tmp_path: Path) -> None:
    made = copy_of(home)
    kept = tmp_path / "again" / "repositories" / "0123"
    kept.mkdir(parents=True)
    (kept / "pack").write_bytes(b"x")
    key = safety.load_key(home)
    with pytest.raises(IntegrityError, match="the key is another"):
        safety.restore(tmp_path / "again", made.path, bytes(32), NOW)
    # Refused: nothing but the repositories is left, so that it can be tried again.
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["repositories"]
    safety.restore(tmp_path / "again", made.path, key, NOW)
    assert (kept / "pack").read_bytes() == b"x"
    with pytest.raises(HomeError, match="already"):
        safety.restore(tmp_path / "again", made.path, key, NOW)


def test_a_copy_that_was_cut_altered_or_mixed_is_refused(home: Home, tmp_path: Path) -> None:
    content = copy_of(home).path.read_bytes()
    other = copy_of(home, NOW + 5).path.read_bytes()
    key = safety.load_key(home)
    bad = {
        "cut": content[:-1],
        "cut at a piece": content[: 8 + 16],
        "longer": content + b"x",
        "of two": content[:24] + other[24:],
        "not one": b"x" * 100,
        "empty": b"",
        **{f"flipped at {at}": flipped(content, at) for at in range(8, len(content), max(1, len(content) // 40))},
    }
    for name, data in bad.items():
        path = tmp_path / "bad"
        path.write_bytes(data)
        with pytest.raises(PilulierError):
            safety.restore(tmp_path / "again", path, key, NOW)
        assert not (tmp_path / "again").exists() or not any((tmp_path / "again").iterdir()), name


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "keys/../../evil", "keys/.hidden", "repositories/x", "keys"])
def test_other_names_inside_are_refused(home: Home, tmp_path: Path, name: str) -> None:
    key = safety.load_key(home)
    path = tmp_path / "crafted"
    with open(path, "wb") as file:
        sealed = safety._Sealed(file, key)
        with tarfile.open(fileobj=sealed, mode="w|") as archive:
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        sealed.finish()
    with pytest.raises(IntegrityError, match="does not belong there"):
        safety.restore(tmp_path / "again", path, key, NOW)
    assert not (tmp_path / "evil").exists()


def test_links_and_large_keys_are_refused(home: Home, tmp_path: Path) -> None:
    key = safety.load_key(home)
    for kind, size in ((tarfile.SYMTYPE, 0), (tarfile.REGTYPE, (1 << 20) + 1)):
        path = tmp_path / "crafted"
        with open(path, "wb") as file:
            sealed = safety._Sealed(file, key)
            with tarfile.open(fileobj=sealed, mode="w|") as archive:
                info = tarfile.TarInfo("keys/identity.key")
                info.type, info.linkname, info.size = kind, "/etc/shadow", size
                archive.addfile(info, io.BytesIO(bytes(size)))
            sealed.finish()
        with pytest.raises(IntegrityError):
            safety.restore(tmp_path / "again", path, key, NOW)


def test_large_ones_are_cut_into_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 3 + b"tail"
    with open(tmp_path / "x", "wb") as file:
        sealed = safety._Sealed(file, bytes(32))
        sealed.write(content)
        sealed.finish()
    with open(tmp_path / "x", "rb") as file:
        assert safety._Opened(file, bytes(32)).readall() == content


def test_old_ones_expire_but_for_the_newest(home: Home) -> None:
    for day in (0, 1, 20):
        copy_of(home, NOW + day * DAY)
    (home.root / "safety" / "note.txt").write_text("mine")
    assert safety.expire(home, NOW + 14.5 * DAY) == 1
    assert [copy.at for copy in safety.listed(home)] == [NOW + DAY, NOW + 20 * DAY]
    assert safety.expire(home, NOW + 400 * DAY) == 1
    assert [copy.at for copy in safety.listed(home)] == [NOW + 20 * DAY]
    assert (home.root / "safety" / "note.txt").exists()


def test_the_key_on_paper() -> None:
    key = bytes(range(32))
    paper = safety.written(key)
    assert len(paper) == 64 and safety.read(paper) == safety.read(paper.lower().replace("-", " ")) == key
    for wrong in ("", paper[:-1], "0" + paper[1:], paper + "AA"):
        with pytest.raises(UsageError, match="52 letters and digits"):
            safety.read(wrong)


def test_as_an_operator_types_it(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("safety", "list").out.startswith("There is no safety copy yet")
    elsewhere = tmp_path / "other disk"
    assert shell("safety", "set", "--folder", str(elsewhere)).code == 2, "not there"
    elsewhere.mkdir()
    assert shell("--json", "safety", "set", "--folder", str(elsewhere), "--days", "7").document["days"] == 7
    assert shell("safety", "set", "--days", "0").code == 2 and shell("safety", "set").code == 2
    assert shell("jobs", "run", "safety").code == 0
    (listed,) = shell("--json", "safety", "list").document
    key = shell("--json", "safety", "key").document["key"]
    (tmp_path / "key").write_text(key + "\n")
    again = Shell(tmp_path / "again", capsys)
    done = again("safety", "restore", listed["copy"], "--key-file", str(tmp_path / "key"))
    assert done.code == 0 and "again" in done.out
    assert again("--json", "contract", "list").document == shell("--json", "contract", "list").document
    assert again("safety", "restore", listed["copy"], "--key-file", str(tmp_path / "key")).code == 2
    elsewhere.rename(tmp_path / "unmounted")
    told = shell("jobs", "run", "safety")
    assert told.code == 1 and "mount the disk for safety copies" in told.out
