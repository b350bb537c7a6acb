"""Addresses of what pages of thousands of rows lead to, put together without asking the router for each.

`url_for` takes some 30 µs, and a row has four links. The words of the query are those that statistics and logs read;
tests hold these addresses against the router.
"""

from __future__ import annotations

from urllib.parse import urlencode

from flask import request


def _at(path: str, **query: str) -> str:
    words = {name: value for name, value in query.items() if value}
    return request.script_root + path + (f"?{urlencode(words)}" if words else "")


def contract(contract_id: str) -> str:
    """A contract's page."""
    return _at(f"/contracts/{contract_id}")


def machine(machine_hex: str) -> str:
    """A machine's page."""
    return _at(f"/machines/{machine_hex}")


def statistics(*, machine: str = "", contract: str = "") -> str:
    """The statistics of a machine (its id in hex) or a contract."""
    return _at("/statistics", machine=machine, contract=contract)


def logs(*, machine: str = "", contract: str = "") -> str:
    """The logs of a machine (its id in hex) or a contract."""
    return _at("/logs", machine=machine, contract=contract)
