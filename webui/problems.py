"""Errors of the REST API as RFC 9457 problem documents: a code for programs, a sentence for people.

English, as everything of the API. `type` is a URN of the code, which stays when the sentence is worded better. Knows
no route.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Final

from flask import Response

from appliance.errors import (
    ConflictError,
    KeyModeError,
    MachineQuotaError,
    NotFoundError,
    PausedError,
    RemoteRefusedError,
    ThrottledError,
)
from transport.errors import PilulierError, RefusedError, UsageError

MEDIA_TYPE: Final = "application/problem+json"
URN: Final = "urn:pilulier:problem:"
_CLASHES: Final = (ConflictError, PausedError, MachineQuotaError, RemoteRefusedError, KeyModeError)


def problem(status: int, code: str, detail: str, **headers: str) -> Response:
    """The answer that says what went wrong."""
    document = {
        "type": URN + code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    answer = Response(json.dumps(document), status, content_type=MEDIA_TYPE)
    for name, value in headers.items():
        answer.headers[name.replace("_", "-")] = value
    return answer


def status_of(error: PilulierError) -> int:
    """The status that an error of the control rooms amounts to; 500 for what is nobody's fault outside."""
    match error:
        case NotFoundError():
            return 404
        case ThrottledError():
            return 429
        case _ if isinstance(error, _CLASHES):
            return 409
        case RefusedError():
            return 403
        case UsageError():
            return 422
    return 500


def of_error(error: PilulierError) -> Response:
    """A control error as a problem; not for those with status 500, whose sentences are for the log."""
    if isinstance(error, NotFoundError):
        # Its own sentence is for who types commands.
        return problem(404, error.code, "nothing here has this id, or this token does not see it")
    if isinstance(error, PausedError):
        return problem(409, error.code, "this contract is paused: resume it first")
    if isinstance(error, ThrottledError):
        wait = {"Retry_After": str(math.ceil(error.wait_s))} if error.wait_s > 0 else {}
        return problem(429, error.code, str(error), **wait)
    return problem(status_of(error), error.code, str(error))


_SAID: Final = {
    400: ("bad-request", "the request cannot be read"),
    404: ("not-found", "there is nothing at this address: see /api/v1/openapi.json"),
    405: ("method-not-allowed", "this address does not take this method: see /api/v1/openapi.json"),
    408: ("timeout", "the request took too long to arrive"),
    411: ("length-required", "say how long the body is"),
    413: ("too-large", "the body is larger than the API takes"),
    415: ("media-type", "give the body as application/json"),
}


def of_status(status: int) -> Response:
    """A problem for what the framework itself refuses."""
    code, detail = _SAID.get(status, ("internal" if status >= 500 else "refused", HTTPStatus(status).phrase))
    return problem(status, code, detail)


def unforeseen(reference: str) -> Response:
    """A slip of ours: no word of what it was, but the number under which the log has it."""
    return problem(500, "internal", f"something unforeseen went wrong, the log has it as request {reference}")
