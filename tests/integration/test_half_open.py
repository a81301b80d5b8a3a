"""Thousands of half-open connections to a real daemon that may open 1,024 descriptors: it archives and answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import running_engine
from cloud_archive.demo.seaweedfs import free_ports
from tests.servers import S3Server, wait_until

resource = pytest.importorskip("resource", reason="limits of descriptors are POSIX's")
pytestmark = pytest.mark.store

DESCRIPTORS = 1024
CONNECTIONS = 2000
ANSWER_SECONDS = 1.0
TRIES = 3  # another process may have the processor for a second


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@contextlib.contextmanager
def half_open(port: int) -> Iterator[None]:
    """Hold connections that have sent half a head."""
    opened: list[socket.socket] = []
    try:
        for _ in range(CONNECTIONS):
            sock = socket.create_connection(("127.0.0.1", port), timeout=10)
            opened.append(sock)
            with contextlib.suppress(OSError):
                sock.sendall(b"GET /cloud-sync/status HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        yield
    finally:
        for sock in opened:
            sock.close()


@pytest.fixture
def room_for_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS + 500
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"this test opens {wanted} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def daemon(root: Path, own_state: None, seaweedfs: S3Server, tmp_path: Path) -> Iterator[int]:
    """The port of a daemon that archives `root`."""
    (port,) = free_ports(1)
    log = tmp_path / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloud_archive", "watch", str(root), "--serve", f"127.0.0.1:{port}"],
            env={**os.environ, **seaweedfs.environ(CLOUD_ARCHIVE_SETTLE_SECONDS="0.2")},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
        )
    try:
        wait_until(lambda: running_engine(root) is not None, "it runs", 30)
        wait_until(lambda: call(port, "GET", "/cloud-sync/status")["state"] == "idle", "it watches", 30)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)
    assert log.stat().st_size < 20_000, "no traceback for each connection"


def fastest(ask: Any) -> float:
    """The shortest of a few tries, in seconds."""
    took = []
    for number in range(TRIES):
        began = time.monotonic()
        ask(number)
        took.append(time.monotonic() - began)
    return min(took)


@pytest.mark.usefixtures("room_for_descriptors")
def test_uploads_and_status_answer_within_a_second(daemon: int, root: Path) -> None:
    engine = running_engine(root)
    assert engine is not None

    def upload(number: int) -> None:
        (root / f"asked{number}.png").write_bytes(os.urandom(10_000))
        answer = call(daemon, "POST", "/cloud-sync/upload", {"file_path": f"asked{number}.png"})
        assert answer["success"] is True

    with half_open(daemon), half_open(engine._info.port):
        assert fastest(lambda _: call(daemon, "GET", "/cloud-sync/status")) < ANSWER_SECONDS
        assert fastest(lambda _: engine.status()) < ANSWER_SECONDS
        assert fastest(upload) < ANSWER_SECONDS
        before = call(daemon, "GET", "/cloud-sync/status")["uploaded_files"]
        for number in range(20):
            (root / f"watched{number}.png").write_bytes(os.urandom(10_000))
        wait_until(
            lambda: call(daemon, "GET", "/cloud-sync/status")["uploaded_files"] == before + 20, "they arrive"
        )
