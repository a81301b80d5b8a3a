"""Add objects whose descriptions are known already."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..describe import Description
from ..rows import ArchivedObject, UnreadAsset, add_archived, asset_id, store_description
from ..schema import HAS_PROMPT, HAS_WORKFLOW


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of an asset: `has` is made of HAS_WORKFLOW and HAS_PROMPT."""

    found: Description
    has: int = 0
    graphs: bytes | None = None
    job_id: str | None = None


def add_described(
    db: sqlite3.Connection, bucket: str, objects: Sequence[tuple[ArchivedObject, Reading]]
) -> int:
    """Add objects that the catalog does not have, with what another machine has read of them."""
    for one, reading in objects:
        add_archived(db, bucket, [one])
        identity = asset_id(bucket, one.key).bytes
        (row,) = db.execute("SELECT id FROM assets WHERE uuid = ?", (identity,)).fetchone()
        found = replace(
            reading.found,
            workflow={} if reading.has & HAS_WORKFLOW else None,
            prompt_graph={} if reading.has & HAS_PROMPT else None,
        )
        asset = UnreadAsset(row, one.key, one.path, one.size_bytes, one.mtime_ns, one.archived_at)
        store_description(db, asset, found, reading.job_id, keep_graphs=False)
    return len(objects)
