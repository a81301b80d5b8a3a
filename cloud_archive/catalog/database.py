"""`catalog.sqlite3`: one writer at a time, a few readers, and what happens where the file is damaged."""

from __future__ import annotations

import contextlib
import gc
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CatalogDamaged, CatalogError
from ..ledger.recovery import move_aside, move_back
from ..ledger.transactions import SQLITE_ERRORS, error_message, shows_damage, transaction, turn_on_wal
from ..private_files import NotPrivate, database_uri, make_private_database
from .bucket.tables import DELETIONS, create_bucket_tables, queue_kept
from .identity import asset_id_bytes
from .lookup import fold_case, searched_names
from .rows import full_key
from .schema import DERIVED_TABLES, KEPT_COLUMNS, KEPT_TABLES, SCHEMA_VERSION

logger = logging.getLogger("cloud_archive.catalog")

CATALOG_NAME = "catalog.sqlite3"
T = TypeVar("T")
Row = tuple[Any, ...]
_BUSY_SECONDS = 20.0
_MAX_IDLE_READERS = 4
_CACHE_KIB = 16 * 1024  # page cache of a connection
_FILLING_KIB = 40 * 1024  # page cache of the writer in `filling`
_FILLING_THRESHOLD = 100_000  # new objects between two runs of Python's garbage collector


class CatalogDatabase:
    """The open file; safe to use from any thread, beside other processes.

    Args:
        read_only: the file must exist; else it is created if missing.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._closed = False

    def open(self) -> None:
        """Open the file, and make the tables if they are missing.

        Raises:
            CatalogDamaged: it is no valid database, or a newer version made it.
            CatalogError: it can't be opened or written, or `read_only` is set and an older version made it.
        """
        if not self._read_only:
            try:
                make_private_database(self.path)
            except NotPrivate as error:
                raise CatalogError(f"The catalog {self.path} is not used: {error}.") from error
        with self._explaining():
            connection = self._connect()
            try:
                if not self._read_only:
                    turn_on_wal(connection, _BUSY_SECONDS)
                    connection.execute("PRAGMA synchronous=NORMAL")
                    # Writing a million rows touches the whole file: mapped, it would count as memory.
                    connection.execute("PRAGMA mmap_size=0")
                _make_tables(connection, self.path, self._read_only)
            except BaseException:
                connection.close()
                raise
        self._writer = connection

    def check(self) -> None:
        """Check the whole file. CatalogDamaged: it is damaged."""
        verdict = self.read("PRAGMA quick_check(1)")[0][0]
        if verdict != "ok":
            raise CatalogDamaged(f"The catalog {self.path} is damaged: {verdict}.")

    def forget_other_bucket(self, bucket: str) -> None:
        """Forget assets and deletions if they are those of another bucket than `bucket`. Edits and jobs stay."""
        first = self.read(
            "SELECT a.uuid, f.text, a.name FROM assets a JOIN folders f ON f.id = a.folder ORDER BY a.id LIMIT 1"
        )
        if not first or first[0][0] == asset_id_bytes(bucket, full_key(first[0][1], first[0][2])):
            return
        logger.info("S3_BUCKET has changed: the catalog is filled again.")

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM bucket_tombstones")
            _build_tables(db)

        self.change(work, durable=True)

    def close(self) -> None:
        """Close the file; calls after this raise CatalogError."""
        with self._write_lock, self._pool_lock:
            self._closed = True
            for connection in (*self._readers, *([self._writer] if self._writer else [])):
                connection.close()
            self._readers, self._writer = [], None

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self.reading() as connection:
            found: list[Row] = connection.execute(sql, values).fetchall()
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees one state of the catalog from its first query on."""
        with self._explaining():
            with self._pool_lock:
                if self._closed:
                    raise CatalogError("The catalog is closed.")
                connection = self._readers.pop() if self._readers else None
            connection = connection or self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            with self._pool_lock:
                if not self._closed and len(self._readers) < _MAX_IDLE_READERS:
                    self._readers.append(connection)
                    return
            connection.close()

    def change(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """Run `work` in a transaction and commit it; `durable`: the commit survives a power cut."""
        from .tallies import fold_tallies

        with self._write_lock, self._explaining():
            connection = self._writer
            if connection is None or self._closed:
                raise CatalogError("The catalog is closed.")
            with transaction(connection, durable=durable):
                found = work(connection)
                fold_tallies(connection)
                return found

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Commit one statement; the commit need not survive a power cut."""
        self.change(lambda db: db.execute(sql, values))

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """Make adding very many rows faster.

        The writer gets more memory, because the rows' ids lie all over the index. Python's garbage collector runs less
        often, because rows are very many objects without cycles.
        """
        self.execute(f"PRAGMA cache_size={-_FILLING_KIB}")
        threshold, *older = gc.get_threshold()
        gc.set_threshold(_FILLING_THRESHOLD, *older)
        try:
            yield
        finally:
            gc.set_threshold(threshold, *older)
            self.execute(f"PRAGMA cache_size={-_CACHE_KIB}")

    def _connect(self) -> sqlite3.Connection:
        target = database_uri(self.path, "mode=ro") if self._read_only else str(self.path)
        connection = sqlite3.connect(
            target,
            uri=self._read_only,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.create_function("fold_case", 1, fold_case, deterministic=True)
            connection.create_function("searched_names", 2, searched_names, deterministic=True)
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute(f"PRAGMA cache_size={-_CACHE_KIB}")  # fails if the file's header is damaged
            connection.execute("PRAGMA mmap_size=268435456")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except SQLITE_ERRORS as error:
            message = error_message(error)
            if shows_damage(error, "corrupt"):
                raise CatalogDamaged(f"The catalog {self.path} is damaged: {message}.") from error
            if "full" in message:
                raise CatalogError(
                    f"The catalog {self.path} can't be written: the disk is full. Free some space."
                ) from error
            raise CatalogError(f"The catalog {self.path} failed: {message}.") from error


def open_catalog(path: Path) -> tuple[CatalogDatabase, list[str]]:
    """Open the catalog, or a new one if it is damaged or of a newer version. Return it, and sentences for users.

    Raises:
        CatalogError, OSError: it can't be opened or written, or can't be moved aside.
    """
    database = CatalogDatabase(path)
    try:
        database.open()
    except CatalogDamaged as error:
        logger.error("%s", error)
        return start_again(path)
    return database, []


def start_again(path: Path) -> tuple[CatalogDatabase, list[str]]:
    """Move an unusable catalog aside and open a new one with what can still be read of the tables in KEPT_COLUMNS.

    Raises:
        CatalogError, OSError: that is not possible now. The unusable one is back in its place, for the next try.
    """
    aside = move_aside(path)
    database = CatalogDatabase(path)
    try:
        database.open()
        kept = rescue(aside, database)
    except BaseException:
        database.close()
        move_back(aside, path)
        raise
    notice = f"The catalog was damaged or of a newer version: it is kept as {aside.name}, and a new one is being built."
    logger.error("%s %d rows of edits, jobs and deletions were saved from it.", notice, kept)
    return database, [notice]


def rescue(damaged: Path, fresh: CatalogDatabase) -> int:
    """Copy what can be read of the tables in KEPT_COLUMNS from the damaged file. Return the number of rows."""
    saved: dict[str, list[dict[str, Any]]] = {}
    try:
        with contextlib.closing(sqlite3.connect(database_uri(damaged, "mode=ro"), uri=True)) as source:
            source.row_factory = sqlite3.Row
            saved = {table: [dict(row) for row in _readable(source, table)] for table in KEPT_COLUMNS}
    except SQLITE_ERRORS as error:
        logger.warning("Nothing could be saved from %s: %s", damaged.name, error)

    return fresh.change(lambda db: _insert_kept(db, saved), durable=True)


def _readable(source: sqlite3.Connection, table: str) -> list[sqlite3.Row]:
    """Return the rows that can be read from either end of a table: one broken page hides only its own rows."""
    keys = {"edits": "uuid, field", "jobs": "job_id", "outputs": "path, finished_at, job_id"}
    key = keys.get(table, "uuid")
    found: dict[sqlite3.Row, None] = {}
    for order in (key, ", ".join(f"{column} DESC" for column in key.split(", "))):
        with contextlib.suppress(*SQLITE_ERRORS):
            for row in source.execute(f"{_kept_rows(table)} ORDER BY {order}"):
                found[row] = None
    return list(found)


def _kept_rows(table: str) -> str:
    """Return the query for the rows of a table that can't be derived again."""
    unwritten = f" WHERE uuid IN (SELECT uuid FROM bucket_unwritten WHERE kind = {DELETIONS})"
    return f"SELECT * FROM {table}{unwritten if table == 'bucket_tombstones' else ''}"


def _make_tables(connection: sqlite3.Connection, path: Path, read_only: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # fails if the schema is damaged
        return
    if version > SCHEMA_VERSION:
        raise CatalogDamaged(f"The catalog {path} has schema {version}; this version knows {SCHEMA_VERSION}.")
    if read_only:
        raise CatalogError(
            f"The catalog {path} is of another version; the archive rebuilds it when it starts."
        )
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        _build_tables(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _build_tables(connection: sqlite3.Connection) -> None:
    """Build the tables, and keep only the rows that can't be derived again."""
    kept = _drop_tables(connection)
    for statement in (*KEPT_TABLES, *DERIVED_TABLES):
        connection.execute(statement)
    create_bucket_tables(connection)
    _insert_kept(connection, kept)


def _drop_tables(connection: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
    """Remove all tables. Return the rows that can't be derived again."""
    objects = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        " ORDER BY sql LIKE '%VIRTUAL%' DESC"
    )
    names = [row[0] for row in objects]
    kept: dict[str, list[dict[str, Any]]] = {}
    for table in KEPT_COLUMNS.keys() & names:  # the first schema had no table of deletions
        rows = connection.execute(_kept_rows(table))
        columns = [column[0] for column in rows.description]
        kept[table] = [dict(zip(columns, row, strict=True)) for row in rows]
    for name in names:
        # A virtual table's own tables were dropped with it.
        connection.execute(f'DROP TABLE IF EXISTS "{name}"')
    return kept


def _insert_kept(connection: sqlite3.Connection, kept: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    for table, rows in kept.items():
        marks = ", ".join("?" * len(KEPT_COLUMNS[table]))
        values = [tuple(row.get(column) for column in KEPT_COLUMNS[table]) for row in rows]
        connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)
    queue_kept(connection)
    return sum(map(len, kept.values()))
