"""Make a segment's rows from what the local catalog holds and the bucket does not."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..assets import utc_time
from ..compressed import decompress_graphs
from ..recipes import whole_recipes
from ..rows import full_key, path_of_row
from ..schema import HAS_PROMPT, HAS_WORKFLOW, SEED_OFFSET
from ..thumbnails.maker import MAX_THUMBNAIL_BYTES
from ..thumbnails.thumbnails import PicturedAsset, Thumbnails
from .fields import DEL, MAX_LIST, PUT, SET
from .names import CatalogFolder
from .packs import MAX_GRAPHS_BYTES, MAX_PACK_BYTES, PackBuilder, zip_graphs
from .segment import MAX_ROW_BYTES, row_line
from .tables import DELETIONS, EDITS, PUTS, WRITABLE, packed_of

MAX_ROWS = 1000
_MAX_PUT_BYTES = MAX_ROW_BYTES - 1024  # without the pack's name
# In the long fields of all puts of a segment: readers refuse one of more than 64 MiB.
_MAX_CHARACTERS = 16_000_000
# What is left out of a put of more than _MAX_PUT_BYTES, in this order.
_LONG_FIELDS = ("texts", "input_images", "model_names", "loras", "models", "negative_prompt", "prompt")
_MAX_NOTE = 20_000
_COLUMNS = (
    "a.uuid, a.id, f.text AS folder, a.name, a.path, a.size, a.created, a.archived, a.sha256, mime.text AS mime,"
    " machine.text AS machine, session.text AS session, job.text AS job, a.width, a.height, a.duration, a.recipe,"
    " a.seed, a.has, a.reader, a.kind"
)
_JOINS = (
    " JOIN folders f ON f.id = a.folder LEFT JOIN words mime ON mime.id = a.mime"
    " LEFT JOIN words machine ON machine.id = a.machine LEFT JOIN words session ON session.id = a.session"
    " LEFT JOIN words job ON job.id = a.job"
)


class Unwritten(NamedTuple):
    """One row of `bucket_unwritten`."""

    id: int
    identity: bytes
    kind: int
    field: str


@dataclass(slots=True)
class Batch:
    """What becomes one segment and its pack.

    Attributes:
        taken: what leaves `bucket_unwritten` once the segment is proven.
        outside: what belongs into the catalog of another `S3_PREFIX`.
        packed: by the id of a put's asset: its row of `assets`, and its graphs and thumbnail, as (offset, length).
        characters: how many the long fields of the puts have.
    """

    taken: list[Unwritten] = field(default_factory=list)
    outside: list[Unwritten] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    packed: dict[bytes, tuple[int, tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    pack: PackBuilder = field(default_factory=PackBuilder)
    characters: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the next put may not fit."""
        pack_bytes = self.pack.size_bytes
        return (
            pack_bytes > MAX_PACK_BYTES - MAX_GRAPHS_BYTES - MAX_THUMBNAIL_BYTES
            or self.characters > _MAX_CHARACTERS
        )


def next_unwritten(db: sqlite3.Connection) -> list[Unwritten]:
    """Return the rows to write next, the oldest first, MAX_ROWS at most."""
    found = db.execute(
        f"SELECT id, uuid, kind, field FROM bucket_unwritten WHERE {WRITABLE} ORDER BY id LIMIT {MAX_ROWS}"
    )
    return [Unwritten(*row) for row in found]


def rows_to_requeue(db: sqlite3.Connection, folder: CatalogFolder) -> list[int]:
    """Return the ids of the rows that were set aside, but belong into the catalog in `folder`."""
    rows = db.execute("SELECT id, uuid, kind, field FROM bucket_unwritten WHERE id < 0 ORDER BY id DESC")
    return [one.id for one in map(Unwritten._make, rows) if _belongs(db, one, folder)]


def pictured_assets(db: sqlite3.Connection, identities: Sequence[bytes]) -> list[PicturedAsset]:
    """Return what is needed to make thumbnails of these assets, in no order; ids are 16 bytes each."""
    marks = ", ".join("?" * len(identities))
    found = []
    for identity, folder, name, path, size, created, sha256, kind in db.execute(
        "SELECT a.uuid, f.text, a.name, a.path, a.size, a.created, a.sha256, a.kind FROM assets a"
        f" JOIN folders f ON f.id = a.folder WHERE a.uuid IN ({marks})",
        identities,
    ):
        key = full_key(folder, name)
        found.append(PicturedAsset(identity, key, path_of_row(path, key), size, created, sha256, kind))
    return found


def pictured_asset(
    db: sqlite3.Connection, identity: uuid.UUID, folder: CatalogFolder
) -> PicturedAsset | None:
    """Return what is needed to make or fetch an asset's thumbnail; None: there is no such asset."""
    found = pictured_assets(db, [identity.bytes])
    packed = packed_of(db, identity)
    if not found or packed is None or not packed[2][1]:
        return found[0] if found else None
    return found[0]._replace(packed=(folder.key(packed[0]), *packed[2]))


def collect(
    db: sqlite3.Connection, folder: CatalogFolder, thumbnails: Thumbnails | None, *, keep_graphs: bool
) -> Batch:
    """Return the next batch for the catalog in `folder`; empty if everything is written."""
    batch = Batch()
    for one in next_unwritten(db):
        (batch.taken if _belongs(db, one, folder) else batch.outside).append(one)
    puts = [one.identity for one in batch.taken if one.kind == PUTS]
    known: dict[bytes, sqlite3.Row] = {}
    if puts:
        marks = ", ".join("?" * len(puts))
        named = db.cursor()
        named.row_factory = sqlite3.Row
        named.execute(f"SELECT {_COLUMNS} FROM assets a{_JOINS} WHERE a.uuid IN ({marks})", puts)
        known = {row["uuid"]: row for row in named}
    recipes = whole_recipes(db, (row["recipe"] for row in known.values() if row["recipe"] is not None))
    for place, one in enumerate(batch.taken):
        if batch.is_full:
            del batch.taken[place:]  # the rest goes into the next batch
            break
        if one.kind == PUTS and one.identity in known:
            _add_put(db, batch, known[one.identity], recipes, thumbnails, keep_graphs)
        elif one.kind == DELETIONS:
            batch.rows += _deletions(db, one.identity)
    batch.rows += _edits(db, [one for one in batch.taken if one.kind == EDITS])
    return batch


def _belongs(db: sqlite3.Connection, one: Unwritten, folder: CatalogFolder) -> bool:
    """Whether readers of this catalog accept the row: after a change of S3_PREFIX, rows of older files may be left."""
    if one.kind == DELETIONS:
        found = db.execute("SELECT key, '' FROM bucket_tombstones WHERE uuid = ?", (one.identity,)).fetchone()
    else:
        found = db.execute(
            "SELECT f.text, a.name FROM assets a JOIN folders f ON f.id = a.folder WHERE a.uuid = ?",
            (one.identity,),
        ).fetchone()
    return found is None or folder.holds_output(full_key(*found))


def _add_put(
    db: sqlite3.Connection,
    batch: Batch,
    row: sqlite3.Row,
    recipes: dict[int, dict[str, Any]],
    thumbnails: Thumbnails | None,
    keep_graphs: bool,
) -> None:
    made = _put_row(row, recipes.get(row["recipe"], {}))
    identity, asset = row["uuid"], row["id"]
    graphs, thumbnail = (0, 0), (0, 0)
    if keep_graphs:
        stored = db.execute("SELECT data FROM graphs WHERE asset = ?", (asset,)).fetchone()
        if stored is not None:
            graphs = batch.pack.add(zip_graphs(*decompress_graphs(stored[0])))
    if thumbnails is not None:
        one = PicturedAsset(
            identity, made["key"], made["path"], row["size"], row["created"], row["sha256"], row["kind"]
        )
        thumbnail = batch.pack.add(thumbnails.cached(one) or b"")
    made |= {
        "graphs_offset": graphs[0] if graphs[1] else None,
        "graphs_length": graphs[1] or None,
        "thumbnail_offset": thumbnail[0] if thumbnail[1] else None,
        "thumbnail_length": thumbnail[1] or None,
    }
    if graphs[1] or thumbnail[1]:
        batch.packed[identity] = (asset, graphs, thumbnail)
    batch.characters += _shorten(made)
    batch.rows.append(made)


def _put_row(row: sqlite3.Row, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a put without its place in a pack."""
    key = full_key(row["folder"], row["name"])
    seed, has = row["seed"], row["has"]
    return {
        "op": PUT,
        "clock": row["archived"],
        "machine": row["machine"],
        "key": key,
        "path": path_of_row(row["path"], key),
        "size": row["size"],
        "mime_type": row["mime"],
        "sha256": row["sha256"].hex() if row["sha256"] else None,
        "created_at": utc_time(row["created"]),
        "mtime_ns": row["created"],
        "session_id": row["session"],
        "job_id": row["job"],
        "width": row["width"],
        "height": row["height"],
        "duration_seconds": row["duration"],
        "prompt": recipe.get("prompt"),
        "negative_prompt": recipe.get("negative_prompt"),
        "models": _short(recipe.get("models")),
        "loras": _short(recipe.get("loras")),
        "seed": None if seed is None else str(seed + SEED_OFFSET),
        "sampler": recipe.get("sampler"),
        "scheduler": recipe.get("scheduler"),
        "steps": recipe.get("steps"),
        "cfg": recipe.get("cfg"),
        "denoise": recipe.get("denoise"),
        "input_images": _short(recipe.get("input_images")),
        "source": recipe.get("source"),
        "confidence": recipe.get("confidence"),
        "texts": _short(recipe.get("texts")),
        "model_names": _short(recipe.get("model_names")),
        "has_workflow": bool(has & HAS_WORKFLOW),
        "has_prompt": bool(has & HAS_PROMPT),
        "reader": row["reader"],
    }


def _shorten(put: dict[str, Any]) -> int:
    """Leave out long fields until readers accept the row. Return how many characters they had."""
    characters = sum(len(str(put[name])) for name in _LONG_FIELDS if put[name])
    # A character takes six bytes at most, and the rest of a row is short, so most rows need not be encoded here.
    if characters < _MAX_PUT_BYTES // 8:
        return characters
    for name in _LONG_FIELDS:
        if len(row_line(put)) <= _MAX_PUT_BYTES:
            break
        put[name] = None
    return characters


def _short(values: list[Any] | None) -> list[Any] | None:
    return values[:MAX_LIST] if values else None


def _deletions(db: sqlite3.Connection, identity: bytes) -> list[dict[str, Any]]:
    found = db.execute("SELECT key, clock, machine FROM bucket_tombstones WHERE uuid = ?", (identity,))
    return [{"op": DEL, "clock": clock, "machine": machine, "key": key} for key, clock, machine in found]


def _edits(db: sqlite3.Connection, edits: Sequence[Unwritten]) -> list[dict[str, Any]]:
    """Return the edits as rows: those of one asset, by one machine, at one moment are one row."""
    rows: dict[tuple[bytes, float, str], dict[str, Any]] = {}
    for one in edits:
        found = db.execute(
            "SELECT e.value, e.clock, e.machine, f.text, a.name FROM edits e JOIN assets a ON a.uuid = e.uuid"
            " JOIN folders f ON f.id = a.folder WHERE e.uuid = ? AND e.field = ?",
            (one.identity, one.field),
        ).fetchone()
        if found is None:
            continue
        value, clock, machine, folder, name = found
        row = rows.setdefault(
            (one.identity, clock, machine),
            {"op": SET, "clock": clock, "machine": machine, "key": full_key(folder, name)},
        )
        if one.field.startswith("tag:"):
            row.setdefault("tags_added" if value else "tags_removed", []).append(one.field[4:])
        elif one.field == "note":
            row["note"] = str(value)[:_MAX_NOTE]
        else:
            row[one.field] = int(value) if one.field == "rating" else bool(value)
    return list(rows.values())
