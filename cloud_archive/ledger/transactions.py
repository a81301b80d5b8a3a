"""Transactions on a connection that commits nothing by itself, and SQLite's errors."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

# `sqlite3` raises UnicodeDecodeError where a damaged file holds text, or a name in an error message, that is not UTF-8.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)


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
