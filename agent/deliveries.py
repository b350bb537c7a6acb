"""Deliveries on this side: what somebody at the appliance sent here, shown, wanted or not, restored into quarantine.

Rules: nothing is restored before this machine's owner has said yes, here; what lands is this machine's own sealed and
signed history, so that the appliance chooses which of its files come back and neither what is in them nor where they
go. Another machine's files (`agent.parcel_receiving`) are the appliance's word, and shown as that. The folder is a new
one (`agent.receiving`), nothing is replaced, no link leads out, nothing is run. What is told back are counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from agent import journal, parcel_receiving, receiving
from agent.client import Client
from agent.enrolling import Enrolled, check_welcome
from agent.history import reader_for
from agent.ledger import last_head
from agent.pacing import for_restores
from agent.remote import RemoteSource
from agent.restore import RestoreProgress, RestoreReport, restore
from agent.settings import AgentHome
from transport import messages as m
from transport.errors import PilulierError, RefusedError, UnreachableError, UsageError
from transport.names import PathId
from transport.snapshot_reader import Node, SnapshotReader

NAMES_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Content:
    """What a delivery would bring: names of what was selected, as this machine's own backup has them.

    `everything` for a whole snapshot; `more` where only the first are named. `source` is another machine whose files
    these are: their names are sealed until they come.
    """

    names: tuple[bytes, ...]
    everything: bool
    more: bool
    source: str = ""


@dataclass(frozen=True, slots=True)
class Landed:
    """What a delivery became: the restore's report, and the folder in which all of it lies."""

    number: int
    folder: Path
    report: RestoreReport
    bytes_received: int
    reconnections: int


def offered(machine: Enrolled) -> list[m.Delivery]:
    """What waits for this machine or is under way, oldest first; asks the appliance."""
    with _connected(machine) as client:
        return receiving.ask(machine.home, client)


@contextlib.contextmanager
def _connected(machine: Enrolled) -> Iterator[Client]:
    client = machine.client()
    try:
        check_welcome(machine, client.connect())
        yield client
    finally:
        client.close()


def _find(home: AgentHome, client: Client, number: int) -> m.Delivery:
    for one in receiving.ask(home, client):
        if one.number == number:
            return one
    raise UsageError(f"there is no delivery {number} that waits here: pilulier-agent deliveries list shows them")


def content(machine: Enrolled, number: int) -> Content:
    """The names of what was selected, proved against this machine's history, before anybody says yes."""
    with _connected(machine) as client:
        offer = _find(machine.home, client, number)
        if offer.source:
            return Content((), everything=False, more=False, source=offer.source)
        selection = client.ask(m.SelectionQuery(number), m.DeliveredSelection)
        if not selection.paths:
            return Content((), everything=True, more=False)
        reader = reader_for(machine, RemoteSource(client), last_head(machine.home), offer.snapshot, None)
        found = _selected(reader, selection)
        return Content(
            tuple(sorted(node.path() for node in found))[:NAMES_SHOWN], False, len(selection.paths) > NAMES_SHOWN
        )


def _selected(reader: SnapshotReader, selection: m.DeliveredSelection) -> list[Node]:
    """The selected entries themselves, found by way of the folders above them."""
    wanted, above = set(map(PathId, selection.paths)), set(map(PathId, selection.above))
    found: list[Node] = []
    pending: list[Node | None] = [None]
    while pending and len(found) < len(wanted):
        for child in reader.children(pending.pop()):
            if child.path_id in wanted:
                found.append(child)
            elif child.is_folder and child.path_id in above:
                pending.append(child)
    return found


def refuse(machine: Enrolled, number: int) -> None:
    """The owner does not want it."""
    with _connected(machine) as client:
        _find(machine.home, client, number)
        client.ask(m.DeliveryAnswer(number, False), m.Noted)
    receiving.ended(machine.home, number)


def accept(
    machine: Enrolled,
    number: int,
    *,
    progress: Callable[[RestoreProgress], None] | None = None,
    now: Callable[[], datetime] = datetime.now,
) -> Landed:
    """The owner wants it: restore it into a folder of its own, and say what became of it.

    Whoever calls holds the home (`exclusive`). A delivery whose restore was cut goes on where it was. UsageError for a
    number that waits not, and what a restore raises; the appliance is told of a failure, without any name.
    """
    home = machine.home
    with _connected(machine) as client:
        offer = _find(home, client, number)
        if offer.source:
            parcel_receiving.answer(machine, client, offer)
        elif not offer.accepted:
            client.ask(m.DeliveryAnswer(number, True), m.Noted)
        source = RemoteSource(client)
        source.bucket = for_restores(home, machine.settings.limits)
        try:
            if offer.source:
                parcel = _sealed(machine, client, number, progress)
                place = receiving.folder_of(home, number, now().date().isoformat())
                source.open_delivery(number)
                report = parcel_receiving.land(machine, source, parcel, offer, place, progress)
            else:
                selection = client.ask(m.SelectionQuery(number), m.DeliveredSelection)
                place = receiving.folder_of(home, number, now().date().isoformat())
                source.open_delivery(number)
                report = restore(
                    source,
                    machine.sealer(),
                    machine.keys.signing.public,
                    witness=last_head(home),
                    target=bytes(place.path),
                    snapshot=offer.snapshot,
                    repository=machine.settings.machine,
                    approver=machine.settings.appliance.identity,
                    delivered=selection,
                    quarantine=place.identity,
                    progress=progress,
                )
        except PilulierError as error:
            _tell_failure(client, number, error)
            raise
        counts = (report.files + report.files_same, report.bytes, len(report.errors))
        source.say_delivered(m.DeliveryReport(number, "done", *counts, ""))
        receiving.ended(home, number)
        home.receiving_key(number).unlink(missing_ok=True)
        return Landed(number, place.path, report, client.channel.bytes_received, source.reconnections)


def _sealed(
    machine: Enrolled, client: Client, number: int, progress: Callable[[RestoreProgress], None] | None
) -> m.Parcel:
    """The parcel; where it could not be sealed, another yes asks for it with another key."""
    try:
        return parcel_receiving.wait(client, number, progress)
    except RefusedError:
        machine.home.receiving_key(number).unlink(missing_ok=True)
        raise


def _tell_failure(client: Client, number: int, error: PilulierError) -> None:
    """Best effort: a line that is broken says nothing, and the delivery may be begun again."""
    if isinstance(error, UnreachableError):
        return
    with contextlib.suppress(PilulierError):
        client.ask(m.DeliveryReport(number, "failed", 0, 0, 0, journal.reason_of(error)), m.Noted)
