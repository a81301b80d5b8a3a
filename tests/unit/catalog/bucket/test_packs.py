"""Packs: which graphs they hold."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cloud_archive.catalog.bucket.names import CatalogFolder, parse_name
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
