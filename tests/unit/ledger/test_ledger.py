"""The ledger on real SQLite files."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.errors import LedgerDamaged, LedgerError, LedgerTooNew
from cloud_archive.files import FileVersion
from cloud_archive.ledger.history import archived_by_time, compact, compactable, mark_pruned, vacuum
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.recovery import move_aside, recover_baseline
from cloud_archive.ledger.rows import Claim, FileState, ProvenUpload
from cloud_archive.ledger.schema import MIGRATIONS, SCHEMA_VERSION

SHA = "ab" * 32


class Clock:
    """Seconds since 1970, moved by hand."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=clock)
    ledger.open()
    yield ledger
    ledger.close()


def version(path: str, size: int = 10, mtime_ns: int = 5) -> FileVersion:
    return FileVersion(path, size, mtime_ns, 1, 2)


def claimed(ledger: Ledger, **how: bool) -> Claim:
    claim = ledger.claim("me", **how)
    assert claim is not None
    return claim


def archive(ledger: Ledger, claim: Claim) -> None:
    ledger.record_attempt(claim, sha256=SHA, base_key="k", key="k")
    ledger.mark_archived(claim, key="k", sha256=SHA, etag="e")


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


def test_a_version_is_added_once_however_often_it_is_seen(ledger: Ledger) -> None:
    assert ledger.add([version("a.png"), version("a.png")]) == 1
    assert ledger.add([version("a.png")]) == 0
    assert ledger.totals().pending.files == 1


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
        ledger.mark_archived(lost, key="k", sha256=SHA, etag=None)
    assert ledger.totals().archived.files == 0


def test_the_most_urgent_and_smallest_is_claimed_first_or_the_oldest(ledger: Ledger) -> None:
    ledger.add([version("old-big.png", size=900)], priority=1)
    ledger.add([version("old-small.png", size=1)], priority=1)
    ledger.add([version("new-big.png", size=999)], priority=0)
    ledger.add([version("new-small.png", size=5)], priority=0)
    assert claimed(ledger, oldest=True).version.path == "old-big.png"
    order = [claimed(ledger).version.path for _ in range(3)]
    assert order == ["new-small.png", "new-big.png", "old-small.png"]


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
    assert ledger.requeue_due() == 0
    clock.now += 31
    assert ledger.requeue_due() == 1
    assert claimed(ledger).attempts == 2


def test_a_clock_that_was_set_back_does_not_make_files_wait_for_years(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.mark_failed(claimed(ledger), code="X", cause="c", cure="d", next_try=clock.now + 30)
    clock.now -= 400 * 86_400
    assert ledger.requeue_due() == 1


def test_a_version_that_failed_for_good_waits_for_retry(ledger: Ledger, clock: Clock) -> None:
    ledger.add([version("a.png")])
    ledger.mark_failed(claimed(ledger), code="X", cause="c", cure="d", next_try=None)
    clock.now += 10**9
    assert ledger.requeue_due() == 0
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


def test_a_vanished_file_that_comes_back_is_pending_again(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    ledger.mark_vanished(claimed(ledger))
    assert ledger.unknown([version("a.png")]) == [version("a.png")]
    assert ledger.add([version("a.png")]) == 1
    assert ledger.totals().vanished.files == 0


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


def test_what_was_committed_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    first = Ledger(path)
    first.open()
    first.add([version("a.png")])
    second = Ledger(path)  # the first is still open, as after a kill
    second.open()
    assert second.totals().pending.files == 1
    second.close()
    first.close()


def test_calls_after_close_say_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite3")
    ledger.open()
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.add([version("a")])
    with pytest.raises(LedgerError, match="closed"):
        ledger.totals()


def test_one_change_that_fails_does_not_take_its_group_along(ledger: Ledger) -> None:
    ledger.add([version("a"), version("b")])
    lost = claimed(ledger)
    ledger.release_all(retry_failed=False)
    errors: list[BaseException] = []
    start = threading.Barrier(9)

    def fail() -> None:
        start.wait()
        try:
            ledger.mark_vanished(lost)
        except LedgerError as error:
            errors.append(error)

    def succeed(number: int) -> None:
        start.wait()
        ledger.add([version(f"good-{number}")])

    threads = [threading.Thread(target=fail)] + [
        threading.Thread(target=succeed, args=(n,)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert ledger.totals().pending.files == 10


def test_a_newer_schema_is_refused_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(LedgerTooNew, match="newer version of Cloud Archive"):
        Ledger(path).open()


@pytest.mark.parametrize("damage", ["garbage", "page"])
def test_a_damaged_ledger_is_recognised(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path)
    ledger.open()
    ledger.add([version(f"{n}.png") for n in range(2000)])
    ledger.close()
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:4096] = b"\xff" * 4096
    else:
        for start in range(8 * 4096, len(data) - 4096, 8 * 4096):
            data[start : start + 64] = b"\x55" * 64
    path.write_bytes(data)
    with pytest.raises(LedgerDamaged, match="damaged"):
        Ledger(path).open()


def test_the_baseline_is_saved_from_a_damaged_ledger(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path)
    ledger.open()
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", "123")
    ledger.close()
    aside = move_aside(path)
    assert not path.exists()
    fresh = Ledger(path)
    fresh.open()
    assert recover_baseline(aside, fresh)
    assert fresh.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    fresh.close()


@pytest.mark.parametrize("first_start", ["123", None])
def test_what_was_compacted_or_pruned_stays_known_after_a_rescue_whatever_the_backfill(
    tmp_path: Path, clock: Clock, first_start: str | None
) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path, clock=clock)
    ledger.open()
    ledger.add([version("compacted.png"), version("pruned.png")])
    for _ in range(2):
        archive(ledger, claimed(ledger))
    mark_pruned(ledger, [row.row for row in ledger.rows(query="pruned")])
    ledger.change(
        lambda db: db.execute("UPDATE files SET archived_at = 0 WHERE path = ?", (b"compacted.png",))
    )
    assert compact(ledger, clock.now) == 1
    ledger.add_to_baseline([version("old.png").fingerprint])
    ledger.remember("first_start", first_start)
    ledger.close()
    aside = move_aside(path)
    fresh = Ledger(path)
    fresh.open()
    assert recover_baseline(aside, fresh) is (first_start is not None)
    fresh.clear_baseline()  # as CLOUD_ARCHIVE_BACKFILL=all does
    known = [version("compacted.png"), version("pruned.png")]
    assert fresh.unknown([*known, version("old.png")]) == [version("old.png")]
    assert fresh.add(known) == 0
    fresh.close()


def test_nothing_is_saved_from_garbage(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_bytes(b"\xff" * 9000)
    fresh = Ledger(None)
    fresh.open()
    assert not recover_baseline(tmp_path / "x.sqlite3", fresh)
    fresh.close()


def test_a_ledger_in_memory_works_alike(clock: Clock) -> None:
    ledger = Ledger(None, clock=clock)
    ledger.open()
    ledger.add([version("a.png")])
    archive(ledger, claimed(ledger))
    assert ledger.totals().archived.files == 1
    ledger.close()


def test_facts_are_remembered_and_forgotten(ledger: Ledger) -> None:
    ledger.remember("a", "1")
    ledger.remember("a", "2")
    assert ledger.recall("a") == "2"
    ledger.remember("a", None)
    assert ledger.recall("a") is None


def test_old_rows_are_compacted_and_their_files_stay_known(tmp_path: Path, clock: Clock) -> None:
    ledger = Ledger(tmp_path / "l.sqlite3", clock=clock)
    ledger.open()
    old = [version(f"old-{number}.png") for number in range(300)]
    ledger.add(old)
    for _ in old:
        archive(ledger, claimed(ledger))
    ledger.add([version("gone.png")])
    ledger.mark_vanished(claimed(ledger))
    clock.now += 1000
    ledger.add([version("young.png"), version("waits.png")])
    archive(ledger, claimed(ledger))
    assert compactable(ledger, clock.now - 500) == 301
    assert compact(ledger, clock.now - 500, page=100) == 301
    assert vacuum(ledger)
    assert ledger.totals().archived.files == 1
    assert ledger.totals().open.files == 1
    ledger.clear_baseline()  # as CLOUD_ARCHIVE_BACKFILL=all does
    assert ledger.unknown([*old, version("gone.png")]) == [version("gone.png")]
    assert ledger.add(old) == 0
    assert ledger.add(old[:1], priority=-1) == 1  # somebody asks for it by name
    ledger.close()


def test_a_ledger_of_the_first_schema_is_brought_forward_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as first:
        for statement in MIGRATIONS[0]:
            first.execute(statement)
        first.execute("PRAGMA user_version = 1")
        first.execute("INSERT INTO baseline VALUES (?)", (version("old.png").fingerprint,))
        first.commit()
    ledger = Ledger(path)
    ledger.open()
    assert ledger.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    ledger.add([version("new.png")])
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as now:
        assert now.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


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
    assert [row.version.path for row in ledger.rows(again=True)] == ["due.png", "again.png"]
    assert [row.version.path for row in ledger.rows(again=False)] == ["never.png"]


def test_long_queries_do_not_hold_the_connection_that_the_status_reads_with(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    archive(ledger, claimed(ledger))
    with ledger._reader_lock:  # another thread's query could not get it either
        assert [row.version.path for row in ledger.rows(query="A.PNG")] == ["a.png"]
        assert sum(slot.files for slot in archived_by_time(ledger)) == 1
