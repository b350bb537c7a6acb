"""The web interface as a part of the service: its command line, its address, what an operator should know about TLS.

Starts it by name, in a process of its own: `appliance` imports nothing of `webui`, and a page that trips cannot take a
backup down. Rule: without TLS, and without a proxy that ends it, the
interface on an address that others reach is served all the same and said loudly, since only the operator knows what
lies between.
"""

from __future__ import annotations

import sys
from typing import Final

from appliance.endpoints import Endpoint
from appliance.parts import Part
from appliance.settings import Home, Settings

NAME: Final = "web"


def part(home: Home, endpoint: Endpoint, settings: Settings) -> Part:
    """The process to run."""
    words = ["--home", str(home.root), "--bind", endpoint.host_port]
    if settings.web_certificate:
        words += ["--certificate", settings.web_certificate, "--key", settings.web_key]
    if settings.behind_proxy:
        words.append("--behind-proxy")
    # -P: what lies in the working directory is not ours to import.
    return Part(NAME, (sys.executable, "-P", "-m", "webui.serving", *words))


def address(endpoint: Endpoint, settings: Settings) -> str:
    """Where a browser on this machine finds it."""
    return f"{'https' if settings.web_certificate else 'http'}://{endpoint.host_port}"


def notices(endpoint: Endpoint, settings: Settings) -> tuple[str, ...]:
    """What an operator should know."""
    if settings.web_certificate or settings.behind_proxy or endpoint.host.startswith("127.") or endpoint.host == "::1":
        return ()
    return (
        f"the web interface listens on {endpoint.host_port} without TLS: passwords cross the network in clear. Give "
        "--web-certificate and --web-key, or --behind-proxy where a proxy ends TLS",
    )
