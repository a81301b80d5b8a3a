"""Rows and files that anybody may have written: they harm nothing and end no pass."""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_archive.catalog.bucket.fields import FIELDS
from cloud_archive.catalog.bucket.names import new_names, new_ulid
from cloud_archive.catalog.bucket.sync import CatalogSync
from cloud_archive.catalog.bucket.tables import packed_of
from cloud_archive.catalog.database import CatalogDatabase
from cloud_archive.catalog.export import asset_rows
from cloud_archive.catalog.facets import facets
from tests.memory_store import MemoryStore
from tests.unit.catalog.bucket.machines import BUCKET, FOLDER, NOW, NewMachine, edit, gone, put, write

HOSTILE: list[dict[str, Any]] = [
    {"path": "../../etc/passwd"},
    {"prompt": "<script>alert(1)</script>"},
    {"mime_type": "text/html\r\nSet-Cookie: x"},
    {"pack": "packs/2026-11-25/../../../x.pack", "thumbnail_offset": 0, "thumbnail_length": 5},
    {"size": -5, "width": 2**62, "seed": "9" * 30, "sha256": "zz"},
    {"machine": "m\u0000x", "job_id": "\ud800", "models": ["\ud800"]},
    {"mtime_ns": -(2**63)},
    {"mtime_ns": 2**63 - 1, "clock": 1e17},
    {"texts": ["x" * 900_000]},
    {"clock": 1e17},
    {"loras": [{"name": "x", "strength": []}]},
    {"graphs_offset": 2**62, "graphs_length": 2**62, "pack": f"packs/2026-11-25/{new_ulid()}-m.pack"},
]


@pytest.mark.usefixtures("decoded")
def test_hostile_rows_harm_nothing(store: MemoryStore, other: NewMachine, tmp_path: Path) -> None:
    lines = [
        {"op": "header", "version": 1},
        *(put(f"out/{n:02}.png") | more for n, more in enumerate(HOSTILE)),
    ]
    for key in ("secret.txt", "out/", "out/.cloud-archive/v1/x", "", "/etc/passwd", "out"):
        lines += [put(key), gone(key, NOW), edit(key, NOW, rating=3)]
    lines += [edit("out/01.png", NOW, rating=99, tags_added=["", "x" * 500, "fine"])]
    name, _ = new_names("evil", NOW)
    store.add(FOLDER.key(name), gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    before = set(tmp_path.iterdir())
    other.sync.sync()
    assert set(tmp_path.iterdir()) == before
    keys = {one["key"] for one in other.everything()}
    assert keys <= {f"out/{n:02}.png" for n in range(len(HOSTILE))}
    assert {"out/00.png", "out/01.png", "out/02.png"} <= keys
    assert packed_of_any(other.database) == []
    (one,) = other.found("path:01.png")
    assert (one["metadata"]["prompt"], one["rating"], one["tags"]) == (
        "<script>alert(1)</script>",
        0,
        ["fine"],
    )
    assert other.found("path:02.png")[0]["mime_type"] == "image/png"
    assert any("outside the archive" in trouble for trouble in other.troubles())


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
ANY_LONG = st.integers(-(2**63), 2**63 - 1)
ANY_DOUBLE = st.floats(-1e18, 1e18, exclude_min=True, exclude_max=True)
KINDS = {
    "string": ANY_TEXT,
    "long": ANY_LONG,
    "double": ANY_DOUBLE,
    "boolean": st.booleans(),
    "strings": st.lists(ANY_TEXT, max_size=3),
    "loras": st.lists(
        st.fixed_dictionaries({"name": ANY_TEXT}, optional={"strength": ANY_DOUBLE}), max_size=2
    ),
}
ANY_ROW = st.fixed_dictionaries(
    {"op": st.sampled_from(["put", "set", "del"]), "clock": ANY_DOUBLE},
    optional={one.name: KINDS[one.kind] for one in FIELDS if one.name not in ("op", "clock", "key")},
)


@settings(max_examples=60)
@given(st.lists(ANY_ROW, min_size=1, max_size=4), ANY_TEXT)
def test_rows_of_the_right_types_never_end_a_pass(rows: list[dict[str, Any]], name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = MemoryStore()
        lines = [{"op": "header", "version": 1}, *(row | {"key": f"out/{name}.png"} for row in rows)]
        segment, _ = new_names("evil", NOW)
        store.add(FOLDER.key(segment), gzip.compress("\n".join(map(json.dumps, lines)).encode()))
        other = NewMachine(Path(directory), store)
        assert other.sync.sync().files == 1
        other.everything()
        other.found("x model:x rating:1 width:1 job:x")
        with other.database.reading() as db:
            facets(db)
        list(asset_rows(other.database))
        other.database.close()


def packed_of_any(database: CatalogDatabase) -> list[Any]:
    with database.reading() as db:
        ids = [row[0] for row in db.execute("SELECT uuid FROM assets")]
        import uuid

        return [found for one in ids if (found := packed_of(db, uuid.UUID(bytes=one))) is not None]


@functools.cache
def bomb() -> bytes:
    """100 MB of blanks in one small file; compressing them takes a while."""
    return gzip.compress(b'{"op":"header","version":1}\n' + b" " * 100_000_000)


@pytest.mark.usefixtures("decoded")
def test_damaged_and_newer_files_are_named_and_stop_nothing(store: MemoryStore, other: NewMachine) -> None:
    good = write(store, [put("out/a.png")])
    body = store.objects[FOLDER.key(good)].body
    for hostile in (
        body[:-10],
        b"<html>",
        bomb(),
        gzip.compress(b"[" * 100_000),
    ):
        store.add(FOLDER.key(new_names("evil", NOW)[0]), hostile)
    newer = new_names("future", NOW)[0]
    store.add(FOLDER.key(newer), gzip.compress(b'{"op":"header","version":7}\n{"op":"put"}'))
    for trick in (
        "segments/2026-11-25/../../../x",
        "segments/2026-11-25/x.jsonl.gz",
        "months/x",
        "segments/",
    ):
        store.add(FOLDER.key(trick), body)
    result = other.sync.sync()
    assert (result.files, len(result.troubles)) == (1, 5)
    assert [one["key"] for one in other.found()] == ["out/a.png"]
    assert len(other.troubles()) == 5
    assert any("version 7" in trouble for trouble in other.troubles())
    # A later start tries the newer one again, and a sync that is asked for the damaged ones too.
    assert other.sync.sync().troubles == []
    again = CatalogSync(lambda: other.database, store, FOLDER, BUCKET, clock=lambda: NOW)
    assert len(again.sync().troubles) == 1
    again.forget_damaged()
    assert len(again.sync().troubles) == 4
