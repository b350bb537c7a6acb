"""The look, which is the web interface's own: its style sheet, its script, its picture.

Read from the `webui` package's files as data, by name, never imported: one look in one place, while an agent still
needs nothing of a server's code or libraries. Both packages are of one distribution, so that the files are there
wherever the agent is; a bundle of the agent alone has to carry `webui/static` along.
"""

from __future__ import annotations

import mimetypes
from functools import cache
from importlib.resources import files
from typing import Final

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue

blueprint = Blueprint("look", __name__)

SHARED: Final = frozenset({"pilulier.css", "pilulier.js", "mode.js", "icon.svg"})


@cache
def shared(name: str) -> bytes:
    """A file of the web interface's look."""
    return files("webui").joinpath("static", name).read_bytes()


@blueprint.get("/look/<name>")
def file(name: str) -> ResponseReturnValue:
    """One of them."""
    if name not in SHARED:
        abort(404)
    response = Response(shared(name), mimetype=mimetypes.guess_type(name)[0] or "text/plain")
    response.add_etag()
    return response.make_conditional(request)
