"""A web interface over a small real home: people log in through its pages, with password and code.

The home, database and application are the real ones; the clock is the test's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pyotp
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance.settings import Home, Settings, initialising
from tests.support import control_house
from tests.support.control_house import NOW, PASSWORD, House
from webui.app import create_app

_TOKEN = re.compile(r'name="csrf-token" content="([^"]+)"')


@dataclass(slots=True)
class Clock:
    """The time that the application is told; `tick` lets the next one-time code come."""

    at: float = NOW

    def __call__(self) -> float:
        return self.at

    def tick(self, seconds: float = 30.0) -> None:
        """Let time pass."""
        self.at += seconds


@dataclass(slots=True)
class Browser:
    """One person's cookie jar."""

    client: FlaskClient
    clock: Clock
    secret: str = ""
    token: str = ""

    def get(self, path: str, **options: object) -> TestResponse:
        """A page; remembers its CSRF token."""
        answer = self.client.get(path, **options)  # type: ignore[arg-type]
        found = _TOKEN.search(answer.get_data(as_text=True)) if answer.mimetype == "text/html" else None
        if found:
            self.token = found.group(1)
        return answer

    def post(self, path: str, data: dict[str, object] | None = None, **options: object) -> TestResponse:
        """A form, with the token of the page seen last."""
        return self.client.post(path, data={"csrf_token": self.token, **(data or {})}, **options)  # type: ignore[arg-type]

    def code(self) -> str:
        """A code that was not used yet: time goes on by one step."""
        self.clock.tick()
        return pyotp.TOTP(self.secret).at(int(self.clock.at))


@dataclass(slots=True)
class WebHouse:
    """The house of `control_house`, with the web interface in front of it."""

    house: House
    app: Flask
    home: Home
    clock: Clock = field(default_factory=Clock)

    def stranger(self) -> Browser:
        """Nobody in particular."""
        return Browser(self.app.test_client(), self.clock)

    def browser(self, who: str) -> Browser:
        """Somebody who logged in: super, admin, support or customer."""
        return self.logged_in(f"{who}@example.org", self.house.secrets[who])

    def logged_in(self, email: str, secret: str, password: str = PASSWORD) -> Browser:
        """Log in through the pages."""
        browser = Browser(self.app.test_client(), self.clock, secret)
        browser.get("/login")
        answer = browser.post("/login", {"email": email, "password": password})
        assert answer.status_code == 303, answer.get_data(as_text=True)
        browser.get("/login/code")
        answer = browser.post("/login/code", {"code": browser.code()})
        assert answer.status_code == 303, answer.get_data(as_text=True)
        browser.get("/")
        return browser


def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebHouse:
    """The house, its home on disk and the application."""
    root = tmp_path / "home"
    with initialising(root, Settings()) as home:
        house = control_house.build(home.root, monkeypatch)
    clock = Clock()
    app = create_app(Home.open(root), clock=clock)
    app.testing = False
    return WebHouse(house, app, home, clock)
