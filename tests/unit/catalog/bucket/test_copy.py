"""The local copy of the bucket's catalog."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloud_archive.catalog.bucket.copy import opened_catalog
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import CatalogError
from tests.memory_store import MemoryStore

SETTINGS = load_settings({"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b", "S3_BUCKET": "bucket"})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_a_catalog_that_others_can_replace_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(0o777)
    with (
        pytest.raises(CatalogError, match="other users may write to it"),
        opened_catalog(directory / "catalog.sqlite3", MemoryStore(), SETTINGS),
    ):
        pass
