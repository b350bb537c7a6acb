"""The web house, for every test of the web interface."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.webui.web_house import WebHouse, build


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebHouse:
    """A fresh house with two spaces, three contracts, a machine each, and somebody of every role."""
    return build(tmp_path, monkeypatch)
