"""Transactions on a connection that commits nothing by itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator


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
