"""The local tables that note what the bucket holds and what it lacks."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..identity import asset_id_bytes
from ..rows import ArchivedObject

PUTS, EDITS, DELETIONS = 0, 1, 2
_MAX_COUNTED = 100_000
# Rows of `bucket_unwritten` that can be written: those that were not set aside (id < 0, see `set_aside`). The key of an
# edit is known once its asset is in this catalog.
WRITABLE = (
    f"id > 0 AND (kind != {EDITS} OR EXISTS (SELECT 1 FROM assets WHERE assets.uuid = bucket_unwritten.uuid))"
)


class Packed(NamedTuple):
    """Where an asset's graphs and thumbnail lie in a pack: (offset, length) each.

    Attributes:
        asset: its row in `assets`.
        pack: the name below the version's folder.
    """

    asset: int
    pack: str
    graphs: tuple[int, int]
    thumbnail: tuple[int, int]


_TABLES = (
    # What the bucket does not hold yet. A row that changes again gets a new id, so that it is written again.
    """CREATE TABLE bucket_unwritten (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid BLOB NOT NULL,
        kind INTEGER NOT NULL,        -- PUTS, EDITS, DELETIONS
        field TEXT NOT NULL,          -- of an edit
        since REAL NOT NULL,          -- seconds since 1970
        UNIQUE (uuid, kind, field)
    )""",
    """CREATE TABLE bucket_tombstones (
        uuid BLOB PRIMARY KEY,
        key TEXT NOT NULL,
        clock REAL NOT NULL,          -- seconds since 1970: puts that are not later are deleted
        machine TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE bucket_files (
        name TEXT PRIMARY KEY,        -- below the version's folder
        state TEXT NOT NULL,          -- read, replaced, damaged, newer
        rows INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        trouble TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX bucket_files_state ON bucket_files (state)",
    "CREATE TABLE bucket_packs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # Where an asset's graphs and thumbnail lie; 0 bytes: there are none.
    """CREATE TABLE bucket_packed (
        asset INTEGER PRIMARY KEY,
        pack INTEGER NOT NULL,
        graphs_offset INTEGER NOT NULL, graphs_length INTEGER NOT NULL,
        thumbnail_offset INTEGER NOT NULL, thumbnail_length INTEGER NOT NULL
    )""",
    """CREATE TRIGGER bucket_packed_removed AFTER DELETE ON assets BEGIN
        DELETE FROM bucket_packed WHERE asset = old.id;
    END""",
)


def create_bucket_tables(db: sqlite3.Connection) -> None:
    """Create the tables, in the caller's transaction."""
    for statement in _TABLES:
        db.execute(statement)


def queue_kept(db: sqlite3.Connection) -> None:
    """Queue every edit and deletion for writing, because a new catalog does not know which ones the bucket holds."""
    for kind, field, table in ((EDITS, "field", "edits"), (DELETIONS, "''", "bucket_tombstones")):
        db.execute(
            "INSERT OR IGNORE INTO bucket_unwritten (uuid, kind, field, since)"
            f" SELECT uuid, {kind}, {field}, ? FROM {table}",
            (time.time(),),
        )


def queue_puts(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Queue the assets in these rows for writing, if they were read, and their edits, which may have come first."""
    now = time.time()
    values = [(now, row) for row in rows]
    db.executemany(
        "INSERT OR REPLACE INTO bucket_unwritten (uuid, kind, field, since)"
        f" SELECT uuid, {PUTS}, '', ? FROM assets WHERE id = ? AND reader > 0",
        values,
    )
    db.executemany(
        "INSERT OR IGNORE INTO bucket_unwritten (uuid, kind, field, since)"
        f" SELECT e.uuid, {EDITS}, e.field, ? FROM assets a JOIN edits e ON e.uuid = a.uuid WHERE a.id = ?",
        values,
    )


def set_aside(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Take these rows of `bucket_unwritten` out of the queue: their ids become negative.

    Queries for rows that can be written then skip any number of them. A row that changes again is queued again.
    """
    _negate_ids(db, ids)


def requeue(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Queue these rows again, which were set aside; each gets its earlier id, which AUTOINCREMENT never gave again."""
    _negate_ids(db, ids)


def _negate_ids(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    db.executemany("UPDATE bucket_unwritten SET id = -id WHERE id = ?", [(one,) for one in ids])


def forget_overwritten(db: sqlite3.Connection, row: int) -> None:
    """Forget the pack and the queued put of the asset in this row of `assets`: both describe bytes that are gone."""
    db.execute("DELETE FROM bucket_packed WHERE asset = ?", (row,))
    db.execute(
        "DELETE FROM bucket_unwritten WHERE kind = ? AND uuid = (SELECT uuid FROM assets WHERE id = ?)",
        (PUTS, row),
    )


def queue_edits(db: sqlite3.Connection, identity: bytes, clock: float, machine: str) -> None:
    """Queue the edits that `machine` made at `clock`, in seconds since 1970, for writing."""
    db.execute(
        "INSERT OR REPLACE INTO bucket_unwritten (uuid, kind, field, since)"
        f" SELECT uuid, {EDITS}, field, ? FROM edits WHERE uuid = ? AND clock = ? AND machine = ?",
        (time.time(), identity, clock, machine),
    )


def queue_deletions(
    db: sqlite3.Connection, bucket: str, keys: Iterable[str], clock: float, machine: str
) -> None:
    """Queue the deletion of these objects for writing; call this before their assets are removed.

    Args:
        clock: seconds since 1970; if the put is later, its time is used instead.
    """
    for key in keys:
        identity = asset_id_bytes(bucket, key)
        put = db.execute("SELECT archived FROM assets WHERE uuid = ?", (identity,)).fetchone()
        at = max(clock, put[0]) if put else clock
        if add_tombstone(db, identity, key, at, machine):
            db.execute(
                "INSERT OR REPLACE INTO bucket_unwritten (uuid, kind, field, since) VALUES (?, ?, '', ?)",
                (identity, DELETIONS, time.time()),
            )
        db.execute("DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ?", (identity, PUTS))


def add_tombstone(db: sqlite3.Connection, identity: bytes, key: str, clock: float, machine: str) -> bool:
    """Keep the latest tombstone of an object. Return whether this one was kept."""
    return (
        db.execute(
            "INSERT INTO bucket_tombstones VALUES (?, ?, ?, ?) ON CONFLICT (uuid) DO UPDATE SET"
            " clock = excluded.clock, machine = excluded.machine"
            " WHERE (excluded.clock, excluded.machine) > (clock, machine)",
            (identity, key, clock, machine),
        ).rowcount
        > 0
    )


def without_deleted(
    db: sqlite3.Connection, bucket: str, objects: Sequence[ArchivedObject]
) -> Sequence[ArchivedObject]:
    """Return those of the objects that were archived after their last known deletion."""
    deleted_at = deletion_clocks(db, bucket, objects)
    return [one for one in objects if one.key not in deleted_at or deleted_at[one.key] < one.archived_at]


def deletion_clocks(
    db: sqlite3.Connection, bucket: str, objects: Iterable[ArchivedObject]
) -> dict[str, float]:
    """Return, by key, when each object was deleted last, in seconds since 1970; the others are left out."""
    found: dict[str, float] = {}
    if db.execute("SELECT 1 FROM bucket_tombstones LIMIT 1").fetchone() is None:
        return found
    for one in objects:
        identity = asset_id_bytes(bucket, one.key)
        row = db.execute("SELECT clock FROM bucket_tombstones WHERE uuid = ?", (identity,)).fetchone()
        if row is not None:
            found[one.key] = row[0]
    return found


def pack_rows(db: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the row of each pack; add those that are missing."""
    wanted = [(name,) for name in dict.fromkeys(names)]
    db.executemany("INSERT OR IGNORE INTO bucket_packs (name) VALUES (?)", wanted)
    find = "SELECT id FROM bucket_packs WHERE name = ?"
    return {values[0]: int(db.execute(find, values).fetchone()[0]) for values in wanted}


def set_packed(db: sqlite3.Connection, packed: Iterable[Packed]) -> None:
    found = list(packed)
    ids = pack_rows(db, (one.pack for one in found))
    db.executemany(
        "INSERT OR REPLACE INTO bucket_packed VALUES (?, ?, ?, ?, ?, ?)",
        [(one.asset, ids[one.pack], *one.graphs, *one.thumbnail) for one in found],
    )


def packed_of(
    db: sqlite3.Connection, identity: uuid.UUID
) -> tuple[str, tuple[int, int], tuple[int, int]] | None:
    """Return (pack, graphs, thumbnail) of an asset; None: the bucket holds neither."""
    found = db.execute(
        "SELECT n.name, p.graphs_offset, p.graphs_length, p.thumbnail_offset, p.thumbnail_length"
        " FROM assets a JOIN bucket_packed p ON p.asset = a.id JOIN bucket_packs n ON n.id = p.pack"
        " WHERE a.uuid = ?",
        (identity.bytes,),
    ).fetchone()
    return None if found is None else (found[0], (found[1], found[2]), (found[3], found[4]))


def unwritten_rows(db: sqlite3.Connection) -> int:
    """Return how many rows the bucket does not hold yet, up to 100,000."""
    found = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM bucket_unwritten WHERE {WRITABLE} LIMIT {_MAX_COUNTED})"
    )
    return int(found.fetchone()[0])
