"""`hooks`, `source`, `restore-database`: what each does, and what it shows."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.commands import Row, iso, parse_time, show
from agent.enrolling import enrolled
from agent.hooks import checked, last_runs
from agent.knocking import knock
from agent.settings import AgentHome, change_settings, exclusive, load_settings
from agent.sources.configured import (
    Connection,
    Databases,
    Hook,
    Hooks,
    MariadbSource,
    PostgresqlSource,
    Source,
    SqliteSource,
    Volumes,
    checked_name,
)
from agent.sources.places import file_name, folder_path, kind_of
from agent.system.handing import read_password
from agent.system.paths import joined
from agent.system.programs import identity
from transport.errors import RefusedError, UsageError

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


def source(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`source add`, `list`, `remove`, `test`, `threshold`."""
    if options.sourcing == "test":
        return _test(options.name, home, as_json)
    if options.sourcing == "threshold":
        return _threshold(options.size, home, as_json)
    if options.sourcing == "add":
        added = _new_source(options)
        _change_databases(home, lambda databases: databases.adding(added))
    elif options.sourcing == "remove":
        _change_databases(home, lambda databases: databases.without(options.name))
    rows = [_row(one) for one in load_settings(home).databases.sources]
    lines = [f"{row['name']:<20} {row['kind']:<11} {row.get('path') or row['database']}" for row in rows]
    if options.sourcing == "add":
        lines.append(f"Try it: pilulier-agent source test {added.name}")
    show(as_json, rows, "\n".join(lines) or "No databases: pilulier-agent source add sqlite PATH, for one")
    return 0


def _row(source: Source) -> Row:
    file = os.fsdecode(joined(folder_path(), file_name(source).encode()))
    row: Row = {"name": source.name, "kind": kind_of(source), "file": file}
    if isinstance(source, SqliteSource):
        return row | {"path": source.path}
    return row | {"database": source.database, **msgspec.structs.asdict(source.connection)}


def _new_source(options: argparse.Namespace) -> Source:
    if options.kind == "sqlite":
        path = os.path.realpath(options.path)
        if not os.path.isfile(path):
            raise UsageError(f"{options.path} is not there, or not a file")
        name = checked_name(options.name or os.path.splitext(os.path.basename(path))[0])
        return _valid(SqliteSource(name, path))
    connection = _connection(options, options.kind)
    if options.database.startswith("-"):
        raise UsageError(f"{options.database!r} is no name that the client programs take for a database's")
    name = checked_name(options.name or options.database)
    if options.kind == "postgresql":
        return _valid(PostgresqlSource(name, options.database, connection))
    return _valid(MariadbSource(name, options.database, connection))


def _connection(options: argparse.Namespace, kind: str) -> Connection:
    """The way to a server, out of the options; UsageError where some do not fit its kind."""
    foreign = {"postgresql": ("socket", "defaults_file"), "mariadb": ("service",), "sqlite": ()}[kind]
    for name in foreign:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is not for {kind}")
    if options.run_as:
        identity(options.run_as)
    for name in ("password_file", "defaults_file"):
        path = getattr(options, name)
        if path:
            setattr(options, name, os.path.abspath(path))
    if options.password_file:
        read_password(options.password_file)
    return _valid(
        Connection(
            host=options.host,
            port=options.port,
            socket=options.socket,
            user=options.user,
            password_file=options.password_file,
            service=options.service,
            defaults_file=options.defaults_file,
            run_as=options.run_as,
        )
    )


def _test(name: str, home: AgentHome, as_json: bool) -> int:
    from agent.sources.dumped import dumper_of

    said = dumper_of(load_settings(home).databases.named(name), home).probe()
    show(as_json, {"name": name, "ok": True, "detail": said}, f"{name} can be dumped: {said}.")
    return 0


def _threshold(size: str | None, home: AgentHome, as_json: bool) -> int:
    if size is not None:
        wanted = 0 if size == "off" else size_of(size)
        _change_databases(home, lambda databases: msgspec.structs.replace(databases, threshold_bytes=wanted))
    now = load_settings(home).databases.threshold_bytes
    text = f"A word is said when a database file grows beyond {now / 1e9:g} GB." if now else "No word is said."
    show(as_json, {"threshold_bytes": now}, text)
    return 0


def size_of(text: str) -> int:
    """Bytes in `2GB`, `500 MB`, `1.5TB`; UsageError otherwise."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kMGT]?)B?", text.strip())
    if match is None or not float(match[1]):
        raise UsageError(f"{text!r} is no size: give one like 2GB or 500MB, or off")
    return int(float(match[1]) * 1000 ** " kMGT".index(match[2] or " "))


def volumes(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`volumes on`, `off`, `show`."""
    from agent.sources.volume_kinds import Btrfs
    from agent.sources.volumes import mounted_now, parts_of

    if options.freezing != "show":
        wanted = Volumes(freeze=options.freezing == "on")
        change_settings(home, lambda settings: dataclasses.replace(settings, volumes=wanted))
    settings = load_settings(home)
    parts = parts_of(settings.selection, mounted_now())
    if not settings.volumes.freeze:
        for part in parts:
            if isinstance(part.kind, Btrfs):
                part.kind.tidy(part.path)
    rows: list[Row] = [
        {
            "path": part.path,
            "type": part.mounted.fstype,
            "source": part.mounted.source,
            "by": part.kind.name if part.kind is not None and part.path != "/" else None,
        }
        for part in parts
    ]
    words = "are frozen while a backup reads them" if settings.volumes.freeze else "are read as they are"
    lines = [f"{row['path']}  {row['type']}  {row['by'] or 'cannot be frozen'}" for row in rows]
    show(as_json, {"freeze": settings.volumes.freeze, "parts": rows}, "\n".join([f"Disks {words}.", *lines]))
    return 0


def restore_database(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`restore-database`."""
    from agent.commands import open_source
    from agent.progress import watched
    from agent.sources.restoring import Wish
    from agent.sources.restoring import restore_database as put_back

    if not options.account or not options.otp:
        raise RefusedError("a restore asks for --account EMAIL and --otp CODE: the code of an account that may restore")
    if options.into.startswith("-"):
        raise UsageError(f"{options.into!r} is no name that the client programs take for a database's")
    connection = _connection(options, "sqlite")
    wish = Wish(
        options.name,
        options.into,
        options.replace,
        connection if connection != Connection() else None,
        Path(options.scratch).absolute() if options.scratch else None,
        options.snapshot,
        parse_time(options.at) if options.at else None,
    )
    with exclusive(home, "restore"):
        machine = enrolled(home)
        client, source = open_source(machine)
        try:
            source.open_restore(options.account, options.otp)
            with watched("Restoring") as progress:
                done = put_back(machine, source, wish, progress)
        finally:
            client.close()
    kept = f" The former one stands as {done.kept_as}." if done.kept_as else ""
    show(
        as_json,
        {**dataclasses.asdict(done), "seconds": round(done.seconds, 3)},
        f"{done.name} ({done.kind}) of snapshot {done.snapshot} stands in {done.into}.{kept}",
    )
    return 0


def _change_databases(home: AgentHome, change: Callable[[Databases], Databases]) -> None:
    change_settings(home, lambda settings: dataclasses.replace(settings, databases=change(settings.databases)))
    knock(home)


def _adding(hooks: Hooks, when: str, hook: Hook) -> Hooks:
    if when == "before":
        return msgspec.structs.replace(hooks, before=(*hooks.before, hook))
    return msgspec.structs.replace(hooks, after=(*hooks.after, hook))


def _change(home: AgentHome, change: Callable[[Hooks], Hooks]) -> None:
    change_settings(home, lambda settings: dataclasses.replace(settings, hooks=change(settings.hooks)))
    knock(home)
