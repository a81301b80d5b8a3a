"""Rows after they were archived: reports, compaction, freeing, pruning, queueing again and restoring.

Long reads use their own connection and hold no snapshot between pages, so that the archive can continue and SQLite can
checkpoint its log. Changes go through the ledger's writer.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import LedgerError
from ..files import FileVersion
from .database import explain_sqlite_error
from .ledger import Ledger
from .recovery import ledger_exists
from .rows import (
    ARCHIVED_OR_RESTORED_SINCE,
    ROW_COLUMNS,
    FileRow,
    FileState,
    file_row,
    identity_values,
    keys_being_pruned,
    mark_rows_pruned,
    unsigned,
)

_ENDED = "state IN (3, 4, 5) AND archived_at < ?"
SLOT_SECONDS = 900
"""The length of a `TimeSlot`. Every time zone's offset is a multiple of it, so slots add up to local days."""


class TimeSlot(NamedTuple):
    """What was archived in one quarter of an hour; `start` is in seconds since 1970."""

    start: int
    files: int
    size_bytes: int


# --- reports


def newest_archived(ledger: Ledger, limit: int) -> list[FileRow]:
    """Return the versions that were archived last, newest first."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 ORDER BY archived_at DESC, id DESC LIMIT ?",
        (limit,),
    )
    return [file_row(row) for row in rows]


def count_archived_between(ledger: Ledger, since: float, until: float) -> int:
    """Return how many versions were archived from `since` to before `until`, in seconds since 1970."""
    rows = ledger.read_apart(
        "SELECT count(*) FROM files WHERE state = 3 AND archived_at >= ? AND archived_at < ?", (since, until)
    )
    return int(rows[0][0])


def archived_by_time(ledger: Ledger, since: float | None = None) -> list[TimeSlot]:
    """Return how much was archived when (from `since` on, in seconds since 1970), oldest first, without empty slots."""
    rows = ledger.read_apart(
        f"SELECT CAST(archived_at / {SLOT_SECONDS} AS INTEGER) AS slot, count(*), sum(size) FROM files"
        " WHERE state = 3 AND archived_at >= ? GROUP BY slot ORDER BY slot",
        (since if since is not None else 0.0,),
    )
    return [TimeSlot(slot * SLOT_SECONDS, files, size) for slot, files, size in rows]


def stored_by_time(ledger: Ledger) -> list[TimeSlot]:
    """Return the objects of the archived rows by the time of archiving, oldest first and without empty slots.

    Rows with the same key are one object, with the size and the time of the newest. A million rows take some seconds.
    """
    rows = ledger.read_apart(
        f"SELECT CAST(newest / {SLOT_SECONDS} AS INTEGER) AS slot, count(*), sum(size)"
        " FROM (SELECT size, max(archived_at) AS newest FROM files NOT INDEXED WHERE state = 3 GROUP BY key)"
        " GROUP BY slot ORDER BY slot"
    )
    return [TimeSlot(slot * SLOT_SECONDS, files, size) for slot, files, size in rows]


def archived_paths(ledger: Ledger, *, page: int = 50_000) -> Iterator[list[tuple[bytes, int]]]:
    """Yield path and size of every archived row, page by page; paths are bytes. A million rows take a second."""
    last = 0
    with contextlib.closing(ledger.connect()) as db:
        while True:
            try:
                rows = db.execute(
                    "SELECT path, size, id FROM files NOT INDEXED WHERE id > ? AND state = 3 ORDER BY id LIMIT ?",
                    (last, page),
                ).fetchall()
            except sqlite3.Error as error:
                raise explain_sqlite_error(error) from error
            if not rows:
                return
            yield [(path, size) for path, size, _ in rows]
            last = rows[-1][2]


def expected_files(ledger: Ledger, limit: int) -> list[tuple[str, int, int]]:
    """Return path, size in bytes and device of the newest files that should be on disk.

    These are the archived ones that were not freed, and those that wait.
    """
    rows = ledger.read(
        "SELECT path, size, device FROM files WHERE state < 3 OR (state = 3 AND freed_at IS NULL)"
        " ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [(os.fsdecode(path), size, unsigned(device)) for path, size, device in rows]


def knows_one(ledger: Ledger, fingerprints: Sequence[int], seen_by: float) -> bool:
    """Return whether one of these versions is in the baseline, or has a row that was seen by this time."""
    rows = ledger.read(
        "SELECT 1 FROM json_each(?) AS given"
        " WHERE EXISTS (SELECT 1 FROM files WHERE fingerprint = given.value AND state <> 4 AND seen_at <= ?)"
        " OR EXISTS (SELECT 1 FROM baseline WHERE fingerprint = given.value) LIMIT 1",
        (json.dumps(fingerprints), seen_by),
    )
    return bool(rows)


# --- compacting


def count_compactable_rows(ledger: Ledger, before: float) -> int:
    """Return how many rows were archived, pruned or vanished before this time, in seconds since 1970."""
    return int(ledger.read_apart(f"SELECT count(*) FROM files WHERE {_ENDED}", (before,))[0][0])


def compact(
    ledger: Ledger, before: float, *, page: int = 5000, on_progress: Callable[[int], None] = lambda done: None
) -> int:
    """Replace old rows by baseline entries: 12 bytes instead of some 290. Return how many rows there were.

    Rows of vanished files are only deleted. Works page by page, so that a running archive can continue.

    Args:
        before: compact rows that were archived, pruned or vanished before this time, in seconds since 1970.
        on_progress: called after each page with the number of rows so far.
    """
    done = 0

    def work(db: sqlite3.Connection) -> int:
        rows = db.execute(
            f"SELECT id, fingerprint, state FROM files WHERE {_ENDED} LIMIT {page}", (before,)
        ).fetchall()
        db.executemany(
            "INSERT OR REPLACE INTO baseline (fingerprint, archived) VALUES (?, 1)",
            [(fingerprint,) for _, fingerprint, state in rows if state != FileState.VANISHED],
        )
        db.executemany("DELETE FROM files WHERE id = ?", [(row,) for row, _, _ in rows])
        return len(rows)

    while count := ledger.change(work):
        done += count
        on_progress(done)
    return done


def vacuum(ledger: Ledger) -> LedgerError | None:
    """Give the space of deleted rows back to the disk. Return why that failed; None if it worked."""
    try:
        with contextlib.closing(ledger.connect()) as db:
            db.execute("VACUUM")
            # It answers (1, …) while another connection reads what is not in the database file yet.
            if not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                return None
            return explain_sqlite_error(sqlite3.OperationalError("database is locked"))
    except sqlite3.Error as error:
        return explain_sqlite_error(error)
    except LedgerError as error:
        return error


# --- freeing


def oldest_local_files(
    ledger: Ledger, *, before_ns: int, after: tuple[int, int] = (-(1 << 62), 0), limit: int = 200
) -> list[FileRow]:
    """Return archived versions that were not freed and have an mtime before `before_ns`, in the order of their mtime.

    `after` is (mtime_ns, row) of the last row of the previous page.
    """
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 AND freed_at IS NULL"
        " AND mtime_ns >= ? AND mtime_ns < ? AND (mtime_ns > ? OR id > ?) ORDER BY mtime_ns, id LIMIT ?",
        (after[0], before_ns, after[0], after[1], limit),
    )
    return [file_row(row) for row in rows]


def mark_freed(ledger: Ledger, rows: Sequence[int]) -> None:
    """Record that the local files of these rows are gone: freed, deleted by the user, or replaced."""
    ledger.execute(
        "UPDATE files SET freed_at = ? WHERE state = 3 AND id IN (SELECT value FROM json_each(?))",
        (ledger.clock(), json.dumps(list(rows))),
    )


def count_local_files(ledger: Ledger) -> int:
    """Return how many archived versions may still have their local file."""
    rows = ledger.read("SELECT count(*) FROM files WHERE state = 3 AND freed_at IS NULL")
    return int(rows[0][0])


# --- pruning


def mark_pruned(ledger: Ledger, rows: Sequence[FileRow]) -> None:
    """Mark the rows that still say archived at these keys as pruned; see `deletions.begin_deletions`."""
    now = ledger.clock()
    ledger.change(lambda db: mark_rows_pruned(db, rows, now))


def archived_at_keys(ledger: Ledger, keys: Sequence[str], *, since: float) -> list[FileRow]:
    """Return the versions at one of these keys that were archived or restored since then, in seconds since 1970."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE {ARCHIVED_OR_RESTORED_SINCE}"
        " AND key IN (SELECT value FROM json_each(?))",
        (since, since, json.dumps(list(keys))),
    )
    return [file_row(row) for row in rows]


# --- queueing again


def requeue_missing(ledger: Ledger, rows: Sequence[FileRow]) -> int:
    """Queue archived versions again, because their objects are missing in the bucket. Return how many were queued.

    Skips rows that are no longer archived, and files of which another version is still to be archived. The upload
    begins with the row's key. `archived_at` stays, so that `count_requeued` and `lost_rows` find them.
    """
    now = ledger.clock()

    def work(db: sqlite3.Connection) -> int:
        count = 0
        for row in rows:
            count += db.execute(
                "UPDATE files SET state = 0, priority = 1, token = randomblob(16), attempts = 0,"
                " next_try = NULL, base_key = key, upload_id = NULL, part_size = NULL,"
                # The clock may have been set back since, and `lost_rows` compares the two times.
                " seen_at = max(?, coalesce(archived_at, 0) + 0.001),"
                " wrote = NULL, etag = NULL, freed_at = NULL"
                " WHERE id = ? AND state = 3"
                " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.path = files.path AND o.state < 3)",
                (now, row.row),
            ).rowcount
        return count

    return ledger.change(work)


def count_requeued(ledger: Ledger) -> int:
    """Return how many versions that are still to be archived were archived before."""
    rows = ledger.read("SELECT count(*) FROM files WHERE state < 3 AND archived_at IS NOT NULL")
    return int(rows[0][0])


def lost_rows(ledger: Ledger) -> list[FileRow]:
    """Return the versions that were archived once, were queued again, and vanished before they were archived again."""
    if not ledger.totals().vanished.files:
        return []  # there is no index for it
    # Any other vanished version has the time when it vanished as `archived_at`, never before `seen_at`.
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 4 AND archived_at < seen_at ORDER BY id"
    )
    return [file_row(row) for row in rows]


class Restored(NamedTuple):
    """A local file that came back from the bucket; `archived_at` is in seconds since 1970, None: now."""

    version: FileVersion
    key: str
    sha256: str
    etag: str | None
    archived_at: float | None = None


def add_restored(ledger: Ledger, files: Sequence[Restored]) -> None:
    """Record restored files as archived, so that they are not uploaded again. Versions still to be archived stay so.

    A file is not recorded if `prune` is deleting its object; see `deletions`.
    """
    now = ledger.clock()

    def work(db: sqlite3.Connection) -> None:
        pruned = keys_being_pruned(db, (file.key for file in files))
        for file in files:
            if file.key not in pruned:
                _add_restored(db, file, now)

    ledger.change(work)


def _add_restored(db: sqlite3.Connection, file: Restored, now: float) -> None:
    version = file.version
    fingerprint = version.fingerprint
    archived_at = now if file.archived_at is None else min(file.archived_at, now)
    db.execute("DELETE FROM baseline WHERE fingerprint = ?", (fingerprint,))
    row = db.execute("SELECT id, state FROM files WHERE fingerprint = ?", (fingerprint,)).fetchone()
    facts = (
        *identity_values(version),
        file.key,
        bytes.fromhex(file.sha256),
        file.etag,
        now,
    )
    if row is None:
        db.execute(
            "INSERT INTO files (device, inode, ctime_offset, key, sha256, etag, restored_at, path, size, mtime_ns,"
            " fingerprint, state, priority, seen_at, archived_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 3, 1, ?, ?)",
            (
                *facts,
                os.fsencode(version.path),
                version.size_bytes,
                version.mtime_ns,
                fingerprint,
                now,
                archived_at,
            ),
        )
    elif row[1] >= FileState.ARCHIVED:
        db.execute(
            "UPDATE files SET device = ?, inode = ?, ctime_offset = ?,"
            " key = ?, sha256 = ?, etag = ?, restored_at = ?, freed_at = NULL,"
            " state = 3, archived_at = CASE WHEN state = 3 THEN archived_at ELSE ? END WHERE id = ?",
            (*facts, archived_at, row[0]),
        )


@contextlib.contextmanager
def existing_ledger(path: Path) -> Iterator[Ledger]:
    """Open an existing ledger for a command; an engine may use it at the same time. Raises LedgerError."""
    if not ledger_exists(path):
        raise LedgerError(
            f"There is no ledger at {path}: this user has archived nothing from this directory."
        )
    ledger = Ledger(path)
    ledger.open()
    try:
        yield ledger
    finally:
        ledger.close()


# --- cataloguing


def archived_and_pruned_rows(ledger: Ledger, *, after_row: int, limit: int) -> list[FileRow]:
    """Return the archived and pruned versions with a row above `after_row`, in the order of rows."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files NOT INDEXED WHERE id > ? AND state IN (3, 5) ORDER BY id LIMIT ?",
        (after_row, limit),
    )
    return [file_row(row) for row in rows]


def archived_since(ledger: Ledger, *, after: tuple[float, int], limit: int) -> list[FileRow]:
    """Return the versions that were archived after (archived_at, row), oldest first."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 AND archived_at >= ? AND (archived_at, id) > (?, ?)"
        " ORDER BY archived_at, id LIMIT ?",
        (after[0], *after, limit),
    )
    return [file_row(row) for row in rows]


def rows_of_path(ledger: Ledger, path: str, since: float) -> list[FileRow]:
    """Return the versions of a path that are still to be archived, and those archived at or after `since`.

    Paths of archived rows have no index, so every row that was archived since is read.
    """
    name = os.fsencode(path)
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files INDEXED BY files_open WHERE path = ? AND state < 3"
        f" UNION ALL SELECT {ROW_COLUMNS} FROM files WHERE state = 3 AND archived_at >= ? AND path = ?",
        (name, since, name),
    )
    return [file_row(row) for row in rows]


def count_uploading_files(ledger: Ledger) -> int:
    """Return how many versions are claimed now."""
    return int(ledger.read("SELECT files FROM totals WHERE state = 1")[0][0])
