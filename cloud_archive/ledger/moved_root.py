"""Continue, at a first start, after the ledger that the same files had at another path.

The watched directory was moved or copied, or its volume is mounted at another path, and the state directory came along.
Each path has its own ledger, and in a new one every file would count as older, also one that waited for its upload.

The new ledger takes over what was archived or older as baseline files, and the moment of the first start. Every other
file is new, as after a restart. The other ledger is only read, and from a copy: an engine on another machine may use
it, and SQLite's shared memory does not work across machines. Both ledgers go on independently. A file that both upload
under one key becomes one object, because that key then holds the same bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from pathlib import Path

from ..state import LEDGER_NAME, sibling_state_directories
from .ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, Ledger
from .schema import SCHEMA_VERSION
from .transactions import SQLITE_ERRORS

logger = logging.getLogger("cloud_archive.ledger")

SAMPLE = 500  # files of the other ledger to search for
_COPY_NAME = "ledger.other"  # a folder; after a kill it stays until the next try
# `FIRST_START` is the last one, because it says that the baseline is complete.
_CARRIED_OVER = (FIRST_START_BEGUN, COMPARE_WITH_BUCKET, FIRST_START)


def continue_after_move(ledger: Ledger, root: Path, state_directory: Path) -> None:
    """Take over from the ledger that the files of `root` had at another path, if there is one.

    No-op unless this is a first start. A ledger that can't be read is skipped. Raises LedgerError if `ledger` fails.
    """
    if ledger.recall(FIRST_START) is not None or ledger.recall(COMPARE_WITH_BUCKET) is not None:
        return
    copy = state_directory / _COPY_NAME
    for other in sibling_state_directories(state_directory):
        try:
            _copy_ledger(other, copy)
            with contextlib.closing(sqlite3.connect(str(copy / LEDGER_NAME))) as db:
                if _knows_files_of(root, db):
                    _take_over(ledger, db)
                    logger.warning(
                        "%s was archived at another path before: this archive continues after the ledger in %s."
                        " What that one knows as archived or older counts as older here.",
                        root,
                        other,
                    )
                    return
        except (OSError, *SQLITE_ERRORS) as error:
            logger.warning("The ledger in %s can't be read, and is not continued: %s", other, error)
        finally:
            shutil.rmtree(copy, ignore_errors=True)


def _copy_ledger(state_directory: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    for name in (LEDGER_NAME, f"{LEDGER_NAME}-wal"):
        with contextlib.suppress(FileNotFoundError):  # the log, or the ledger: then the copy is empty
            shutil.copyfile(state_directory / name, target / name)


def _knows_files_of(root: Path, db: sqlite3.Connection) -> bool:
    """Return whether `root` holds most of the newest files that should be on disk according to this ledger.

    One file is not enough: somebody may have copied it into a directory of other files.
    """
    if not 1 <= db.execute("PRAGMA user_version").fetchone()[0] <= SCHEMA_VERSION:
        return False
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("it is damaged, or was written to while it was copied")
    files = db.execute(
        "SELECT path, size, mtime_ns FROM files WHERE state < 3 OR (state = 3 AND freed_at IS NULL)"
        " ORDER BY id DESC LIMIT ?",
        (SAMPLE,),
    ).fetchall()
    found = sum(_holds(root, path, version) for path, *version in files)
    return found > len(files) // 2


def _holds(root: Path, path: bytes, version: list[int]) -> bool:
    try:
        stat = os.lstat(root / os.fsdecode(path))
    except (OSError, ValueError):
        return False
    return [stat.st_size, stat.st_mtime_ns] == version


def _take_over(ledger: Ledger, db: sqlite3.Connection) -> None:
    # Baseline files, and not versions that were archived once: CLOUD_ARCHIVE_BACKFILL=all still compares them.
    known = db.execute(
        "SELECT fingerprint FROM files WHERE state IN (3, 5) UNION SELECT fingerprint FROM baseline"
    )
    ledger.add_to_baseline(fingerprint for (fingerprint,) in known)
    for name in _CARRIED_OVER:
        value = _recall(db, name)
        if value is not None:
            ledger.remember(name, value)


def _recall(db: sqlite3.Connection, name: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])
