"""Search: files whose keys have another name than their paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloud_archive.catalog.database import CATALOG_NAME, open_catalog
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.rows import remove_assets
from cloud_archive.catalog.search import search
from tests.unit.catalog.searched import CITY, names

from .cataloguing import BUCKET, add_described


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("cat.png", ["cat (1).png", "cat.png"]),
        ('"CAT.PNG"', ["cat (1).png", "cat.png"]),
        ("cat.png -fox", ["cat (1).png", "cat.png"]),
        ("-cat.png", []),
        ('"cat (1)"', ["cat (1).png"]),
        ("day", []),
        ("path:cat.png", ["cat (1).png", "cat.png"]),
        ("path:day/CAT.png", ["cat (1).png", "cat.png"]),
        ("path:9", []),
        ("-path:cat.png", []),
    ],
)
@pytest.mark.parametrize("listed", [20_000, 0])
def test_a_name_that_was_taken_is_found_by_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, keys: list[str], listed: int
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.lookup.MAX_NAMES", listed)
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number, key in enumerate(("out/day/cat.png", "out/day/cat (1).png")):
        add_described(database, key, CITY, created=1e9 + number, path="day/cat.png")
    with database.reading() as db:
        found = search(db, query).assets
    assert {asset["name"] for asset in found} <= {"cat.png"}
    assert [asset["key"].rpartition("/")[2] for asset in found] == keys
    database.close()


def test_a_path_that_changes_is_found_by_the_new_name(tmp_path: Path) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number, path in enumerate(("old.png", "new.png", "cat (1).png")):
        add_described(database, "out/cat (1).png", CITY, created=1e9 + number, path=path)
        for name in ("old.png", "new.png"):
            assert len(names(database, name)) == (name == path)
    database.change(lambda db: remove_assets(db, BUCKET, ["out/cat (1).png"]))
    with database.reading() as db:
        assert db.execute("SELECT count(*) FROM name_index WHERE name_index MATCH 'png'").fetchone() == (0,)
    database.close()


def test_a_model_s_folder_is_found_with_the_separator_of_any_system(tmp_path: Path) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number, separator in enumerate("/\\"):
        lora = Lora(f"styles{separator}アニメ{separator}fur.pt", 0.8)
        found = replace(CITY, models=(f"sdxl{separator}fox.safetensors",), loras=(lora,))
        add_described(database, f"out/{number}.png", found, created=1e9 + number)
    for query in ("model:sdxl/fox", "model:SDXL\\fox", 'lora:"styles\\アニメ/fur"', "lora:styles/アニメ\\"):
        assert names(database, query) == ["1.png", "0.png"], query
    assert names(database, "-model:sdxl\\fox") == []
    database.close()
