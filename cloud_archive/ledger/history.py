"""The ledger's rows after they were archived: found by key, summed up, freed, pruned, restored, put back.

What runs for minutes (a check of a million objects, a report) reads through a connection of its own and holds no
snapshot in between, so that the archive goes on beside it and its log can be folded back into the ledger. Changes
go through the ledger's one writer like any other.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LedgerError
from ..files import FileVersion
from .database import explain_sqlite_error
from .ledger import Ledger
from .rows import ROW_COLUMNS, FileRow, FileState, file_row, identity_values, unsigned

_ENDED = "state IN (3, 4, 5) AND archived_at < ?"
SLOT_SECONDS = 900
"""Sums by time come in quarters of an hour: every time zone's offset is a multiple of that, so days add up."""


@dataclass(frozen=True, slots=True)
class TimeSlot:
    """What came into the bucket in one quarter of an hour; `start` in seconds since 1970."""

    start: int
    files: int
    size_bytes: int


# --- summing up


def newest_archived(ledger: Ledger, limit: int) -> list[FileRow]:
    """Return what was archived last, newest first."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 ORDER BY archived_at DESC, id DESC LIMIT ?",
        (limit,),
    )
    return [file_row(row) for row in rows]


def archived_by_time(ledger: Ledger, since: float | None = None) -> list[TimeSlot]:
    """What is in the bucket, by when it came there; without empty slots, oldest first.

    Args:
        since: seconds since 1970; only what came then or later.
    """
    rows = ledger.read_apart(
        f"SELECT CAST(archived_at / {SLOT_SECONDS} AS INTEGER) AS slot, count(*), sum(size) FROM files"
        " WHERE state = 3 AND archived_at >= ? GROUP BY slot ORDER BY slot",
        (since if since is not None else 0.0,),
    )
    return [TimeSlot(slot * SLOT_SECONDS, files, size) for slot, files, size in rows]


def archived_paths(ledger: Ledger, *, page: int = 50_000) -> Iterator[list[tuple[bytes, int]]]:
    """Path and size of every archived row, a page at a time and as the ledger holds them: a million in a second."""
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


def expected_paths(ledger: Ledger, limit: int) -> list[tuple[str, int]]:
    """Return path and device of the newest files that should be on this disk: archived and not freed, or waiting."""
    rows = ledger.read(
        "SELECT path, device FROM files WHERE state < 3 OR (state = 3 AND freed_at IS NULL)"
        " ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [(os.fsdecode(path), unsigned(device)) for path, device in rows]


# --- compacting


def compactable(ledger: Ledger, before: float) -> int:
    """How many rows ended (archived, pruned or vanished) before this moment, in seconds since 1970."""
    return int(ledger.read_apart(f"SELECT count(*) FROM files WHERE {_ENDED}", (before,))[0][0])


def compact(
    ledger: Ledger, before: float, *, page: int = 5000, on_progress: Callable[[int], None] = lambda done: None
) -> int:
    """Keep of rows that ended before this moment only that they are known: 12 bytes instead of some 290.

    A page at a time, so that an archive that runs goes on. Returns how many rows there were.
    """
    done = 0

    def work(db: sqlite3.Connection) -> int:
        rows = db.execute(
            f"SELECT id, fingerprint, state FROM files WHERE {_ENDED} LIMIT {page}", (before,)
        ).fetchall()
        db.executemany(
            "INSERT OR REPLACE INTO baseline (fingerprint, archived) VALUES (?, 1)",
            [(mark,) for _, mark, state in rows if state != FileState.VANISHED],
        )
        db.executemany("DELETE FROM files WHERE id = ?", [(row,) for row, _, _ in rows])
        return len(rows)

    while count := ledger.change(work):
        done += count
        on_progress(done)
    return done


def vacuum(ledger: Ledger) -> bool:
    """Give the space of rows that are gone back to the disk; False where somebody else uses the ledger just now."""
    try:
        with contextlib.closing(ledger.connect()) as db:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:
        return False
    return True


# --- freeing


def oldest_local_files(
    ledger: Ledger, *, before_ns: int, after: tuple[int, int] = (-(1 << 62), 0), limit: int = 200
) -> list[FileRow]:
    """Archived versions whose local file may still be there, the oldest by modification time first.

    Args:
        before_ns: only those modified before this, in nanoseconds since 1970.
        after: (mtime_ns, row) of the last one of the page before.
    """
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 AND freed_at IS NULL"
        " AND mtime_ns >= ? AND mtime_ns < ? AND (mtime_ns > ? OR id > ?) ORDER BY mtime_ns, id LIMIT ?",
        (after[0], before_ns, after[0], after[1], limit),
    )
    return [file_row(row) for row in rows]


def mark_freed(ledger: Ledger, rows: Sequence[int]) -> None:
    """Their local files are gone: removed by us after proof, or by somebody else, or replaced."""
    now = ledger.clock()
    marks = [(now, row) for row in rows]
    ledger.change(
        lambda db: db.executemany("UPDATE files SET freed_at = ? WHERE id = ? AND state = 3", marks) and None
    )


# --- pruning


def mark_pruned(ledger: Ledger, rows: Sequence[int]) -> None:
    """Their objects are about to be deleted on purpose."""
    now = ledger.clock()
    marks = [(now, row) for row in rows]
    ledger.change(
        lambda db: (
            db.executemany("UPDATE files SET state = 5, archived_at = ? WHERE id = ? AND state = 3", marks)
            and None
        )
    )


def unmark_pruned(ledger: Ledger, rows: Sequence[FileRow]) -> None:
    """The store did not delete these after all: they are archived as before."""
    marks = [(row.archived_at, row.row) for row in rows]
    ledger.change(
        lambda db: (
            db.executemany("UPDATE files SET state = 3, archived_at = ? WHERE id = ? AND state = 5", marks)
            and None
        )
    )


# --- putting back


def requeue_missing(ledger: Ledger, rows: Sequence[FileRow]) -> int:
    """Archived versions that the bucket does not hold any more, and the disk does, are pending again.

    They keep their keys: at a key that is free again the object is as before, and at one that somebody else has
    taken the next conflict name follows. They also keep `archived_at`, which tells them from files that were never
    archived: see `count_requeued`.

    Returns:
        How many; the others are no longer archived rows, or a newer version of the file is on its way.
    """
    now = ledger.clock()

    def work(db: sqlite3.Connection) -> int:
        count = 0
        for row in rows:
            count += db.execute(
                "UPDATE files SET state = 0, priority = 1, token = randomblob(16), attempts = 0,"
                " next_try = NULL, base_key = key, upload_id = NULL, part_size = NULL, seen_at = ?,"
                " wrote = NULL, etag = NULL, freed_at = NULL"
                " WHERE id = ? AND state = 3"
                " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.path = files.path AND o.state < 3)",
                (now, row.row),
            ).rowcount
        return count

    return ledger.change(work)


def count_requeued(ledger: Ledger) -> int:
    """Return how many versions were archived once and are in the queue again."""
    found = ledger.read("SELECT count(*) FROM files WHERE state < 3 AND archived_at IS NOT NULL")
    return int(found[0][0])


@dataclass(frozen=True, slots=True)
class Restored:
    """A local file that came back from the bucket.

    Attributes:
        version: its path is relative to the watched directory.
        archived_at: when it was archived, in seconds since 1970; None: now.
    """

    version: FileVersion
    key: str
    sha256: str
    etag: str | None
    archived_at: float | None = None


def add_restored(ledger: Ledger, files: Sequence[Restored]) -> None:
    """Know these as archived, so that they are not uploaded again. What waits or is being uploaded stays as it is."""
    now = ledger.clock()

    def work(db: sqlite3.Connection) -> None:
        for file in files:
            _add_restored(db, file, now)

    ledger.change(work)


def _add_restored(db: sqlite3.Connection, file: Restored, now: float) -> None:
    version = file.version
    mark = version.fingerprint
    archived_at = now if file.archived_at is None else min(file.archived_at, now)
    db.execute("DELETE FROM baseline WHERE fingerprint = ?", (mark,))
    found = db.execute("SELECT id, state FROM files WHERE fingerprint = ?", (mark,)).fetchone()
    facts = (
        *identity_values(version),
        file.key,
        bytes.fromhex(file.sha256),
        file.etag,
        now,
    )
    if found is None:
        db.execute(
            "INSERT INTO files (device, inode, ctime_offset, key, sha256, etag, restored_at, path, size, mtime_ns,"
            " fingerprint, state, priority, seen_at, archived_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 3, 1, ?, ?)",
            (*facts, os.fsencode(version.path), version.size_bytes, version.mtime_ns, mark, now, archived_at),
        )
    elif found[1] >= FileState.ARCHIVED:
        db.execute(
            "UPDATE files SET device = ?, inode = ?, ctime_offset = ?,"
            " key = ?, sha256 = ?, etag = ?, restored_at = ?, freed_at = NULL,"
            " state = 3, archived_at = CASE WHEN state = 3 THEN archived_at ELSE ? END WHERE id = ?",
            (*facts, archived_at, found[0]),
        )


@contextlib.contextmanager
def existing_ledger(path: Any, *, clock: Callable[[], float] = time.time) -> Iterator[Ledger]:
    """A ledger that exists, for a command; an engine may have it open at the same time.

    Raises:
        LedgerError: there is none, or it cannot be used.
    """
    if not path.is_file():
        raise LedgerError(
            f"There is no ledger at {path}: nothing was archived from this directory on this machine."
        )
    ledger = Ledger(path, clock=clock)
    ledger.open()
    try:
        yield ledger
    finally:
        ledger.close()


# --- cataloguing


def archived_rows(ledger: Ledger, *, after_row: int, limit: int) -> list[FileRow]:
    """Return archived and pruned versions in the order of their rows, those after `after_row`."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files NOT INDEXED WHERE id > ? AND state IN (3, 5) ORDER BY id LIMIT ?",
        (after_row, limit),
    )
    return [file_row(row) for row in rows]


def archived_since(ledger: Ledger, *, after: tuple[float, int], limit: int) -> list[FileRow]:
    """Return archived versions in the order in which they were, those after (archived_at, row)."""
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 3 AND archived_at >= ? AND (archived_at, id) > (?, ?)"
        " ORDER BY archived_at, id LIMIT ?",
        (after[0], *after, limit),
    )
    return [file_row(row) for row in rows]


def uploading_files(ledger: Ledger) -> int:
    """Return how many files are being uploaded now."""
    return int(ledger.read("SELECT files FROM totals WHERE state = 1")[0][0])
