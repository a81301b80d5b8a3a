"""A local copy of the bucket's catalog for each destination, so that commands work on machines that archive nothing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...config.settings import Settings
from ...errors import CatalogError
from ...private_files import NotPrivate, make_private_directory
from ...state import platform_state_directory
from ...store.base import ObjectStore
from ..database import CATALOG_NAME, CatalogDatabase, open_catalog
from .names import CatalogFolder
from .sync import CatalogSync
from .writer import SegmentWriter


def copy_directory(settings: Settings) -> Path:
    """Return where the copy for this destination lies, or would lie. OSError: this user has no home directory."""
    folder = CatalogFolder.of(settings.prefix)
    named = f"{settings.endpoint_label}/{settings.bucket}/{folder.head}"
    word = "".join(sign if sign.isalnum() else "-" for sign in settings.bucket)[:40]
    digest = hashlib.sha256(named.encode()).hexdigest()[:12]
    return platform_state_directory() / "destinations" / f"{word}-{digest}"


@dataclass(frozen=True, slots=True)
class BucketCatalog:
    """A local catalog, and the bucket that it was read from or is written to."""

    database: CatalogDatabase
    store: ObjectStore
    folder: CatalogFolder
    settings: Settings

    def make_sync(self) -> CatalogSync:
        return CatalogSync(lambda: self.database, self.store, self.folder, self.settings.bucket)

    def make_writer(self) -> SegmentWriter:
        return SegmentWriter(
            lambda: self.database,
            self.store,
            self.folder,
            machine=self.settings.machine_name,
            keep_graphs=self.settings.catalog == "full",
        )


@contextlib.contextmanager
def opened_catalog(path: Path, store: ObjectStore, settings: Settings) -> Iterator[BucketCatalog]:
    """Open or create the local catalog at `path`. CatalogError, OSError: that is not possible."""
    try:
        make_private_directory(path.parent, keep_mode=path.parent.is_dir())
    except NotPrivate as error:
        raise CatalogError(f"The catalog {path} is not used: {error}.") from error
    database, _ = open_catalog(path)
    try:
        yield BucketCatalog(database, store, CatalogFolder.of(settings.prefix), settings)
    finally:
        database.close()


def copy_path(settings: Settings) -> Path:
    """Return the path of the copy's database. OSError: this user has no home directory."""
    return copy_directory(settings) / CATALOG_NAME
