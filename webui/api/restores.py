"""Restoring by the API: opened with a person's one-time code, listed, searched, downloaded, closed.

A token alone opens nothing: an account that may see the machine and a fresh code of its authenticator are needed, each
time. The key lives in a process of its own (`appliance.opening`) for a quarter of an hour at most, bound to this token
and this restore. Paths travel in bodies, never in addresses. Only where the machine's key is confided.
"""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from typing import Annotated, Final

from flask import Response
from msgspec import Meta

from appliance.control import acts, api_tokens, restores
from appliance.control.machines import Machine
from appliance.errors import ConflictError, EscrowLockedError, KeyModeError, NotFoundError
from appliance.opening import words
from appliance.opening.clients import Opened, OpeningError, TooManyDownloadsError, beginning
from appliance.opening.clients import download as archive_of
from appliance.store.errors import UnknownItemError
from transport.errors import UsageError
from webui import context, problems
from webui.api import cursors
from webui.api.machines import of_id
from webui.api.nouns import Answer, Asked, Cursor, Email, Number, moment
from webui.api.operations import operation

log = logging.getLogger("pilulier.web")
GROUP: Final = "Restores"
RESTORE: Final = api_tokens.Permission.RESTORE
FORMS: Final = {"zip": "application/zip", "tar": "application/x-tar"}
ENTRIES: Final = 1000
_WAIT_S: Final = 60

Path = Annotated[str, Meta(max_length=16_384)]
EntryId = Annotated[str, Meta(pattern="^([0-9a-f]{16})?$")]


class RestoreWanted(Asked, frozen=True, kw_only=True):
    """Whose code it is, and the code: six digits, good once."""

    account: Email
    code: Annotated[str, Meta(min_length=6, max_length=10)]


class RestoreSnapshot(Answer, frozen=True, kw_only=True):
    """A snapshot that can be read."""

    number: int
    received_at: datetime
    complete: bool
    entries: int


class Restore(Answer, frozen=True, kw_only=True):
    """An open restore, and what can be read, oldest first. It closes by itself at `closes_at`."""

    id: str
    machine_id: str
    closes_at: datetime
    snapshots: list[RestoreSnapshot]


class FolderWanted(Asked, frozen=True, kw_only=True):
    """A folder of a snapshot, by its path, or by the `id` of an entry where a name is not text; the top for neither."""

    snapshot: Number
    path: Path = "/"
    id: EntryId = ""
    cursor: Cursor | None = None


class SearchWanted(Asked, frozen=True, kw_only=True):
    """Entries whose name holds a text, whatever its case."""

    snapshot: Number
    text: Annotated[str, Meta(min_length=1, max_length=200)]


class ArchiveWanted(Asked, frozen=True, kw_only=True):
    """What to download, folders with all below: paths, or ids of entries, or both."""

    snapshot: Number
    paths: Annotated[list[Path], Meta(max_length=1000)] = []
    ids: Annotated[list[Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]], Meta(max_length=1000)] = []
    form: Annotated[str, Meta(pattern="^(zip|tar)$")] = "zip"


class FileEntry(Answer, frozen=True, kw_only=True):
    """One entry. `kind`: file, folder, link or other; `id` names it for as long as the restore is open."""

    id: str
    path: str
    kind: str
    size_bytes: int
    modified_at: datetime | None


class FileEntries(Answer, frozen=True, kw_only=True):
    """Some entries by name; `more` where a search found more than it shows."""

    items: list[FileEntry]
    next: str | None
    more: bool


_KINDS: Final = {"f": "file", "d": "folder", "l": "link"}


def _session(restore: str) -> str:
    """The name under which an opener is kept: no web session has a colon in its id, and no token another's restore."""
    return f"api:{context.my_token().id}:{restore}"


def _open_one(machine: str, restore: str) -> tuple[Machine, Opened]:
    found = of_id(machine)
    opened = context.appliance().openers.find(_session(restore), found.id)
    if opened is None:
        raise NotFoundError("this restore is closed: open another")
    return found, opened


def _shown(restore: str, machine: Machine, opened: Opened) -> Restore:
    return Restore(
        id=restore,
        machine_id=machine.hex,
        closes_at=moment(context.now() + opened.seconds_left()),
        snapshots=[
            RestoreSnapshot(
                number=one.number,
                received_at=moment(one.received_ms / 1000),
                complete=one.complete,
                entries=one.entries,
            )
            for one in opened.snapshots
        ],
    )


@operation("POST", "/machines/<machine>/restores", "Open a restore", group=GROUP, needs_permission=RESTORE,
           body=RestoreWanted, answer=Restore, status=201, apart=True)  # fmt: skip
def open_restore(machine: str, body: RestoreWanted) -> Restore:
    """Needs the token and a person: an account that may see this machine, and a fresh code of its authenticator. It is
    written to the audit log and told by mail. A machine whose key is private is restored by its agent."""
    db, now = context.db(), context.now()
    found = of_id(machine)
    # Before the code, which works once.
    begin = beginning(context.home(), db, context.scope(), found)
    account = restores.verify_restore_code(db, body.account, body.code, found.id, now)
    restore = secrets.token_hex(8)
    try:
        opened = context.appliance().openers.open(_session(restore), found.id, begin)
    except OpeningError as error:
        log.error("machine %s: its backups do not open: %s", found.hex, error)
        if error.code == EscrowLockedError.code:
            raise ConflictError("the appliance's escrow key is locked: its operator must unlock it first") from None
        raise ConflictError("this machine's backups could not be opened here: restore with its agent") from None
    acts.note(db, context.actor(), "restore.open", found, now=now, after={"user": account.email})
    return _shown(restore, found, opened)


@operation("GET", "/machines/<machine>/restores/<restore>", "Show an open restore", group=GROUP,
           needs_permission=RESTORE, answer=Restore)  # fmt: skip
def show_restore(machine: str, restore: str) -> Restore:
    """Until when it is open, and the snapshots that can be read."""
    found, opened = _open_one(machine, restore)
    return _shown(restore, found, opened)


def _path(opened: Opened, text: str, entry: str) -> bytes:
    if entry:
        try:
            return opened.basket.path(entry)
        except UnknownItemError:
            raise UsageError(f"no entry of this restore has the id {entry}: list its folder again") from None
    path = "/" + "/".join(part for part in text.split("/") if part)
    return path.encode()


def _refused(error: OpeningError) -> Exception:
    """What an opener could not do, as the API says it."""
    if error.code == "opener":
        return NotFoundError("this restore is closed: open another")
    return UsageError("this snapshot holds no such path, or there is no such snapshot in this restore")


def _entry(opened: Opened, one: words.Entry) -> FileEntry:
    return FileEntry(
        id=opened.basket.token(one.path),
        path=one.path.decode("utf-8", "replace"),
        kind=_KINDS.get(one.kind, "other"),
        size_bytes=one.size,
        modified_at=_modified(one.mtime_ns),
    )


def _modified(mtime_ns: int) -> datetime | None:
    """None for times that no calendar has: machines have such files."""
    try:
        return moment(mtime_ns / 1e9)
    except (OverflowError, ValueError, OSError):
        return None


@operation("POST", "/machines/<machine>/restores/<restore>/list", "List a folder", group=GROUP,
           needs_permission=RESTORE, body=FolderWanted, answer=FileEntries, apart=True)  # fmt: skip
def list_folder(machine: str, restore: str, body: FolderWanted) -> FileEntries:
    """The entries of a folder of a snapshot by name, a thousand at a time. A POST, since names of files are no matter
    for addresses, which are written down on the way."""
    _found, opened = _open_one(machine, restore)
    start = cursors.number("folder", body.cursor) or 0
    try:
        listing = opened.ask(words.ListFolder(body.snapshot, _path(opened, body.path, body.id)), words.Entries)
    except OpeningError as error:
        raise _refused(error) from None
    # A snapshot never changes: counting is as good as names here.
    ordered = sorted(listing.entries, key=lambda entry: entry.path)
    page = ordered[start : start + ENTRIES]
    end = start + len(page)
    return FileEntries(
        items=[_entry(opened, one) for one in page],
        next=cursors.encode("folder", str(end)) if end < len(ordered) else None,
        more=end < len(ordered) or listing.more,
    )


@operation("POST", "/machines/<machine>/restores/<restore>/search", "Search by name", group=GROUP,
           needs_permission=RESTORE, body=SearchWanted, answer=FileEntries, apart=True)  # fmt: skip
def search_entries(machine: str, restore: str, body: SearchWanted) -> FileEntries:
    """Up to 500 entries of a snapshot."""
    _found, opened = _open_one(machine, restore)
    try:
        answer = opened.ask(words.Search(body.snapshot, body.text), words.Entries)
    except OpeningError as error:
        raise _refused(error) from None
    return FileEntries(items=[_entry(opened, one) for one in answer.entries], next=None, more=answer.more)


@operation("POST", "/machines/<machine>/restores/<restore>/archive", "Download files", group=GROUP,
           needs_permission=RESTORE, body=ArchiveWanted, streams=tuple(FORMS.values()), apart=True)  # fmt: skip
def download_archive(machine: str, restore: str, body: ArchiveWanted) -> Response:
    """A zip with a manifest or a tar, as it streams: of any size. Where a file does not prove itself the connection
    ends without its last chunk, so that nobody takes a part for the whole."""
    found, opened = _open_one(machine, restore)
    paths = [_path(opened, text, "") for text in body.paths] + [_path(opened, "", one) for one in body.ids]
    if not paths:
        raise UsageError("nothing is to be downloaded: give paths or ids")
    db = context.db()
    try:
        measured = opened.ask(words.Measure(body.snapshot, paths), words.Measured)
    except OpeningError as error:
        raise _refused(error) from None
    if measured.missing:
        raise UsageError(f"this snapshot does not hold {len(measured.missing)} of these paths: list the folder")
    try:
        parts = archive_of(
            context.appliance().openers.downloads,
            beginning(context.home(), db, context.scope(), found),
            words.Archive(body.snapshot, paths, body.form, found.name),
        )
    except TooManyDownloadsError as error:
        return problems.problem(503, error.code, str(error), Retry_After=str(_WAIT_S))
    except (OpeningError, KeyModeError) as error:
        log.error("machine %s: no archive: %s", found.hex, error)
        raise ConflictError("this machine's backups could not be read: restore with its agent") from None
    told = {"snapshot": body.snapshot, "files": measured.files, "size": measured.size, "form": body.form}
    try:
        acts.note(db, context.actor(), "restore.download", found, now=context.now(), after=told)
    except BaseException:
        # Nobody will read it, and its slot would stay taken.
        parts.close()
        raise
    answer = Response(parts, mimetype=FORMS[body.form])
    answer.headers["Content-Disposition"] = f'attachment; filename="{found.hex[:12]}-{body.snapshot}.{body.form}"'
    return answer


@operation("DELETE", "/machines/<machine>/restores/<restore>", "Close a restore", group=GROUP,
           needs_permission=RESTORE, status=204, apart=True)  # fmt: skip
def close_restore(machine: str, restore: str) -> None:
    """Forget the key; a restore that has closed already is not found."""
    found = of_id(machine)
    if not context.appliance().openers.end(_session(restore), found.id):
        raise NotFoundError("this restore is closed already")
    acts.note(context.db(), context.actor(), "restore.close", found, now=context.now())
