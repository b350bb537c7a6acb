"""The attacks of tests.support.hostile_load, as heavy as they get: peak memory of the service, and whether it served.

    python -m tests.sweeps.load --scale 16

Prints one row for each attack; returns 1 where an honest machine was not served or the peak passed 512 MB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from tests.support.hostile_load import ATTACKS, Witness, survive
from tests.support.processes import House, ProcessError
from transport.errors import PilulierError


def main() -> int:
    """Attack and print."""
    parser = argparse.ArgumentParser(description="Hostile load on a real appliance.")
    parser.add_argument("--scale", type=int, default=16, help="times what `make test` does (17: 10^6 tiny entries)")
    parser.add_argument("--only", help="one attack by name")
    given = parser.parse_args()
    losses = attacks = 0
    with tempfile.TemporaryDirectory(prefix="pilulier-load-") as name, House(Path(name) / "house") as house:
        witness = Witness(house, Path(name), accounts=len(ATTACKS))
        for attack in ATTACKS:
            if given.only not in (None, attack.__name__):
                continue
            attacks += 1
            try:
                seen = survive(house, witness, attack, given.scale)
                print(
                    f"{seen.name}: {seen.peak_bytes >> 20} MiB at the peak, {seen.log_lines} lines logged, "
                    f"{seen.seconds:.0f} s",
                    flush=True,
                )
            except (AssertionError, PilulierError, ProcessError) as error:
                losses += 1
                print(f"{attack.__name__}: LOSS {type(error).__name__}: {error}", flush=True)
                traceback.print_exc()
    print(f"load: {attacks} attacks at scale {given.scale}, losses {losses}")
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
