"""The errors of the wire and of sealed data, sorted by who must act.

Owns the root of every error tree in the house: an error's docstring is the operator's sentence, its
`exit_code` is what a console script returns for it (interfaces: 1 failed, 2 usage, 4 refused, 5 unreachable).
Knows nothing of sockets or files.
"""

from __future__ import annotations


class PilulierError(Exception):
    """Something went wrong that a sentence can explain."""

    exit_code: int = 1
    code: str = "failed"


class UsageError(PilulierError):
    """The command or its input is not of the expected form."""

    exit_code = 2
    code = "usage"


class RefusedError(PilulierError):
    """The appliance or a key said no: wrong key, TOTP code, revoked machine, paused contract, not allowed."""

    exit_code = 4
    code = "refused"


class UnreachableError(PilulierError):
    """The appliance did not answer."""

    exit_code = 5
    code = "unreachable"


class ProtocolError(PilulierError):
    """The peer said something that the protocol does not allow at this point."""

    code = "protocol"


class DecodeError(ProtocolError):
    """Bytes from outside are not what their header promises: short, long, unknown or trailing."""

    code = "decode"


class SealError(PilulierError):
    """A sealed record does not open: altered, moved from its place, or sealed under another key."""

    code = "seal"


class IntegrityError(PilulierError):
    """What the appliance shows contradicts a signed or authenticated statement: hidden, swapped or rolled back."""

    code = "integrity"


class DeltaBudgetError(PilulierError):
    """A delta ran past its time or literal budget; the file goes whole instead."""

    code = "delta-budget"


class LibrsyncError(PilulierError):
    """librsync is missing or reported a failure."""

    code = "librsync"


class KeyFileError(PilulierError):
    """A key file is missing, readable by others, or not a key."""

    exit_code = 4
    code = "key-file"
