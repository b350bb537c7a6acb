"""Making a new repository's files, and finding the state of existing ones when a writer opens them.

The catalog says how much of each pack was acknowledged. What a crash left behind that is cut; more than a crash can
leave means that the catalog is older than the packs, and then nothing is cut and the open refuses.
"""

from __future__ import annotations

from appliance.store.catalog import Catalog
from appliance.store.durable import AppendFile, Disk, disk_error, write_whole
from appliance.store.errors import DamagedRepositoryError
from appliance.store.layout import Layout, pack_name
from appliance.store.packs import Damage, Identity, PackWalk, PackWriter
from appliance.store.records import Kind, encode_head


def make_nursery(disk: Disk, layout: Layout, identity: Identity) -> None:
    """A whole empty repository beside its place; what an interrupted attempt left there is removed first."""
    nursery = Layout(layout.nursery)
    try:
        clear_nursery(disk, nursery)
        disk.make_folder(nursery.folder)
        disk.make_folder(nursery.packs)
    except OSError as error:
        raise disk_error(error, f"cannot make {nursery.folder}") from error
    header = identity.header(1)
    content = [encode_head(Kind.HEADER, [header]), header]
    write_whole(disk, nursery.pack(1), content)
    catalog = Catalog.create(disk, nursery.catalog, identity)
    try:
        with catalog.transaction():
            catalog.save_pack(1, sum(len(part) for part in content), 0)
    finally:
        catalog.close()
    try:
        disk.sync_folder(nursery.folder)
    except OSError as error:
        raise disk_error(error, f"cannot make {nursery.folder}") from error


def clear_nursery(disk: Disk, nursery: Layout) -> None:
    """Remove what an interrupted creation can have left; anything else there stops us with OSError."""
    if not nursery.folder.exists():
        return
    if nursery.packs.exists():
        for path in (nursery.pack(1), nursery.pack(1).with_name(nursery.pack(1).name + ".new")):
            disk.remove(path)
        disk.remove_folder(nursery.packs)
    for path in (nursery.catalog, nursery.catalog_journal):
        disk.remove(path)
    disk.remove_folder(nursery.folder)


def open_packs(disk: Disk, layout: Layout, catalog: Catalog) -> PackWriter:
    """The writer of the open pack, with unacknowledged tails cut; DamagedRepositoryError if the catalog is too old.

    A last pack that is shorter than the catalog knows is left as it is (`check` names what is lost) and a new pack
    is begun, so that later backups and all other restores go on.
    """
    known = {number: pack.size_bytes for number, pack in catalog.packs().items()}
    last = max(known, default=0)
    if not last:
        raise DamagedRepositoryError(f"{layout.catalog} knows no pack: keep the packs, rebuild the catalog")
    present = layout.pack_numbers()
    unknown = [number for number in present if number > last]
    if any(number > last + 1 for number in unknown):
        raise _too_old(layout)
    size = layout.pack(last).stat().st_size if last in present else 0
    commits = _commits_beyond(layout, last, known[last], size) if size > known[last] else 0
    for number in unknown:
        commits += _commits_beyond(layout, number, 0, layout.pack(number).stat().st_size)
    if commits > 1:
        raise _too_old(layout)
    for number in unknown:
        disk.remove(layout.pack(number))
    if size < known[last]:
        return _after_loss(disk, layout, catalog, last)
    if size > known[last]:
        file = AppendFile.resume(disk, layout.pack(last), known[last])
        file.close()
    return PackWriter(disk, layout, catalog.identity, last, known[last])


def _commits_beyond(layout: Layout, pack: int, start: int, size: int) -> int:
    """How many commits stand in the tail of a pack. A crash between fsync and catalog leaves one at most."""
    walk = PackWalk(layout.pack(pack), size, read_data=False, start=start)
    return sum(1 for step in walk if not isinstance(step, Damage) and step.kind == Kind.COMMIT)


def _too_old(layout: Layout) -> DamagedRepositoryError:
    return DamagedRepositoryError(
        f"{layout.catalog} is older than the packs beside it ({pack_name(layout.pack_numbers()[-1])} is the newest): "
        "nothing was changed; keep the packs, rebuild the catalog"
    )


def _after_loss(disk: Disk, layout: Layout, catalog: Catalog, last: int) -> PackWriter:
    writer = PackWriter(disk, layout, catalog.identity, last, catalog.packs()[last].size_bytes)
    group = writer.begin(roll=True)
    with catalog.transaction():
        writer.write(group)
        catalog.save_pack(group.pack, group.end, group.segment_bytes)
    writer.accept(group)
    return writer
