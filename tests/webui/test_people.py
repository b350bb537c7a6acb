"""What sessions are called."""

from __future__ import annotations

import pytest

from webui.people import browser_name, is_telephone

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name", "telephone"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/131.0 Safari/537.36", "Chrome · Windows", False),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/131.0 Safari/537.36 Edg/131.0",
            "Edge · Windows",
            False,
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox · Linux", False),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Mobile Safari/604.1",
            "Safari · iPhone",
            True,
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {WEBKIT} Chrome/131.0 Mobile Safari/537.36",
            "Chrome · Android",
            True,
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1",
            "Safari · macOS",
            False,
        ),
        ("curl/8.5", "", False),
        ("", "", False),
    ],
)
def test_a_session_is_called_as_its_person_would(user_agent: str, name: str, telephone: bool) -> None:
    assert (browser_name(user_agent), is_telephone(user_agent)) == (name, telephone)
