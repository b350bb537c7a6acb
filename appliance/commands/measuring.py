"""`pilulier metrics`: what a monitoring system would read, and the token it needs for that."""

from __future__ import annotations

import argparse

from appliance.commands import audited
from appliance.commands.invocation import Commands, Invocation


def register(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the parsers."""
    metrics = commands.add_parser(
        "metrics",
        parents=[common],
        allow_abbrev=False,
        help="for monitoring: show, token",
        description="What a monitoring system reads at /metrics of the web interface.",
    )
    actions = metrics.add_subparsers(dest="action", metavar="ACTION", title="actions")
    parser = actions.add_parser(
        "show", parents=[common], allow_abbrev=False, help="all metrics now, in the text format of Prometheus"
    )
    parser.set_defaults(run=show)
    parser = actions.add_parser(
        "token", parents=[common], allow_abbrev=False, help="the bearer token that /metrics asks for"
    )
    parser.add_argument("--renew", action="store_true", help="make another one; the former stops working")
    parser.set_defaults(run=token)


def show(invocation: Invocation) -> int:
    """`metrics show`."""
    from appliance import metrics

    home = invocation.home()
    with invocation.database(home) as db:
        text = metrics.text(home, db, invocation.now()).decode()
    invocation.document({"text": text})
    invocation.say(text.rstrip())
    return 0


def token(invocation: Invocation) -> int:
    """`metrics token`."""
    from appliance import metrics
    from appliance.control import audit

    home = invocation.home()
    if invocation.arguments.renew:
        with invocation.database(home) as db:
            audit.write(db, audited.actor(), "metrics.token", now=invocation.now(), object_kind="appliance")
            shown = metrics.renew_token(home)
    else:
        shown = metrics.token(home)
    invocation.document({"token": shown})
    invocation.say(shown)
    return 0
