"""What a backup does about the appliance's care: damage is given back first, wishes are heeded as their files pass by.

Owns the answer to one session's list. Proofs and orders are `agent.mending`'s; what was found beyond mending becomes
the sender's `unsound`.
"""

from __future__ import annotations

from agent import mending
from agent.enrolling import Enrolled
from agent.entries import EntryWriter
from agent.ledger import Ledger
from agent.packing import Packer
from agent.report import Figures
from agent.scanner import Found
from agent.sending import Sender
from agent.signatures import Signatures
from agent.staging import Known
from agent.uploader import Uploader
from transport.commits import SignedCommit
from transport.names import VersionId


class Caretaker:
    """The care of one backup. One thread."""

    def __init__(
        self, machine: Enrolled, packer: Packer, signatures: Signatures, sender: Sender, entries: EntryWriter
    ) -> None:
        self._machine = machine
        self._packer = packer
        self._signatures = signatures
        self._sender = sender
        self._entries = entries
        self.wishes: dict[VersionId, list[tuple[int, int]]] = {}
        """Ranges that the appliance wishes to have in fresh segments, by version."""

    def take_care(self, head: SignedCommit | None, ledger: Ledger, uploader: Uploader, figures: Figures) -> None:
        """Give back what the appliance lost and this disk still has; remember what it wishes to have laid out anew."""
        care = mending.believable(uploader.care)
        if not care or head is None:
            return
        settings, sealer = self._machine.settings, self._machine.sealer()
        vault = mending.Vault(settings.vault, settings.machine, settings.installation, head.decoded().number)
        mender = mending.Mender(sealer, self._machine.keys.signing, uploader.put, vault, self._signatures)
        mended = mender.mend(care, ledger)
        self._sender.unsound = mended.unsound
        self.wishes = mending.wishes_of(care)
        figures.bytes_mended = mended.bytes_sent

    def lay_out_anew(self, path: bytes, found: Found, known: Known) -> None:
        """A wish of the appliance: the same content, of which some parts stand in fresh segments."""
        content_key = self._machine.sealer().keys.content
        made = mending.lay_out_anew(
            path, known, self.wishes[known.version_id], self._packer, self._signatures, content_key
        )
        if made is None:
            return
        version, sent = made
        self._sender.literal_bytes += sent
        self._entries.add(
            path,
            found,
            version,
            known.mac,
            known.size,
            known=known,
            signed=known.has_signature,
            settled=known.settled,
        )
