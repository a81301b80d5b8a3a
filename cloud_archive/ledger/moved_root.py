"""Continue, at a first start, after the ledger that the same files had at another path.

The watched directory was moved or copied, or its volume is mounted at another path, and the state directory came along.
Each path has its own ledger, and in a new one every file would count as older, also one that waited for its upload.

The new ledger takes over the moment of the first start. Files that are there now and were archived or older become
baseline files. Every other file is new, as after a restart. So is an archived one that was still to be hashed again,
because it may have changed without new timestamps. So is one that comes later: a few files that somebody copied into a
directory with another bucket look like a move, and more of them may follow.

Multipart uploads that the other ledger has begun are aborted, unless its engine runs on this machine. An engine on
another machine that still sends one begins it again.

The other ledger is only read, and from a copy: an engine on another machine may use it, and SQLite's shared memory does
not work across machines. Both ledgers go on independently. A file that both upload under one key becomes one object,
because that key then holds the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
from itertools import islice
from pathlib import Path

from ..files import UNSURE_NS, fingerprints
from ..intake.selection import Selection
from ..intake.walk import walk
from ..own_files import OwnFiles
from ..state import BEGAN_NAME, LEDGER_NAME, engine_lock_is_held, sibling_state_directories
from .ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, Ledger
from .schema import SCHEMA_VERSION
from .transactions import SQLITE_ERRORS, error_message

logger = logging.getLogger("cloud_archive.ledger")

_Files = list[tuple[str, os.stat_result]]  # as `walk` yields them

SAMPLE = 500  # newest files of the other ledger, and files of the directory; each is searched for in the other place
FEW = 10  # fewer common files prove no move: somebody may have copied them from here for a trial
COPIES = 5  # how often a ledger is copied; a copy is damaged if SQLite moved pages out of its log meanwhile
_COPY_NAME = "ledger.other"  # a folder; after a kill it stays until the next start
_PIECE = 10_000  # files of the directory to search for at once


def continue_after_move(ledger: Ledger, root: Path, state_directory: Path) -> list[str]:
    """Take over from the ledger that the files of `root` had at another path, if there is one.

    No-op unless this is a first start. Raises LedgerError if `ledger` fails.

    Returns:
        A notice for users if a ledger can't be read, none is continued, and `root` has files that may have waited.
    """
    copy = state_directory / _COPY_NAME
    unreadable: list[str] = []
    try:
        if ledger.recall(FIRST_START) is not None or ledger.recall(COMPARE_WITH_BUCKET) is not None:
            return []
        others = sibling_state_directories(state_directory)
        sample = _sample(root, Selection(own=OwnFiles(root, state_directory))) if others else []
        for other in others:
            try:
                if _continue_after(other, copy, ledger, root, sample):
                    logger.warning(
                        "%s was archived at another path before: this archive continues after the ledger in %s."
                        " What that one knows as archived or older counts as older here.",
                        root,
                        other,
                    )
                    return []
            except (OSError, *SQLITE_ERRORS) as error:
                reason = error.strerror or error if isinstance(error, OSError) else error_message(error)
                unreadable.append(f"The ledger in {other} can't be read: {reason}.")
                logger.warning("%s", unreadable[-1])
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    if not unreadable or not sample:
        return []
    # One notice, about the ledger that was used last: on a full disk none can be read, and twenty notices are shown.
    return [
        f"{unreadable[0]} If it is that of this directory at an earlier path, files that waited there count as older"
        " ones now. Start once with CLOUD_ARCHIVE_BACKFILL=all to archive them."
    ]


def _sample(root: Path, selection: Selection) -> _Files:
    """Return some files that an archive of `root` may upload: no empty, hidden or temporary ones, and none of ours."""
    files = walk(root, selection.wants_folder)
    return list(islice((each for each in files if each[1].st_size and selection.wants(each[0])), SAMPLE))


def _continue_after(other: Path, copy: Path, ledger: Ledger, root: Path, sample: _Files) -> bool:
    """Return whether the ledger in `other` knows the files of `root`, and was taken over."""
    for tries_left in reversed(range(COPIES)):
        try:
            _copy_ledger(other, copy)
            with contextlib.closing(sqlite3.connect(str(copy / LEDGER_NAME))) as db:
                is_continued = _knows_files_of(root, sample, db)
                if is_continued:
                    _take_over(
                        ledger, db, root, [] if engine_lock_is_held(other) else _unfinished_uploads(db)
                    )
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


def _knows_files_of(root: Path, sample: _Files, db: sqlite3.Connection) -> bool:
    """Return whether `root` holds most of the newest files of this ledger, or the ledger knows most of `sample`.

    The latter is for archived files that were deleted since, and for a ledger with fewer than `FEW` files.
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
    if found >= FEW and found > len(files) // 2:
        return True
    return len(_known_files(db, sample)) > len(sample) // 2


def _holds(root: Path, path: bytes, version: list[int]) -> bool:
    try:
        stat = os.lstat(root / os.fsdecode(path))
    except (OSError, ValueError):
        return False
    return [stat.st_size, stat.st_mtime_ns] == version


def _known_files(db: sqlite3.Connection, files: _Files) -> list[tuple[int, bool]]:
    """Return the fingerprint of each file that this ledger knows, and whether it was archived or older."""
    columns = {row[1] for row in db.execute("PRAGMA table_info(files)")}
    # Leave out those that were to be hashed again. A ledger from before schema 4 does not mark them.
    sure = f"ctime_offset IS NOT {UNSURE_NS} - mtime_ns" if "ctime_offset" in columns else "1"
    return db.execute(
        f"SELECT value, baseline.fingerprint IS NOT NULL OR state = 5 OR (state = 3 AND {sure})"
        " FROM json_each(?) LEFT JOIN baseline ON baseline.fingerprint = value"
        " LEFT JOIN files ON files.fingerprint = value"
        " WHERE baseline.fingerprint IS NOT NULL OR files.fingerprint IS NOT NULL",
        (json.dumps(fingerprints(files)),),
    ).fetchall()


def _unfinished_uploads(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return (key, upload id or intent) of each multipart upload that this ledger knows and that has not ended."""
    begun = "SELECT key, upload_id FROM files WHERE key IS NOT NULL AND upload_id IS NOT NULL"
    return db.execute(f"{begun} UNION SELECT key, upload_id FROM abandoned").fetchall()


def _take_over(ledger: Ledger, db: sqlite3.Connection, root: Path, unfinished: list[tuple[str, str]]) -> None:
    files = walk(root)
    while piece := list(islice(files, _PIECE)):
        # Baseline files, and not versions that were archived once: CLOUD_ARCHIVE_BACKFILL=all still compares them.
        ledger.add_to_baseline(
            fingerprint for fingerprint, is_settled in _known_files(db, piece) if is_settled
        )
    names = (FIRST_START_BEGUN, COMPARE_WITH_BUCKET, FIRST_START)
    moments = db.execute("SELECT name, value FROM meta WHERE name IN (?, ?, ?)", names).fetchall()

    def work(ours: sqlite3.Connection) -> None:
        ours.executemany("INSERT OR IGNORE INTO abandoned VALUES (?, ?)", unfinished)
        ours.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", moments)

    ledger.change(work)  # last, and at one moment: the moments say that the baseline is complete
