"""An archive for tests of commands that run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import S3Server

from .archives import Archive


@pytest.fixture
def archive(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive without files on SeaweedFS, whose settings this process has."""
    archive = Archive(tmp_path, seaweedfs)
    archive.set_environment(monkeypatch)
    return archive
