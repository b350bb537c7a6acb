"""The web house with tokens of the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.webui.api.programs import ApiHouse, build


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiHouse:
    """A fresh house of two spaces, and a program that may do everything in the near one."""
    return build(tmp_path, monkeypatch)
