"""The code that opens a quarter of an hour, wherever a page asks for it."""

from __future__ import annotations

from flask_babel import gettext as _

from agent.ui.failures import explained_error
from agent.ui.machine import Machine
from transport.errors import PilulierError

_LONGEST = 20


def show_code(machine: Machine, account: str, code: str) -> dict[str, str]:
    """Show a code to the appliance; what is wrong, by field, and nothing where it opened."""
    if not account:
        return {"account": _("Indiquez l’adresse e-mail de votre compte.")}
    if not code.strip():
        return {"code": _("Donnez le code à six chiffres de votre application.")}
    try:
        machine.restores.open(account, "".join(code.split())[:_LONGEST])
    except PilulierError as error:
        return {"code": explained_error(error)}
    machine.account = account
    return {}
