"""A store that can't refuse overwrites, and refuses a HEAD for a moment, as a proxy or an expired login does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.files import stat_version
from cloud_archive.store.base import Capabilities, CreateOnly, PutResult
from cloud_archive.store.failures import HEAD_REFUSED, explain
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.journal import MemoryJournal
from tests.memory_store import MemoryStore


class OverwritingStore(MemoryStore):
    """Honours no create-only writes."""

    def put(self, key: str, body: bytes, **how: Any) -> PutResult:
        return super().put(key, body, **how | {"create_only": False})


@pytest.fixture
def store() -> OverwritingStore:
    return OverwritingStore(
        Capabilities(CreateOnly.IGNORED, CreateOnly.IGNORED, can_head=True, echoes_checksum=True)
    )


def upload(store: MemoryStore, root: Path, wait: Callable[[float], object] = lambda seconds: None) -> None:
    uploader = Uploader(store, root, make_key=lambda path: path, session_id="s", wait=wait)
    uploader.upload(claim_of(stat_version(root, "a.png")), MemoryJournal(), lambda sent: None)


def refuse_one_head(store: MemoryStore, code: str, *, after: str | None = None) -> None:
    """Refuse the next HEAD; `after`: the first one that follows such a request."""
    calls: list[str] = []

    def refuse(operation: str, key: str) -> None:
        if operation == "HeadObject" and (after is None or after in calls):
            store.on_call = lambda operation, key: None
            raise StoreError(operation, key, replace(explain("403"), code=code), status=403)
        calls.append(operation)

    store.on_call = refuse


def test_an_object_that_only_the_second_head_shows_is_not_replaced(
    tmp_path: Path, store: MemoryStore
) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    store.add_foreign("a.png", b"theirs")
    refuse_one_head(store, HEAD_REFUSED)
    upload(store, tmp_path)
    assert store.bodies() == {"a.png": b"theirs", "a (1).png": b"good"}


def test_a_second_look_that_is_refused_for_a_moment_is_made_again(tmp_path: Path, store: MemoryStore) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    refuse_one_head(store, HEAD_REFUSED, after="PutObject")
    with pytest.raises(StoreError):
        upload(store, tmp_path, lambda seconds: store.add_foreign("a.png", b"theirs"))
    upload(store, tmp_path)
    assert store.bodies() == {"a.png": b"theirs", "a (1).png": b"good"}
