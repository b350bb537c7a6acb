"""`pilulier` in this process, on a home of its own: one call, one answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.control import machines
from appliance.control.database import Database
from appliance.settings import Home
from tests.support.control_house import keys
from transport.enrolment import decode_code

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line on stderr, after its prefix."""
        assert self.out == "" and self.err.startswith("pilulier: ") and self.err.count("\n") == 1, self
        assert "Traceback" not in self.err and "unforeseen" not in self.err, self
        return self.err.removeprefix("pilulier: ").rstrip()


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands on one home."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def password_file(self) -> str:
        path = self.root.parent / "password"
        path.write_text(PASSWORD + "\n")
        return str(path)

    def __call__(self, *words: str) -> Answer:
        code = cli.main(["--home", str(self.root), *words])
        out, err = self.capsys.readouterr()
        return Answer(code, out, err)

    def enrolled(self, contract: str, seed: int, name: str = "PC-1") -> machines.Machine:
        """A machine enrolled with a code that the command line printed."""
        token = decode_code(self("--json", "contract", "code", contract).document["enrol_code"]).token
        with Database.open(Home(self.root).control_db) as db:
            now = datetime.now(UTC).timestamp()
            return machines.enrol(db, token, name=name, agent_version="1", platform="x", now=now, **keys(seed))


def initialised(root: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell on a new home on 127.0.0.1 with ports to be chosen."""
    shell = Shell(root, capsys)
    made = shell("init", "--admin", "Boss@Example.org", "--password-file", shell.password_file, "--json",
                 "--listen", "tcp://127.0.0.1:0", "--web", "127.0.0.1:0")  # fmt: skip
    assert made.code == 0, made
    return shell
