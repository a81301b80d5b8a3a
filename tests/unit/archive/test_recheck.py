"""Hashing files that may hold other bytes than the ledger says."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_archive.archive import recheck as module
from cloud_archive.archive.recheck import Rechecker, RecheckResult, recheck
from cloud_archive.errors import FileUnreadable, LedgerError
from cloud_archive.files import clock_tick_ns, stat_version
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import FileState
from tests.archived_rows import mark_archived
from tests.servers import wait_until


def archived(ledger: Ledger, root: Path, name: str = "a.png", body: bytes = b"good") -> None:
    """Make a file with these bytes that the ledger holds as archived."""
    import hashlib

    (root / name).write_bytes(body)
    version = stat_version(root, name)
    ledger.add([version])
    claim = ledger.claim("test")
    assert claim is not None
    mark_archived(
        ledger, claim, key=f"out/{name}", sha256=hashlib.sha256(body).hexdigest(), etag=None, read=version
    )


def rewrite(root: Path, body: bytes, name: str = "a.png") -> None:
    """Write other bytes of the same size, and set the mtime back."""
    stat = (root / name).stat()
    assert stat.st_size == len(body)
    (root / name).write_bytes(body)
    os.utime(root / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def states(ledger: Ledger) -> list[FileState]:
    return sorted((row.state for row in ledger.rows()), key=lambda state: state.value)


# --- one file


def test_equal_bytes_update_the_row_and_queue_nothing(root: Path, ledger: Ledger) -> None:
    archived(ledger, root)
    rewrite(root, b"good")
    touched_ns = stat_version(root, "a.png").touched_ns
    # Read within the tick of its last write it would have to be hashed again.
    wait_until(lambda: time.time_ns() > touched_ns + 2 * clock_tick_ns(touched_ns), "its tick is over")
    assert recheck(ledger, root, "a.png") is RecheckResult.SETTLED
    (row,) = ledger.rows()
    assert (row.state, row.version) == (FileState.ARCHIVED, stat_version(root, "a.png"))


def test_other_bytes_are_queued_as_a_new_version(root: Path, ledger: Ledger) -> None:
    archived(ledger, root)
    rewrite(root, b"evil")
    assert recheck(ledger, root, "a.png") is RecheckResult.QUEUED
    assert states(ledger) == sorted([FileState.ARCHIVED, FileState.PENDING], key=lambda state: state.value)


@pytest.mark.parametrize(("queued", "result"), [(True, RecheckResult.QUEUED), (False, RecheckResult.LATER)])
def test_the_log_calls_a_new_version_queued_only_where_it_is(
    root: Path,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    queued: bool,
    result: RecheckResult,
) -> None:
    caplog.set_level("INFO", "cloud_archive.recheck")
    archived(ledger, root)
    rewrite(root, b"evil")
    monkeypatch.setattr(module, "queue_rewritten", lambda *_: queued)
    assert recheck(ledger, root, "a.png") is result
    line = "a.png holds other bytes under the same size and time: queued as a new version"
    assert caplog.messages == [line] * queued


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_file_that_no_program_wrote_to_is_hashed_only_where_its_identity_differs(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(ledger, root)
    with monkeypatch.context() as unread:
        unread.setattr(module, "hash_file", lambda *_, **__: pytest.fail("it was hashed"))
        assert recheck(ledger, root, "a.png", written=False) is RecheckResult.SETTLED
    rewrite(root, b"evil")
    assert recheck(ledger, root, "a.png", written=False) is RecheckResult.QUEUED


def test_a_version_that_an_upload_will_read_anyway_is_not_hashed(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "hash_file", lambda *_, **__: pytest.fail("it was hashed"))
    (root / "a.png").write_bytes(b"new")
    ledger.add([stat_version(root, "a.png")])
    assert recheck(ledger, root, "a.png") is RecheckResult.SETTLED
    assert ledger.claim("test") is not None
    assert recheck(ledger, root, "a.png") is RecheckResult.LATER, "it is being uploaded"


def test_a_file_with_a_writer_waits_for_it(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(ledger, root)
    monkeypatch.setattr(module, "has_writer", lambda *_: True)
    assert recheck(ledger, root, "a.png") is RecheckResult.LATER


def test_hashing_ends_when_the_archive_stops(root: Path, ledger: Ledger) -> None:
    archived(ledger, root, body=b"x" * 3_000_000)
    assert recheck(ledger, root, "a.png", stopping=lambda: True) is RecheckResult.LATER


def test_a_file_that_is_gone_or_new_needs_no_hashing(root: Path, ledger: Ledger) -> None:
    assert recheck(ledger, root, "gone.png") is RecheckResult.SETTLED
    (root / "new.png").write_bytes(b"new")
    assert recheck(ledger, root, "new.png") is RecheckResult.UNKNOWN


def test_a_file_of_the_baseline_that_a_program_wrote_to_is_archived_from_now_on(
    root: Path, ledger: Ledger
) -> None:
    (root / "old.png").write_bytes(b"old")
    ledger.add_to_baseline([stat_version(root, "old.png").fingerprint])
    assert recheck(ledger, root, "old.png") is RecheckResult.QUEUED
    assert states(ledger) == [FileState.PENDING]


# --- the thread


class Calls:
    """Counts and keeps the calls of a rechecker."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.queued = 0
        self.settled = 0
        self.doubtful: list[str] = []

    def queue(self) -> None:
        self.queued += 1

    def settle(self) -> None:
        self.settled += 1


@contextmanager
def running(root: Path, ledger: Ledger, calls: Calls) -> Iterator[Rechecker]:
    rechecker = Rechecker(
        root,
        ledger,
        doubtful_paths=lambda _: iter(calls.doubtful),
        on_unknown=calls.unknown.append,
        on_queued=calls.queue,
        on_settled=calls.settle,
    )
    thread = threading.Thread(target=rechecker.run)
    thread.start()
    try:
        yield rechecker
    finally:
        rechecker.stop()
        thread.join(60)
        assert not thread.is_alive()


def test_files_that_are_put_are_checked_and_counted_until_then(root: Path, ledger: Ledger) -> None:
    archived(ledger, root)
    rewrite(root, b"evil")
    (root / "new.png").write_bytes(b"new")
    calls = Calls()
    with running(root, ledger, calls) as rechecker:
        rechecker.put("a.png", written=True)
        rechecker.put("new.png", written=True)
        wait_until(lambda: rechecker.waiting == 0 and calls.settled > 0, "both are checked")
    assert (calls.queued, calls.unknown) == (1, ["new.png"])


def test_a_file_that_has_to_wait_is_checked_again(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(ledger, root)
    rewrite(root, b"evil")
    monkeypatch.setattr(module, "LATER_SECONDS", 0.01)
    answers = iter([True, True])
    monkeypatch.setattr(module, "has_writer", lambda *_: next(answers, False))
    calls = Calls()
    with running(root, ledger, calls) as rechecker:
        rechecker.put("a.png", written=True)
        wait_until(lambda: calls.queued == 1, "it is queued once its writer has ended")
        wait_until(lambda: rechecker.waiting == 0, "nothing waits")


@pytest.mark.parametrize("error", [FileUnreadable("a.png", "no"), ZeroDivisionError()])
def test_a_file_that_cannot_be_hashed_is_neither_lost_nor_in_the_way(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    archived(ledger, root)
    archived(ledger, root, "b.png")
    rewrite(root, b"evil", "b.png")
    real = module.recheck

    def fails(ledger: Ledger, root: Path, path: str, **how: object) -> RecheckResult:
        if path == "a.png":
            raise error
        return real(ledger, root, path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "recheck", fails)
    calls = Calls()
    with running(root, ledger, calls) as rechecker:
        rechecker.put("a.png", written=True)
        rechecker.put("b.png", written=True)
        wait_until(lambda: calls.queued == 1, "the other one is queued")
        wait_until(lambda: rechecker.waiting == 1, "this one stays")
        if isinstance(error, FileUnreadable):
            assert rechecker.problems == (
                "a.png can't be read: no. It may have changed since it was archived.",
            )
            assert (rechecker.settling(unreadable=False), rechecker.settling(unreadable=True)) == (0, 1)
        assert calls.settled == 0, "it is not safe yet"


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_sweep_hashes_every_doubtful_file_and_counts_them_down(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, urgent: bool
) -> None:
    monkeypatch.setattr(module, "REST_FACTOR", 0.0)
    calls = Calls()
    for number in range(3):
        archived(ledger, root, f"{number}.png")
        rewrite(root, b"evil", f"{number}.png")
        calls.doubtful.append(f"{number}.png")
    with running(root, ledger, calls) as rechecker:
        rechecker.sweep(3, urgent=urgent)
        assert rechecker.waiting == 0 or urgent
        wait_until(lambda: calls.queued == 3 and calls.settled == 1, "all are queued")
        assert (rechecker.unchecked_files, rechecker.waiting) == (0, 0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_sweep_that_fails_begins_again(root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATER_SECONDS", 0.01)
    archived(ledger, root, "0.png")
    rewrite(root, b"evil", "0.png")
    failures = iter([True])

    def doubtful_paths(_: object) -> Iterator[str]:
        if next(failures, False):
            raise LedgerError("locked by another program")
        yield "0.png"

    calls = Calls()
    with running(root, ledger, calls) as rechecker:
        rechecker._doubtful_paths = doubtful_paths
        rechecker.sweep(1, urgent=True)
        wait_until(lambda: calls.queued == 1 and rechecker.waiting == 0, "it is hashed")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_file_that_is_put_goes_before_a_sweep_that_rests(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_FACTOR", 1e9)
    calls = Calls()
    for number in range(2):
        archived(ledger, root, f"{number}.png")
        rewrite(root, b"evil", f"{number}.png")
    calls.doubtful = ["0.png"]
    with running(root, ledger, calls) as rechecker:
        rechecker.sweep(1, urgent=False)
        wait_until(lambda: calls.queued == 1, "the sweep has begun")
        rechecker.put("1.png", written=True)
        wait_until(lambda: calls.queued == 2, "this one does not wait for the end of the rest")


class _PutsAnother(float):
    """A time that lets another thread put a file while the due files are compared with the clock."""

    rechecker: Rechecker
    threads: list[threading.Thread]

    def __le__(self, other: float) -> bool:
        putting = threading.Thread(
            target=self.rechecker.put, args=("later.png",), kwargs={"written": True}, daemon=True
        )
        self.threads.append(putting)
        putting.start()
        putting.join(0.2)  # without the lock it would end now
        return super().__le__(other)


def test_a_file_that_is_put_during_a_sweep_ends_no_thread(root: Path, ledger: Ledger) -> None:
    rechecker = _rechecker(root, ledger, lambda _: iter(["a.png"]))
    _PutsAnother.rechecker, _PutsAnother.threads = rechecker, []
    rechecker._due = {"b.png": _PutsAnother("inf"), "c.png": float("inf")}
    rechecker._sweep()
    for putting in _PutsAnother.threads:
        putting.join(60)
    assert set(rechecker._due) == {"b.png", "c.png", "later.png"}


class _MeetsAnother(str):
    """A path that lets another file become unreadable while the unreadable ones are gone through."""

    rechecker: Rechecker

    def __hash__(self) -> int:
        self.rechecker._unreadable["another.png"] = "no."
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_a_file_that_becomes_unreadable_meanwhile_keeps_no_other_from_being_tried_again(
    root: Path, ledger: Ledger
) -> None:
    rechecker = _rechecker(root, ledger, lambda _: iter(()))
    path = _MeetsAnother("a.png")
    _MeetsAnother.rechecker = rechecker
    rechecker._due = {path: float("inf")}
    rechecker._unreadable = {path: "no."}
    assert rechecker.retry_unreadable() == 1
    assert rechecker._due[path] < float("inf")


def test_the_end_of_a_sweep_forgets_no_later_one(root: Path, ledger: Ledger) -> None:
    def doubtful_paths(_: object) -> Iterator[str]:
        yield "a.png"
        rechecker.sweep(5, urgent=True)  # a scan has found more

    rechecker = _rechecker(root, ledger, doubtful_paths)
    rechecker.sweep(1, urgent=True)
    rechecker._sweep()
    assert rechecker.waiting == 5
    rechecker._doubtful_paths = lambda _: iter(())
    rechecker._sweep()
    assert rechecker.waiting == 0


def test_a_stop_ends_the_search_of_a_sweep_and_its_files_still_count(root: Path, ledger: Ledger) -> None:
    def doubtful_paths(stopping: Callable[[], bool]) -> Iterator[str]:
        assert not stopping()
        rechecker.stop()
        assert stopping()
        yield from ()

    rechecker = _rechecker(root, ledger, doubtful_paths)
    rechecker.sweep(5, urgent=True)
    rechecker._sweep()
    assert rechecker.waiting == 5


def _rechecker(
    root: Path, ledger: Ledger, doubtful_paths: Callable[[Callable[[], bool]], Iterator[str]]
) -> Rechecker:
    return Rechecker(
        root,
        ledger,
        doubtful_paths=doubtful_paths,
        on_unknown=lambda path: None,
        on_queued=lambda: None,
        on_settled=lambda: None,
    )
