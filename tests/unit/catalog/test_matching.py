"""How SQLite finds what a query asks for: by an index, or by a walk through all files."""

from __future__ import annotations

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.database import CatalogDatabase
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.matching import find_matches
from cloud_archive.catalog.query import parse_query
from tests.unit.catalog.searched import CITY_NAME, FOX_NAME, names

from .cataloguing import BUCKET


def plan_of(database: CatalogDatabase, query: str) -> str:
    with database.reading() as db:
        condition, values = find_matches(db, parse_query(query)).condition(db)
        return str(
            db.execute(
                f"EXPLAIN QUERY PLAN SELECT count(*) FROM assets a WHERE {condition}", values
            ).fetchall()
        )


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("seed:42", "a USING INDEX assets_seed"),
        ("job:job-1", "a USING INDEX assets_job"),
        ("tag:best", "a USING INDEX assets_uuid"),
        ("tag:best", "edits USING COVERING INDEX edits_field (field=? AND value=?)"),
        ("-tag:best", "edits USING COVERING INDEX edits_field (field=? AND value=?)"),
    ],
)
def test_seeds_jobs_and_tags_are_found_by_an_index(database: CatalogDatabase, query: str, index: str) -> None:
    assert index in plan_of(database, query)


def test_an_index_finds_the_files_of_a_rare_tag_only(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.matching.FEW_TAGGED", 1)
    identity = asset_id(BUCKET, "out/day2/city_00001_.mp4")
    database.change(lambda db: edit_asset(db, identity, {"tags": ["Best", "🦊"]}, 1.0, "pod-1"))
    for query, index in (
        ("tag:best", "assets_created"),
        ("tag:best since:2026-01-01", "assets_created"),
        ("tag:best job:job-1", "assets_job"),
        ("tag:best tag:animal", "assets_uuid"),
    ):
        assert f"a USING INDEX {index}" in plan_of(database, query), query
    assert names(database, "tag:BEST") == [CITY_NAME, FOX_NAME]
    assert names(database, "tag:best tag:🦊") == [CITY_NAME]


@pytest.mark.parametrize("query", ["tag:best", 'tag:"É"'])
def test_a_tag_is_looked_up_where_no_file_has_one(database: CatalogDatabase, query: str) -> None:
    database.execute("DELETE FROM edits")
    assert names(database, query) == []
    assert names(database, f"-{query}") == [CITY_NAME, FOX_NAME]
