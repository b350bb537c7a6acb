"""`hooks`, `source`, `restore-database`: what each does, and what it shows."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Callable
from typing import TypeVar

import msgspec

from agent.commands import Row, iso, show
from agent.hooks import checked, last_runs
from agent.knocking import knock
from agent.settings import AgentHome, change_settings, load_settings
from agent.sources.configured import Hook, Hooks
from agent.system.programs import identity
from transport.errors import UsageError

Made = TypeVar("Made", bound=msgspec.Struct)


def hooks(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`hooks add`, `list`, `remove`."""
    if options.hooking == "add":
        added = _new_hook(options)
        _change(home, lambda hooks: _adding(hooks, options.when, added))
    elif options.hooking == "remove":
        _change(home, lambda hooks: hooks.without(options.number))
    runs = last_runs(home)
    rows: list[Row] = []
    lines = []
    for number, (when, hook) in enumerate(load_settings(home).hooks.numbered(), 1):
        last = next((run for run in runs if (run.when, run.command) == (when, hook.command)), None)
        row: Row = {
            "number": number,
            "when": when,
            "command": list(hook.command),
            "timeout": hook.timeout_s,
            "required": hook.required,
            "run_as": hook.run_as,
            "last_run": iso(last.at_ms) if last else None,
            "last_code": last.code if last else None,
            "last_failure": last.reason if last and last.reason else None,
            "last_output": last.output if last else None,
        }
        rows.append(row)
        required = ", required" if hook.required else ""
        user = f", as {hook.run_as}" if hook.run_as else ""
        lines.append(f"{number:>3}  {when:<6}  {shlex.join(hook.command)}  ({hook.timeout_s} s{required}{user})")
        if last:
            lines.append(f"       {iso(last.at_ms)}: {last.reason or 'went well'}")
            lines += [f"       | {line}" for line in last.output.splitlines()[-5:]]
    show(as_json, rows, "\n".join(lines) or "No hooks: pilulier-agent hooks add before -- COMMAND ARG…")
    return 0


def _new_hook(options: argparse.Namespace) -> Hook:
    if options.required and options.when == "after":
        raise UsageError("--required is for before-hooks: when an after-hook runs, the backup is over")
    if options.run_as:
        identity(options.run_as)
    return _valid(Hook(checked(options.words), options.timeout, options.required, options.run_as))


def _valid(made: Made) -> Made:
    """The same, held against the bounds that config.json has: what cannot be read back must not be written."""
    try:
        return msgspec.json.decode(msgspec.json.encode(made), type=type(made))
    except msgspec.ValidationError as error:
        raise UsageError(f"that is outside the bounds of a setting: {error}") from None


def _adding(hooks: Hooks, when: str, hook: Hook) -> Hooks:
    if when == "before":
        return msgspec.structs.replace(hooks, before=(*hooks.before, hook))
    return msgspec.structs.replace(hooks, after=(*hooks.after, hook))


def _change(home: AgentHome, change: Callable[[Hooks], Hooks]) -> None:
    change_settings(home, lambda settings: dataclasses.replace(settings, hooks=change(settings.hooks)))
    knock(home)
