"""What the appliance is told of the copies: labels, ages and free space, never a path."""

from __future__ import annotations

import contextlib
from typing import Final, Literal, cast

from agent.client import Client
from agent.onsite.configured import OnSite
from agent.onsite.standing import CopyStanding, Standing, read_standing
from agent.settings import AgentHome, Settings
from transport import messages as m
from transport.errors import PilulierError
from transport.messages_onsite import COPIES_LIMIT, CopyTold

_ASK_S: Final = 20.0


def report_of(onsite: OnSite, standing: Standing) -> m.CopiesReport:
    """What is to be said now. Pure."""
    places = list(dict.fromkeys(place.path for place in onsite.copies))
    told = []
    for place in onsite.copies[:COPIES_LIMIT]:
        known = standing.copies.get(place.id, CopyStanding())
        told.append(
            CopyTold(
                copy=bytes.fromhex(place.id),
                name=place.name,
                place=places.index(place.path),
                state=cast(Literal["", "written", "not there", "behind", "failed"], known.state),
                written_ms=known.written_ms,
                free_bytes=known.free_bytes,
            )
        )
    return m.CopiesReport(told, onsite.warn_days)


def tell(home: AgentHome, settings: Settings, client: Client) -> None:
    """Tell the appliance, on a connection that is ready. That it does not hear is no reason to fail."""
    if settings.onsite.copies or home.copies.exists():
        with contextlib.suppress(PilulierError):
            client.ask(report_of(settings.onsite, read_standing(home)), m.Noted, _ASK_S)
