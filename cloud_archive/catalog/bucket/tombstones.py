"""Write to the bucket's catalog that objects were deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...store.base import ObjectStore
from .fields import DEL
from .names import CatalogFolder, new_names
from .objects import SEGMENT_TYPE, write_proven
from .outgoing import MAX_ROWS
from .segment import encode


def write_tombstones(
    store: ObjectStore, folder: CatalogFolder, machine: str, keys: Sequence[str], *, now: float | None = None
) -> int:
    """Write segments that say that these objects were deleted. Return how many segments.

    Keys outside the archive's folder are left out: the catalog holds no rows about them.

    Raises:
        StoreError: the store refused or did not answer.
    """
    at = time.time() if now is None else now
    # The later of this clock and the store's: it must not be earlier than a put by a machine whose clock is right.
    clock = at + max(0.0, store.clock_offset_seconds or 0.0)
    ours = [key for key in keys if folder.holds_output(key)]
    count = 0
    for first in range(0, len(ours), MAX_ROWS):
        rows = [
            {"op": DEL, "clock": clock, "machine": machine, "key": key} for key in ours[first:][:MAX_ROWS]
        ]
        segment, _ = new_names(machine, at)
        write_proven(store, folder.key(segment), encode(rows, machine=machine, now=at), SEGMENT_TYPE)
        count += 1
    return count
