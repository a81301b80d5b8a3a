"""Fixtures of the tests of the bucket's catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory_store import MemoryStore
from tests.unit.catalog.bucket.machines import NewMachine


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def other(tmp_path: Path, store: MemoryStore) -> Iterator[NewMachine]:
    other = NewMachine(tmp_path, store)
    yield other
    other.database.close()


@pytest.fixture(params=["here", "child", "child, streamed"])
def decoded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files are decoded, and how: all ways must do the same."""
    if request.param != "here":
        monkeypatch.setattr("cloud_archive.catalog.bucket.sync.MANY_BYTES", 0)
    if request.param == "child, streamed":
        monkeypatch.setattr("cloud_archive.catalog.bucket.sync._MAX_AHEAD_BYTES", -1)
