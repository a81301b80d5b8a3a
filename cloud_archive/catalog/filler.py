"""Fill the catalog in the background while nothing uploads; for a viewer, copy names also during uploads."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence

from ..errors import CatalogDamaged, CatalogError, CloudArchiveError
from ..ledger.history import archived_and_pruned_rows, archived_since, count_uploading_files
from ..ledger.ledger import Ledger
from ..ledger.rows import FileRow, FileState
from .bucket.tables import queue_deletions, queue_puts, without_deleted
from .database import CatalogDatabase
from .identity import asset_id_bytes
from .reading import AssetReader
from .rows import ArchivedObject, add_archived, remove_assets

logger = logging.getLogger("cloud_archive.catalog")

IDLE_SECONDS = 60.0  # between two checks for work while the ledger reports no change
GATHER_SECONDS = 1.0  # from a commit of the ledger to the check: commits come in bursts
COPY_SECONDS = 10.0  # between two copies for a viewer while files upload
VIEWED_SECONDS = 60.0  # so long after `note_viewer` somebody counts as viewing
TROUBLE_SECONDS = 15.0  # after a fault
STOP_SECONDS = 5.0
SWEEP_SECONDS = 3600.0  # between two comparisons of the whole ledger
_PAGE = 2000
# Rows archived this shortly before the last check are read again: commits overtake each other.
_MARGIN_SECONDS = 120.0


class Filler:
    """One thread that copies what the ledger says into the catalog, then reads file after file.

    Args:
        bucket: its name, a part of every id.
        session: (id, start in seconds since 1970) of this session: what was archived since then belongs to it.
        on_damage: called in this thread if the catalog is damaged; returns a new one.
        on_caught_up: called in this thread when `caught_up` is set.
    """

    def __init__(
        self,
        database: CatalogDatabase,
        ledger: Ledger,
        make_reader: Callable[[CatalogDatabase], AssetReader],
        *,
        bucket: str,
        machine: str,
        session: tuple[str, float],
        on_damage: Callable[[], CatalogDatabase],
        on_caught_up: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._make_reader = make_reader
        self._reader = make_reader(database)
        self._bucket = bucket
        self._machine = machine
        self._session = session
        self._on_damage = on_damage
        self._on_caught_up = on_caught_up
        self._clock = clock
        self._checked = False
        self._damage: CatalogDamaged | None = None  # until the catalog is replaced
        self._swept_at: float | None = None
        self._pruned = 0
        self._generation: int | None = None
        self._cursor = (0.0, 0)
        self._viewed_at = -math.inf
        self._copied_at = -math.inf  # for a viewer, while files uploaded
        self._stop = threading.Event()
        self._committed = threading.Event()  # the ledger has changed
        self._urgent = threading.Event()
        self._wake_lock = threading.Lock()
        self._woken = False  # `wake` was called since the last check for work began
        self._retries = False  # with `retry`
        self._thread = threading.Thread(target=self._run, name="cloud-archive-catalog", daemon=True)
        self.trouble: str | None = None
        # Set if the last check found every archived file in the catalog, and read or postponed. `wake` clears it.
        self.caught_up = threading.Event()

    def start(self) -> None:
        self._ledger.on_commit = self._committed.set
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Have the thread end after the file that it reads, and wait up to this time for that: the store may hang."""
        self._ledger.on_commit = lambda: None
        self._stop.set()
        self._wake_thread()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def wake(self, *, retry: bool = False) -> None:
        """Have the thread check for work now; `retry`: also read files that could not be read once or twice."""
        with self._wake_lock:
            self._woken = True
            self._retries |= retry
            self.caught_up.clear()
        self._wake_thread()

    def note_viewer(self) -> None:
        """For a minute, copy what is archived also while files upload: somebody views the catalog."""
        self._viewed_at = self._clock()

    def _wake_thread(self) -> None:
        self._urgent.set()
        self._committed.set()

    def _run(self) -> None:
        while True:
            self._committed.clear()
            self._urgent.clear()
            if self._stop.is_set():
                return
            wait = 0.0
            try:
                filled = self.fill()
                self.trouble = None
                if not filled:
                    self._rest()
            except CatalogDamaged as error:
                wait = self._replace(error)
            except (CloudArchiveError, OSError) as error:
                if not self._stop.is_set():
                    wait = self._note_trouble(str(error))
            except Exception as error:
                logger.exception("Filling the catalog failed")
                wait = self._note_trouble(f"{type(error).__name__}: {error}")
            self._urgent.wait(wait)

    def _rest(self) -> None:
        if self._committed.wait(IDLE_SECONDS):
            self._urgent.wait(GATHER_SECONDS)

    def _note_trouble(self, trouble: str) -> float:
        """Keep what is wrong, and log it if it is new. Return the seconds until the next try."""
        if trouble != self.trouble:
            logger.warning("The catalog can't be filled now: %s", trouble)
        self.trouble = trouble
        return TROUBLE_SECONDS

    def _replace(self, error: CatalogDamaged) -> float:
        if self._damage is None:
            logger.error("%s", error)
        self._damage = error
        try:
            self._database = self._on_damage()
        except (CatalogError, OSError) as second:
            return self._note_trouble(str(second))
        self._damage = None
        self._reader = self._make_reader(self._database)
        self._swept_at, self._generation = None, None
        return 0.0

    def may_go_on(self) -> bool:
        """Return whether nothing uploads and no stop was requested."""
        return not self._stop.is_set() and count_uploading_files(self._ledger) == 0

    def _is_viewed(self) -> bool:
        return not self._stop.is_set() and self._clock() - self._viewed_at < VIEWED_SECONDS

    def _may_copy(self) -> bool:
        return self.may_go_on() or self._is_viewed()

    def fill(self) -> bool:
        """Do the next piece of work; return False if there is none now.

        Raises:
            CatalogDamaged: the catalog must be replaced.
            CatalogError, LedgerError, StoreError, OSError: try again later.
        """
        if self._damage is not None:
            raise self._damage  # replacing the catalog failed, and is tried again
        idle = self.may_go_on()
        if not idle:
            self.caught_up.clear()
            if not self._is_viewed() or 0 <= self._clock() - self._copied_at < COPY_SECONDS:
                return False
            self._copied_at = self._clock()
        if not self._checked:
            self._database.check()
            self._reader.prepare(self._machine)
            self._checked = True
        if self._retries:
            self._retries = False
            self._reader.retry_postponed()
        if self._woken:
            self._woken, self._generation = False, None
        generation = self._ledger.generation()
        if generation is None or generation != self._generation:
            self.caught_up.clear()
            if not self._follow_ledger():
                return False
            self._generation = generation
        if not idle:
            return False
        worked = self._reader.read_some(self.may_go_on) > 0
        if worked or not self.may_go_on():
            return worked
        with self._wake_lock:
            if self._woken or self.caught_up.is_set():
                return False
            self.caught_up.set()
        self._on_caught_up()
        return False

    def _follow_ledger(self) -> bool:
        """Copy what was archived or pruned since the last check. Return False if uploads or a stop interrupted it."""
        began = self._clock()
        pruned = self._ledger.totals().pruned.files
        if (
            self._swept_at is None
            or pruned != self._pruned
            or not 0 <= began - self._swept_at < SWEEP_SECONDS
        ):
            if not self._sweep():
                return False
            self._swept_at, self._pruned = began, pruned
            self._cursor = (began - _MARGIN_SECONDS, 0)
            return True
        cursor = self._cursor
        while rows := archived_since(self._ledger, after=cursor, limit=_PAGE):
            self._copy(rows)
            cursor = (rows[-1].archived_at or 0.0, rows[-1].row)
            if not self._may_copy():
                return False
        self._cursor = (max(self._cursor[0], min(cursor[0], began) - _MARGIN_SECONDS), 0)
        return True

    def _sweep(self) -> bool:
        """Copy every archived and pruned row. Return False if uploads or a stop interrupted it."""
        last = 0
        while rows := archived_and_pruned_rows(self._ledger, after_row=last, limit=_PAGE):
            self._copy(rows)
            last = rows[-1].row
            if not self._may_copy():
                return False
        return True

    def _copy(self, rows: Sequence[FileRow]) -> None:
        archived = [self._object(row) for row in rows if row.state is FileState.ARCHIVED and row.key]
        pruned = [row for row in rows if row.state is FileState.PRUNED and row.key]
        self._database.change(lambda db: self._add(db, archived))
        if pruned:
            gone = [row for row in pruned if self._holds_pruned(row)]
            self._database.change(lambda db: self._remove(db, gone), durable=True)

    def _add(self, db: sqlite3.Connection, archived: Sequence[ArchivedObject]) -> None:
        same_bytes = add_archived(db, self._bucket, without_deleted(db, self._bucket, archived))
        queue_puts(db, same_bytes)

    def _remove(self, db: sqlite3.Connection, gone: Sequence[FileRow]) -> None:
        for row in gone:
            # The time of the deletion, not now: another machine may have archived a file under this key since.
            queue_deletions(db, self._bucket, [row.key or ""], row.archived_at or 0.0, self._machine)
        remove_assets(db, self._bucket, [row.key or "" for row in gone])

    def _holds_pruned(self, pruned: FileRow) -> bool:
        """Return whether the catalog holds the version that was pruned, and not one archived under its key since."""
        identity = asset_id_bytes(self._bucket, pruned.key or "")
        found = self._database.read("SELECT archived FROM assets WHERE uuid = ?", (identity,))
        return bool(found) and found[0][0] <= (pruned.archived_at or 0.0)

    def _object(self, row: FileRow) -> ArchivedObject:
        archived_at = row.archived_at or row.seen_at
        session_id, since = self._session
        return ArchivedObject(
            key=row.key or "",
            path=row.version.path,
            size_bytes=row.version.size_bytes,
            mtime_ns=row.version.mtime_ns,
            archived_at=archived_at,
            sha256=row.sha256,
            machine=self._machine,
            session_id=session_id if archived_at >= since else None,
        )
