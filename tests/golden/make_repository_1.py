"""Made `repository-format-1`: a tiny repository as the code wrote it before catalogs of format 2.

It ran once, with the code of commit 5da8441 before everything else on the path, and is kept to say what is in there:

    PYTHONPATH=CHECKOUT-OF-5da8441 python tests/golden/make_repository_1.py tests/golden/repository-format-1

Three snapshots of three files (one of them paged, one moved, one gone again), and behind them a session that was
killed with a segment, a version and an entry staged. The repository of today never writes this format.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from appliance.store import catalog
from tests.appliance.store_builder import Client, make_repository
from transport.names import NO_VERSION


def main(target: Path) -> None:
    """Write the repository to `target`, which must not exist, and beside it what is in it, as JSON."""
    if catalog.FORMAT != 1:
        raise SystemExit("run this with the code of commit 5da8441: see above")
    client = Client(make_repository(target))
    client.begin()
    client.put_folders((b"docs",))
    small = client.put_file((b"docs", b"small"), b"small " * 50)
    client.put_file((b"gone",), b"gone " * 50)
    big, items = client.delta(NO_VERSION, [b"begin", 700_000, b"middle", 700_000, b"end"])
    client.stage(*items, client.entries(client.entry((b"docs", b"big"), big)))
    client.commit()
    client.begin()
    fresh, items = client.delta(big, [(0, 700_005), b"MIDDLE", (700_011, 700_003)])
    client.stage(*items, client.entries(client.entry((b"docs", b"big"), fresh)))
    client.stage(client.deaths(client.path(b"gone")))
    client.commit()
    client.begin()
    client.stage(client.deaths(client.path(b"docs", b"small")), client.entries(client.entry((b"moved",), small)))
    client.commit()
    client.begin(b"killed-session--")
    client.put_file((b"staged",), b"staged " * 50)
    client.repository.close()
    for name in ("writer.lock", "catalog.sqlite-journal"):
        (target / name).unlink(missing_ok=True)
    snapshots = {
        number: {path.hex(): [record.version_id.hex(), record.token().hex()] for path, record in entries.items()}
        for number, entries in client.committed.items()
        if number
    }
    contents = {version.hex(): hashlib.sha256(content).hexdigest() for version, content in client.contents.items()}
    held = [segment.hex() for segment in list(client.segments)[-1:]]
    document = {"snapshots": snapshots, "contents": contents, "held": held, "previous": client.previous.hex()}
    target.with_suffix(".json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    main(Path(sys.argv[1]))
