"""Opening the ledger, at a start or where it fails while the archive runs, whatever has become of it.

| what it finds | what it does |
| --- | --- |
| a sound ledger | opens it |
| none, and there never was one | makes one: the first start |
| none, or an empty file, where one was | makes one; what is younger than the first start is compared with the bucket |
| a damaged one | keeps it aside, saves what can be saved, and compares the directory with the bucket |
| a disk that is full or cannot be written | works in memory, on a copy of what can be read |
| one of a newer version | refuses |
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ..errors import LedgerDamaged, LedgerError, LedgerTooNew
from ..private_files import write_private
from ..state import LEDGER_NAME
from .ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, LOG_FILES, Ledger

logger = logging.getLogger("cloud_archive.ledger")

IN_MEMORY_NOTICE = "Until then the archive works without a memory of its own."
_MOST_LOGS = 50  # that are remembered
_BEGAN_NAME = (
    "ledger.began"  # beside the ledger: since when there is one, for the day on which there is none any more
)

_BESIDE = ("-wal", "-shm", "-journal")


def open_ledger(state_directory: Path, *, began: float | None = None) -> tuple[Ledger, list[str], bool]:
    """Open the ledger; where it is unsound or cannot be written, archiving goes on all the same.

    Args:
        began: when this session began, in seconds since 1970; default: now.

    Returns:
        The open ledger, what users should know, and whether the whole directory must be compared with the bucket
        because what the old ledger knew is lost.

    Raises:
        LedgerTooNew: a newer version wrote it.
    """
    path = state_directory / LEDGER_NAME
    began = time.time() if began is None else began
    since = _since(state_directory)
    gone = since is not None and not _holds_something(path)
    if gone:
        move_aside(path)  # what SQLite keeps beside it belongs to the one that is gone
    ledger = Ledger(path)
    notices: list[str] = []
    everything = False
    try:
        ledger.open()
        if gone:
            assert since is not None
            notices.append(_begin_again(ledger, since))
        _commit_first_start(ledger, began if since is None else since)
    except LedgerTooNew:
        raise
    except LedgerDamaged as error:
        logger.error("%s", error)
        aside = move_aside(path)
        ledger = Ledger(path)
        try:
            ledger.open()
        except LedgerError as second:
            return _in_memory(second, aside, saved_as=path)
        ledger.remember(COMPARE_WITH_BUCKET, str(time.time()))
        _commit_first_start(ledger, began if since is None else since)
        everything = not recover_baseline(aside, ledger)
        notices.append(f"The ledger was damaged: it is kept as {aside.name}, and a new one is being built.")
    except LedgerError as error:
        return _in_memory(error, path, saved_as=path)
    if since is None:
        _note_since(state_directory, ledger, began)
    return ledger, notices, everything


def _holds_something(path: Path) -> bool:
    """Whether there is a ledger. An empty file is none, although SQLite would take it for a new one."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _commit_first_start(ledger: Ledger, began: float) -> None:
    """Commit when the first start began, so that a kill before its scan ends makes no file older than it is."""
    if ledger.recall(FIRST_START) is None and ledger.recall(FIRST_START_BEGUN) is None:
        ledger.remember(FIRST_START_BEGUN, str(began))


def _begin_again(ledger: Ledger, since: float) -> str:
    """A new ledger where one was lost; returns what users should know."""
    ledger.remember(FIRST_START_BEGUN, str(since))
    ledger.remember(COMPARE_WITH_BUCKET, str(time.time()))
    day = datetime.fromtimestamp(since).isoformat(" ", "seconds")
    sentence = (
        "The ledger was gone: a new one is being built. Files younger than the first start"
        f" ({day}) are compared with the bucket, older ones are left alone unless CLOUD_ARCHIVE_BACKFILL is all."
    )
    logger.error("%s", sentence)
    return sentence


def _since(state_directory: Path) -> float | None:
    """Since when there is a ledger here, or None where there never was one."""
    try:
        return float((state_directory / _BEGAN_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _note_since(state_directory: Path, ledger: Ledger, began: float) -> None:
    known = [ledger.recall(name) for name in (FIRST_START, FIRST_START_BEGUN)]
    since = min([float(text) for text in known if text is not None], default=began)
    with contextlib.suppress(OSError):
        write_private(state_directory / _BEGAN_NAME, f"{since}\n")


def _in_memory(error: LedgerError, path: Path, *, saved_as: Path) -> tuple[Ledger, list[str], bool]:
    """A copy of the ledger at `path`, as far as it can be read: what waits in it is still to be archived."""
    logger.error("%s", error)
    ledger = Ledger(None)
    lost = False
    try:
        ledger.open(copy_of=path if path.is_file() else None)
    except (LedgerError, OSError) as unreadable:
        logger.error("%s", unreadable)
        ledger, lost = Ledger(None), True
        ledger.open()
    # One that could not be read is not written over: it may be readable tomorrow.
    ledger.saved_as = None if lost and saved_as.exists() else saved_as
    return ledger, [f"{error} {IN_MEMORY_NOTICE}"], lost


def move_aside(path: Path) -> Path:
    """Rename the damaged file, and what SQLite keeps beside it, to a name with the time in it."""
    aside = path.with_name(f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    for suffix in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


def recover_baseline(damaged: Path, fresh: Ledger) -> bool:
    """Copy the baseline, and what was compacted or pruned. False where they cannot be read whole."""
    try:
        connection = sqlite3.connect(f"{damaged.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return False
    try:
        began = connection.execute("SELECT value FROM meta WHERE name = 'first_start'").fetchone()
        columns = {row[1] for row in connection.execute("PRAGMA table_info(baseline)")}
        archived = "archived" if "archived" in columns else "NULL"
        older: list[int] = []
        known: list[int] = []
        for mark, was_archived in connection.execute(f"SELECT fingerprint, {archived} FROM baseline"):
            (known if was_archived else older).append(mark)
        # What was pruned was deleted from the bucket on purpose: like what was compacted, it stays known even where
        # CLOUD_ARCHIVE_BACKFILL=all forgets the baseline.
        known += [row[0] for row in connection.execute("SELECT fingerprint FROM files WHERE state = 5")]
    except sqlite3.Error as error:
        logger.warning("Nothing could be saved from %s: %s", damaged.name, error)
        return False
    finally:
        connection.close()
    fresh.add_to_baseline(known, archived=True)
    if began is None:
        return False
    fresh.add_to_baseline(older)
    fresh.remember("first_start", began[0])
    logger.info("%d baseline entries saved from %s", len(older) + len(known), damaged.name)
    return True


def remember_log_files(ledger: Ledger, logs: Iterable[Path] = ()) -> list[Path]:
    """Return every file that an engine with this ledger ever logged to, `logs` included; they are remembered.

    Raises:
        LedgerError: they cannot be remembered.
    """
    known = json.loads(ledger.recall(LOG_FILES) or "[]")
    fresh = [str(log) for log in logs if str(log) not in known]
    if fresh:
        known = [*fresh, *known][:_MOST_LOGS]
        ledger.remember(LOG_FILES, json.dumps(known))
    return [Path(log) for log in known]
