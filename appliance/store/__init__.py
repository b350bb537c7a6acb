"""The repository engine: one folder per machine, usable without a server or a control database.

`repository.Repository` is the way in; FORMAT.md beside this file describes every byte on disk.
"""

from __future__ import annotations

from appliance.store.repository import Repository, RepositoryStats
from appliance.store.upkeep.check import CheckError, CheckReport

__all__ = ["CheckError", "CheckReport", "Repository", "RepositoryStats"]
