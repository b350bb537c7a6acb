"""Ledger and history brought together: the normal start of a backup, a lost ledger, a PC restored from an image.

Question: whose word counts when ledger and appliance disagree? **The signed history's.** A lost ledger is filled again
from the appliance's tree, whose every digest is checked up to the signature; local facts (inode, times of change,
signatures) are left unknown, so the next backup reads each file, finds its MAC unchanged and sends nothing.
An appliance that is behind the ledger is an alarm, never an excuse to start over. A head that neither knows is
somebody else's backup (a clone, or this PC before it was set back): that takes a person with a TOTP code.
"""

from __future__ import annotations

import dataclasses

from agent.client import ApplianceFailed, Client
from agent.enrolling import Enrolled, check_welcome
from agent.errors import LedgerLost
from agent.ledger import Ledger
from agent.metadata import metadata_digest
from agent.remote import RemoteSource
from agent.settings import save_settings
from agent.staging import Known
from transport import messages as m
from transport.commits import SignedCommit
from transport.errors import IntegrityError, RefusedError
from transport.keys import verify_commit
from transport.names import ROOT, InstallationId, random_id
from transport.signers import Signers
from transport.snapshot_reader import Node, SnapshotReader, choose_snapshot, verify_history
from transport.tree import EntryKind, FileType, Metadata


class HistoryElsewhere(RefusedError):
    """The history went on without this installation."""

    code = "stale-head"


def open_ledger(machine: Enrolled, client: Client, welcome: m.Welcome) -> Ledger:
    """The ledger, agreeing with the appliance's head; rebuilt where it was lost. Raises where a person must decide."""
    try:
        ledger = Ledger.open(machine.home)
    except LedgerLost:
        remove_ledger(machine)
        ledger = Ledger.open(machine.home)
    try:
        known = ledger.head()
        if welcome.head is not None and known is not None and welcome.head.hash() != known.hash():
            verify_commit(machine.keys.signing.public, welcome.head)  # not the one of a former installation: ours
        _settle_pending(ledger, welcome.head)
        _agree(machine, client, ledger, welcome.head)
    except BaseException:
        ledger.close()
        raise
    return ledger


def _settle_pending(ledger: Ledger, shown: SignedCommit | None) -> None:
    """A commit whose answer was lost: did it stand?"""
    pending = ledger.pending_commit()
    if pending is None:
        return
    if shown is not None and shown.hash() == pending.hash():
        ledger.apply()
    else:
        ledger.discard()


def _agree(machine: Enrolled, client: Client, ledger: Ledger, shown: SignedCommit | None) -> None:
    head = ledger.head()
    if head is None and shown is None:
        return
    if head is None:
        assert shown is not None
        if shown.decoded().installation != machine.settings.installation and not _took_over(machine, client, shown):
            raise _elsewhere(shown)
        rebuild(machine, client, ledger, shown)
        return
    number = head.decoded().number
    if shown is None or shown.decoded().number < number:
        raise IntegrityError(
            f"the appliance shows an older history (snapshot {shown.decoded().number if shown else 0}) than this "
            f"machine has seen (snapshot {number}): ask whoever runs it whether it was restored from its own backup"
        )
    if shown.hash() != head.hash():
        raise _elsewhere(shown)


def _took_over(machine: Enrolled, client: Client, shown: SignedCommit) -> bool:
    """Whether this installation followed the one that signed `shown`, and has made no snapshot of its own yet."""
    signed = RemoteSource(client).successions()
    if not signed:
        return False
    signers = Signers.of(None, signed)
    return signers.current == machine.keys.signing.public and signers.successions[-1].after == shown.decoded().number


def _elsewhere(shown: SignedCommit) -> HistoryElsewhere:
    return HistoryElsewhere(
        f"this machine's history went on elsewhere, to snapshot {shown.decoded().number}: if this PC was restored "
        "from an image, run pilulier-agent resync --account EMAIL --otp CODE; if it is a copy of another PC, remove "
        "the agent's home and enrol it as a machine of its own"
    )


def rebuild(machine: Enrolled, client: Client, ledger: Ledger, head: SignedCommit) -> None:
    """Fill the ledger from the verified tree of `head`; nothing local is assumed, nothing needs to be sent again."""
    source = RemoteSource(client)
    history = verify_history(
        source.commits(),
        machine.keys.signing.public,
        head,
        vault=machine.settings.vault,
        successions=source.successions(),
        approver=machine.settings.appliance.identity,
    )
    chosen = choose_snapshot(history, number=head.decoded().number, at_ms=None)
    reader = SnapshotReader(source, machine.sealer(), chosen)
    ledger.replace_all((_known(node) for node in reader.whole_tree()), head)


def _known(node: Node) -> Known:
    """A ledger row out of the appliance's tree: what only this PC could know is left unknown (zero)."""
    kind = EntryKind.FILE if node.type == FileType.FILE else EntryKind.FOLDER if node.is_folder else EntryKind.OTHER
    return Known(
        path_id=node.path_id,
        parent_id=node.parent.path_id if node.parent is not None else ROOT,
        name=node.name,
        kind=int(kind),
        type=node.type,
        size=node.size,
        mode=node.mode,
        mtime_ns=node.mtime_ns,
        ctime_ns=0,
        uid=node.uid,
        gid=node.gid,
        ino=0,
        target=node.target,
        link_group=node.link_group,
        version_id=node.version_id,
        mac=node.mac,
        token=node.token,
        metadata_digest=metadata_digest(_metadata(node)),
        has_signature=False,
        settled=False,
    )


def _metadata(node: Node) -> Metadata:
    return Metadata(
        name=node.name,
        type=node.type,
        mode=node.mode,
        mtime_ns=node.mtime_ns,
        uid=node.uid,
        gid=node.gid,
        user=node.user,
        group=node.group,
        mac=node.mac,
        target=node.target,
        link_group=node.link_group,
        xattrs=list(node.xattrs),
    )


def remove_ledger(machine: Enrolled) -> None:
    """Forget what was sent: a cache, made again from the appliance's head."""
    home = machine.home
    for database in (home.ledger, home.ledger.with_name("staging.db"), home.pending):
        for name in (database.name, database.name + "-journal"):
            database.with_name(name).unlink(missing_ok=True)


def after_drift(machine: Enrolled, error: ApplianceFailed) -> ApplianceFailed:
    """What is to be raised for a failure of the appliance; where the ledger drifted it is put aside."""
    if error.code != "drift":
        return error
    remove_ledger(machine)
    return ApplianceFailed(
        "drift",
        "this machine's ledger no longer agreed with the appliance and was put aside: run the backup again, it "
        "rebuilds the ledger from the last snapshot and sends only what changed",
    )


def resync(machine: Enrolled, account: str, code: str) -> int:
    """Continue the history on this PC after a TOTP code; returns the number of the head."""
    client = machine.client()
    try:
        check_welcome(machine, client.connect())
        installation = InstallationId(random_id())
        resynced = client.ask(m.ResyncOpen(account, code, installation), m.Resynced)
        save_settings(machine.home, dataclasses.replace(machine.settings, installation=installation))
        remove_ledger(machine)
        if resynced.head is None:
            return 0
        ledger = Ledger.open(machine.home)
        try:
            rebuild(machine, client, ledger, resynced.head)
        finally:
            ledger.close()
        return resynced.head.decoded().number
    finally:
        client.close()
