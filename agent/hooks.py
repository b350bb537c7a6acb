"""Hooks: what the owner of this machine wants done before and after each backup.

Owns their order, their outcome and what is kept of their words. A hook is an argument list, run without a shell, under
the user it names, in a group of its own, and killed with it when its time is over. What goes wrong is a warning of the
backup, or its end where a before-hook is required; after-hooks run in any case and are told how it ended by their
environment. Their words stay on the machine: the appliance hears of counts and exit codes only.

Whoever may write a program that root runs is root: a program that others may write is refused, when it is added and
each time before it runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent import journal
from agent.errors import HookFailed
from agent.report import BackupReport, Warned
from agent.settings import AgentHome
from agent.sources.configured import Hook, Hooks
from agent.system import owners, programs
from transport.errors import PilulierError, UsageError

KEPT_RUNS: Final = 200
_KEPT_BYTES: Final = 8 << 20
_SAID: Final = 160


class HookRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one hook ended. `code` is negative for a signal; None where it could not be started."""

    at_ms: int
    when: str
    """`before` or `after`."""
    command: tuple[str, ...]
    code: int | None
    seconds: float
    timed_out: bool = False
    output: str = ""
    """The last of what it said on both streams."""
    reason: str = ""
    """Why it counts as failed; empty where it went well."""


def checked(command: Sequence[str]) -> tuple[str, ...]:
    """A command fit for a hook; UsageError names what is wrong with its program."""
    if not command:
        raise UsageError("a hook needs a command: hooks add before -- /usr/local/bin/quiesce ARG…")
    fault = program_fault(command[0])
    if fault:
        raise UsageError(fault)
    return tuple(command)


def program_fault(program: str) -> str:
    """Why this program must not be run; empty where it may be."""
    if not os.path.isabs(program):
        return f"{program}: give the whole path of the program, so that no other can take its place"
    try:
        real = os.path.realpath(program)
        status = os.stat(real)
        first, *others = Path(real).parents
        above = [(f"the folder of {program}", os.stat(first))]
        above += [(f"the folder {folder} above {program}", os.stat(folder)) for folder in others]
    except OSError as error:
        return f"{program} cannot be used: {(error.strerror or str(error)).lower()}"
    if not stat.S_ISREG(status.st_mode) or not os.access(program, os.X_OK):
        return f"{program} is not a program that can be run"
    if sys.platform == "win32":
        return ""
    for what, found in ((program, status), *above):
        if found.st_uid not in (0, owners.my_number()):
            return f"{what} belongs to another user, who could change what runs: give it to root"
        # In a sticky folder nobody renames what is another's.
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        open_to_all = found.st_mode & stat.S_IWOTH and not sticky
        if open_to_all or (found.st_mode & stat.S_IWGRP and found.st_gid != 0 and not sticky):
            return f"{what} can be written by other users, who could change what runs: chmod go-w"
    return ""


def run_around(
    home: AgentHome, hooks: Hooks, started_by: str, backup: Callable[[tuple[Warned, ...]], BackupReport]
) -> BackupReport:
    """Before-hooks, the backup (handed their warnings), after-hooks. HookFailed where a required one failed.

    After-hooks run whatever happened, an interruption included: what a before-hook stopped must be started again.
    """
    told = {"PILULIER_HOME": str(home.path), "PILULIER_STARTED_BY": started_by}
    try:
        report = backup(tuple(_before(home, hooks.before, told)))
    except BaseException as error:
        code = error.code if isinstance(error, PilulierError) else type(error).__name__
        reason = "stopped" if isinstance(error, KeyboardInterrupt) else code
        _after(home, hooks.after, told | {"PILULIER_OUTCOME": "failed", "PILULIER_REASON": reason})
        raise
    late = _after(
        home,
        hooks.after,
        told
        | {
            "PILULIER_OUTCOME": "warnings" if report.warnings else "done",
            "PILULIER_SNAPSHOT": str(report.snapshot),
            "PILULIER_WARNINGS": str(len(report.warnings)),
        },
    )
    return dataclasses.replace(report, warnings=(*report.warnings, *late)) if late else report


def _before(home: AgentHome, hooks: Iterable[Hook], told: Mapping[str, str]) -> Iterator[Warned]:
    for number, hook in enumerate(hooks, 1):
        reason = _run(home, "before", hook, told)
        if not reason:
            continue
        if hook.required:
            raise HookFailed(
                f"the before-hook {hook.command[0]} {reason}, and the backup requires it: nothing was backed up. "
                "Mend it, or add it without --required"
            )
        journal.keep(home, "warning", "hooks", f"Before-hook {number} failed; the backup goes on without it")
        yield Warned(_name("before", hook), f"{reason}; the backup went on")


def _after(home: AgentHome, hooks: Iterable[Hook], told: Mapping[str, str]) -> list[Warned]:
    late = []
    for number, hook in enumerate(hooks, 1):
        reason = _run(home, "after", hook, told)
        if reason:
            journal.keep(home, "warning", "hooks", f"After-hook {number} failed; the backup itself stands")
            late.append(Warned(_name("after", hook), reason))
    return late


def _name(when: str, hook: Hook) -> bytes:
    return f"{when}-hook {hook.command[0]}".encode()


def _run(home: AgentHome, when: str, hook: Hook, told: Mapping[str, str]) -> str:
    """Run one hook and note how it ended; why it failed, or nothing."""
    began_ms = int(time.time() * 1000)
    ended: programs.Ended | None = None
    reason = program_fault(hook.command[0])
    if not reason:
        try:
            extra = {**told, "PILULIER_HOOK": when}
            # The file that was looked at, whatever its name leads to a moment later.
            command = (os.path.realpath(hook.command[0]), *hook.command[1:])
            ended = programs.run(command, timeout_s=hook.timeout_s, run_as=hook.run_as, extra=extra)
        except UsageError as error:
            reason = str(error)
        except OSError as error:
            reason = f"could not be started: {(error.strerror or str(error)).lower()}"
    said = ended.output.decode("utf-8", "replace") if ended is not None else ""
    if ended is not None and not ended.well:
        reason = f"was stopped after {hook.timeout_s} s" if ended.timed_out else f"ended with code {ended.code}"
        if said.strip():
            reason += f" ({said.strip().splitlines()[-1][:_SAID]})"
    _note(
        home,
        HookRun(
            began_ms,
            when,
            hook.command,
            ended.code if ended is not None else None,
            round(ended.seconds, 3) if ended is not None else 0.0,
            ended is not None and ended.timed_out,
            said,
            reason,
        ),
    )
    return reason


def _note(home: AgentHome, run: HookRun) -> None:
    """Keep the last runs; a disk that does not take it loses it, no more."""
    with contextlib.suppress(OSError):
        lines = [*_lines(home), msgspec.json.encode(run)][-KEPT_RUNS:]
        new = home.hook_runs.with_name(f"{home.hook_runs.name}.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
        os.replace(new, home.hook_runs)


def last_runs(home: AgentHome) -> list[HookRun]:
    """How hooks ended, newest first."""
    found = []
    for line in reversed(_lines(home)):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found.append(msgspec.json.decode(line, type=HookRun))
    return found


def _lines(home: AgentHome) -> list[bytes]:
    try:
        with open(home.hook_runs, "rb") as file:
            return file.read(_KEPT_BYTES).splitlines()
    except OSError:
        return []
