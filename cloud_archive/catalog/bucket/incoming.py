"""Bring rows from the bucket into the local catalog. The order in which they come does not matter.

Of several puts the latest counts, edits are last-writer-wins by (clock, machine), and a tombstone removes the puts that
are not later than it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from ...keys import object_path
from ...text import clean_text
from ..describe import Description
from ..graph.models import Lora
from ..packed import Reading
from ..rows import ArchivedObject, add_described, apply_edits, asset_id, remove_assets
from ..schema import HAS_PROMPT, HAS_WORKFLOW
from .fields import DEL, PUT, SET
from .names import CatalogFolder, is_pack_name
from .segment import Decoded
from .tables import EDITS, PUTS, add_tombstone, set_packed

_MIME_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,60}/[A-Za-z0-9.+-]{1,100}")
_MAX_PATH = 4096
_MAX_TAG = 100
_MAX_PACK_OFFSET = 1 << 40


class Incoming:
    """Applies rows of segments.

    Args:
        bucket: its name; ids are made of it.
    """

    def __init__(self, bucket: str, folder: CatalogFolder) -> None:
        self._bucket = bucket
        self._folder = folder

    def apply(self, db: sqlite3.Connection, rows: Sequence[dict[str, Any]], found: Decoded) -> None:
        """Apply rows in one transaction; what they may not say is skipped and counted in `found`."""
        puts: list[dict[str, Any]] = []
        gone: list[dict[str, Any]] = []
        edits: list[dict[str, Any]] = []
        for row in rows:
            if not self._folder.holds_output(row["key"]):
                found.skip("a key lies outside the archive")
            elif row["op"] == PUT:
                puts.append(row)
            elif row["op"] == DEL:
                gone.append(row)
            elif row["op"] == SET:
                edits.append(row)
        self._apply_deletions(db, gone)
        self._apply_puts(db, puts)
        self._apply_edits(db, edits)

    def _apply_deletions(self, db: sqlite3.Connection, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            identity = asset_id(self._bucket, row["key"]).bytes
            add_tombstone(db, identity, row["key"], row["clock"], _machine(row))
            put = db.execute("SELECT archived FROM assets WHERE uuid = ?", (identity,)).fetchone()
            if put is not None and put[0] <= row["clock"]:
                self.remove(db, row["key"])

    def remove(self, db: sqlite3.Connection, key: str) -> None:
        """Remove an asset and what is known of its pack; its edits stay."""
        identity = asset_id(self._bucket, key).bytes
        remove_assets(db, self._bucket, [key])
        db.execute("DELETE FROM bucket_packed WHERE uuid = ?", (identity,))
        db.execute("DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ?", (identity, PUTS))

    def _apply_puts(self, db: sqlite3.Connection, rows: Sequence[dict[str, Any]]) -> None:
        wanted: dict[bytes, dict[str, Any]] = {}
        for row in rows:
            identity = asset_id(self._bucket, row["key"]).bytes
            other = wanted.get(identity)
            if other is None or rank(other, row) < rank(row, other):
                wanted[identity] = row
        if not wanted:
            return
        for identity, clock in _tombstones(db, list(wanted)):
            if wanted[identity]["clock"] <= clock:
                del wanted[identity]
        for identity, known in _known(db, list(wanted)):
            row = wanted[identity]
            if rank(row, known) <= rank(known, row):
                if row["clock"] == known["clock"] and (row.get("reader") or 0) >= known["reader"]:
                    self._note_pack(db, identity, row, over=False)
                    # The bucket holds it: it was written before this catalog was lost.
                    db.execute("DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ?", (identity, PUTS))
                del wanted[identity]
            else:
                # Nothing of the old one counts any more, not even where the bytes are the same.
                self.remove(db, row["key"])
        add_described(db, self._bucket, [(archived_object(row), reading(row)) for row in wanted.values()])
        for identity, row in wanted.items():
            self._note_pack(db, identity, row, over=True)

    def _note_pack(self, db: sqlite3.Connection, identity: bytes, row: dict[str, Any], *, over: bool) -> None:
        pack = row.get("pack")
        places = [_place(row, name) for name in ("graphs", "thumbnail")]
        if not is_pack_name(pack) or not (places[0][1] or places[1][1]):
            return
        if not over and db.execute("SELECT 1 FROM bucket_packed WHERE uuid = ?", (identity,)).fetchone():
            return
        set_packed(db, identity, str(pack), *places)

    def _apply_edits(self, db: sqlite3.Connection, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            identity = asset_id(self._bucket, row["key"]).bytes
            machine = _machine(row)
            for field, value in _edits(row).items():
                _store_edit(db, (identity, field, value, float(row["clock"]), machine))
            apply_edits(db, identity)


def rank(row: dict[str, Any], other: dict[str, Any]) -> tuple[Any, ...]:
    """Return what puts of one key are ordered by; a row that was rebuilt gives way to one of the same bytes."""
    same = row.get("sha256") is not None and row.get("sha256") == other.get("sha256")
    return (
        row.get("machine") is not None if same else True,
        row["clock"],
        row.get("reader") or 0,
        row.get("machine") or "",
    )


def _known(db: sqlite3.Connection, identities: Sequence[bytes]) -> list[tuple[bytes, dict[str, Any]]]:
    found = []
    for first in range(0, len(identities), 500):
        piece = identities[first : first + 500]
        marks = ", ".join("?" * len(piece))
        for identity, archived, sha256, reader, machine in db.execute(
            "SELECT a.uuid, a.archived, a.sha256, a.reader, w.text FROM assets a"
            f" LEFT JOIN words w ON w.id = a.machine WHERE a.uuid IN ({marks})",
            piece,
        ):
            facts = {
                "clock": archived,
                "sha256": sha256.hex() if sha256 else None,
                "reader": reader,
                "machine": machine,
            }
            found.append((identity, facts))
    return found


def _tombstones(db: sqlite3.Connection, identities: Sequence[bytes]) -> list[tuple[bytes, float]]:
    found: list[tuple[bytes, float]] = []
    if db.execute("SELECT 1 FROM bucket_tombstones LIMIT 1").fetchone() is None:
        return found
    for first in range(0, len(identities), 500):
        piece = identities[first : first + 500]
        marks = ", ".join("?" * len(piece))
        found += db.execute(f"SELECT uuid, clock FROM bucket_tombstones WHERE uuid IN ({marks})", piece)
    return found


def archived_object(row: dict[str, Any]) -> ArchivedObject:
    """Return the object that a put speaks of."""
    key = row["key"]
    sha256 = row.get("sha256")
    return ArchivedObject(
        key=key,
        path=clean_text(str(row.get("path") or object_path(key, "")))[:_MAX_PATH],
        size_bytes=max(0, row.get("size", 0)),
        mtime_ns=row.get("mtime_ns", int(row["clock"] * 1e9)),
        archived_at=float(row["clock"]),
        sha256=sha256 if sha256 is not None and _is_digest(sha256) else None,
        machine=row.get("machine"),
        session_id=row.get("session_id"),
    )


def reading(row: dict[str, Any]) -> Reading:
    """Return what a put says of how its object was made."""
    seed, mime_type = row.get("seed"), row.get("mime_type")
    found = Description(
        source=row.get("source"),
        mime_type=mime_type if mime_type is not None and _MIME_TYPE.fullmatch(mime_type) else None,
        width=row.get("width"),
        height=row.get("height"),
        duration_seconds=row.get("duration_seconds"),
        prompt=row.get("prompt"),
        negative_prompt=row.get("negative_prompt"),
        models=tuple(row.get("models", ())),
        loras=tuple(Lora(one["name"], one.get("strength")) for one in row.get("loras", ())),
        seed=int(seed)
        if seed is not None and seed.isascii() and seed.isdigit() and len(seed) <= 20
        else None,
        sampler=row.get("sampler"),
        scheduler=row.get("scheduler"),
        steps=row.get("steps"),
        cfg=row.get("cfg"),
        denoise=row.get("denoise"),
        input_images=tuple(row.get("input_images", ())),
        confidence=row.get("confidence"),
        texts=tuple(row.get("texts", ())),
        model_names=tuple(row.get("model_names", ())),
    )
    has = HAS_WORKFLOW * bool(row.get("has_workflow")) | HAS_PROMPT * bool(row.get("has_prompt"))
    return Reading(found, has, None, row.get("job_id"))


def _is_digest(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 32
    except ValueError:
        return False


def _store_edit(db: sqlite3.Connection, edit: tuple[bytes, str, Any, float, str]) -> None:
    won = db.execute(
        "INSERT INTO edits VALUES (?, ?, ?, ?, ?) ON CONFLICT (uuid, field) DO UPDATE SET value = excluded.value,"
        " clock = excluded.clock, machine = excluded.machine"
        " WHERE (excluded.clock, excluded.machine) >= (clock, machine)",
        edit,
    ).rowcount
    if won:  # what the bucket holds, and what it replaced, need not be written
        db.execute(
            "DELETE FROM bucket_unwritten WHERE uuid = ? AND kind = ? AND field = ?",
            (edit[0], EDITS, edit[1]),
        )


def _machine(row: dict[str, Any]) -> str:
    return clean_text(row.get("machine") or "")[:200]


def _place(row: dict[str, Any], name: str) -> tuple[int, int]:
    offset, length = row.get(f"{name}_offset", 0), row.get(f"{name}_length", 0)
    sound = 0 <= offset < _MAX_PACK_OFFSET and 0 < length < _MAX_PACK_OFFSET
    return (offset, length) if sound else (0, 0)


def _edits(row: dict[str, Any]) -> dict[str, Any]:
    edits: dict[str, Any] = {}
    for field in ("favorite", "hidden"):
        if field in row:
            edits[field] = int(row[field])
    if 0 <= row.get("rating", -1) <= 5:
        edits["rating"] = row["rating"]
    if "note" in row:
        edits["note"] = clean_text(row["note"])
    for name, value in (("tags_removed", 0), ("tags_added", 1)):
        for tag in row.get(name, ()):
            if tag and len(tag) <= _MAX_TAG:
                edits[f"tag:{clean_text(tag)}"] = value
    return edits
