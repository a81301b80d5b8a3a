"""Stripped copies in a share: the right bytes under a name that every system can hold."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import pytest

from cloud_archive.errors import StoreError, StripRefused
from cloud_archive.sharing.copies import put_stripped_copy
from cloud_archive.sharing.folder import ShareFolder
from cloud_archive.store.base import ObjectStore
from tests.memory_store import MemoryStore
from tests.unit.catalog.cataloguing import png

SECRET = "a secret red fox"
PNG = png(SECRET)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def put(store: MemoryStore, name: str, body: bytes = PNG, **more: Any) -> tuple[str, str]:
    store.add(f"out/{name}", body)
    digest = hashlib.sha256(body).hexdigest()
    asset = {"key": f"out/{name}", "name": name, "size": len(body), "sha256": digest} | more
    bucket = cast(ObjectStore, store)
    return put_stripped_copy(bucket, ShareFolder(bucket, "out"), asset)


def test_a_copy_is_in_the_share_and_the_object_stays(store: MemoryStore) -> None:
    key, mime_type = put(store, "fox.png")
    assert mime_type == "image/png"
    assert key.startswith("out/.cloud-archive/v1/shares/")
    assert key.endswith("/fox.png")
    assert SECRET.encode() not in store.objects[key].body
    assert store.objects["out/fox.png"].body == PNG


@pytest.mark.parametrize("name", ["狐" * 120 + ".png", "nul.png", "a:b\\c.png", "..png"])
def test_a_name_that_this_system_may_not_hold_is_changed(store: MemoryStore, name: str) -> None:
    """A Windows machine may have archived 255 characters that are 765 bytes here."""
    key, _ = put(store, name)
    assert len(key.rpartition("/")[2].encode()) <= 200


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size": len(PNG) - 1}, {"size": len(PNG) + 1}])
def test_an_object_with_other_bytes_is_not_shared(store: MemoryStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        put(store, "fox.png", **wrong)
    assert list(store.objects) == ["out/fox.png"]


def test_an_object_without_a_checksum_is_known_by_its_size(store: MemoryStore) -> None:
    assert put(store, "fox.png", sha256=None)[1] == "image/png"


def test_what_cannot_be_stripped_is_not_shared(store: MemoryStore) -> None:
    with pytest.raises(StripRefused, match=r"fox\.txt"):
        put(store, "fox.txt", b"a secret red fox")
    assert list(store.objects) == ["out/fox.txt"]
