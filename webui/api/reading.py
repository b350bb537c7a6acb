"""The OpenAPI document taken apart for people: what each operation takes and answers, field by field.

Reads the document and nothing else, so that the page says what programs are told. Knows no template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webui.api.document import document


@dataclass(frozen=True, slots=True)
class Field:
    """One field or parameter: its name, what it holds, whether it must be given, where parameters stand."""

    name: str
    kind: str
    required: bool
    where: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent or answered, by its name; without fields it is raw bytes."""

    name: str
    about: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Reading:
    """One operation."""

    name: str
    method: str
    path: str
    summary: str
    about: str
    parameters: list[Field]
    body: Body | None
    answer: Body | None
    status: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """Operations of one kind."""

    name: str
    operations: list[Reading]


def _named(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def kind_of(schema: dict[str, Any]) -> str:
    """What a schema holds, in a few words."""
    if "$ref" in schema:
        name = _named(schema)
        known = document()["components"]["schemas"][name]
        return " | ".join(map(str, known["enum"])) if "enum" in known else name
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(kind_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"{kind_of(schema.get('items', {}))} […]"
    return str(schema.get("format") or schema.get("type") or "any")


def _fields(name: str) -> Body:
    schema = document()["components"]["schemas"][name]
    required = set(schema.get("required", ()))
    fields = [
        Field(field, kind_of(kind), field in required) for field, kind in schema.get("properties", {}).items()
    ]  # fmt: skip
    return Body(name, " ".join(str(schema.get("description", "")).split()), fields)


def _body(content: dict[str, Any]) -> Body | None:
    for media, held in content.items():
        schema = held["schema"]
        return _fields(_named(schema)) if "$ref" in schema else Body(media, "", [])
    return None


def _reading(method: str, path: str, known: dict[str, Any]) -> Reading:
    status, done = next((status, done) for status, done in known["responses"].items() if status.startswith("2"))
    return Reading(
        name=known["operationId"],
        method=method.upper(),
        path=path,
        summary=known["summary"],
        about=known["description"],
        parameters=[
            Field(one["name"], kind_of(one["schema"]), one["required"], one["in"]) for one in known["parameters"]
        ],
        body=_body(known.get("requestBody", {}).get("content", {})),
        answer=_body(done.get("content", {})),
        status=status,
    )


def chapters() -> list[Chapter]:
    """All operations, in the order of the document."""
    found: dict[str, list[Reading]] = {tag["name"]: [] for tag in document()["tags"]}
    for path, methods in document()["paths"].items():
        for method, known in methods.items():
            found[known["tags"][0]].append(_reading(method, path, known))
    return [Chapter(name, readings) for name, readings in found.items()]


def parts() -> list[Body]:
    """What stands inside of bodies: the schemas that no operation sends or answers by itself."""
    whole = {
        body.name
        for chapter in chapters()
        for one in chapter.operations
        for body in (one.body, one.answer)
        if body is not None
    }
    schemas = document()["components"]["schemas"]
    return [_fields(name) for name in schemas if name not in whole and "properties" in schemas[name]]
