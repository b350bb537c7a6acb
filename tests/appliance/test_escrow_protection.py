"""The operator's passphrase on escrow keys: closed, handed to the service, lost with it, crashed in between."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import escrow, escrow_holder, escrow_protection
from appliance.errors import ConflictError, EscrowLockedError
from appliance.escrow import KeyState
from appliance.escrow_holder import Holder
from appliance.settings import Home, Settings, initialising
from transport.errors import KeyFileError, SealError
from transport.escrow import EscrowKey, unwrap_escrow, unwrap_private, wrap_escrow
from transport.names import RepositoryId, VaultId

WORDS = "cinq mots pour la clé"
WRONG = "cinq mots pour une clé"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new home, with a path longer than a UNIX address may be, and an escrow key."""
    with initialising(tmp_path / ("long" * 30) / "home", Settings()) as made:
        escrow.ensure(made)
        return made


@pytest.fixture
def holder(home: Home) -> Iterator[Holder]:
    """A service's part that holds keys."""
    made = Holder(home)
    made.start()
    yield made
    made.close()


def states(home: Home) -> list[KeyState]:
    """Of all keys, the present one first."""
    return [info.state for info in escrow.listed(home)]


def test_an_escrow_key_opens_with_its_passphrase_and_under_its_name_alone() -> None:
    key, other = EscrowKey.generate(), EscrowKey.generate()
    closed = wrap_escrow(WORDS, key)
    assert unwrap_escrow(WORDS, closed, key.public.key_id) == key and key.seed not in closed
    with pytest.raises(SealError, match="does not open"):
        unwrap_escrow(WRONG, closed, key.public.key_id)
    with pytest.raises(SealError):
        unwrap_escrow(WORDS, closed, other.public.key_id)
    for at in (0, 4, 12, 27, 40, len(closed) - 1):
        altered = closed[:at] + bytes([closed[at] ^ 1]) + closed[at + 1 :]
        with pytest.raises(SealError):
            unwrap_escrow(WORDS, altered, key.public.key_id)
        with pytest.raises(SealError):
            unwrap_escrow(WORDS, closed[:at], key.public.key_id)
    with pytest.raises(SealError, match="does not know it"):
        unwrap_private(WORDS, closed, RepositoryId(bytes(16)), VaultId(bytes(16)))
    with pytest.raises(SealError, match="characters"):
        wrap_escrow("court", key)


def test_protected_means_that_nothing_clear_is_left_and_nobody_opens(home: Home) -> None:
    [info] = escrow.listed(home)
    clear = escrow.private(home, info.key_id)
    assert [key.public for key in escrow_protection.protect(home, WORDS)] == [clear.public]
    assert states(home) == [KeyState.LOCKED] and escrow.is_locked(home, info.key_id)
    for path in home.keys.iterdir():
        content = path.read_bytes()
        assert clear.seed not in content and clear.seed.hex().encode() not in content, path
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(EscrowLockedError, match="escrow unlock"):
        escrow.private(home, info.key_id)
    assert escrow.ensure(home) == clear.public, "agents are offered it as before"
    with pytest.raises(EscrowLockedError, match="no service"):
        escrow_protection.unlock(home, WORDS)
    with pytest.raises(SealError, match="does not open"):
        escrow_protection.unprotect(home, WRONG)
    escrow_protection.unprotect(home, WORDS)
    assert states(home) == [KeyState.CLEAR] and escrow.private(home, info.key_id) == clear
    with pytest.raises(ConflictError, match="no escrow key of this home is protected"):
        escrow_protection.unprotect(home, WORDS)


def test_a_holder_that_does_not_answer_is_not_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds is not known: nobody may say "locked", or take its place."""
    monkeypatch.setattr(escrow_holder, "_PATIENCE_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        with escrow_holder._address(home) as address:
            silent.bind(address)
        silent.listen(4)
        with pytest.raises(escrow_holder.SilentHolderError, match="does not answer"):
            escrow_holder.drop(home)
        with pytest.raises(escrow_holder.SilentHolderError):
            Holder(home).start()
        assert home.escrow_socket.exists()
        assert escrow_holder.take(home, bytes(16)) is None and escrow_holder.held(home) == frozenset()
    assert not escrow_holder.drop(home), "a socket that nobody serves is no service"


def test_the_service_holds_an_unlocked_key_until_it_ends(home: Home, holder: Holder) -> None:
    [info] = escrow.listed(home)
    clear = escrow.private(home, info.key_id)
    escrow_protection.protect(home, WORDS)
    assert states(home) == [KeyState.LOCKED]
    with pytest.raises(SealError, match="does not open"):
        escrow_protection.unlock(home, WRONG)
    assert states(home) == [KeyState.LOCKED]
    escrow_protection.unlock(home, WORDS)
    assert states(home) == [KeyState.UNLOCKED] and escrow.private(home, info.key_id) == clear
    assert escrow_holder.take(home, bytes(16)) is None
    assert home.escrow_socket.stat().st_mode & 0o777 == 0o600
    assert escrow_holder.drop(home) and states(home) == [KeyState.LOCKED]
    escrow_protection.unlock(home, WORDS)
    holder.close()
    assert states(home) == [KeyState.LOCKED] and not home.escrow_socket.exists()
    again = Holder(home)
    again.start()
    try:
        assert states(home) == [KeyState.LOCKED], "a restart forgets"
    finally:
        again.close()


def test_rubbish_on_the_socket_ends_one_line_only(home: Home, holder: Holder) -> None:
    [info] = escrow.listed(home)
    escrow_protection.protect(home, WORDS)
    folder = os.open(home.root, os.O_RDONLY)
    try:
        for rubbish in (b"", b"\0", b"\xff" * 4, (5).to_bytes(4, "big") + b"hello", (1 << 20).to_bytes(4, "big")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(10)
                line.connect(f"/proc/self/fd/{folder}/{home.escrow_socket.name}")
                line.sendall(rubbish)
                line.shutdown(socket.SHUT_WR)
                assert line.recv(100) == b""
    finally:
        os.close(folder)
    escrow_protection.unlock(home, WORDS)
    assert escrow.private(home, info.key_id).public.key_id == info.key_id


def test_a_second_holder_leaves_the_first_ones_socket_alone(home: Home, holder: Holder) -> None:
    escrow_protection.protect(home, WORDS)
    escrow_protection.unlock(home, WORDS)
    second = Holder(home)
    second.start()
    second.close()
    assert states(home) == [KeyState.UNLOCKED]


def test_a_socket_left_by_a_killed_service_is_replaced(home: Home) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(home.root, os.O_RDONLY)
    left.bind(f"/proc/self/fd/{folder}/{home.escrow_socket.name}")
    os.close(folder)
    left.close()
    escrow_protection.protect(home, WORDS)
    assert states(home) == [KeyState.LOCKED]
    made = Holder(home)
    made.start()
    try:
        threads = [threading.Thread(target=escrow_protection.unlock, args=(home, WORDS)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert states(home) == [KeyState.UNLOCKED]
    finally:
        made.close()


def test_rotation_keeps_new_keys_under_the_same_passphrase(home: Home, holder: Holder) -> None:
    first = escrow.ensure(home)
    escrow_protection.protect(home, WORDS)
    assert escrow_protection.is_protected(home)
    with pytest.raises(SealError, match="does not open"):
        escrow_protection.rotate(home, WRONG)
    assert escrow.ensure(home) == first and states(home) == [KeyState.LOCKED]
    second, key = escrow_protection.rotate(home, WORDS)
    assert second != first and key.public == second and escrow.ensure(home) == second
    assert states(home) == [KeyState.LOCKED, KeyState.LOCKED]
    escrow_protection.unlock(home, WORDS)
    assert states(home) == [KeyState.UNLOCKED, KeyState.UNLOCKED]
    assert escrow.forget(home, frozenset()) == [first.key_id]
    assert [path.name for path in home.keys.glob("escrow-*")] == [f"escrow-{second.key_id.hex()}.wrapped"]


def test_one_passphrase_for_all_keys(home: Home) -> None:
    escrow_protection.protect(home, WORDS)
    escrow.rotate(home)  # as an older program would, in clear
    assert states(home) == [KeyState.CLEAR, KeyState.LOCKED]
    with pytest.raises(SealError, match="does not open"):
        escrow_protection.protect(home, WRONG)
    assert states(home) == [KeyState.CLEAR, KeyState.LOCKED]
    escrow_protection.protect(home, WORDS)
    assert states(home) == [KeyState.LOCKED, KeyState.LOCKED]


def test_nothing_to_protect_is_one_sentence(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [info] = escrow.listed(home)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    escrow.private_path(home, info.key_id).rename(credentials / escrow.CREDENTIAL)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert states(home) == [KeyState.CREDENTIAL]
    with pytest.raises(ConflictError, match="credential of systemd"):
        escrow_protection.protect(home, WORDS)


class PowerCut(BaseException):
    """Nothing after it runs."""


@pytest.mark.parametrize("doing", ["protect", "unprotect", "rotate"])
def test_a_crash_at_any_step_loses_no_key_and_the_same_command_ends_it(
    home: Home, doing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cost, value in (("MEMORY_KIB", 64), ("PASSES", 1), ("LANES", 1)):
        monkeypatch.setattr(f"transport.escrow.{cost}", value)
    clear = escrow.private(home, escrow.ensure(home).key_id)
    files = {path.name: path.read_bytes() for path in home.keys.glob("escrow*")}
    if doing != "protect":
        escrow_protection.protect(home, WORDS)
        files = {path.name: path.read_bytes() for path in home.keys.glob("escrow*")}
    act = {
        "protect": escrow_protection.protect, "unprotect": escrow_protection.unprotect,
        "rotate": escrow_protection.rotate,
    }[doing]  # fmt: skip
    steps = {name: getattr(os, name) for name in ("replace", "fsync", "unlink", "open")}
    crashed = 0
    for last in range(1, 200):
        for path in home.keys.glob("escrow*"):
            path.unlink()
        for name, content in files.items():
            (home.keys / name).touch(mode=0o600)
            (home.keys / name).write_bytes(content)
        left = last

        def counted(name: str, *arguments: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left <= 0:
                raise PowerCut
            return steps[name](*arguments, **named)

        with monkeypatch.context() as patch:
            for name in steps:
                patch.setattr(os, name, lambda *a, _name=name, **n: counted(_name, *a, **n))
            try:
                act(home, WORDS)
            except PowerCut:
                crashed += 1
                ended = False
            else:
                ended = True
        present = escrow.ensure(home).key_id
        for info in escrow.listed(home):
            opened = (
                escrow.private(home, info.key_id)
                if info.private_there and escrow.private_path(home, info.key_id).exists()
                else unwrap_escrow(WORDS, escrow.wrapped_path(home, info.key_id).read_bytes(), info.key_id)
            )
            assert opened.public.key_id == info.key_id and (info.key_id != present or info.present)
            assert doing == "rotate" or opened == clear
        try:
            act(home, WORDS)
        except ConflictError:
            assert doing == "unprotect", "it was done to its end"
        rests = [path.name for path in home.keys.iterdir() if path.suffix in (".aside", ".key")]
        wanted = {"protect": 0, "unprotect": 1, "rotate": 0}[doing]
        assert sum(name.startswith("escrow-") for name in rests) == wanted, (last, rests)
        if ended:
            break
    assert crashed >= 4 and ended


def test_a_damaged_envelope_is_named(home: Home) -> None:
    [info] = escrow.listed(home)
    escrow_protection.protect(home, WORDS)
    escrow.wrapped_path(home, info.key_id).write_bytes(b"nothing")
    with pytest.raises(SealError):
        escrow_protection.unprotect(home, WORDS)
    escrow.wrapped_path(home, info.key_id).chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by others"):
        escrow_protection.unprotect(home, WORDS)
