"""The Flask application: puts rooms together, and nothing else.

Order matters: the gate is the first thing that a request meets, before CSRF, so that a stranger learns nothing else.
"""

from __future__ import annotations

import secrets
from typing import Final

from flask import Flask
from flask_bootstrap import Bootstrap5
from flask_wtf import CSRFProtect

from agent.interface import Serving
from agent.ui import (
    backups,
    copies,
    failures,
    gate,
    journals,
    limits_page,
    look,
    rendering,
    restores,
    safeguards,
    sent_here,
    settings_page,
    translation,
)
from agent.ui.machine import Machine

COOKIE: Final = "pilulier-agent"

BLUEPRINTS: Final = (
    gate.door,
    look.blueprint,
    backups.blueprint,
    restores.blueprint,
    sent_here.blueprint,
    journals.blueprint,
    settings_page.blueprint,
    safeguards.blueprint,
    limits_page.blueprint,
    copies.blueprint,
)


def create_app(machine: Machine, serving: Serving) -> Flask:
    """The application of one home, reached below `serving.prefix`."""
    app = Flask(__name__)
    app.config.update(
        # Of this process: with it every seat ends.
        SECRET_KEY=secrets.token_bytes(32),
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_PATH=f"/{serving.prefix}/",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        MAX_CONTENT_LENGTH=1 << 20,
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,
        BOOTSTRAP_SERVE_LOCAL=True,
    )
    app.extensions["machine"] = machine
    gate.install(app, machine.home, serving, machine.seats)
    CSRFProtect(app)
    translation.install(app)
    Bootstrap5(app)
    rendering.install(app)
    failures.install(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app
