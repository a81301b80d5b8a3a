"""Keep the most recently used thumbnails on the local disk, up to a total size."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

from ...ledger.transactions import SQLITE_ERRORS
from ...private_files import NotPrivate, make_private_database

CACHE_NAME = "thumbnails.sqlite3"
MAX_CACHE_BYTES = 512 * 1024 * 1024
# The part of a full cache that is freed at once, so that this is rarely necessary.
_SPARE = 0.1
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 5.0
# Words in SQLite's messages for errors that do not mean that the file is damaged.
_NOT_DAMAGED = ("is locked", "disk I/O error", "disk is full", "unable to open")


class ThumbnailCache:
    """A database of its own beside the catalog, so that neither can damage the other.

    Never raises: if the file can't be read, `get` returns None; if it can't be written, `put` does nothing.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._size = 0

    def open(self) -> None:
        """Open the cache; it stays empty if its file can't be opened now.

        A file that is damaged or a symbolic link is deleted and made anew.
        """
        with self._lock:
            for _ in range(2):
                try:
                    self._open()
                    return
                except (*SQLITE_ERRORS, OSError) as error:
                    self._close()
                    if isinstance(error, sqlite3.Error) and any(one in str(error) for one in _NOT_DAMAGED):
                        return
                    for suffix in ("", "-wal", "-shm", "-journal"):
                        with contextlib.suppress(OSError):
                            self._path.with_name(self._path.name + suffix).unlink()

    def _open(self) -> None:
        try:
            make_private_database(self._path)
        except NotPrivate as error:
            raise OSError(str(error)) from error  # so `open` deletes the file
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=_BUSY_SECONDS)
        self._db = db
        db.execute("PRAGMA synchronous=OFF")  # first, or the next line would cost four fsyncs for a new file
        db.execute("PRAGMA journal_mode=WAL")
        if db.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
            db.execute("DROP TABLE IF EXISTS thumbnails")
            db.execute(
                "CREATE TABLE thumbnails (asset BLOB PRIMARY KEY, version TEXT NOT NULL, used INTEGER NOT NULL,"
                " data BLOB NOT NULL)"
            )
            db.execute("CREATE INDEX thumbnails_used ON thumbnails (used)")
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._size = int(db.execute("SELECT coalesce(sum(length(data)), 0) FROM thumbnails").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def get(self, asset: bytes, version: str) -> bytes | None:
        """Return a thumbnail; empty: none can be made of the file; None: the cache does not hold it.

        Args:
            asset: its id, 16 bytes.
            version: as `PicturedAsset.version`; a thumbnail of another version is not returned.
        """
        with self._lock, contextlib.suppress(*SQLITE_ERRORS):
            if self._db is None:
                return None
            found = self._db.execute(
                "SELECT version, data FROM thumbnails WHERE asset = ?", (asset,)
            ).fetchone()
            if found is None or found[0] != version:
                return None
            with contextlib.suppress(*SQLITE_ERRORS):  # locked by another process, or the disk is full
                self._db.execute("UPDATE thumbnails SET used = ? WHERE asset = ?", (time.time_ns(), asset))
            return bytes(found[1])
        return None

    def put(self, asset: bytes, version: str, data: bytes) -> None:
        """Keep a thumbnail. If the cache is full, drop the least recently used ones. Empty data: none can be made."""
        with self._lock, contextlib.suppress(*SQLITE_ERRORS):
            if self._db is None:
                return
            before = self._db.execute(
                "SELECT length(data) FROM thumbnails WHERE asset = ?", (asset,)
            ).fetchone()
            self._db.execute(
                "INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?, ?)",
                (asset, version, time.time_ns(), data),
            )
            self._size += len(data) - (before[0] if before else 0)
            if self._size > self._max_bytes:
                self._make_room(self._db)

    def _make_room(self, db: sqlite3.Connection) -> None:
        while self._size > self._max_bytes * (1 - _SPARE):
            oldest = db.execute(
                "SELECT asset, length(data) FROM thumbnails ORDER BY used LIMIT 100"
            ).fetchall()
            if not oldest:
                return
            for asset, length in oldest:
                db.execute("DELETE FROM thumbnails WHERE asset = ?", (asset,))
                self._size -= length
                if self._size <= self._max_bytes * (1 - _SPARE):
                    return
