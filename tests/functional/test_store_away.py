"""A store that is unreachable for long costs few requests and few log lines, and loses no file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until

FILES = 500
REFUSALS = 7


def test_a_store_that_is_away_for_a_whole_run_costs_few_requests_and_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cloud_archive.archive.gate.FIRST_PAUSE_SECONDS", 0.02)
    caplog.set_level(logging.INFO, logger="cloud_archive")
    store = MemoryStore()

    def away(operation: str, key: str) -> None:
        raise StoreError(operation, key, explain("ConnectionRefused"))

    store.on_call = away
    with archiving(tmp_path / "output", store) as archiver:
        for number in range(FILES):
            (archiver.root / f"{number:03}.bin").write_bytes(b"%d" % number)
        wait_until(lambda: archiver.status(scan=False).pending_files == FILES, "all are seen")

        def refusals() -> int:
            closed = archiver.refusal
            return 0 if closed is None else closed.refusals

        wait_until(lambda: refusals() >= REFUSALS, f"{REFUSALS} refusals")
        # The uploads that ran together at the first refusal, one for each pause, and one under way.
        uploads = [key for _, key in list(store.calls) if key != store.probe_key]
        assert len(uploads) <= archiver.settings.workers + refusals() + 1
        wait_until(lambda: archiver.status(scan=False).state.value == "retrying", "it says so")
        status = archiver.status()  # for a moment, one of them may be tried again
        assert status.pending_files == FILES
        assert not status.safe_to_stop
        assert len(status.errors) <= 2
        assert sum(record.levelno >= logging.INFO for record in caplog.records) <= 20
        store.on_call = lambda operation, key: None
        assert archiver.flush(60)
        assert archiver.status().errors == ()
    assert store.bodies() == {f"out/{number:03}.bin": b"%d" % number for number in range(FILES)}
    assert any("accepts uploads again" in record.getMessage() for record in caplog.records)


def test_a_store_that_takes_uploads_again_wakes_only_what_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.gate.FIRST_PAUSE_SECONDS", 0.02)
    store = MemoryStore()
    refusals = [3]

    def fails(operation: str, key: str) -> None:
        if key.endswith("own.bin"):
            raise StoreError(operation, key, explain("OperationAborted"))
        if refusals[0]:
            refusals[0] -= 1
            raise StoreError(operation, key, explain("ConnectionRefused"))

    store.on_call = fails
    with archiving(tmp_path / "output", store, CLOUD_ARCHIVE_WORKERS="1") as archiver:
        ledger = archiver.ledger
        (archiver.root / "own.bin").write_bytes(b"own")
        later = time.time() + 1800
        put_off = "UPDATE files SET next_try = ?, attempts = 7 WHERE next_try IS NOT NULL"
        wait_until(
            lambda: ledger.change(lambda db: db.execute(put_off, (later,)).rowcount) == 1,
            "it failed by itself, and is not tried just now",
        )
        for name in ("a.bin", "b.bin"):
            (archiver.root / name).write_bytes(name.encode())
        wait_until(lambda: ledger.totals().archived.files == 2, "the store is back")
        assert refusals == [0]
        row = ledger.rows(query="own.bin")[0]
        assert (row.state.word, row.attempts, row.next_try) == ("failed", 7, later)


def test_a_file_that_was_refused_among_successes_is_tried_again_once_such_a_refusal_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of the store's servers do not know yet that the access key may write."""
    monkeypatch.setattr("cloud_archive.archive.gate.FIRST_PAUSE_SECONDS", 0.02)
    store, others = MemoryStore(), set[str]()
    refused = ["out/unlucky.bin"]

    def deny(operation: str, key: str) -> None:
        if key in refused:
            raise StoreError(operation, key, explain("AccessDenied"), status=403)

    store.on_call = deny
    with archiving(tmp_path / "output", store) as archiver:

        def is_given_up() -> bool:
            others.add(name := f"other {len(others)}.bin")
            (archiver.root / name).write_bytes(b"other")  # accepted in between
            return archiver.ledger.totals().given_up_files == 1

        (archiver.root / "unlucky.bin").write_bytes(b"unlucky")
        wait_until(is_given_up, "it is given up")
        # None may be accepted between two refusals below.
        wait_until(
            lambda: {f"out/{name}" for name in others} <= store.bodies().keys(), "all others are uploaded"
        )
        wait_until(lambda: archiver.ledger.totals().open.files == 1, "all others are archived")
        refused[:] = ["out/later.bin"]
        (archiver.root / "later.bin").write_bytes(b"later")
        wait_until(lambda: archiver.ledger.totals().waiting.files == 1, "another one is refused")
        refused.clear()
        assert archiver.flush(60)
    assert {"out/unlucky.bin", "out/later.bin"} <= store.bodies().keys()
