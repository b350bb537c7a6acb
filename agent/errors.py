"""The agent's own errors, sorted by what the caller does about them.

A damaged setting is for a person to mend (usage), a refusal ends the command with exit code 4, a lost ledger
is rebuilt by the caller from the appliance's verified head and is never a reason to send everything again.
"""

from __future__ import annotations

from transport.errors import PilulierError, RefusedError, UsageError


class SettingsError(UsageError):
    """The agent's config.json is damaged or was written by another version; it is left as it is."""

    code = "settings"


class NotEnrolledError(UsageError):
    """This machine does not belong to an appliance yet."""

    code = "not-enrolled"


class SelectionError(UsageError):
    """A path or pattern of the selection makes no sense; the sentence names it."""

    code = "selection"


class BusyError(RefusedError):
    """Another backup or restore of this agent is running; the sentence names its process."""

    code = "busy"


class EmptySourceError(RefusedError):
    """An included folder is missing or empty where the last snapshot had files (an unmounted disk, perhaps)."""

    code = "empty-source"


class OtherDiskError(RefusedError):
    """A folder stands on another disk than before, and most of what it held is not there (a disk not mounted)."""

    code = "other-disk"


class LedgerLost(PilulierError):
    """The ledger cannot be read any more: rebuild it from the appliance's head, nothing is sent again."""

    code = "ledger-lost"


class LedgerError(PilulierError):
    """The disk or another process kept the ledger from being written (full, locked, failing); it is not damaged."""

    code = "ledger"


class BackupInterrupted(PilulierError):
    """The connection broke for too long; what was acknowledged is kept and the next backup goes on from there."""

    exit_code = 5
    code = "interrupted"


class HookFailed(PilulierError):
    """A before-hook without which there is to be no backup failed; the sentence names it."""

    code = "hook"


class VolumeError(PilulierError):
    """A disk could not be frozen; the sentence says why."""

    code = "volume"


class DatabaseError(PilulierError):
    """A database could not be dumped, looked at or put back; the sentence says what its programs said."""

    code = "database"
