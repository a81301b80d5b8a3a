"""A user's edits against those of other machines."""

from __future__ import annotations

import time
from pathlib import Path

from cloud_archive.catalog.assets import edit_asset
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.catalog.describe import Description
from cloud_archive.catalog.identity import asset_id
from cloud_archive.config.settings import load_settings
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore

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
