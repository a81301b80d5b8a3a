"""Claims: who uploads which version, and what becomes of it."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from cloud_archive.errors import LedgerError
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.rows import ProvenUpload
from tests.archived_rows import mark_archived

from .ledger_helpers import SHA, Clock, archive, claimed, version


def several(ledger: Ledger, most: int = 16, among: int = 2, size_bytes: int = 1000) -> list[str]:
    claims = ledger.claim_several("me", most=most, among=among, size_bytes=size_bytes)
    return [claim.version.path for claim in claims]


def test_small_ones_are_claimed_several_at_once_in_their_order_and_nobody_takes_more_than_a_share(
    ledger: Ledger,
) -> None:
    ledger.add([version(f"{n}.png", size=100 - n) for n in range(12)])
    assert several(ledger, most=4) == ["11.png", "10.png", "9.png", "8.png"]
    assert several(ledger) == ["7.png", "6.png", "5.png", "4.png"], "half of the eight"
    assert several(ledger, among=8) == ["3.png"], "one at least"
    assert ledger.totals().uploading.files == 9


def test_what_is_large_or_was_tried_before_is_claimed_alone(ledger: Ledger) -> None:
    ledger.add([version("tried.png", size=1)])
    ledger.release(claimed(ledger))
    ledger.add([version(f"{n}.png", size=400) for n in range(5)])
    assert several(ledger, among=1) == ["tried.png"]
    assert several(ledger, among=1) == ["0.png", "1.png"], "a thousand bytes at the most"
    ledger.add([version("film.mp4", size=5000)])
    assert several(ledger, among=1, size_bytes=1200) == ["2.png", "3.png", "4.png"]
    assert several(ledger, among=1) == ["film.mp4"]
    assert several(ledger, among=1) == []


def test_a_claim_that_is_given_back_unused_counts_as_no_attempt(ledger: Ledger) -> None:
    ledger.add([version(f"{n}.png") for n in range(4)])
    claims = ledger.claim_several("me", most=4, among=1, size_bytes=1000)
    ledger.unclaim(claims[1:])
    assert ledger.totals().pending.files == 3
    again = ledger.claim_several("me", most=4, among=1, size_bytes=1000)
    assert [claim.attempts for claim in again] == [1, 1, 1]
    with pytest.raises(LedgerError, match="no longer claimed"):
        ledger.unclaim(claims[1:])


def test_where_one_of_several_is_no_longer_claimed_none_is_marked(ledger: Ledger) -> None:
    ledger.add([version("a.png"), version("b.png")])
    claims = ledger.claim_several("me", most=2, among=1, size_bytes=1000)
    ledger.release(claims[1])
    with pytest.raises(LedgerError, match="no longer claimed"):
        ledger.mark_all_archived([ProvenUpload(claim, "k", SHA, "e", True) for claim in claims])
    assert ledger.totals().archived.files == 0


def test_an_abort_is_noted_and_its_upload_forgotten_in_one_commit(ledger: Ledger) -> None:
    """Cut off in between, the row would go on with an upload that the store is about to abort."""
    ledger.add([version("a.mp4")])
    claim = claimed(ledger)
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    ledger.record_multipart(claim, "u", 8)
    trouble = "CREATE TEMP TRIGGER trouble BEFORE UPDATE ON files BEGIN SELECT RAISE(ABORT, 'database is locked'); END"
    ledger.change(lambda db: db.execute(trouble) and None)
    with pytest.raises(LedgerError, match="locked"):
        ledger.abandon_multipart(claim, "k", "u")
    assert ledger.abandoned() == []
    ledger.change(lambda db: db.execute("DROP TRIGGER temp.trouble") and None)
    ledger.abandon_multipart(claim, "k", "u")
    assert ledger.abandoned() == [("k", "u")]
    ledger.release_all(retry_failed=True)
    assert claimed(ledger).upload_id is None


def test_the_abort_of_a_probe_leaves_the_upload_of_its_file_noted(ledger: Ledger) -> None:
    ledger.add([version("a.mp4")])
    claim = claimed(ledger)
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    ledger.record_multipart(claim, "u", 8)
    ledger.abandon_multipart(claim, "check", "probe")
    ledger.release_all(retry_failed=True)
    again = claimed(ledger)
    assert (again.upload_id, again.part_size_bytes) == ("u", 8)
    assert ledger.abandoned() == [("check", "probe")]


def test_unfinished_uploads_that_stay_do_not_hold_up_the_others(ledger: Ledger) -> None:
    def note(db: sqlite3.Connection) -> None:
        for number in range(30):
            db.execute("INSERT INTO abandoned (key, upload_id) VALUES ('k', ?)", (f"{number:02}",))

    ledger.change(note)
    seen = {upload_id for _ in range(200) for _, upload_id in ledger.abandoned(10)}
    assert len(seen) == 30


def test_only_failed_rows_are_retried_by_their_ids(ledger: Ledger) -> None:
    ledger.add([version("a.png"), version("b.png"), version("c.png")])
    done, *failed = (claimed(ledger) for _ in range(3))
    archive(ledger, done)
    for claim in failed:
        ledger.mark_failed(claim, code="K", cause="c", cure="d", next_try=None)
    assert ledger.retry_rows([done.row, failed[1].row, 999]) == 1
    assert [row.row for row in ledger.rows(retried=False)] == [failed[0].row]
    assert claimed(ledger).row == failed[1].row


def test_two_versions_of_one_file_are_not_uploaded_side_by_side(ledger: Ledger) -> None:
    ledger.add([version("a.png", mtime_ns=1)])
    first = claimed(ledger)
    ledger.add([version("a.png", mtime_ns=2)])
    assert ledger.claim("me") is None
    archive(ledger, first)
    assert claimed(ledger).version.mtime_ns == 2


def test_threads_that_claim_at_once_get_each_version_once(ledger: Ledger) -> None:
    ledger.add([version(f"{n}.png") for n in range(300)])
    taken: list[int] = []

    def take(name: str) -> None:
        while (claim := ledger.claim(name)) is not None:
            taken.append(claim.row)

    threads = [threading.Thread(target=take, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 301))


def test_a_claim_that_was_given_back_cannot_mark_anything(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    lost = claimed(ledger)
    assert ledger.release_all(retry_failed=False) == 1
    taken = ledger.claim("other")
    assert taken is not None
    with pytest.raises(LedgerError, match="no longer claimed"):
        mark_archived(ledger, lost, key="k", sha256=SHA, etag=None)
    assert ledger.totals().archived.files == 0


def test_the_most_urgent_and_smallest_is_claimed_first_or_the_oldest(ledger: Ledger) -> None:
    ledger.add([version("old-big.png", size=900)], priority=1)
    ledger.add([version("old-small.png", size=1)], priority=1)
    ledger.add([version("new-big.png", size=999)], priority=0)
    ledger.add([version("new-small.png", size=5)], priority=0)
    assert claimed(ledger, oldest=True).version.path == "old-big.png"
    order = [claimed(ledger).version.path for _ in range(3)]
    assert order == ["new-small.png", "new-big.png", "old-small.png"]


def test_one_that_was_never_tried_is_claimed_before_smaller_ones_that_failed(ledger: Ledger) -> None:
    ledger.add([version("failed.png", size=1)], priority=0)
    ledger.release(claimed(ledger))
    ledger.add([version("big.png", size=900)], priority=1)
    ledger.add([version("small.png", size=5)], priority=1)
    order = [claimed(ledger, least_tried=True).version.path for _ in range(3)]
    assert order == ["small.png", "big.png", "failed.png"]


def test_what_an_attempt_noted_is_there_for_the_next_one(ledger: Ledger) -> None:
    ledger.add([version("a.mp4")])
    claim = claimed(ledger)
    ledger.record_attempt(claim, sha256=SHA, base_key="p/a.mp4", key="p/a (1).mp4")
    ledger.record_multipart(claim, "upload-7", 8 << 20)
    ledger.release_all(retry_failed=True)
    again = claimed(ledger)
    assert (again.base_key, again.key, again.sha256) == ("p/a.mp4", "p/a (1).mp4", SHA)
    assert (again.upload_id, again.part_size_bytes, again.attempts) == ("upload-7", 8 << 20, 2)
    assert again.token == claim.token


def test_a_newer_version_of_another_size_does_not_inherit_the_size_of_the_parts(ledger: Ledger) -> None:
    ledger.add([version("a.zip", size=20_000, mtime_ns=1)])
    claim = claimed(ledger)
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    ledger.record_multipart(claim, "upload-7", 20_000)
    ledger.release(claim)
    ledger.add([version("a.zip", size=20_000, mtime_ns=2)])  # touched
    again = claimed(ledger)
    assert (again.upload_id, again.part_size_bytes) == ("upload-7", 20_000)
    ledger.release(again)
    ledger.add([version("a.zip", size=20_000_000, mtime_ns=3)])
    again = claimed(ledger)
    assert (again.upload_id, again.part_size_bytes) == ("upload-7", None), "to abort it"


def test_a_note_for_another_key_forgets_the_multipart_upload(ledger: Ledger) -> None:
    ledger.add([version("a.mp4")])
    claim = claimed(ledger)
    ledger.record_attempt(claim, sha256=SHA, base_key="a", key="a")
    ledger.record_multipart(claim, "upload-7", 8 << 20)
    ledger.record_attempt(claim, sha256=SHA, base_key="a", key="a")
    ledger.release(claim)
    claim = claimed(ledger)
    assert claim.upload_id == "upload-7"
    ledger.record_attempt(claim, sha256=SHA, base_key="a", key="a (1)")
    ledger.release(claim)
    assert claimed(ledger).upload_id is None


def test_a_failed_version_waits_for_its_next_try(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.mark_failed(claimed(ledger), code="X", cause="c", cure="d", next_try=clock.now + 30)
    assert ledger.claim("me") is None
    assert ledger.next_due() == clock.now + 30
    assert not ledger.requeue_due()
    clock.now += 31
    assert ledger.requeue_due()
    assert claimed(ledger).attempts == 2


def test_a_claim_to_release_later_is_released_by_requeue_due(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    ledger.release_later(claimed(ledger))
    assert ledger.totals().uploading.files == 1
    assert ledger.requeue_due()
    assert not ledger.requeue_due()
    assert claimed(ledger).attempts == 2


def test_a_clock_that_was_set_back_does_not_make_files_wait_for_years(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.mark_failed(claimed(ledger), code="X", cause="c", cure="d", next_try=clock.now + 30)
    clock.now -= 400 * 86_400
    assert ledger.requeue_due()


def test_a_version_that_failed_for_good_waits_for_retry(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.mark_failed(claimed(ledger), code="X", cause="c", cure="d", next_try=None)
    clock.now += 10**9
    assert not ledger.requeue_due()
    totals = ledger.totals()
    assert (totals.failed.files, totals.waiting.files) == (1, 0)
    assert ledger.retry_failed() == 1
    assert claimed(ledger).version.path == "a.png"


def test_a_held_version_is_not_claimed_before_its_time(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.release(claimed(ledger), hold_seconds=2)
    assert ledger.claim("me") is None
    clock.now += 3
    assert claimed(ledger).version.path == "a.png"


def test_a_held_version_is_not_held_longer_by_a_clock_that_is_set_back(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.release(claimed(ledger), hold_seconds=2)
    assert ledger.claim("me") is None
    clock.now -= 86_400
    assert claimed(ledger).version.path == "a.png"


def test_a_version_is_not_taken_while_another_one_of_the_same_file_is_uploaded(ledger: Ledger) -> None:
    """Without renaming both would go to one key, and the older one could come last."""
    ledger.add([version("a.png", size=1)])
    assert ledger.claim("x") is not None
    newer = version("a.png", size=2)
    ledger.add([newer])
    assert ledger.claim_version("y", newer) is None
