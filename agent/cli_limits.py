"""The command line of the line: `limits`, `network`, `notices`."""

from __future__ import annotations

import argparse

from agent.cli_databases import Command, Group


def add_commands(command: Command, group: Group) -> None:
    """Add them to the parser."""
    limits = group(command("limits", "how much of the line backups take, and what they wait for"), "limiting")
    command("show", "print the limits, and what counts now", into=limits)
    setting = command("set", "add hours with a rate, or change what scheduled backups wait for", into=limits)
    setting.add_argument("--rate", metavar="RATE", help="2Mbit, 500kbit, 250kB: at most so much a second is sent")
    setting.add_argument("--from", dest="start", metavar="HH:MM", help="when it begins (default: all day)")
    setting.add_argument("--to", dest="end", metavar="HH:MM", help="when it ends; before --from: the next morning")
    setting.add_argument("--days", metavar="DAYS", default=None, help="mon-sat, or mon,wed (default: all)")
    setting.add_argument("--restores", choices=("yes", "no"), help="whether restores keep to the rates too")
    setting.add_argument("--on-battery", choices=("wait", "run"), help="what a scheduled backup does on battery")
    setting.add_argument("--on-metered", choices=("wait", "run"), help="what it does on a metered network")
    command("clear", "limit no rate any more", into=limits)

    notices = command("notices", "what this machine shows on its own screen")
    notices.add_argument("shown", choices=("on", "failures", "off"), nargs="?", help="default: print what is set")
    notices.add_argument("--test", action="store_true", help="show one now")

    network = command("network", "how this machine reaches the appliance: straight on, or through a SOCKS5 proxy")
    proxy_arguments(network)
    network.add_argument("--direct", action="store_true", help="through no proxy any more")


def proxy_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name a proxy."""
    parser.add_argument("--proxy", metavar="socks5://HOST:PORT", help="reach the appliance through this proxy")
    parser.add_argument("--proxy-user", metavar="USER", help="who asks the proxy, where it wants to know")
    parser.add_argument("--proxy-password-file", metavar="F", help="a file whose only line is that user's password")
