"""A web application over a running house: a real agent's backups, and a browser of its super-user in front of them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.settings import Home
from tests.support.processes import PASSWORD, Agent, House
from tests.webui.web_house import Browser, Clock
from webui import context
from webui.app import create_app


@dataclass(slots=True)
class Scene:
    """A backed-up folder, and a browser of the house's super-user."""

    house: House
    agent: Agent
    source: Path
    browser: Browser

    @property
    def at(self) -> str:
        """The machine's restore pages."""
        return f"/machines/{self.agent.machine}/restore"

    def text(self, path: str) -> str:
        """A page's HTML."""
        answer = self.browser.get(path, follow_redirects=True)
        assert answer.status_code == 200, answer.status
        return answer.get_data(as_text=True)

    def open(self) -> None:
        """Type a code."""
        self.browser.get(self.at)
        answer = self.browser.post(self.at, {"code": self.browser.code()})
        assert answer.status_code == 303 and answer.headers["Location"].endswith("/browse"), answer.get_data(
            as_text=True
        )

    def token(self, page: str, name: str) -> str:
        """How a page names an entry."""
        found = re.search(rf'(?:at=|value=")([0-9a-f]{{16}})[^<]*"[^>]*>(?:(?!</tr>).)*?{re.escape(name)}', page, re.S)
        assert found, f"{name} is not on the page"
        return found.group(1)


@contextmanager
def opened_scene(house: House, tmp_path: Path) -> Iterator[Scene]:
    """The house with one backup of two versions, and the web application over its home."""
    source = tmp_path / "source"
    (source / "ordonnances").mkdir(parents=True)
    (source / "ordonnances" / "dupont.txt").write_text("1")
    (source / "base.db").write_bytes(os.urandom(1 << 20))
    agent = house.agent(source)
    agent.backup()
    (source / "ordonnances" / "dupont.txt").write_text("2, corrigée")
    agent.backup()
    clock = Clock(time.time())
    app = create_app(Home.open(house.appliance.home), clock=clock)
    browser = Browser(app.test_client(), clock, house.admin.totp_secret)
    browser.get("/login")
    browser.post("/login", {"email": house.admin.email, "password": PASSWORD})
    browser.get("/login/code")
    assert browser.post("/login/code", {"code": browser.code()}).status_code == 303
    yield Scene(house, agent, source, browser)
    with app.app_context():
        context.appliance().openers.close()


def walk_to(scene: Scene, *names: str) -> str:
    """Click down to a folder; its page."""
    page = scene.text(f"{scene.at}/browse")
    for name in names:
        page = scene.text(f"{scene.at}/browse?at={scene.token(page, name)}")
    return page
