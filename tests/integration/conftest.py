"""An archive for tests of commands that run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.store.s3 import S3Store
from tests.integration.stores import Make
from tests.servers import S3Server

from .archives import Archive


@pytest.fixture
def archive(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive without files on SeaweedFS, whose settings this process has."""
    archive = Archive(tmp_path, seaweedfs)
    archive.set_environment(monkeypatch)
    return archive


@pytest.fixture
def bucket(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A bucket that the environment names, with the prefix `out`."""
    settings = seaweedfs.environ(S3_PREFIX="out", CLOUD_ARCHIVE_SETTLE_SECONDS="0.2")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return seaweedfs


@pytest.fixture
def make_store() -> Iterator[Make]:
    made: list[S3Store] = []

    def build(environ: dict[str, str], **options: Any) -> S3Store:
        made.append(S3Store(load_settings(environ), **options))
        return made[-1]

    yield build
    for store in made:
        store.close()
