"""A space's look as the browser loads it: a style sheet of a few variables, and the logo. Open to strangers.

Both are named by a digest, so that they may be kept for long and change at once when the theme does; the digest is for
the browser's memory alone, and what is there now is the answer to any.
"""

from __future__ import annotations

import hashlib
from typing import Final

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue

from appliance.control import themes
from appliance.control.themes import Theme
from webui import context

blueprint = Blueprint("theme", __name__)
NONE: Final = "-"
"""Stands for the default theme in addresses."""


def style_sheet(theme: Theme) -> str:
    """The theme's colours as CSS variables, for light pages and dark ones."""
    return (
        f":root{{--brand:{theme.colour};--on-brand:{theme.text_on_colour};"
        f"--accent:{theme.accent};--on-accent:{theme.text_on_accent}}}\n"
        f"[data-bs-theme=dark]{{--accent:{theme.accent_on_dark};--on-accent:{themes.text_on(theme.accent_on_dark)}}}\n"
    )


def digest(theme: Theme) -> str:
    """Changes with the style sheet."""
    return hashlib.sha256(style_sheet(theme).encode()).hexdigest()[:16]


@blueprint.app_template_global("theme_digest")
def _digest(theme: Theme) -> str:
    return digest(theme)


def _tagged(response: Response) -> ResponseReturnValue:
    response.add_etag()
    return response.make_conditional(request)


@blueprint.get("/theme/<space_id>/<wanted>.css")
def stylesheet(space_id: str, wanted: str) -> ResponseReturnValue:
    """The colours of a space."""
    theme = themes.of_space(context.db(), None if space_id == NONE else space_id)
    return _tagged(Response(style_sheet(theme), mimetype="text/css"))


@blueprint.get("/theme/<space_id>/logo-<wanted>")
def logo(space_id: str, wanted: str) -> ResponseReturnValue:
    """The logo of a space."""
    found = themes.logo(context.db(), space_id)
    if found is None:
        abort(404)
    return _tagged(Response(found.data, mimetype=found.content_type))
