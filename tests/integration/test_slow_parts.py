"""A large file on a slow line: what an interruption would cost at any moment."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.store.bandwidth import Throttle
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

MEBIBYTE = 1024 * 1024
PART = 8 * MEBIBYTE
TAKE = Throttle.take


def whole_parts(server: S3Server) -> int:
    """Return how many parts of the one upload under way the store has."""
    (upload,) = server.client.list_multipart_uploads(Bucket=server.bucket)["Uploads"]
    listed = server.client.list_parts(Bucket=server.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(listed.get("Parts", []))


class HeldLine:
    """Stops the uploads after so many bytes, so that what is under way then can be counted at leisure."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._allowed = 0
        self._taken = 0

    def allow(self, size_bytes: int) -> None:
        with self._changed:
            self._allowed = size_bytes
            self._changed.notify_all()

    def take(self, throttle: Throttle, size_bytes: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._allowed)
            self._taken += size_bytes
        TAKE(throttle, size_bytes)


def test_on_a_slow_line_an_interruption_costs_one_part_at_the_most(
    seaweedfs: S3Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = HeldLine()
    monkeypatch.setattr(Throttle, "take", lambda throttle, size_bytes: line.take(throttle, size_bytes))
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
            line.allow(megabytes * MEBIBYTE)
            wait_until(lambda: sent_bytes() >= megabytes * MEBIBYTE, f"{megabytes} MiB are sent")  # noqa: B023
            least = megabytes * MEBIBYTE // PART - 1
            wait_until(lambda: whole_parts(seaweedfs) >= least, f"{least} parts are whole")  # noqa: B023
        line.allow(10 * len(body))
        assert engine.flush(60)
    finally:
        line.allow(10 * len(body))
        engine.close(60)
    assert seaweedfs.read("out/film.mp4") == body
