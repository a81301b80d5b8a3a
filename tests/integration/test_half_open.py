"""More half-open connections to a real daemon than it may open descriptors: it archives and answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.floods import DESCRIPTORS, HEAD, call, daemon, open_one, room_for_descriptors
from tests.servers import S3Server, wait_until

pytest.importorskip("resource", reason="limits of descriptors are POSIX's")
pytestmark = pytest.mark.store

HELD = 700  # at each of its two ports
NEVER_SECONDS = 3600.0


@contextlib.contextmanager
def half_open(port: int) -> Iterator[None]:
    """Hold connections that have sent half a head."""
    opened = [open_one(port, HEAD) for _ in range(HELD)]
    try:
        yield
    finally:
        for sock in opened:
            sock.close()


@pytest.mark.usefixtures("own_state")
def test_uploads_and_status_are_answered_beside_half_open_connections(
    root: Path, seaweedfs: S3Server, tmp_path: Path
) -> None:
    assert 2 * HELD > DESCRIPTORS
    log = tmp_path / "daemon.log"
    # No connection times out here: the daemon answers because it drops the oldest.
    with room_for_descriptors(), daemon(root, seaweedfs, log, head_seconds=NEVER_SECONDS) as (port, engine):

        def upload() -> None:
            (root / "asked.png").write_bytes(os.urandom(10_000))
            answer = call(port, "POST", "/cloud-sync/upload", {"file_path": "asked.png"})
            assert answer["success"] is True

        with half_open(port), half_open(engine._info.port):
            assert call(port, "GET", "/cloud-sync/status")["running"] is True
            assert engine.status()["running"] is True
            upload()
            for number in range(20):
                (root / f"watched{number}.png").write_bytes(os.urandom(10_000))
            wait_until(lambda: engine.status()["uploaded_files"] == 1 + 20, "they arrive")
    assert log.stat().st_size < 20_000, "no traceback for each connection"
