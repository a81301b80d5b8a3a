"""Write assets: what the ledger says of an archived object, and what its file says of how it was made.

An asset is found by its name as soon as the ledger's row is copied (`add_archived`); it is read later, and storing
what was read (`store_description`) marks it as read in the same commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..upload.source import content_type
from .describe import Description
from .readers.read import READER_VERSION
from .schema import HAS_PROMPT, HAS_WORKFLOW, KINDS, LORA, MODEL, NAMED, SAMPLER, SEED_OFFSET

_MAX_TEXT_CHARACTERS = 20_000  # of all texts of a graph that are searched
_RETRY_SECONDS = (60.0, 600.0, 3600.0, 6 * 3600.0)  # until a file that could not be read is tried again
_3D_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".fbx", ".usdz", ".splat")


@dataclass(frozen=True, slots=True)
class ArchivedObject:
    """What is known of an object before it is read.

    Attributes:
        path: relative to the watched directory, with `/`.
        mtime_ns: of the file, in nanoseconds since 1970.
        archived_at: seconds since 1970.
        sha256: hexadecimal, or None where it is not known.
    """

    key: str
    path: str
    size_bytes: int
    mtime_ns: int
    archived_at: float
    sha256: str | None
    machine: str | None
    session_id: str | None


@dataclass(frozen=True, slots=True)
class UnreadAsset:
    """An asset that is to be read."""

    row: int
    key: str
    path: str
    size_bytes: int
    mtime_ns: int
    archived_at: float


def asset_id(bucket: str, key: str) -> uuid.UUID:
    """Return the asset's id: the same on every machine."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"s3://{bucket}/{key}")


def full_key(folder: str, name: str) -> str:
    """Return the key that `folder` and `name` make."""
    return folder + name


def path_of_row(stored: int | str | bytes, key: str) -> str:
    """Return the path that `path` of an asset's row stands for."""
    if isinstance(stored, int):
        return key[-stored:]
    return os.fsdecode(stored) if isinstance(stored, bytes) else stored


def _stored_path(path: str, key: str) -> int | str | bytes:
    if path and (key == path or key.endswith(f"/{path}")):
        return len(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def word_id(db: sqlite3.Connection, text: str | None, table: str = "words") -> int | None:
    """Return the id of a text that many rows share."""
    if text is None:
        return None
    text = clean_text(text)
    found = db.execute(f"SELECT id FROM {table} WHERE text = ?", (text,)).fetchone()
    if found is not None:
        return int(found[0])
    return db.execute(f"INSERT INTO {table} (text) VALUES (?)", (text,)).lastrowid


def clean_text(text: str) -> str:
    """Return `text` as SQLite takes it: without halves of UTF-16 pairs, and without NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def media_kind(mime_type: str, name: str) -> int:
    """Return what `type:` calls a file, as its place in KINDS."""
    top = mime_type.partition("/")[0]
    if top == "model" or name.lower().endswith(_3D_SUFFIXES):
        return KINDS.index("3d")
    return KINDS.index(top) if top in KINDS else 0


def add_archived(db: sqlite3.Connection, bucket: str, objects: Iterable[ArchivedObject]) -> int:
    """Add what was archived, to be read; an object that is known is updated where its bytes were replaced.

    Returns:
        How many are new or were replaced.
    """
    return sum(_add(db, bucket, one) for one in objects)


def _add(db: sqlite3.Connection, bucket: str, one: ArchivedObject) -> int:
    identity = asset_id(bucket, one.key).bytes
    digest = bytes.fromhex(one.sha256) if one.sha256 else None
    found = db.execute("SELECT id, archived, sha256 FROM assets WHERE uuid = ?", (identity,)).fetchone()
    if found is not None and found[1] >= one.archived_at:
        return 0
    folder, slash, name = one.key.rpartition("/")
    mime_type = content_type(name)
    values: dict[str, object] = {
        "path": _stored_path(one.path, one.key),
        "size": one.size_bytes,
        "created": one.mtime_ns,
        "archived": one.archived_at,
        "sha256": digest,
        "kind": media_kind(mime_type, name),
        "mime": word_id(db, mime_type),
        "machine": word_id(db, one.machine),
        "session": word_id(db, one.session_id),
    }
    if found is None:
        values |= {"uuid": identity, "folder": word_id(db, folder + slash, "folders"), "name": name}
        marks = ", ".join("?" * len(values))
        row = db.execute(
            f"INSERT INTO assets ({', '.join(values)}) VALUES ({marks})", (*values.values(),)
        ).lastrowid
        db.execute("INSERT INTO name_text (rowid, text) VALUES (?, ?)", (row, name))
        apply_edits(db, identity)
    else:
        same_bytes = digest is not None and found[2] == digest
        if same_bytes:  # what was read of them holds
            values = {name: values[name] for name in ("path", "created", "archived")}
        setting = ", ".join(f"{name} = ?" for name in values)
        unread = "" if same_bytes else ", reader = 0, tries = 0, next_try = NULL"
        db.execute(f"UPDATE assets SET {setting}{unread} WHERE id = ?", (*values.values(), found[0]))
    return 1


def remove_assets(db: sqlite3.Connection, bucket: str, keys: Iterable[str]) -> int:
    """Remove the assets of objects that were deleted; their edits stay. Returns how many there were."""
    count = 0
    for key in keys:
        identity = asset_id(bucket, key).bytes
        found = db.execute("SELECT id, name FROM assets WHERE uuid = ?", (identity,)).fetchone()
        if found is None:
            continue
        db.execute("INSERT INTO name_text (name_text, rowid, text) VALUES ('delete', ?, ?)", found)
        db.execute("DELETE FROM graphs WHERE asset = ?", found[:1])
        db.execute("DELETE FROM assets WHERE id = ?", found[:1])
        count += 1
    return count


_UNREAD = "reader = 0 AND (next_try IS NULL OR next_try <= ?)"


def forget_older_readers(db: sqlite3.Connection) -> None:
    """Have the files read again that an older reader has read."""
    db.execute("UPDATE assets SET reader = 0 WHERE reader < ? AND reader > 0", (READER_VERSION,))


def unread_assets(db: sqlite3.Connection, now: float, limit: int) -> list[UnreadAsset]:
    """Return the next assets to read, the newest first."""
    rows = db.execute(
        "SELECT a.id, f.text, a.name, a.path, a.size, a.created, a.archived FROM assets a"
        f" JOIN folders f ON f.id = a.folder WHERE {_UNREAD} ORDER BY a.id DESC LIMIT ?",
        (now, limit),
    )
    found = []
    for row, folder, name, path, *facts in rows:
        key = full_key(folder, name)
        found.append(UnreadAsset(row, key, path_of_row(path, key), *facts))
    return found


def postpone_reading(db: sqlite3.Connection, row: int, now: float) -> None:
    """Try a file that can't be read now again later: first after a minute, then less and less often."""
    tries = db.execute("SELECT tries FROM assets WHERE id = ?", (row,)).fetchone()
    wait = _RETRY_SECONDS[min(tries[0] if tries else 0, len(_RETRY_SECONDS) - 1)]
    db.execute("UPDATE assets SET tries = tries + 1, next_try = ? WHERE id = ?", (now + wait, row))


def store_description(
    db: sqlite3.Connection, asset: UnreadAsset, found: Description, job_id: str | None, *, keep_graphs: bool
) -> None:
    """Store how a file was made, and mark it as read; nothing where the object was replaced meanwhile."""
    has = HAS_WORKFLOW * found.has_workflow | HAS_PROMPT * found.has_prompt
    seed = None if found.seed is None or not 0 <= found.seed < 1 << 64 else found.seed - SEED_OFFSET
    name = asset.key.rpartition("/")[2]
    mime_type = found.mime_type or content_type(name)
    changed = db.execute(
        "UPDATE assets SET mime = ?, kind = ?, width = ?, height = ?, duration = ?, recipe = ?, seed = ?, has = ?,"
        " job = ?, reader = ?, tries = 0, next_try = NULL WHERE id = ? AND archived = ?",
        (
            word_id(db, mime_type),
            media_kind(mime_type, name),
            found.width,
            found.height,
            found.duration_seconds,
            _recipe(db, found),
            seed,
            has,
            word_id(db, job_id),
            READER_VERSION,
            asset.row,
            asset.archived_at,
        ),
    ).rowcount
    if not changed:
        return
    if keep_graphs and has:
        data = pack_graphs(found.prompt_graph, found.workflow)
        db.execute("INSERT OR REPLACE INTO graphs VALUES (?, ?)", (asset.row, data))
    else:
        db.execute("DELETE FROM graphs WHERE asset = ?", (asset.row,))


def pack_graphs(prompt: Any, workflow: Any) -> bytes:
    """Return both graphs, compressed."""
    return zlib.compress(json.dumps({"prompt": prompt, "workflow": workflow}).encode(), 6)


def unpack_graphs(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the prompt graph and the workflow that `pack_graphs` packed."""
    found = json.loads(zlib.decompress(data))
    return found["prompt"], found["workflow"]


def _recipe(db: sqlite3.Connection, found: Description) -> int | None:
    facts = found.metadata()
    prompt, negative = facts.pop("prompt"), facts.pop("negative_prompt")
    facts.pop("seed")
    texts = _other_texts(found)
    if not (prompt or negative or texts or any(facts.values())):
        return None
    content = json.dumps([prompt, negative, texts, facts])
    digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
    mark = int.from_bytes(digest, "big", signed=True)
    known = db.execute("SELECT id FROM recipes WHERE hash = ?", (mark,)).fetchone()
    if known is not None:
        return int(known[0])
    prompt, negative = (None if text is None else clean_text(text) for text in (prompt, negative))
    recipe = db.execute(
        "INSERT INTO recipes (hash, prompt, negative, texts, facts) VALUES (?, ?, ?, ?, ?)",
        (mark, prompt, negative, texts, json.dumps(facts)),
    ).lastrowid
    loras = [lora.name for lora in found.loras]
    searched = "\n".join(filter(None, (prompt, negative, texts, *found.models, *loras)))
    db.execute("INSERT INTO recipe_text (rowid, text) VALUES (?, ?)", (recipe, clean_text(searched)))
    named = [name for name in found.model_names if name not in found.models and name not in loras]
    words = {(MODEL, name) for name in found.models} | {(LORA, name) for name in loras}
    words |= {(NAMED, name) for name in named}
    if found.sampler:
        words.add((SAMPLER, found.sampler))
    for kind, word in sorted(words):
        db.execute(
            "INSERT OR IGNORE INTO recipe_words VALUES (?, ?, ?)", (kind, word_id(db, word[:500]), recipe)
        )
    return recipe


def _other_texts(found: Description) -> str | None:
    known = {found.prompt, found.negative_prompt, *found.models}
    texts = [text for text in dict.fromkeys((*found.texts, *found.model_names)) if text not in known]
    return clean_text("\n".join(texts))[:_MAX_TEXT_CHARACTERS] or None


def apply_edits(db: sqlite3.Connection, identity: bytes) -> None:
    """Bring an asset's columns to what the edits say."""
    edits = dict(
        db.execute(
            "SELECT field, value FROM edits WHERE uuid = ? AND field IN ('hidden', 'favorite', 'rating')",
            (identity,),
        ).fetchall()
    )
    if edits:
        setting = ", ".join(f"{field} = ?" for field in edits)
        db.execute(f"UPDATE assets SET {setting} WHERE uuid = ?", (*edits.values(), identity))
