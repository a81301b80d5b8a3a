"""What can be saved from a damaged ledger.

The files themselves need no saving: a scan finds them, and the bucket's own metadata tells which of them it holds.
Worth saving is what only the ledger knew: which files were there before the archive began.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from .ledger import Ledger

logger = logging.getLogger("cloud_archive.ledger")

_BESIDE = ("-wal", "-shm", "-journal")


def move_aside(path: Path) -> Path:
    """Rename the damaged file, and what SQLite keeps beside it, to a name with the time in it."""
    aside = path.with_name(f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    for suffix in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


def rescue(damaged: Path, fresh: Ledger) -> bool:
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
