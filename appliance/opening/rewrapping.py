"""A confided machine key, opened in a process of its own and wrapped anew to the agent that recovers the machine.

The key is in the memory of that process alone, never in the exchange's, in a file or in a log; what comes back is an
envelope that only the asking agent opens, bound to machine and vault as the one that is kept. `rewrap` is the
process's side (`appliance.opening.opener`), `rewrapped` that of whoever starts it.
"""

from __future__ import annotations

from pathlib import Path

from appliance import escrow
from appliance.opening import clients, words
from appliance.settings import Home
from transport.escrow import EscrowPublic, escrow_key_of, unwrap_confided, wrap_confided
from transport.names import RepositoryId, VaultId


def rewrap(question: words.Rewrap) -> words.Rewrapped:
    """Open and wrap; KeyFileError or SealError where one of the two cannot be."""
    machine, vault = RepositoryId(question.machine), VaultId(question.vault)
    key = escrow.private(Home.open(Path(question.home)), escrow_key_of(question.envelope))
    keyring = unwrap_confided(key, question.envelope, machine, vault)
    return words.Rewrapped(wrap_confided(EscrowPublic(question.wrap_to), keyring, machine, vault))


def rewrapped(home: Home, machine: RepositoryId, vault: VaultId, envelope: bytes, wrap_to: bytes) -> bytes:
    """The envelope for `wrap_to`, made by a process that ends with it; OpeningError with the reason otherwise."""
    question = words.Rewrap(str(home.root), machine, vault, envelope, wrap_to)
    return clients.ask_once(question, words.Rewrapped).envelope
