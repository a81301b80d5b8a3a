"""Queueing complete files where something unexpected happens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_archive.archive.enqueue_loop import EnqueueLoop
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.intake.settle_entry import CompleteFile
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until


class Settling:
    """Counts as a settle queue does."""

    def __init__(self, count: int) -> None:
        self.pending_files = count

    def acknowledge(self, versions: Sequence[FileVersion]) -> None:
        self.pending_files -= len(versions)


def test_an_unexpected_error_costs_no_rescan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with archiving(root, store, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        wait_until(lambda: archiver.running and archiver.has_scanned, "first scan")
        real = archiver.ledger.add
        failures = iter([True])

        def failing_once(*args: Any, **how: Any) -> int:
            if next(failures, False):
                raise RuntimeError("can't start new thread")
            return real(*args, **how)

        monkeypatch.setattr(archiver.ledger, "add", failing_once)
        (root / "a.png").write_bytes(b"a")
        wait_until(lambda: bool(store.bodies()), "archived without anybody asking")
        assert archiver.flush(60)


def test_a_file_that_can_never_be_queued_delays_no_other(root: Path, ledger: Ledger) -> None:
    def enqueue(versions: list[FileVersion]) -> int:
        if any(version.path == "odd.png" for version in versions):
            raise RuntimeError("odd")
        return ledger.add(versions)

    settling, stopping = Settling(3), threading.Event()
    queued: list[str] = []
    loop = EnqueueLoop(
        ledger,
        cast(SettleQueue, settling),
        enqueue=enqueue,
        on_queued=lambda versions: queued.extend(version.path for version in versions),
        on_rewritten=lambda path: None,
        stopping=stopping,
    )
    for name in ("a.png", "odd.png", "b.png"):
        (root / name).write_bytes(b"x")
        loop.put(CompleteFile(stat_version(root, name), False, False))
    loop.end()
    stopping.set()
    loop.run()
    assert queued == ["a.png", "b.png"]
    assert [row.version.path for row in ledger.rows()] == ["b.png", "a.png"]
    assert settling.pending_files == 0
