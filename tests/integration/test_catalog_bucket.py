"""The catalog in a real bucket: written at stop and flush, by keys that may only put, and after kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.bucket.names import CatalogFolder, parse_name
from cloud_archive.catalog.bucket.segment import Decoded, decode
from tests.servers import S3Server, wait_until
from tests.unit.catalog.cataloguing import png

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]
FOLDER = CatalogFolder.of("out")


def rows_in(server: S3Server) -> list[dict[str, Any]]:
    """All rows of all segments in the bucket."""
    found: list[dict[str, Any]] = []
    for key, body in server.objects(FOLDER.base).items():
        if parse_name(FOLDER.name(key)):
            found += decode([body], Decoded(), size_bytes=len(body))
    return found


def test_flush_and_stop_leave_no_row_unwritten(tmp_path: Path, any_s3: S3Server) -> None:
    archive = Archive(tmp_path, any_s3)
    archive.write("a.png", png("a red fox"))
    with archive.running() as engine:
        wait_until(lambda: engine.status().archived_files == 1, "archived")
        assert engine.flush(60)
        assert engine.status().unwritten_rows == 0
        assert [row["prompt"] for row in rows_in(any_s3)] == ["a red fox"]
        archive.write("b.png", png("a black cat"))
        wait_until(lambda: engine.status().archived_files == 2, "archived")
        assert engine.drain(30)
    assert sorted(row["key"] for row in rows_in(any_s3)) == ["out/a.png", "out/b.png"]


def test_a_key_that_may_only_put_writes_segments(tmp_path: Path, seaweedfs: S3Server) -> None:
    archive = Archive(tmp_path, seaweedfs)
    archive.environ |= seaweedfs.put_only()
    archive.write("a.png", png("a red fox"))
    with archive.running() as engine:
        wait_until(lambda: engine.status().archived_files == 1, "archived")
        assert engine.flush(60)
    assert [row["key"] for row in rows_in(seaweedfs)] == ["out/a.png"]
