"""Open the ledger, at a start or after it failed, and recover from its loss or damage.

| state of the ledger | what happens |
| --- | --- |
| intact | it is opened |
| missing, and there never was one | a new one is made: the first start; see also `moved_root` |
| missing or empty, but there was one | a new one is made; files since the first start are compared with the bucket |
| damaged | it is renamed, its baseline is recovered, and the directory is compared with the bucket |
| it can't be written: full or read-only disk, a lock | the archive works in memory, on a copy of what can be read |
| written by a newer version | an error |
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ..errors import LedgerDamaged, LedgerError, LedgerTooNew
from ..private_files import database_uri, write_private
from ..state import BEGAN_NAME, LEDGER_NAME
from .ledger import COMPARE_WITH_BUCKET, DAMAGED_LEDGER, FIRST_START, FIRST_START_BEGUN, LOG_FILES, Ledger
from .moved_root import continue_after_move
from .transactions import SQLITE_ERRORS

logger = logging.getLogger("cloud_archive.ledger")

IN_MEMORY_NOTICE = "Until the ledger can be used again, nothing is remembered across restarts."
_MAX_LOGS = 50
_SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")


def open_ledger(
    state_directory: Path, *, root: Path | None = None, began: float | None = None
) -> tuple[Ledger, list[str], bool]:
    """Open the ledger, or what replaces it; see the table above.

    Raises LedgerTooNew.

    Args:
        root: the watched directory, to continue after a move; see `moved_root`. None = don't.
        began: when ComfyUI or this process started, in seconds since 1970; default: now.

    Returns:
        The open ledger, notices for users, and whether the whole directory must be compared with the bucket because
        the old ledger's content is lost.
    """
    path = state_directory / LEDGER_NAME
    began = time.time() if began is None else began
    since = _read_began(state_directory)
    gone = since is not None and not ledger_exists(path)
    if gone:
        try:
            move_aside(path)  # SQLite's other files belong to the lost ledger
        except OSError as error:
            lost = LedgerError(f"The ledger was missing, and what is left of it can't be renamed: {error}.")
            return _in_memory(lost, path, saved_as=path, began=began)
    ledger = Ledger(path)
    notices: list[str] = []
    everything = False
    try:
        ledger.open()
        if gone:
            assert since is not None
            notices.append(_replace_lost(ledger, since))
        _commit_first_start(ledger, began if since is None else since)
        if root is not None:
            notices += continue_after_move(ledger, root, state_directory)
        ledger.rows(limit=1)  # fails if the name of a column is damaged
        damaged = ledger.recall(DAMAGED_LEDGER)
        if damaged is not None and ledger.recall(FIRST_START) is None:
            # An earlier process was killed during the recovery, or during the scan that follows it.
            everything = not recover_baseline(path.with_name(damaged), ledger)
    except LedgerTooNew:
        raise
    except LedgerDamaged as error:
        ledger.close()
        return _replace_damaged(error, path, since=since, began=began)
    except LedgerError as error:
        ledger.close()
        ledger, notices, everything = _in_memory(error, path, saved_as=path, began=began)
        if root is not None:
            notices += continue_after_move(ledger, root, state_directory)
            _write_began(state_directory, ledger, began)  # it may have begun at the earlier path
        return ledger, notices, everything
    if since is None:
        _write_began(state_directory, ledger, began)
    return ledger, notices, everything


def _replace_damaged(
    error: LedgerDamaged, path: Path, *, since: float | None, began: float
) -> tuple[Ledger, list[str], bool]:
    """Make a new ledger in place of a damaged one, and return what `open_ledger` does.

    `since`: when the first start began, if the state directory records it.
    """
    logger.error("%s", error)
    try:
        aside = move_aside(path)
    except OSError:
        return _in_memory(error, path, saved_as=path, began=began)
    ledger = Ledger(path)
    try:
        ledger.open()
    except LedgerError as second:
        return _in_memory(second, aside, saved_as=path, began=began)
    try:
        ledger.remember(DAMAGED_LEDGER, aside.name)
        ledger.remember(COMPARE_WITH_BUCKET, str(time.time()))
        _commit_first_start(ledger, began if since is None else since)
        everything = not recover_baseline(aside, ledger)
    except LedgerError as full:
        ledger.close()
        ledger, notices, _ = _in_memory(full, path, saved_as=path, began=began)
        return ledger, notices, not recover_baseline(aside, ledger)
    if since is None:
        _write_began(path.parent, ledger, began)
    notice = f"The ledger was damaged: it is kept as {aside.name}, and a new one is being built."
    return ledger, [notice], everything


def ledger_exists(path: Path) -> bool:
    """Return whether there is a ledger, or may be one. An empty file, which SQLite would open, is none."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _commit_first_start(ledger: Ledger, began: float) -> None:
    """Commit when the first start began, so that a kill during its scan doesn't make new files count as old."""
    if ledger.recall(FIRST_START) is None and ledger.recall(FIRST_START_BEGUN) is None:
        ledger.remember(FIRST_START_BEGUN, str(began))


def _replace_lost(ledger: Ledger, since: float) -> str:
    """Prepare a new ledger in place of a lost one, and return a notice for users."""
    ledger.remember(FIRST_START_BEGUN, str(since))
    ledger.remember(COMPARE_WITH_BUCKET, str(time.time()))
    day = datetime.fromtimestamp(since).isoformat(" ", "seconds")
    sentence = (
        "The ledger was missing: a new one is being built. Unless CLOUD_ARCHIVE_BACKFILL is all or none, files younger"
        f" than the first start ({day}) are compared with the bucket, and older ones are left alone."
    )
    logger.error("%s", sentence)
    return sentence


def _read_began(state_directory: Path) -> float | None:
    """Return when the first start began, in seconds since 1970; None if that is not recorded here."""
    try:
        return float((state_directory / BEGAN_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _write_began(state_directory: Path, ledger: Ledger, began: float) -> bool:
    """Write beside the ledger when the first start began. Return whether that was possible."""
    known = [ledger.recall(name) for name in (FIRST_START, FIRST_START_BEGUN)]
    since = min([float(text) for text in known if text is not None], default=began)
    try:
        write_private(state_directory / BEGAN_NAME, f"{since}\n")
    except OSError:
        return False
    return True


def _in_memory(
    error: LedgerError, path: Path, *, saved_as: Path, began: float
) -> tuple[Ledger, list[str], bool]:
    """Open a ledger in memory with a copy of the one at `path`, so that its waiting files are still archived."""
    logger.error("%s", error)
    ledger = Ledger(None)
    lost = False
    try:
        ledger.open(copy_of=path if path.is_file() and not path.is_symlink() else None)
    except (LedgerError, OSError) as unreadable:
        logger.error("%s", unreadable)
        ledger, lost = Ledger(None), True
        ledger.open()
    # Don't overwrite a ledger that could not be read; it may be readable later.
    ledger.saved_as = None if lost and ledger_exists(saved_as) else saved_as
    began_before = ledger.recall(FIRST_START) is not None or ledger.recall(FIRST_START_BEGUN) is not None
    since = _read_began(saved_as.parent)
    if since is not None and not began_before:
        # An earlier session archived in memory only, or the ledger was lost as well.
        ledger.remember(FIRST_START_BEGUN, str(since))
        ledger.remember(COMPARE_WITH_BUCKET, str(time.time()))
    ledger.survives_kill = began_before or since is not None or _write_began(saved_as.parent, ledger, began)
    sentences = [str(error)]
    if not ledger.survives_kill:
        sentences.append(
            "If this process is killed before the ledger can be used again, files that are not archived yet count"
            " as old ones."
        )
    return ledger, [" ".join([*sentences, IN_MEMORY_NOTICE])], lost


def move_aside(path: Path) -> Path:
    """Rename a database and SQLite's other files, with the time in the name. Return the new path.

    Raises OSError if one of them can't be renamed; then all keep their names.
    """
    # The random digits keep apart what is renamed within one second.
    label = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    aside = path.with_name(f"{path.stem}.damaged-{label}{path.suffix}")
    renamed: list[tuple[Path, Path]] = []
    try:
        for suffix in ("", *_SQLITE_SUFFIXES):
            before, after = path.with_name(path.name + suffix), aside.with_name(aside.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                before.replace(after)
                renamed.append((before, after))
    except OSError:
        for before, after in renamed:
            after.replace(before)
        raise
    return aside


def move_back(aside: Path, path: Path) -> None:
    """Undo `move_aside`. This replaces the new database at `path`, which could not be used."""
    for suffix in (*_SQLITE_SUFFIXES, ""):
        target = path.with_name(path.name + suffix)
        try:
            aside.with_name(aside.name + suffix).replace(target)
        except FileNotFoundError:
            target.unlink(missing_ok=True)
        except OSError as error:
            logger.error("%s could not be renamed to %s: %s", aside.name, path.name, error)
            return


def recover_baseline(damaged: Path, fresh: Ledger) -> bool:
    """Copy the baseline and the pruned versions from a damaged ledger.

    Return False if any can't be read, or if the first scan had not ended: then the baseline is not complete.
    """
    try:
        connection = sqlite3.connect(database_uri(damaged, "mode=ro"), uri=True)
    except sqlite3.Error:
        return False
    try:
        began = connection.execute("SELECT value FROM meta WHERE name = ?", (FIRST_START,)).fetchone()
        columns = {row[1] for row in connection.execute("PRAGMA table_info(baseline)")}
        archived = "archived" if "archived" in columns else "NULL"
        older: list[int] = []
        known: list[int] = []
        for fingerprint, was_archived in connection.execute(f"SELECT fingerprint, {archived} FROM baseline"):
            (known if was_archived else older).append(fingerprint)
        # Pruned objects were deleted on purpose. Like compacted versions they stay known, even if
        # CLOUD_ARCHIVE_BACKFILL=all clears the baseline.
        known += [row[0] for row in connection.execute("SELECT fingerprint FROM files WHERE state = 5")]
    except SQLITE_ERRORS as error:
        logger.warning("Nothing could be recovered from %s: %s", damaged.name, error)
        return False
    finally:
        connection.close()
    fresh.add_to_baseline(known, archived=True)
    if began is None:
        return False
    fresh.add_to_baseline(older)
    fresh.remember(FIRST_START, began[0])
    logger.info("%d baseline entries were recovered from %s.", len(older) + len(known), damaged.name)
    return True


def remember_log_files(ledger: Ledger, logs: Iterable[Path] = ()) -> list[Path]:
    """Store these log files in the ledger, and return the last ones that engines with this ledger have logged to."""
    known = json.loads(ledger.recall(LOG_FILES) or "[]")
    fresh = [str(log) for log in logs if str(log) not in known]
    if fresh:
        known = [*fresh, *known][:_MAX_LOGS]
        ledger.remember(LOG_FILES, json.dumps(known))
    return [Path(log) for log in known]
