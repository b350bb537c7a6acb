"""A real Chromium, Debian's, driven by Playwright, and the web interface of a home served to it on 127.0.0.1.

Owns the browser's flags, logging in through the pages, and screenshots. Where no browser can be had, tests skip loudly.
Run as a module it takes pictures of pages, for people who look at them:

    python -m tests.support.chromium --home DIR --email E --secret BASE32 --password P --out FOLDER [--dark] PATH…
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.processes import environment

EXECUTABLE: Final = Path("/usr/bin/chromium")
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDTHS: Final = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
_READY_S: Final = 60.0


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips the test where there is none."""
    if not EXECUTABLE.exists():
        pytest.skip(
            f"NO BROWSER: {EXECUTABLE} is missing, what it would have shown was NOT tested (apt-get install chromium)"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(EXECUTABLE), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(home: Path) -> Iterator[str]:
    """The web interface of a home, by gunicorn in a process of its own; its address."""
    port = _free_port()
    command = [sys.executable, "-m", "webui.serving", "--home", str(home), "--bind", f"127.0.0.1:{port}"]
    # No pipe for stdin: the part would take its end for the end of its service.
    process = subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + _READY_S
        while True:
            try:
                with urllib.request.urlopen(f"{address}/healthz", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    process.kill()
                    raise AssertionError(f"the web interface did not come up: {process.communicate()[1]}") from None
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_in(page: Page, address: str, email: str, password: str, secret: str) -> None:
    """Through the pages, as a person does; waits for the next code where this one was used already."""
    page.goto(f"{address}/login")
    page.get_by_label(re.compile("e-mail", re.I)).fill(email)
    page.locator("input[type=password]").fill(password)
    page.locator("form button.btn-primary").click()
    for _ in range(4):
        page.wait_for_url("**/login/code")
        page.locator("input[name=code]").fill(pyotp.TOTP(secret).now())
        page.locator("form button.btn-primary").click()
        page.wait_for_load_state()
        if "/login/code" not in page.url:
            return
        # The code of this half minute was used by a login before: the one of the next is accepted early.
        page.locator("input[name=code]").fill(pyotp.TOTP(secret).at(int(time.time()) + 30))
        page.locator("form button.btn-primary").click()
        page.wait_for_load_state()
        if "/login/code" not in page.url:
            return
        time.sleep(10)
    raise AssertionError("no code was accepted")


def new_page(browser: Browser, width: str, *, dark: bool = False, locale: str = "fr-FR") -> tuple[BrowserContext, Page]:
    """A window of one of WIDTHS."""
    across, down = WIDTHS[width]
    context = browser.new_context(
        viewport={"width": across, "height": down}, locale=locale, color_scheme="dark" if dark else "light"
    )
    return context, context.new_page()


def _main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("home", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("email", "secret", "password"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", choices=WIDTHS, action="append")
    parser.add_argument("path", nargs="+")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with served(chosen.home) as address, chromium() as browser:
        context, page = new_page(browser, "desktop", dark=chosen.dark)
        page.on("console", lambda message: print("console:", message.text) if message.type == "error" else None)
        log_in(page, address, chosen.email, chosen.password, chosen.secret)
        for width in chosen.width or WIDTHS:
            page.set_viewport_size({"width": WIDTHS[width][0], "height": WIDTHS[width][1]})
            for path in chosen.path:
                page.goto(address + path)
                name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "home"
                target = chosen.out / f"{name}-{width}{'-dark' if chosen.dark else ''}.png"
                page.screenshot(path=target, full_page=True)
                print(target, f"{page.evaluate('document.documentElement.scrollWidth')} px wide")
        context.close()


if __name__ == "__main__":
    _main()
