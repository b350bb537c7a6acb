"""A repository folder in hand, opened read-only: it may be a copy on a read-only medium, and nothing in it is changed.

Where its catalog is missing or cannot be read, one is made from the packs in a temporary folder.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.store.errors import StoreError
from appliance.store.layout import Layout
from appliance.store.repository import Repository
from appliance.store.upkeep.rebuild import rebuild_catalog
from transport.errors import PilulierError

COPY: Final = "repository"
"""Where a copy on site has its repository, below the folder with its mark."""


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[tuple[Repository, list[str]]]:
    """The repository in `folder`, read-only, and what a rebuild of its catalog had to say (nothing if none was needed).

    StoreError where `folder` is no repository.
    """
    layout = Layout(folder)
    if not layout.packs.is_dir() and Layout(folder / COPY).packs.is_dir():
        folder, layout = folder / COPY, Layout(folder / COPY)
    if not layout.packs.is_dir():
        raise StoreError(f"{folder} is no repository: a folder that holds {layout.packs.name}/ and its catalog is one")
    try:
        repository = Repository.open(folder, read_only=True)
    except PilulierError as error:
        with tempfile.TemporaryDirectory(prefix="pilulier-catalog-") as place:
            catalog = Path(place, layout.catalog.name)
            found = rebuild_catalog(layout, catalog)
            with Repository.open(folder, read_only=True, catalog_at=catalog) as rebuilt:
                yield rebuilt, [f"the catalog was made anew from the packs ({error})", *found.differences]
        return
    with repository:
        yield repository, []
