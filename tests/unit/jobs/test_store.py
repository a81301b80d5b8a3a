"""The list of jobs on a real SQLite file."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.errors import JobsError
from cloud_archive.jobs.options import JobOptions
from cloud_archive.jobs.records import JobRecord, Output
from cloud_archive.jobs.store import JobStore

NOW = 1_775_046_896.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    store = JobStore(path)
    store.open()
    yield store
    store.close()


def file(name: str, number: int = 0, *, cached: bool = False, state: str | None = None) -> Output:
    return Output(number, "9", name, "x", "output", cached, state)


def job(job_id: str, *outputs: Output, finished_at: float = NOW) -> JobRecord:
    return JobRecord(
        job_id,
        "finished",
        status="success",
        started_at=finished_at - 1,
        finished_at=finished_at,
        options=JobOptions(("best",), "a note", True),
        errors=("a warning",),
        outputs=outputs,
    )


def test_a_job_comes_back_as_it_was_also_after_a_restart(store: JobStore, path: Path) -> None:
    record = job("j", file("a.png"), file("b.png", 1, cached=True))
    assert store.add([record]) == ["j"]
    assert store.find("j") == record
    store.close()
    again = JobStore(path, read_only=True)
    again.open()
    found = again.find("j")
    assert found == record
    assert [output.cached for output in found.outputs] == [False, True]
    assert all(isinstance(output.cached, bool) for output in found.outputs)
    assert again.find("k") is None
    again.close()


def test_a_job_is_stored_once_but_one_that_was_removed_may_still_finish(store: JobStore) -> None:
    store.note_unfinished({"j": ("queued", "p")}, NOW)
    assert store.end_unfinished("j", "removed", "It was removed.", NOW)
    assert store.add([job("j"), job("k")]) == ["j", "k"]
    assert store.add([job("j", file("late.png"))]) == []
    assert not store.end_unfinished("j", "interrupted", "ComfyUI ended.", NOW)
    found = store.find("j")
    assert found is not None
    assert (found.status, found.outputs) == ("success", ())


@pytest.mark.parametrize("status", ["removed", "interrupted"])
def test_a_job_that_was_ended_may_be_queued_again(store: JobStore, status: str) -> None:
    store.note_unfinished({"j": ("queued", "p")}, NOW)
    store.end_unfinished("j", status, "It was ended.", NOW)
    store.announce("j", status, "msg", NOW)
    store.close_job("j", status)
    store.note_unfinished({"j": ("running", "q")}, NOW)
    assert store.find("j") == JobRecord("j", "running", "q", started_at=NOW)
    assert store.unfinished() == {"j": ("running", "q")}
    assert store.waiting_deliveries() == 0, "the message about its first end is not sent any more"
    assert store.add([job("j")]) == ["j"]


def test_a_removed_job_that_finishes_has_one_webhook_about_its_end(store: JobStore) -> None:
    store.note_unfinished({"j": ("queued", "p")}, NOW)
    store.end_unfinished("j", "removed", "It was removed.", NOW)
    store.announce("j", "removed", "first", NOW)
    store.postpone_delivery("first", 3, NOW + 9)
    store.add([job("j")])
    store.announce("j", "success", "second", NOW + 1)
    store.end_delivery("first")  # it was being sent meanwhile
    assert store.next_delivery() == ("j", "second", NOW + 1, 0, NOW + 1)
    assert store.waiting_deliveries() == 1


def test_the_end_of_a_removed_job_is_not_taken_for_that_of_the_finished_one(store: JobStore) -> None:
    store.note_unfinished({"j": ("queued", "p")}, NOW)
    store.end_unfinished("j", "removed", "It was removed.", NOW)
    store.add([job("j")])
    store.announce("j", "removed", "msg_removed", NOW)
    store.close_job("j", "removed")
    assert store.waiting_deliveries() == 0
    assert [found.announced for found in store.open_jobs()] == [False]
    store.announce("j", "success", "msg_success", NOW)
    store.close_job("j", "success")
    assert store.waiting_deliveries() == 1
    assert store.open_jobs() == []


def test_unfinished_jobs_are_known_with_their_process(store: JobStore) -> None:
    store.note_unfinished({"j": ("queued", "p"), "k": ("queued", "p")}, NOW)
    store.note_unfinished({"j": ("running", "q")}, NOW)
    assert store.unfinished() == {"j": ("running", "q"), "k": ("queued", "p")}
    store.add([job("j")])
    store.note_unfinished({"j": ("running", "q")}, NOW)
    assert store.unfinished() == {"k": ("queued", "p")}


def test_a_job_is_open_until_it_is_closed(store: JobStore) -> None:
    store.note_unfinished({"q": ("queued", "p")}, NOW)
    store.add([job("j", file("a.png"))])
    archived = file("a.png", state="archived")._replace(key="out/x/a.png", sha256="0" * 64, size_bytes=3)
    store.set_results("j", [archived])
    (found,) = store.open_jobs()
    assert found.outputs == (archived,)
    store.close_job("j", "success")
    assert store.open_jobs() == []


def test_the_archived_file_of_an_earlier_job_is_found(store: JobStore) -> None:
    for number, state in enumerate(("archived", "archived", "vanished")):
        store.add([job(f"{number}", file("a.png", number, state=state), finished_at=NOW + number)])
    wanted = file("a.png", cached=True)
    numbers = [
        found.number if (found := store.earlier_output(wanted, NOW + before)) is not None else None
        for before in (-1, 0, 1, 2)
    ]
    assert numbers == [None, 0, 1, 1]
    assert store.earlier_output(wanted._replace(subfolder="y"), NOW + 9) is None


def test_a_later_job_that_only_took_the_file_from_the_cache_wrote_nothing(store: JobStore) -> None:
    store.add([job("cached", file("a.png", cached=True), finished_at=NOW + 2)])
    assert not store.was_written_later(file("a.png"), NOW)
    store.add([job("written", file("a.png"), finished_at=NOW + 3)])
    assert store.was_written_later(file("a.png"), NOW)
    assert not store.was_written_later(file("a.png"), NOW + 3)


def test_webhooks_wait_in_the_order_in_which_they_are_due(store: JobStore) -> None:
    for number, job_id in enumerate(("a", "b", "c")):
        store.add([job(job_id)])
        store.announce(job_id, "success", None if job_id == "c" else f"msg_{job_id}", NOW + number)
        store.announce(job_id, "success", "msg_again", NOW)
    assert store.waiting_deliveries() == 2
    store.postpone_delivery("msg_a", 3, NOW + 60)
    due = store.next_delivery()
    assert due is not None
    assert (due.job_id, due.message_id, due.next_try) == ("b", "msg_b", NOW + 1)
    store.end_delivery("msg_b")
    store.hasten_deliveries(NOW + 5)
    due = store.next_delivery()
    assert due is not None
    assert (due.job_id, due.tries, due.next_try) == ("a", 3, NOW + 5)


def test_old_jobs_are_forgotten_once_nothing_waits_for_them(store: JobStore) -> None:
    for job_id, closed, delivered in (("open", False, True), ("waiting", True, False), ("over", True, True)):
        store.add([job(job_id, file(f"{job_id}.png"))])
        store.announce(job_id, "success", None if delivered else "msg", NOW)
        if closed:
            store.close_job(job_id, "success")
    store.forget(NOW)
    assert store.find("over") is not None
    store.forget(NOW + 1)
    assert [store.find(job_id) is not None for job_id in ("open", "waiting", "over")] == [True, True, False]
    assert store.read("SELECT count(*) FROM outputs WHERE job_id = 'over'") == [(0,)]


def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    store = JobStore(path)
    store.open()
    assert store.add([job("j")]) == ["j"]
    store.close()
    assert any(b"no database" in other.read_bytes() for other in path.parent.iterdir() if other != path)


def test_a_file_whose_damage_is_no_text_is_kept_aside(path: Path) -> None:
    store = JobStore(path)
    store.open()
    store.close()
    body = path.read_bytes()
    assert b"tablejobsjobs" in body
    path.write_bytes(body.replace(b"tablejobsjobs", b"table\xf3obsjobs"))
    store.open()
    assert store.add([job("j")]) == ["j"]
    store.close()


def test_a_damaged_file_that_cannot_be_renamed_is_an_error_of_the_list(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, while another program reads it."""

    def refuse(_: Path) -> Path:
        raise PermissionError(errno.EACCES, "It is open in another program")

    path.write_bytes(b"no database" * 1000)
    monkeypatch.setattr("cloud_archive.jobs.store.move_aside", refuse)
    with pytest.raises(JobsError, match=r"nor renamed: .*open in another program"):
        JobStore(path).open()


def test_a_reader_changes_no_file(path: Path) -> None:
    with pytest.raises(JobsError, match="can't be opened"):
        JobStore(path, read_only=True).open()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(JobsError, match="can't be opened"):
        JobStore(path, read_only=True).open()
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_a_change_that_fails_leaves_nothing_and_a_closed_list_says_so(store: JobStore) -> None:
    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO deliveries VALUES ('j', 'm', 0, 0, 0)")
        db.execute("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(JobsError, match="failed"):
        store.change(work)
    assert store.waiting_deliveries() == 0
    store.close()
    with pytest.raises(JobsError, match="closed"):
        store.find("j")
