"""The catalog of one watched directory, as HTTP routes, the command and the engine use it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.settings import Settings
from ..errors import CatalogError, RequestRefused, StoreError
from ..ledger.ledger import Ledger
from ..private_files import database_bytes
from ..store.base import ObjectStore
from ..store.failures import is_missing
from ..text import end_sentence
from .assets import add_tags_and_note, edit_asset, edit_clock, find_asset
from .bucket.link import BucketLink
from .bucket.names import CatalogFolder
from .bucket.outgoing import pictured_asset
from .bucket.tables import queue_edits
from .compressed import decompress_graphs
from .database import CATALOG_NAME, CatalogDatabase, open_catalog, start_again
from .filler import STOP_SECONDS, Filler
from .identity import asset_id
from .jobs import add_jobs
from .readers.read import READER_VERSION
from .reading import AssetReader, open_same_file
from .rows import AssetFile, asset_file
from .thumbnails.thumbnails import Thumbnail, Thumbnails

if TYPE_CHECKING:
    from .query import QueryError
    from .search import Page

logger = logging.getLogger("cloud_archive.catalog")

PIECE_BYTES = 256 * 1024
_DELETED = "This file was deleted from the bucket."


class Catalog:
    """One catalog. Its methods may block. Close it before the ledger.

    Args:
        session: (id, start in seconds since 1970) of this session.
    """

    def __init__(
        self,
        state_directory: Path,
        root: Path,
        settings: Settings,
        ledger: Ledger,
        store: ObjectStore,
        *,
        session: tuple[str, float],
    ) -> None:
        self._path = state_directory / CATALOG_NAME
        self._root = root
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._session = session
        self._lock = threading.Lock()
        self._database: CatalogDatabase | None = None
        self._filler: Filler | None = None
        self._link: BucketLink | None = None
        self._thumbnails = Thumbnails(state_directory, root, store)
        self._folder = CatalogFolder.of(settings.prefix)
        self._trouble = "The catalog is closed."
        self.notices: list[str] = []

    def start(self) -> None:
        """Open the catalog and begin to fill it. If it can't be opened, archiving goes on without it."""
        if self._settings.catalog == "off":
            self._trouble = "The catalog is turned off: CLOUD_ARCHIVE_CATALOG is off."
            return
        try:
            self._database, self.notices = open_catalog(self._path)
            with contextlib.suppress(CatalogError):  # the filler replaces a damaged catalog
                self._database.forget_other_bucket(self._settings.bucket)
        except (CatalogError, OSError) as error:
            self._trouble = str(error)
            logger.error("%s", error)
            return
        self._filler = Filler(
            self._database,
            self._ledger,
            self._reader,
            bucket=self._settings.bucket,
            machine=self._settings.machine_name,
            session=self._session,
            on_damage=self._replace,
            on_caught_up=self._wake_writer,
        )
        self._thumbnails.open()
        self._link = BucketLink(
            lambda: self.database, self._store, self._settings, self._thumbnails, self._filler.may_go_on
        )
        self._link.start()
        self._filler.start()

    def close(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Stop the threads, wait up to `timeout_seconds` for their end, and close the database."""
        deadline = time.monotonic() + timeout_seconds
        if self._filler is not None:
            self._filler.stop(timeout_seconds)
        self._thumbnails.close()
        if self._link is not None:
            self._link.stop(max(0.0, deadline - time.monotonic()))
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _wake_writer(self) -> None:
        if self._link is not None:
            self._link.writer.wake()

    def _reader(self, database: CatalogDatabase) -> AssetReader:
        keep = self._settings.catalog == "full"
        machine = self._settings.machine_name
        return AssetReader(database, self._root, self._store, keep_graphs=keep, machine=machine)

    def _replace(self) -> CatalogDatabase:
        with self._lock:
            if self._database is None:
                raise CatalogError("The catalog is closed.")
            self._database.close()
            self._database, self.notices = start_again(self._path)
            return self._database

    @property
    def database(self) -> CatalogDatabase:
        """Return the open database. CatalogError: there is none, with the reason."""
        database = self._database
        if database is None:
            raise CatalogError(self._trouble)
        return database

    @property
    def gallery_setting(self) -> str:
        """CLOUD_ARCHIVE_GALLERY: `all`, `own` or `off`."""
        return self._settings.gallery

    @property
    def machine(self) -> str:
        """This machine's name in the catalog."""
        return self._settings.machine_name

    def unread_files(self) -> int:
        """Return how many files are still to be read, without postponed ones."""
        return int(
            self.database.read("SELECT count(*) FROM assets WHERE reader = 0 AND next_try IS NULL")[0][0]
        )

    def other_machines(self) -> dict[str, Any]:
        """Return `loading` and `trouble` of `GET /cloud-sync/facets`; see docs/http.md."""
        left, trouble = (None, None) if self._link is None else self._link.other_machines()
        if left is None:
            return {"loading": None, "trouble": trouble}
        from .tallies import count_all

        with self.database.reading() as db:
            searched = count_all(db, hidden=True)
        return {"loading": {"searched": searched, "total": searched + left}, "trouble": trouble}

    def _note_viewer(self) -> None:
        if self._filler is not None:
            self._filler.note_viewer()
        if self._link is not None:
            self._link.note_viewer()

    def search(
        self, query: str, sort: str, order: str, limit: int, after: str | None, machine: str | None = None
    ) -> Page:
        """Return a page of `GET /cloud-sync/assets`; `machine`: see `parse_query`.

        Raises:
            RequestRefused: 400, the query or the cursor can't be read.
        """
        from .query import QueryError
        from .search import search

        self._note_viewer()
        with self.database.reading() as db:
            try:
                return search(db, query, sort=sort, order=order, limit=limit, after=after, machine=machine)
            except QueryError as error:
                raise _refused(error) from None

    def facets(self, query: str, machine: str | None = None) -> dict[str, Any]:
        """Return the counts of `GET /cloud-sync/facets`; `machine`: see `parse_query`.

        Raises:
            RequestRefused: 400, the query can't be read.
        """
        from .facets import facets
        from .query import QueryError

        self._note_viewer()
        with self.database.reading() as db:
            try:
                return facets(db, query, machine)
            except QueryError as error:
                raise _refused(error) from None

    def asset(self, identity: uuid.UUID) -> dict[str, Any]:
        """Return one asset. RequestRefused: 404, there is no such asset."""
        with self.database.reading() as db:
            found = find_asset(db, identity)
        if found is None:
            raise self._no_asset(identity)
        return found

    def edit(self, identity: uuid.UUID, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Store the edits of `PATCH /cloud-sync/assets/{id}`. Return the asset. RequestRefused: 404, there is none."""
        self.asset(identity)
        machine = self._settings.machine_name

        def store(db: sqlite3.Connection) -> None:
            clock = edit_clock(db, identity, time.time())
            edit_asset(db, identity, changes, clock, machine)
            queue_edits(db, identity.bytes, clock, machine)

        self.database.change(store, durable=True)
        self._wake_writer()
        return self.asset(identity)

    def add_tags_and_note(self, key: str, tags: Sequence[str], note: str, clock: float) -> None:
        """Add tags and a note to an archived file, also before it is in the catalog; `clock`: as for `edit_asset`."""
        identity = asset_id(self._settings.bucket, key)
        machine = self._settings.machine_name

        def store(db: sqlite3.Connection) -> None:
            add_tags_and_note(db, identity, tags, note, clock, machine)
            queue_edits(db, identity.bytes, clock, machine)

        self.database.change(store, durable=True)
        self._wake_writer()

    def graphs(self, identity: uuid.UUID) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the prompt graph and the workflow: from the catalog, a pack in the bucket, or the file.

        Raises:
            RequestRefused: 404, there is no such asset.
            StoreError, OSError: the file can't be read now.
        """
        self.asset(identity)
        stored = self.database.read(
            "SELECT g.data FROM graphs g JOIN assets a ON a.id = g.asset WHERE a.uuid = ?", (identity.bytes,)
        )
        if stored:
            return decompress_graphs(stored[0][0])
        packed = self._link.graphs(identity) if self._link is not None else None
        if packed is not None:
            return packed
        found, _ = self._reader(self.database).describe(self._file_of(identity))
        return found.prompt_graph, found.workflow

    def _file_of(self, identity: uuid.UUID) -> AssetFile:
        with self.database.reading() as db:
            found = asset_file(db, identity.bytes)
        if found is None:
            raise self._no_asset(identity)
        return found

    def _no_asset(self, identity: uuid.UUID) -> RequestRefused:
        known = "SELECT 1 FROM bucket_tombstones WHERE uuid = ?"
        deleted = bool(self.database.read(known, (identity.bytes,)))
        return RequestRefused(404, _DELETED if deleted else f"There is no asset {identity}.")

    def pieces(self, identity: uuid.UUID, wanted: range) -> Iterator[bytes]:
        """Yield these bytes of the file: from disk if it is still there unchanged, else from the bucket.

        Raises:
            RequestRefused: 404, there is no such asset, or its object was deleted.
            StoreError: the bucket doesn't give them.
        """
        found = self._file_of(identity)
        file = open_same_file(self._root, found.path, found.size_bytes, found.mtime_ns)
        if file is None:
            yield from self._object_pieces(identity, found.key, wanted)
            return
        with file:
            file.seek(wanted.start)
            left = len(wanted)
            while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece

    def _object_pieces(self, identity: uuid.UUID, key: str, wanted: range) -> Iterator[bytes]:
        try:
            yield from self._store.read(key, len(wanted), byte_range=wanted)
        except StoreError as error:
            if is_missing(error) and self._link is not None and self._link.note_missing(identity):
                raise RequestRefused(404, _DELETED) from error
            raise

    def thumbnail(self, identity: uuid.UUID) -> Thumbnail:
        """Return a WebP, or an icon if the file gives none. RequestRefused: 404, there is no such asset."""
        with self.database.reading() as db:
            one = pictured_asset(db, identity, self._folder)
        if one is None:
            raise self._no_asset(identity)
        return self._thumbnails.thumbnail(one)

    def add_jobs(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Store jobs as ComfyUI ran them; no-op without a catalog. CatalogError: not possible now."""
        if self._filler is None:
            return
        keep = self._settings.catalog == "full"
        machine = self._settings.machine_name
        self.database.change(lambda db: add_jobs(db, jobs, keep_graphs=keep, machine=machine), durable=True)
        self._filler.wake()

    def flush(self, timeout_seconds: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait until every archived file was read, or postponed, and the bucket holds every row.

        Return False if the time was up, `cancelled` returned True, the catalog is closing, or the store refused for
        good; True if no catalog is open.
        """
        filler, link = self._filler, self._link
        if filler is None or link is None or self._database is None:
            return True
        deadline = time.monotonic() + timeout_seconds
        filler.wake(retry=True)
        while not (filled := filler.caught_up.wait(max(0.0, min(0.5, deadline - time.monotonic())))):
            if cancelled() or time.monotonic() >= deadline:
                break
        return link.writer.flush(max(0.0, deadline - time.monotonic()), cancelled) and filled

    def write_soon(self) -> None:
        """Have every row written to the bucket soon. Return at once."""
        if self._link is not None:
            self._link.writer.request()

    @property
    def written_batches(self) -> int:
        """How many batches of rows this catalog has written to the bucket; 0 where there is no catalog."""
        return 0 if self._link is None else self._link.writer.written_batches

    def unwritten_rows(self) -> int:
        """Return how many rows the bucket does not hold yet, up to 100,000; 0 also without a catalog."""
        link = self._link
        return 0 if link is None or self._database is None else link.unwritten()

    def why_incomplete(self) -> str | None:
        """Return what keeps the catalog from being filled, or from being written to the bucket; None: nothing known."""
        filler, link = self._filler, self._link
        if filler is not None and filler.trouble is not None:
            return end_sentence(filler.trouble)
        return None if link is None or link.writer.trouble is None else end_sentence(link.writer.trouble)

    def status(self) -> dict[str, Any]:
        """Return what `catalog status` shows."""
        with self.database.reading() as db:
            found = database_status(db, self._path)
        filler = self._filler
        if filler is not None:
            found["trouble"] = filler.trouble
            found["state"] = "complete" if filler.caught_up.is_set() else "filling"
        if self._link is not None:
            found |= self._link.status()
        return found | {"keeps": self._settings.catalog, "machine": self._settings.machine_name}


def database_status(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """Return what `catalog status` shows of the local catalog."""

    def count(what: str) -> int:
        return int(db.execute(f"SELECT count(*) FROM {what}").fetchone()[0])

    return {
        "assets": count("assets"),
        "unread": count("assets WHERE reader = 0"),
        "postponed": count("assets WHERE reader = 0 AND next_try IS NOT NULL"),
        "edits": count("edits"),
        "jobs": count("jobs"),
        "size_bytes": database_bytes(path),
        "reader_version": READER_VERSION,
    }


def _refused(error: QueryError) -> RequestRefused:
    from .query import CursorError

    return RequestRefused(400, str(error) if isinstance(error, CursorError) else f"q: {error}")
