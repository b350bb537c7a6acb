"""The appliance's own errors: what an operator, a person or a machine at the door is told.

Owns the stable codes that travel in `Refused` and the exit codes of `pilulier`. The repository engine keeps its
own tree of errors. Every message is one sentence that names the thing and says what to do.
"""

from __future__ import annotations

from transport.errors import PilulierError, RefusedError, UsageError


class NotFoundError(PilulierError):
    """Nothing here has this name or id, or it lies outside what the asker may see."""

    code = "not-found"


class ConflictError(PilulierError):
    """What is asked for clashes with what is already there."""

    code = "conflict"


class ControlDatabaseError(PilulierError):
    """The control database is missing, damaged, locked or of a newer version."""

    code = "control-database"


class HomeError(UsageError):
    """The home folder is not one, is only part of one, or its settings are damaged."""

    code = "home"


class AlreadyServingError(PilulierError):
    """Another `pilulier serve` holds this home."""

    code = "already-serving"


class EnrolCodeError(RefusedError):
    """The enrolment code is wrong, used or expired."""

    code = "enrol-code"


class MachineQuotaError(RefusedError):
    """The contract has as many machines as it may."""

    code = "machine-quota"


class KeyModeError(RefusedError):
    """A machine's key is to be kept in another way than its contract wants."""

    code = "key-mode"


class PausedError(RefusedError):
    """The contract is paused: no backup, no enrolment; restores go on."""

    code = "paused"


class OneTimeCodeError(RefusedError):
    """Account and one-time code do not open this machine's backups."""

    code = "one-time-code"


class LoginError(RefusedError):
    """Address and password open no account here, or the login took too long between its two steps."""

    code = "login"


class ThrottledError(RefusedError):
    """Too many wrong codes: nothing is checked for a while. `wait_s`: for how long; 0 where nobody said."""

    code = "throttled"

    def __init__(self, sentence: str, wait_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class EscrowLockedError(RefusedError):
    """The escrow key lies under an operator's passphrase, and nobody has unlocked it since the service started."""

    code = "escrow-locked"


class ExportError(PilulierError):
    """An export could not be written whole; nothing that looks finished is left."""

    code = "export"


class RemoteRefusedError(RefusedError):
    """The machine's owner does not let the appliance set or start anything on it."""

    code = "remote-refused"
