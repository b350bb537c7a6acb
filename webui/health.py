"""What machines ask: whether the interface is up, which anybody may, and the metrics, which ask for their token."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from appliance import metrics as figures
from webui import context

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Up, and able to read its database."""
    context.db().value("SELECT 1 AS one")
    return jsonify(ok=True)


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """All metrics for who shows the token (`Authorization: Bearer …`); nobody's session opens them."""
    shown = request.authorization
    token = shown.token if shown is not None and shown.type == "bearer" else None
    if not figures.may_read(context.home(), token or ""):
        return Response("a bearer token is needed: see 'pilulier metrics token'\n", 401, {"WWW-Authenticate": "Bearer"})
    text = figures.text(context.home(), context.db(), context.now())
    return Response(text, content_type=figures.CONTENT_TYPE)
