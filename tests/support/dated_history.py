"""A repository whose snapshots were received when a test says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.store.durable import Disk
from tests.appliance.store_builder import KEY, Client, make_repository

FILES = 200


class HastyDisk(Disk):
    """Promises nothing about power cuts, of which there is none while a history is written."""

    def sync(self, descriptor: int) -> None:
        """Not done."""

    def sync_folder(self, folder: Path) -> None:
        """Not done."""


def write_history(
    folder: Path,
    received_ms: Sequence[int],
    *,
    partial: frozenset[int] = frozenset(),
    storms: frozenset[int] = frozenset(),
    size_bytes: int = 100,
) -> Client:
    """Snapshots numbered from 1, one per moment: each changes one file of 200, those in `storms` nearly all.

    What is new in each is one content of `size_bytes` that does not compress.

    The first holds every file. The repository is closed again; the client still knows what each snapshot holds.
    """
    with make_repository(folder, HastyDisk()) as repository:
        with repository.maintaining() as catalog:
            catalog.connection.execute("PRAGMA synchronous = OFF")
        client = Client(repository)
        for number, at in enumerate(received_ms, 1):
            client.begin()
            names = range(FILES if number == 1 else FILES - 20 if number in storms else 1)
            version, items = client.whole(client.random.randbytes(size_bytes))
            client.stage(*items, client.entries(*[client.entry((b"file %d" % name,), version) for name in names]))
            signed = KEY.sign_commit(msgspec.structs.replace(client.record(), complete=number not in partial))
            assert repository.commit(client.next(), signed, received_ms=at, bytes_received=77) == number
            client.made(signed, number)
    return client
