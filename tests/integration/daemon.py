"""Run `watch` as a process of its own, and end it by a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_archive.archive.ownership import engine_state_directory
from cloud_archive.state import read_engine_info
from tests.fork_server import PIPE, Process, popen
from tests.servers import wait_until


@contextmanager
def watching(root: Path, *arguments: str) -> Iterator[Process]:
    """Run `watch` as a process of its own; yield it once it answers."""
    process = popen(
        [sys.executable, "-m", "cloud_archive", "watch", str(root), *arguments], stdout=PIPE, stderr=PIPE
    )
    try:
        wait_until(lambda: _running(root) or process.poll() is not None, "the daemon runs")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _running(root: Path) -> bool:
    from cloud_archive.api.client import running_engine

    if read_engine_info(engine_state_directory(root, os.environ)) is None:
        return False
    engine = running_engine(root)
    return engine is not None and engine.status()["state"] not in ("starting", "not_configured")


def end_by_signal(process: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """Send the signal and wait. Returns (exit status, standard output, standard error)."""
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert "Traceback" not in err
    return process.returncode, out, err
