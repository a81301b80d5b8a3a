"""A catalog of three assets to search in, and how to search it."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.catalog.database import CatalogDatabase
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.search import search

DAY = 86_400.0
FOX = Description(
    source="png",
    mime_type="image/png",
    width=1024,
    height=512,
    prompt="a red fox in the snow, 雪の中の狐",
    negative_prompt="blurry",
    models=("sdxl/juggernaut_v9.safetensors",),
    loras=(Lora("winter_v2", 0.8),),
    seed=2**64 - 1,
    sampler="euler",
    steps=20,
    cfg=7.0,
    confidence="high",
    texts=("a red fox in the snow, 雪の中の狐", "blurry", "style of nobody"),
    model_names=("sdxl/juggernaut_v9.safetensors", "4x_upscaler.pth"),
)
CITY = Description(
    source="mp4", mime_type="video/mp4", width=640, height=480, prompt="a city at night", seed=42
)


def names(database: CatalogDatabase, query: str, **more: Any) -> list[str]:
    with database.reading() as db:
        page = search(db, query, **more)
    assert page.total == len(page.assets) or "limit" in more
    return [asset["name"] for asset in page.assets]


def force_plan(monkeypatch: pytest.MonkeyPatch, plan: str) -> None:
    """Have a search go the way that it goes with many or few assets, whatever their number is."""
    few = 0 if plan == "many" else 1000
    for place, value in {
        "search.WALKED_FROM": 0 if "walked" in plan else 1_000_000,
        "search.MAX_STEPS": 2 if plan == "walked too long" else 1000,
        "matching.FEW_RECIPES": few,
        "matching.FEW_TAGGED": few,
        "tallies.FEW_RECIPES": few,
        "lookup.COMPARED_RECIPES": few,
        "lookup.MAX_NAMES": 1 if plan == "many" else 1000,
    }.items():
        monkeypatch.setattr(f"cloud_archive.catalog.{place}", value)


FOX_NAME, CITY_NAME, NOTE_NAME = "fox_00001_.png", "city_00001_.mp4", "100%_note.txt"
