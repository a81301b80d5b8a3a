"""A ledger, a store in memory and a catalog that is filled in the test's own thread."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from cloud_archive.catalog.compressed import make_reading
from cloud_archive.catalog.database import CATALOG_NAME, CatalogDatabase, open_catalog, start_again
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.filler import Filler
from cloud_archive.catalog.reading import AssetReader
from cloud_archive.catalog.rows import (
    ArchivedObject,
    AssetFile,
    add_archived,
    store_descriptions,
)
from cloud_archive.files import stat_version
from cloud_archive.ledger.ledger import Ledger
from tests.archived_rows import mark_archived
from tests.memory_store import MemoryStore, StoredObject

from . import writers

BUCKET = "bucket"


def graph(prompt: str, seed: int = 1, model: str = "fox_v1.safetensors") -> dict[str, Any]:
    """The graph of the writers' table with another prompt, seed and model."""
    found: dict[str, Any] = copy.deepcopy(writers.PROMPT)
    found["3"]["inputs"]["seed"] = seed
    found["4"]["inputs"]["ckpt_name"] = model
    found["6"]["inputs"]["text"] = prompt
    return found


def png(prompt: str, seed: int = 1, model: str = "fox_v1.safetensors") -> bytes:
    """A PNG as ComfyUI writes it."""
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(graph(prompt, seed, model)))
    info.add_text("workflow", json.dumps(writers.WORKFLOW))
    return writers.saved(Image.new("RGB", (8, 8)), format="PNG", pnginfo=info)


class Stage:
    """One watched directory: ledger, store and catalog."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "output"
        self.root.mkdir(exist_ok=True)
        self.store = MemoryStore()
        self.ledger = Ledger(base / "ledger.sqlite3")
        self.ledger.open()
        self.path = base / CATALOG_NAME
        self.database, self.notices = open_catalog(self.path)
        self.filler = self.new_filler()

    def new_filler(
        self, *, keep_graphs: bool = True, reader_of: str | None = None, bucket: str = BUCKET, **more: Any
    ) -> Filler:
        return Filler(
            self.database,
            self.ledger,
            lambda database: AssetReader(
                database, self.root, self.store, keep_graphs=keep_graphs, machine=reader_of
            ),
            bucket=bucket,
            machine="pod-1",
            session=("session-1", 0.0),
            on_damage=self._replace,
            **more,
        )

    def _replace(self) -> CatalogDatabase:
        self.database.close()
        self.database, self.notices = start_again(self.path)
        return self.database

    def archive(
        self, path: str, body: bytes, *, mtime: float = 1_700_000_000.0, key: str | None = None
    ) -> str:
        """Write a file and archive it; returns its key."""
        local = self.root / path
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(body)
        os.utime(local, (mtime, mtime))
        return self.record(path, body, key)

    def record(self, path: str, body: bytes, key: str | None = None) -> str:
        version = stat_version(self.root, path)
        self.ledger.add([version])
        claim = self.ledger.claim_version("test", version)
        assert claim is not None
        key, digest = key or f"out/{path}", hashlib.sha256(body).hexdigest()
        self.store.objects[key] = StoredObject(body, {"sha256": digest})
        mark_archived(self.ledger, claim, key=key, sha256=digest, etag=None, wrote=True)
        return key

    def fill(self) -> None:
        while self.filler.fill():
            pass

    def close(self) -> None:
        self.filler.stop()
        self.database.close()
        self.ledger.close()


@contextmanager
def staged(base: Path) -> Iterator[Stage]:
    stage = Stage(base)
    try:
        yield stage
    finally:
        stage.close()


def add_described(
    database: CatalogDatabase, key: str, found: Description, *, created: float = 1_700_000_000.0, **more: Any
) -> None:
    """Put one asset with this description into the catalog."""
    path = more.pop("path", key.partition("/")[2])
    one = ArchivedObject(
        key, path, more.pop("size", 10), int(created * 1e9), created, "ab" * 32, "pod-1", "s"
    )

    def work(db: Any) -> None:
        add_archived(db, BUCKET, [one])
        row = db.execute("SELECT max(id) FROM assets").fetchone()[0]
        asset = AssetFile(row, key, path, one.size_bytes, one.mtime_ns, one.archived_at)
        store_descriptions(db, [(asset, make_reading(found, more.get("job_id"), keep_graphs=True))])

    database.change(work)
