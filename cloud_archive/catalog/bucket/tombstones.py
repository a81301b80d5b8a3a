"""Write to the bucket's catalog that objects were deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ...config.settings import Settings
from ...store.base import ObjectStore
from .fields import DEL
from .names import MONTHS, SEGMENTS, CatalogFolder, new_names
from .objects import SEGMENT_TYPE, write_proven
from .outgoing import MAX_ROWS
from .segment import encode


def has_catalog(store: ObjectStore, folder: CatalogFolder) -> bool:
    """Return whether any machine has written a catalog to this folder. Raises StoreError."""
    kinds = (f"{folder.key(kind)}/" for kind in (SEGMENTS, MONTHS))
    return any(next(store.list(kind, limit=1), None) is not None for kind in kinds)


def record_deletions(settings: Settings, store: ObjectStore, deleted_at: Mapping[str, float]) -> None:
    """As `write_tombstones`, for the archive of these settings; no-op if no machine keeps a catalog there."""
    if not deleted_at:
        return
    folder = CatalogFolder.of(settings.prefix)
    if settings.catalog == "off" and not has_catalog(store, folder):  # other machines may keep one
        return
    write_tombstones(store, folder, settings.machine_name, deleted_at)


def write_tombstones(
    store: ObjectStore, folder: CatalogFolder, machine: str, deleted_at: Mapping[str, float]
) -> None:
    """Write segments that say that these objects were deleted.

    Args:
        deleted_at: when each key's deletion was requested, in seconds since 1970 by this machine's clock. A later put
            stays, because the file was archived again. Keys outside the archive's folder are left out.

    Raises:
        StoreError: the store refused or did not answer.
    """
    # Use the store's clock if it is ahead: this one may be behind that of the machine that wrote the put.
    ahead = max(0.0, store.clock_offset_seconds or 0.0)
    ours = [(key, moment + ahead) for key, moment in deleted_at.items() if folder.holds_output(key)]
    for first in range(0, len(ours), MAX_ROWS):
        rows = [
            {"op": DEL, "clock": clock, "machine": machine, "key": key}
            for key, clock in ours[first:][:MAX_ROWS]
        ]
        now = time.time()
        segment, _ = new_names(machine, now)
        write_proven(store, folder.key(segment), encode(rows, machine=machine, now=now), SEGMENT_TYPE)
