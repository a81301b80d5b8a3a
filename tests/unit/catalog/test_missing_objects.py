"""An asset whose object is gone is forgotten, and no other."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_archive.catalog.catalog import Catalog
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import RequestRefused, StoreError
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import ENVIRON
from tests.memory_store import MemoryStore, refuse


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
