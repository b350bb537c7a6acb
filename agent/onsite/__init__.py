"""Copies on site: second repositories of this machine on a NAS or external disks, written in the run of the backup.

Question: one ledger with a base per repository, or a ledger per copy? **Neither: a copy's own catalog is its ledger.**
The ledger and the catalog name every entry by the same token (SHA-256 over clear fields and sealed metadata), so the
root digest of a copy's newest commit says whether it stands where the ledger stands, and comparing tokens says what it
lacks where it does not. Nothing has to be remembered about a copy, so no crash between two files can make a memory
wrong, a disk that was away for a month is compared with what is now, and a foreign disk cannot be mistaken.

- A copy that is level gets what the appliance gets, byte for byte: one read of the source, one sealing.
- A copy that lags gets that too, as far as it holds the bases, and is then brought level: entries out of a local store
  of sealed entries (the appliance's list where that lacks one; it asks for no code), contents read from the disk once
  more. A content is taken under a version's id only where its MAC is that version's.
- Each copy has a commit chain of its own, signed for its own repository id. The tree under a commit is the appliance's,
  so equal roots are equal snapshots, which is how a restore finds the copy's snapshot for one of the appliance's.

A copy never ends, delays beyond a bound or changes the backup to the appliance: everything on a medium happens in a
thread of its own, and whoever waits for it waits only while it moves.
"""
