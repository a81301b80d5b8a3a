"""Look up archived files by their object keys."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

from ..errors import LedgerError
from .database import explain_sqlite_error
from .ledger import Ledger
from .rows import ROW_COLUMNS, FileRow, file_row


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """How many archived rows have keys in one first folder, and the longest common prefix of these keys."""

    prefix: str
    rows: int


class KeyIndex:
    """Index the archived rows by object key, as they are when the `with` block begins. For one thread.

    The ledger itself has no index of keys: uploads don't need one, and it would double the ledger's size. Building
    this temporary one takes some seconds for a million rows.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db: sqlite3.Connection | None = None
        self._has_versions = False

    def __enter__(self) -> KeyIndex:
        self._db = self._ledger.connect()
        try:
            self._run(
                "CREATE TEMP TABLE wanted (key TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (key, id))"
                " WITHOUT ROWID"
            )
            # Insert in the order of keys, so that the table grows at its end; read in the order of rows.
            self._run(
                "INSERT INTO wanted SELECT key, id FROM files NOT INDEXED"
                " WHERE state = 3 AND key IS NOT NULL ORDER BY key, id"
            )
        except BaseException:
            self._db.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._db is not None:
            self._db.close()

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        assert self._db is not None
        try:
            return cast("list[tuple[Any, ...]]", self._db.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            if "full" in str(error):  # this connection writes only temporary tables
                raise LedgerError(
                    "The disk with the temporary files is full. Free some space, or set TMPDIR to another folder."
                ) from error
            raise explain_sqlite_error(error) from error

    @property
    def count(self) -> int:
        """How many rows were not taken."""
        return int(self._run("SELECT count(*) FROM wanted")[0][0])

    def replaced(self) -> frozenset[int]:
        """Return the ids of the rows whose object was replaced by a later upload of other bytes."""
        found = self._run(
            "SELECT id FROM (SELECT files.id, sha256, first_value(sha256)"
            " OVER (PARTITION BY wanted.key ORDER BY archived_at DESC, files.id DESC) AS newest"
            " FROM wanted CROSS JOIN files ON files.id = wanted.id WHERE wanted.key IN"
            " (SELECT key FROM wanted GROUP BY key HAVING count(*) > 1)) WHERE sha256 != newest"
        )
        return frozenset(row for (row,) in found)

    def versions(self, key: str) -> set[str]:
        """Return the SHA-256 of all versions archived at `key`; empty if there is only one.

        The first call takes some seconds for a million rows. Later ones return what was archived then.
        """
        if not self._has_versions:
            self._run(
                "CREATE TEMP TABLE versions (key TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (key, sha256))"
                " WITHOUT ROWID"
            )
            self._run(
                "INSERT OR IGNORE INTO versions SELECT key, lower(hex(sha256)) FROM files NOT INDEXED"
                " WHERE state = 3 AND sha256 IS NOT NULL AND key IN"
                " (SELECT key FROM files NOT INDEXED WHERE state = 3 GROUP BY key HAVING count(*) > 1)"
                " ORDER BY key"
            )
            self._has_versions = True
        return {sha256 for (sha256,) in self._run("SELECT sha256 FROM versions WHERE key = ?", (key,))}

    def groups(self) -> list[KeyGroup]:
        """Return the rows that were not taken, grouped by the first folder of their keys."""
        found = self._run(
            "SELECT min(key), max(key), count(*) FROM wanted GROUP BY substr(key, 1, instr(key, '/'))"
        )
        return [KeyGroup(_common_prefix(first, last), rows) for first, last, rows in found]

    def find(self, keys: Sequence[str]) -> dict[str, list[FileRow]]:
        """Return the rows archived at these keys. Versions with the same bytes may share a key."""
        rows = self._run(
            f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 AND id IN"
            " (SELECT id FROM wanted WHERE key IN (SELECT value FROM json_each(?)))",
            (json.dumps(list(keys)),),
        )
        found: dict[str, list[FileRow]] = {}
        for row in map(file_row, rows):
            found.setdefault(cast(str, row.key), []).append(row)
        return found

    def take(self, keys: Sequence[str]) -> dict[str, list[FileRow]]:
        """Return the rows archived at these keys, and remove them from the index."""
        found = self.find(keys)
        self._run(
            "DELETE FROM wanted WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(list(found)),)
        )
        return found

    def pages(self, *, page: int = 1000) -> Iterator[list[FileRow]]:
        """Take the remaining rows: pages in the order of keys, the rows of a page in any order."""
        while True:
            keys = [
                key for (key,) in self._run("SELECT DISTINCT key FROM wanted ORDER BY key LIMIT ?", (page,))
            ]
            if not keys:
                return
            taken = self.take(keys)
            for key in keys:
                if key not in taken:  # its row changed meanwhile
                    self._run("DELETE FROM wanted WHERE key = ?", (key,))
            yield [row for rows in taken.values() for row in rows]


def _common_prefix(first: str, last: str) -> str:
    """Return the common prefix of the smallest and the largest of many texts; it is that of all."""
    for index, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:index]
    return first[: len(last)]
