"""`pilulier-agent snapshots`, `ls`, `restore` and `verify`: the appliance, and the nearer copy on site. Owns words."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.commands import human_bytes, iso, open_source, parse_time, show, show_restored, shown_path
from agent.enrolling import Enrolled, enrolled
from agent.settings import AgentHome, exclusive
from transport.errors import PilulierError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.onsite.nearer import Copies, Nearer
    from agent.restore import RestoreProgress, RestoreReport
    from transport.history import Snapshot

Row = dict[str, Any]
_AGAIN: int = 10_000
"""Paths of which the appliance is asked for what a copy could not give."""


@contextlib.contextmanager
def _copies(machine: Enrolled, origin: str) -> Any:
    """The copies that are here; none where the appliance is asked for, or where none is configured."""
    from agent.onsite.nearer import Copies, opened

    if origin == "appliance" or not machine.settings.onsite.copies:
        yield Copies((), ())
        return
    with opened(machine) as copies:
        for remark in copies.remarks:
            print(f"note: {remark}", file=sys.stderr)
        yield copies


def snapshots(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`snapshots [--from …]`; `auto` is the appliance, and the copies where it cannot be reached."""
    from agent.history import list_snapshots

    machine = enrolled(home)
    if options.origin == "onsite":
        rows = _copied_rows(machine)
    else:
        try:
            rows = [_row(s) for s in list_snapshots(machine)]
        except UnreachableError as error:
            if options.origin == "appliance" or not machine.settings.onsite.copies:
                raise
            print(f"note: {error}; these are those of the copies on site, by their own numbers", file=sys.stderr)
            rows = _copied_rows(machine)
    lines = [
        f"{r['snapshot']:>6}  {r['time']}  {r['state']:<8}  {r['files_total']:>8} entries  "
        f"{human_bytes(r['bytes_source']):>9}  "
        + (f"copy {r['copy']}" if "copy" in r else f"sent {human_bytes(r['bytes_sent'])}")
        for r in rows
    ]
    show(as_json, rows, "\n".join(lines) or "No snapshot yet: pilulier-agent backup")
    return 0


def _row(snapshot: Snapshot) -> Row:
    return {
        "snapshot": snapshot.number,
        "time": iso(snapshot.received_ms),
        "state": "complete" if snapshot.record.complete else "partial",
        "files_total": snapshot.record.entry_count,
        "bytes_source": snapshot.record.bytes_source,
        "bytes_sent": snapshot.bytes_received,
    }


def _copied_rows(machine: Enrolled) -> list[Row]:
    with _copies(machine, "onsite") as copies:
        return [
            _row(s) | {"copy": copy.place.name, "on_appliance": copy.pairs.get(s.number)}
            for copy in copies.near
            for s in copy.snapshots
            if not s.retired
        ]


def ls(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`ls [--snapshot N | --at TIME] [--from …] [PATH]`."""
    from agent.history import list_path, nodes_at
    from agent.onsite.nearer import choose
    from transport.snapshot_reader import SnapshotReader

    machine = enrolled(home)
    at_ms = parse_time(options.at) if options.at else None
    path = os.fsencode(options.path or "/")
    with _copies(machine, options.origin) as copies:
        near = choose(machine, copies, options.origin, options.snapshot, at_ms)
        if near is None:
            nodes = list_path(machine, path, options.snapshot, at_ms)
        else:
            _say_where(near)
            snapshot = near.copy.snapshots[near.number - 1]
            nodes = nodes_at(SnapshotReader(near.copy.source, machine.sealer(), snapshot), path)
    kinds = {0: "file", 1: "folder", 2: "symlink"}
    rows: list[Row] = [
        {
            "path": shown_path(node.path()),
            "type": kinds[int(node.type)],
            "size": node.size,
            "mtime": datetime.fromtimestamp(node.mtime_ns / 1e9, UTC).isoformat().replace("+00:00", "Z"),
        }
        for node in nodes
    ]
    lines = [f"{r['type']:<8}{r['size']:>14}  {r['mtime'][:19]}  {r['path']}" for r in rows]
    show(as_json, rows, "\n".join(lines) or "Empty.")
    return 0


def _say_where(near: Nearer) -> None:
    print(f"note: from the copy on site {near.copy.place.name}, its snapshot {near.number}", file=sys.stderr)


def restore(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`restore`: from a copy on site that holds the snapshot, with the key alone; else from the appliance with a code.

    What a copy could not give comes from the appliance, where a code was given.
    """
    from agent.onsite.nearer import choose

    at_ms = parse_time(options.at) if options.at else None
    with exclusive(home, "restore"):
        machine = enrolled(home)
        job = _Restore(options, machine, at_ms)
        with _copies(machine, options.origin) as copies:
            near = choose(machine, copies, options.origin, options.snapshot, at_ms)
            if near is None:
                _need_code(job, copies)
                return job.shown(job.from_appliance(), as_json, "appliance")
            _say_where(near)
            try:
                report = job.from_copy(near)
            except PilulierError as error:
                if options.origin == "onsite" or not job.may_ask:
                    raise
                print(f"note: copy {near.copy.place.name} failed ({error}): the appliance is asked", file=sys.stderr)
                return job.shown(job.from_appliance(snapshot=near.remote), as_json, "appliance")
            origin = f"onsite:{near.copy.place.name}"
            if report.errors and options.origin == "auto":
                if job.may_ask:
                    report = job.mended(report, near)
                    origin += ", appliance"
                else:
                    print(
                        "note: with --account and --otp what this copy could not give is taken from the appliance",
                        file=sys.stderr,
                    )
            return job.shown(report, as_json, origin)


def _need_code(job: _Restore, copies: Copies) -> None:
    if not job.may_ask:
        held = " (the copies on site that are here do not hold this snapshot)" if copies.near else ""
        raise RefusedError(
            f"a restore asks for --account EMAIL and --otp CODE: the code of an account that may restore{held}"
        )


class _Restore:
    def __init__(self, options: argparse.Namespace, machine: Enrolled, at_ms: int | None) -> None:
        from agent.recovering import open_session

        self._options = options
        self._machine = machine
        self._at_ms = at_ms
        self._session = open_session(machine.home) if not options.otp else None
        self.may_ask = self._session is not None or bool(options.account and options.otp)
        self._received = 0
        self._reconnections = 0
        self._paths = [os.path.abspath(os.fsencode(path)) for path in options.paths]

    def _arguments(self, progress: Callable[[RestoreProgress], None] | None) -> Row:
        return {
            "target": None if self._options.in_place else os.path.abspath(os.fsencode(self._options.target)),
            "overwrite": self._options.overwrite,
            "keep_privileges": self._options.keep_privileges,
            "recent_first": self._options.recent_first,
            "approver": self._machine.settings.appliance.identity,
            "progress": progress,
        }

    def from_copy(self, near: Nearer) -> RestoreReport:
        """From a copy in hand."""
        from agent.progress import watched
        from agent.restore import restore

        with watched("Restoring") as progress:
            return restore(
                near.copy.source,
                self._machine.sealer(),
                self._machine.keys.signing.public,
                witness=None,
                paths=self._paths,
                snapshot=near.number,
                repository=near.copy.id,
                **self._arguments(progress),
            )

    def from_appliance(self, paths: Sequence[bytes] | None = None, snapshot: int | None = None) -> RestoreReport:
        """From the appliance, with the code or the open session."""
        from agent.ledger import last_head
        from agent.progress import watched
        from agent.restore import restore

        client, source = open_source(self._machine)
        try:
            if self._session is not None:
                source.take_up_restore(self._session)
            else:
                source.open_restore(self._options.account, self._options.otp)
            with watched("Restoring") as progress:
                report = restore(
                    source,
                    self._machine.sealer(),
                    self._machine.keys.signing.public,
                    witness=last_head(self._machine.home),
                    paths=self._paths if paths is None else paths,
                    snapshot=snapshot or self._options.snapshot,
                    at_ms=None if snapshot else self._at_ms,
                    repository=self._machine.settings.machine,
                    **self._arguments(progress),
                )
            self._received += client.channel.bytes_received
            self._reconnections = source.reconnections
        finally:
            client.close()
        return report

    def mended(self, report: RestoreReport, near: Nearer) -> RestoreReport:
        """The report, once the appliance was asked for what the copy could not give."""
        import msgspec

        if near.remote is None:
            return report
        paths = list(dict.fromkeys(error.path for error in report.errors))[:_AGAIN]
        try:
            again = self.from_appliance(paths, near.remote)
        except PilulierError as error:
            print(f"note: the appliance could not give what the copy lacks: {error}", file=sys.stderr)
            return report
        return msgspec.structs.replace(
            report, files=report.files + again.files, bytes=report.bytes + again.bytes, errors=again.errors
        )

    def shown(self, report: RestoreReport, as_json: bool, origin: str) -> int:
        """Print it; the exit code."""
        return show_restored(report, self._received, as_json, reconnections=self._reconnections, origin=origin)


def verify(options: argparse.Namespace, home: AgentHome, as_json: bool) -> int:
    """`verify`: originals, the appliance and the copies on site that are here."""
    import random

    from agent.history import reader_for
    from agent.ledger import last_head
    from agent.onsite.verifying import verify_copy
    from agent.progress import watched
    from agent.verify import compare, disk_original, open_sample

    machine = enrolled(home)
    client, source = open_source(machine)
    try:
        reader = reader_for(machine, source, last_head(home), None, None)
        with watched("Verifying") as progress:
            report = compare(reader.whole_tree(), disk_original, machine.sealer().keys.content, progress=progress)
        open_sample(machine.sealer(), source.sample(options.sample), report)
    finally:
        client.close()
    chance = random.SystemRandom()
    with _copies(machine, "auto") as copies:
        root = reader.snapshot.record.root
        checked = [verify_copy(near, machine.sealer(), root, options.sample, chance) for near in copies.near]
    rows: list[Row] = [
        {
            "name": one.name,
            "snapshot": one.snapshot,
            "same_as_appliance": one.same,
            "segments_checked": one.segments_checked,
            "damaged": list(one.damaged),
        }
        for one in checked
    ]
    lines = [
        f"Copy on site {one.name}: snapshot {one.snapshot}, "
        + ("the same as the appliance's" if one.same else "another state than the appliance's")
        + f"; opened {one.segments_checked} segments, {len(one.damaged)} damaged."
        for one in checked
    ]
    show(
        as_json,
        {
            "files_checked": report.files_checked,
            "files_same": report.files_same,
            "files_changed_since": report.files_changed_since,
            "files_damaged": report.files_damaged,
            "bytes_read": report.bytes_read,
            "segments_checked": report.segments_checked,
            "segments_damaged": [
                {"segment": d.segment.hex(), "reason": d.reason} for d in report.segments_damaged
            ],
            "damaged": [shown_path(p) for p in report.damaged],
            "unreadable": [{"path": shown_path(u.path), "reason": u.reason} for u in report.unreadable],
            "onsite": rows,
        },
        f"Checked {report.files_checked} files: {report.files_same} same, {report.files_changed_since} changed since, "
        f"{report.files_damaged} damaged; opened {report.segments_checked} segments, "
        f"{len(report.segments_damaged)} damaged." + "".join(f"\n{line}" for line in lines),
    )
    if report.files_damaged or report.segments_damaged or any(one.damaged for one in checked):
        return 1
    return 3 if report.unreadable or not all(one.same for one in checked) else 0
