"""Choose the catalog that a command reads: that of a directory, or that of the bucket.

The bucket's catalog is read from a local copy, one for each destination, which is updated first.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CatalogError, SettingsError, StoreError
from ..terminal import print_error
from ..text import count_noun, end_sentence, make_printable
from .arguments import WrongUsage, given_directory
from .common import archive_root, bucket, ledger_path, settings_now

if TYPE_CHECKING:
    from ..catalog.bucket.copy import BucketCatalog
    from ..config.settings import Settings

SEARCH_SECONDS = 10.0  # how long a search loads the copy, the newest files first


def bucket_settings(directory: Path | None) -> Settings | None:
    """Return the settings of the bucket whose catalog the command reads; None if it reads that of a directory.

    The order is: DIR, COMFYUI_OUTPUT_DIR if this machine archived it, the bucket, COMFYUI_OUTPUT_DIR in any case, the
    directory of the only engine that runs. So a new pod finds everything, though its template sets COMFYUI_OUTPUT_DIR.
    """
    chosen = given_directory(directory)
    if directory is not None or (chosen is not None and ledger_path(chosen).is_file()):
        return None
    try:
        return settings_now()
    except SettingsError:
        return None


def catalog_root(directory: Path | None) -> Path:
    """Return the watched directory whose catalog the command reads. Call it if `bucket_settings` returned None.

    Raises:
        WrongUsage: no directory is given, the settings are wrong, and not exactly one engine runs.
    """
    root = archive_root(directory)
    if root is not None:
        return root
    try:
        settings_now()
    except SettingsError as error:
        raise WrongUsage(
            f"No directory was given, and no bucket can be read: {end_sentence(str(error))} Correct this, or name"
            " a directory."
        ) from error
    raise AssertionError("bucket_settings returns these settings")


def refuse_if_off(settings: Settings) -> None:
    """Raise CatalogError if the settings keep no catalog."""
    if settings.catalog == "off":
        raise CatalogError("The catalog is turned off: CLOUD_ARCHIVE_CATALOG is off.")


@contextlib.contextmanager
def bucket_catalog(settings: Settings) -> Iterator[BucketCatalog]:
    """Open the local copy of this destination's catalog; make it if there is none.

    Raises:
        CatalogError: the catalog is off, or the copy can't be made.
    """
    from ..catalog.bucket.copy import copy_path, opened_catalog

    refuse_if_off(settings)
    with bucket(settings) as store, contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(opened_catalog(copy_path(settings), store, settings))
        except OSError as error:
            where = f" at {error.filename}" if error.filename else ""
            raise CatalogError(
                f"The copy of the bucket's catalog can't be made{where}: {error.strerror or error}. It needs a state"
                " directory that can be written (on Linux, set XDG_STATE_HOME)."
            ) from error
        yield opened


def load_copy(opened: BucketCatalog, seconds: float = SEARCH_SECONDS) -> None:
    """Load what is new in the bucket into the copy, for about `seconds`; print what prevents that.

    Raises:
        StoreError: the bucket can't be read, and the copy is empty.
    """
    deadline = time.monotonic() + seconds
    try:
        result = opened.make_sync().sync(may_go_on=lambda: time.monotonic() < deadline)
    except StoreError as error:
        if not opened.database.read("SELECT 1 FROM assets LIMIT 1"):
            raise
        print_error(f"{error} Showing what was read before.")
        return
    for trouble in result.troubles:
        print_error(make_printable(trouble))
    if result.left:
        print_error(
            f"Not loaded yet: {count_noun(result.left, 'catalog file')} in the bucket, so older files may be missing."
            " Run `cloud-archive catalog sync` to load all."
        )
    if not (result.troubles or result.left or opened.database.read("SELECT 1 FROM assets LIMIT 1")):
        print_error(
            "The catalog in the bucket is empty. Check S3_BUCKET and S3_PREFIX; if files are there, run"
            " `cloud-archive catalog rebuild`."
        )
