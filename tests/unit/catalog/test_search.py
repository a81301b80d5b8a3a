"""Search: each field of the query language, facets, indexes."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.facets import facets
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.recipes import searched_rows
from cloud_archive.catalog.schema import SAMPLER
from cloud_archive.catalog.search import files_by_model, search
from tests.unit.catalog.searched import CITY, CITY_NAME, FOX, FOX_NAME, NOTE_NAME, force_plan, names

from .cataloguing import BUCKET, add_described


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [CITY_NAME, FOX_NAME]),
        ("fox", [FOX_NAME]),
        ("FOX", [FOX_NAME]),
        ('"red fox"', [FOX_NAME]),
        ('"fox red"', []),
        ("red fox", [FOX_NAME]),
        ("雪の中", [FOX_NAME]),
        ("狐", [FOX_NAME]),
        ("中の", [FOX_NAME]),
        ("-fox", [CITY_NAME]),
        ("-狐", [CITY_NAME]),
        ("nobody", [FOX_NAME]),
        ("blurry", [FOX_NAME]),
        ("juggernaut", [FOX_NAME]),
        ("winter_v2", [FOX_NAME]),
        ("00001", [CITY_NAME, FOX_NAME]),
        ("city_00001_.mp4", [CITY_NAME]),
        ("model:juggernaut", [FOX_NAME]),
        ("model:JUGGERNAUT_v9", [FOX_NAME]),
        ("model:4x_upscaler", [FOX_NAME]),
        ("model:upscalerx", []),
        ("-model:juggernaut", [CITY_NAME]),
        ("lora:winter", [FOX_NAME]),
        ("lora:juggernaut", []),
        ("seed:18446744073709551615", [FOX_NAME]),
        ("seed:42", [CITY_NAME]),
        ("seed:>=43", [FOX_NAME]),
        ("seed:<100", [CITY_NAME]),
        ("sampler:euler", [FOX_NAME]),
        ("type:image", [FOX_NAME]),
        ("type:video", [CITY_NAME]),
        ("type:audio", []),
        ("is:hidden type:other", [NOTE_NAME]),
        ("-type:other", [CITY_NAME, FOX_NAME]),
        ("seed:18446744073709551616", []),
        ("seed:>=99999999999999999999", []),
        ("-seed:18446744073709551616", [CITY_NAME, FOX_NAME]),
        ("seed:<18446744073709551616", [CITY_NAME, FOX_NAME]),
        ("width:<=9223372036854775808 width:>640", [FOX_NAME]),
        ("since:1972-09-28", [CITY_NAME]),
        ("until:1972-09-27", [FOX_NAME]),
        ("machine:pod-1", [CITY_NAME, FOX_NAME]),
        ("machine:pod", []),
        ("job:job-1", [FOX_NAME]),
        ("tag:best", [FOX_NAME]),
        ("tag:bes", []),
        ("tag:best tag:animal", [FOX_NAME]),
        ("-tag:best", [CITY_NAME]),
        ("is:favorite", [FOX_NAME]),
        ("-is:favorite", [CITY_NAME]),
        ("is:hidden", [NOTE_NAME]),
        ("-is:hidden", [CITY_NAME, FOX_NAME]),
        ("-lora:winter", [CITY_NAME]),
        ("-sampler:euler", [CITY_NAME]),
        ("-seed:42", [FOX_NAME]),
        ("-seed:<100", [FOX_NAME]),
        ("-type:video", [FOX_NAME]),
        ("-since:1972-09-28", [FOX_NAME]),
        ("-until:1972-09-27", [CITY_NAME]),
        ("-machine:pod-1", []),
        ("-job:job-1", [CITY_NAME]),
        ("-rating:>=4", [CITY_NAME]),
        ("-width:>=1024", [CITY_NAME]),
        ("-height:480", [FOX_NAME]),
        ("-path:day1", [CITY_NAME]),
        ('-"red fox"', [CITY_NAME]),
        ('-model:"juggernaut v9"', [CITY_NAME, FOX_NAME]),
        ("fox -city -snow", []),
        ("since:1972-09-27T00:00:00Z until:1972-09-27", [FOX_NAME]),
        ("rating:>=4", [FOX_NAME]),
        ("rating:<4", [CITY_NAME]),
        ("width:>=1024", [FOX_NAME]),
        ("width:<1000 height:480", [CITY_NAME]),
        ("path:day2", [CITY_NAME]),
        ("path:day2/ci", [CITY_NAME]),
        ("path:day1/ci", []),
        ("path:out/day1/fox_00001_.png", [FOX_NAME]),
        ('is:hidden "100%"', [NOTE_NAME]),
        ("is:hidden 0%", [NOTE_NAME]),
        ("9%", []),
        ("type:image fox seed:>5 width:>=1000", [FOX_NAME]),
        ("'\"; DROP TABLE assets; --", []),
    ],
)
def test_each_query_finds_what_it_should(database: CatalogDatabase, query: str, found: list[str]) -> None:
    assert names(database, query) == found


def test_an_asset_has_the_fields_of_the_contract(database: CatalogDatabase) -> None:
    with database.reading() as db:
        (asset,) = search(db, "fox").assets
    identity = str(asset_id(BUCKET, "out/day1/fox_00001_.png"))
    assert asset == {
        "id": identity,
        "name": "fox_00001_.png",
        "key": "out/day1/fox_00001_.png",
        "path": "day1/fox_00001_.png",
        "size": 30,
        "mime_type": "image/png",
        "sha256": "ab" * 32,
        "created_at": "1972-09-27T00:00:00.000Z",
        "machine": "pod-1",
        "session_id": "s",
        "job_id": "job-1",
        "preview_url": f"/cloud-sync/assets/{identity}/thumbnail",
        "width": 1024,
        "height": 512,
        "duration_seconds": None,
        "metadata": {
            "prompt": "a red fox in the snow, 雪の中の狐",
            "negative_prompt": "blurry",
            "models": ["sdxl/juggernaut_v9.safetensors"],
            "loras": [{"name": "winter_v2", "strength": 0.8}],
            "seed": 2**64 - 1,
            "sampler": "euler",
            "scheduler": None,
            "steps": 20,
            "cfg": 7.0,
            "denoise": None,
            "input_images": [],
            "source": "png",
            "confidence": "high",
        },
        "has_workflow": False,
        "has_prompt": False,
        "tags": ["animal", "best"],
        "favorite": True,
        "rating": 4,
        "note": "print",
        "hidden": False,
    }


def test_facets_count_what_the_query_finds(database: CatalogDatabase) -> None:
    with database.reading() as db:
        found = facets(db)
        assert found["models"] == [{"name": "sdxl/juggernaut_v9.safetensors", "count": 1}]
        assert found["loras"] == [{"name": "winter_v2", "count": 1}]
        assert found["samplers"] == [{"name": "euler", "count": 1}]
        assert found["machines"] == [{"name": "pod-1", "count": 2}]
        assert found["types"] == [{"name": "image", "count": 1}, {"name": "video", "count": 1}]
        assert found["tags"] == [{"name": "animal", "count": 1}, {"name": "best", "count": 1}]
        assert [day["count"] for day in found["days"]] == [1, 1]
        assert facets(db, "type:video")["models"] == []


def test_a_day_finds_what_its_count_says_on_either_side_of_summer_time(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(time, "tzset"):
        return
    for month in (1, 7):
        # In Berlin half past midnight on the first, one and two hours later than in UTC.
        moment = datetime(2026, month, 1, 0, 30, tzinfo=timezone.utc).timestamp() - (
            3600 if month == 1 else 7200
        )
        add_described(database, f"out/{month}.png", Description(), created=moment)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for month in (1, 7):
            day = f"2026-{month:02}-01"
            with database.reading() as db:
                assert {"name": day, "count": 1} in facets(db)["days"]
            assert names(database, f"since:{day} until:{day}") == [f"{month}.png"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("plan", ["few", "many"])
def test_accents_are_found_however_unicode_spells_them(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    force_plan(monkeypatch, plan)
    apart, whole = (unicodedata.normalize(form, "café_が") for form in ("NFD", "NFC"))
    add_described(database, f"out/{apart}/1{apart}.png", Description(models=(f"{apart}.safetensors",)))
    add_described(database, "out/2.png", Description(prompt=f"a {whole}"))
    for typed in (apart, whole, whole.upper()):
        assert names(database, typed) == ["2.png", f"1{apart}.png"]
        assert names(database, f"-{typed}") == [CITY_NAME, FOX_NAME]
    for field in ("path", "model"):
        for typed in (apart, whole):
            assert names(database, f"{field}:{typed}") == [f"1{apart}.png"]


@pytest.mark.parametrize("plan", ["few", "many"])
def test_words_ignore_case_in_every_script(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    force_plan(monkeypatch, plan)
    add_described(database, "out/ΛΟΓΟΣ.png", Description(prompt="ΣΟΦΟΣ.ΚΟΣΜΟΣ"))
    for typed in ("ΛΟΓΟΣ", "λογος", "ΣΟΦΟΣ", "σοφος", "σοφοσ", "ΛΟΓΟΣ.PNG"):
        assert names(database, typed) == ["ΛΟΓΟΣ.png"], typed
    pairs = (("მელა", "ᲛᲔᲚᲐ"), ("ꮳꮃꭹ", "ᏣᎳᎩ"), ("𞤢𞤣𞤤𞤢𞤥", "𞤀𞤁𞤂𞤀𞤃"), ("ɡɪɜ", "ꞬꞮꞫ"))
    for small, capital in pairs:
        add_described(database, f"out/{small}.png", Description(prompt=f"a {small}"))
        add_described(database, f"out/{capital}.png", Description(prompt=f"a {capital}"))
        for typed in (small, capital):
            assert sorted(names(database, typed)) == sorted((f"{small}.png", f"{capital}.png")), typed


@pytest.mark.parametrize("plan", ["few", "many"])
def test_each_field_ignores_case_in_every_script(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    force_plan(monkeypatch, plan)
    key = "out/Été/Снег_1.png"
    found = Description(models=("Модель_1.ckpt",), loras=(Lora("Зима", 1.0),), sampler="Ёлка")
    add_described(database, key, found, job_id="Работа-1")
    database.change(lambda db: edit_asset(db, asset_id(BUCKET, key), {"tags": ["Любимое É"]}, 1.0, "pod-1"))
    for condition in (
        *("model:МОДЕЛЬ", "model:модель_1", "lora:зима", "sampler:ёЛКА", "job:РАБОТА-1"),
        *(
            'tag:"любимое é"',
            'tag:"ЛЮБИМОЕ É"',
            "path:СНЕГ",
            "path:ÉTÉ",
            "path:ÉTÉ/сНЕГ",
            "path:été/снег_1.PNG",
        ),
    ):
        assert names(database, condition) == ["Снег_1.png"], condition
        assert names(database, f"-{condition}") == [CITY_NAME, FOX_NAME], condition
    for condition in ("tag:любимое", "job:работа", "path:été/нег"):
        assert names(database, condition) == [], condition


@pytest.mark.parametrize("plan", ["few", "many"])
def test_a_long_prompt_is_found_by_itself(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    force_plan(monkeypatch, plan)
    prompt = "\n".join(f"a fox with a fur of kind {number}, in detail," for number in range(60))
    add_described(database, "out/long.png", Description(prompt=prompt))
    add_described(database, "out/other.png", Description(prompt=prompt[:-20]))
    assert names(database, prompt) == ["long.png"]


def test_files_by_model(database: CatalogDatabase) -> None:
    with database.reading() as db:
        assert files_by_model(db) == [("sdxl/juggernaut_v9.safetensors", 1, 30), (None, 2, 30)]


def test_an_older_edit_does_not_undo_a_newer_one(database: CatalogDatabase) -> None:
    identity = asset_id(BUCKET, "out/day1/fox_00001_.png")
    database.change(lambda db: edit_asset(db, identity, {"rating": 1, "tags": ["x"]}, 0.5, "pod-2"))
    with database.reading() as db:
        (asset,) = search(db, "fox").assets
    assert asset["rating"] == 4
    assert asset["tags"] == ["animal", "best", "x"]


def test_odd_texts_are_stored(tmp_path: Path) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    odd = Description(prompt="half \ud800 of a pair\0", texts=("\udfff",), models=("m\ud800",))
    add_described(database, "out/odd.png", odd, path="b\udcff.png", job_id="\ud800")
    with database.reading() as db:
        (asset,) = search(db, "half").assets
    assert asset["path"] == "b\udcff.png"
    database.close()


@pytest.mark.parametrize(
    ("text", "query", "holds"),
    [
        ("abcx bcd", "abcd", False),  # each of the word's trigrams, and not the word
        ("abcx bcd", '"abcx bcd"', True),
        ("ein GRÜNER Wald", "grüner", True),
        ("ein grüner Wald", "GRÜNER", True),
        ("МОСКВА ночью", "москва", True),
        ("moscow МОСКх КВА", "москва", False),
        ("A Red FOX", "red fox", True),
        ("100% cotton_shirt", "cotton_", True),
        ("100% cottonxshirt", "cotton_", False),
        ("雪の中の狐", "雪の狐の", False),
    ],
)
def test_a_word_is_found_in_texts_and_names_that_hold_it(
    tmp_path: Path, text: str, query: str, holds: bool
) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    add_described(database, "out/in_the_prompt.png", Description(prompt=text))
    add_described(database, f"out/{text}.png", Description())
    expected = [f"{text}.png", "in_the_prompt.png"] if holds else []
    assert sorted(names(database, query)) == sorted(expected)
    database.close()


@pytest.mark.parametrize("sort", ["created_at", "relevance"])
@pytest.mark.parametrize(
    "query",
    [
        "a\0bcd",
        "\udcffabc",
        "\udcff",
        "model:\udcff",
        "tag:\udcff",
        "path:\udcff",
        "AND OR NOT",
        "a*b(c)",
    ],
)
def test_an_odd_query_finds_nothing_and_harms_nothing(
    database: CatalogDatabase, query: str, sort: str
) -> None:
    assert names(database, query, sort=sort) == []
    with database.reading() as db:
        facets(db, query)


def test_recipes_share_their_texts_and_names(tmp_path: Path) -> None:
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    for number in range(20):
        add_described(database, f"out/{number}.png", replace(FOX, steps=number % 5, seed=number))
    counts = {
        table: database.read(f"SELECT count(*) FROM {table}")[0][0]
        for table in ("assets", "recipes", "texts", "names", "folders")
    }
    # Both prompts and the other text.
    assert counts == {"assets": 20, "recipes": 5, "texts": 3, "names": 4, "folders": 1}
    database.close()


@pytest.mark.parametrize("plan", ["walked", "walked too long", "few", "many"])
def test_many_matches_are_counted_and_paged_like_few(
    database: CatalogDatabase, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    queries = ["", "fox", "city night", "model:juggernaut fox", "-fox", "is:hidden", "-is:hidden fox"]
    queries += ["tag:BEST", "tag:best fox", "-tag:best", "tag:best -tag:animal", "tag:none"]
    few = [names(database, query) for query in queries]
    force_plan(monkeypatch, plan)
    assert [names(database, query) for query in queries] == few


def test_the_texts_of_a_recipe_are_those_that_the_index_finds(tmp_path: Path) -> None:
    """Of few recipes the texts are compared without the index: a text that was cut off too, and nothing more."""
    database, _ = open_catalog(tmp_path / CATALOG_NAME)
    long = Description(prompt="fox", texts=("x" * 19_990, "beginning end"), model_names=("unseen.pth",))
    for number, found in enumerate((FOX, CITY, long)):
        add_described(database, f"out/{number}.png", found)
    with database.reading() as db:
        texts: dict[int, set[int]] = {}
        for recipe, text in db.execute("SELECT recipe, text FROM text_uses"):
            texts.setdefault(recipe, set()).add(text)
        names: dict[int, set[int]] = {}
        for recipe, name in db.execute(f"SELECT recipe, name FROM name_uses WHERE kind <> {SAMPLER}"):
            names.setdefault(recipe, set()).add(name)
        assert len(texts) == 3
        assert searched_rows(db, texts) == {row: (texts[row], names.get(row, set())) for row in texts}
    database.close()
