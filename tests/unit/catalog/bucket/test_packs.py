"""Packs: which graphs they hold."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from pathlib import Path

import pytest

from cloud_archive.catalog.bucket.names import CatalogFolder, parse_name
from cloud_archive.catalog.bucket.packs import MAX_EXPANDED_BYTES, unzip_graphs, zip_graphs
from cloud_archive.catalog.bucket.segment import Decoded, decode
from cloud_archive.catalog.bucket.writer import SegmentWriter

from ..cataloguing import png, staged

FOLDER = CatalogFolder.of("out")
_GRAPH_BYTES = 7 * 1024 * 1024


def test_large_graphs_are_all_kept_in_as_many_packs_as_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(1)
    monkeypatch.setattr(
        "cloud_archive.catalog.bucket.outgoing.zip_graphs",
        lambda prompt, workflow: chance.randbytes(_GRAPH_BYTES),
    )
    with staged(tmp_path) as stage:
        for number in range(5):
            stage.archive(f"{number}.png", png(f"fox {number}"))
        stage.fill()
        writer = SegmentWriter(lambda: stage.database, stage.store, FOLDER, machine="pod-1", keep_graphs=True)
        writer.write_all()
        rows = [
            row
            for key, stored in stage.store.objects.items()
            if parse_name(FOLDER.name(key))
            for row in decode([stored.body], Decoded(), size_bytes=len(stored.body))
        ]
    assert [row.get("graphs_length") for row in rows] == [_GRAPH_BYTES] * 5


@pytest.mark.parametrize("value", ["{}", "[]", '{"a":1}', "1.5", '"ab"', "[1]"])
def test_a_strangers_small_graphs_take_no_gigabyte(value: str) -> None:
    count = (MAX_EXPANDED_BYTES - 100) // (len(value) + 1)
    data = gzip.compress(f'{{"prompt":{{"1":[{",".join([value] * count)}]}}}}'.encode())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too large"):
            unzip_graphs(data)
        assert tracemalloc.get_traced_memory()[1] < 200 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_graphs_of_the_largest_job_are_read() -> None:
    """A job has 8 MiB at most."""
    node = {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0], "text": "a red fox, " * 20}}
    prompt = {str(number): node for number in range(25_000)}
    assert unzip_graphs(zip_graphs(prompt, None)) == (prompt, None)
