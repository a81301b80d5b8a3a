"""Compaction does not make a month larger than it was."""

from __future__ import annotations

import hashlib
import random

import pytest

from cloud_archive.catalog.bucket import compaction
from cloud_archive.catalog.bucket.compaction import compact_month, months_in
from tests.memory_store import MemoryStore

from .machines import FOLDER, NOW, put, write


@pytest.mark.parametrize("seed", [19, 20, 24])
def test_a_slow_clock_does_not_make_the_same_month_file_again_and_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    store = MemoryStore()
    for number in range(28):
        keys = [f"out/{dice.randrange(60)}.png" for _ in range(3)]
        rows = [put(key, NOW + number, prompt=str(dice.random())) for key in keys]
        write(store, rows, now=NOW + number)
    (files,) = months_in(store, FOLDER).values()
    for machine in ("a", "b", "c"):  # all three saw the segments only
        assert list(compact_month(store, FOLDER, machine, files, now=NOW + 5000))
    monkeypatch.setattr(compaction, "MAX_GROUP_BYTES", 4500)
    counts = []
    for run in range(8):
        (files,) = months_in(store, FOLDER).values()
        list(compact_month(store, FOLDER, "slow", files, now=NOW + 100 + run))
        counts.append(len(store.objects))
    assert counts[-1] == counts[-3]


def test_a_month_file_is_not_larger_than_its_segments() -> None:
    store = MemoryStore()
    dice = random.Random(1)
    for number in range(4):
        rows = []
        for place in range(200):
            if place % 20 == 0:
                prompt = " ".join(f"{dice.random():.4}" for _ in range(300))
            digest = hashlib.sha256(f"{number}/{place}".encode()).hexdigest()
            rows.append(put(f"out/{number}-{place}.png", NOW + place, prompt=prompt, sha256=digest))
        write(store, rows, now=NOW + number)
    size_bytes = sum(len(one.body) for one in store.objects.values())
    (files,) = months_in(store, FOLDER).values()
    (result,) = compact_month(store, FOLDER, "m", files, now=NOW + 9)
    assert len(store.objects[FOLDER.key(result.name)].body) < 1.1 * size_bytes
