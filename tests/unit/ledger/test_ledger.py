"""The ledger's rows, baseline and totals."""

from __future__ import annotations

import os
import threading

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.ledger.history import lost_rows, requeue_missing
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import FileState

from .ledger_helpers import Clock, archive, claimed, version


def test_a_version_is_added_once_however_often_it_is_seen(ledger: Ledger) -> None:
    assert ledger.add([version("a.png"), version("a.png")]) == 1
    assert ledger.add([version("a.png")]) == 0
    assert ledger.totals().pending.files == 1


def test_what_a_row_knows_is_not_unknown(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    other = version("a.png", mtime_ns=6)
    assert ledger.unknown([version("a.png"), other]) == [other]


def test_the_baseline_knows_files_without_a_row_each(ledger: Ledger) -> None:
    old = [version(f"{n}.png") for n in range(1200)]
    ledger.add_to_baseline(each.fingerprint for each in old)
    assert ledger.unknown([*old, version("new.png")]) == [version("new.png")]
    assert ledger.totals().open.files == 0


def test_a_baseline_file_that_an_event_names_is_archived_all_the_same(ledger: Ledger) -> None:
    ledger.add_to_baseline([version("a.png").fingerprint])
    assert ledger.add([version("a.png")]) == 1


def test_a_newer_version_takes_over_the_row_of_one_that_still_waits(ledger: Ledger) -> None:
    ledger.add([version("a.png", mtime_ns=1)])
    ledger.add([version("a.png", mtime_ns=2)])
    assert claimed(ledger).version.mtime_ns == 2
    assert ledger.claim("me") is None


def test_a_newer_version_of_an_archived_file_gets_a_row_of_its_own(ledger: Ledger) -> None:
    ledger.add([version("a.png", mtime_ns=1)])
    archive(ledger, claimed(ledger))
    ledger.add([version("a.png", mtime_ns=2)])
    assert [row.state for row in ledger.rows()] == [FileState.PENDING, FileState.ARCHIVED]


def test_a_vanished_file_that_comes_back_is_pending_again(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    ledger.mark_vanished(claimed(ledger))
    assert ledger.unknown([version("a.png")]) == [version("a.png")]
    assert ledger.add([version("a.png")]) == 1
    assert ledger.totals().vanished.files == 0


def test_a_file_that_vanishes_after_the_clock_was_set_back_was_never_archived(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.add([version("a.png")])
    clock.now -= 3600
    ledger.mark_vanished(claimed(ledger))
    assert lost_rows(ledger) == []


def test_a_file_that_is_queued_again_after_the_clock_was_set_back_and_vanishes_is_lost(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.add([version("a.png")])
    archive(ledger, claimed(ledger))
    clock.now -= 3600
    assert requeue_missing(ledger, ledger.rows()) == 1
    ledger.mark_vanished(claimed(ledger))
    assert [row.version.path for row in lost_rows(ledger)] == ["a.png"]


def test_the_counters_follow_every_change(ledger: Ledger) -> None:
    ledger.add([version("a", size=3), version("b", size=4), version("c", size=5)])
    archive(ledger, claimed(ledger))
    claimed(ledger)
    totals = ledger.totals()
    assert (totals.archived.size_bytes, totals.uploading.size_bytes, totals.pending.size_bytes) == (3, 4, 5)
    ledger.add([version("c", size=50, mtime_ns=9)])
    assert ledger.totals().pending.size_bytes == 50
    assert ledger.totals().open.files == 2


def test_rows_are_paged_newest_first_and_found_by_part_of_their_path(ledger: Ledger) -> None:
    ledger.add([version(f"Sub/{n:03}.png") for n in range(25)])
    first = ledger.rows(limit=10)
    second = ledger.rows(limit=10, before=first[-1].row)
    assert [row.version.path for row in first] == [f"Sub/{n:03}.png" for n in range(24, 14, -1)]
    assert second[0].version.path == "Sub/014.png"
    assert [row.version.path for row in ledger.rows(query="sub/007")] == ["Sub/007.png"]
    assert ledger.rows(states=(FileState.FAILED,)) == []


@pytest.mark.skipif(os.name == "nt", reason="names that are no Unicode exist on POSIX only")
def test_names_that_are_no_utf8_come_back_as_they_were(ledger: Ledger) -> None:
    name = os.fsdecode(b"sp\xffm\n'\"%.png")
    ledger.add([version(name)])
    assert claimed(ledger).version.path == name
    assert ledger.rows(query="sp")[0].version.path == name


def test_inodes_of_64_bits_fit(ledger: Ledger) -> None:
    big = FileVersion("a", 1, 2, 2**64 - 1, 2**63 + 5)
    ledger.add([big])
    assert claimed(ledger).version == big


def test_facts_are_remembered_and_forgotten(ledger: Ledger) -> None:
    ledger.remember("a", "1")
    ledger.remember("a", "2")
    assert ledger.recall("a") == "2"
    ledger.remember("a", None)
    assert ledger.recall("a") is None


def test_files_that_are_tried_again_are_counted_and_listed_apart_from_those_given_up(ledger: Ledger) -> None:
    ledger.add([version("again.png"), version("never.png"), version("due.png"), version("new.png")])
    for name, next_try in (("again.png", 1e12), ("never.png", None), ("due.png", 1e12)):
        claim = ledger.claim_version("w", version(name))
        assert claim is not None
        code = "Due" if name == "due.png" else "Other"
        ledger.mark_failed(claim, code=code, cause="It failed.", cure="", next_try=next_try)
    assert ledger.requeue_waiting({"Due"}) == 1
    totals = ledger.totals()
    assert (totals.waiting.files, totals.tried.files) == (1, 1)
    assert [row.version.path for row in ledger.rows(retried=True)] == ["due.png", "again.png"]
    assert [row.version.path for row in ledger.rows(retried=False)] == ["never.png"]


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
