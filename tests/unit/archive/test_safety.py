"""When it is safe to stop, and how few scans that takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.routes import ROUTE_SECONDS
from cloud_archive.archive import reconcile, safety, unwatched, workers
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.directory_watch import DirectoryWatch
from cloud_archive.archive.status import State
from cloud_archive.intake import walk as walking
from cloud_archive.intake.event_handler import EventHandler
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.upload import uploader
from tests.functional.archives import added, archiving, engine_on, wait_for_watches
from tests.memory_store import MemoryStore
from tests.servers import wait_until


@contextmanager
def settled(root: Path) -> Iterator[tuple[Archiver, DirectoryWatch]]:
    """Archive a directory; yield the archiver once its watches are set and a scan has found it safe to stop."""
    with archiving(root, MemoryStore()) as archiver:
        run = archiver.pipeline.watch
        assert run is not None
        wait_until(lambda: not run.watcher.polling, "its watches are set")
        assert archiver.flush(60)
        yield archiver, run


def test_a_status_does_not_wait_for_the_first_scan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, scans = threading.Event(), threading.Event()
    real = walking.walk

    def slow(*args: Any, **how: Any) -> Any:
        go_on.wait(60)
        scans.set()
        return real(*args, **how)

    monkeypatch.setattr(reconcile, "walk", slow)
    with archiving(root, MemoryStore()) as archiver:
        # A status of the stopped archive has taken a scan, so that the next one would have to wait.
        archiver.safety.next_scan = time.monotonic() + 60
        monkeypatch.setattr(archiver.safety, "_wait_for_turn", lambda watch: pytest.fail("it waits its turn"))
        status = archiver.status()
        assert not scans.is_set()
        assert not status.safe_to_stop
        go_on.set()


def test_a_status_is_answered_before_its_route_gives_up() -> None:
    assert safety.TURN_SECONDS + 5 <= safety.SCAN_SECONDS <= ROUTE_SECONDS["status"] - 1


def test_pushes_to_a_listener_cause_no_endless_scans(tmp_path: Path, root: Path) -> None:
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state") as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        (root / "a.png").write_bytes(b"a")
        wait_until(
            lambda: bool(pushed) and pushed[-1]["safe_to_stop"] and pushed[-1]["uploaded_files"] == 1, "safe"
        )
        run = engine.archiver().pipeline.watch
        assert run is not None

        def rests() -> bool:
            before, pushes = run.reconciler._begun, len(pushed)
            time.sleep(3.0)
            return run.reconciler._begun - before <= 1 and len(pushed) - pushes <= 1

        wait_until(rests, "three seconds with one scan and one push at most")


def test_a_push_reuses_a_scan_only_while_no_event_came(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan of 100,000 files takes a second, so pushes that no client requested must not scan each time."""
    monkeypatch.setattr(safety, "PUSH_SCAN_SECONDS", 60.0)
    with settled(root) as (archiver, run):
        run.reconciler.clean_until = time.monotonic() + 60  # as if that scan had been a slow one
        scans = run.reconciler._begun
        assert archiver.status(recent=True).safe_to_stop
        assert run.reconciler._begun == scans
        assert archiver.status().safe_to_stop
        assert run.reconciler._begun == scans + 1, "a client that asks gets its own scan"
        run.reconciler.clean_until = time.monotonic() + 60
        run.hint_count += 1
        assert archiver.status(recent=True).safe_to_stop
        assert run.reconciler._begun == scans + 2


def test_a_heartbeat_causes_no_scan_while_no_event_came(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "PUSH_SCAN_SECONDS", 60.0)
    with settled(root) as (archiver, run):
        run.reconciler.clean_until = 0.0
        scans = run.reconciler._begun
        assert archiver.status(heartbeat=True).safe_to_stop
        assert run.reconciler._begun == scans
        run.hint_count += 1
        assert archiver.status(heartbeat=True).safe_to_stop
        assert run.reconciler._begun == scans + 1


@contextmanager
def hanging_scan(run: DirectoryWatch, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a scan hang until the end of the block, as in the directory of a file server that does not answer."""
    inside, go_on = threading.Event(), threading.Event()
    real = walking.walk

    def hang(*args: Any, **how: Any) -> Any:
        inside.set()
        go_on.wait(60)
        return real(*args, **how)

    monkeypatch.setattr(reconcile, "walk", hang)
    run.reconciler.request()
    assert inside.wait(60)
    try:
        yield
    finally:
        go_on.set()


def test_without_events_a_heartbeat_is_not_safe_once_a_scan_is_overdue(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safety, "PUSH_SCAN_SECONDS", 0.1)
    with settled(root) as (archiver, run), hanging_scan(run, monkeypatch):
        monkeypatch.setattr(run.watcher, "_polling_reason", "tested")
        run.reconciler.ended_at = time.monotonic() + 60  # as if the last scan had just ended
        assert archiver.status(heartbeat=True).safe_to_stop
        run.reconciler.ended_at = time.monotonic() - 60
        assert not archiver.status(heartbeat=True).safe_to_stop


@pytest.mark.parametrize(("watch", "stopped"), [("poll", False), ("poll", True), ("native", False)])
def test_without_events_a_file_that_moves_during_the_scan_keeps_it_unsafe(
    root: Path, monkeypatch: pytest.MonkeyPatch, watch: str, stopped: bool
) -> None:
    """Native events come too late: watchdog holds them back for half a second after a file has left the tree."""
    monkeypatch.setattr(EventHandler, "dispatch", lambda self, event: None)
    monkeypatch.setattr(reconcile, "POLL_SECONDS", 3600.0)
    for folder in "abc":
        (root / folder).mkdir(parents=True)
        (root / folder / "unwanted.tmp").write_bytes(b"x")
    first, _, last = ((root / path).parent for path, _ in walking.walk(root))  # as the scan lists them

    def move_meanwhile(*arguments: Any, **options: Any) -> Iterator[Any]:
        files = walking.walk(*arguments, **options)
        yield from (next(files), next(files))
        (last / "new.png").rename(first / "new.png")
        yield from files

    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_WATCH=watch) as archiver:
        if watch == "native":
            wait_for_watches(archiver)
        assert archiver.flush(60)
        if stopped:
            archiver.pause()
        (last / "new.png").write_bytes(b"new")
        monkeypatch.setattr(unwatched if stopped else reconcile, "walk", move_meanwhile)
        assert not archiver.safety.safe_to_stop(60)
        assert (first / "new.png").exists()


def test_a_scan_that_does_not_end_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with settled(root) as (archiver, run):
        wait_until(lambda: archiver.status(scan=False).state is State.IDLE, "the store has answered")
        with hanging_scan(run, monkeypatch):
            run.reconciler.scan_began = time.monotonic() - 3600
            status = archiver.status(scan=False)
            assert status.state is State.RETRYING
            assert "has not ended after 1 h" in status.errors[-1]
        wait_until(lambda: archiver.status(scan=False).errors == (), "the scan has ended")


def test_a_scan_that_takes_longer_than_a_status_waits_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with settled(root) as (archiver, run):
        wait_until(lambda: archiver.status(scan=False).state is State.IDLE, "the store has answered")
        with hanging_scan(run, monkeypatch):
            monkeypatch.setattr(safety, "PUSH_SCAN_SECONDS", 0.1)
            run.hint_count += 1  # so that the last scan's result does not count
            status = archiver.status(recent=True)
            assert not status.safe_to_stop
            assert "`cloud-archive flush` waits" in status.errors[-1]
        assert archiver.flush(60)
        assert archiver.status(scan=False).errors == ()


def test_still_safe_holds_until_an_event_comes_and_never_while_none_can_come(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with settled(root) as (archiver, run):
        assert archiver.safety.still_safe()
        with monkeypatch.context() as patched:
            patched.setattr(run.watcher, "_polling_reason", "tested")
            assert not archiver.safety.still_safe()
        run.hint_count += 1
        assert not archiver.safety.still_safe()
        archiver.pause()
        assert not archiver.safety.still_safe()


def test_a_client_that_asks_again_and_again_waits_for_its_own_scan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that asks each second about 100,000 files would otherwise use a whole core."""
    with settled(root) as (archiver, run):
        scans: list[float] = []
        scan_now = run.reconciler.now

        def noted(seconds: float) -> int:
            scans.append(time.monotonic())
            return scan_now(seconds)

        monkeypatch.setattr(run.reconciler, "now", noted)
        archiver.safety.next_scan = turn = time.monotonic() + 0.3
        assert archiver.status().safe_to_stop, "it waits, and then it scans"
        assert len(scans) == 1
        assert scans[0] >= turn
        assert archiver.safety.next_scan > turn, "the cost of this scan delays the next one"
        archiver.safety.next_scan = time.monotonic() + 60
        with monkeypatch.context() as no_turn:
            no_turn.setattr(
                archiver.safety,
                "_wait_for_turn",
                lambda watch: pytest.fail("a flush does not wait for its turn"),
            )
            assert archiver.flush(60)
        archiver.safety.next_scan = time.monotonic() + 60
        (root / "new.png").write_bytes(b"new")
        wait_until(
            lambda: archiver.pipeline.has_work() or archiver.session.counters().uploaded == 1, "it is seen"
        )
        monkeypatch.setattr("cloud_archive.archive.safety.TURN_SECONDS", 0.2)
        wait_until(lambda: archiver.status().safe_to_stop, "it waits no longer than that")


@pytest.mark.parametrize(
    ("count", "size_bytes"), [(3, 10), (1, 2 * 1024 * 1024)], ids=["in a group", "by itself"]
)
def test_it_is_not_safe_to_stop_before_the_second_head(
    root: Path, monkeypatch: pytest.MonkeyPatch, count: int, size_bytes: int
) -> None:
    """If the store can't refuse overwrites, another writer may replace the object until then."""
    monkeypatch.setattr(uploader, "CONFIRM_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(workers, "GROUP_SECONDS", 60.0)
    store = MemoryStore(Capabilities(CreateOnly.IGNORED, CreateOnly.IGNORED, can_head=True))
    head_begun, go_on = threading.Event(), threading.Event()

    def hold(operation: str, key: str) -> None:
        if operation == "HeadObject" and key in store.objects:
            head_begun.set()
            go_on.wait(60)

    store.on_call = hold
    with archiving(root, store, start=False, CLOUD_ARCHIVE_WORKERS="1") as archiver:
        for number in range(count):
            added(archiver.ledger, root, f"{number}.png", b"a" * size_bytes)
        archiver.start()
        try:
            assert head_begun.wait(60)
            status = archiver.status()
            assert len(store.bodies()) == count
            assert (status.safe_to_stop, status.uploaded_files, status.pending_files) == (False, 0, count)
            assert not archiver.flush(0.2)
        finally:
            go_on.set()
        assert archiver.flush(60)
        status = archiver.status()
        assert (status.safe_to_stop, status.uploaded_files, status.pending_files) == (True, count, 0)


def test_what_was_safe_before_older_files_were_asked_for_is_forgotten(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with settled(root) as (archiver, watch):
        assert archiver.safety.still_safe()
        monkeypatch.setattr(watch.reconciler, "request", lambda: None)  # its scan has not begun yet
        archiver.archive_baseline()
        assert not archiver.safety.still_safe()
