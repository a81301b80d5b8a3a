"""Measure a catalog of a million assets: filling, size, searches, facets, the newest page; and each reader.

`python -m tests.benchmarks catalog [ROWS]`. Prompts have 40 words of a vocabulary of 2,500 with the frequencies of
natural text (Zipf), eight images share one prompt, and the graphs themselves are not stored.
"""

from __future__ import annotations

import math
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_archive.catalog.bucket.incoming import Incoming
from cloud_archive.catalog.bucket.names import CatalogFolder
from cloud_archive.catalog.bucket.segment import Decoded
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog
from cloud_archive.catalog.describe import Description, describe
from cloud_archive.catalog.facets import facets
from cloud_archive.catalog.graph_facts import Lora
from cloud_archive.catalog.rows import ArchivedObject
from cloud_archive.catalog.search import search
from cloud_archive.catalog.source import BytesSource
from tests.unit.catalog import writers

IMAGES_OF_A_PROMPT = 8
WORDS_OF_A_PROMPT = 40
BATCH = 2000
ROUNDS = 100
_HEAD_TEXT = (
    "fox snow portrait city night forest castle dragon robot ocean sunset cinematic detailed realistic anime"
    " watercolor oil painting macro bokeh lens light shadow volumetric mist mountain river bridge street market"
    " knight queen armor silk velvet marble bronze neon cyber steam punk flower garden cat dog horse owl wolf"
)
_ENDING_TEXT = (
    "ing ed ly ness ful less ward like ish able er est ous al ive ary ic ist ism age dom hood ship ment"
)
_HEADS = _HEAD_TEXT.split()
VOCABULARY = [head + ending for ending in ["", *_ENDING_TEXT.split()] for head in _HEADS] + [
    f"{head} {other}" for head in _HEADS[:28] for other in _HEADS[:48]
]
_WEIGHTS = [1 / (rank + 1) for rank in range(len(VOCABULARY))]


def main(rows: int = 1_000_000) -> int:
    """Fill a catalog, and print its figures. Returns the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / CATALOG_NAME
        database, _ = open_catalog(path)
        took = fill(database, rows)
        database.read("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        print(
            f"rows in: {rows / took:,.0f} a second ({took:.0f} s), {size / rows:.0f} bytes a row", flush=True
        )
        dice = random.Random(2)
        for name, work in _searches(dice, rows).items():
            _measure(name, database, work)
        database.close()
    _readers()
    return 0


def _readers() -> None:
    """Measure reading and describing one file, for each format that ComfyUI's nodes and packs write."""
    for name, write in writers.GRAPH_WRITERS.items():
        data = write()
        times: list[float] = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            describe(BytesSource(data), "fox_00001_.bin")
            times.append((time.perf_counter() - began) * 1000)
        print(f"read {name}: p50 {statistics.median(times):.2f} ms, at most {max(times):.2f} ms", flush=True)


def fill(database: CatalogDatabase, rows: int) -> float:
    """Add `rows` assets, a batch a transaction; return the seconds of adding, without those of making up the rows."""
    took = 0.0
    incoming = Incoming("bucket", CatalogFolder.of("comfyui-outputs"))
    for start in range(0, rows, BATCH):
        puts = put_rows(start, min(start + BATCH, rows), rows)
        began = time.perf_counter()
        database.change(lambda db, puts=puts: incoming.apply(db, [(puts, Decoded())]))  # type: ignore[misc]
        took += time.perf_counter() - began
    return took


def put_rows(first: int, last: int, rows: int) -> list[dict[str, Any]]:
    """Return the segment rows of images `first` to `last` of `rows`: eight images of each prompt."""
    dice = random.Random(first)
    made = []
    found = description(dice)
    for number in range(first, last):
        if number % IMAGES_OF_A_PROMPT == 0:
            found = description(dice)
        one = archived_object(number, rows)
        made.append(
            {
                "op": "put",
                "clock": one.archived_at,
                "machine": one.machine,
                "key": one.key,
                "path": one.path,
                "size": one.size_bytes,
                "sha256": one.sha256,
                "mtime_ns": one.mtime_ns,
                "session_id": one.session_id,
                "seed": str(dice.getrandbits(63)),
                "reader": 1,
                "has_prompt": True,
                "has_workflow": True,
                **{
                    name: getattr(found, name)
                    for name in (
                        "source", "mime_type", "width", "height", "prompt", "negative_prompt", "sampler",
                        "scheduler", "steps", "cfg", "confidence",
                    )
                },
                "models": list(found.models),
                "loras": [{"name": lora.name, "strength": lora.strength} for lora in found.loras],
                "texts": list(found.texts),
                "model_names": list(found.model_names),
                "pack": "packs/2026-11-25/01KB0000000000000000000000-pod-1.pack",
                "graphs_offset": number % 1000 * 2000,
                "graphs_length": 2000,
            }
        )  # fmt: skip
    return made


def archived_object(number: int, rows: int) -> ArchivedObject:
    """Return object `number` of `rows`, which spread over a year."""
    moment = 1_780_000_000.0 + 365 * 86_400 * number / rows
    path = f"2026-{number * 365 // rows // 31 + 1:02}-{number * 365 // rows % 28 + 1:02}/ComfyUI_{number:07}_.png"
    digest = random.Random(number).randbytes(32).hex()
    return ArchivedObject(
        f"comfyui-outputs/{path}",
        path,
        1_000_000 + number % 900_000,
        int(moment * 1e9),
        moment,
        digest,
        "pod-1",
        "s",
    )


def description(dice: random.Random) -> Description:
    """Return how eight images were made."""
    prompt = " ".join(dice.choices(VOCABULARY, _WEIGHTS, k=WORDS_OF_A_PROMPT))
    model = f"checkpoints/{VOCABULARY[dice.randrange(40)]}_v{dice.randrange(5)}.safetensors"
    lora = Lora(f"{VOCABULARY[dice.randrange(100)]}_lora", 0.8)
    return Description(
        source="png",
        mime_type="image/png",
        width=dice.choice((512, 768, 1024, 2048)),
        height=1024,
        prompt=prompt,
        negative_prompt="blurry, lowres, bad anatomy, watermark",
        models=(model,),
        loras=(lora,),
        sampler=dice.choice(("euler", "dpmpp_2m", "uni_pc")),
        scheduler="karras",
        steps=20,
        cfg=7.0,
        confidence="high",
        texts=(prompt, "blurry, lowres, bad anatomy, watermark"),
        model_names=(model, lora.name, "vae-ft-mse.safetensors"),
    )


def _searches(dice: random.Random, rows: int) -> dict[str, Callable[[sqlite3.Connection], object]]:
    """Return searches by name. Each word of the vocabulary is equally likely, also the frequent ones."""

    def word() -> str:
        return f'"{dice.choice(VOCABULARY)}"'

    return {
        "one word": lambda db: search(db, word()),
        "a word that is nowhere": lambda db: search(db, f"zebra{dice.randrange(10_000)}"),
        "the most frequent word": lambda db: search(db, VOCABULARY[0]),
        "three words, model, width": lambda db: search(
            db, f"{word()} {word()} {word()} model:{dice.choice(_HEADS)} width:>=1024"
        ),
        "two letters": lambda db: search(db, "ox"),
        "a name": lambda db: search(db, f"{dice.randrange(rows):07}"),
        "newest page": lambda db: search(db),
        "by name": lambda db: search(db, sort="name"),
        "by size": lambda db: search(db, sort="size"),
        "one word by relevance": lambda db: search(db, word(), sort="relevance"),
        "facets of one word": lambda db: facets(db, word()),
        "facets of everything": lambda db: facets(db),
    }


def _measure(name: str, database: CatalogDatabase, work: Callable[[sqlite3.Connection], object]) -> None:
    times: list[float] = []
    of_cpu: list[float] = []  # CPU time hardly depends on the other load
    for _ in range(ROUNDS if "facets" not in name else ROUNDS // 5):
        with database.reading() as db:
            began, cpu_began = time.perf_counter(), time.process_time()
            work(db)
            of_cpu.append((time.process_time() - cpu_began) * 1000)
            times.append((time.perf_counter() - began) * 1000)
        if sum(times) > 20_000:
            break
    print(f"{name}: {_percentiles(times)}; of CPU {_percentiles(of_cpu)}", flush=True)


def _percentiles(times: list[float]) -> str:
    ordered = sorted(times)
    return (
        f"p50 {statistics.median(ordered):.1f} ms, p95 {ordered[math.ceil(len(ordered) * 0.95) - 1]:.1f} ms"
    )
