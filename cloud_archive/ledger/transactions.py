"""Transactions on a connection that commits nothing by itself, and SQLite's errors."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

# `sqlite3` raises UnicodeDecodeError where a damaged file holds text, or a name in an error message, that is not UTF-8.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_PAUSE_SECONDS = 0.05
_DAMAGE = ("malformed", "not a database", "unsupported file format", "Could not decode")


def error_message(error: Exception) -> str:
    """Return the message of one of `SQLITE_ERRORS`."""
    # SQLite calls it "disk I/O error" if a full disk has no room for the -shm file; Python 3.10 lacks the name.
    if getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE":
        return "database or disk is full"
    return str(error) or "Could not decode its error"  # Python 3.10 leaves the message out


def shows_damage(error: Exception, *more: str) -> bool:
    """Return whether one of `SQLITE_ERRORS` shows that the file is damaged.

    Args:
        more: further words in a message that mean damage in this database.
    """
    message = error_message(error)
    return isinstance(error, UnicodeDecodeError) or any(words in message for words in (*_DAMAGE, *more))


def turn_on_wal(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Turn on the write-ahead log. Where another process does the same at this moment, SQLite itself would not wait.

    Raises:
        sqlite3.OperationalError: the file is still locked after `wait_seconds`, or it can't be written.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """Begin a transaction, commit it at the end, and roll it back after any error.

    Args:
        durable: it survives a power cut. False: in WAL mode with `synchronous=NORMAL` it survives only a kill, see
            https://www.sqlite.org/pragma.html#pragma_synchronous.
    """
    if durable:
        connection.execute("PRAGMA synchronous=FULL")
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    finally:
        if durable:
            connection.execute("PRAGMA synchronous=NORMAL")
