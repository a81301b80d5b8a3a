"""Rows: what is known already, and what another machine has read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.packed import Reading, make_reading, unpack_graphs
from cloud_archive.catalog.rows import ArchivedObject, add_archived, add_described
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


def added(database: CatalogDatabase, *objects: ArchivedObject) -> int:
    return database.change(lambda db: add_archived(db, BUCKET, objects))


def described(database: CatalogDatabase, *objects: tuple[ArchivedObject, Reading]) -> int:
    return database.change(lambda db: add_described(db, BUCKET, objects))


def test_an_object_is_added_once_and_replaced_by_a_later_one(database: CatalogDatabase) -> None:
    later = replace(ONE, archived_at=2000.0, size_bytes=9, sha256="cd" * 32)
    assert added(database, ONE, later, ONE) == 1
    assert (added(database, ONE), added(database, later)) == (0, 0)
    (asset,) = assets(database)
    assert (asset["size"], asset["sha256"]) == (9, "cd" * 32)
    assert added(database, replace(later, archived_at=3000.0, size_bytes=11, sha256=None)) == 1
    assert assets(database)[0]["size"] == 11


def test_what_another_machine_has_read_is_not_read_again(database: CatalogDatabase) -> None:
    graphs = {"prompt_graph": {"1": {"class_type": "X", "inputs": {}}}}
    reading = make_reading(replace(FOX, **graphs), "job-9", keep_graphs=True)  # type: ignore[arg-type]
    assert described(database, (ONE, reading)) == 1
    (asset,) = assets(database, "fox model:m width:8 seed:3 job:job-9")
    assert (asset["has_prompt"], asset["has_workflow"], asset["machine"]) == (True, False, "pod-1")
    assert database.read("SELECT count(*) FROM assets WHERE reader = 0") == [(0,)]
    assert unpack_graphs(database.read("SELECT data FROM graphs")[0][0])[0] == graphs["prompt_graph"]
    assert described(database, (ONE, Reading(Description(prompt="another")))) == 0
    assert assets(database) == [asset]


def test_an_unread_or_replaced_object_takes_the_description(database: CatalogDatabase) -> None:
    added(database, ONE)
    assert described(database, (ONE, Reading(FOX))) == 0
    assert len(assets(database, '"a fox"')) == 1
    later = replace(ONE, archived_at=2000.0, sha256="cd" * 32)
    assert described(database, (later, Reading(Description(prompt="a cat")))) == 1
    assert len(assets(database, '"a cat"')) == 1
    assert database.read("SELECT count(*) FROM assets WHERE reader = 0") == [(0,)]


def test_an_empty_prompt_is_told_from_an_unknown_one(database: CatalogDatabase) -> None:
    described(
        database,
        (ONE, Reading(replace(FOX, negative_prompt=""))),
        (replace(ONE, key="out/z.png", path="z.png"), Reading(FOX)),
    )
    assert [one["metadata"]["negative_prompt"] for one in assets(database)] == ["", None]
