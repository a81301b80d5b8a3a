"""Read how files were made: from the local file where it is still there, else from the bucket."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..beneath import open_file
from ..errors import CloudArchiveError, FailureScope, FileProblem, FileUnreadable, StoreError
from ..executor import unawaited_threads
from ..store.base import ObjectStore
from ..store.evidence import head_if_allowed
from ..text import clean_text
from .bucket.tables import queue_puts
from .compressed import Reading, make_reading
from .database import CatalogDatabase
from .describe import Description, Job, describe, describe_again
from .jobs import drop_job_graphs, job_id_of, job_of
from .rows import (
    FIRST_RETRY_SECONDS,
    AssetFile,
    mark_outdated_unread,
    postpone_reading,
    rows_with_graphs,
    store_descriptions,
    stored_reading,
    unread_assets,
)
from .source import BoundedSource, FileSource

logger = logging.getLogger("cloud_archive.catalog")

BUCKET_BLOCK_BYTES = 64 * 1024
BUCKET_READS = 24  # requests for one file
_MOVING = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".webp")
_PAGE = 50
_MAX_UNSTORED_BYTES = 1024 * 1024  # of readings


class ObjectSource:
    """The bytes of one object, read by ranges."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int) -> None:
        self._store = store
        self._key = key
        self.size = size_bytes

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`. StoreError: the store doesn't give them now."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        pieces = self._store.read(self._key, length, byte_range=range(offset, offset + length))
        return b"".join(pieces)[:length]


class AssetReader:
    """Read assets, and store what was found in batches.

    Args:
        root: the watched directory; None: everything comes from the bucket.
        keep_graphs: store prompt graphs and workflows too.
        at_once: how many are read at the same time.
        machine: this machine's name. Its jobs describe only what it archived, because other machines write files of the
            same names; None: they describe every file.
    """

    def __init__(
        self,
        database: CatalogDatabase,
        root: Path | None,
        store: ObjectStore,
        *,
        keep_graphs: bool,
        at_once: int = 1,
        machine: str | None = None,
    ) -> None:
        self._machine = None if machine is None else clean_text(machine)
        self._database = database
        self._root = root
        self._store = store
        self._keep_graphs = keep_graphs
        self._at_once = at_once

    def prepare(self, machine: str) -> None:
        """Mark this machine's files as unread if an older reader version read them; drop graphs that are not kept."""
        self._database.change(lambda db: mark_outdated_unread(db, machine))
        if self._keep_graphs:
            return
        while self._database.change(lambda db: drop_job_graphs(db, _PAGE)):
            pass
        self._database.execute("DELETE FROM graphs")

    def retry_postponed(self) -> None:
        """Read assets again now that could not be read once or twice; those that fail again stay postponed.

        The newest 50 at most, because a flush waits for them: where so many fail, their objects may be gone.
        """
        newest = "SELECT id FROM assets WHERE reader = 0 AND tries IN (1, 2) ORDER BY id DESC LIMIT ?"
        again = f"UPDATE assets SET next_try = NULL WHERE id IN ({newest})"
        self._database.execute(again, (_PAGE,))

    def _postpone_again(self, now: float) -> None:
        """Postpone what `retry_postponed` made due: the store fails for all files, and a flush would wait for each."""
        again = "UPDATE assets SET next_try = ? WHERE reader = 0 AND next_try IS NULL AND tries > 0"
        self._database.execute(again, (now + FIRST_RETRY_SECONDS,))

    def read_some(self, may_go_on: Callable[[], bool], *, now: Callable[[], float] = time.time) -> int:
        """Read up to 50 assets, the newest first, while `may_go_on`. Return how many were read or postponed.

        Raises:
            StoreError: the store does not answer now; what `retry_postponed` made due is postponed with the asset.
        """
        with self._database.reading() as db:
            assets = unread_assets(db, now(), _PAGE)
            known = rows_with_graphs(db, [asset.row for asset in assets])
            known |= {asset.row for asset in assets if self._job_id_of(db, asset) is not None}
        read: list[tuple[AssetFile, Reading]] = []
        count = weight = 0
        with contextlib.closing(self._outcomes(assets, known, may_go_on)) as outcomes:
            try:
                for asset, outcome in outcomes:
                    count += 1
                    try:
                        reading = outcome()
                    except (StoreError, FileProblem, OSError) as error:
                        row = asset.row
                        self._database.change(lambda db, row=row: postpone_reading(db, row, now()))  # type: ignore[misc]
                        if isinstance(error, StoreError) and error.failure.scope is FailureScope.STORE:
                            self._postpone_again(now())
                            raise
                        continue
                    read.append((asset, reading))
                    weight += reading.weight
                    if weight > _MAX_UNSTORED_BYTES:
                        self._store_readings(read)
                        weight = 0
            finally:
                self._store_readings(read)
        return count

    def _outcomes(
        self, assets: Sequence[AssetFile], known: set[int], may_go_on: Callable[[], bool]
    ) -> Generator[tuple[AssetFile, Callable[[], Reading]], None, None]:
        """Yield each asset with a function that returns how it was made, or raises.

        Args:
            known: the rows of those that have a job or stored graphs. For the others the catalog is not asked.
        """

        def read_one(asset: AssetFile) -> Reading:
            try:
                found, job = (
                    self.describe(asset) if asset.row in known else (self._describe_file(asset, None), None)
                )
                job_id = job.prompt_id if job else None
                return make_reading(found, job_id, keep_graphs=self._keep_graphs)
            except (CloudArchiveError, OSError):
                raise
            except Exception as error:
                return self._without_description(asset, error)

        if self._at_once == 1:
            for asset in assets:
                if not may_go_on():
                    return
                yield asset, partial(read_one, asset)
            return
        with unawaited_threads(self._at_once, "cloud-archive-reading") as pool:
            for asset, future in [(asset, pool.submit(read_one, asset)) for asset in assets]:
                if not may_go_on():
                    return
                yield asset, future.result

    def _without_description(self, asset: AssetFile, error: Exception) -> Reading:
        """Log an internal error, and return a reading that says nothing, so that this file holds up no other.

        Raises FileUnreadable, so that the file is read again later, if memory was short, or if graphs are stored, which
        such a reading would remove.
        """
        # Without the error's text, which could quote a secret in a graph.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"an internal error: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        logger.error("How %s was made can't be read: %s", asset.path, where)
        with self._database.reading() as db:
            if isinstance(error, MemoryError) or rows_with_graphs(db, [asset.row]):
                raise FileUnreadable(asset.path, where)
            job_id = self._job_id_of(db, asset)
        return make_reading(Description(), job_id, keep_graphs=self._keep_graphs)

    def _store_readings(self, read: list[tuple[AssetFile, Reading]]) -> None:
        """Store what was read, and clear the list. A file whose job came meanwhile stays unread.

        What the bucket told of a file meanwhile stays, too: it may come from a job that this catalog has lost.
        """

        def store(db: sqlite3.Connection) -> None:
            current = [
                (asset, reading)
                for asset, reading in read
                if _is_unread(db, asset)
                and (not self._is_ours(asset) or self._job_id_of(db, asset) == reading.job_id)
            ]
            store_descriptions(db, current)
            queue_puts(db, [asset.row for asset, _ in current])

        if read:
            self._database.change(store)
            read.clear()

    def describe(self, asset: AssetFile) -> tuple[Description, Job | None]:
        """Return how the file was made, and the job that wrote it. StoreError, OSError: it can't be read now."""
        with self._database.reading() as db:
            job = job_of(db, asset.path, asset.mtime_ns) if self._is_ours(asset) else None
            stored = stored_reading(db, asset)
        if stored is not None:
            facts, embedded, origin = stored
            return describe_again(facts, embedded, _name_of(asset), job, origin=origin), job
        return self._describe_file(asset, job), job

    def _describe_file(self, asset: AssetFile, job: Job | None) -> Description:
        name = _name_of(asset)
        with self._source(asset) as source:
            found = describe(source, name, job)
        if found.source is None and name.lower().endswith(_MOVING):
            found = self._with_companion(asset, name) or found
        return found

    def _job_id_of(self, db: sqlite3.Connection, asset: AssetFile) -> str | None:
        return job_id_of(db, asset.path, asset.mtime_ns) if self._is_ours(asset) else None

    def _is_ours(self, asset: AssetFile) -> bool:
        return self._machine is None or asset.machine == self._machine

    @contextlib.contextmanager
    def _source(self, asset: AssetFile) -> Iterator[BoundedSource]:
        file = open_same_file(self._root, asset.path, asset.size_bytes, asset.mtime_ns)
        if file is not None:
            with file:
                yield BoundedSource(FileSource(file))
            return
        yield self._object(asset.key, asset.size_bytes)

    def _object(self, key: str, size_bytes: int) -> BoundedSource:
        source = ObjectSource(self._store, key, size_bytes)
        return BoundedSource(source, block_bytes=BUCKET_BLOCK_BYTES, max_reads=BUCKET_READS)

    def _with_companion(self, asset: AssetFile, name: str) -> Description | None:
        """Read the picture that Video Helper Suite writes beside a video or an animation, if it exists."""
        file = open_same_file(self._root, asset.path, asset.size_bytes, asset.mtime_ns)
        if self._root is not None and file is not None:
            with (
                file,
                contextlib.suppress(OSError),
                open_file(self._root, _companion_of(asset.path)) as beside,
            ):
                return describe(BoundedSource(FileSource(file)), name, companion=FileSource(beside))
        key = _companion_of(asset.key)
        _, info = head_if_allowed(self._store, key)
        if info is None:
            return None
        with self._source(asset) as source:
            return describe(source, name, companion=self._object(key, info.size_bytes))


def _is_unread(db: sqlite3.Connection, asset: AssetFile) -> bool:
    sql = "SELECT 1 FROM assets WHERE id = ? AND archived = ? AND reader = 0"
    return db.execute(sql, (asset.row, asset.archived_at)).fetchone() is not None


def _companion_of(path: str) -> str:
    """Return the path of the picture beside a video or an animation; a number from a conflict stays.

    >>> [_companion_of(path) for path in ("a/clip-audio.mp4", "a/clip-audio (1).mp4", "clip (2).gif")]
    ['a/clip.png', 'a/clip (1).png', 'clip (2).png']
    """
    return re.sub(r"-audio( \([0-9a-f]+\))?\Z", r"\1", path.rpartition(".")[0]) + ".png"


def _name_of(asset: AssetFile) -> str:
    return asset.path.rpartition("/")[2]


def open_same_file(root: Path | None, path: str, size_bytes: int, mtime_ns: int) -> BinaryIO | None:
    """Open a local file if it is still the one that was archived, by size and mtime; else return None."""
    if root is None:
        return None
    try:
        file = open_file(root, path)
    except OSError:
        return None
    found = os.fstat(file.fileno())
    if (found.st_size, found.st_mtime_ns) == (size_bytes, mtime_ns):
        return file
    file.close()
    return None
