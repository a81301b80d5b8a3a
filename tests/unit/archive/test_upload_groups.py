"""Groups of small files: fewer commits, and the same guarantees as for single files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import workers
from cloud_archive.archive.events import Event, FileArchived, FileGone
from cloud_archive.archive.gate import Gate
from cloud_archive.archive.upload_groups import GROUP_FILES, MIN_GROUP_BYTES, group_bytes
from cloud_archive.archive.workers import WorkerPool
from cloud_archive.errors import LedgerError, StoreError
from cloud_archive.files import stat_version
from cloud_archive.ledger.deletions import begin_deletions, forget_deletions
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.store.evidence import Proof
from cloud_archive.store.failures import explain
from cloud_archive.upload.memory import BUDGET_BYTES
from cloud_archive.upload.outcome import Outcome
from cloud_archive.upload.source import SINGLE_PUT_BYTES
from cloud_archive.upload.uploader import Uploader
from tests.memory_store import MemoryStore
from tests.servers import wait_until


class Reports:
    """The events that the pool reported, in order."""

    def __init__(self) -> None:
        self.archived: list[str] = []
        self.vanished: list[str] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, FileArchived):
            self.archived.append(event.claim.version.path)
        elif isinstance(event, FileGone):
            self.vanished.append(event.claim.version.path)


def fill(ledger: Ledger, root: Path, count: int, *, priority: int = 1, name: str = "old") -> dict[str, bytes]:
    """`count` small files, pending."""
    bodies = {f"{name}{n:03}.png": os.urandom(100 + n) for n in range(count)}
    for path, body in bodies.items():
        (root / path).write_bytes(body)
    ledger.add([stat_version(root, path) for path in bodies], priority=priority)
    return bodies


def pool_on(
    ledger: Ledger,
    root: Path,
    store: MemoryStore,
    reports: Reports,
    count: int = 1,
    gate: Gate | None = None,
    clock: Callable[[], float] = time.monotonic,
    elsewhere: Callable[[str, int], list[str]] = lambda path, size_bytes: [],
) -> WorkerPool:
    def uploader(parts: Any) -> Uploader:
        return Uploader(
            store,
            root,
            make_key=lambda path: path,
            session_id="s",
            part_executor=parts,
            elsewhere=elsewhere,
        )

    return WorkerPool(
        ledger, uploader, root, count=count, name="me", on_event=reports.on_event, gate=gate, clock=clock
    )


def all_archived(ledger: Ledger, count: int) -> Callable[[], bool]:
    return lambda: ledger.totals().archived.files == count


def test_a_group_has_one_commit_for_each_step(
    ledger: Ledger, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GROUP_SECONDS", 60.0)
    bodies = fill(ledger, root, 64)
    store, reports = MemoryStore(), Reports()
    commits: list[bool] = []
    change = ledger.change

    def counted(work: Callable[[Any], Any], *, durable: bool = True) -> Any:
        commits.append(durable)
        return change(work, durable=durable)

    monkeypatch.setattr(ledger, "change", counted)
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    wait_until(lambda: len(reports.archived) == 64, "all are archived")
    pool.stop(60)
    assert store.bodies() == bodies
    # Three for a group, and every fourth claim takes the oldest alone.
    assert len(commits) <= 3 * (64 // GROUP_FILES + 4)
    assert sum(commits) <= 2 * (64 // GROUP_FILES + 4), "claims wait for no fsync"
    assert len(reports.archived) == len(set(reports.archived))


@pytest.mark.parametrize("workers", range(1, 65))
def test_the_groups_of_all_workers_fit_into_memory_together(workers: int) -> None:
    size = group_bytes(workers)
    assert size == MIN_GROUP_BYTES or MIN_GROUP_BYTES < size * workers <= BUDGET_BYTES
    assert size < SINGLE_PUT_BYTES, "or a file that is uploaded in parts could be in a group"


def test_a_group_has_no_more_files_than_arrive_in_time(ledger: Ledger, root: Path) -> None:
    bodies = fill(ledger, root, 200)
    store, now = MemoryStore(), [0.0]
    pool = pool_on(ledger, root, store, Reports(), clock=lambda: now[0])
    sizes = []

    def upload_groups(count: int, seconds: float) -> None:
        def take(operation: str, key: str) -> None:
            now[0] += seconds

        store.on_call = take
        for _ in range(count):
            claims = pool.claim("me", oldest=False)
            sizes.append(len(claims))
            pool.upload_several(claims)

    upload_groups(3, 0.125)
    assert sizes == [32, 9, 9], "the ninth begins after one second"
    assert ledger.totals().archived.files == 27
    upload_groups(2, 2.0)
    assert sizes[3:] == [9, 2]
    upload_groups(6, 0.0)
    assert sizes[5:] == [2, 4, 8, 16, 32, 32]
    while claims := pool.claim("me", oldest=False):
        pool.upload_several(claims)
    assert store.bodies() == bodies


def test_a_refusal_in_a_group_sends_the_rest_back_to_the_queue_untried(ledger: Ledger, root: Path) -> None:
    bodies = fill(ledger, root, 30)
    store, reports = MemoryStore(), Reports()
    seen = threading.Event()

    def refuse(operation: str, key: str) -> None:
        if len(store.calls) == 3:
            seen.set()
            raise StoreError(operation, key, explain("SlowDown"), status=503, retry_after_seconds=30)

    store.on_call = refuse
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    assert seen.wait(60)
    wait_until(lambda: ledger.totals().uploading.files == 0, "nothing is claimed any more")
    totals = ledger.totals()
    assert (totals.archived.files, totals.waiting.files, totals.pending.files) == (2, 1, 27)
    assert len(store.calls) == 3, "none was tried behind the closed gate"
    assert pool.retry() == 28
    wait_until(all_archived(ledger, 30), "all are archived")
    pool.stop(60)
    assert store.bodies() == bodies


def test_what_is_more_urgent_goes_before_the_rest_of_a_group(ledger: Ledger, root: Path) -> None:
    fill(ledger, root, 40)
    store, reports = MemoryStore(), Reports()

    def come(operation: str, key: str) -> None:
        if len(store.calls) == 3:
            fill(ledger, root, 1, priority=0, name="new")
            pool.kick(urgent=True)

    store.on_call = come
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    wait_until(all_archived(ledger, 41), "all are archived")
    pool.stop(60)
    # The one after it may be the oldest, which has its turn now and then.
    assert ("PutObject", "new000.png") in store.calls[3:5]


def test_a_file_that_vanished_or_changed_in_a_group_spoils_no_other(ledger: Ledger, root: Path) -> None:
    bodies = fill(ledger, root, 20)
    (root / "old003.png").unlink()
    (root / "old004.png").write_bytes(b"something else by now")
    del bodies["old003.png"], bodies["old004.png"]
    store, reports = MemoryStore(), Reports()
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    wait_until(all_archived(ledger, 18), "the others are archived")
    wait_until(lambda: reports.vanished == ["old003.png"], "one is gone")
    pool.stop(60)
    assert store.bodies() == bodies
    assert ledger.totals().pending.files == 1, "the changed one, which settles first"


def test_a_file_of_a_group_whose_object_is_being_pruned_waits_and_holds_back_no_other(
    ledger: Ledger, root: Path
) -> None:
    bodies = fill(ledger, root, 20)
    begin_deletions(ledger, {"old003.png": ()}, since=0.0)
    store, reports = MemoryStore(), Reports()
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    wait_until(all_archived(ledger, 19), "the others are archived")
    wait_until(lambda: ledger.totals().waiting.files == 1, "one waits")
    assert "old003.png" not in store.bodies()
    forget_deletions(ledger, ["old003.png"])
    pool.retry()
    wait_until(all_archived(ledger, 20), "it is archived after that")
    pool.stop(60)
    assert store.bodies() == bodies


def test_the_ledger_has_the_key_of_each_request_also_after_a_look_at_another_key(
    ledger: Ledger, root: Path
) -> None:
    bodies = fill(ledger, root, 4)
    store = MemoryStore()
    for path, body in bodies.items():
        store.add(f"older/{path}", bytes(len(body)))
    requests: dict[str, bool] = {}

    def note(operation: str, key: str) -> None:
        requests[f"{operation} {key}"] = bool(ledger.read("SELECT 1 FROM files WHERE key = ?", (key,)))

    store.on_call = note
    pool = pool_on(ledger, root, store, Reports(), elsewhere=lambda path, size_bytes: [f"older/{path}"])
    pool.start()
    wait_until(all_archived(ledger, 4), "archived")
    pool.stop(60)
    assert {f"HeadObject older/{path}" for path in bodies} <= requests.keys()
    assert {f"PutObject {path}" for path in bodies} <= requests.keys()
    assert [request for request, known in requests.items() if not known] == []


@pytest.mark.parametrize("step", ["record_attempts", "mark_all_archived", "unclaim"])
def test_a_ledger_that_fails_a_step_of_a_group_loses_and_doubles_nothing(
    ledger: Ledger, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bodies = fill(ledger, root, 20)
    store, reports = MemoryStore(), Reports()
    failures = iter([True])
    real = getattr(ledger, step)
    monkeypatch.setattr("cloud_archive.archive.workers.backoff_seconds", lambda *_, **__: 0.01)

    def fail_once(*given: Any) -> None:
        if next(failures, False):
            raise LedgerError("The ledger is locked by another program.")
        real(*given)

    monkeypatch.setattr(ledger, step, fail_once)
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    wait_until(all_archived(ledger, 20), "archived in the end")
    pool.stop(60)
    assert store.bodies() == bodies
    assert len(reports.archived) == len(set(reports.archived))


def test_stopping_in_the_middle_of_a_group_keeps_the_rest_pending(ledger: Ledger, root: Path) -> None:
    fill(ledger, root, 20)
    store, reports = MemoryStore(), Reports()
    inside, go_on = threading.Event(), threading.Event()

    def hold(operation: str, key: str) -> None:
        inside.set()
        go_on.wait(60)

    store.on_call = hold
    pool = pool_on(ledger, root, store, reports)
    pool.start()
    assert inside.wait(60)
    stopping = threading.Thread(target=pool.stop, args=(60,))
    stopping.start()
    wait_until(lambda: pool._stopping, "it is told to stop")
    go_on.set()
    stopping.join()
    totals = ledger.totals()
    assert (totals.archived.files, totals.pending.files, totals.uploading.files) == (1, 19, 0)


def test_a_row_that_is_claimed_again_before_its_first_upload_ends_is_active_twice(
    ledger: Ledger, root: Path
) -> None:
    """A failed row may be pending and claimed again while the worker that failed with it still cleans up."""
    fill(ledger, root, 1)
    pool = pool_on(ledger, root, MemoryStore(), Reports())
    first = ledger.claim("first")
    assert first is not None
    outcome = Outcome("k", "ab" * 32, None, already=False, ours=True, proof=Proof.CHECKSUM)

    def send(*_: object) -> Outcome:
        ledger.release(first)
        second = ledger.claim("second")
        assert second is not None
        pool._uploads.attempt(second, lambda *_: outcome)
        pool._uploads.end([second])
        assert [active.path for active in pool.active()] == ["old000.png"], "the first one is still there"
        return outcome

    assert pool._uploads.attempt(first, send) is outcome
    pool._uploads.end([first])
    assert pool.active() == ()
