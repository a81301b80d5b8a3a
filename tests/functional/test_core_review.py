"""What a review of the core found: each test is one way in which a promise was broken."""

from __future__ import annotations

import errno
import gc
import itertools
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import engine as engine_module
from cloud_archive.archive import pipeline as stages_module
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.engine import Engine
from cloud_archive.archive.events import Event, UploadFailed
from cloud_archive.archive.gate import Gate
from cloud_archive.archive.reconcile import Reconciler
from cloud_archive.archive.workers import WorkerPool
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import LedgerError, StoreError
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.intake.selection import Selection
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.recovery import open_ledger
from cloud_archive.ledger.rows import Claim, FileState
from cloud_archive.state import LEDGER_NAME, DirectoryLock
from cloud_archive.store.failures import explain
from cloud_archive.upload.attempt import Uploader
from cloud_archive.upload.source import MEBIBYTE, Job
from tests.functional.archives import ENVIRON, archiving, engine_on, until
from tests.memory_store import MemoryStore, StoredObject

AWAY = StoreError("PutObject", "k", explain("ConnectionRefused"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    yield ledger
    ledger.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "output"
    root.mkdir()
    return root


def added(ledger: Ledger, root: Path, name: str, body: bytes) -> FileVersion:
    """A file that is complete and pending."""
    (root / name).write_bytes(body)
    version = stat_version(root, name)
    assert ledger.add([version]) == 1
    return version


# --- counting


def test_a_file_counts_once_while_it_goes_into_the_ledger(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was counted in the queue and in the ledger between its commit and the next step of the thread behind it."""
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
    monkeypatch.setattr(stages_module, "LONGEST_COMMIT_SECONDS", 30.0)
    with archiving(root, store, ledger=ledger) as archiver:
        (root / "a.bin").write_bytes(b"123")
        assert committed.wait(15)
        status = archiver.status()
        assert (status.pending_files, status.pending_bytes, status.total_files) == (1, 3, 1)
        assert archiver.gauges().settling_files == 0


def test_a_ledger_that_hangs_holds_up_no_status_and_what_goes_into_it_counts(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    add = ledger.add

    def hanging_add(versions: Iterable[FileVersion], *, priority: int = 0) -> int:
        hangs.set()
        assert goes_on.wait(30)
        return add(versions, priority=priority)

    monkeypatch.setattr(ledger, "add", hanging_add)
    monkeypatch.setattr(stages_module, "LONGEST_COMMIT_SECONDS", 0.01)
    with archiving(root, MemoryStore(), ledger=ledger) as archiver:
        (root / "a.bin").write_bytes(b"123")
        assert hangs.wait(15)
        status = archiver.status()
        goes_on.set()
        assert (status.pending_files, status.pending_bytes, status.safe_to_stop) == (1, 3, False)


# --- workers and gate


class CountingLedger(Ledger):
    """Counts how often somebody asks for work."""

    asked = 0

    def claim(self, claimant: str, *, oldest: bool = False) -> Any:
        self.asked += 1
        return super().claim(claimant, oldest=oldest)

    def claim_several(self, claimant: str, **how: int) -> list[Claim]:
        self.asked += 1
        return super().claim_several(claimant, **how)


def pool_on(
    ledger: Ledger, root: Path, store: MemoryStore, count: int = 2, gate: Gate | None = None
) -> WorkerPool:
    return WorkerPool(
        ledger,
        lambda parts: Uploader(
            store,
            make_key=lambda path: path,
            session_id="s",
            parts=parts,
            on_aborted=ledger.forget_abandoned,
        ),
        root,
        count=count,
        name="session",
        gate=gate,
    )


def test_workers_rest_when_there_is_nothing_to_do_after_the_store_asked_for_fewer_requests(
    tmp_path: Path, root: Path
) -> None:
    ledger = CountingLedger(tmp_path / "ledger.sqlite3")
    ledger.open()
    gate = Gate(4)
    gate.refused(explain("SlowDown"), 0.0)
    gate.passed()
    assert gate.narrowed
    pool = pool_on(ledger, root, MemoryStore(), 4, gate)
    pool.start()
    try:
        time.sleep(0.5)
        assert ledger.asked < 20
    finally:
        pool.stop(5)
        ledger.close()


def test_a_long_upload_under_way_does_not_keep_the_closed_gate_from_trying() -> None:
    gate = Gate(8, jitter=lambda: 1.0)
    entered: list[float | None] = []
    long_one = threading.Thread(target=lambda: entered.append(gate.enter(0)))
    long_one.start()
    long_one.join()
    assert gate.enter(0) is None
    gate.refused(explain("ConnectionRefused"), 0)
    gate.leave()
    assert gate.enter(1) is None, "the one that is still inside is no trial"
    assert gate.enter(1) is not None, "one trial at a time"


def test_a_claim_whose_end_could_not_be_committed_is_taken_up_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    real = ledger.mark_all_archived
    failures = iter([True])

    def locked_once(*args: Any, **how: Any) -> None:
        if next(failures, False):
            raise LedgerError("locked by another program")
        real(*args, **how)

    monkeypatch.setattr(ledger, "mark_all_archived", locked_once)
    added(ledger, root, "a.png", b"a")
    pool = pool_on(ledger, root, store)
    pool.start()
    try:
        until(lambda: ledger.totals().archived.files == 1, "archived at the second try", 10)
        until(lambda: pool.ledger_trouble is None, "the trouble is over", 10)
    finally:
        pool.stop(5)
    assert store.bodies() == {"a.png": b"a"}


def test_a_version_that_a_newer_row_has_overtaken_does_not_wait_for_ever(root: Path) -> None:
    """The file is overwritten while a part of its older version is sent; the newer one has a row by then."""
    store = MemoryStore()
    with archiving(root, store) as archiver:
        until(lambda: archiver._run is not None and archiver._run.reconciler.first_done, "first scan")
        (root / "film.bin").write_bytes(b"A" * (9 * MEBIBYTE))

        def overwrite(operation: str, key: str) -> None:
            if operation == "CreateMultipartUpload":
                store.on_call = lambda operation, key: None
                (root / "film.bin").write_bytes(b"new")
                until(lambda: archiver.ledger.find(stat_version(root, "film.bin")) is not None, "its row")

        store.on_call = overwrite
        assert archiver.flush(20), archiver.ledger.rows()
    assert store.bodies() == {"out/film.bin": b"new"}


def test_a_pending_version_whose_file_went_back_to_an_archived_one_does_not_wait_for_ever(root: Path) -> None:
    store = MemoryStore()
    with archiving(root, store, start=False) as archiver:
        archiver.start()
        (root / "a.png").write_bytes(b"one")
        assert archiver.flush(10)
        archiver.stop(5)
        before = (root / "a.png").stat()
        added(archiver.ledger, root, "a.png", b"two!")
        (root / "a.png").write_bytes(b"one")
        os.utime(root / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
        archiver.start()
        assert archiver.flush(15), archiver.ledger.rows()


def test_a_pending_version_whose_file_is_empty_now_is_counted_as_gone(root: Path) -> None:
    with archiving(root, MemoryStore(), start=False) as archiver:
        added(archiver.ledger, root, "a.png", b"one")
        (root / "a.png").write_bytes(b"")
        archiver.start()
        assert archiver.flush(15), archiver.ledger.rows()
        assert archiver.status().vanished_files == 1


def test_what_failed_uploads_held_in_memory_is_let_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback keeps its frames, and those keep a body of up to 8 MiB each."""
    monkeypatch.setattr(
        logging.getLogger("cloud_archive.archiver"), "disabled", True
    )  # pytest keeps all records
    store = MemoryStore()
    held: list[weakref.ref[Any]] = []

    class Refusal(StoreError):
        pass

    def refuse(operation: str, key: str) -> None:
        if operation == "PutObject":
            error = Refusal("PutObject", key, explain("EntityTooLarge"))
            held.append(weakref.ref(error))
            raise error

    store.on_call = refuse
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all") as archiver:
        for number in range(5):
            (root / f"{number}.png").write_bytes(b"x")
        until(lambda: archiver.status(look=False).failed_files == 5, "all failed")
        submission = archiver.submit("0.png", 5)
        assert isinstance(submission.error, Refusal)
        del submission
        gc.collect()
        assert [ref() for ref in held if ref() is not None] == []


def test_uploads_cut_off_by_stop_are_pending_and_not_failed(root: Path, ledger: Ledger) -> None:
    store = MemoryStore()
    go_on = threading.Event()
    inside = threading.Event()

    def hang(operation: str, key: str) -> None:
        if operation == "UploadPart":
            inside.set()
            go_on.wait(20)

    store.on_call = hang
    added(ledger, root, "film.bin", os.urandom(40 * MEBIBYTE))
    pool = pool_on(ledger, root, store, 1)
    pool.start()
    assert inside.wait(10)
    assert not pool.stop(0.2)
    go_on.set()
    until(lambda: ledger.totals().uploading.files == 0, "the thread has let go")
    assert ledger.totals().pending.files == 1
    assert not [t for t in threading.enumerate() if "part" in t.name and not t.daemon], (
        "would hold up the exit"
    )


# --- ledger


def test_an_unexpected_error_of_the_writer_thread_reaches_the_caller_and_ends_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloud_archive.ledger.database as module

    real = module._commit
    calls = iter([True])

    def breaks_once(*args: Any) -> None:
        if next(calls, False):
            raise MemoryError
        real(*args)

    monkeypatch.setattr(module, "_commit", breaks_once)
    with ThreadPoolExecutor(1) as executor, pytest.raises(LedgerError):
        executor.submit(ledger.remember, "a", "b").result(5)
    ledger.remember("c", "d")
    assert ledger.recall("c") == "d"


def test_a_full_disk_is_named(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("PRAGMA max_page_count=30") and None)
    with pytest.raises(LedgerError, match="disk is full"):
        ledger.add([FileVersion("x" * 200 + str(n), 1, n) for n in range(5000)])


def test_totals_are_of_one_moment(ledger: Ledger) -> None:
    """A status never shows a negative number of failed files."""
    ledger.add([FileVersion("a", 1, 1)])
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            claim = ledger.claim("x")
            if claim is not None:
                ledger.mark_failed(claim, code="c", cause="", cure="", next_try=1e12)
            ledger.retry_failed()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5000):
            totals = ledger.totals()
            assert totals.failed.files - totals.waiting.files == 0
            assert totals.open.files == 1
    finally:
        stop.set()
        thread.join()


def test_a_held_version_is_not_held_longer_by_a_clock_that_is_set_back(tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    ledger = Ledger(tmp_path / "l.sqlite3", clock=lambda: now[0])
    ledger.open()
    ledger.add([FileVersion("a", 1, 1)])
    claim = ledger.claim("x")
    assert claim is not None
    ledger.release(claim, hold_seconds=2)
    assert ledger.claim("x") is None
    now[0] -= 86400
    assert ledger.claim("x") is not None
    ledger.close()


def test_two_processes_that_make_the_ledger_at_once_both_have_it(tmp_path: Path) -> None:
    import cloud_archive.ledger.database as module

    path = tmp_path / "ledger.sqlite3"
    first, second = Ledger(path), Ledger(path)
    connection = second.connect()

    class Late:
        """Its answer about the version is older than what the other one made of it."""

        def __init__(self) -> None:
            self.told = False

        def execute(self, sql: str, *rest: Any) -> Any:
            found = connection.execute(sql, *rest)
            if sql == "PRAGMA user_version" and not self.told:
                self.told = True
                old = found.fetchone()
                first.open()
                return Answer(old)
            return found

    class Answer:
        def __init__(self, row: Any) -> None:
            self.row = row

        def fetchone(self) -> Any:
            return self.row

    late: Any = Late()
    module._prepare(late, path)
    connection.close()
    first.close()


def test_open_rows_are_found_without_reading_all_archived_ones(ledger: Ledger) -> None:
    seen: list[str] = []
    assert ledger._reader is not None
    ledger._reader.set_trace_callback(seen.append)
    ledger.rows(states=(FileState.FAILED,), limit=40)
    ledger._reader.set_trace_callback(None)
    plan = [row[3] for row in ledger.read("EXPLAIN QUERY PLAN " + seen[0])]
    assert not any(step == "SCAN files" for step in plan), plan


def test_a_version_is_not_taken_while_another_one_of_the_same_file_is_uploaded(ledger: Ledger) -> None:
    """Without renaming both would go to one key, and the older one could come last."""
    ledger.add([FileVersion("a", 1, 1)])
    assert ledger.claim("x") is not None
    newer = FileVersion("a", 2, 2)
    ledger.add([newer])
    assert ledger.claim_version("y", newer) is None


def test_a_date_that_the_ledger_cannot_hold_holds_up_nobody(root: Path) -> None:
    store = MemoryStore()
    (root / "far.png").write_bytes(b"far")
    try:
        os.utime(root / "far.png", ns=(0, 1 << 63))
    except (OSError, OverflowError):
        pytest.skip("this filesystem knows no such date")
    if (root / "far.png").stat().st_mtime_ns < 1 << 63:
        pytest.skip("this filesystem knows no such date")
    (root / "near.png").write_bytes(b"near")
    with archiving(root, store, CLOUD_ARCHIVE_BACKFILL="all") as archiver:
        assert archiver.flush(10)
    assert store.bodies() == {"out/far.png": b"far", "out/near.png": b"near"}


# --- the ledger that cannot be opened


def test_without_a_usable_ledger_what_it_had_pending_is_not_forgotten(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at start: files that were pending must not count as old ones."""
    state = tmp_path / "state"
    state.mkdir()
    before = Ledger(state / LEDGER_NAME)
    before.open()
    before.remember("first_start", "1.0")
    added(before, root, "waits.png", b"waits")
    (root / "old.png").write_bytes(b"old")
    before.add_to_baseline([stat_version(root, "old.png").fingerprint])
    before.close()

    import cloud_archive.ledger.database as module

    real = module._prepare

    def full(connection: sqlite3.Connection, path: Path | None) -> None:
        if path is not None:
            raise LedgerError("cannot be written: the disk is full.")
        real(connection, path)

    monkeypatch.setattr(module, "_prepare", full)
    store = MemoryStore()
    ledger, notices, everything = open_ledger(state)
    assert notices
    assert not everything
    time.sleep(0.01)
    with archiving(root, store, ledger=ledger) as archiver:
        assert archiver.flush(10)
    assert store.bodies() == {"out/waits.png": b"waits"}


# --- reconcile


def test_a_first_start_that_was_interrupted_makes_no_baseline_of_what_came_meanwhile(
    tmp_path: Path, root: Path
) -> None:
    """Killed at once: not even its first scan has begun."""
    (root / "old.png").write_bytes(b"old")
    os.utime(root / "old.png", (1e9, 1e9))
    time.sleep(0.1)  # a change time can't be set
    began = time.time()
    state = tmp_path / "state"
    state.mkdir()
    killed, _, _ = open_ledger(state, began=began)
    killed.close()
    (root / "meanwhile.png").write_bytes(b"meanwhile")
    (root / "moved in.png").write_bytes(b"moved in")
    os.utime(root / "moved in.png", (1e9, 1e9))
    second, _, _ = open_ledger(state, began=time.time() + 100)
    hinted: list[str] = []
    try:
        Reconciler(
            root,
            second,
            Selection(),
            on_new=hinted.append,
            on_doubts=lambda doubts: None,
            on_done=lambda: None,
            backfill="missed",
            interval_seconds=0,
            polling=lambda: False,
            started_at=time.time() + 100,
        )._scan({})
    finally:
        second.close()
    assert sorted(hinted) == ["meanwhile.png", "moved in.png"]


def test_a_scan_that_fails_in_an_unexpected_way_is_reported_and_made_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    reconciler = Reconciler(
        root,
        ledger,
        Selection(),
        on_new=lambda path: None,
        on_doubts=lambda doubts: None,
        on_done=done.set,
        backfill="missed",
        interval_seconds=0,
        polling=lambda: False,
        started_at=0,
    )
    real = Path.is_dir
    stale = iter([True])

    def is_dir(self: Path, **how: Any) -> bool:
        if self == root and next(stale, False):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(self, **how)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    thread = threading.Thread(target=reconciler.run)
    thread.start()
    try:
        assert done.wait(5)
        assert any("Stale" in trouble for trouble in reconciler.troubles)
        reconciler.now(5)
        assert reconciler.first_done
        assert not reconciler.troubles
    finally:
        reconciler.stop()
        thread.join()


def test_a_ledger_that_is_locked_when_a_file_is_complete_costs_no_rescan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    with archiving(root, store, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as archiver:
        until(lambda: archiver._run is not None and archiver._run.reconciler.first_done, "first scan")
        real = archiver.ledger.add
        failures = iter([True])

        def locked_once(*args: Any, **how: Any) -> int:
            if next(failures, False):
                raise LedgerError("locked by another program")
            return real(*args, **how)

        monkeypatch.setattr(archiver.ledger, "add", locked_once)
        (root / "a.png").write_bytes(b"a")
        until(lambda: bool(store.bodies()), "archived without anybody asking", 10)
        until(lambda: archiver.status(look=False).errors == (), "the trouble is over", 5)


# --- status


def test_nobody_scans_again_and_again_only_because_somebody_listens(tmp_path: Path, root: Path) -> None:
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state") as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        (root / "a.png").write_bytes(b"a")
        until(
            lambda: bool(pushed) and pushed[-1]["safe_to_stop"] and pushed[-1]["uploaded_files"] == 1, "safe"
        )
        time.sleep(1.0)
        run = engine.archiver()._run
        assert run is not None
        before, pushes = run.reconciler._begun, len(pushed)
        time.sleep(3.0)
        assert run.reconciler._begun - before <= 1
        assert len(pushed) - pushes <= 1


def test_listeners_hear_that_a_file_that_never_settled_is_gone(tmp_path: Path, root: Path) -> None:
    with engine_on(root, MemoryStore(), tmp_path / "state", CLOUD_ARCHIVE_SETTLE_SECONDS="1") as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        until(lambda: bool(pushed) and pushed[-1]["safe_to_stop"], "safe")
        with (root / "a.png").open("wb") as file:
            file.write(b"a")
            file.flush()
            until(lambda: not pushed[-1]["safe_to_stop"], "it waits")
            (root / "a.png").unlink()
        until(lambda: bool(pushed[-1]["safe_to_stop"]), "safe again", 8)


def test_a_status_does_not_wait_for_the_first_scan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud_archive.archive import reconcile as module
    from cloud_archive.intake import walk as walking

    go_on = threading.Event()
    real = walking.walk

    def slow(*args: Any, **how: Any) -> Any:
        go_on.wait(10)
        return real(*args, **how)

    monkeypatch.setattr(module, "walk", slow)
    with archiving(root, MemoryStore()) as archiver:
        began = time.monotonic()
        status = archiver.status()
        assert time.monotonic() - began < 1
        assert not status.safe_to_stop
        go_on.set()


# --- locks


def test_the_lock_is_let_go_by_whichever_thread_closes(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path, tmp_path, machine_wide=False)
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    lock.release()
    again = DirectoryLock(tmp_path, tmp_path, machine_wide=False)
    assert again.acquire()
    again.release()


def test_a_lock_that_cannot_be_made_is_no_other_engine(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state directory on a read-only disk: archive without it, rather than stand by for nobody."""
    from filelock import FileLock

    def refuse(self: Any, *args: Any, **how: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state") as engine:
        status = engine.status(look=False)
        assert status.state.value != "standby"
        assert any("No lock could be made" in error for error in status.errors)


def test_an_engine_that_cannot_begin_keeps_no_other_from_it(tmp_path: Path, root: Path) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("Invalid endpoint")

    state = tmp_path / "state"
    engine = Engine(root, state_base=state, environ=ENVIRON, make_store=broken, machine_wide=False)
    engine.start(autostart=True)
    try:
        with engine_on(root, MemoryStore(), state) as other:
            until(lambda: other.status(look=False).state.value == "idle", "the other one archives")
            assert engine.status().state.value == "unavailable"
    finally:
        engine.close(1)


def test_a_standby_outlives_a_fault_that_passes(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, store = tmp_path / "state", MemoryStore()
    failed = threading.Event()
    real = open_ledger

    def failing(*arguments: Any, **named: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **named)

    with engine_on(root, MemoryStore(), state) as first:
        until(lambda: first.status(look=False).state.value == "idle", "it archives")
        with engine_on(root, store, state) as standby:
            assert standby.status().state.value == "standby"
            monkeypatch.setattr(engine_module, "open_ledger", failing)
            first.close(5)
            assert failed.wait(10)
            until(lambda: standby.status(look=False).running, "it takes over after all")
            assert standby.problems == ()
            (root / "after.bin").write_bytes(b"after")
            assert standby.flush(20)
    assert store.bodies() == {"out/after.bin": b"after"}


@pytest.mark.parametrize("fault", ["ledger", "root"])
def test_a_fault_at_the_start_that_passes_costs_time_only(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    store = MemoryStore()
    real = open_ledger

    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    if fault == "ledger":
        monkeypatch.setattr(engine_module, "open_ledger", failing)
    engine = Engine(
        root,
        state_base=tmp_path / "state",
        environ=ENVIRON,
        make_store=lambda *_, **__: store,
        machine_wide=False,
    )
    if fault == "root":
        root.rmdir()
    engine.start(autostart=True)
    try:
        assert not engine.status().running
        assert engine.status().errors
        if fault == "ledger":
            monkeypatch.setattr(engine_module, "open_ledger", real)
        else:
            root.mkdir()
        until(lambda: engine.status(look=False).running and engine.problems == (), "it begins")
    finally:
        engine.close(5)


def test_an_engine_that_cannot_begin_for_an_unexpected_reason_says_so(tmp_path: Path, root: Path) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("Invalid endpoint")

    engine = Engine(
        root, state_base=tmp_path / "state", environ=ENVIRON, make_store=broken, machine_wide=False
    )
    engine.start(autostart=True)
    try:
        status = engine.status()
        assert status.state.value == "unavailable"
        assert status.errors
    finally:
        engine.close(1)


# --- upload


class NoJournal:
    """Remembers the multipart uploads that were noted."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.sha256: str | None = None
        self.upload_id: str | None = None
        self.part_size_bytes: int | None = None

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        if (self.key, self.sha256) != (key, sha256):
            self.upload_id = None
        self.key, self.sha256 = key, sha256

    def abandon(self, key: str, upload_id: str) -> None: ...

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        self.upload_id, self.part_size_bytes = upload_id, part_size_bytes


def test_a_multipart_upload_under_a_conflict_name_goes_on_where_it_was(root: Path) -> None:
    store, journal = MemoryStore(), NoJournal()
    body = os.urandom(20 * MEBIBYTE)
    (root / "film.bin").write_bytes(body)
    version = stat_version(root, "film.bin")
    store.objects["film.bin"] = StoredObject(b"theirs", {"sha256": "0" * 64})
    uploader = Uploader(store, make_key=lambda path: path, session_id="s")

    def fail_late(operation: str, key: str) -> None:
        if operation == "CompleteMultipartUpload":
            raise StoreError(operation, key, explain("ConnectionClosed"))

    store.on_call = fail_late
    with pytest.raises(StoreError):
        uploader.upload(Job(root, version, "t"), journal, lambda sent: None)
    assert journal.key == "film (1).bin"
    store.on_call = lambda operation, key: None
    store.calls.clear()
    job = Job(
        root,
        version,
        "t",
        "film.bin",
        journal.key,
        journal.sha256,
        journal.upload_id,
        journal.part_size_bytes,
    )
    outcome = uploader.upload(job, journal, lambda sent: None)
    assert outcome.key == "film (1).bin"
    assert [name for name, _ in store.calls].count("UploadPart") == 0
    assert store.objects["film (1).bin"].body == body


def test_an_upload_that_lost_a_race_for_its_conflict_name_is_aborted_under_that_name(root: Path) -> None:
    store, journal = MemoryStore(), NoJournal()
    (root / "film.bin").write_bytes(os.urandom(9 * MEBIBYTE))
    version = stat_version(root, "film.bin")

    def race(operation: str, key: str) -> None:
        if operation == "CompleteMultipartUpload" and key == "film.bin":
            store.on_call = lambda operation, key: None
            store._write("PutObject", "film.bin", b"theirs", {}, create_only=False)

    store.on_call = race
    # An earlier attempt was made at another key, with other bytes.
    job = Job(root, version, "t", "film.bin", "film (7).bin", "0" * 64, None, None)
    outcome = Uploader(store, make_key=lambda path: path, session_id="s").upload(
        job, journal, lambda sent: None
    )
    assert outcome.key == "film (1).bin"
    assert store.uploads == {}


def test_a_push_reuses_a_look_only_while_no_event_came(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at 100,000 files takes a second; a push that nobody asked for may not make one each time."""
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(10)
        run = archiver._run
        assert run is not None
        assert not run.watcher.polling
        run.reconciler.clean_until = time.monotonic() + 60  # as if that look had been a slow one
        looks = run.reconciler._begun
        assert archiver.status(recent=True).safe_to_stop
        assert run.reconciler._begun == looks
        assert archiver.status().safe_to_stop
        assert run.reconciler._begun == looks + 1, "whoever asks gets a look of their own"
        run.reconciler.clean_until = time.monotonic() + 60
        run.news += 1
        assert archiver.status(recent=True).safe_to_stop
        assert run.reconciler._begun == looks + 2


def test_a_heartbeat_makes_no_look_of_its_own_while_no_event_came(root: Path) -> None:
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(10)
        run = archiver._run
        assert run is not None
        run.reconciler.clean_until = 0.0
        looks = run.reconciler._begun
        assert archiver.status(heartbeat=True).safe_to_stop
        assert run.reconciler._begun == looks
        run.news += 1
        assert archiver.status(heartbeat=True).safe_to_stop
        assert run.reconciler._begun == looks + 1


def test_who_asks_again_and_again_waits_for_a_look_of_its_own_and_no_look_follows_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polled each second, 100,000 files would cost a whole core."""
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(10)
        run = archiver._run
        assert run is not None
        looks: list[float] = []
        look = run.reconciler.now

        def noted(seconds: float) -> int:
            looks.append(time.monotonic())
            return look(seconds)

        monkeypatch.setattr(run.reconciler, "now", noted)
        archiver._next_look = turn = time.monotonic() + 0.3
        assert archiver.status().safe_to_stop, "it waits, and then it looks"
        assert len(looks) == 1
        assert looks[0] >= turn
        assert archiver._next_look > looks[0], "what this look took counts for the next one"
        archiver._next_look = time.monotonic() + 60
        with monkeypatch.context() as no_turn:
            no_turn.setattr(archiver, "_comes_to_turn", lambda run: pytest.fail("a flush waits for no turn"))
            assert archiver.flush(10)
        archiver._next_look = time.monotonic() + 60
        (root / "new.png").write_bytes(b"new")
        until(lambda: archiver._something_waits() or archiver.session.counters().uploaded == 1, "it is seen")
        monkeypatch.setattr("cloud_archive.archive.archive.LOOK_TURN_SECONDS", 0.2)
        until(lambda: archiver.status().safe_to_stop, "it is never longer than that")


@pytest.mark.skipif(os.name == "nt", reason="such names exist on POSIX only")
def test_a_failure_of_a_file_whose_name_is_no_utf8_is_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_archive.errors import FileUnreadable
    from cloud_archive.upload import attempt as module

    def refuse(source: Any, job: Job) -> Any:
        raise FileUnreadable(job.version.path, "Input/output error")

    monkeypatch.setattr(module, "read_content", refuse)
    name = os.fsdecode(b"no\xffutf8.png")
    (root / name).write_bytes(b"x")
    with archiving(root, MemoryStore(), start=False) as archiver:
        submission = archiver.submit(name, 5)
        assert submission.row is not None
        assert submission.row.state is FileState.FAILED
        assert any("cannot be read" in error for error in archiver.status().errors)


def test_a_claim_is_not_kept_by_an_observer_that_fails(root: Path, ledger: Ledger) -> None:
    def broken_listener(event: Event) -> None:
        if isinstance(event, UploadFailed):
            raise ValueError("a listener's bug")

    store = MemoryStore()
    pool = pool_on(ledger, root, store)
    pool._uploads._on_event = broken_listener
    added(ledger, root, "a.png", b"a")
    claim = ledger.claim("x")
    assert claim is not None

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    ledger_mark, ledger.mark_failed = ledger.mark_failed, broken  # type: ignore[method-assign]
    store.on_call = broken
    with pytest.raises(ValueError, match="a bug"):
        pool.upload(claim)
    ledger.mark_failed = ledger_mark  # type: ignore[method-assign]
    assert ledger.claim("x") is not None


def test_stop_waits_for_an_upload_that_was_asked_for(root: Path) -> None:
    store = MemoryStore()
    inside, go_on = threading.Event(), threading.Event()

    def slow(operation: str, key: str) -> None:
        inside.set()
        go_on.wait(10)

    store.on_call = slow
    (root / "a.png").write_bytes(b"a")
    with archiving(root, store, start=False) as archiver:
        asking = threading.Thread(target=archiver.submit, args=("a.png", 10))
        asking.start()
        assert inside.wait(5)
        threading.Timer(0.5, go_on.set).start()
        assert archiver.stop(5) == []
        asking.join()
    assert store.bodies() == {"out/a.png": b"a"}


def test_an_abort_that_failed_is_made_up_for_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is gone while its multipart upload waits, and the store fails the first abort."""
    store = MemoryStore()
    ledger = Ledger(None)
    ledger.open()
    (root / "a.mp4").write_bytes(b"x")
    version = stat_version(root, "a.mp4")
    ledger.add([version])
    claim = ledger.claim("me")
    assert claim is not None
    upload_id = store.create_multipart("k", content_type="video/mp4", metadata={})
    ledger.record_attempt(claim, sha256="ab" * 32, base_key="k", key="k")
    ledger.record_multipart(claim, upload_id, 8 << 20)
    ledger.release_all(retry_failed=True)
    (root / "a.mp4").unlink()
    fails = iter([True])
    abort = store.abort_multipart

    def abort_later(key: str, name: str) -> None:
        if next(fails, False):
            raise StoreError("AbortMultipartUpload", key, explain("InternalError"), status=500)
        abort(key, name)

    monkeypatch.setattr(store, "abort_multipart", abort_later)
    pool = pool_on(ledger, root, store, count=1)
    again = ledger.claim("me")
    assert again is not None
    pool.upload(again)
    assert ledger.abandoned() == [("k", upload_id)]
    pool.start()
    until(lambda: not ledger.abandoned(), "it is aborted")
    pool.stop(5)
    assert not store.uploads
    ledger.close()


def test_aborts_are_made_up_for_although_there_is_always_something_to_upload(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.workers.ABORT_SECONDS", 0.05)
    store, numbers = MemoryStore(), itertools.count()
    over = threading.Event()

    def bring(*_: str) -> None:
        """The next file is there before this one is."""
        if not over.is_set():
            path = f"{next(numbers)}.png"
            (root / path).write_bytes(path.encode())
            ledger.add([stat_version(root, path)])

    bring()
    claim = ledger.claim("me")
    assert claim is not None
    upload_id = store.create_multipart("k", content_type="video/mp4", metadata={})
    ledger.abandon_multipart(claim, "k", upload_id)
    ledger.release_all(retry_failed=True)
    store.on_call = lambda operation, key: bring() if operation == "PutObject" else None
    pool = pool_on(ledger, root, store, count=1)
    pool.start()
    until(lambda: not ledger.abandoned(), "it is aborted")
    over.set()
    pool.stop(5)
    assert not store.uploads


def test_a_file_that_nobody_looked_at_yet_holds_the_drain(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came a moment before SIGTERM: its size is not known yet, and that does not make it empty."""
    monkeypatch.setattr("cloud_archive.intake.settle_queue.SettleQueue.poll", lambda self, now: None)
    settings = load_settings({"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b", "S3_BUCKET": "c-c"})
    archiver = Archiver(settings, root, ledger, MemoryStore(), session_id="s")
    archiver.start()
    try:
        (root / "a.png").write_bytes(b"a")
        archiver.rescan(10)
        assert not archiver.drain(0.3)
    finally:
        archiver.stop(5)
