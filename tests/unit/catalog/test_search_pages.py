"""Search: pages, their order, and cursors."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from cloud_archive.api.asset_arguments import search_arguments
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.query import CursorError, QueryError
from cloud_archive.catalog.search import search
from tests.memory_store import MemoryStore
from tests.unit.catalog.searched import CITY_NAME, FOX, FOX_NAME, force_plan, names

from .bucket.machines import NOW, NewMachine, put, write
from .cataloguing import add_described


@pytest.mark.parametrize(
    ("sort", "order", "found"),
    [
        ("created_at", "desc", [CITY_NAME, FOX_NAME]),
        ("created_at", "asc", [FOX_NAME, CITY_NAME]),
        ("name", "asc", [CITY_NAME, FOX_NAME]),
        ("name", "desc", [FOX_NAME, CITY_NAME]),
        ("size", "asc", [CITY_NAME, FOX_NAME]),
        ("size", "desc", [FOX_NAME, CITY_NAME]),
    ],
)
def test_pages_are_sorted(database: CatalogDatabase, sort: str, order: str, found: list[str]) -> None:
    assert names(database, "", sort=sort, order=order) == found


@pytest.mark.parametrize("plan", ["walked", "walked too long", "few", "many"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["created_at", "name", "size", "relevance"])
def test_pages_hold_each_asset_once_while_others_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sort: str, order: str, plan: str
) -> None:
    force_plan(monkeypatch, plan)
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number in range(20):
        # Some have the same time and size.
        add_described(database, f"out/a{number:02}.png", FOX, created=number // 3, size=number // 3)
    seen: list[str] = []
    after = None
    while True:
        with database.reading() as db:
            page = search(db, "fox", sort=sort, order=order, limit=3, after=after)
        seen += [asset["name"] for asset in page.assets]
        assert page.to_json()["has_more"] == (page.next_cursor is not None)
        if page.next_cursor is None:
            break
        after = page.next_cursor
        # These sort before everything that was seen.
        place = len(seen) if order == "asc" else 10_000 + len(seen)
        name = f"{'A' if order == 'asc' else 'z'}{place}.png"
        add_described(
            database,
            f"out/{name}",
            FOX,
            created=-place if order == "asc" else place,
            size=-place * (order == "asc"),
        )
    assert sorted(name for name in seen if name.startswith("a")) == [f"a{n:02}.png" for n in range(20)]
    database.close()


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["created_at", "name", "size", "relevance"])
def test_pages_hold_each_asset_once_while_machines_describe_them_again(
    tmp_path: Path, sort: str, order: str
) -> None:
    machine = NewMachine(tmp_path, MemoryStore())
    puts = [put(f"out/{folder}/fox.png", mtime_ns=5, prompt="a fox") for folder in "abcdef"]
    write(machine.store, puts)
    machine.sync.sync()
    seen: list[str] = []
    after = None
    for number, again in enumerate([*puts[1:], puts[0]], 1):
        with machine.database.reading() as db:
            page = search(db, "fox", sort=sort, order=order, limit=1, after=after)
        seen += [asset["key"] for asset in page.assets]
        after = page.next_cursor
        write(machine.store, [again | {"clock": NOW + number, "job_id": "j"}])
        assert machine.sync.sync().rows == 1
    assert (sorted(seen), after) == ([one["key"] for one in puts], None)
    machine.database.close()


def test_the_cursor_of_the_longest_name_is_accepted(tmp_path: Path) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for key in ("out/" + "雪" * 251 + ".png", "out/" + "雪" * 252 + ".png"):
        add_described(database, key, FOX)
    with database.reading() as db:
        page = search(db, "", sort="name", order="desc", limit=1)
        assert search_arguments({"after": page.next_cursor or ""})["after"] == page.next_cursor
        rest = search(db, "", sort="name", order="desc", limit=1, after=page.next_cursor)
    assert [len(asset["name"]) for asset in (*page.assets, *rest.assets)] == [256, 255]
    database.close()


@pytest.mark.parametrize("ranked", [3, 1000])
def test_relevance_asks_how_early_a_prompt_names_the_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranked: int
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.search.MAX_RANKED", ranked)
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for name, prompt in {
        "first.png": "A Fox, in a red coat",
        "late.png": "a very long description of snow, and then a fox, red",
        "middle.png": "red snow, fox",
        "fox_and_red.png": "something else",
    }.items():
        add_described(database, f"out/{name}", Description(prompt=prompt), created=len(prompt))
    found = names(database, "fox red", sort="relevance", limit=10)
    if ranked == 3:  # the oldest is left out
        assert found == ["first.png", "late.png", "fox_and_red.png"]
    else:
        assert found == ["middle.png", "first.png", "late.png", "fox_and_red.png"]
        assert names(database, "fox red", sort="relevance", order="asc") == found[::-1]
        assert names(database, "", sort="relevance")[0] == "fox_and_red.png"
    database.close()


@pytest.mark.parametrize("query", ["fox", "fox red"])
def test_long_prompts_are_not_held_in_memory_together(tmp_path: Path, query: str) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number in range(40):
        add_described(database, f"out/{number}.png", Description(prompt=f"fox {number} red " + "a" * 110_000))
    tracemalloc.start()
    try:
        with database.reading() as db:
            page = search(db, query, sort="relevance", limit=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert page.total == 40
    assert len(page.assets[0]["metadata"]["prompt"]) == 100_000
    assert peak < 2_000_000
    database.close()


def test_what_each_of_many_frequent_words_finds_is_not_held_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.lookup.COMPARED_RECIPES", 0)
    words = " ".join(f"word{number}" for number in range(100, 140))
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number in range(1200):
        add_described(database, f"out/{number}.png", Description(prompt=f"{words} {number}"))
    tracemalloc.start()
    try:
        with database.reading() as db:
            page = search(db, words, limit=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert page.total == 1200
    assert peak < 1_500_000
    database.close()


@pytest.mark.parametrize("after", ["x", "AAAA", "W10", "WyJzaXplIiwiZGVzYyIsMSwxXQ", "é", "W1tb" * 2000])
def test_a_cursor_of_another_search_is_refused(database: CatalogDatabase, after: str) -> None:
    with pytest.raises(CursorError, match="after"), database.reading() as db:
        search(db, "", after=after)
    with pytest.raises(QueryError) as error, database.reading() as db:
        search(db, "rating:x", after=after)
    assert not isinstance(error.value, CursorError), "an answer names the argument that is wrong"
