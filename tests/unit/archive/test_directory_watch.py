"""Finding files and queueing them: real threads, a real ledger, a store in memory."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import enqueue_loop
from cloud_archive.archive.events import StatusChanged
from cloud_archive.errors import LedgerError, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.intake import settle_rules
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until

AWAY = StoreError("PutObject", "k", explain("ConnectionRefused"))


def test_a_file_counts_once_while_it_goes_into_the_ledger(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its commit and `acknowledge`, both the settle queue and the ledger hold the file."""
    store, committed = MemoryStore(), threading.Event()
    add = ledger.add

    def away(operation: str, key: str) -> None:
        raise AWAY

    store.on_call = away

    def slow_add(versions: Iterable[FileVersion], *, priority: int = 0) -> int:
        count = add(versions, priority=priority)
        committed.set()
        threading.Event().wait(0.1)
        return count

    monkeypatch.setattr(ledger, "add", slow_add)
    monkeypatch.setattr(enqueue_loop, "COMMIT_WAIT_SECONDS", 30.0)
    # No events: a late one would have the file queued twice.
    with archiving(root, store, ledger=ledger, CLOUD_ARCHIVE_WATCH="poll") as archiver:
        (root / "a.bin").write_bytes(b"123")
        archiver.rescan(60)
        assert committed.wait(60)
        status = archiver.status()
        assert (status.pending_files, status.pending_bytes, status.total_files) == (1, 3, 1)
        assert archiver.gauges().unqueued_files == 0


def test_a_ledger_that_hangs_delays_no_status_and_the_file_counts_as_pending(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    add = ledger.add

    def hanging_add(versions: Iterable[FileVersion], *, priority: int = 0) -> int:
        hangs.set()
        assert goes_on.wait(60)
        return add(versions, priority=priority)

    monkeypatch.setattr(ledger, "add", hanging_add)
    monkeypatch.setattr(enqueue_loop, "COMMIT_WAIT_SECONDS", 0.01)
    with archiving(root, MemoryStore(), ledger=ledger, CLOUD_ARCHIVE_WATCH="poll") as archiver:
        (root / "a.bin").write_bytes(b"123")
        archiver.rescan(60)
        assert hangs.wait(60)
        status = archiver.status()
        goes_on.set()
        assert (status.pending_files, status.pending_bytes, status.safe_to_stop) == (1, 3, False)


def test_a_ledger_that_is_locked_when_a_file_is_complete_costs_no_rescan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    with archiving(root, store, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        wait_until(lambda: archiver.running and archiver.has_scanned, "first scan")
        real = archiver.ledger.add
        failures = iter([True])

        def locked_once(*args: Any, **how: Any) -> int:
            if next(failures, False):
                raise LedgerError("locked by another program")
            return real(*args, **how)

        monkeypatch.setattr(archiver.ledger, "add", locked_once)
        (root / "a.png").write_bytes(b"a")
        wait_until(lambda: bool(store.bodies()), "archived without anybody asking")
        wait_until(lambda: archiver.status(scan=False).errors == (), "the trouble is over")


def test_a_thread_that_is_being_started_is_not_taken_for_a_dead_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        pipeline, start = archiver.pipeline, threading.Thread.start

        def check_before_it_starts(thread: threading.Thread) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                pipeline._pool.replace_dead_threads()
                if pipeline.watch is not None and pipeline.watch.settle_thread.alive:
                    pipeline.watch.check_threads()
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", check_before_it_starts)
        archiver.start()
        names = Counter(thread.name for thread in threading.enumerate())
    assert (
        names["cloud-archive-worker-0"] == names["cloud-archive-keeper"] == names["cloud-archive-scan"] == 1
    )
    assert "replaced" not in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_search_for_doubtful_files_ends_when_it_is_told_to(root: Path) -> None:
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"a")
        assert archiver.flush(60)
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.rechecker.stop()
        (root / "a.png").chmod(0o600)
        assert list(watch.reconciler.doubtful_paths(lambda: False)) == ["a.png"]
        assert list(watch.reconciler.doubtful_paths(lambda: True)) == []


def test_a_file_that_becomes_unreadable_while_the_problems_are_read_is_still_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path, path: str) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(settle_rules, "open_file", refuse)
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        watch = archiver.pipeline.watch
        assert watch is not None
        reported = threading.Event()
        monkeypatch.setattr(
            watch, "_on_event", lambda event: reported.set() if isinstance(event, StatusChanged) else None
        )
        (root / "first.png").write_bytes(b"1")
        assert reported.wait(60)

        def meanwhile(name: str) -> None:
            real = getattr(watch._queue, name)

            def read() -> Any:
                found = real()
                if not (root / "second.png").exists():
                    reported.clear()
                    (root / "second.png").write_bytes(b"2")
                    assert reported.wait(60)
                return found

            monkeypatch.setattr(watch._queue, name, read)

        meanwhile("waiting")
        meanwhile("unreadable")
        assert watch.problems() == ["first.png can't be read: Permission denied. It will be retried."]
        assert [sentence.partition(" ")[0] for sentence in watch.problems()] == ["first.png", "second.png"]
