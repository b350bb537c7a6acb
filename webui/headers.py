"""The headers of every answer: what a browser may load, and from where nothing may frame or sniff it.

Rules: no inline script, no inline style, nothing from another host; pages are never kept by a cache, static files are.
Pictures may be `data:`, since Bootstrap's style sheet draws its ticks and arrows so.
Knows no page.
"""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, request

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        # Pages refuse to be framed; the preview of a mail does not.
        "frame-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SANDBOXED: Final = frozenset({"settings.mail"})
"""What is shown as it would look elsewhere: in a frame of ours, where it can load and do nothing."""
SANDBOX_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
ALWAYS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STRICT_TRANSPORT: Final = "max-age=31536000; includeSubDomains"
STATIC_ENDPOINTS: Final = frozenset({"static", "bootstrap.static", "theme.stylesheet", "theme.logo"})
STATIC_AGE_S: Final = 86400


def install(app: Flask, *, secure: bool) -> None:
    """Put the headers on every answer of the application; HSTS where it is reached by TLS."""

    def dress(response: Response) -> Response:
        for name, value in ALWAYS.items():
            response.headers[name] = value
        if request.endpoint in SANDBOXED:
            response.headers["Content-Security-Policy"] = SANDBOX_POLICY
            response.headers["X-Frame-Options"] = "SAMEORIGIN"
        if secure:
            response.headers["Strict-Transport-Security"] = STRICT_TRANSPORT
        if request.endpoint in STATIC_ENDPOINTS and response.status_code in (200, 304):
            response.headers["Cache-Control"] = f"public, max-age={STATIC_AGE_S}"
        else:
            response.headers["Cache-Control"] = "no-store"
        return response

    app.after_request(dress)
