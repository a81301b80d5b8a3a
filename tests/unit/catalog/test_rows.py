"""Rows: what is known already, and what was read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.compressed import Reading
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.rows import ArchivedObject, add_archived, store_descriptions, unread_assets
from cloud_archive.catalog.search import search

from .cataloguing import BUCKET

ONE = ArchivedObject("out/a/fox.png", "a/fox.png", 7, 10**18, 1000.0, "ab" * 32, "pod-1", "session")
FOX = Description(prompt="a fox", mime_type="image/png", width=8, models=("m.safetensors",), seed=3)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CatalogDatabase]:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    yield database
    database.close()


def assets(database: CatalogDatabase, query: str = "") -> list[dict[str, Any]]:
    with database.reading() as db:
        return search(db, query, sort="name", order="asc").assets


def add(database: CatalogDatabase, *objects: ArchivedObject) -> None:
    database.change(lambda db: add_archived(db, BUCKET, objects))


def read(database: CatalogDatabase, *descriptions: Description) -> None:
    """Store what was read of the unread assets, in the order of their keys."""

    def work(db: sqlite3.Connection) -> None:
        assets = sorted(unread_assets(db, 0.0, 100), key=lambda asset: asset.key)
        store_descriptions(db, list(zip(assets, map(Reading, descriptions), strict=True)))

    database.change(work)


def test_an_object_is_added_once_and_replaced_by_a_later_one(database: CatalogDatabase) -> None:
    later = ONE._replace(archived_at=2000.0, size_bytes=9, sha256="cd" * 32)
    for objects in ((ONE, later, ONE), (ONE,), (later,)):
        add(database, *objects)
        (asset,) = assets(database)
        assert (asset["size"], asset["sha256"]) == (9, "cd" * 32)
    add(database, later._replace(archived_at=3000.0, size_bytes=11, sha256=None))
    assert assets(database)[0]["size"] == 11


def test_an_empty_prompt_is_told_from_an_unknown_one(database: CatalogDatabase) -> None:
    add(database, ONE, ONE._replace(key="out/z.png", path="z.png"))
    read(database, replace(FOX, negative_prompt=""), FOX)
    assert [one["metadata"]["negative_prompt"] for one in assets(database)] == ["", None]
