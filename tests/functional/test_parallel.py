"""Many uploads at once: how much memory they take, and their order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import upload_groups, workers
from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.gate import RECOVER_AFTER, Gate
from cloud_archive.archive.workers import OLDEST_EVERY, WorkerPool
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.store.base import Body, Capabilities
from cloud_archive.store.failures import explain
from cloud_archive.upload import source as content
from cloud_archive.upload.memory import ByteBudget
from cloud_archive.upload.uploader import Uploader
from tests.memory_store import MemoryStore
from tests.servers import wait_until

KIB = 1024
BODY_BYTES = 64 * KIB


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    yield ledger
    ledger.close()


def add_pending(ledger: Ledger, root: Path, name: str, size_bytes: int, priority: int = 0) -> FileVersion:
    """Write a file and add it to the ledger as pending."""
    (root / name).write_bytes(name.encode().ljust(size_bytes, b"."))
    version = stat_version(root, name)
    assert ledger.add([version], priority=priority) == 1
    return version


@contextmanager
def uploading(
    ledger: Ledger,
    root: Path,
    store: MemoryStore,
    count: int,
    budget: ByteBudget | None = None,
    gate: Gate | None = None,
    hold_seconds: float = 0.0,
) -> Iterator[WorkerPool]:
    def make_uploader(parts: Executor) -> Uploader:
        uploader = Uploader(
            store, root, make_key=lambda path: path, session_id="s", part_executor=parts, budget=budget
        )
        uploader._line.is_wide = True  # as an earlier file's probe found
        return uploader

    pool = WorkerPool(
        ledger,
        make_uploader,
        root,
        count=count,
        name="session",
        gate=gate,
    )
    pool.start(hold_seconds=hold_seconds)
    try:
        yield pool
    finally:
        pool.stop(60)


class HoldingStore(MemoryStore):
    """Holds up every write until `go` is set, and counts the bytes of the bodies under way."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.in_flight = self.most_in_flight = 0
        self._flight = threading.Lock()

    def put(self, key: str, body: bytes, **how: Any) -> Any:
        with self._flying(len(body)):
            return super().put(key, body, **how)

    def upload_part(self, key: str, upload_id: str, number: int, body: Body, **how: Any) -> Any:
        with self._flying(len(bytes(body))):
            return super().upload_part(key, upload_id, number, body, **how)

    @contextmanager
    def _flying(self, size_bytes: int) -> Iterator[None]:
        with self._flight:
            self.in_flight += size_bytes
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        assert self.go.wait(60)
        yield
        with self._flight:
            self.in_flight -= size_bytes


def test_bodies_and_parts_together_keep_to_one_budget_of_memory(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SINGLE_PUT_BYTES", BODY_BYTES)
    monkeypatch.setattr(content, "MIN_PART_BYTES", BODY_BYTES)
    monkeypatch.setattr(content, "MEBIBYTE", BODY_BYTES)
    store, budget = HoldingStore(), ByteBudget(4 * BODY_BYTES)
    for number in range(24):
        add_pending(ledger, root, f"small{number}", BODY_BYTES)
    for number in range(2):
        add_pending(ledger, root, f"large{number}", 10 * BODY_BYTES)
    with uploading(ledger, root, store, 32, budget):
        # Either all workers with memory wait in the store, or (the fault) more bytes are under way than the budget.
        wait_until(
            lambda: (
                store.in_flight > 4 * BODY_BYTES
                or (len(budget._queue) >= 28 and store.in_flight == 4 * BODY_BYTES)
            ),
            "the rest waits",
        )
        store.go.set()
        wait_until(lambda: ledger.totals().archived.files == 26, "all of it arrives")
    assert store.most_in_flight == 4 * BODY_BYTES
    assert budget.held_bytes == 0


class SlowProbe(MemoryStore):
    """A store of unknown capabilities, whose probe takes until `go` is set."""

    def __init__(self) -> None:
        super().__init__(Capabilities())
        self.asked, self.go = threading.Event(), threading.Event()

    def probe_create_only(self, key: str, body: bytes, **how: Any) -> None:
        self.asked.set()
        assert self.go.wait(60)


def test_no_worker_waits_for_the_probe_of_another(root: Path, ledger: Ledger) -> None:
    for number in range(8):
        add_pending(ledger, root, f"{number}", KIB)
    store = SlowProbe()
    with uploading(ledger, root, store, 2):
        try:
            assert store.asked.wait(60)
            wait_until(lambda: ledger.totals().archived.files >= 1, "the other worker's are archived")
        finally:
            store.go.set()
        wait_until(lambda: ledger.totals().archived.files == 8, "all of it arrives")
    first = {key: operation for operation, key in reversed(store.calls)}
    looked_for = [f"{number}" for number in range(8) if first[f"{number}"] == "HeadObject"]
    assert len(looked_for) == 8, "while its capabilities are unknown, each write comes after a HEAD"


# --- order


def test_new_files_go_before_a_backlog_and_small_before_large(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GROUP_SECONDS", 60.0)  # else a slow machine breaks the group off
    for number in range(6):
        add_pending(ledger, root, f"backlog{number}", 100 - number, priority=1)
    for number in range(5):
        add_pending(ledger, root, f"new{number}", 2000 - number)
    store = MemoryStore()
    with uploading(ledger, root, store, 1):
        wait_until(lambda: ledger.totals().archived.files == 11, "all of it arrives")
    order = [key for operation, key in store.calls if operation == "PutObject"]
    assert order[:5] == ["new4", "new3", "new2", "new1", "new0"]
    assert order[5:] == [f"backlog{number}" for number in (5, 4, 3, 2, 1, 0)]


def test_each_fourth_turn_is_for_what_waits_longest(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_groups, "GROUP_FILES", 1)
    for number in range(6):
        add_pending(ledger, root, f"{number}", 100 - number, priority=1)
    store = MemoryStore()
    with uploading(ledger, root, store, 1):
        wait_until(lambda: ledger.totals().archived.files == 6, "all of it arrives")
    order = [key for operation, key in store.calls if operation == "PutObject"]
    assert order == ["5", "4", "3", "0", "2", "1"]
    assert OLDEST_EVERY == 4


def test_a_large_old_file_is_not_starved_by_new_ones_that_keep_coming(root: Path, ledger: Ledger) -> None:
    add_pending(ledger, root, "large", 50_000, priority=1)
    numbers = itertools.count()

    def another(operation: str, key: str) -> None:
        if ledger.totals().open.files < 5:
            add_pending(ledger, root, f"small{next(numbers)}", 10)

    store = MemoryStore()
    store.on_call = another
    another("", "")
    with uploading(ledger, root, store, 1):
        wait_until(lambda: "large" in store.objects, "the large one arrives")
        store.on_call = lambda operation, key: None
    turns = [key for operation, key in store.calls if operation == "PutObject"].index("large") + 1
    assert turns <= OLDEST_EVERY


def test_what_is_older_than_this_process_is_the_backlog(root: Path, ledger: Ledger) -> None:
    started_at = 1_700_000_000.0
    settings = load_settings(
        {"S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret-of-the-test", "S3_BUCKET": "bucket"}
    )
    archiver = Archiver(settings, root, ledger, MemoryStore(), session_id="s", started_at=started_at)
    old = FileVersion("old", 10, int((started_at - 1) * 1e9), 1, 1)
    new = FileVersion("new", 1000, int((started_at + 1) * 1e9), 1, 2)
    archiver.pipeline.enqueue([old, new])
    claims = [ledger.claim("me"), ledger.claim("me")]
    assert [claim.version.path for claim in claims if claim] == ["new", "old"]


@pytest.mark.parametrize(
    "begin", [WorkerPool.end_hold, lambda pool: pool.kick(urgent=True)], ids=["end_hold", "urgent"]
)
def test_workers_begin_after_the_first_scan_or_with_something_urgent(
    root: Path, ledger: Ledger, begin: Callable[[WorkerPool], None]
) -> None:
    add_pending(ledger, root, "old", KIB)
    store = MemoryStore()
    with uploading(ledger, root, store, count=2, hold_seconds=3600) as pool:
        pool.kick()
        wait_until(lambda: len(pool._wake._waiters) == 2, "both workers wait")  # type: ignore[attr-defined]
        assert store.calls == []
        begin(pool)
        wait_until(lambda: ledger.totals().archived.files == 1, "it is archived")


def test_workers_do_not_wait_for_ever_for_a_first_scan(root: Path, ledger: Ledger) -> None:
    add_pending(ledger, root, "old", KIB)
    with uploading(ledger, root, MemoryStore(), count=2, hold_seconds=0.1):
        wait_until(lambda: ledger.totals().archived.files == 1, "it is archived")


# --- a store that asks for fewer requests


class ThrottledStore(MemoryStore):
    """Refuses the first object with SlowDown; then holds up uploads until as many run as the gate allows."""

    def __init__(self, allowed: Callable[[], int], more_may_come: Callable[[], bool]) -> None:
        super().__init__()
        self._allowed = allowed
        self._more_may_come = more_may_come
        self._moved = threading.Condition()
        self._refused = False
        self.inside = 0
        self.most: dict[int, int] = {}

    def put(self, key: str, body: bytes, **how: Any) -> Any:
        with self._moved:
            if not self._refused:
                self._refused = True
                raise StoreError("PutObject", key, explain("SlowDown"), status=503)
            self.inside += 1
            allowed = self._allowed()
            self.most[allowed] = max(self.most.get(allowed, 0), self.inside)
            self._moved.notify_all()
            self._moved.wait_for(lambda: self.inside >= allowed or not self._more_may_come(), 60)
        try:
            return super().put(key, body, **how)
        finally:
            with self._moved:
                self.inside -= 1
                self._moved.notify_all()


def test_slow_down_halves_what_runs_at_once_and_success_brings_it_back(root: Path, ledger: Ledger) -> None:
    gate = Gate(8, jitter=lambda: 0.0)
    store = ThrottledStore(
        lambda: gate._allowed, lambda: not gate.closed and ledger.totals().pending.files > 0
    )
    add_pending(ledger, root, "first", 10)
    with uploading(ledger, root, store, 8, gate=gate) as pool:
        wait_until(lambda: gate.narrowed, "the first one is refused")
        for number in range(5 * RECOVER_AFTER):
            add_pending(ledger, root, f"file{number}", 10)
        pool.kick()
        wait_until(lambda: ledger.totals().archived.files == 5 * RECOVER_AFTER + 1, "all of it arrives")
    assert sorted(store.most) == [4, 5, 6, 7, 8]
    assert all(most <= allowed for allowed, most in store.most.items())
    assert store.most[4] == 4
    assert not gate.narrowed
