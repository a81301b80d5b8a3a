"""Deletions that `prune` is about to request, or whose results are not recorded yet.

`prune` commits each deletion before its request, and forgets it once ledger and catalog hold the result. If `prune` is
killed, its deletions stay, and `maintenance.interrupted_prune` finds out what became of the objects.

A key never has both a deletion under way and an attempt to archive a file there (`ClaimLedger.record_attempts`), and
`add_restored` records no file there. So an object that is being deleted never proves a file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from .ledger import Ledger
from .rows import ARCHIVED_OR_RESTORED_SINCE, ROW_COLUMNS, FileRow, file_row, mark_rows_pruned

_SLACK_SECONDS = 60.0  # a row gets its time of archiving before its commit, which may wait for the disk
_NO_ROW = 0
_PIECE = 5000  # keys in one commit, so that a running archive can continue
_DESTINATION = "deletions_destination"  # where the objects are, for `Ledger.recall`


class Deletion(NamedTuple):
    """A deletion whose result is not recorded. `rows` were archived at the key; `requested_at`: seconds since 1970."""

    key: str
    requested_at: float
    rows: tuple[FileRow, ...]


def forget_other_destinations(ledger: Ledger, destination: str) -> int:
    """Make this the destination of deletions. Forget those at another one, and return how many there were."""

    def work(db: sqlite3.Connection) -> int:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_DESTINATION, destination))
        return db.execute("DELETE FROM deletions").rowcount

    return 0 if are_deletions_at(ledger, destination) else ledger.change(work)


def are_deletions_at(ledger: Ledger, destination: str) -> bool:
    """Return whether the objects of the deletions are at this destination."""
    return ledger.recall(_DESTINATION) == destination


def rows_archived_since(ledger: Ledger, since: float) -> list[tuple[int, str]]:
    """Return row and key of each version archived or restored since then, in seconds since 1970, or shortly before."""
    return ledger.read_apart(
        f"SELECT id, key FROM files WHERE {ARCHIVED_OR_RESTORED_SINCE}", (since - _SLACK_SECONDS,) * 2
    )


def begin_deletions(ledger: Ledger, objects: Mapping[str, Sequence[FileRow]], *, since: float) -> set[str]:
    """Mark the rows of these objects as pruned, and record that the objects are about to be deleted.

    Args:
        objects: the key of each object, and the rows that are archived there.
        since: when these rows were read, or `rows_archived_since` was called, in seconds since 1970.

    Returns:
        The keys that stay as they are, because a file is being archived there, or a version that is not among these
        rows was archived or restored since.
    """
    now = ledger.clock()
    known = {row.row for rows in objects.values() for row in rows}

    def work(db: sqlite3.Connection) -> set[str]:
        given = json.dumps(list(objects))
        uploading = db.execute(
            "SELECT key FROM files INDEXED BY files_open WHERE state < 3 AND state = 1"
            " AND key IN (SELECT value FROM json_each(?))",
            (given,),
        )
        in_use = {key for (key,) in uploading}
        archived = db.execute(
            f"SELECT id, key FROM files WHERE {ARCHIVED_OR_RESTORED_SINCE} AND key IN (SELECT value FROM json_each(?))",
            (since - _SLACK_SECONDS, since - _SLACK_SECONDS, given),
        )
        in_use.update(key for row, key in archived if row not in known)
        for key, rows in objects.items():
            if key in in_use:
                continue
            db.executemany(
                "INSERT OR REPLACE INTO deletions (key, row, archived_at, requested_at, under_way)"
                " VALUES (?, ?, ?, ?, 1)",
                [(key, row.row, row.archived_at, now) for row in rows] or [(key, _NO_ROW, None, now)],
            )
            mark_rows_pruned(db, rows, now)
        return in_use

    return ledger.change(work)


def undo_deletions(ledger: Ledger, keys: Collection[str]) -> None:
    """Mark the rows of these objects as archived again, because the objects are there, and forget the deletions."""

    def work(db: sqlite3.Connection, given: str) -> None:
        rows = db.execute(
            "SELECT archived_at, row, key FROM deletions WHERE key IN (SELECT value FROM json_each(?))",
            (given,),
        ).fetchall()
        # With the key, because SQLite may give the id of a compacted row to a new one.
        db.executemany(
            "UPDATE files SET state = 3, archived_at = ? WHERE id = ? AND key = ? AND state = 5", rows
        )
        _forget(db, given)

    _change_in_pieces(ledger, keys, work)


def forget_deletions(ledger: Ledger, keys: Collection[str]) -> None:
    """Forget the deletions of these objects, because their results are recorded."""
    _change_in_pieces(ledger, keys, _forget)


def _change_in_pieces(
    ledger: Ledger, keys: Collection[str], work: Callable[[sqlite3.Connection, str], None]
) -> None:
    listed = list(keys)
    for start in range(0, len(listed), _PIECE):
        some = json.dumps(listed[start : start + _PIECE])
        ledger.change(lambda db, some=some: work(db, some))  # type: ignore[misc]


def _forget(db: sqlite3.Connection, given: str) -> None:
    db.execute("DELETE FROM deletions WHERE key IN (SELECT value FROM json_each(?))", (given,))


def unblock_keys(ledger: Ledger, before: float) -> None:
    """Let files be archived at the keys of deletions that were requested before this time, in seconds since 1970.

    Call it only once no request can delete these objects any more. A request in the future counts as earlier: the clock
    was set back since.
    """
    which, times = "WHERE under_way AND (requested_at < ? OR requested_at > ?)", (before, ledger.clock())
    if ledger.read(f"SELECT 1 FROM deletions {which} LIMIT 1", times):
        ledger.execute(f"UPDATE deletions SET under_way = 0 {which}", times)


def unfinished_deletions(ledger: Ledger, *, before: float, after_key: str = "", limit: int) -> list[Deletion]:
    """Return deletions that were requested before this time, in the order of keys; for `before` see `unblock_keys`."""
    keys = ledger.read(
        "SELECT key, max(requested_at) AS latest FROM deletions WHERE key > ? GROUP BY key"
        " HAVING latest < ? OR latest > ? ORDER BY key LIMIT ?",
        (after_key, before, ledger.clock(), limit),
    )
    found: dict[str, list[FileRow]] = {key: [] for key, _ in keys}
    rows = ledger.read(
        f"SELECT {ROW_COLUMNS} FROM files WHERE state = 5 AND id IN"
        " (SELECT row FROM deletions WHERE key IN (SELECT value FROM json_each(?)))",
        (json.dumps(list(found)),),
    )
    for row in map(file_row, rows):
        if row.key in found:
            found[row.key].append(row)
    return [Deletion(key, latest, tuple(found[key])) for key, latest in keys]


def has_deletions(ledger: Ledger) -> bool:
    """Return whether there are any; costs next to nothing."""
    return bool(ledger.read("SELECT 1 FROM deletions LIMIT 1"))
