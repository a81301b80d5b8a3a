"""Put decoded rows into the local catalog: those of many small files in one transaction, of a large file in several."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NoReturn

from ..database import CatalogDatabase
from .incoming import Incoming
from .names import MONTHS, FileName, parse_name
from .segment import Decoded, SegmentError

READ, REPLACED, DAMAGED, NEWER = "read", "replaced", "damaged", "newer"
# After about so many rows or bytes of JSON a transaction is committed, because an edit waits for its end. The first one
# has few rows, so that something is found soon.
_FIRST_ROWS = 1000
_MAX_ROWS = 8000
_MAX_BYTES = 8 * 1024 * 1024
_PIECE = 200  # rows between two checks of the limits


class Loader:
    """Collects the rows of files, and commits them together with the note that these files were read.

    Attributes:
        files: how many were committed; `rows`: how many rows were.
    """

    def __init__(self, database: Callable[[], CatalogDatabase], incoming: Incoming) -> None:
        self._database = database
        self._incoming = incoming
        self._parts: list[tuple[list[dict[str, Any]], Decoded]] = []
        self._ended: list[tuple[FileName, Decoded]] = []
        self._rows = 0
        self._bytes = 0
        self._max_rows = _FIRST_ROWS
        self.files = 0
        self.rows = 0

    def add(self, name: FileName, rows: Iterator[dict[str, Any]], found: Decoded) -> None:
        """Add a file's rows while they are decoded; they are committed now or with those of the next files.

        Raises:
            SegmentError: it is damaged or of another version. That is noted; rows before the damage may be committed.
            StoreError: from `rows`; nothing is noted.
            CatalogError: the local catalog can't be written.
        """
        part: list[dict[str, Any]] = []
        self._parts.append((part, found))
        try:
            self._collect(rows, part, found)
        except BaseException as error:
            self._rows -= len(part)
            part.clear()
            if isinstance(error, SegmentError):
                self._note(name, found, error)
            raise
        self._end_file(name, found)

    def add_decoded(self, name: FileName, rows: list[dict[str, Any]], found: Decoded) -> None:
        """Add the rows of a file that was decoded elsewhere. CatalogError: the local catalog can't be written."""
        self._parts.append((rows, found))
        self._rows += len(rows)
        self._bytes += found.text_bytes
        self._end_file(name, found)

    def _end_file(self, name: FileName, found: Decoded) -> None:
        self._ended.append((name, found))
        if self._rows >= self._max_rows or self._bytes >= _MAX_BYTES:
            self.commit()

    def _collect(self, rows: Iterator[dict[str, Any]], part: list[dict[str, Any]], found: Decoded) -> None:
        known = 0
        while piece := list(islice(rows, _PIECE)):
            part += piece
            self._rows += len(piece)
            self._bytes += max(0, found.text_bytes - known)
            known = found.text_bytes
            if self._rows >= self._max_rows + _FIRST_ROWS or self._bytes >= _MAX_BYTES:
                self.commit()
                self._parts.append((part, found))

    def refuse(self, name: FileName, error: SegmentError) -> NoReturn:
        """Note that a file is left out, and raise `error`."""
        self._note(name, Decoded(), error)
        raise error

    def _note(self, name: FileName, found: Decoded, error: SegmentError) -> None:
        state = NEWER if error.newer else DAMAGED
        self._database().change(lambda db: _mark(db, name.text, state, found, str(error)))

    def commit(self) -> None:

        def work(db: sqlite3.Connection) -> None:
            self._incoming.apply(db, self._parts)
            for name, found in self._ended:
                _mark(db, name.text, READ, found, None)
                if name.kind == MONTHS:
                    _mark_replaced(db, found.replaces)

        if self._parts or self._ended:
            self._database().change(work)
            self.files += len(self._ended)
            self.rows += self._rows
            self._max_rows = min(_MAX_ROWS, 2 * self._max_rows)
        for part, _ in self._parts:
            part.clear()
        self._parts, self._ended = [], []
        self._rows = self._bytes = 0


def _mark(db: sqlite3.Connection, name: str, state: str, found: Decoded, trouble: str | None) -> None:
    skipped = sum(found.skipped.values())
    if trouble is None and found.skipped:
        trouble = "; ".join(f"{reason} ({count})" for reason, count in sorted(found.skipped.items()))
    db.execute(
        "INSERT OR REPLACE INTO bucket_files VALUES (?, ?, ?, ?, ?)",
        (name, state, found.rows, skipped, trouble),
    )


def _mark_replaced(db: sqlite3.Connection, names: Iterable[str]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO bucket_files VALUES (?, ?, 0, 0, NULL)",
        [(name, REPLACED) for name in names if parse_name(name) is not None],
    )
