"""Assets as users see them, and the edits that users make."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ..text import clean_text
from .recipes import in_pieces, load_facts, metadata_of, names_in_facts, texts_by_row
from .rows import apply_edits, full_key, path_of_row, store_edit
from .schema import HAS_PROMPT, HAS_WORKFLOW, SEED_OFFSET

_COLUMNS = (
    "a.id, a.uuid, f.text, a.name, a.path, a.size, a.created, a.sha256, mime.text, machine.text, session.text,"
    " job.text, a.width, a.height, a.duration, prompt.text, negative.text, r.facts, a.seed, a.has, a.favorite,"
    " a.rating, a.hidden"
)
_JOINS = (
    " JOIN folders f ON f.id = a.folder LEFT JOIN recipes r ON r.id = a.recipe"
    " LEFT JOIN texts prompt ON prompt.id = r.prompt LEFT JOIN texts negative ON negative.id = r.negative"
    " LEFT JOIN words mime ON mime.id = a.mime LEFT JOIN words machine ON machine.id = a.machine"
    " LEFT JOIN words session ON session.id = a.session LEFT JOIN words job ON job.id = a.job"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# If this machine's clock is behind, a later edit or row is dated this much after the earlier one.
CLOCK_STEP_SECONDS = 0.001
_Row = tuple[Any, ...]


def assets_json(db: sqlite3.Connection, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return these assets as the HTTP interface answers them, in this order; one that is gone is left out."""
    found: list[_Row] = []
    for marks, piece in in_pieces(rows):
        found += db.execute(
            f"SELECT {_COLUMNS} FROM assets a{_JOINS} WHERE a.id IN ({marks})", piece
        ).fetchall()
    places = {row: place for place, row in enumerate(rows)}
    return _as_json(db, sorted(found, key=lambda row: places[row[0]]))


def _as_json(db: sqlite3.Connection, rows: Sequence[_Row]) -> list[dict[str, Any]]:
    facts = [None if row[17] is None else load_facts(row[17]) for row in rows]
    wanted = {name for one in facts if one is not None for name in names_in_facts(one)}
    names = texts_by_row(db, "names", wanted)
    edits = _tags_and_notes(db, [row[1] for row in rows])
    return [
        _asset(row, metadata_of(one, names.get), *edits.get(row[1], ([], "")))
        for row, one in zip(rows, facts, strict=True)
    ]


def _asset(row: _Row, facts: dict[str, Any], tags: list[str], note: str) -> dict[str, Any]:
    _, identity, folder, name, path, size, created, sha256, mime, machine, session, job = row[:12]
    width, height, duration, prompt, negative, _, seed, has, favorite, rating, hidden = row[12:]
    key = full_key(folder, name)
    path = path_of_row(path, key)
    asset_id = str(uuid.UUID(bytes=identity))
    metadata = {
        "prompt": prompt,
        "negative_prompt": negative,
        "seed": None if seed is None else seed + SEED_OFFSET,
        **facts,
    }
    return {
        "id": asset_id,
        "name": path.rpartition("/")[2],
        "key": key,
        "path": path,
        "size": size,
        "mime_type": mime,
        "sha256": sha256.hex() if sha256 else None,
        "created_at": utc_time(created),
        "machine": machine,
        "session_id": session,
        "job_id": job,
        "preview_url": f"/cloud-sync/assets/{asset_id}/thumbnail",
        "width": width,
        "height": height,
        "duration_seconds": duration,
        "metadata": metadata,
        "has_workflow": bool(has & HAS_WORKFLOW),
        "has_prompt": bool(has & HAS_PROMPT),
        "tags": tags,
        "favorite": bool(favorite),
        "rating": rating,
        "note": note,
        "hidden": bool(hidden),
    }


def utc_time(nanoseconds: int) -> str:
    """Return nanoseconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    moment = _EPOCH + timedelta(milliseconds=nanoseconds // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def find_asset(db: sqlite3.Connection, identity: uuid.UUID) -> dict[str, Any] | None:
    """Return one asset, or None if no asset has this id."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM assets a{_JOINS} WHERE a.uuid = ?", (identity.bytes,)
    ).fetchall()
    return _as_json(db, rows)[0] if rows else None


def _tags_and_notes(
    db: sqlite3.Connection, identities: Sequence[bytes]
) -> dict[bytes, tuple[list[str], str]]:
    found: dict[bytes, tuple[list[str], str]] = {}
    for marks, piece in in_pieces(identities):
        for identity, field, value in db.execute(
            f"SELECT uuid, field, value FROM edits WHERE uuid IN ({marks})"
            " AND (field >= 'tag:' AND field < 'tag;' OR field = 'note') ORDER BY field",
            piece,
        ):
            tags, note = found.get(identity, ([], ""))
            if field == "note":
                note = value
            elif value:
                tags.append(field[4:])
            found[identity] = tags, note
    return found


def edit_asset(
    db: sqlite3.Connection, identity: uuid.UUID, changes: Mapping[str, Any], clock: float, machine: str
) -> None:
    """Store edits of one asset, unless later ones are known (see `store_edit`).

    Args:
        changes: any of `tags`, `favorite`, `rating`, `note`, `hidden`; checked already. `tags` is the whole list; only
            its difference from the tags that this catalog holds is stored.
        clock: seconds since 1970.
    """
    fields: dict[str, Any] = {
        name: int(value) if name != "note" else clean_text(value)
        for name, value in changes.items()
        if name != "tags"
    }
    if "tags" in changes:
        wanted = {clean_text(tag) for tag in changes["tags"]}
        there, _ = _tags_and_notes(db, [identity.bytes]).get(identity.bytes, ([], ""))
        fields |= {f"tag:{tag}": 0 for tag in there if tag not in wanted}
        fields |= {f"tag:{tag}": 1 for tag in wanted if tag not in there}
    _store_edits(db, identity, fields, clock, machine)


def edit_clock(db: sqlite3.Connection, identity: uuid.UUID, now: float) -> float:
    """Return the clock of an edit that is made `now`: later than all edits of this asset that are known here.

    Another machine's clock may be ahead, and the user has seen its edit.
    """
    latest = db.execute("SELECT max(clock) FROM edits WHERE uuid = ?", (identity.bytes,)).fetchone()[0]
    return now if latest is None else max(now, latest + CLOCK_STEP_SECONDS)


def add_tags_and_note(
    db: sqlite3.Connection, identity: uuid.UUID, tags: Sequence[str], note: str, clock: float, machine: str
) -> None:
    """Add tags, and a note if it is not empty; other tags stay. Later edits win."""
    fields: dict[str, Any] = {f"tag:{clean_text(tag)}": 1 for tag in tags}
    if note:
        fields["note"] = clean_text(note)
    _store_edits(db, identity, fields, clock, machine)


def _store_edits(
    db: sqlite3.Connection, identity: uuid.UUID, fields: Mapping[str, Any], clock: float, machine: str
) -> None:
    for field, value in fields.items():
        store_edit(db, identity.bytes, field, value, clock, machine)
    apply_edits(db, identity.bytes)
