"""What an operation of the API is, and the one way from a request to its function and back.

Rules: the types that decode a request are those that the OpenAPI document is made of; a parameter or field that is not
known is refused; every write is one transaction, with its idempotency key where one is given; what is answered leaves
as JSON by type. Knows no resource.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from flask import Blueprint, Response, current_app, g, request

from appliance.control import api_answers
from appliance.control.api_answers import KEY_LIMIT, Asking, KeptAnswer
from appliance.control.api_tokens import Permission
from webui import context, problems
from webui.api.limits import Allowance, Limiter
from webui.gate import API, needs

blueprint = Blueprint("api", __name__, url_prefix=API)
JSON: Final = "application/json"
KEY: Final = "Idempotency-Key"
BODY_LIMIT: Final = 256 * 1024
_LIMITER: Final = "pilulier-api-limiter"
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address. Without `answer` nothing is answered; `streams` are media types of raw bytes."""

    name: str
    method: str
    path: str
    summary: str
    detail: str
    group: str
    needs: Permission | None
    query: type[msgspec.Struct]
    body: type[msgspec.Struct] | None
    answer: Any
    status: int
    streams: tuple[str, ...]
    apart: bool
    """Not one transaction, and takes no idempotency key: it asks other processes, or reads behind a POST."""
    secret: bool
    """Its answer holds a secret, which is kept nowhere."""


OPERATIONS: Final[list[Operation]] = []
"""All, in the order of their modules: what the OpenAPI document is made of."""


def operation(
    method: str,
    path: str,
    summary: str,
    *,
    group: str,
    needs_permission: Permission | None,
    query: type[msgspec.Struct] = Nothing,
    body: type[msgspec.Struct] | None = None,
    answer: Any = None,
    status: int = 200,
    streams: tuple[str, ...] = (),
    apart: bool = False,
    secret: bool = False,
) -> Callable[[_Function], _Function]:
    """Make a function an operation: it is given ids of the address, `query` and `body` by name, decoded."""

    def register(function: _Function) -> _Function:
        known = Operation(
            name=function.__name__,
            method=method,
            path=path,
            summary=summary,
            detail=" ".join((function.__doc__ or "").split()),
            group=group,
            needs=needs_permission,
            query=query,
            body=body,
            answer=answer,
            status=status,
            streams=streams,
            apart=apart,
            secret=secret,
        )
        OPERATIONS.append(known)

        @functools.wraps(function)
        def view(**ids: Any) -> Response:
            return _run(known, function, ids)

        needs(needs_permission)(view)
        blueprint.add_url_rule(path, known.name, view, methods=[method])
        return function

    return register


class _Refused(Exception):
    """The request cannot be read; `answer` says why."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


def _query(known: Operation) -> msgspec.Struct:
    given: dict[str, str] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise _Refused(problems.problem(400, "query", f"the parameter {name[:60]!r} is given more than once"))
        given[name] = values[0]
    try:
        return msgspec.convert(given, known.query, strict=False)
    except msgspec.ValidationError as error:
        raise _Refused(problems.problem(400, "query", f"the parameters do not fit: {error}")) from None


def _body(wanted: type[msgspec.Struct]) -> msgspec.Struct:
    if request.mimetype != JSON:
        raise _Refused(problems.of_status(415))
    # Flask's limit is for logos; nothing here is near it.
    if (request.content_length or 0) > BODY_LIMIT:
        raise _Refused(problems.of_status(413))
    try:
        return msgspec.json.decode(request.get_data(), type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _Refused(problems.problem(400, "body", f"the body does not fit: {error}")) from None


def _run(known: Operation, function: Callable[..., Any], ids: dict[str, Any]) -> Response:
    try:
        arguments = dict(ids)
        query = _query(known)
        if known.query is not Nothing:
            arguments["query"] = query
        if known.body is not None:
            arguments["body"] = _body(known.body)
        if known.method == "GET" or known.apart:
            return _answered(known, function(**arguments))
        return _written(known, function, arguments, _key())
    except _Refused as refused:
        return refused.answer


def _key() -> str | None:
    key = request.headers.get(KEY)
    if key is not None and not (0 < len(key) <= KEY_LIMIT and key.isascii() and key.isprintable()):
        raise _Refused(
            problems.problem(400, "idempotency-key", f"an idempotency key is 1 to {KEY_LIMIT} printable ASCII letters")
        )
    return key


def _written(known: Operation, function: Callable[..., Any], arguments: dict[str, Any], key: str | None) -> Response:
    db, now = context.db(), context.now()
    # One transaction from the look for an earlier answer to the new one: of two at the same moment one acts.
    with db.write():
        if key is None:
            return _answered(known, function(**arguments))
        asking = Asking(context.my_token().id, key, request.method, request.path, request.get_data())
        kept = api_answers.find(db, asking, now)
        if kept is not None:
            return _again(kept)
        answer = _answered(known, function(**arguments))
        body = None if known.secret else answer.get_data()
        api_answers.keep(db, asking, KeptAnswer(answer.status_code, body), now)
        return answer


def _again(kept: KeptAnswer) -> Response:
    if kept.body is None:
        return problems.problem(
            409, "answer-not-kept", "this was done, and its answer held a secret that is kept nowhere: ask for another"
        )
    answer = Response(kept.body, kept.status, content_type=JSON if kept.body else None)
    answer.headers["Idempotent-Replayed"] = "true"
    return answer


def _answered(known: Operation, answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if known.answer is None:
        return Response(status=known.status)
    return Response(msgspec.json.encode(answer), known.status, content_type=JSON)


def use(limiter: Limiter) -> None:
    """Count the requests of the present application by this."""
    current_app.extensions[_LIMITER] = limiter


@blueprint.before_request
def count() -> Response | None:
    """Before any view, behind the gate."""
    token = context.token()
    if token is None:
        return None
    limiter = current_app.extensions.setdefault(_LIMITER, Limiter())
    g.api_allowance = limiter.take(token.id, context.now())
    if not g.api_allowance.allowed:
        wait = str(g.api_allowance.reset_s)
        return problems.problem(429, "rate-limit", f"too many requests: go on in {wait} s", Retry_After=wait)
    return None


@blueprint.after_request
def say_what_is_left(answer: Response) -> Response:
    """On every answer to a token, those of errors too."""
    allowance: Allowance | None = g.get("api_allowance")
    if allowance is not None:
        answer.headers["RateLimit-Limit"] = str(allowance.limit)
        answer.headers["RateLimit-Remaining"] = str(allowance.remaining)
        answer.headers["RateLimit-Reset"] = str(allowance.reset_s)
    return answer
