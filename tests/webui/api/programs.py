"""A program of a software vendor, as the API sees it: a token and requests, in process. Knows no resource."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance.control import api_tokens, audit
from appliance.control.api_tokens import NewApiToken, Permission
from appliance.control.audit import Act
from appliance.control.scope import EVERYTHING
from tests.webui import web_house
from tests.webui.web_house import WebHouse

ALL = tuple(Permission)


@dataclass(slots=True)
class Program:
    """Asks with a token, and with nothing else."""

    client: FlaskClient
    token: NewApiToken

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """One request; `Idempotency_Key` and the like become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Authorization", f"Bearer {self.token.text}")
        options: dict[str, Any] = {} if body is None else {"json": body}
        return self.client.open(f"/api/v1{path}", method=method, headers=named, **options)

    def get(self, path: str, status: int = 200) -> Any:
        """The JSON of a GET."""
        answer = self.ask("GET", path)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.json

    def do(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """The JSON of a write, None where there is none."""
        answer = self.ask(method, path, body, **headers)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.json if answer.get_data() else None

    def problem(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and code of a refusal, once its form was looked at."""
        answer = self.ask(method, path, body, **headers)
        assert answer.content_type == "application/problem+json", answer.get_data(as_text=True)
        said = answer.json
        assert said is not None and said["status"] == answer.status_code
        assert said["type"] == f"urn:pilulier:problem:{said['code']}" and said["title"] and said["detail"]
        assert "pilulier " not in said["detail"], "a sentence for who types commands"
        return answer.status_code, said["code"]


@dataclass(slots=True)
class ApiHouse:
    """The web house, and a program that may do everything in its near space."""

    web: WebHouse
    program: Program

    def another(self, *permissions: Permission, space_id: str = "", name: str = "another", days: int = 30) -> Program:
        """A program with a token of its own."""
        return Program(
            self.web.app.test_client(), make(self.web, permissions, space_id or self.near, name=name, days=days)
        )

    @property
    def near(self) -> str:
        """The space of the program."""
        return self.web.house.ours.space_id

    @property
    def machine(self) -> str:
        """A machine that it sees."""
        return self.web.house.machine.hex

    def acts(self, kind: str) -> list[Act]:
        """Lines of the audit log of a kind, newest first."""
        return audit.search(self.web.house.db, EVERYTHING, kind=kind).acts


def make(
    web: WebHouse, permissions: Iterable[Permission], space_id: str, *, name: str = "caisse", days: int = 30
) -> NewApiToken:
    """A token of a space."""
    return api_tokens.create(
        web.house.db,
        space_id=space_id,
        name=name,
        permissions=permissions,
        days=days,
        by="admin@example.org",
        now=web.clock.at,
    )


def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiHouse:
    """The house."""
    web = web_house.build(tmp_path, monkeypatch)
    return ApiHouse(web, Program(web.app.test_client(), make(web, ALL, web.house.ours.space_id)))
