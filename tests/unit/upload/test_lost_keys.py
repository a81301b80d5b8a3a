"""Under which keys a file may be in the bucket already."""

from __future__ import annotations

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.keys import LAST_CONFLICT, PrefixTemplate, conflict_key, object_key
from cloud_archive.scope import KeyScope
from cloud_archive.upload.lost_keys import BucketIndex
from tests.memory_store import MemoryStore

BODY = b"12345"
SHA256 = "1a2b3c4d" * 8


def candidates(store: MemoryStore, path: str, prefix: str = "out/{Y}") -> list[str]:
    index = BucketIndex(
        store, KeyScope(PrefixTemplate.parse(prefix)), lambda: [FileVersion(path, len(BODY), 1)]
    )
    return index.candidates(path, len(BODY))


@pytest.mark.parametrize(
    "path", ["a.png", "sub/a.png", "a (1).png", "n" * 255, "日" * 83 + ".png", "x\x01.png"]
)
@pytest.mark.parametrize("number", [0, 1, 100, 101, LAST_CONFLICT])
def test_every_key_that_the_file_can_have_got_is_a_candidate(path: str, number: int) -> None:
    store = MemoryStore()
    key = conflict_key(object_key("out/2025", path), number, SHA256)
    store.add(key, BODY)
    store.add(object_key("out/2025", "other.png"), BODY)
    assert candidates(store, path) == [key]


@pytest.mark.parametrize(
    "key", ["out/2025/other/a.png", "out/a.png", "out/x/a.png", "elsewhere/a.png", "out/.cloud-archive/a.png"]
)
def test_keys_of_other_files_and_other_archives_are_none(key: str) -> None:
    store = MemoryStore()
    store.add(key, BODY)
    assert candidates(store, "sub/a.png") == []


def test_a_file_with_another_size_is_none() -> None:
    store = MemoryStore()
    store.add("out/2025/a.png", BODY + b"6")
    assert candidates(store, "a.png") == []
