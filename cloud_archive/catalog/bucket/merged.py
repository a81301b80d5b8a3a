"""Merge the rows of many segments, each fact once, on disk: a month may hold many."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .fields import DEL, PUT
from .incoming import has_rating, rank
from .segment import header_line, replaces_lines, row_line

_EDITS = ("favorite", "rating", "note", "hidden")


class MergedRows:
    """Collects rows in a file at `path`, which the caller deletes."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE facts (id BLOB PRIMARY KEY, row TEXT NOT NULL)")

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Keep all rows that are added in this block, or none if it ends with an exception."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add(self, row: dict[str, Any]) -> None:
        """Add a row. Of two rows about one fact the winner is kept."""
        for fact, one in _facts(row):
            # A tag may hold a lone surrogate.
            named = f"{fact}\0{one['key']}".encode("utf-8", "surrogatepass")
            identity = hashlib.blake2b(named, digest_size=16).digest()
            known = self._db.execute("SELECT row FROM facts WHERE id = ?", (identity,)).fetchone()
            if known is None or _wins(one, json.loads(known[0])):
                self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (identity, json.dumps(one)))

    def count(self) -> int:
        """Return how many rows `body` will hold."""
        return int(self._db.execute("SELECT count(*) FROM facts").fetchone()[0])

    def body(self, machine: str, now: float, replaces: Sequence[str]) -> bytes:
        """Return a month file with these rows; `replaces`: names of the files whose rows it repeats."""
        written = io.BytesIO()
        with gzip.GzipFile(fileobj=written, mode="wb", compresslevel=6, mtime=0) as file:
            file.write(header_line(machine, now, self.count()))
            file.writelines(replaces_lines(replaces))
            # In the order in which they came: rows of one prompt lie side by side, and compress well.
            for (row,) in self._db.execute("SELECT row FROM facts ORDER BY rowid"):
                file.write(row_line(json.loads(row)))
        return written.getvalue()


def _facts(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (fact, row) for each part that wins or loses by itself: a put, a deletion, a field of an edit, a tag."""
    if row["op"] in (PUT, DEL):
        yield row["op"], row
        return
    base = {name: row[name] for name in ("op", "clock", "machine", "key") if name in row}
    for field in _EDITS:
        if field in row and (field != "rating" or has_rating(row)):
            yield field, base | {field: row[field]}
    for name in ("tags_added", "tags_removed"):
        for tag in row.get(name, ()):
            yield f"tag:{tag}", base | {name: [tag]}


def _wins(one: dict[str, Any], known: dict[str, Any]) -> bool:
    if one["op"] == PUT:
        return rank(one) > rank(known)
    return (one["clock"], one.get("machine") or "") > (known["clock"], known.get("machine") or "")
