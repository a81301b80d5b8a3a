"""Bring rows from the bucket into the local catalog. The order in which they come does not matter.

Of several puts the latest counts, edits are last-writer-wins by (clock, machine), and a tombstone removes the puts that
are not later than it. A rebuilt put, which has no machine, counts only if no other put and no tombstone is known.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from ...text import clean_text
from ..identity import asset_id_bytes
from ..jobs import job_id_of
from ..limits import MAX_TAG_CHARACTERS
from ..recipes import in_pieces, next_row
from ..rows import apply_edits, insert_assets, path_of_row, remove_assets, store_edit
from .described import described_assets
from .fields import DEL, PUT, SET
from .names import CatalogFolder, is_pack_name
from .segment import Decoded
from .tables import EDITS, PUTS, Packed, add_tombstone, set_packed

Row = dict[str, Any]
_MAX_PACK_OFFSET = 1 << 40


class Incoming:
    """Applies rows of segments; `bucket` is its name, a part of every id."""

    def __init__(self, bucket: str, folder: CatalogFolder) -> None:
        self._bucket = bucket
        self._folder = folder

    def apply(self, db: sqlite3.Connection, parts: Iterable[tuple[Sequence[Row], Decoded]]) -> None:
        """Apply rows of several files in one transaction; rows about keys outside the archive are skipped."""
        puts: dict[bytes, Row] = {}
        gone: list[tuple[bytes, Row]] = []
        edits: list[tuple[bytes, Row]] = []
        for rows, found in parts:
            for row in rows:
                key, op = row["key"], row["op"]
                if not self._folder.holds_output(key):
                    found.skip("a key lies outside the archive")
                    continue
                identity = asset_id_bytes(self._bucket, key)
                if op == PUT:
                    other = puts.get(identity)
                    if other is None or rank(other) < rank(row):
                        puts[identity] = row
                elif op == DEL:
                    gone.append((identity, row))
                elif op == SET:
                    edits.append((identity, row))
        self._apply_deletions(db, gone)
        self._apply_puts(db, puts)
        self._apply_edits(db, edits)

    def _apply_deletions(self, db: sqlite3.Connection, rows: Sequence[tuple[bytes, Row]]) -> None:
        for identity, row in rows:
            add_tombstone(db, identity, row["key"], row["clock"], _machine(row))
            put = db.execute("SELECT archived, machine FROM assets WHERE uuid = ?", (identity,)).fetchone()
            if put is not None and (put[0] <= row["clock"] or put[1] is None):
                self._remove(db, identity, row["key"])

    def _remove(self, db: sqlite3.Connection, identity: bytes, key: str) -> None:
        remove_assets(db, self._bucket, [key])
        db.execute("DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ?", (identity, PUTS))

    def _apply_puts(self, db: sqlite3.Connection, wanted: dict[bytes, Row]) -> None:
        packed: list[Packed] = []
        kept: dict[bytes, int] = {}  # an asset keeps its row, by which pages are sorted after time or name
        for identity, clock in _tombstones(db, list(wanted)):
            if wanted[identity]["clock"] <= clock or wanted[identity].get("machine") is None:
                del wanted[identity]
        for known in _known(db, list(wanted)):
            row = wanted[known.identity]
            if rank(row) > rank(known.facts) and not _waits_for_job(db, known, row):
                # The new put replaces all of the old one, even if the bytes are the same.
                self._remove(db, known.identity, row["key"])
                kept[known.identity] = known.asset
                continue
            del wanted[known.identity]
            if rank(row) == rank(known.facts):
                # The bucket holds it: it was written before this catalog was lost, or just now. As long as a put is
                # queued, the known pack is that of an earlier put.
                queued = db.execute(
                    "DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ?", (known.identity, PUTS)
                ).rowcount
                if queued or not known.is_packed:
                    packed += _packed(known.asset, row)
        free = count(max(next_row(db, "assets"), 1 + max(kept.values(), default=0)))
        assets = [kept.get(identity) or next(free) for identity in wanted]
        insert_assets(db, described_assets(db, wanted), assets)
        for asset, row in zip(assets, wanted.values(), strict=True):
            packed += _packed(asset, row)
        set_packed(db, packed)

    def _apply_edits(self, db: sqlite3.Connection, rows: Sequence[tuple[bytes, Row]]) -> None:
        for identity, row in rows:
            machine = _machine(row)
            for field, value in _edits(row).items():
                if store_edit(db, identity, field, value, float(row["clock"]), machine):
                    # The bucket holds this edit already, and the local one that it replaced is void.
                    db.execute(
                        "DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ? AND field = ?",
                        (identity, EDITS, field),
                    )
            apply_edits(db, identity)


def rank(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sort key of puts of one object: the greatest counts."""
    return (
        row.get("machine") is not None,
        row["clock"],
        row.get("reader") or 0,
        row.get("job_id") is not None,
        row.get("machine") or "",
    )


class Known(NamedTuple):
    """An asset that the local catalog holds; `facts`: for `rank`, and named as in a put; `path`: as it is stored."""

    identity: bytes
    asset: int
    is_packed: bool
    path: int | str | bytes
    mtime_ns: int
    facts: dict[str, Any]


def _waits_for_job(db: sqlite3.Connection, known: Known, row: Row) -> bool:
    """Return whether an asset will be read again because of a job that this put of the same file lacks."""
    return (
        known.facts["reader"] == 0
        and row.get("job_id") is None
        and (row["clock"], row.get("machine")) == (known.facts["clock"], known.facts["machine"])
        and job_id_of(db, path_of_row(known.path, row["key"]), known.mtime_ns) is not None
    )


def _known(db: sqlite3.Connection, identities: Sequence[bytes]) -> list[Known]:
    found = []
    for marks, piece in in_pieces(identities):
        for identity, asset, pack, path, mtime_ns, archived, reader, job, machine in db.execute(
            "SELECT a.uuid, a.id, p.pack, a.path, a.created, a.archived, a.reader, a.job, w.text FROM assets a"
            " LEFT JOIN words w ON w.id = a.machine LEFT JOIN bucket_packed p ON p.asset = a.id"
            f" WHERE a.uuid IN ({marks})",
            piece,
        ):
            facts = {
                "clock": archived,
                "reader": reader,
                "job_id": job,
                "machine": machine,
            }
            found.append(Known(identity, asset, pack is not None, path, mtime_ns, facts))
    return found


def _tombstones(db: sqlite3.Connection, identities: Sequence[bytes]) -> list[tuple[bytes, float]]:
    found: list[tuple[bytes, float]] = []
    if db.execute("SELECT 1 FROM bucket_tombstones LIMIT 1").fetchone() is None:
        return found
    for marks, piece in in_pieces(identities):
        found += db.execute(f"SELECT uuid, clock FROM bucket_tombstones WHERE uuid IN ({marks})", piece)
    return found


def _machine(row: dict[str, Any]) -> str:
    return clean_text(row.get("machine") or "")[:200]


def _packed(asset: int, row: Row) -> Iterator[Packed]:
    pack = row.get("pack")
    if pack is not None and is_pack_name(pack):
        graphs, thumbnail = _place(row, "graphs"), _place(row, "thumbnail")
        if graphs[1] or thumbnail[1]:
            yield Packed(asset, pack, graphs, thumbnail)


def _place(row: dict[str, Any], name: str) -> tuple[int, int]:
    offset, length = row.get(f"{name}_offset", 0), row.get(f"{name}_length", 0)
    is_possible = 0 <= offset < _MAX_PACK_OFFSET and 0 < length < _MAX_PACK_OFFSET
    return (offset, length) if is_possible else (0, 0)


def has_rating(row: Row) -> bool:
    """Return whether an edit has a rating that counts; one outside 0 to 5 is ignored."""
    rating: int = row.get("rating", -1)
    return 0 <= rating <= 5


def _edits(row: dict[str, Any]) -> dict[str, Any]:
    edits: dict[str, Any] = {}
    for field in ("favorite", "hidden"):
        if field in row:
            edits[field] = int(row[field])
    if has_rating(row):
        edits["rating"] = row["rating"]
    if "note" in row:
        edits["note"] = clean_text(row["note"])
    for name, value in (("tags_removed", 0), ("tags_added", 1)):
        for tag in row.get(name, ()):
            if tag and len(tag) <= MAX_TAG_CHARACTERS:
                edits[f"tag:{clean_text(tag)}"] = value
    return edits
