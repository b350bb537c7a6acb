"""Ledger and history brought together: the normal start of a backup, a lost ledger, a PC restored from an image.

Question: whose word counts when ledger and appliance disagree? **The signed history's.** A ledger that is behind its own
signed head is filled again from the appliance's tree, whose every digest is checked up to the signature; local facts
(inode, times of change, signatures) are left unknown, so the next backup reads each file, finds its MAC unchanged and sends
nothing. An appliance that is behind the ledger is an alarm, never an excuse to start over. A head that neither knows is
somebody else's backup (a clone, or this PC before it was set back): that takes a person with a TOTP code.
"""

from __future__ import annotations

import dataclasses
import os

from agent.client import Client
from agent.enrolling import Enrolled, check_welcome
from agent.errors import LedgerLost
from agent.ledger import Ledger, Staged
from agent.remote import RemoteSource
from agent.settings import save_settings
from transport import messages as m
from transport.commits import SignedCommit
from transport.errors import IntegrityError, RefusedError
from transport.keys import verify_commit
from transport.names import InstallationId, random_id
from transport.snapshot_reader import SnapshotReader, choose_snapshot, verify_history


class HistoryElsewhere(RefusedError):
    """The history went on without this installation."""

    code = "stale-head"


def open_ledger(machine: Enrolled, client: Client, welcome: m.Welcome) -> Ledger:
    """The ledger, agreeing with the appliance's head; rebuilt where it was lost. Raises where a person must decide."""
    public = machine.keys.signing.public
    if welcome.head is not None:
        verify_commit(public, welcome.head)
    try:
        ledger = Ledger.open(machine.home)
    except LedgerLost:
        Ledger.remove(machine.home)
        ledger = Ledger.open(machine.home)
    try:
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
    head = ledger.head
    if head is None and shown is None:
        return
    if head is None:
        assert shown is not None
        if shown.decoded().installation != machine.settings.installation:
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


def _elsewhere(shown: SignedCommit) -> HistoryElsewhere:
    return HistoryElsewhere(
        f"this machine's history went on elsewhere, to snapshot {shown.decoded().number}: if this PC was restored "
        "from an image, run pilulier-agent resync --account EMAIL --otp CODE; if it is a copy of another PC, remove "
        "the agent's home and enrol it as a machine of its own"
    )


def rebuild(machine: Enrolled, client: Client, ledger: Ledger, head: SignedCommit) -> None:
    """Fill the ledger from the verified tree of `head`; nothing local is assumed, nothing needs to be sent again."""
    source = RemoteSource(client)
    history = verify_history(source.commits(), machine.keys.signing.public, head, vault=machine.settings.vault)
    reader = SnapshotReader(source, machine.sealer(), choose_snapshot(history, number=head.decoded().number, at_ms=None))
    ledger.replace_all(Staged.from_node(node) for node in reader.whole_tree())
    outcome = ledger.root_digest_after()
    if outcome.root != head.decoded().root:
        raise IntegrityError(
            f"the ledger rebuilt from snapshot {head.decoded().number} does not have its root: nothing was changed"
        )
    ledger.prepare(head)
    ledger.apply()


def resync(machine: Enrolled, account: str, code: str) -> int:
    """Continue the history on this PC after a TOTP code; returns the number of the head."""
    client = machine.client()
    try:
        check_welcome(machine, client.connect())
        installation = InstallationId(random_id())
        resynced = client.ask(m.ResyncOpen(account, code, installation), m.Resynced)
        save_settings(machine.home, dataclasses.replace(machine.settings, installation=installation))
        Ledger.remove(machine.home)
        for leftover in (machine.home.pending,):
            if leftover.exists():
                os.unlink(leftover)
        if resynced.head is None:
            return 0
        verify_commit(machine.keys.signing.public, resynced.head)
        ledger = Ledger.open(machine.home)
        try:
            rebuild(machine, client, ledger, resynced.head)
        finally:
            ledger.close()
        return resynced.head.decoded().number
    finally:
        client.close()
