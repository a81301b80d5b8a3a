"""Write assets: what is known of an archived object (`add_archived`), later how it was made (`store_descriptions`)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..text import clean_text
from ..upload.source import content_type
from .compressed import Reading, decompress_embedded
from .graph_facts import Embedded
from .identity import asset_id_bytes
from .lookup import searched_names
from .readers.facts import FileFacts
from .readers.read import READER_VERSION
from .recipes import in_pieces, load_facts, next_row, recipe_rows, rows_by_text
from .schema import KINDS, SEED_OFFSET

FIRST_RETRY_SECONDS = 60.0
_RETRY_SECONDS = (FIRST_RETRY_SECONDS, 600.0, 3600.0, 6 * 3600.0)  # see postpone_reading
_3D_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".fbx", ".usdz", ".splat")


class ArchivedObject(NamedTuple):
    """What is known of an object before it is read.

    Attributes:
        path: relative to the watched directory, with `/`.
        mtime_ns: of the file, in nanoseconds since 1970.
        archived_at: seconds since 1970.
        sha256: hexadecimal.
    """

    key: str
    path: str
    size_bytes: int
    mtime_ns: int
    archived_at: float
    sha256: str | None
    machine: str | None
    session_id: str | None


class AssetFile(NamedTuple):
    """Where an asset's file lies, and which version of it; `row`: in `assets`; the others: as in ArchivedObject."""

    row: int
    key: str
    path: str
    size_bytes: int
    mtime_ns: int
    archived_at: float
    machine: str | None = None

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


class _KnownAsset(NamedTuple):
    row: int
    archived_at: float
    sha256: bytes | None
    machine: int | None


def full_key(folder: str, name: str) -> str:
    return folder + name


def path_of_row(stored: int | str | bytes, key: str) -> str:
    """Return the path that `path` of an asset's row stands for."""
    if isinstance(stored, int):
        return key[-stored:]
    return os.fsdecode(stored) if isinstance(stored, bytes) else stored


def stored_path(path: str, key: str) -> int | str | bytes:
    """Return what `path` of an asset's row holds; see `path_of_row`."""
    if path and (key == path or key.endswith(f"/{path}")):
        return len(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def media_kind(mime_type: str, name: str) -> int:
    """Return a file's kind, for `type:`, as its place in KINDS."""
    top = mime_type.partition("/")[0]
    if top == "model" or name.lower().endswith(_3D_SUFFIXES):
        return KINDS.index("3d")
    return KINDS.index(top) if top in KINDS else 0


def add_archived(db: sqlite3.Connection, bucket: str, objects: Iterable[ArchivedObject]) -> list[int]:
    """Add archived objects as unread assets. A known asset is updated if its object was archived again since.

    Returns:
        The rows of those that the same machine archived again with the same bytes: they are not read again, but what
        the bucket's catalog holds of them is outdated.
    """
    newest: dict[bytes, ArchivedObject] = {}
    for one in objects:
        identity = asset_id_bytes(bucket, one.key)
        other = newest.get(identity)
        if other is None or other.archived_at < one.archived_at:
            newest[identity] = one
    known = _known_assets(db, list(newest))
    new = [item for item in newest.items() if item[0] not in known]
    replaced = [
        (asset, newest[identity])
        for identity, asset in known.items()
        if asset.archived_at < newest[identity].archived_at
    ]
    words = rows_by_text(db, "words", _words([one for _, one in new] + [one for _, one in replaced]))
    folders = rows_by_text(db, "folders", (folder_and_name(one.key)[0] for _, one in new))
    first = next_row(db, "assets")
    rows = range(first, first + len(new))
    insert_assets(db, [_new_row(identity, one, folders, words) for identity, one in new], rows)
    return [asset.row for asset, one in replaced if _replace(db, asset, one, words)]


def _known_assets(db: sqlite3.Connection, identities: Sequence[bytes]) -> dict[bytes, _KnownAsset]:
    known: dict[bytes, _KnownAsset] = {}
    for marks, piece in in_pieces(identities):
        for identity, *asset in db.execute(
            f"SELECT uuid, id, archived, sha256, machine FROM assets WHERE uuid IN ({marks})", piece
        ):
            known[identity] = _KnownAsset(*asset)
    return known


def _words(objects: Sequence[ArchivedObject]) -> set[str]:
    found = {content_type(one.key.rpartition("/")[2]) for one in objects}
    found |= {one.machine for one in objects if one.machine is not None}
    found |= {one.session_id for one in objects if one.session_id is not None}
    return set(map(clean_text, found))


_COLUMNS = ("path", "created", "archived", "size", "sha256", "machine", "session", "kind", "mime")
# How many of the first _COLUMNS change if the same bytes are archived again.
_SAME_MACHINE_COLUMNS = 3
_OTHER_MACHINE_COLUMNS = 2
_READING_COLUMNS = ("kind", "mime", "width", "height", "duration", "recipe", "seed", "has", "job", "reader")
_NOT_READ = (None, None, None, None, None, 0, None, 0)  # the values of _READING_COLUMNS without the type
INSERTED_COLUMNS = ("uuid", "folder", "name", *_COLUMNS[:-2], *_READING_COLUMNS)
_NAME, _PATH = INSERTED_COLUMNS.index("name"), INSERTED_COLUMNS.index("path")
_INSERT = f"INSERT INTO assets (id, {', '.join(INSERTED_COLUMNS)}) VALUES (?{', ?' * len(INSERTED_COLUMNS)})"
_INDEX_NAMES = "INSERT INTO name_index (rowid, text) VALUES (?, ?)"
# Takes the text that was indexed.
_FORGET_NAMES = "INSERT INTO name_index (name_index, rowid, text) VALUES ('delete', ?, ?)"


def insert_assets(db: sqlite3.Connection, new: Sequence[tuple[Any, ...]], rows: Sequence[int]) -> None:
    """Insert assets that the catalog lacks, as INSERTED_COLUMNS, in these rows, which are free."""
    db.executemany(_INSERT, [(row, *values) for row, values in zip(rows, new, strict=True)])
    names = [searched_names(values[_NAME], values[_PATH]) for values in new]
    db.executemany(_INDEX_NAMES, zip(rows, names, strict=True))
    for identity in _edited(db, [values[0] for values in new]):
        apply_edits(db, identity)


def _new_row(
    identity: bytes, one: ArchivedObject, folders: Mapping[str, int], words: Mapping[str, int]
) -> tuple[Any, ...]:
    folder, name = folder_and_name(one.key)
    return (
        identity,
        folders[folder],
        name,
        *_object_columns(one, words),
        *_type_columns(name, words),
        *_NOT_READ,
    )


def _object_columns(one: ArchivedObject, words: Mapping[str, int]) -> tuple[Any, ...]:
    """Return the values of _COLUMNS without the type."""
    return (
        stored_path(one.path, one.key),
        one.mtime_ns,
        one.archived_at,
        one.size_bytes,
        bytes.fromhex(one.sha256) if one.sha256 else None,
        None if one.machine is None else words[clean_text(one.machine)],
        None if one.session_id is None else words[clean_text(one.session_id)],
    )


def _type_columns(name: str, words: Mapping[str, int]) -> tuple[int, int]:
    mime_type = content_type(name)
    return media_kind(mime_type, name), words[clean_text(mime_type)]


def _reading_columns(
    db: sqlite3.Connection, readings: Sequence[tuple[str, Reading]]
) -> list[tuple[Any, ...]]:
    recipes = recipe_rows(db, [reading.found for _, reading in readings])
    types = [reading.found.mime_type or content_type(name) for name, reading in readings]
    texts = {*types, *(reading.job_id for _, reading in readings if reading.job_id is not None)}
    words = rows_by_text(db, "words", map(clean_text, texts))
    rows: list[tuple[Any, ...]] = []
    for (name, reading), recipe, mime_type in zip(readings, recipes, types, strict=True):
        found = reading.found
        seed = stored_seed(found.seed)
        job = None if reading.job_id is None else words[clean_text(reading.job_id)]
        kind, mime = media_kind(mime_type, name), words[clean_text(mime_type)]
        size = (found.width, found.height, found.duration_seconds)
        rows.append((kind, mime, *size, recipe, seed, reading.has, job, READER_VERSION))
    return rows


def stored_seed(seed: int | None) -> int | None:
    """Return what `seed` of an asset's row holds. None: it is not known, or takes more than 64 bits."""
    return None if seed is None or not 0 <= seed < 1 << 64 else seed - SEED_OFFSET


def folder_and_name(key: str) -> tuple[str, str]:
    """Return what `folder` and `name` of an asset hold of its key."""
    folder, slash, name = clean_text(key).rpartition("/")
    return folder + slash, name


def _replace(
    db: sqlite3.Connection, asset: _KnownAsset, one: ArchivedObject, words: Mapping[str, int]
) -> bool:
    """Update an asset whose object was archived again. Return whether the same machine archived the same bytes.

    If another machine did, the time of archiving stays: it must be the one of the put that the bucket holds.
    """
    values = (*_object_columns(one, words), *_type_columns(one.key.rpartition("/")[2], words))
    same_bytes = asset.sha256 is not None and one.sha256 == asset.sha256.hex()
    is_ours = one.machine is not None and words[clean_text(one.machine)] == asset.machine
    count = len(_COLUMNS)
    if same_bytes:  # what was read of them stays true
        count = _SAME_MACHINE_COLUMNS if is_ours else _OTHER_MACHINE_COLUMNS
    setting = ", ".join(f"{name} = ?" for name in _COLUMNS[:count])
    unread = "" if same_bytes else ", reader = 0, tries = 0, next_try = NULL"
    name, path = db.execute("SELECT name, path FROM assets WHERE id = ?", (asset.row,)).fetchone()
    before, after = searched_names(name, path), searched_names(name, values[0])
    if before != after:
        db.execute(_FORGET_NAMES, (asset.row, before))
        db.execute(_INDEX_NAMES, (asset.row, after))
    db.execute(f"UPDATE assets SET {setting}{unread} WHERE id = ?", (*values[:count], asset.row))
    if not same_bytes:
        from .bucket.tables import forget_overwritten

        db.execute("DELETE FROM graphs WHERE asset = ?", (asset.row,))
        forget_overwritten(db, asset.row)
    return same_bytes and is_ours


def _edited(db: sqlite3.Connection, identities: Sequence[bytes]) -> list[bytes]:
    found: list[bytes] = []
    if db.execute("SELECT 1 FROM edits LIMIT 1").fetchone() is None:
        return found
    for marks, piece in in_pieces(identities):
        rows = db.execute(f"SELECT DISTINCT uuid FROM edits WHERE uuid IN ({marks})", piece)
        found += (row[0] for row in rows)
    return found


def remove_assets(db: sqlite3.Connection, bucket: str, keys: Iterable[str]) -> None:
    """Remove the assets of objects that were deleted; their edits stay."""
    for key in keys:
        identity = asset_id_bytes(bucket, key)
        found = db.execute("SELECT id, name, path FROM assets WHERE uuid = ?", (identity,)).fetchone()
        if found is None:
            continue
        row, name, path = found
        db.execute(_FORGET_NAMES, (row, searched_names(name, path)))
        db.execute("DELETE FROM graphs WHERE asset = ?", (row,))
        db.execute("DELETE FROM assets WHERE id = ?", (row,))


_UNREAD = "reader = 0 AND (next_try IS NULL OR next_try <= ?)"


def mark_outdated_unread(db: sqlite3.Connection, machine: str | None = None) -> None:
    """Mark files as unread if an older reader version read them; `machine`: only those that this machine archived."""
    of_machine = "" if machine is None else " AND machine = (SELECT id FROM words WHERE text = ?)"
    values = (READER_VERSION,) if machine is None else (READER_VERSION, clean_text(machine))
    db.execute(f"UPDATE assets SET reader = 0 WHERE reader < ? AND reader > 0{of_machine}", values)


def unread_assets(db: sqlite3.Connection, now: float, limit: int) -> list[AssetFile]:
    """Return the next assets to read, the newest first, without those whose next try is later than `now`."""
    return list(_asset_files(db, f"{_UNREAD} ORDER BY a.id DESC LIMIT ?", (now, limit)))


def asset_file(db: sqlite3.Connection, identity: bytes) -> AssetFile | None:
    """Return where an asset's file lies; None: no asset has this id."""
    return next(_asset_files(db, "a.uuid = ?", (identity,)), None)


def _asset_files(db: sqlite3.Connection, condition: str, values: tuple[Any, ...]) -> Iterator[AssetFile]:
    for row, folder, name, path, *facts in db.execute(
        "SELECT a.id, f.text, a.name, a.path, a.size, a.created, a.archived, m.text FROM assets a"
        f" JOIN folders f ON f.id = a.folder LEFT JOIN words m ON m.id = a.machine WHERE {condition}",
        values,
    ):
        key = full_key(folder, name)
        yield AssetFile(row, key, path_of_row(path, key), *facts)


def rows_with_graphs(db: sqlite3.Connection, rows: Sequence[int]) -> set[int]:
    """Return those of the rows of `assets` whose graphs are stored."""
    found: set[int] = set()
    for marks, piece in in_pieces(rows):
        found.update(
            row for (row,) in db.execute(f"SELECT asset FROM graphs WHERE asset IN ({marks})", piece)
        )
    return found


def stored_reading(db: sqlite3.Connection, asset: AssetFile) -> tuple[FileFacts, Embedded, str | None] | None:
    """Return what an earlier reading stored: what the container said, the graphs, and where these were found.

    None: its graphs are not stored, or it was archived again meanwhile, so that the file must be read.
    """
    row = db.execute(
        "SELECT g.data, m.text, a.width, a.height, a.duration, r.facts FROM graphs g JOIN assets a ON a.id = g.asset"
        " JOIN words m ON m.id = a.mime LEFT JOIN recipes r ON r.id = a.recipe WHERE a.id = ? AND a.archived = ?",
        (asset.row, asset.archived_at),
    ).fetchone()
    if row is None:
        return None
    data, mime_type, width, height, duration, recipe = row
    origin = None if recipe is None else load_facts(recipe).source
    return FileFacts(origin or "", mime_type, width, height, duration), decompress_embedded(data), origin


def postpone_reading(db: sqlite3.Connection, row: int, now: float) -> None:
    """Postpone the next try of a file that can't be read now: by 1 minute, 10 minutes, 1 hour, then always 6 hours."""
    tries = db.execute("SELECT tries FROM assets WHERE id = ?", (row,)).fetchone()
    wait = _RETRY_SECONDS[min(tries[0] if tries else 0, len(_RETRY_SECONDS) - 1)]
    db.execute("UPDATE assets SET tries = tries + 1, next_try = ? WHERE id = ?", (now + wait, row))


def store_descriptions(db: sqlite3.Connection, assets: Sequence[tuple[AssetFile, Reading]]) -> None:
    """Store how files were made, and mark them as read, unless they were archived again meanwhile."""
    columns = _reading_columns(db, [(asset.name, reading) for asset, reading in assets])
    setting = ", ".join(f"{name} = ?" for name in _READING_COLUMNS)
    rows = [
        (*values, asset.row, asset.archived_at) for (asset, _), values in zip(assets, columns, strict=True)
    ]
    db.executemany(
        f"UPDATE assets SET {setting}, tries = 0, next_try = NULL WHERE id = ? AND archived = ?", rows
    )
    kept = [
        (reading.graphs, asset.row, asset.archived_at)
        for asset, reading in assets
        if reading.graphs is not None
    ]
    dropped = [(asset.row, asset.archived_at) for asset, reading in assets if reading.graphs is None]
    db.executemany(
        "INSERT OR REPLACE INTO graphs SELECT id, ? FROM assets WHERE id = ? AND archived = ?", kept
    )
    db.executemany(
        "DELETE FROM graphs WHERE asset = (SELECT id FROM assets WHERE id = ? AND archived = ?)", dropped
    )


def store_edit(
    db: sqlite3.Connection, identity: bytes, field: str, value: Any, clock: float, machine: str
) -> bool:
    """Store an edit unless a later one of the same field is known. Return whether it was stored.

    Args:
        field: `favorite`, `rating`, `note`, `hidden`, or `tag:NAME` (1: added, 0: removed).
        clock: seconds since 1970; of two edits at the same time the one with the greater machine name counts.
    """
    return (
        db.execute(
            "INSERT INTO edits VALUES (?, ?, ?, ?, ?) ON CONFLICT (uuid, field) DO UPDATE SET value = excluded.value,"
            " clock = excluded.clock, machine = excluded.machine"
            " WHERE (excluded.clock, excluded.machine) >= (clock, machine)",
            (identity, field, value, clock, machine),
        ).rowcount
        > 0
    )


def apply_edits(db: sqlite3.Connection, identity: bytes) -> None:
    """Set `hidden`, `favorite` and `rating` of an asset's row to what its edits say."""
    edits = dict(
        db.execute(
            "SELECT field, value FROM edits WHERE uuid = ? AND field IN ('hidden', 'favorite', 'rating')",
            (identity,),
        ).fetchall()
    )
    if edits:
        setting = ", ".join(f"{field} = ?" for field in edits)
        db.execute(f"UPDATE assets SET {setting} WHERE uuid = ?", (*edits.values(), identity))
