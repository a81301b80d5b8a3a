"""Which objects are favourites: of all machines, and never "no" where the answer isn't known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.bucket.copy import BucketCatalog, opened_catalog
from cloud_archive.catalog.bucket.favorites import Favorites, FavoritesUnknown, own_catalog
from cloud_archive.catalog.bucket.names import CatalogFolder, new_names
from cloud_archive.catalog.bucket.segment import encode
from cloud_archive.catalog.database import CATALOG_NAME, open_catalog
from cloud_archive.catalog.identity import asset_id
from cloud_archive.config.settings import Settings, load_settings
from tests.memory_store import MemoryStore, refuse

FOLDER = CatalogFolder.of("out")
KEYS = ["out/a.png", "out/b.png", "out/c.png"]
NOW = 1_795_608_000.0


def settings() -> Settings:
    required = {
        "S3_BUCKET": "bucket",
        "S3_ACCESS_KEY_ID": "k",
        "S3_SECRET_ACCESS_KEY": "s",
        "S3_PREFIX": "out",
    }
    return load_settings(required)


def mark(store: MemoryStore, machine: str, key: str, clock: float, *, favorite: bool = True) -> str:
    """Have a machine write an edit into the bucket; returns the segment's key."""
    row: dict[str, Any] = {"op": "set", "clock": clock, "machine": machine, "key": key, "favorite": favorite}
    segment, _ = new_names(machine, NOW)
    store.add(FOLDER.key(segment), encode([row], machine=machine, now=NOW))
    return FOLDER.key(segment)


@pytest.fixture
def opened(tmp_path: Path, store: MemoryStore) -> Iterator[BucketCatalog]:
    with opened_catalog(tmp_path / "copy" / CATALOG_NAME, store, settings()) as opened:
        yield opened


def test_marks_of_all_machines_count_and_the_latest_edit_wins(
    opened: BucketCatalog, store: MemoryStore
) -> None:
    mark(store, "pod-1", "out/a.png", NOW)
    mark(store, "pod-2", "out/b.png", NOW)
    mark(store, "pod-1", "out/b.png", NOW + 1, favorite=False)
    favorites = Favorites([opened], None)
    favorites.load()
    assert favorites.find(KEYS) == {"out/a.png"}
    mark(store, "pod-3", "out/c.png", NOW + 2)
    assert favorites.find(KEYS) == {"out/a.png"}, "as far as it was read"
    favorites.load()
    assert favorites.find_now(KEYS) == {"out/a.png", "out/c.png"}


def test_what_this_machine_marked_counts_before_the_bucket_holds_it(
    opened: BucketCatalog, tmp_path: Path
) -> None:
    own, _ = open_catalog(tmp_path / CATALOG_NAME)
    edit = (asset_id("bucket", "out/a.png").bytes, "favorite", 1, NOW, "here")
    own.change(lambda db: db.execute("INSERT INTO edits VALUES (?, ?, ?, ?, ?)", edit) and None)
    own.close()
    with own_catalog(tmp_path / CATALOG_NAME) as database:
        favorites = Favorites([opened], database)
        favorites.load()
        assert favorites.find(KEYS) == {"out/a.png"}
    with own_catalog(tmp_path / "none" / CATALOG_NAME) as none:
        assert none is None


def test_a_part_of_the_catalog_that_cant_be_read_keeps_everything(
    opened: BucketCatalog, store: MemoryStore
) -> None:
    mark(store, "pod-1", "out/a.png", NOW)
    damaged = mark(store, "pod-2", "out/b.png", NOW)
    store.add(damaged, b"no gzip")
    favorites = Favorites([opened], None)
    for _ in range(2):  # the second time it is known from the first
        with pytest.raises(FavoritesUnknown, match=re.escape("-pod-2.jsonl.gz is left out")):
            favorites.load()
    # Nor is a skipped row taken for none.
    store.objects.clear()
    segment, _ = new_names("pod-3", NOW)
    store.add(FOLDER.key(segment), encode([{"op": "set", "key": "out/c.png"}], machine="pod-3", now=NOW))
    with pytest.raises(FavoritesUnknown, match="can't be found out"):
        favorites.load()


def test_a_part_that_was_replaced_while_it_was_read_is_looked_for_again(
    opened: BucketCatalog, store: MemoryStore
) -> None:
    segment = mark(store, "pod-1", "out/a.png", NOW)
    body = store.objects[segment].body

    def compact(called: str, key: str) -> None:
        if called == "GetObject" and key == segment and segment in store.objects:
            del store.objects[segment]
            store.add(FOLDER.key(new_names("pod-2", NOW)[0]), body)

    store.on_call = compact
    favorites = Favorites([opened], None)
    favorites.load()
    assert favorites.find(KEYS) == {"out/a.png"}


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject"])
def test_without_the_right_to_read_nothing_is_known(
    opened: BucketCatalog, store: MemoryStore, operation: str
) -> None:
    mark(store, "pod-1", "out/a.png", NOW)
    store.on_call = lambda called, key: refuse("AccessDenied", 403, key) if called == operation else None
    with pytest.raises(FavoritesUnknown, match="may not read the catalog"):
        Favorites([opened], None).load()


def test_a_damaged_catalog_of_the_directory_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / CATALOG_NAME).write_bytes(b"no database")
    with pytest.raises(FavoritesUnknown), own_catalog(tmp_path / CATALOG_NAME):
        pass
