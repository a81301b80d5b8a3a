"""A large file on a slow line: what an interruption would cost at any moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

MEBIBYTE = 1024 * 1024
PART = 8 * MEBIBYTE


def whole_parts(server: S3Server) -> int:
    """Return how many parts of the one upload under way the store has."""
    (upload,) = server.client.list_multipart_uploads(Bucket=server.bucket)["Uploads"]
    listed = server.client.list_parts(Bucket=server.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(listed.get("Parts", []))


def test_on_a_slow_line_an_interruption_costs_one_part_at_the_most(
    seaweedfs: S3Server, root: Path, tmp_path: Path
) -> None:
    body = os.urandom(4 * PART + MEBIBYTE)
    environ = seaweedfs.environ(
        S3_PREFIX="out", CLOUD_ARCHIVE_MAX_BANDWIDTH="5MB/s", CLOUD_ARCHIVE_SETTLE_SECONDS="0.1"
    )
    engine = Engine(root, state_base=tmp_path / "state", environ=environ)

    def sent_bytes() -> int:
        return sum(upload["sent_bytes"] for upload in engine.status().to_json()["active"])

    engine.start(autostart=True)
    try:
        (root / "film.mp4").write_bytes(body)
        for megabytes in (14, 22, 30):
            wait_until(lambda: sent_bytes() >= megabytes * MEBIBYTE, f"{megabytes} MiB are sent")  # noqa: B023
            assert whole_parts(seaweedfs) >= megabytes * MEBIBYTE // PART - 1
        assert engine.flush(60)
    finally:
        engine.close(60)
    assert seaweedfs.read("out/film.mp4") == body
