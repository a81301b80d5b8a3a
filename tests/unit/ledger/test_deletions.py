"""Deletions that `prune` requests, and attempts to archive a file: a key has only one of the two."""

from __future__ import annotations

import pytest

from cloud_archive.errors import KeyBeingPruned
from cloud_archive.ledger.deletions import (
    begin_deletions,
    forget_deletions,
    has_deletions,
    rows_archived_since,
    undo_deletions,
    unfinished_deletions,
)
from cloud_archive.ledger.history import Restored, add_restored
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import ARCHIVED_OR_RESTORED_SINCE, FileRow, FileState

from .ledger_helpers import SHA, Clock, archive, claimed, version


def archived_row(ledger: Ledger, name: str = "a.png") -> FileRow:
    ledger.add([version(name)])
    archive(ledger, claimed(ledger))
    return ledger.rows()[0]


def test_no_attempt_begins_at_a_key_that_is_being_deleted(ledger: Ledger, clock: Clock) -> None:
    row = archived_row(ledger)
    assert begin_deletions(ledger, {"k": [row]}, since=clock.now) == set()
    ledger.add([version("again.png")])
    claim = claimed(ledger)
    with pytest.raises(KeyBeingPruned):
        ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k (1)")
    forget_deletions(ledger, ["k"])
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")


def test_an_object_stays_while_a_file_is_archived_there_and_if_one_was_since(
    ledger: Ledger, clock: Clock
) -> None:
    row = archived_row(ledger)
    since = clock.now
    ledger.add([version("again.png")])
    claim = claimed(ledger)
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    assert begin_deletions(ledger, {"k": [row]}, since=since) == {"k"}
    archive(ledger, claim)
    assert begin_deletions(ledger, {"k": [row], "other": ()}, since=since) == {"k"}
    assert ledger.totals().archived.files == 2
    assert [(one.key, one.rows) for one in unfinished_deletions(ledger, before=clock.now + 1, limit=9)] == [
        ("other", ())
    ]


def test_an_object_stays_if_a_file_was_restored_from_it_since(ledger: Ledger, clock: Clock) -> None:
    since = clock.now
    clock.now += 100
    add_restored(ledger, [Restored(version("back.png"), "k", SHA, None, archived_at=since - 1e6)])
    assert [row for row, _ in rows_archived_since(ledger, since)] == [ledger.rows()[0].row]
    assert begin_deletions(ledger, {"k": (), "other": ()}, since=since) == {"k"}
    assert begin_deletions(ledger, {"k": ()}, since=clock.now + 100) == set(), "restored before the plan"


def test_rows_archived_or_restored_since_are_found_without_reading_all_others(ledger: Ledger) -> None:
    plan = ledger.read(f"EXPLAIN QUERY PLAN SELECT id FROM files WHERE {ARCHIVED_OR_RESTORED_SINCE}", (0, 0))
    assert not any("SCAN" in step for *_, step in plan), plan


def test_a_restored_file_does_not_count_as_archived_by_an_object_that_is_being_deleted(
    ledger: Ledger, clock: Clock
) -> None:
    begin_deletions(ledger, {"k": ()}, since=clock.now)
    file = Restored(version("back.png"), "k", SHA, None)
    add_restored(ledger, [file])
    assert ledger.rows() == []
    forget_deletions(ledger, ["k"])
    add_restored(ledger, [file])
    assert ledger.totals().archived.files == 1


def test_rows_are_archived_again_as_before_if_their_object_is_there(ledger: Ledger, clock: Clock) -> None:
    row, other = archived_row(ledger), archived_row(ledger, "b.png")
    clock.now += 100
    begin_deletions(ledger, {"k": [row, other]}, since=clock.now)
    (deletion,) = unfinished_deletions(ledger, before=clock.now + 1, limit=9)
    assert (deletion.requested_at, {one.row for one in deletion.rows}) == (clock.now, {row.row, other.row})
    assert {one.state for one in deletion.rows} == {FileState.PRUNED}
    assert unfinished_deletions(ledger, before=clock.now, limit=9) == []
    clock.now -= 50
    assert unfinished_deletions(ledger, before=clock.now, limit=9) == [deletion], "the clock was set back"
    undo_deletions(ledger, ["k"])
    assert ledger.rows() == [other, row]
    assert not has_deletions(ledger)
