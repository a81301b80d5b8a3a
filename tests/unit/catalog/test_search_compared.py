"""Search and facets against a plain look at every asset, for random catalogs and random queries."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.compressed import make_reading
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.facets import facets
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.identity import asset_id
from cloud_archive.catalog.rows import remove_assets, store_descriptions, unread_assets
from cloud_archive.catalog.search import search

from .cataloguing import BUCKET, add_described
from .searched import force_plan

WORDS = ["fox", "Snow", "forest", "mist", "ox", "city", "neon cat", "雪の中", "狐", "grün", "foxing", "100%"]
MODELS = ["sdxl/fox_v1.safetensors", "flux-City.gguf", "misty.ckpt"]
LORAS = ["winter_v2", "neon", "fox_lora"]
SAMPLERS = ["euler", "dpmpp_2m", None]
TAGS = ["best", "animal"]
PLANS = ["as it is", "walked", "walked too long", "few", "many"]


@dataclass
class Known:
    """An asset as the test knows it."""

    name: str
    folder: str
    created: int
    found: Description
    hidden: bool = False
    favorite: bool = False
    tags: set[str] = field(default_factory=set)
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def texts(self) -> list[str]:
        found = self.found
        prompts = [text for text in (found.prompt, found.negative_prompt) if text]
        names = [*found.models, *(lora.name for lora in found.loras), *found.model_names]
        return [*prompts, *found.texts, *names, self.name, self.note]


def made(dice: random.Random) -> Description:
    """How some assets were made; few kinds, so that assets share their recipes."""
    if dice.random() < 0.1:
        return Description(width=dice.choice([512, 1024]))
    prompt = " ".join(dice.choices(WORDS, k=3))
    model = dice.choice(MODELS)
    return Description(
        source="png",
        mime_type=dice.choice(["image/png", "video/mp4"]),
        width=dice.choice([512, 1024, None]),
        prompt=prompt,
        negative_prompt=dice.choice(["blurry", "city", None]),
        models=(model,),
        loras=(Lora(dice.choice(LORAS), 0.5),) if dice.random() < 0.5 else (),
        sampler=dice.choice(SAMPLERS),
        texts=(prompt,),
        model_names=(model, dice.choice(MODELS)),
    )


Check = Callable[[Known], bool]


def holds(text: str, word: str) -> bool:
    return word.lower() in text.lower()


def condition(dice: random.Random) -> tuple[str, Check]:
    """One condition of a query, and what it means."""
    kind = dice.choice(
        ["word"] * 5 + ["model", "lora", "sampler", "width", "type", "tag", "path", "favorite", "since"]
    )
    if kind == "word":
        word = dice.choice(
            [*WORDS, "png", "out", "the", "a", "ox ", "0001", "mp4", "FOX", "absent", "st_", "雪の"]
        ).strip()
        return f'"{word}"', lambda one: any(holds(text, word) for text in one.texts)
    if kind == "model":
        part = dice.choice(["fox", "CITY", ".safetensors", "nothing"])
        return f"model:{part}", lambda one: any(
            holds(name, part) for name in (*one.found.models, *one.found.model_names)
        )
    if kind == "lora":
        return "lora:neon", lambda one: any(holds(lora.name, "neon") for lora in one.found.loras)
    if kind == "sampler":
        return "sampler:euler", lambda one: one.found.sampler == "euler"
    if kind == "width":
        return "width:>=1024", lambda one: (one.found.width or 0) >= 1024
    if kind == "type":
        return "type:video", lambda one: one.found.mime_type == "video/mp4" or one.name.endswith(".mp4")
    if kind == "tag":
        tag = dice.choice(TAGS)
        return f"tag:{tag}", lambda one: tag in one.tags
    if kind == "path":
        return "path:day1", lambda one: holds(one.key, "day1")
    if kind == "favorite":
        return "is:favorite", lambda one: one.favorite
    return "since:1970-01-01T00:00:10Z", lambda one: one.created >= 10


def opposite(check: Check) -> Check:
    return lambda one: not check(one)


def query(dice: random.Random) -> tuple[str, Check]:
    pieces: list[str] = []
    checks: list[Check] = []
    for _ in range(dice.choice([0, 1, 1, 1, 2, 2, 3, 4])):
        text, check = condition(dice)
        negated = dice.random() < 0.25
        pieces.append("-" * negated + text)
        checks.append(opposite(check) if negated else check)
    hidden = dice.choice(["", "", "", "", "is:hidden", "-is:hidden"])
    pieces.append(hidden)

    def holds_all(one: Known) -> bool:
        return one.hidden == (hidden == "is:hidden") and all(check(one) for check in checks)

    return " ".join(pieces), holds_all


@contextlib.contextmanager
def filled(dice: random.Random) -> Iterator[tuple[CatalogDatabase, list[Known]]]:
    """A catalog in which assets were added, described again, edited and removed."""
    kinds = [made(dice) for _ in range(12)]
    known: dict[str, Known] = {}
    with tempfile.TemporaryDirectory() as directory:
        database, _ = open_catalog(Path(directory) / CATALOG_NAME)
        for number in range(60):
            found = dice.choice(kinds)
            suffix = "mp4" if found.mime_type == "video/mp4" else "png"
            stem = dice.choice(["ComfyUI", "fox", "雪の中"])
            one = Known(
                f"{stem}_{number:05}.{suffix}",
                f"out/day{dice.randrange(3)}",
                dice.randrange(-2000, 20),
                found,
            )
            add_described(database, one.key, found, created=one.created, size=dice.randrange(5))
            known[one.key] = one
        for key in dice.sample(sorted(known), 15):
            change(database, known, key, dice, kinds)
        yield database, list(known.values())
        database.close()


def change(
    database: CatalogDatabase,
    known: dict[str, Known],
    key: str,
    dice: random.Random,
    kinds: list[Description],
) -> None:
    one = known[key]
    kind = dice.choice(["hidden", "favorite", "tags", "note", "removed", "again"])
    if kind == "removed":
        database.change(lambda db: remove_assets(db, BUCKET, [key]))
        del known[key]
    elif kind == "again":
        found = replace(dice.choice(kinds), mime_type=one.found.mime_type)
        one.found = found
        database.change(
            lambda db: (
                db.execute("UPDATE assets SET reader = 0 WHERE uuid = ?", (asset_id(BUCKET, key).bytes,))
                and None
            )
        )
        described_again(database, one)
    else:
        values: dict[str, Any] = {
            "tags": set(dice.sample(TAGS, dice.randrange(3))),
            "note": " ".join(dice.choices(WORDS, k=2)),
        }
        value = values.get(kind, True)
        setattr(one, kind, value)
        edit = {kind: sorted(value) if kind == "tags" else value}
        database.change(lambda db: edit_asset(db, asset_id(BUCKET, key), edit, 1.0, "pod-1"))


def described_again(database: CatalogDatabase, one: Known) -> None:
    def work(db: Any) -> None:
        (asset,) = unread_assets(db, 1e12, 10)
        store_descriptions(db, [(asset, make_reading(one.found, None, keep_graphs=False))])

    database.change(work)


def pages(database: CatalogDatabase, text: str, sort: str, order: str) -> tuple[list[str], int]:
    """The keys on all pages, and what the pages say that there are."""
    seen: list[str] = []
    after, total = None, 0
    while True:
        with database.reading() as db:
            page = search(db, text, sort=sort, order=order, limit=7, after=after)
        seen += [asset["key"] for asset in page.assets]
        total = page.total
        if page.next_cursor is None:
            return seen, total
        after = page.next_cursor


def counted(values: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "count": count}
        for name, count in sorted(Counter(values).items(), key=lambda i: (-i[1], i[0]))
    ]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("seed", range(4))
def test_finds_and_counts_what_a_look_at_every_asset_does(
    plan: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    with filled(dice) as (database, known):
        if plan != "as it is":
            force_plan(monkeypatch, plan)
        for _ in range(60):
            text, check = query(dice)
            wanted = [one for one in known if check(one)]
            keys = sorted(one.key for one in wanted)
            sort, order = (
                dice.choice(["created_at", "name", "size", "relevance"]),
                dice.choice(["asc", "desc"]),
            )
            found, total = pages(database, text, sort, order)
            assert (sorted(found), total) == (keys, len(keys)), (text, sort, order)
            if sort == "created_at":
                times = [next(one.created for one in known if one.key == key) for key in found]
                assert times == sorted(times, reverse=order == "desc"), text
            with database.reading() as db:
                counts = facets(db, text)
            assert counts["models"] == counted([name for one in wanted for name in one.found.models]), text
            assert counts["loras"] == counted([lora.name for one in wanted for lora in one.found.loras]), text
            assert counts["samplers"] == counted(
                [one.found.sampler for one in wanted if one.found.sampler]
            ), text
            assert counts["tags"] == counted([tag for one in wanted for tag in one.tags]), text
            assert sum(day["count"] for day in counts["days"]) == len(wanted), text
            assert sum(kind["count"] for kind in counts["types"]) == len(wanted), text


def test_no_change_of_an_asset_is_left_uncounted() -> None:
    with filled(random.Random(7)) as (database, _):
        assert database.read("SELECT * FROM tally_changes") == []
        by_recipe = database.read(
            "SELECT coalesce(recipe, 0), coalesce(machine, 0), kind,"
            " (created - (created < 0) * 899999999999) / 900000000000, count(*) FROM assets"
            " WHERE hidden = 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
        assert database.read("SELECT * FROM tallies ORDER BY 1, 2, 3, 4") == by_recipe
        slots = database.read(
            "SELECT machine, kind, slot, sum(files) FROM tallies GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        assert database.read("SELECT * FROM slot_totals ORDER BY 1, 2, 3") == slots
        names = database.read(
            "SELECT u.kind, u.name, sum(t.files) FROM name_uses u JOIN tallies t ON t.recipe = u.recipe"
            " WHERE u.kind < 4 GROUP BY 1, 2 ORDER BY 1, 2"
        )
        assert database.read("SELECT * FROM name_totals ORDER BY 1, 2") == names
