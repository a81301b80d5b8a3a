"""The pipeline as a whole: real threads, a real ledger, a store in memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import directory_watch, pipeline
from cloud_archive.errors import LedgerError, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.intake.settle_entry import WaitingFile
from cloud_archive.ledger.rows import Count, Totals
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving, engine_on, refuse_thread
from tests.memory_store import MemoryStore
from tests.servers import wait_until


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
def test_a_push_shows_that_a_file_that_never_settled_is_gone(tmp_path: Path, root: Path) -> None:
    settings = {"CLOUD_ARCHIVE_SETTLE_SECONDS": "1", "CLOUD_ARCHIVE_RESCAN_SECONDS": "0"}
    with engine_on(root, MemoryStore(), tmp_path / "state", **settings) as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        wait_until(lambda: bool(pushed) and pushed[-1]["safe_to_stop"], "safe")
        with (root / "a.png").open("wb") as file:
            file.write(b"a")
            file.flush()
            wait_until(lambda: not pushed[-1]["safe_to_stop"], "it waits")
            (root / "a.png").unlink()
        wait_until(lambda: bool(pushed[-1]["safe_to_stop"]), "safe again")


@pytest.mark.parametrize("refused", ["cloud-archive-connect", "cloud-archive-worker-3", "cloud-archive-scan"])
def test_after_a_start_that_failed_nothing_is_watched_and_the_next_start_works(
    root: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    store = MemoryStore()
    with archiving(root, store, start=False) as archiver:
        with monkeypatch.context() as full:
            refuse_thread(full, refused)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                archiver.start()
        assert not archiver.running
        archiver.start()
        workers = archiver.pipeline._pool._threads
        assert [workers[index].is_alive() for index in range(8)] == [True] * 8
        wait_until(lambda: archiver.status(scan=False).connection_verified, "the store has answered")
        (root / "a.png").write_bytes(b"a")
        assert archiver.flush(60)
    assert store.bodies() == {"out/a.png": b"a"}


def test_a_file_that_was_empty_at_its_last_check_counts_at_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archiving(root, MemoryStore()) as archiver:
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.watcher.stop(60)
        waiting = [WaitingFile(name, 0, "") for name in ("late.png", "empty.png", "gone.png")]
        monkeypatch.setattr(watch, "waiting", lambda: waiting)
        (root / "late.png").write_bytes(b"abc")
        (root / "empty.png").touch()
        assert archiver.pipeline.stop(60) == {"late.png": 3}


def test_a_stop_does_not_wait_for_a_share_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(path: Path) -> int:
        over.wait()
        return 1

    monkeypatch.setattr(pipeline, "SIZES_SECONDS", 0.1)
    monkeypatch.setattr(pipeline, "_size_now", hang)
    try:
        with archiving(root, MemoryStore()) as archiver:
            watch = archiver.pipeline.watch
            assert watch is not None
            monkeypatch.setattr(watch, "waiting", lambda: [WaitingFile("late.png", 0, "")])
            monkeypatch.setattr(watch.rechecker, "waiting_paths", lambda: ["changed.png"])
            watch.enqueue_loop.uncommitted.append(FileVersion("refused.png", 3, 0))
            assert archiver.pipeline.stop(0.1) == {"late.png": 0, "changed.png": 0, "refused.png": 3}
    finally:
        over.set()


def test_files_that_were_queued_before_a_pause_count_once_at_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Watches that are set after the first scan cause another one.
    monkeypatch.setattr(directory_watch, "WATCHES_SECONDS", 60.0)
    store = MemoryStore()

    def away(operation: str, key: str) -> None:
        raise StoreError("PutObject", key, explain("ConnectionRefused"))

    store.on_call = away
    for name in "abc":
        (root / f"{name}.png").write_bytes(b"x")
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all", CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        watch = archiver.pipeline.watch
        assert watch is not None
        wait_until(lambda: watch.reconciler.tally.unseen == 3, "the first scan has found them")
        wait_until(lambda: archiver.ledger.totals().open.files == 3, "all are queued")
        wait_until(lambda: watch.unqueued_files == 0, "none counts as found only")
        archiver.pause()
        assert len(archiver.stop(60)) == 3
        assert archiver.remainder.files == 3


def test_a_file_that_is_not_complete_at_a_pause_counts_at_the_end(root: Path) -> None:
    with archiving(root, MemoryStore()) as archiver, (root / "a.png").open("wb", buffering=0) as file:
        file.write(b"half")
        wait_until(lambda: archiver.status(scan=False).pending_files == 1, "it waits")
        archiver.pause()
        archiver.stop(60)
        assert archiver.remainder.files == 1


class MovingFile:
    """A watch in which one file moves from its stage to the next one after so many reads, in whatever order they come.

    Args:
        stage: of `STAGES`, where the file is at first.
        reads: how many stages are read before it moves.
    """

    STAGES = ("written to", "settling", "to be hashed", "in the ledger")

    def __init__(self, stage: int, following: int, reads: int) -> None:
        self._stage, self._following, self._left = stage, following, reads
        self.enqueue_loop = self

    def _is_at(self, stage: int) -> bool:
        if self._left == 0:
            self._stage = self._following
        self._left -= 1
        return self._stage == stage

    @property
    def rewritten_files(self) -> int:
        return self._is_at(0) + self._is_at(2)

    @property
    def unqueued_files(self) -> int:
        return int(self._is_at(1))

    def count(self) -> tuple[Totals, int, int]:
        settling = int(self._is_at(1))
        return Totals(pending=Count(int(self._is_at(3)), 1)), settling, settling


@pytest.mark.parametrize("reads", range(10))
@pytest.mark.parametrize(("stage", "following"), [(0, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1)])
def test_a_file_that_moves_to_its_next_stage_meanwhile_is_work(
    root: Path, monkeypatch: pytest.MonkeyPatch, stage: int, following: int, reads: int
) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver, monkeypatch.context() as patch:
        patch.setattr(archiver.pipeline, "watch", MovingFile(stage, following, reads))
        assert archiver.pipeline.has_work()


def test_an_archived_file_that_was_not_hashed_again_in_time_counts_at_the_end(root: Path) -> None:
    with archiving(root, MemoryStore()) as archiver:
        (root / "a.png").write_bytes(b"abc")
        assert archiver.flush(60)
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.rechecker.stop()
        watch.rechecker.put("a.png", written=True)
        archiver.stop(60)
        assert archiver.remainder.files == 1
        assert archiver.remainder.size_bytes == 3


def test_a_fault_that_every_regular_check_meets_is_logged_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checks: list[None] = []

    def fail() -> None:
        checks.append(None)
        raise LedgerError("The disk is gone.")

    monkeypatch.setattr(pipeline, "KEEPER_SECONDS", 0.01)
    with archiving(root, MemoryStore(), start=False) as archiver:
        monkeypatch.setattr(archiver.ledger, "requeue_due", fail)
        archiver.start()
        wait_until(lambda: len(checks) > 5, "it was checked several times")
    assert caplog.messages.count("The disk is gone.") == 1
