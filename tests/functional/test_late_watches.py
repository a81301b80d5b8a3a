"""Watches are set beside the first scan and the first uploads, however long that takes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.intake import observer, watcher
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until

WAIT_SECONDS = 60.0


@pytest.fixture
def may_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No watch is set before this event."""
    event = threading.Event()
    make = observer.new_observer

    def late(root: str) -> Any:
        assert event.wait(WAIT_SECONDS)
        return make(root)

    monkeypatch.setattr(watcher, "new_observer", late)
    yield event
    event.set()


def observers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cloud-archive-observer"]


def test_the_first_scan_and_the_first_upload_do_not_wait_for_watches(
    root: Path, may_set: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cloud_archive")
    (root / "before.png").write_bytes(b"before")
    store = MemoryStore()
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all", CLOUD_ARCHIVE_WATCH="native") as archiver:
        wait_until(lambda: len(store.bodies()) == 1, "the first upload")
        run = archiver.pipeline.watch
        assert run is not None
        assert not may_set.is_set()
        wait_until(lambda: run.reconciler.first_done, "the first scan")
        assert archiver.flush(WAIT_SECONDS), "a scan says so, no event"
        assert run.watcher.polling, "scans take the place of events meanwhile"
        run.watcher.check()  # does not wait either
        hints = run.hint_count
        may_set.set()
        wait_until(lambda: not run.watcher.polling, "the watches are set")
        assert run.hint_count > hints, "what the scans before found counts no longer"
        assert "files may have changed after the first scan" in caplog.text
        (root / "after.png").write_bytes(b"after")
        wait_until(lambda: len(store.bodies()) == 2, "the second upload")


def test_the_log_says_how_the_directory_is_watched_once_that_is_known(
    root: Path, may_set: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cloud_archive")
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_WATCH="native"):
        may_set.set()
        wait_until(lambda: f"Archiving {root}: " in caplog.text, "the line")
        assert f"Archiving {root}: native events (" in caplog.text


def test_watches_that_are_set_in_time_cost_no_second_scan(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.directory_watch.WATCHES_SECONDS", WAIT_SECONDS)
    caplog.set_level(logging.INFO, logger="cloud_archive")
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_WATCH="native") as archiver:
        run = archiver.pipeline.watch
        assert run is not None
        wait_until(lambda: run.reconciler.first_done and not run.watcher.polling, "scanned and watched")
        assert "the watches are set" not in caplog.text


def test_a_stop_does_not_wait_for_watches_and_ends_them(
    root: Path, may_set: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_STOP_SECONDS", 0.1)
    others = observers()
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_WATCH="native") as archiver:
        run = archiver.pipeline.watch
        assert run is not None
        wait_until(lambda: run.reconciler.first_done, "the first scan")
        run.watcher.stop(WAIT_SECONDS)
        assert not may_set.is_set()
        may_set.set()
        wait_until(lambda: run.watcher.description == "polling: stopped", "it has noticed the stop")
        wait_until(lambda: set(observers()) <= set(others), "its observer has ended")
