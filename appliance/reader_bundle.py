"""The standalone reader that goes into every export: one file of Python that opens a repository with its key alone.

Owns which modules go in: the agent's, without its local interface, the repository engine and `transport`, as they run
here. It needs Python and three wheels, which are named beside it, and neither a network nor this program. The same
sources give the same bytes.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from transport.errors import PilulierError

NAME: Final = "pilulier-reader.pyz"
NEEDS: Final = ("cryptography >= 48", "msgspec >= 0.20", "zstandard >= 0.23")
"""As setup.cfg has them; a test compares."""
_PARTS: Final = (
    ("transport", "*.py"),
    ("appliance", "__init__.py"),
    ("appliance", "store/**/*.py"),
    ("agent", "**/*.py"),
)
_LEFT_OUT: Final = ("agent/ui/",)
_MAIN: Final = "import sys\nfrom agent.commands_reader import main\nsys.exit(main())\n"
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def _sources() -> Iterator[tuple[str, Path]]:
    for package, pattern in _PARTS:
        # Read as files, never imported: the appliance knows nothing of the agent.
        found = importlib.util.find_spec(package)
        places = list(found.submodule_search_locations or []) if found is not None else []
        if not places:
            raise PilulierError(f"the package {package} is not installed here: no reader can be put into an export")
        top = Path(places[0])
        for path in sorted(top.glob(pattern)):
            name = f"{package}/{path.relative_to(top).as_posix()}"
            if not name.startswith(_LEFT_OUT):
                yield name, path


def reader() -> bytes:
    """The zipapp, some hundred kilobytes."""
    made = io.BytesIO()
    made.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", _DATE), _MAIN, zipfile.ZIP_DEFLATED)
        for name, path in _sources():
            archive.writestr(zipfile.ZipInfo(name, _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return made.getvalue()
