"""The Flask application: puts rooms together, and nothing else.

Order matters: the gate is the first thing that a request meets; headers dress every answer, also those of the gate
and of errors. Knows every blueprint, and of none what it shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flask import Flask
from flask_bootstrap import Bootstrap5
from flask_wtf import CSRFProtect

from appliance.control.sessions import LIFE_S
from appliance.settings import Home
from webui import (
    account_invitations,
    account_requests,
    accounts,
    alerts,
    api_tokens,
    audit,
    certificates,
    context,
    contract_acts,
    contract_exports,
    contract_forms,
    contracts,
    control_room,
    device,
    errors,
    gate,
    headers,
    health,
    invitation,
    login,
    logs,
    machine_acts,
    machine_key,
    machine_settings,
    machines,
    mail_settings,
    monthly,
    passwords,
    profile,
    rendering,
    request_ids,
    restore,
    running,
    sending,
    spaces,
    states,
    statistics,
    system,
    theme,
    translation,
    webhooks,
)
from webui.api import document, operations

UPLOAD_BYTES: Final = 4 * 1024 * 1024
"""A logo of 2 MiB and the rest of its form."""
COOKIE: Final = "pilulier"

BLUEPRINTS: Final = (
    *(login.blueprint, passwords.blueprint, invitation.blueprint, device.blueprint, profile.blueprint),
    *(theme.blueprint, health.blueprint),
    *(control_room.blueprint, running.blueprint, alerts.blueprint),
    *(contracts.blueprint, contract_forms.blueprint, contract_acts.blueprint, monthly.blueprint),
    *(contract_exports.blueprint, certificates.blueprint),
    *(machines.blueprint, restore.blueprint, sending.blueprint),
    *(machine_acts.blueprint, machine_key.blueprint, machine_settings.blueprint),
    *(statistics.blueprint, logs.blueprint, mail_settings.blueprint, audit.blueprint),
    *(accounts.blueprint, account_invitations.blueprint, account_requests.blueprint),
    *(spaces.blueprint, system.blueprint),
    *(api_tokens.blueprint, webhooks.blueprint),
    document.blueprint,
)


def create_app(home: Home, *, secure: bool = False, clock: Callable[[], float] = time.time) -> Flask:
    """The application of one home. `secure`: browsers reach it by TLS, here or at a proxy in front of it."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=home.load_web_key(),
        MAX_CONTENT_LENGTH=UPLOAD_BYTES,
        # __Host-: no other host of the domain can set it. Browsers take that prefix by TLS only.
        SESSION_COOKIE_NAME=f"__Host-{COOKIE}" if secure else COOKIE,
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_TIME_LIMIT=LIFE_S,
        WTF_CSRF_SSL_STRICT=False,
        BOOTSTRAP_SERVE_LOCAL=True,
    )
    context.install(app, context.Appliance(home, clock, secure=secure))
    request_ids.install(app)
    headers.install(app, secure=secure)
    # Before CSRF: a stranger learns to log in, not that a token is missing.
    gate.install(app)
    # The API takes no cookies, so nobody can be led into a request there: a token is shown by hand or not at all.
    CSRFProtect(app).exempt(operations.blueprint)
    translation.install(app)
    Bootstrap5(app)
    rendering.install(app)
    states.install(app)
    errors.install(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    missing = gate.unguarded(app)
    if missing:
        raise RuntimeError(f"these endpoints do not say who may enter: {', '.join(missing)}")
    return app
