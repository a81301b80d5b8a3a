"""The bucket's catalog for commands: a copy for each destination, brought up to date before it is used."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CatalogError, SettingsError, StoreError
from ..terminal import print_error
from .arguments import given_directory
from .common import bucket, settings_now

if TYPE_CHECKING:
    from ..catalog.bucket.copy import BucketCatalog
    from ..config.settings import Settings

SEARCH_SECONDS = 10.0  # that a search waits for the copy to load; what is newest comes first


def bucket_settings(directory: Path | None) -> Settings | None:
    """Return the settings of the bucket whose catalog is meant, because no directory is named.

    None: a directory is named, or no bucket is configured; then the only engine that runs may be asked.
    """
    if given_directory(directory) is not None:
        return None
    try:
        return settings_now()
    except SettingsError:
        return None


@contextlib.contextmanager
def bucket_catalog(settings: Settings) -> Iterator[BucketCatalog]:
    """Open the copy of this destination's catalog; it is made where there is none.

    Raises:
        CatalogError: the catalog is off, or the copy can't be made.
    """
    from ..catalog.bucket.copy import copy_path, opened_catalog
    from ..private_files import NotPrivate

    if settings.catalog == "off":
        raise CatalogError("The catalog is turned off: CLOUD_ARCHIVE_CATALOG is off.")
    with bucket(settings) as store, contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(opened_catalog(copy_path(settings), store, settings))
        except (OSError, NotPrivate) as error:
            raise CatalogError(f"The copy of the bucket's catalog can't be made: {error}.") from error
        yield opened


def load_copy(opened: BucketCatalog, seconds: float = SEARCH_SECONDS) -> None:
    """Bring the copy up to date within this time; whatever prevents that is said on standard error.

    Raises:
        StoreError: the bucket can't be read, and the copy is empty.
    """
    deadline = time.monotonic() + seconds
    try:
        result = opened.syncing().sync(may_go_on=lambda: time.monotonic() < deadline)
    except StoreError as error:
        if not opened.database.read("SELECT 1 FROM assets LIMIT 1"):
            raise
        print_error(f"{error} Showing what was read before.")
        return
    for trouble in result.troubles:
        print_error(trouble)
    if result.left:
        print_error(
            f"{result.left:,} files of the catalog are not loaded yet: run cloud-archive catalog sync to load all."
        )
