"""The ledger: which version of which file is where.

It holds one row per version of a file, in one of six states (`FileState`). The baseline holds versions without a
row, as fingerprints: those of compacted and of recovered rows, and those of *baseline files*, which were there at the
first start (with backfill `none`: at any start) and have not been queued since.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, cast

from ..files import FileVersion
from ..text import spellings
from .claims import ClaimLedger
from .rows import ROW_COLUMNS, Count, FileRow, FileState, Totals, add_rows, file_row

# Names for `remember` and `recall`.
FIRST_START = "first_start"  # when the first session that ended its scan began, in seconds since 1970
FIRST_START_BEGUN = "first_start_begun"  # when the very first session began; committed before it watches
KNOWN_ROOT = "root"  # device and inode of the watched directory, "device:inode"
LAST_KNOWN = "root_last_known"  # while another directory is in its place: when the known one was seen last
LOG_FILES = "log_files"  # JSON list of the files that engines logged to; they are never archived
COMPARE_WITH_BUCKET = "compare_with_bucket"  # an older ledger was lost, so the bucket may hold files it knew
DESTINATIONS = "destinations"  # JSON: each with the time since when it was in use; see `archive.destination`
DAMAGED_LEDGER = "damaged_ledger"  # the name of the damaged ledger that this one replaces

_BASELINE_PIECE = 50_000  # entries in one commit


class Ledger(ClaimLedger):
    """The durable record of every version; see `Database` for arguments and errors. A change returns after its commit.

    Attributes:
        saved_as: where a ledger in memory, or one whose file was deleted, will be saved once that file can be
            written; None = nowhere.
        survives_kill: the moment of the first start is on disk, so that a start after a kill archives newer files.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, clock=clock)
        self.saved_as: Path | None = None
        self.survives_kill = True

    def probe(self) -> None:
        """Write and read something."""
        self.remember("probed", str(self.clock()))
        self.totals()

    # --- adding versions

    def unknown(self, versions: Sequence[FileVersion]) -> list[FileVersion]:
        """Return the versions with neither a row nor a baseline entry; rows of vanished files don't count."""
        unknown = self.unknown_fingerprints([version.fingerprint for version in versions])
        return [version for version in versions if version.fingerprint in unknown]

    def unknown_fingerprints(self, fingerprints: Sequence[int]) -> set[int]:
        """Return the fingerprints of unknown versions; see `unknown`."""
        rows = self.read(
            "SELECT value FROM json_each(?) AS given"
            " WHERE NOT EXISTS (SELECT 1 FROM files WHERE fingerprint = given.value AND state <> 4)"
            " AND NOT EXISTS (SELECT 1 FROM baseline WHERE fingerprint = given.value)",
            (json.dumps(fingerprints),),
        )
        return {row[0] for row in rows}

    def baseline_fingerprints(self, fingerprints: Sequence[int]) -> set[int]:
        """Return the fingerprints of baseline files."""
        rows = self.read(
            "SELECT value FROM json_each(?) AS given JOIN baseline ON fingerprint = given.value"
            " WHERE archived IS NULL",
            (json.dumps(fingerprints),),
        )
        return {row[0] for row in rows}

    def is_blank(self) -> bool:
        """Return whether there is neither a row nor a baseline entry."""
        return not self.read("SELECT 1 FROM files UNION ALL SELECT 1 FROM baseline LIMIT 1")

    def has_baseline(self) -> bool:
        """Return whether there are baseline files."""
        return bool(self.read("SELECT 1 FROM baseline WHERE archived IS NULL LIMIT 1"))

    def add(self, versions: Iterable[FileVersion], *, priority: int = 0) -> int:
        """Queue complete versions, and return how many became pending.

        A version that has a row stays as it is, unless it vanished. If an older version of the file waits, the new
        version replaces it in its row: the older bytes are gone.

        Args:
            priority: smaller is claimed earlier; 0 for new files, 1 for a backlog, -1 for a file that somebody asked
                for. Only with -1 a compacted version is queued again.
        """
        items = list(versions)
        return self.change(lambda db: add_rows(db, items, priority, self.clock()))

    def add_to_baseline(self, fingerprints: Iterable[int], *, archived: bool = False) -> None:
        """Add versions without a row to the baseline: baseline files, or with `archived` versions archived once."""
        # In the order of the table, so that each of its pages is written once; in pieces, so that others get a turn.
        ordered = sorted(fingerprints)
        for start in range(0, len(ordered), _BASELINE_PIECE):
            rows = zip(ordered[start : start + _BASELINE_PIECE], repeat(archived or None))
            self.change(partial(_insert_baseline, rows=rows))

    def clear_baseline(self) -> None:
        """Forget the baseline files, so that the next scan finds them as new. Compacted versions stay known."""
        self.execute("DELETE FROM baseline WHERE archived IS NULL")

    # --- reading

    def totals(self) -> Totals:
        """Return files and bytes by state."""
        # One statement, so that a row that changes its state meanwhile is counted in one state.
        counts = {
            state: Count(files, size)
            for state, files, size in self.read(
                "SELECT state, files, bytes FROM totals UNION ALL"
                " SELECT -1, count(*), coalesce(sum(size), 0) FROM files WHERE state = 2 AND next_try IS NOT NULL"
                " UNION ALL"
                " SELECT -2, count(*), coalesce(sum(size), 0) FROM files INDEXED BY files_tried"
                " WHERE state = 0 AND cause IS NOT NULL"
            )
        }
        return Totals(
            pending=counts.get(0, Count()),
            uploading=counts.get(1, Count()),
            failed=counts.get(2, Count()),
            waiting=counts.get(-1, Count()),
            tried=counts.get(-2, Count()),
            archived=counts.get(3, Count()),
            vanished=counts.get(4, Count()),
            pruned=counts.get(5, Count()),
        )

    def oldest_waiting(self) -> float | None:
        """Return since when a version has waited, in seconds since 1970; None if none waits.

        Of the pending ones only the oldest row counts, so that the cost does not grow with their number.
        """
        rows = self.read(
            "SELECT min(seen_at) FROM ("
            " SELECT seen_at FROM (SELECT seen_at FROM files WHERE state = 0 ORDER BY id LIMIT 1)"
            " UNION ALL"
            " SELECT min(seen_at) FROM files WHERE state = 2 AND next_try IS NOT NULL)"
        )
        return cast("float | None", rows[0][0])

    def find(self, version: FileVersion) -> FileRow | None:
        """Return the row of exactly this version; None if there is none."""
        rows = self.read(f"SELECT {ROW_COLUMNS} FROM files WHERE fingerprint = ?", (version.fingerprint,))
        return file_row(rows[0]) if rows else None

    def reread(self, row: FileRow) -> FileRow | None:
        """Return the row as it is now; None if it was deleted."""
        rows = self.read(f"SELECT {ROW_COLUMNS} FROM files WHERE id = ?", (row.row,))
        return file_row(rows[0]) if rows else None

    def archived_among(self, rows: Collection[int]) -> list[int]:
        """Return those of these rows that are archived."""
        found = self.read(
            "SELECT id FROM files WHERE state = 3 AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(rows)),),
        )
        return [row for (row,) in found]

    def rows(
        self,
        *,
        states: Sequence[FileState] = (),
        retried: bool | None = None,
        query: str = "",
        limit: int = 100,
        before: int | None = None,
    ) -> list[FileRow]:
        """Return a page of rows, newest first.

        Args:
            states: only rows in these states; default: all.
            retried: True = only versions that failed and will be retried; False = only those that failed for good.
            query: only paths that contain this text, ignoring the case of ASCII letters.
            before: only rows with a smaller id; pass the last id of the previous page.
        """
        conditions: list[str] = ["1"]
        values: list[Any] = []
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        if states:
            conditions.append(f"state IN ({','.join(str(int(state)) for state in states)})")
        if retried is not None:
            conditions.append(
                "cause IS NOT NULL AND (state = 0 OR (state = 2 AND next_try IS NOT NULL))"
                if retried
                else "state = 2 AND next_try IS NULL"
            )
        only_open = retried is not None or (
            bool(states) and all(state < FileState.ARCHIVED for state in states)
        )
        if only_open:
            conditions.append("state < 3")  # the small index of open rows holds all of these
        if query:
            texts = spellings(query.encode("utf-8", "replace").decode())
            contains = ["instr(lower(CAST(path AS TEXT)), lower(?)) > 0"] * len(texts)
            conditions.append(f"({' OR '.join(contains)})")
            values += texts
        # Without this, SQLite would read a million archived rows to find forty open ones in order.
        source = "files INDEXED BY files_open" if only_open else "files"
        chosen = f"SELECT id FROM {source} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        # A search by text may read every row.
        read = self.read_apart if query else self.read
        rows = read(
            f"SELECT {ROW_COLUMNS} FROM files WHERE id IN ({chosen}) ORDER BY id DESC", (*values, limit)
        )
        return [file_row(row) for row in rows]

    # --- small texts, by name

    def remember(self, name: str, value: str | None) -> None:
        """Store a small text under a name; None deletes it."""
        if value is None:
            self.execute("DELETE FROM meta WHERE name = ?", (name,))
        else:
            self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def recall(self, name: str) -> str | None:
        """Return the text stored under `name`; None if there is none."""
        rows = self.read("SELECT value FROM meta WHERE name = ?", (name,))
        return cast("str", rows[0][0]) if rows else None


def _insert_baseline(db: sqlite3.Connection, rows: Iterable[tuple[int, bool | None]]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO baseline SELECT * FROM (SELECT ? AS fingerprint, ?) AS given"
        " WHERE NOT EXISTS (SELECT 1 FROM files WHERE fingerprint = given.fingerprint AND state <> 4)",
        rows,
    )
