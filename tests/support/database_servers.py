"""Real database servers of a test's own: in a temporary folder, as a user without rights, on a socket there.

Owns starting (bounded), asking, and ending by the process that was started here. Neither listens on a network. Where
the programs are not installed, the test that asks for one is skipped with the package's name.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

READY_S = 60.0
PASSWORD = 'pa:ss "wo\\rd'
"""With all that a password file and an option file must quote."""


def _found(name: str, package: str, *folders: str) -> str:
    for folder in (None, *folders):
        path = shutil.which(name, path=folder)
        if path is not None:
            return path
    pytest.skip(f"{name} is not installed: apt-get install {package}")


def _user(*names: str) -> str:
    """The first of these users that the system has; one's own where this process is not root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in names if name in known)


def _as(user: str) -> dict[str, Any]:
    if not user or os.geteuid() != 0:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def run(*argv: str, user: str = "", stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program to its end as this user; what it said. AssertionError with its words where it failed."""
    as_user = _as(user)
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=120, cwd="/", env={**os.environ, **(env or {})},
        check=False, **as_user,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv}: {done.stderr[-2000:]}"
    return str(done.stdout)


@contextlib.contextmanager
def _folder(user: str) -> Iterator[Path]:
    """A short path, since a socket's may have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="pilulier-db-", dir="/tmp"))
    try:
        shutil.chown(path, user)
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _started(argv: list[str], user: str, log: Path) -> subprocess.Popen[bytes]:
    as_user = _as(user)
    with open(log, "wb") as file:
        return subprocess.Popen(argv, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd="/", **as_user)


def _wait(process: subprocess.Popen[bytes], ready: list[str], log: Path) -> None:
    until = time.monotonic() + READY_S
    while subprocess.run(ready, capture_output=True, timeout=30, check=False).returncode:
        # Waiting for the process paces the question, and tells an early end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        if process.returncode is not None or time.monotonic() > until:
            raise AssertionError(f"the server did not become ready: {log.read_text(errors='replace')[-3000:]}")


def _ended(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Postgres:
    """A running PostgreSQL; its superuser has a password and needs it."""

    def __init__(self, folder: Path, bin_folder: str, user: str) -> None:
        self.folder = folder
        self.user = user
        self._bin = bin_folder
        self.password_file = folder / "password"
        self.log = folder / "log"

    def program(self, name: str) -> str:
        return f"{self._bin}/{name}"

    @property
    def options(self) -> list[str]:
        """How the agent is told about it."""
        return ["--host", str(self.folder), "--user", "postgres", "--password-file", str(self.password_file)]

    def sql(self, database: str, text: str) -> str:
        """Run SQL, ended by the first error; unaligned rows."""
        return run(
            *(self.program("psql"), "-X", "-q", "-At", "-w", "-v", "ON_ERROR_STOP=1"),
            *("-h", str(self.folder), "-U", "postgres", "-d", database),
            stdin=text,
            env={"PGPASSWORD": PASSWORD},
        ).strip()

    def check(self, database: str) -> None:
        """PostgreSQL's own check of tables and indexes."""
        self.sql(database, "CREATE EXTENSION IF NOT EXISTS amcheck")
        run(
            *(self.program("pg_amcheck"), "-w", "-h", str(self.folder), "-U", "postgres", "--heapallindexed", database),
            env={"PGPASSWORD": PASSWORD},
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of its own."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    binary = _found("initdb", "postgresql", *folders)
    user = _user("postgres", "nobody")
    with _folder(user) as folder:
        server = Postgres(folder, os.path.dirname(os.path.realpath(binary)), user)
        server.password_file.write_text(PASSWORD + "\n")
        shutil.chown(server.password_file, user)
        data = str(folder / "data")
        run(
            *(binary, "-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={server.password_file}"),
            *("--no-sync", "--encoding=UTF8", "--locale=C"),
            user=user,
        )
        server.password_file.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(server.password_file, "root")
        argv = [
            *(server.program("postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses="),
            *("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "dynamic_shared_memory_type=mmap"),
        ]
        process = _started(argv, user, server.log)
        try:
            _wait(process, [server.program("pg_isready"), "-q", "-h", str(folder)], server.log)
            yield server
        finally:
            _ended(process, signal.SIGQUIT)  # of no use to anybody afterwards


class Mariadb:
    """A running MariaDB with a user `app` that has a password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "socket"
        self.password_file = folder / "password"
        self.log = folder / "log"

    @property
    def options(self) -> list[str]:
        """How the agent is told about it."""
        return ["--socket", str(self.socket), "--user", "app", "--password-file", str(self.password_file)]

    def sql(self, database: str, text: str) -> str:
        """Run SQL as root, ended by the first error; rows with tabs."""
        argv = ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "--skip-column-names"]
        return run(*argv, *([database] if database else []), stdin=text).strip()

    def check(self, database: str) -> str:
        """MariaDB's own check of all tables."""
        argv = ["mariadb-check", "--no-defaults", f"--socket={self.socket}", "--user=root", "--check", "--extended"]
        return run(*argv, database)


@contextlib.contextmanager
def mariadb() -> Iterator[Mariadb]:
    """A MariaDB of its own."""
    install = _found("mariadb-install-db", "mariadb-server-core")
    binary = _found("mariadbd", "mariadb-server-core", "/usr/sbin")
    _found("mariadb-dump", "mariadb-client")
    user = _user("nobody")
    with _folder(user) as folder:
        server = Mariadb(folder)
        data = f"--datadir={folder / 'data'}"
        run(install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db", user=user)
        argv = [
            *(binary, "--no-defaults", data, f"--socket={server.socket}", "--skip-networking", "--skip-log-bin"),
            *(f"--pid-file={folder / 'pid'}", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"),
            "--event-scheduler=OFF",
        ]
        process = _started(argv, user, server.log)
        try:
            ready = ["mariadb-admin", "--no-defaults", f"--socket={server.socket}", "--user=root", "ping"]
            _wait(process, ready, server.log)
            quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
            server.sql("", f"CREATE USER app@localhost IDENTIFIED BY '{quoted}'; GRANT ALL ON *.* TO app@localhost")
            server.password_file.write_text(PASSWORD + "\n")
            server.password_file.chmod(0o600)
            yield server
        finally:
            _ended(process, signal.SIGKILL)  # of no use to anybody afterwards
