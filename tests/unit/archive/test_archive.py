"""The archiver's life cycle."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive import beneath, files
from cloud_archive.archive import archive as module
from cloud_archive.archive import pipeline, recheck
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.directory_watch import DirectoryWatch
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import LedgerError
from cloud_archive.intake import settle_rules
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.upload import source
from tests.functional.archives import added, archiving, wait_for_watches
from tests.memory_store import MemoryStore
from tests.servers import wait_until

a_thread_dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
GRACE_SECONDS = 60.0


def test_a_drain_waits_for_a_file_that_was_not_checked_yet(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came a moment before SIGTERM: its size is not known yet, and that does not make it empty."""
    monkeypatch.setattr("cloud_archive.intake.settle_queue.SettleQueue.poll", lambda self, now: None)
    settings = load_settings({"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b", "S3_BUCKET": "c-c"})
    archiver = Archiver(settings, root, ledger, MemoryStore(), session_id="s")
    archiver.start()
    try:
        (root / "a.png").write_bytes(b"a")
        archiver.rescan(60)
        assert not archiver.drain(0.3)
    finally:
        archiver.stop(60)


def test_a_drain_gives_its_scan_all_of_its_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan of a large network share takes longer than ten seconds."""
    with archiving(root, MemoryStore()) as archiver:
        watch = archiver.pipeline.watch
        assert watch is not None
        waits: list[float] = []
        monkeypatch.setattr(watch.reconciler, "now", waits.append)
        archiver.drain(3600)
        assert waits[0] > 3500


def stopping_to_find(archiver: Archiver) -> bool:
    """Return whether a drain has begun."""
    watch = archiver.pipeline.watch
    return watch is not None and watch.finding_stopped


def refuse(*_: object) -> Any:
    raise PermissionError(13, "Permission denied")


@a_thread_dies
def test_a_settle_thread_that_dies_during_a_drain_is_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = iter([True])
    poll = SettleQueue.poll
    monkeypatch.setattr(pipeline, "KEEPER_SECONDS", 0.05)
    store = MemoryStore()
    with archiving(root, store) as archiver:
        wait_until(lambda: archiver.has_scanned, "the first scan")

        def die_once(queue: SettleQueue, now: float) -> float | None:
            if not stopping_to_find(archiver):
                return 0.01
            if next(deaths, False):
                raise SystemExit
            return poll(queue, now)

        monkeypatch.setattr(SettleQueue, "poll", die_once)
        (root / "a.png").write_bytes(b"a")
        assert archiver.drain(GRACE_SECONDS)
        assert store.bodies() == {"out/a.png": b"a"}


@a_thread_dies
def test_a_hashing_thread_that_dies_during_a_drain_is_replaced(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = iter([True])
    monkeypatch.setattr(pipeline, "KEEPER_SECONDS", 0.05)
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"a")
        assert archiver.flush(60)
        watch = archiver.pipeline.watch
        assert watch is not None

        def die_once(*args: Any, **how: Any) -> Any:
            wait_until(lambda: stopping_to_find(archiver), "the drain")
            if next(deaths, False):
                raise SystemExit
            return files.hash_file(*args, **how)

        monkeypatch.setattr(recheck, "hash_file", die_once)
        watch.rechecker.put("a.png", written=True)
        assert archiver.drain(GRACE_SECONDS)
        assert watch.rechecker.waiting == 0


@contextmanager
def changing_upload(
    root: Path, when: Callable[[DirectoryWatch], bool]
) -> Iterator[tuple[Archiver, MemoryStore]]:
    """Let a program write to a.png during its upload, once `when` is True."""
    store = MemoryStore()
    with archiving(root, store) as archiver:
        watch = archiver.pipeline.watch
        assert watch is not None

        def write(operation: str, key: str) -> None:
            if operation == "PutObject" and store.count(operation) == 1:
                wait_until(lambda: when(watch), "the time to write")
                (root / "a.png").write_bytes(b"longer")

        store.on_call = write
        (root / "a.png").write_bytes(b"a")
        wait_until(lambda: bool(archiver.pipeline.active()), "the upload")
        yield archiver, store


def test_a_drain_waits_for_a_file_that_changed_during_its_upload(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with changing_upload(root, lambda watch: watch.reconciler._stopping) as (archiver, store):
        counted = threading.Event()
        count = archiver._unfinished_files

        def count_files(*, unreadable: bool) -> int:
            files = count(unreadable=unreadable)
            if not files:
                counted.set()
            return files

        monkeypatch.setattr(archiver, "_unfinished_files", count_files)

        def wait_for_count(path: str) -> None:
            counted.wait(60)  # between the proof and the news that the file has changed

        archiver.on_file = wait_for_count
        assert archiver.drain(GRACE_SECONDS)
        assert set(store.bodies().values()) == {b"a", b"longer"}


def test_a_file_that_changes_during_its_upload_counts_at_the_end(root: Path) -> None:
    with changing_upload(root, lambda watch: not watch.settle_thread.alive) as (archiver, store):
        assert archiver.stop(60) == ["a.png"]
        assert store.bodies() == {"out/a.png": b"a"}
        assert (archiver.remainder.files, archiver.remainder.size_bytes) == (1, len(b"longer"))


def test_two_versions_of_a_file_count_once_at_the_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"a")
        monkeypatch.setattr(archiver.pipeline, "stop", lambda timeout_seconds: {"a.png": 6, "b.png": 2})
        assert archiver.stop(60) == ["b.png", "a.png"]
        assert (archiver.remainder.files, archiver.remainder.size_bytes) == (2, 3)


def test_a_file_whose_new_version_waits_behind_its_upload_is_named_once_at_the_end(root: Path) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"a")
        assert archiver.ledger.claim("worker") is not None
        added(archiver.ledger, root, "a.png", b"longer")
        assert archiver.stop(60) == ["a.png"]
        assert archiver.remainder.files == 1


def test_a_drain_does_not_wait_for_a_file_that_stays_unreadable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNREADABLE_SECONDS", 0.5)
    monkeypatch.setattr(settle_rules, "open_file", refuse)
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"abc")
        wait_until(lambda: bool(archiver.status(scan=False).errors), "it can't be read")
        assert archiver.drain(GRACE_SECONDS)
        archiver.stop(60)
        assert (archiver.remainder.files, archiver.remainder.size_bytes) == (1, 3)


def test_a_drain_does_not_wait_for_a_queued_file_that_stays_unreadable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNREADABLE_SECONDS", 0.5)
    monkeypatch.setattr(source, "open_file", refuse)
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"abc")
        wait_until(lambda: archiver.ledger.totals().waiting.files == 1, "it can't be read")
        assert archiver.drain(GRACE_SECONDS)
        archiver.stop(60)
        assert archiver.remainder.files == 1


def test_a_drain_tries_again_to_read_a_file_that_is_locked_for_a_moment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNREADABLE_SECONDS", GRACE_SECONDS)
    monkeypatch.setattr(module, "UNREADABLE_RETRY_SECONDS", 0.1)
    refusals = iter(range(5))
    store = MemoryStore()
    with archiving(root, store) as archiver:

        def locked_for_a_moment(*args: Any) -> Any:
            if not stopping_to_find(archiver) or next(refusals, None) is not None:
                refuse()
            return beneath.open_file(*args)

        monkeypatch.setattr(settle_rules, "open_file", locked_for_a_moment)
        (root / "a.png").write_bytes(b"abc")
        assert archiver.drain(GRACE_SECONDS)
        assert store.bodies() == {"out/a.png": b"abc"}


def test_a_drain_does_not_wait_for_an_archived_file_that_a_program_keeps_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"abc")
        assert archiver.flush(60)
        watch = archiver.pipeline.watch
        assert watch is not None
        monkeypatch.setattr(recheck, "has_writer", lambda *_: True)
        watch.rechecker.put("a.png", written=True)
        assert archiver.drain(GRACE_SECONDS)
        archiver.stop(60)
        assert archiver.remainder.files == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_files_that_a_sweep_did_not_hash_in_time_count_at_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.ledger.doubts.MAX_NAMED", 1)
    # No events, and no scan between the two changes: a file that one of them names would count twice.
    monkeypatch.setattr(DirectoryWatch, "_on_hint", lambda *_: None)
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        wait_for_watches(archiver)
        for name in ("a.png", "b.png"):
            (root / name).write_bytes(b"abc")
        assert archiver.flush(60)
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.rechecker.stop()
        for name in ("a.png", "b.png"):
            stat = (root / name).stat()
            os.utime(root / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert archiver.rescan(60) == 2
        assert not archiver.drain(0.1)
        archiver.stop(60)
        assert archiver.ledger.totals().archived.files == 2
        assert archiver.remainder.files == 2


@pytest.fixture
def full_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archiver]:
    """An archiver with a complete file, a.png, that the ledger can't take."""

    def full(*_: object, **__: object) -> Any:
        raise LedgerError("The disk is full.")

    # No events: a late one would have the file queued twice.
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_WATCH="poll") as archiver:
        wait_until(lambda: archiver.has_scanned, "the first scan")
        monkeypatch.setattr(archiver.ledger, "add", full)
        (root / "a.png").write_bytes(b"abc")
        archiver.rescan(60)
        wait_until(lambda: archiver.ledger_problem is not None, "it can't be queued")
        yield archiver


def test_a_complete_file_that_the_ledger_does_not_take_counts_at_the_end(full_disk: Archiver) -> None:
    assert not full_disk.drain(0.1)
    assert full_disk.stop(60) == ["a.png"]
    assert (full_disk.remainder.files, full_disk.remainder.size_bytes) == (1, 3)


def test_without_backfill_a_stop_does_not_promise_a_file_that_the_ledger_does_not_know(
    full_disk: Archiver,
) -> None:
    full_disk.settings = dataclasses.replace(full_disk.settings, backfill="none")
    full_disk.stop(60)
    assert full_disk.remainder.sentence == (
        "1 file (3 B) is not proven in the bucket yet; the next start continues with those that the ledger knows."
        " With CLOUD_ARCHIVE_BACKFILL=none it leaves any others alone."
    )


def test_a_complete_file_that_the_ledger_does_not_take_counts_after_a_pause(
    full_disk: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PAUSE_SECONDS", 60.0)
    full_disk.pause()
    full_disk.stop(60)
    assert full_disk.remainder.files == 1


def test_a_paused_archive_over_another_directory_does_not_call_everything_archived_at_the_end(
    root: Path,
) -> None:
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"abc")
        assert archiver.flush(60)
        archiver.pause()
        (root / "late.png").write_bytes(b"late")
        root.rename(root.with_name("unmounted"))
        root.mkdir()
        assert not archiver.drain(60)
        archiver.stop(60)
        assert not archiver.remainder.scanned


def test_a_drain_goes_on_after_the_ledger_could_not_be_read_for_a_moment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    with archiving(root, store) as archiver:
        totals = archiver.ledger.totals
        failures = iter([True])

        def failing_once() -> Any:
            if stopping_to_find(archiver) and next(failures, False):
                raise LedgerError("The ledger can't be read.")
            return totals()

        monkeypatch.setattr(archiver.ledger, "totals", failing_once)
        (root / "a.png").write_bytes(b"a")
        assert archiver.drain(GRACE_SECONDS)
        assert next(failures, None) is None
        assert store.bodies() == {"out/a.png": b"a"}
