"""Fixtures of the catalog's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.identity import asset_id
from tests.unit.catalog.searched import CITY, DAY, FOX

from .bucket.machines import NewMachine
from .cataloguing import BUCKET, Stage, add_described, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as stage:
        yield stage


@pytest.fixture
def elsewhere(stage: Stage) -> Iterator[NewMachine]:
    """Another machine, which has read nothing of the bucket yet."""
    machine = NewMachine(stage.base, stage.store)
    yield machine
    machine.database.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CatalogDatabase]:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    add_described(database, "out/day1/fox_00001_.png", FOX, created=1000 * DAY, size=30, job_id="job-1")
    add_described(database, "out/day2/city_00001_.mp4", CITY, created=1002 * DAY, size=20)
    add_described(database, "out/day2/100%_note.txt", Description(), created=1001 * DAY, size=10)
    for name, changes in (
        (
            "out/day1/fox_00001_.png",
            {"tags": ["best", "animal"], "favorite": True, "rating": 4, "note": "print"},
        ),
        ("out/day2/100%_note.txt", {"hidden": True}),
    ):
        identity = asset_id(BUCKET, name)
        database.change(lambda db, i=identity, c=changes: edit_asset(db, i, c, 1.0, "pod-1"))  # type: ignore[misc]
    yield database
    database.close()
