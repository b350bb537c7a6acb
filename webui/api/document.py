"""The OpenAPI 3.1 document, made of the same operations and types that serve: it cannot say anything else.

Knows no resource. Made once a process: nothing in it depends on who asks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec
from flask import Response

from appliance.control.api_answers import KEY_LIMIT
from webui.api import contracts, deliveries, machines, restores, watching, webhooks
from webui.api.limits import REQUESTS
from webui.api.operations import JSON, KEY, OPERATIONS, Nothing, Operation
from webui.api.operations import blueprint as blueprint
from webui.gate import API
from webui.problems import MEDIA_TYPE

RESOURCES: Final = (contracts, machines, watching, restores, deliveries, webhooks)
"""Imported for their operations: which are all there when this module is."""
_PLACE: Final = re.compile(r"<(?:(int)[^:>]*:)?([a-z_]+)>")
_TEMPLATE: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "The request cannot be read: its parameters or its body do not fit.",
    "401": "No live token was given.",
    "403": "The token lacks the permission, or the one-time code does not open this.",
    "404": "Nothing here has this id, or the token does not see it.",
    "409": "It clashes with what is there, or the idempotency key was used for another request.",
    "413": "The body is too large.",
    "415": "The body is not application/json.",
    "422": "A value makes no sense here; the detail names it.",
    "429": "Too many requests, or too many wrong codes: wait as long as Retry-After says.",
    "503": "As many archives leave as there may be at once: wait as long as Retry-After says.",
}
_ABOUT: Final = f"""Backups, contracts and machines for the programs of software vendors.

Every request but this document carries `Authorization: Bearer TOKEN`. A token is made under Réglages → API; it belongs
to one space and sees nothing else: what lies outside is answered as what does not exist, with 404. Cookies count for
nothing here. Errors are problem documents (RFC 9457) whose `code` stays. Lists come in pages: pass `next` on as
`cursor` until it is null. A write with an `{KEY}` is done once however often it is sent within a day, and answered
alike. {REQUESTS} requests a minute for each token; `RateLimit-Remaining` says how many are left. Times are RFC 3339 in
UTC, sizes bytes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Operations of one kind, for the readable page."""

    name: str
    operations: list[Operation]


def groups() -> list[Group]:
    """All operations by group, in the order of their first."""
    names = dict.fromkeys(one.group for one in OPERATIONS)
    return [Group(name, [one for one in OPERATIONS if one.group == name]) for name in names]


def address(path: str) -> str:
    """A rule as OpenAPI writes it."""
    return API + _PLACE.sub(r"{\2}", path)


def _place(kind: str, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if kind == "int":
        schema = {"type": "integer", "minimum": 0, "maximum": 2**53}
    elif name == "machine":
        schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
    elif name == "restore":
        schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _types() -> list[Any]:
    found: list[Any] = []
    for one in OPERATIONS:
        found += [kind for kind in (one.body, one.answer, None if one.query is Nothing else one.query) if kind]
    return list(dict.fromkeys(found))


def _parameters(one: Operation, queries: dict[str, Any]) -> list[dict[str, Any]]:
    found = [_place(kind, name) for kind, name in _PLACE.findall(one.path)]
    if one.query is not Nothing:
        schema = queries[one.query.__name__]
        for name, kind in schema["properties"].items():
            found.append({"name": name, "in": "query", "required": False, "schema": _text(kind)})
    if one.method != "GET" and not one.apart:
        found.append(
            {
                "name": KEY,
                "in": "header",
                "required": False,
                "description": "A text of your own, one for each act: sent again within a day, it is not done again.",
                "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LIMIT, "pattern": "^[!-~]+$"},
            }
        )
    return found


def _text(kind: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema: it is given or left out, and never null, for which an address has no word."""
    known = {key: value for key, value in kind.items() if key != "default" or value is not None}
    if "anyOf" not in known:
        return known
    some = [one for one in known.pop("anyOf") if one.get("type") != "null"]
    return {"anyOf": some, **known} if len(some) > 1 else {**some[0], **known}


def _answers(one: Operation) -> dict[str, Any]:
    done: dict[str, Any] = {"description": one.summary}
    if one.streams:
        done["content"] = {media: {"schema": {"type": "string", "format": "binary"}} for media in one.streams}
    elif one.answer is not None:
        done["content"] = {JSON: {"schema": {"$ref": _TEMPLATE.format(name=one.answer.__name__)}}}
    done["headers"] = {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
    }
    found = {str(one.status): done}
    for status in _PROBLEMS:
        if (status in ("413", "415") and one.body is None) or (status == "503" and not one.streams):
            continue
        found[status] = {"$ref": f"#/components/responses/{status}"}
    found["default"] = {"$ref": "#/components/responses/default"}
    return found


def _operation(one: Operation, queries: dict[str, Any]) -> dict[str, Any]:
    needed = f"Needs the permission `{one.needs}`." if one.needs else "Needs any live token."
    document: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"{one.detail} {needed}",
        "tags": [one.group],
        "parameters": _parameters(one, queries),
        "responses": _answers(one),
    }
    if one.body is not None:
        document["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": {"$ref": _TEMPLATE.format(name=one.body.__name__)}}},
        }
    return document


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _TEMPLATE.format(name="Problem")}}},
    }


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "integer", "minimum": 0}}


def program_version() -> str:
    """Of the installed program."""
    try:
        return version("pilulier")
    except PackageNotFoundError:
        return "0"


@cache
def document() -> dict[str, Any]:
    """The document."""
    _, schemas = msgspec.json.schema_components(_types(), ref_template=_TEMPLATE)
    asked = {one.query.__name__ for one in OPERATIONS}
    queries = {name: schemas.pop(name) for name in list(schemas) if name in asked}
    schemas["Problem"] = {
        "type": "object",
        "description": "What went wrong (RFC 9457). `code` is for programs and stays, `detail` is for people.",
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
        },
        "required": ["type", "title", "status", "code", "detail"],
    }
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(address(one.path), {})[one.method.lower()] = _operation(one, queries)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pilulier", "version": program_version(), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": group.name} for group in groups()],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "headers": {
                "RateLimit-Limit": _header("Requests a minute."),
                "RateLimit-Remaining": _header("Requests left in this minute."),
                "RateLimit-Reset": _header("Seconds until all are there again."),
            },
            "responses": {status: _problem(said) for status, said in _PROBLEMS.items()}
            | {"default": _problem("Something unforeseen; the detail has the number under which it was logged.")},
            "schemas": schemas,
        },
    }


@cache
def _encoded() -> str:
    return json.dumps(document())


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Open to everybody: it tells what there is to ask, and nothing of what there is."""
    return Response(_encoded(), content_type=JSON)
