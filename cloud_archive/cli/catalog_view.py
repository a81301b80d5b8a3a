"""Read the catalog of a watched directory or of the bucket, without its engine."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CatalogError, CloudArchiveError, SettingsError
from .arguments import WrongUsage
from .catalog_choice import bucket_catalog, bucket_settings, catalog_root, load_copy, refuse_if_off
from .common import bucket, check_exists, ledger_path, settings_now

if TYPE_CHECKING:
    from ..catalog.database import CatalogDatabase
    from ..config.settings import Settings
    from ..store.base import ObjectStore


def catalog_path(root: Path) -> Path:
    """Return where the catalog of `root` is, or would be."""
    from ..catalog.database import CATALOG_NAME

    return ledger_path(root).with_name(CATALOG_NAME)


@contextlib.contextmanager
def catalog_of(directory: Path | None) -> Iterator[CatalogDatabase]:
    """Open the directory's catalog for reading; without a directory, the bucket's, after `load_copy`.

    Raises:
        WrongUsage: there is neither a directory nor a bucket to read, or the directory is missing and has no ledger.
        CatalogError: there is no catalog, or it can't be read.
        StoreError: the bucket's catalog can't be read.
    """
    from ..catalog.database import CatalogDatabase

    settings = bucket_settings(directory)
    if settings is not None:
        with bucket_catalog(settings) as opened:
            load_copy(opened)
            yield opened.database
        return
    root = catalog_root(directory)
    check_exists(root)
    path = catalog_path(root)
    if not path.is_file():
        with contextlib.suppress(SettingsError):
            refuse_if_off(settings_now())
        raise CatalogError(
            f"There is no catalog at {path}. It is made while an archive runs for the directory, or by"
            " cloud-archive catalog rebuild."
        )
    database = CatalogDatabase(path, read_only=True)
    database.open()
    try:
        yield database
    finally:
        database.close()


class DatabaseAssets:
    """The assets in a catalog's database."""

    def __init__(self, database: CatalogDatabase) -> None:
        self.database = database

    def page(self, query: str, limit: int, after: str | None) -> dict[str, Any]:
        """Return one page of what `query` finds; see `AssetSource`."""
        from ..catalog.query import QueryError
        from ..catalog.search import search

        try:
            with self.database.reading() as db:
                return search(db, query, limit=limit, after=after).to_json()
        except QueryError as error:
            raise WrongUsage(str(error)) from None

    def asset(self, identity: uuid.UUID) -> dict[str, Any] | None:
        """Return the asset with this id; None if there is none."""
        from ..catalog.assets import find_asset

        with self.database.reading() as db:
            return find_asset(db, identity)


def graph_of(database: CatalogDatabase, directory: Path | None, asset: dict[str, Any], part: str) -> Any:
    """Return the asset's `workflow` or `prompt` graph.

    If the catalog does not store it, it comes from the pack in the bucket (for the bucket's catalog), or from a running
    engine.

    Raises:
        CloudArchiveError: there is no such graph, or it can't be read now.
    """
    from ..api.client import running_engine
    from ..catalog.compressed import decompress_graphs

    if not asset[f"has_{part}"]:
        raise CloudArchiveError(f"No {part} is known of {asset['key']}.")
    identity = uuid.UUID(asset["id"]).bytes
    stored = database.read(
        "SELECT g.data FROM graphs g JOIN assets a ON a.id = g.asset WHERE a.uuid = ?", (identity,)
    )
    if stored:
        prompt, workflow = decompress_graphs(stored[0][0])
        return workflow if part == "workflow" else prompt
    settings = bucket_settings(directory)
    if settings is not None:
        return _packed_graph(database, settings, asset, part)
    engine = running_engine(catalog_root(directory))
    if engine is None:
        raise CloudArchiveError(
            f"The catalog does not keep the {part} of {asset['key']}."
            " Start an archive of its directory: it reads the file again."
        )
    answer = engine.call("GET", f"/cloud-sync/assets/{asset['id']}/{part}")
    if answer.status != 200:
        raise CloudArchiveError(answer.message)
    return answer.body


@contextlib.contextmanager
def thumbnails_of(
    database: CatalogDatabase, directory: Path | None, settings: Settings, store: ObjectStore
) -> Iterator[Callable[[Mapping[str, Any]], tuple[bytes, str] | None]]:
    """Yield a function that returns an asset's thumbnail and its MIME type; None if the catalog lacks the asset.

    A thumbnail that neither the cache nor the bucket holds is made from the file; if that fails, it is an icon.
    """
    from ..catalog.bucket.copy import copy_directory
    from ..catalog.bucket.names import CatalogFolder
    from ..catalog.bucket.outgoing import pictured_asset
    from ..catalog.thumbnails.thumbnails import Thumbnails

    if bucket_settings(directory) is not None:
        thumbnails = Thumbnails(copy_directory(settings), None, store)
    else:
        root = catalog_root(directory)
        thumbnails = Thumbnails(ledger_path(root).parent, root, store)
    folder = CatalogFolder.of(settings.prefix)

    def picture(asset: Mapping[str, Any]) -> tuple[bytes, str] | None:
        with database.reading() as db:
            one = pictured_asset(db, uuid.UUID(asset["id"]), folder)
        if one is None:
            return None
        thumbnail = thumbnails.thumbnail(one)
        return thumbnail.data, thumbnail.mime_type

    thumbnails.open()
    try:
        yield picture
    finally:
        thumbnails.close()


def _packed_graph(database: CatalogDatabase, settings: Settings, asset: dict[str, Any], part: str) -> Any:
    from ..catalog.bucket.link import read_graphs
    from ..catalog.bucket.names import CatalogFolder
    from ..catalog.bucket.tables import packed_of

    with database.reading() as db:
        packed = packed_of(db, uuid.UUID(asset["id"]))
    found = None
    if packed is not None:
        pack, (offset, length), _ = packed
        if length:
            with bucket(settings) as store:
                found = read_graphs(store, CatalogFolder.of(settings.prefix).key(pack), offset, length)
    graph = None if found is None else found[1 if part == "workflow" else 0]
    if graph is None:
        raise CloudArchiveError(f"The bucket's catalog does not hold the {part} of {asset['key']}.")
    return graph
