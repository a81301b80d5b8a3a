"""Thousands of half-open connections to a real daemon that may open 1,024 descriptors: it archives and answers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_archive.api.connections import ConnectionLimits
from tests.faults.floods import HEAD, HELD, call, daemon, open_one, room_for_descriptors
from tests.servers import S3Server, wait_until

pytest.importorskip("resource", reason="limits of descriptors are POSIX's")
pytestmark = pytest.mark.store

IN_TIME_SECONDS = 10.0
assert ConnectionLimits.for_this_process().head_seconds > IN_TIME_SECONDS, (
    "they are dropped for their age first"
)


@contextlib.contextmanager
def half_open(port: int) -> Iterator[None]:
    """Hold connections that have sent half a head."""
    opened = [open_one(port, HEAD) for _ in range(HELD)]
    try:
        yield
    finally:
        for sock in opened:
            sock.close()


def answers_in_time(ask: Callable[[], object]) -> bool:
    """Whether it answers while all of the connections are still held."""
    began = time.monotonic()
    ask()
    return time.monotonic() - began < IN_TIME_SECONDS


@pytest.mark.usefixtures("own_state")
def test_uploads_and_status_are_answered_beside_half_open_connections(
    root: Path, seaweedfs: S3Server, tmp_path: Path
) -> None:
    log = tmp_path / "daemon.log"
    with room_for_descriptors(), daemon(root, seaweedfs, log) as (port, engine):

        def upload() -> None:
            (root / "asked.png").write_bytes(os.urandom(10_000))
            answer = call(port, "POST", "/cloud-sync/upload", {"file_path": "asked.png"})
            assert answer["success"] is True

        with half_open(port), half_open(engine._info.port):
            assert answers_in_time(lambda: call(port, "GET", "/cloud-sync/status"))
            assert answers_in_time(engine.status)
            assert answers_in_time(upload)
            before = engine.status()["uploaded_files"]
            for number in range(20):
                (root / f"watched{number}.png").write_bytes(os.urandom(10_000))
            wait_until(lambda: engine.status()["uploaded_files"] == before + 20, "they arrive")
    assert log.stat().st_size < 20_000, "no traceback for each connection"
