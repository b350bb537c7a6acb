"""Behind a proxy on the same machine, which ends TLS: whose address counts, and that the scheme is https.

One hop is believed, the last one: a client may write earlier entries of X-Forwarded-For itself.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix


class BehindProxy:
    """The application as a WSGI callable that believes one proxy."""

    def __init__(self, app: Flask) -> None:
        self._inner = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=0, x_port=0, x_prefix=0)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """WSGI (PEP 3333)."""
        return self._inner(environ, start_response)
