"""The ledger's SQLite database: a reader, and one thread that commits changes in groups.

Workers that finish together share one transaction and one fsync (`synchronous=FULL`, WAL).
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from ..errors import LedgerDamaged, LedgerError, LedgerTooNew
from ..private_files import NotPrivate, database_uri, make_private_database
from .schema import MIGRATIONS, SCHEMA_VERSION
from .transactions import SQLITE_ERRORS, error_message, shows_damage, turn_on_wal

logger = logging.getLogger("cloud_archive.ledger")

T = TypeVar("T")
MAX_GROUP = 256  # changes in one transaction
SAVE_BUSY_SECONDS = 2.0
BUSY_SECONDS = 20.0  # how long to wait while another program, such as a backup, locks the ledger


@dataclass(slots=True)
class _Change:
    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]
    durable: bool


class Database:
    """A SQLite database with one reading connection and one writing thread. Safe to use from any thread.

    Calls raise LedgerError if SQLite fails; `read`, `change` and `save` also if the database is closed.

    Args:
        path: the file; None = a database in memory, which is gone with the process.
        clock: seconds since 1970.

    Attributes:
        damaged: a read or a change has found damage since the database was opened.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self.damaged = False
        self.commits = 0  # groups of changes so far, failed ones included
        self.on_commit: Callable[[], None] = lambda: None  # called by the writer; must return at once
        self._memory = f"file:ledger-{id(self)}-{os.urandom(4).hex()}?mode=memory&cache=shared"
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._reader_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: threading.Thread | None = None
        self._close_lock = threading.Lock()

    def open(self, copy_of: Path | None = None) -> None:
        """Open or create the database, check it, and migrate its schema.

        With `copy_of`, copy that file into a database in memory first. Raises LedgerError or one of its kinds, or
        RuntimeError if the system has no thread for the changes.
        """
        if self.path is not None:
            _create(self.path)
        connection = self.connect()
        try:
            if copy_of is not None:
                _copy(copy_of, connection)
            _prepare(connection, self.path)
            self._reader = self.connect()
            writer = threading.Thread(
                target=self._write_groups, args=(connection,), name="cloud-archive-ledger", daemon=True
            )
            writer.start()
        except BaseException:
            connection.close()
            self._close_reader()
            raise
        self._writer = writer

    def save(self, path: Path) -> None:
        """Replace the content of the file `path` with the whole database."""
        with self._reader_lock:
            if self._reader is None:
                raise LedgerError("The ledger is closed.")
            _create(path)
            try:
                with contextlib.closing(sqlite3.connect(str(path), timeout=SAVE_BUSY_SECONDS)) as target:
                    # Check that the file can be written before changing it.
                    target.execute("BEGIN IMMEDIATE")
                    target.execute("ROLLBACK")
                    self._reader.backup(target)
            except sqlite3.Error as error:
                raise explain_sqlite_error(error, path) from error

    def close(self) -> None:
        """Commit the changes that wait, and close."""
        with self._close_lock:
            writer, self._writer = self._writer, None
        if writer is None:
            return
        self._changes.put(None)
        writer.join()
        self._close_reader()

    def _close_reader(self) -> None:
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def connect(self) -> sqlite3.Connection:
        """Return a new connection, which the caller must close."""
        try:
            if self.path is None:
                connection = sqlite3.connect(
                    self._memory, uri=True, isolation_level=None, check_same_thread=False
                )
                connection.execute("PRAGMA read_uncommitted=1")
            else:
                connection = sqlite3.connect(
                    str(self.path),
                    timeout=BUSY_SECONDS,
                    isolation_level=None,
                    check_same_thread=False,
                )
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger {self.path} can't be opened: {error}.") from error
        return connection

    def read(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._reader_lock:
            if self._reader is None:
                raise LedgerError("The ledger is closed.")
            try:
                return cast("list[tuple[Any, ...]]", self._reader.execute(sql, values).fetchall())
            except SQLITE_ERRORS as error:
                raise self._explain(error) from error

    def read_apart(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a long query, read by its own connection, so that other readers don't wait."""
        with contextlib.closing(self.connect()) as connection:
            try:
                return cast("list[tuple[Any, ...]]", connection.execute(sql, values).fetchall())
            except SQLITE_ERRORS as error:
                raise self._explain(error) from error

    def _explain(self, error: Exception) -> LedgerError:
        found = explain_sqlite_error(error)
        self.damaged |= isinstance(found, LedgerDamaged)
        return found

    def change(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run `work` in a transaction that other changes may share, and return its result after the commit.

        If `work` raises, its change is undone, and the error is raised here.

        Args:
            durable: the change survives a power cut. False: until the next durable change it survives only a kill,
                see https://www.sqlite.org/pragma.html#pragma_synchronous.
        """
        done: Future[T] = Future()
        with self._close_lock:
            if self._writer is None:
                raise LedgerError("The ledger is closed.")
            self._changes.put(_Change(work, done, durable))
        try:
            return done.result()
        except LedgerDamaged:
            self.damaged = True
            raise

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement as a durable `change`, and return how many rows it changed."""
        return self.change(lambda db: db.execute(sql, values).rowcount)

    def generation(self) -> int | None:
        """Return a number that changes with every commit, by any process; None for a database in memory."""
        return None if self.path is None else int(self.read("PRAGMA data_version")[0][0])

    def _write_groups(self, connection: sqlite3.Connection) -> None:
        ending = False
        while not ending:
            first = self._changes.get()
            if first is None:
                break
            group = [first]
            while len(group) < MAX_GROUP:
                try:
                    change = self._changes.get_nowait()
                except queue.Empty:
                    break
                if change is None:
                    ending = True
                    break
                group.append(change)
            try:
                _commit(connection, group)
            except BaseException as error:
                # After any error, such as a lack of memory, the callers get an answer and the thread continues.
                logger.exception("The ledger could not commit.")
                _fail_group(connection, group, error)
            self.commits += 1
            self.on_commit()
        _refuse_all(self._changes)
        connection.close()


def _prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise LedgerTooNew(
                f"The ledger {path} was written by a newer version of Cloud Archive (schema {version},"
                f" this one knows {SCHEMA_VERSION}). Update the plugin, or move the ledger aside."
            )
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise LedgerDamaged(f"The ledger {path} is damaged: {result}.")
        if path is not None:
            turn_on_wal(connection, BUSY_SECONDS)
        connection.execute("PRAGMA synchronous=FULL")
        # SQLite keeps the pages that a savepoint may need again. In a temporary file they cost more than the commit.
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
        connection.execute("BEGIN IMMEDIATE")
        # Another process (`status` during a first start) may have migrated it meanwhile.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")
        # Write something, so that a read-only disk is noticed now and not with the first file.
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('opened', ?)", (str(time.time()),))
        connection.execute("COMMIT")
    except SQLITE_ERRORS as error:
        raise explain_sqlite_error(error, path) from error


def _create(path: Path) -> None:
    """Create an empty database that only this user can use, or protect an existing one."""
    try:
        make_private_database(path)
    except NotPrivate as error:
        raise LedgerError(f"The ledger {path} is not used: {error}.") from error


def _copy(path: Path, target: sqlite3.Connection) -> None:
    failure: sqlite3.Error | None = None
    # In a folder that is read-only for us, SQLite opens a ledger only as immutable.
    for mode in ("mode=ro", "immutable=1"):
        try:
            with contextlib.closing(sqlite3.connect(database_uri(path, mode), uri=True)) as source:
                source.backup(target)
            return
        except sqlite3.Error as error:
            failure = error
    assert failure is not None
    raise explain_sqlite_error(failure, path) from failure


def _commit(connection: sqlite3.Connection, group: list[_Change]) -> None:
    """Run a group of changes in one transaction. A change that fails is undone alone; a failed commit undoes all."""
    results: list[tuple[_Change, Any, BaseException | None]] = []
    durable = any(change.durable for change in group)
    try:
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        for change in group:
            connection.execute("SAVEPOINT change")
            try:
                result = change.work(connection)
            except BaseException as error:
                if not connection.in_transaction:
                    raise  # SQLite has rolled back the whole transaction, for example because the disk is full
                connection.execute("ROLLBACK TO change")
                connection.execute("RELEASE change")
                results.append((change, None, error))
            else:
                connection.execute("RELEASE change")
                results.append((change, result, None))
        connection.execute("COMMIT")
    except SQLITE_ERRORS as error:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        for change in group:
            change.done.set_exception(explain_sqlite_error(error))
        return
    for change, result, failure in results:
        if failure is None:
            change.done.set_result(result)
        elif isinstance(failure, SQLITE_ERRORS):
            change.done.set_exception(explain_sqlite_error(failure))
        else:
            change.done.set_exception(failure)


def _fail_group(connection: sqlite3.Connection, group: list[_Change], error: BaseException) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    for change in group:
        if not change.done.done():
            change.done.set_exception(LedgerError(f"The ledger failed: {type(error).__name__}."))


def _refuse_all(changes: queue.SimpleQueue[_Change | None]) -> None:
    while True:
        try:
            change = changes.get_nowait()
        except queue.Empty:
            return
        if change is not None:
            change.done.set_exception(LedgerError("The ledger is closed."))


def explain_sqlite_error(error: Exception, path: Path | None = None) -> LedgerError:
    """Return the LedgerError that explains one of `SQLITE_ERRORS`; see https://www.sqlite.org/rescode.html."""
    where = f"The ledger {path}" if path else "The ledger"
    text = error_message(error)
    # The statements are fixed, so a table or column is missing ("no such") only in a damaged file.
    if shows_damage(error, "no such"):
        return LedgerDamaged(f"{where} is damaged: {text}.")
    if "locked" in text or "busy" in text:
        return LedgerError(
            f"{where} is locked by another program, perhaps a backup. Wait until it has ended."
        )
    if "full" in text:
        return LedgerError(f"{where} can't be written: the disk is full. Free some space.")
    if "readonly" in text or "read-only" in text:
        return LedgerError(f"{where} can't be written: it is read-only. Set CLOUD_ARCHIVE_STATE_DIR.")
    return LedgerError(f"{where} failed: {text}.")
