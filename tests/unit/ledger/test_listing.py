"""Totals and pages of rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import FileState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    yield ledger
    ledger.close()


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


def test_open_rows_are_found_without_reading_all_archived_ones(ledger: Ledger) -> None:
    seen: list[str] = []
    assert ledger._reader is not None
    ledger._reader.set_trace_callback(seen.append)
    ledger.rows(states=(FileState.FAILED,), limit=40)
    ledger._reader.set_trace_callback(None)
    plan = [row[3] for row in ledger.read("EXPLAIN QUERY PLAN " + seen[0])]
    assert not any(step == "SCAN files" for step in plan), plan
