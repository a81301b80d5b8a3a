"""Machines that write to a bucket's catalog, and one that reads it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloud_archive.catalog.bucket.names import CatalogFolder, new_names, new_ulid, parse_name
from cloud_archive.catalog.bucket.segment import (
    Decoded,
    decode,
    encode,
    header_line,
    replaces_lines,
    row_line,
)
from cloud_archive.catalog.bucket.sync import CatalogSync, file_troubles
from cloud_archive.catalog.bucket.writer import SegmentWriter
from cloud_archive.catalog.database import open_catalog
from cloud_archive.catalog.search import search
from tests.memory_store import MemoryStore

from ..cataloguing import Stage

BUCKET = "bucket"
FOLDER = CatalogFolder.of("out")
NOW = 1_795_608_000.0
SHA = "ab" * 32


class NewMachine:
    """A machine that knows nothing but what the bucket holds."""

    def __init__(self, base: Path, store: MemoryStore) -> None:
        self.store = store
        self.database, _ = open_catalog(base / f"catalog-{new_ulid()}.sqlite3")
        self.sync = CatalogSync(lambda: self.database, store, FOLDER, BUCKET, clock=lambda: NOW)

    def found(self, query: str = "") -> list[dict[str, Any]]:
        with self.database.reading() as db:
            return search(db, query, sort="name", order="asc").assets

    def everything(self) -> list[dict[str, Any]]:
        return self.found() + self.found("is:hidden")

    def troubles(self) -> list[str]:
        with self.database.reading() as db:
            return file_troubles(db)


def writer_of(stage: Stage, folder: CatalogFolder = FOLDER, **more: Any) -> SegmentWriter:
    return SegmentWriter(
        lambda: stage.database, stage.store, folder, machine="pod-1", keep_graphs=True, **more
    )


def sync_of(stage: Stage) -> CatalogSync:
    return CatalogSync(lambda: stage.database, stage.store, FOLDER, BUCKET)


def month_body(rows: Sequence[dict[str, Any]], replaces: Sequence[str], machine: str = "m") -> bytes:
    """Return a month file with these rows, which replaces these files."""
    lines = [row_line(row) for row in rows]
    return gzip.compress(
        b"".join([header_line(machine, NOW, len(lines)), *replaces_lines(replaces), *lines]), mtime=0
    )


def put(key: str, clock: float = NOW, **more: Any) -> dict[str, Any]:
    return {
        "op": "put",
        "clock": clock,
        "machine": "pod-1",
        "key": key,
        "size": 1,
        "sha256": SHA,
        "reader": 1,
    } | more


def edit(key: str, clock: float, machine: str = "pod-1", **more: Any) -> dict[str, Any]:
    return {"op": "set", "clock": clock, "machine": machine, "key": key} | more


def gone(key: str, clock: float) -> dict[str, Any]:
    return {"op": "del", "clock": clock, "machine": "pod-2", "key": key}


def write(
    store: MemoryStore,
    rows: list[dict[str, Any]],
    machine: str = "pod-1",
    now: float = NOW,
    folder: CatalogFolder = FOLDER,
) -> str:
    name, _ = new_names(machine, now)
    store.add(folder.key(name), encode(rows, machine=machine, now=now))
    return name


ROWS = [
    put("out/a.png", NOW, prompt="first", sha256="11" * 32),
    put("out/a.png", NOW + 2, prompt="replaced", sha256="22" * 32),
    put("out/a.png", NOW + 5, machine=None, sha256="22" * 32),  # rebuilt from the object itself
    gone("out/a.png", NOW + 1),
    edit("out/a.png", NOW + 1, rating=1, tags_added=["x", "y"], note="old"),
    edit("out/a.png", NOW + 3, rating=5, tags_removed=["x"]),
    edit("out/a.png", NOW + 3, machine="pod-0", rating=4, note="new"),
    put("out/b.png", NOW, prompt="deleted"),
    gone("out/b.png", NOW),
    put("out/c.png", NOW + 10, prompt="of the file"),
    put("out/c.png", NOW + 10, prompt="back again", job_id="j", source="job"),  # the job came later
    gone("out/c.png", NOW + 9),
]
# Of a key that was overwritten, and of one that was archived, deleted and archived again.
REBUILT = [
    put("out/d.png", NOW, prompt="first", sha256="11" * 32),
    put("out/d.png", NOW + 2, prompt="second", sha256="22" * 32),
    put("out/d.png", NOW + 5, machine=None, sha256="11" * 32),
    put("out/e.png", NOW, sha256="11" * 32),
    gone("out/e.png", NOW + 1),
    put("out/e.png", NOW + 5, machine=None, sha256="33" * 32),
]


def segments(stage: Stage) -> list[list[dict[str, Any]]]:
    """The rows of each segment in the bucket, in the order in which they were written."""
    found = []
    for key in stage.store.objects:
        if parse_name(FOLDER.name(key)):
            body = stage.store.objects[key].body
            found.append(list(decode([body], Decoded(), size_bytes=len(body))))
    return found
