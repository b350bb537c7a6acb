"""A number for every request: in the answer's `X-Request-Id`, in each log line that the request causes, on error pages.

Ours always: what a client sends under that name is not believed, since it would stand in logs.
"""

from __future__ import annotations

import logging
import secrets
from typing import Final

from flask import Flask, Response, g, has_request_context

HEADER: Final = "X-Request-Id"


def current() -> str:
    """The number of this request; empty outside of one."""
    if not has_request_context():
        return ""
    if "request_id" not in g:
        g.request_id = secrets.token_hex(6)
    found: str = g.request_id
    return found


class Numbered(logging.Filter):
    """Puts the request's number before what is logged in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the line through."""
        number = current()
        if number and not getattr(record, "request_id", ""):
            record.request_id = number
            record.msg = f"[{number}] {record.msg}"
        return True


def install(app: Flask) -> None:
    """Number the requests of an application."""

    def name(response: Response) -> Response:
        response.headers[HEADER] = current()
        return response

    app.after_request(name)
    for logger in ("pilulier.web", "pilulier.opening", app.logger.name):
        found = logging.getLogger(logger)
        if not any(isinstance(present, Numbered) for present in found.filters):
            found.addFilter(Numbered())
