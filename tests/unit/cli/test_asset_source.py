"""Finding archived files by a query and by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.database import CATALOG_NAME, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.identity import asset_id
from cloud_archive.cli import asset_source
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.asset_source import named_asset, newest_assets
from cloud_archive.cli.catalog_view import DatabaseAssets
from cloud_archive.errors import CloudArchiveError
from tests.unit.catalog.cataloguing import BUCKET, add_described

KEYS = ("out/mon/fox.png", "out/tue/fox.png", "out/wed/city.png", "out/thu/hidden.png")
OLD = "out/thu/hidden (1).png"  # a version of the last one, not hidden


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseAssets]:
    """Four files on four days, the last one hidden; a page holds two."""
    monkeypatch.setattr(asset_source, "MAX_PAGE", 2)
    monkeypatch.setenv("S3_BUCKET", f"'{BUCKET}'")
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for day, key in enumerate(KEYS):
        add_described(database, key, Description(), created=day * 86_400.0)
    database.change(lambda db: edit_asset(db, asset_id(BUCKET, KEYS[3]), {"hidden": True}, 1.0, "m"))
    add_described(database, OLD, Description(), created=-1.0, path="thu/hidden.png")
    yield DatabaseAssets(database)
    database.close()


@pytest.mark.parametrize(("limit", "shown"), [(1, 1), (2, 2), (3, 3), (9, 4)])
def test_the_newest_come_from_as_many_pages_as_it_takes(
    source: DatabaseAssets, limit: int, shown: int
) -> None:
    found = newest_assets(source, "", limit)
    assert [asset["key"] for asset in found["assets"]] == [*KEYS[2::-1], OLD][:shown]
    assert (found["total"], found["has_more"]) == (4, shown < 4)


def test_an_unknown_field_is_wrong_usage(source: DatabaseAssets) -> None:
    with pytest.raises(WrongUsage, match="colour"):
        newest_assets(source, "colour:red", 1)


@pytest.mark.parametrize("key", KEYS)
def test_a_file_is_found_by_key_and_by_id(source: DatabaseAssets, key: str) -> None:
    identity = str(asset_id(BUCKET, key))
    assert named_asset(source, key)["id"] == named_asset(source, identity)["id"] == identity


def test_a_file_is_found_by_its_path_and_its_key_in_another_bucket(
    source: DatabaseAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S3_BUCKET")
    assert named_asset(source, "tue/fox.png")["key"] == KEYS[1]
    assert named_asset(source, KEYS[3])["key"] == KEYS[3], "hidden files are found too"


@pytest.mark.parametrize("variable", ["S3_BUCKET", "R2_BUCKET"])
def test_the_key_of_one_version_comes_before_the_path_of_others(
    source: DatabaseAssets, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("S3_BUCKET")
    monkeypatch.setenv(variable, BUCKET)
    for key in ("a.png", "a (1).png"):
        add_described(source.database, key, Description(), created=0.0, path="a.png")
    assert named_asset(source, "a.png")["key"] == "a.png"


def test_a_file_is_found_among_many_newer_ones_of_its_name(source: DatabaseAssets) -> None:
    for day in range(4):
        add_described(source.database, f"out/{day}/fox.png", Description(), created=(9 + day) * 86_400.0)
    assert named_asset(source, "mon/fox.png")["key"] == KEYS[0]


def test_a_quote_in_a_name_is_no_end_of_a_phrase(source: DatabaseAssets) -> None:
    add_described(source.database, 'out/a"b.png', Description(), created=0.0)
    assert named_asset(source, 'a"b.png')["key"] == 'out/a"b.png'


def test_a_path_is_found_however_unicode_spells_its_accents(source: DatabaseAssets) -> None:
    joined, apart = "caf\u00e9.png", "cafe\u0301.png"
    add_described(source.database, f"out/{apart}", Description(), created=0.0)
    assert named_asset(source, joined)["key"] == f"out/{apart}"
    add_described(source.database, f"out/{joined}", Description(), created=0.0)
    for name in (joined, apart):
        assert named_asset(source, name)["key"] == f"out/{name}"


@pytest.mark.parametrize("name", ["fox", "mon/fox.png/", "other/fox.png", 'a"quote', '"'])
def test_a_name_that_is_none_of_them_is_an_error(source: DatabaseAssets, name: str) -> None:
    with pytest.raises(CloudArchiveError, match="holds no file"):
        named_asset(source, name)


def test_a_path_of_several_files_is_an_error_that_names_their_keys(source: DatabaseAssets) -> None:
    with pytest.raises(CloudArchiveError, match="Several files") as raised:
        named_asset(source, "thu/hidden.png")
    assert KEYS[3] in str(raised.value)
    assert OLD in str(raised.value)


def test_a_key_of_the_configured_bucket_comes_before_a_path(source: DatabaseAssets) -> None:
    add_described(source.database, "mon/fox.png", Description(), created=-2.0)
    assert named_asset(source, "mon/fox.png")["key"] == "mon/fox.png"
