"""The catalog as a whole: edits against those of other machines, and assets whose object is gone."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.identity import asset_id
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import RequestRefused, StoreError
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore, refuse

from .cataloguing import BUCKET, add_described


def test_an_edit_counts_although_another_machine_s_clock_is_ahead(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    catalog = Catalog(
        tmp_path, tmp_path, load_settings(ENVIRON), ledger, MemoryStore(), session=("session", 0.0)
    )
    catalog.start()
    try:
        add_described(catalog.database, "out/fox.png", Description())
        identity = asset_id(BUCKET, "out/fox.png")
        edit = {"rating": 5, "tags": ["fox"], "note": "theirs", "favorite": True}
        ahead = time.time() + 3600
        catalog.database.change(lambda db: edit_asset(db, identity, edit, ahead, "zzz"))
        found = catalog.edit(identity, {"rating": 1, "tags": [], "note": "mine", "favorite": False})
        assert (found["rating"], found["tags"], found["note"], found["favorite"]) == (1, [], "mine", False)
        again = catalog.edit(identity, {"rating": 2, "tags": ["fox"]})
        assert (again["rating"], again["tags"]) == (2, ["fox"])
    finally:
        catalog.close()
        ledger.close()


def test_a_start_with_another_bucket_forgets_the_files_of_the_first(tmp_path: Path) -> None:
    kept = []
    for bucket in (BUCKET, BUCKET, "moved"):
        settings = load_settings(ENVIRON | {"S3_BUCKET": bucket})
        catalog = Catalog(tmp_path, tmp_path, settings, Ledger(None), MemoryStore(), session=("s", 0.0))
        catalog.start()
        kept.append(catalog.search("", "name", "asc", 9, None).total)
        if len(kept) == 1:
            add_described(catalog.database, "out/fox.png", Description())
        catalog.close()
    assert kept == [0, 1, 0]


class Link:
    """Stands in for the bucket's link: a HEAD finds no object, whatever answered it."""

    def __init__(self) -> None:
        self.forgotten: list[uuid.UUID] = []

    def note_missing(self, identity: uuid.UUID) -> bool:
        self.forgotten.append(identity)
        return True


@pytest.mark.parametrize(
    ("code", "missing"), [("NoSuchKey", True), ("NotS3", False), ("NoSuchBucket", False)]
)
def test_only_an_answer_about_the_object_shows_that_it_is_gone(
    tmp_path: Path, code: str, missing: bool
) -> None:
    store, link, asset = MemoryStore(), Link(), uuid.uuid4()
    store.on_call = lambda operation, key: refuse(code, 404, key)
    settings = load_settings(ENVIRON)
    catalog = Catalog(tmp_path, tmp_path, settings, Ledger(None), store, session=("s", 0.0))
    catalog._link = cast(Any, link)
    with pytest.raises(RequestRefused if missing else StoreError):
        list(catalog._object_pieces(asset, "out/a.png", range(1)))
    assert link.forgotten == ([asset] if missing else [])
