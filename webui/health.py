"""What machines ask: whether the interface is up. Open; says nothing else."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from webui import context

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Up, and able to read its database."""
    context.db().value("SELECT 1 AS one")
    return jsonify(ok=True)
