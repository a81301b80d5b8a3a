"""Write what the bucket does not hold yet: after 1,000 rows, after five minutes, and on request.

A row leaves `bucket_unwritten` only once its segment is proven. After a kill in between it is written again, and
readers see one row.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable

from ...errors import CloudArchiveError, StoreError
from ...store.base import ObjectStore
from ..database import CatalogDatabase
from ..thumbnails.thumbnails import Thumbnails
from .names import CatalogFolder, new_names
from .objects import PACK_TYPE, SEGMENT_TYPE, write_proven
from .outgoing import MAX_ROWS, Batch, collect, next_unwritten, pictured_assets, rows_to_requeue
from .segment import encode
from .tables import PUTS, WRITABLE, Packed, requeue, set_aside, set_packed, unwritten_rows

logger = logging.getLogger("cloud_archive.catalog")

WRITE_AFTER_SECONDS = 300.0  # after the first unwritten row
STOP_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 600.0
_BUSY_SECONDS = 15.0  # while files upload: between two checks, unless a wake-up comes


class SegmentWriter:
    """The thread that writes segments and packs. `write_next` also serves commands without a thread.

    Args:
        database: returns the open catalog; another one after it was damaged.
        thumbnails: None: packs hold no thumbnails.
        may_write: returns whether nothing uploads now.
    """

    def __init__(
        self,
        database: Callable[[], CatalogDatabase],
        store: ObjectStore,
        folder: CatalogFolder,
        *,
        machine: str,
        keep_graphs: bool,
        thumbnails: Thumbnails | None = None,
        may_write: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._store = store
        self._folder = folder
        self._machine = machine
        self._keep_graphs = keep_graphs
        self._thumbnails = thumbnails
        self._may_write = may_write
        self._clock = clock
        self._changed = threading.Condition()
        self.written_batches = 0
        self._woken = False
        self._wanted = 0  # number of the last request to write everything
        self._served = 0  # number of the last request that was fulfilled
        self._refused = 0  # number of the last request that failed in a way that a retry can't repair
        self._requeued_for = -1  # number of the last request for which `_requeue` looked
        self._stopping = False
        self._pictured = 0  # thumbnails were made up to this row of `bucket_unwritten`
        self._pictured_in: CatalogDatabase | None = None  # and of this database: a new one counts from 1
        self._retry_at = 0.0  # monotonic
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._thread = threading.Thread(target=self._run, name="cloud-archive-segments", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Have the thread end after the request under way, and wait up to this time. Unwritten rows stay queued."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def wake(self) -> None:
        """Have the thread check whether something is due: rows were added, or uploads have ended."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def request(self) -> int:
        """Have everything written soon, also while files upload. Return the number of this request."""
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()
            return self._wanted

    def flush(self, timeout_seconds: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait until everything that is known now is written.

        Returns:
            Whether everything is written. False: the time is up, `cancelled` returned True, the thread is stopping, or
            writing failed in a way that a retry can't repair.
        """
        deadline = time.monotonic() + timeout_seconds
        wanted = self.request()
        with self._changed:
            while self._served < wanted:
                left = deadline - time.monotonic()
                if left <= 0 or self._stopping or self._refused >= wanted or cancelled():
                    return False
                self._changed.wait(min(left, 0.5))
            return True

    def unwritten(self) -> int:
        """Return how many rows the bucket does not hold yet, up to 100,000."""
        with self._database().reading() as db:
            return unwritten_rows(db)

    # --- the thread

    def _run(self) -> None:
        while not self._stopping:
            wanted = self._wanted
            try:
                wait = self._step()
            except Exception as error:
                if not isinstance(error, (CloudArchiveError, OSError)):
                    logger.exception("Writing the catalog failed")
                self._postpone(error, wanted)
                continue
            with self._changed:
                if wait != 0 and not (self._woken or self._stopping or self._is_requested):
                    self._changed.wait(wait)
                self._woken = False

    @property
    def _is_requested(self) -> bool:
        return self._wanted > max(self._served, self._refused)

    def _step(self) -> float | None:
        """Write one batch if one is due. Return the seconds until the next may be due; None: wait to be woken."""
        wanted = self._wanted
        if not self._is_requested:
            before_retry = self._retry_at - time.monotonic()
            if before_retry > 0:
                return before_retry
            self._requeue()
            wait = self._seconds_until_due()
            if wait is None:
                return None
            if not self._may_write():
                return _BUSY_SECONDS
            if self._make_thumbnails():
                return 0.0
            if wait > 0:
                return wait
        if self.write_next():
            return 0.0
        with self._changed:
            self._served = max(self._served, wanted)
            self._changed.notify_all()
        return None

    def _seconds_until_due(self) -> float | None:
        database = self._database()
        first = database.read(f"SELECT since FROM bucket_unwritten WHERE {WRITABLE} ORDER BY id LIMIT 1")
        if not first:
            return None
        if database.read(f"SELECT 1 FROM bucket_unwritten WHERE {WRITABLE} LIMIT 1 OFFSET {MAX_ROWS - 1}"):
            return 0.0
        age = self._clock() - first[0][0]
        return 0.0 if age < 0 else max(0.0, WRITE_AFTER_SECONDS - age)

    def _make_thumbnails(self) -> bool:
        """Make the next batch's thumbnails from files on this disk. Return whether something interrupted it."""
        if self._thumbnails is None:
            return False
        database = self._database()
        if database is not self._pictured_in:
            self._pictured, self._pictured_in = 0, database
        with database.reading() as db:
            rows = [one for one in next_unwritten(db) if one.id > self._pictured]
            wanted = pictured_assets(db, [one.identity for one in rows if one.kind == PUTS])
        for one in wanted:
            if self._stopping or self._is_requested or not self._may_write():
                return True
            self._thumbnails.make_local(one)
        self._pictured = max([self._pictured, *(one.id for one in rows)])
        return False

    def _postpone(self, error: Exception, wanted: int) -> None:
        """Note what is wrong, and wait before the next try. Unless it is transient, refuse requests up to `wanted`."""
        sentence = f"The catalog can't be written to the bucket now: {error}"
        if sentence != self.trouble and not self._stopping:
            logger.warning("%s", sentence)
        self.trouble = sentence
        wait, self._retry_seconds = self._retry_seconds, min(self._retry_seconds * 2, _LAST_RETRY_SECONDS)
        self._retry_at = time.monotonic() + wait
        with self._changed:
            if not (isinstance(error, StoreError) and error.failure.transient):
                self._refused = wanted
                self._changed.notify_all()
            elif not self._stopping and self._is_requested:
                self._changed.wait(min(wait, _FIRST_RETRY_SECONDS))

    # --- one batch

    def write_next(self) -> bool:
        """Write the next segment and its pack. Return whether there was anything to write.

        Rows of files that were archived with another S3_PREFIX are set aside, for a writer that has that one.

        Raises:
            StoreError: the store refused or did not answer; the rows stay unwritten.
            CatalogError: the local catalog can't be read or written.
        """
        self._requeue()
        database = self._database()
        with database.reading() as db:
            batch = collect(db, self._folder, self._thumbnails, keep_graphs=self._keep_graphs)
        if not batch.taken and not batch.outside:
            return False
        now = self._clock()
        segment, pack = new_names(self._machine, now)
        if batch.rows:
            self._write(batch, segment, pack, now)
        database.change(lambda db: _mark_written(db, batch, segment, pack), durable=True)
        self.written_batches += 1
        self.trouble = None
        self._retry_at, self._retry_seconds = 0.0, _FIRST_RETRY_SECONDS
        return True

    def _requeue(self) -> None:
        """Queue again the rows that were set aside but belong to this catalog: at the first call and for each request.

        A command with another S3_PREFIX may set rows aside at any time.
        """
        wanted = self._wanted
        if self._requeued_for == wanted:
            return
        database = self._database()
        with database.reading() as db:
            rows = rows_to_requeue(db, self._folder)
        if rows:
            database.change(lambda db: requeue(db, rows))
        self._requeued_for = wanted

    def write_all(self) -> int:
        """Write everything. Return how many batches. Raises as `write_next` does."""
        count = 0
        while self.write_next():
            count += 1
        return count

    def _write(self, batch: Batch, segment: str, pack: str, now: float) -> None:
        if batch.pack.size_bytes:
            for row in batch.rows:
                if row.get("graphs_length") or row.get("thumbnail_length"):
                    row["pack"] = pack
            # First the pack that the rows name: a pack without its segment does no harm.
            write_proven(self._store, self._folder.key(pack), batch.pack.body(), PACK_TYPE)
        body = encode(batch.rows, machine=self._machine, now=now)
        write_proven(self._store, self._folder.key(segment), body, SEGMENT_TYPE)


def _mark_written(db: sqlite3.Connection, batch: Batch, segment: str, pack: str) -> None:
    queued = "SELECT 1 FROM bucket_unwritten WHERE id = ?"
    # If a put left the queue meanwhile, a later put describes its asset now, and may name another pack.
    current = {
        one.identity for one in batch.taken if one.kind == PUTS and db.execute(queued, (one.id,)).fetchone()
    }
    set_packed(
        db,
        (
            Packed(asset, pack, *places)
            for identity, (asset, *places) in batch.packed.items()
            if identity in current
        ),
    )
    db.executemany("DELETE FROM bucket_unwritten WHERE id = ?", [(one.id,) for one in batch.taken])
    set_aside(db, (one.id for one in batch.outside))
    if batch.rows:
        db.execute(
            "INSERT OR REPLACE INTO bucket_files VALUES (?, 'read', ?, 0, NULL)", (segment, len(batch.rows))
        )
