"""Which objects are favourites: by the bucket's catalog for all machines, and by the local one for this machine.

A command that deletes must not take "not found" for "no": if a part of the catalog can't be read, that is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...errors import CatalogError, CloudArchiveError, StoreError
from ..database import CatalogDatabase
from ..identity import asset_id_bytes
from .copy import BucketCatalog
from .sync import CatalogSync, file_troubles

_MAX_MORE_PASSES = 5  # while other machines replace files that are being read


class FavoritesUnknown(CloudArchiveError):
    """It can't be found out which objects are favourites; the message says why."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"Which files are favourites can't be found out: {cause} {cure}".rstrip())
        self.cause = cause


class Favorites:
    """Answers which keys are favourites.

    Args:
        opened: copies of catalogs in one bucket; they are brought up to date.
        own: the catalog of the watched directory, whose newest edits the bucket may not hold yet; None: there is none.
    """

    def __init__(self, opened: Sequence[BucketCatalog], own: CatalogDatabase | None) -> None:
        self._bucket = opened[0].settings.bucket
        self._copies = [(one.database, one.make_sync()) for one in opened]
        self._own = own
        self._known: frozenset[bytes] = frozenset()

    def load(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read the catalogs to their ends. FavoritesUnknown: a part can't be read."""
        self._read(on_progress, recent=False)

    def find(self, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that were favourites when the catalog was read last."""
        return {key for key in keys if asset_id_bytes(self._bucket, key) in self._known}

    def find_now(self, keys: Sequence[str]) -> set[str]:
        """Read what came since, and return those of `keys` that are favourites now. Raises as `load` does."""
        self._read(lambda done, total: None, recent=True)
        return self.find(keys)

    def _read(self, on_progress: Callable[[int, int], None], *, recent: bool) -> None:
        try:
            for copy, syncing in self._copies:
                _read_all(copy, syncing, on_progress, recent=recent)
            databases = [copy for copy, _ in self._copies] + ([] if self._own is None else [self._own])
            self._known = frozenset().union(*map(_favorites, databases))
        except (StoreError, CatalogError) as error:
            raise FavoritesUnknown(str(error)) from error


def _read_all(
    copy: CatalogDatabase, syncing: CatalogSync, on_progress: Callable[[int, int], None], *, recent: bool
) -> None:
    result = syncing.sync(recent=recent, on_progress=on_progress)
    for _ in range(_MAX_MORE_PASSES):
        if not result.replaced:
            break
        result = syncing.sync(on_progress=on_progress)
    with copy.reading() as db:
        troubles = [*result.troubles, *file_troubles(db)]
    if troubles or result.left or result.replaced:
        raise FavoritesUnknown(troubles[0] if troubles else "the bucket's catalog was not read to its end.")


def _favorites(database: CatalogDatabase) -> frozenset[bytes]:
    rows = database.read("SELECT uuid FROM edits WHERE field = 'favorite' AND value = 1")
    return frozenset(bytes(row[0]) for row in rows)


@contextlib.contextmanager
def own_catalog(path: Path) -> Iterator[CatalogDatabase | None]:
    """Open a directory's catalog to read it; None: there is none. FavoritesUnknown: it can't be read."""
    if not path.is_file():
        yield None
        return
    database = CatalogDatabase(path, read_only=True)
    try:
        database.open()
    except CatalogError as error:
        raise FavoritesUnknown(str(error)) from error
    try:
        yield database
    finally:
        database.close()
