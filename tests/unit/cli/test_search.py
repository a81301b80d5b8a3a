"""How found files and one file's facts are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.database import CATALOG_NAME, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.identity import asset_id
from cloud_archive.cli import search
from cloud_archive.cli.app import main
from cloud_archive.cli.catalog_view import DatabaseAssets
from cloud_archive.cli.search import _cells, _lines, _write
from tests.unit.catalog.cataloguing import BUCKET, add_described

EVENING = 1_700_000_000.0  # 2023-11-14 22:13 in UTC
FOX = Description(
    source="png",
    mime_type="image/png",
    width=8,
    height=4,
    prompt="a red\nfox " + "very " * 20,
    models=("sdxl/fox.safetensors",),
    loras=(Lora("winter", 0.8), Lora("fur", None)),
    seed=0,
    sampler="euler",
    confidence="high",
)


@pytest.fixture
def assets(tmp_path: Path) -> Iterator[dict[str, dict[str, Any]]]:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    add_described(database, "out/fox.png", FOX, created=EVENING, size=1500)
    add_described(database, "out/bare.txt", Description(), created=EVENING)
    source = DatabaseAssets(database)
    yield {key: source.asset(asset_id(BUCKET, key)) or {} for key in ("out/fox.png", "out/bare.txt")}
    database.close()


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (["-tag:draft"], "-tag:draft"),
        (["fox", "-city", "--json", "-is:favorite"], "fox -city -is:favorite"),
        (["--limit", "3", "-city", "--", "-fox", "--json"], "-city -fox --json"),
        (["fox -city"], "fox -city"),
        (["-"], "-"),
        (["-json"], None),
        (["--limit", "-5"], None),
        (["--limit"], None),
        (["--jsom"], None),
    ],
)
def test_a_condition_that_begins_with_a_hyphen_needs_no_quotes(
    monkeypatch: pytest.MonkeyPatch, words: list[str], query: str | None
) -> None:
    queries: list[str] = []

    def found(_: object, query: str, __: int) -> dict[str, Any]:
        queries.append(query)
        return {"assets": [], "total": 0}

    monkeypatch.setattr(search, "catalog_engine", lambda _: object())
    monkeypatch.setattr(search, "EngineAssets", lambda engine: engine)
    monkeypatch.setattr(search, "newest_assets", found)
    assert (main(["search", *words]), queries) == ((2, []) if query is None else (0, [query]))


def test_a_found_file_is_one_line_with_the_start_of_its_prompt(assets: dict[str, dict[str, Any]]) -> None:
    day, key, models, prompt = _cells(assets["out/fox.png"])
    assert (key, models) == ("out/fox.png", "fox.safetensors")
    assert day == datetime.fromtimestamp(EVENING).date().isoformat()
    assert prompt.startswith("a red\\nfox very ")
    assert prompt.endswith("…")
    assert len(prompt) == 61, "60 characters; a line break takes two"
    assert _cells(assets["out/bare.txt"])[1:] == ["out/bare.txt", "", ""]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has one time zone")
def test_a_found_file_has_the_day_that_a_search_for_days_counts(
    assets: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert _cells(assets["out/fox.png"])[0] == "2023-11-15"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_file_is_shown_with_what_is_known_of_it(assets: dict[str, dict[str, Any]]) -> None:
    shown = dict(_lines(assets["out/fox.png"]))
    assert shown["size"] == "1.5 kB, 8 x 4"
    assert shown["LoRAs"] == "winter (0.8), fur"
    assert shown["seed"] == "0", "a seed of 0 is a seed"
    assert shown["sampler"] == "euler"
    assert shown["read from"] == "png, confidence high"
    for unknown in ("negative", "steps", "rating", "note", "tags", "job", "graphs"):
        assert unknown not in shown
    assert shown.keys().isdisjoint(("favourite", "hidden"))
    edited = dict(_lines(assets["out/fox.png"] | {"favorite": True, "hidden": True}))
    assert (edited["favourite"], edited["hidden"]) == ("yes", "yes")


def test_a_graph_goes_to_a_file_or_to_standard_output(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _write("-", {"ü": 1}, "prompt")
    assert capsys.readouterr().out == '{\n  "\\u00fc": 1\n}\n'
    file = tmp_path / "graph.json"
    _write(str(file), {"a": 1}, "workflow")
    assert file.read_text("utf-8") == '{\n  "a": 1\n}\n'
    assert capsys.readouterr().out == f"Wrote the workflow to {file}.\n"
