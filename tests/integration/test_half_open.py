"""Thousands of half-open connections to a real daemon that may open 1,024 descriptors: it archives and answers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.floods import ANSWER_SECONDS, HEAD, HELD, call, daemon, open_one, room_for_descriptors
from tests.servers import S3Server, wait_until

pytest.importorskip("resource", reason="limits of descriptors are POSIX's")
pytestmark = pytest.mark.store

TRIES = 3  # another process may have the processor for a second


@contextlib.contextmanager
def half_open(port: int) -> Iterator[None]:
    """Hold connections that have sent half a head."""
    opened = [open_one(port, HEAD) for _ in range(HELD)]
    try:
        yield
    finally:
        for sock in opened:
            sock.close()


def fastest(ask: Callable[[int], object]) -> float:
    """The shortest of a few tries, in seconds."""
    took = []
    for number in range(TRIES):
        began = time.monotonic()
        ask(number)
        took.append(time.monotonic() - began)
    return min(took)


@pytest.mark.usefixtures("own_state")
def test_uploads_and_status_answer_within_a_second(root: Path, seaweedfs: S3Server, tmp_path: Path) -> None:
    log = tmp_path / "daemon.log"
    with room_for_descriptors(), daemon(root, seaweedfs, log) as (port, engine):

        def upload(number: int) -> None:
            (root / f"asked{number}.png").write_bytes(os.urandom(10_000))
            answer = call(port, "POST", "/cloud-sync/upload", {"file_path": f"asked{number}.png"})
            assert answer["success"] is True

        with half_open(port), half_open(engine._info.port):
            assert fastest(lambda _: call(port, "GET", "/cloud-sync/status")) < ANSWER_SECONDS
            assert fastest(lambda _: engine.status()) < ANSWER_SECONDS
            assert fastest(upload) < ANSWER_SECONDS
            before = engine.status()["uploaded_files"]
            for number in range(20):
                (root / f"watched{number}.png").write_bytes(os.urandom(10_000))
            wait_until(lambda: engine.status()["uploaded_files"] == before + 20, "they arrive")
    assert log.stat().st_size < 20_000, "no traceback for each connection"
