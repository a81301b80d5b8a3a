"""Read what every machine wrote: list the catalog's folder, and load the files that were not read yet.

The newest months come first, so that a new machine can search while it loads. A file that is damaged, or of another
version, is noted with the reason; it stops none of the others.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

from ...errors import FailureScope, StoreError
from ...executor import unawaited_threads
from ...store.base import ObjectInfo, ObjectStore
from ...store.failures import concerns_every_request, is_denied, is_missing
from ..database import CatalogDatabase
from .decoding import SegmentDecoder
from .incoming import Incoming
from .loading import DAMAGED, NEWER, READ, Loader
from .names import MONTHS, SEGMENTS, CatalogFolder, FileName, last_days
from .objects import Listed, list_files
from .segment import MAX_MONTH_BYTES, MAX_SEGMENT_BYTES, Decoded, SegmentError, decode

logger = logging.getLogger("cloud_archive.catalog")

_PARALLEL = 4
_AHEAD = 4  # files that are fetched before their turn
_MAX_AHEAD_BYTES = 4 * 1024 * 1024  # a larger one is read when its turn comes
RECENT_DAYS = 2  # today and yesterday; tomorrow is listed too
MANY_BYTES = 1024 * 1024  # if the files to read have so many or more, a child process decodes them
_MAX_CHILD_BYTES = 64 * 1024 * 1024  # of a file that the child gets whole
_ROW_BYTES = 120.0  # assumed for a row in a file, until a file was read


@dataclass(slots=True)
class SyncResult:
    """What one pass did.

    Attributes:
        files, rows: how many were read.
        left: how many files were not read, because the pass was stopped or the store failed.
        replaced: how many files were gone from the bucket: a pass over everything finds what replaced them.
        troubles: sentences about files that can't be read now.
    """

    files: int = 0
    rows: int = 0
    left: int = 0
    replaced: int = 0
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far the pass under way is; `known_bytes`: of all files that were read or are still to be read."""

    rows: int = 0
    read_bytes: int = 0
    known_bytes: int = 0

    @property
    def left_rows(self) -> int:
        """Estimate how many rows are still to be read."""
        row_bytes = self.read_bytes / self.rows if self.rows else _ROW_BYTES
        return round((self.known_bytes - self.read_bytes) / row_bytes)


class Body(NamedTuple):
    """A file as it lies in the bucket, and its rows if a child process decoded it."""

    data: bytes
    decoded: tuple[list[dict[str, Any]], Decoded] | None


class _File(NamedTuple):
    """A file to read; `body`: its bytes, which are being fetched; None: it is too large to be fetched ahead."""

    info: ObjectInfo
    name: FileName
    body: Future[Body] | None


class CatalogSync:
    """Brings what the bucket's catalog holds into the local one. For one thread; any may read `progress`."""

    def __init__(
        self,
        database: Callable[[], CatalogDatabase],
        store: ObjectStore,
        folder: CatalogFolder,
        bucket: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._store = store
        self._folder = folder
        self._incoming = Incoming(bucket, folder)
        self._clock = clock
        self._checked_newer = False
        self.progress = SyncProgress()

    def sync(
        self,
        *,
        recent: bool = False,
        may_go_on: Callable[[], bool] = lambda: True,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> SyncResult:
        """List the catalog's folder and read what is new.

        Args:
            recent: list only the segments of the last days and the month files of their months; else everything.
            may_go_on: asked before each file.
            on_progress: called before each file with how many were committed, and how many there are to read in all.

        Raises:
            StoreError: the store refuses or does not answer, or a listing broke off: what was listed before is read.
            CatalogError: the local catalog can't be read or written.
        """
        self._forget_newer()
        failures: list[StoreError] = []
        wanted = self._unread(self._listed(recent, failures))
        read_bytes = 0
        loader = Loader(self._database, self._incoming)
        is_much = sum(info.size_bytes for info, _ in wanted) >= MANY_BYTES
        decoder = SegmentDecoder() if is_much else None
        current = _Pass(wanted, self._store, loader, decoder)
        result = current.result
        filling = self._database().filling() if decoder is not None else contextlib.nullcontext()
        with filling, contextlib.closing(current.fetch()) as files:
            try:
                for count, file in enumerate(files):
                    if not may_go_on():
                        result.left += len(current.unread)
                        break
                    if loader.rows != self.progress.rows or not count:  # rows count once they are committed
                        known_bytes = read_bytes + current.unread_bytes
                        self.progress = SyncProgress(loader.rows, read_bytes, known_bytes)
                    on_progress(loader.files, count + len(current.unread))
                    current.read(file)
                    read_bytes += file.info.size_bytes
            finally:
                if decoder is not None:
                    decoder.close()
                loader.commit()
        self.progress = SyncProgress()
        if failures:
            raise _explained(failures[0]) from failures[0]
        result.files, result.rows = loader.files, loader.rows
        return result

    def _forget_newer(self) -> None:
        """Forget files of a newer format, once after each start: this program may be able to read them now."""
        if not self._checked_newer:
            self._database().execute("DELETE FROM bucket_files WHERE state = ?", (NEWER,))
            self._checked_newer = True

    def forget_damaged(self) -> None:
        """Have damaged files read again."""
        self._database().execute("DELETE FROM bucket_files WHERE state = ?", (DAMAGED,))

    def _listed(self, recent: bool, failures: list[StoreError]) -> Iterator[Listed]:
        """Yield the catalog's files. A listing that breaks off is added to `failures`.

        Month files are listed last: one that replaces segments which another machine deletes meanwhile is found then.
        """
        if recent:
            now = self._clock()
            days = list(last_days(now, RECENT_DAYS - 1))
            prefixes = [f"{SEGMENTS}/{day}/" for day in days]
            prefixes += [f"{MONTHS}/{month}/" for month in dict.fromkeys(day[:7] for day in days)]
        else:
            prefixes = [f"{SEGMENTS}/", f"{MONTHS}/"]
        try:
            for prefix in prefixes:
                yield from list_files(self._store, self._folder, prefix)
        except StoreError as error:
            failures.append(error)

    def _unread(self, listed: Iterable[Listed]) -> list[Listed]:
        unread: list[Listed] = []
        left = iter(listed)
        while page := list(islice(left, 500)):
            marks = ", ".join("?" * len(page))
            known = self._database().read(
                f"SELECT name FROM bucket_files WHERE name IN ({marks})", [name.text for _, name in page]
            )
            names = {row[0] for row in known}
            unread += [one for one in page if one[1].text not in names]
        return sorted(unread, key=lambda one: one[1].order, reverse=True)


class _Pass:
    """One pass: reads file after file, and counts in `result` what became of each.

    Attributes:
        unread: sizes of the files that are still to be read, by name; `unread_bytes` in all.
    """

    def __init__(
        self, wanted: Sequence[Listed], store: ObjectStore, loader: Loader, decoder: SegmentDecoder | None
    ) -> None:
        self.result = SyncResult()
        self.unread = {name.text: info.size_bytes for info, name in wanted}
        self.unread_bytes = sum(self.unread.values())
        self._wanted = wanted
        self._store = store
        self._loader = loader
        self._decoder = decoder

    def fetch(self) -> Generator[_File, None, None]:
        """Yield each file that no month file has replaced meanwhile."""
        ahead: deque[_File] = deque()
        left = iter(self._wanted)
        with unawaited_threads(_PARALLEL, "cloud-archive-sync") as pool:
            try:
                while True:
                    while len(ahead) < _AHEAD and (following := next(left, None)) is not None:
                        info, name = following
                        if name.text not in self.unread:
                            continue
                        small = info.size_bytes <= _MAX_AHEAD_BYTES
                        ahead.append(_File(info, name, pool.submit(self._body, info) if small else None))
                    if not ahead:
                        return
                    one = ahead.popleft()
                    if one.name.text in self.unread:
                        yield one
            finally:
                for one in ahead:
                    if one.body is not None:
                        one.body.cancel()

    def _body(self, info: ObjectInfo) -> Body:
        data = b"".join(self._store.read(info.key, info.size_bytes))
        return Body(data, None if self._decoder is None else self._decoder.decode(data))

    def read(self, file: _File) -> None:
        """Add a file's rows to the catalog. One that can't be read becomes one of `result.troubles`.

        Raises:
            StoreError: the store would refuse every other file too.
            CatalogError: the local catalog can't be written.
        """
        info, name, _ = file
        self._take_out(name.text)
        try:
            limit = MAX_MONTH_BYTES if name.kind == MONTHS else MAX_SEGMENT_BYTES
            if info.size_bytes > limit:
                self._loader.refuse(name, SegmentError(f"it is larger than {limit // 1024**2} MiB"))
            found = self._load(file)
            for replaced in found.replaces if name.kind == MONTHS else ():
                self._take_out(replaced)
        except SegmentError as error:
            self.result.troubles.append(f"{name.text} is left out: {error}.")
            logger.warning("The catalog's file %s is left out: %s.", info.key, error)
        except StoreError as error:
            if is_missing(error):
                self.result.replaced += 1  # by a month file, which the next listing shows
                return
            concerns_one = error.failure.scope is FailureScope.FILE  # also with 403, as an object in Glacier
            if not concerns_one and (is_denied(error) or concerns_every_request(error)):
                raise _explained(error) from error
            self.result.left += 1
            self.result.troubles.append(f"{name.text} can't be read now: {error}")

    def _take_out(self, name: str) -> None:
        self.unread_bytes -= self.unread.pop(name, 0)

    def _load(self, file: _File) -> Decoded:
        info, name, body = file
        found = Decoded()
        size = info.size_bytes
        if body is not None:
            try:
                fetched = body.result()
            except SegmentError as error:
                self._loader.refuse(name, error)
            if fetched.decoded is not None:
                self._loader.add_decoded(name, *fetched.decoded)
                return fetched.decoded[1]
            self._loader.add(name, decode([fetched.data], found, size_bytes=size), found)
        elif self._decoder is not None and size <= _MAX_CHILD_BYTES:
            data = b"".join(self._store.read(info.key, size))
            with contextlib.closing(self._decoder.stream(data, found)) as rows:
                self._loader.add(name, rows, found)
        else:
            self._loader.add(name, decode(self._store.read(info.key, size), found, size_bytes=size), found)
        return found


def _explained(error: StoreError) -> StoreError:
    if not is_denied(error):
        return error
    right = "s3:ListBucket" if "List" in error.operation else "s3:GetObject"
    explained = replace(
        error.failure,
        cause=f"These credentials may not read the catalog in the bucket: the right {right} is missing."
        " Archiving does not need it.",
        cure="Give them that right.",
    )
    return error.with_failure(explained)


def file_troubles(db: sqlite3.Connection, limit: int = 20) -> list[str]:
    """Return what is wrong with files of the bucket's catalog: a sentence for each of up to `limit` files."""
    found = db.execute(
        "SELECT name, state, skipped, trouble FROM bucket_files WHERE state IN (?, ?) OR skipped > 0"
        " ORDER BY name DESC LIMIT ?",
        (DAMAGED, NEWER, limit),
    )
    return [
        f"{name} is left out: {trouble}."
        if state != READ
        else f"{skipped} rows of {name} are left out: {trouble}."
        for name, state, skipped, trouble in found
    ]
