"""The job that seals parcels: what was accepted by another machine of the contract is opened, sealed anew, spooled.

The opener holds key and plaintext, in its own process and memory; this one sees sealed chunks alone. Everything that
allowed the delivery is looked at again now, since days may have passed. Both machines' audit lines say what was opened
for whom; the contract's people hear of it as of any opening.
"""

from __future__ import annotations

import logging
from typing import Final

from appliance import escrow, spool
from appliance.control import acts, audit, crossings, deliveries, machine_keys, restores
from appliance.control.crossings import NotSealableError, Wanted, Why
from appliance.control.scope import EVERYTHING
from appliance.job_running import JobContext, JobReport
from appliance.opening import words
from appliance.opening.clients import beginning, sealed_chunks
from transport.errors import PilulierError
from transport.names import VaultId
from transport.parcels import Wrapping

log = logging.getLogger("pilulier.jobs")
ROUND: Final = 20
_OVERHEAD_BYTES: Final = 16 << 20
"""Beyond what was measured: frames and seals."""


def needed(context: JobContext) -> bool:
    """Whether something is to be sealed, or lies here that nobody will fetch."""
    return crossings.any_to_seal(context.db, context.now()) or bool(spool.waiting(context.home))


def make(context: JobContext) -> JobReport:
    """Seal what waits, take away what is over."""
    gone = 0
    for machine_id, number in spool.waiting(context.home):
        if not crossings.still_open(context.db, machine_id, number, context.now()):
            spool.remove(context.home, machine_id, number)
            gone += 1
    done = failed = 0
    for _ in range(ROUND):
        context.stopping.check()
        wanted = crossings.to_seal(context.db, context.now())
        if wanted is None:
            break
        held = machine_keys.find(context.db, EVERYTHING, wanted.source.id)
        if held is not None and held.escrow_key and escrow.is_locked(context.home, held.escrow_key):
            # It waits, with no line about an opening that was none.
            return JobReport(f"{done} parcels sealed, the rest waits for 'pilulier escrow unlock'", warnings=True)
        try:
            _seal(context, wanted)
        except NotSealableError as error:
            crossings.was_not_sealed(context.db, wanted, error.why)
            failed += 1
        except PilulierError as error:
            log.error("delivery %d to %s: %s", wanted.delivery.number, wanted.target.hex, error)
            crossings.was_not_sealed(context.db, wanted, Why.UNREADABLE)
            failed += 1
        else:
            done += 1
    return JobReport(f"{done} parcels sealed, {failed} not, {gone} taken away", warnings=bool(failed))


def _seal(context: JobContext, wanted: Wanted) -> None:
    home, db, delivery = context.home, context.db, wanted.delivery
    crossings.check(db, wanted, context.now())
    limit = delivery.size_bytes + delivery.size_bytes // 50 + delivery.files * 4096 + _OVERHEAD_BYTES
    spool.check_room(home, limit)
    begin = beginning(home, db, EVERYTHING, wanted.source)
    chosen = deliveries.chosen(db, wanted.target.id, delivery.number)
    question = words.Seal(
        snapshot=delivery.snapshot,
        ids=list(chosen.paths),
        above=list(chosen.above),
        machine=wanted.target.id,
        signing=wanted.target.signing_key,
        number=delivery.number,
        key=wanted.key,
        signature=wanted.signature,
    )
    _note_opening(context, wanted)
    with spool.ParcelFile(home, wanted.target.id, delivery.number, limit) as file:
        sealing, chunks = sealed_chunks(begin, question)
        try:
            for chunk in chunks:
                context.stopping.check()
                file.add(chunk)
        finally:
            chunks.close()
        file.keep()
        made = file.chunks
    if not crossings.was_sealed(db, wanted, Wrapping(sealing.envelope, VaultId(sealing.vault)), made):
        spool.remove(home, wanted.target.id, delivery.number)


def _note_opening(context: JobContext, wanted: Wanted) -> None:
    db, now, delivery = context.db, context.now(), wanted.delivery
    told = {
        "delivery": delivery.number,
        "user": delivery.sent_by,
        "from": wanted.source.name,
        "to": wanted.target.name,
        "snapshot": delivery.snapshot,
    }
    with db.write():
        for machine in (wanted.source, wanted.target):
            acts.note(db, audit.SYSTEM, "delivery.seal", machine, now=now, after=told)
        restores.record(db, delivery.sent_by, wanted.source.id, now)
