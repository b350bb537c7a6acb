"""Who may sign what in a history: the key it began with, and the keys that followed.

Owns the walk along the successions of a repository. Each names the key before it, so that their order cannot be
changed and none left out in between; each stands behind a snapshot, so that a former key can sign nothing above it.
Needs no data key; must not know sockets, files or where successions are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transport.errors import IntegrityError
from transport.keys import verify_succession
from transport.names import NO_DIGEST, Digest
from transport.succession import SUCCESSIONS_LIMIT, SignedSuccession, Succession


@dataclass(frozen=True, slots=True)
class Signers:
    """The signing keys of one repository, in order."""

    founding: bytes
    """The key that signs from snapshot 1 on; the header of every pack names it."""
    successions: tuple[Succession, ...] = ()

    @classmethod
    def of(cls, founding: bytes | None, signed: Iterable[SignedSuccession]) -> Signers:
        """All of them, signatures and order checked; IntegrityError or DecodeError otherwise.

        `founding` None takes the key that the first succession follows.
        """
        found: Signers | None = None if founding is None else cls(founding)
        for one in signed:
            succession = verify_succession(one)
            found = (found or cls(succession.former)).followed_by(succession)
        if found is None:
            raise IntegrityError("this history does not say which key signs it")
        return found

    def followed_by(self, succession: Succession) -> Signers:
        """With one more; IntegrityError where it does not follow the ones before."""
        before = self.successions[-1] if self.successions else None
        number = len(self.successions) + 1
        if succession.number != number or number > SUCCESSIONS_LIMIT:
            raise IntegrityError(f"succession {succession.number} stands where {number} belongs")
        if succession.former != self.current:
            raise IntegrityError(f"succession {number} follows another signing key than the one in force")
        if succession.successor in self.keys:
            raise IntegrityError(f"succession {number} brings back a signing key that was followed by another one")
        if before is not None:
            if succession.after < before.after:
                raise IntegrityError(f"succession {number} stands before succession {before.number}")
            if (succession.vault, succession.repository) != (before.vault, before.repository):
                raise IntegrityError(f"succession {number} was made for another repository")
        return Signers(self.founding, (*self.successions, succession))

    @property
    def current(self) -> bytes:
        """The key that signs from now on."""
        return self.successions[-1].successor if self.successions else self.founding

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All of them, oldest first."""
        return (self.founding, *(succession.successor for succession in self.successions))

    def at(self, number: int) -> bytes:
        """The key that signs snapshot `number`."""
        key = self.founding
        for succession in self.successions:
            if succession.after >= number:
                break
            key = succession.successor
        return key

    def after(self, key: bytes) -> tuple[Succession, ...]:
        """The successions behind the one by which `key` came; IntegrityError where it is none of these keys."""
        if key not in self.keys:
            raise IntegrityError("this history is not signed by this machine, nor by one that it followed")
        return self.successions[self.keys.index(key) :]

    def check_place(self, number: int, commit_hash: Digest) -> None:
        """IntegrityError where a succession behind snapshot `number` (0: the beginning) names another commit."""
        for succession in self.successions:
            if succession.after == number and succession.head != (commit_hash if number else NO_DIGEST):
                raise IntegrityError(f"succession {succession.number} stands behind another snapshot {number}")
