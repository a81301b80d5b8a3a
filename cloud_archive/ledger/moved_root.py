"""Continue, at a first start, after the ledger that the same files had at another path.

The watched directory was moved or copied, or its volume is mounted at another path, and the state directory came along.
Each path has its own ledger, and in a new one every file would count as older, also one that waited for its upload.

The new ledger takes over what was archived or older as baseline files, and the moment of the first start. Every other
file is new, as after a restart. So is an archived one that was still to be hashed again, because it may have changed
without new timestamps. The other ledger is only read, and from a copy: an engine on another machine may use it, and
SQLite's shared memory does not work across machines. Both ledgers go on independently. A file that both upload under
one key becomes one object, because that key then holds the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
from array import array
from itertools import islice
from pathlib import Path

from ..files import UNSURE_NS, fingerprints
from ..intake.walk import walk
from ..state import BEGAN_NAME, LEDGER_NAME, sibling_state_directories
from .ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, Ledger
from .schema import SCHEMA_VERSION
from .transactions import SQLITE_ERRORS, error_message

logger = logging.getLogger("cloud_archive.ledger")

SAMPLE = 500  # files of the other ledger to search for, and files of the directory to search for in it
COPIES = 5  # how often a ledger is copied; a copy is damaged if SQLite moved pages out of its log meanwhile
_COPY_NAME = "ledger.other"  # a folder; after a kill it stays until the next start
_MAX_FINGERPRINTS = 1_000_000  # held in memory, at some 60 bytes each


def continue_after_move(ledger: Ledger, root: Path, state_directory: Path) -> list[str]:
    """Take over from the ledger that the files of `root` had at another path, if there is one.

    No-op unless this is a first start. Raises LedgerError if `ledger` fails.

    Returns:
        Notices for users about ledgers that can't be read, if none is continued.
    """
    copy = state_directory / _COPY_NAME
    notices: list[str] = []
    try:
        if ledger.recall(FIRST_START) is not None or ledger.recall(COMPARE_WITH_BUCKET) is not None:
            return []
        for other in sibling_state_directories(state_directory):
            try:
                if _continue_after(other, copy, ledger, root):
                    logger.warning(
                        "%s was archived at another path before: this archive continues after the ledger in %s."
                        " What that one knows as archived or older counts as older here.",
                        root,
                        other,
                    )
                    return []
            except (OSError, *SQLITE_ERRORS) as error:
                reason = error.strerror or error if isinstance(error, OSError) else error_message(error)
                notices.append(
                    f"The ledger in {other} can't be read: {reason}. If it is that of this directory at an earlier"
                    " path, files that waited there count as older ones now."
                    " Start once with CLOUD_ARCHIVE_BACKFILL=all to archive them."
                )
                logger.warning("%s", notices[-1])
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return notices


def _continue_after(other: Path, copy: Path, ledger: Ledger, root: Path) -> bool:
    """Return whether the ledger in `other` knows the files of `root`, and was taken over."""
    for tries_left in reversed(range(COPIES)):
        try:
            _copy_ledger(other, copy)
            with contextlib.closing(sqlite3.connect(str(copy / LEDGER_NAME))) as db:
                is_continued = _knows_files_of(root, db)
                if is_continued:
                    _take_over(ledger, db)
                return is_continued
        except SQLITE_ERRORS as error:
            if not tries_left or isinstance(error, sqlite3.NotSupportedError):
                raise
    raise AssertionError("the last try has returned or raised")


def _copy_ledger(state_directory: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    (target / BEGAN_NAME).touch()  # so that no archive takes the copy for an output, see `own_files`
    for suffix in ("", "-wal", "-journal"):
        name = LEDGER_NAME + suffix
        with contextlib.suppress(FileNotFoundError):  # a log, or the ledger: then the copy is empty
            shutil.copyfile(state_directory / name, target / name)


def _knows_files_of(root: Path, db: sqlite3.Connection) -> bool:
    """Return whether `root` holds most of the newest files of this ledger, or the ledger knows most files of `root`.

    The latter is for archived files that were deleted since. One file is not enough: somebody may have copied it into a
    directory of other files.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise sqlite3.NotSupportedError("it was written by a newer version of Cloud Archive")
    if version == 0:
        return False
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("it is damaged, or was written to while it was copied")
    files = db.execute(
        "SELECT path, size, mtime_ns FROM files WHERE state < 3 OR (state = 3 AND freed_at IS NULL)"
        " ORDER BY id DESC LIMIT ?",
        (SAMPLE,),
    ).fetchall()
    found = sum(_holds(root, path, version) for path, *version in files)
    return found > len(files) // 2 or _knows_most_files_of(root, db)


def _knows_most_files_of(root: Path, db: sqlite3.Connection) -> bool:
    sample = fingerprints(list(islice(walk(root), SAMPLE)))
    (known,) = db.execute(
        "SELECT count(*) FROM json_each(?) AS given"
        " WHERE EXISTS (SELECT 1 FROM files WHERE fingerprint = given.value)"
        " OR EXISTS (SELECT 1 FROM baseline WHERE fingerprint = given.value)",
        (json.dumps(sample),),
    ).fetchone()
    return int(known) > len(sample) // 2


def _holds(root: Path, path: bytes, version: list[int]) -> bool:
    try:
        stat = os.lstat(root / os.fsdecode(path))
    except (OSError, ValueError):
        return False
    return [stat.st_size, stat.st_mtime_ns] == version


def _take_over(ledger: Ledger, db: sqlite3.Connection) -> None:
    columns = {row[1] for row in db.execute("PRAGMA table_info(files)")}
    # Leave out those that were to be hashed again. A ledger from before schema 4 does not mark them.
    sure = f"ctime_offset IS NOT {UNSURE_NS} - mtime_ns" if "ctime_offset" in columns else "1"
    # Baseline files, and not versions that were archived once: CLOUD_ARCHIVE_BACKFILL=all still compares them.
    known = db.execute(
        f"SELECT fingerprint FROM files WHERE state = 5 OR (state = 3 AND {sure})"
        " UNION SELECT fingerprint FROM baseline"
    )
    known_fingerprints = (fingerprint for (fingerprint,) in known)
    while piece := array("q", islice(known_fingerprints, _MAX_FINGERPRINTS)):
        ledger.add_to_baseline(piece)
    names = (FIRST_START_BEGUN, COMPARE_WITH_BUCKET, FIRST_START)
    moments = db.execute("SELECT name, value FROM meta WHERE name IN (?, ?, ?)", names).fetchall()
    # Last, and at one moment: they say that the baseline is complete.
    ledger.change(
        lambda ours: ours.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", moments) and None
    )
