"""A row that a rebuild made counts for every machine alike, in whatever order it reads the rows."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.bucket.merged import MergedRows
from cloud_archive.catalog.bucket.segment import Decoded, decode
from tests.memory_store import MemoryStore

from .machines import NOW, REBUILT, NewMachine, write

_OVERWRITTEN, _DELETED = REBUILT[:3], REBUILT[3:]


@pytest.mark.parametrize(("rows", "prompts"), [(_OVERWRITTEN, ["second"]), (_DELETED, [])])
@pytest.mark.parametrize("way", ["at once", "one by one", "compacted"])
def test_the_order_of_a_rebuilt_row_does_not_matter(
    tmp_path: Path, rows: list[dict[str, Any]], prompts: list[str], way: str
) -> None:
    for number, ordered in enumerate(itertools.permutations(rows)):
        store = MemoryStore()
        other = NewMachine(tmp_path, store)
        if way == "compacted":
            merged = MergedRows(tmp_path / f"{number}.sqlite3")
            for row in ordered:
                merged.add(row)
            body = merged.body("m", NOW, [])
            merged.close()
            write(store, list(decode([body], Decoded(), size_bytes=len(body))))
        else:
            for place, row in enumerate(ordered):
                write(store, [row], now=NOW + place)
                if way == "one by one":
                    other.sync.sync()
        other.sync.sync()
        assert [one["metadata"].get("prompt") for one in other.everything()] == prompts, ordered
        other.database.close()
