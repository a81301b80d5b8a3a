"""Following jobs on a real ledger and a real list of jobs: queues, events, errors and the one announcement."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive.errors import JobsError
from cloud_archive.files import stat_version
from cloud_archive.intake.selection import Selection
from cloud_archive.jobs import jobs as jobs_module
from cloud_archive.jobs.jobs import KEPT_SECONDS, MAX_UNFINISHED, Jobs
from cloud_archive.jobs.records import JobRecord, Output
from cloud_archive.jobs.store import JobStore
from cloud_archive.ledger.ledger import Ledger
from tests.functional.jobs import output, passed_job

NOW = 1_775_046_896.0


class Stage:
    """The jobs of a watched directory; `finals` gets each job that is announced."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.ledger = Ledger(folder / "ledger.sqlite3")
        self.ledger.open()
        self.finals: queue.Queue[tuple[str, list[str | None]]] = queue.Queue()
        self.fail: Callable[[], None] = lambda: None
        self.path = folder / "jobs.sqlite3"
        self.jobs = Jobs(
            JobStore(self.path),
            root,
            self.ledger,
            Selection(),
            on_final=self._on_final,
            message_id=lambda: "msg",
            clock=lambda: NOW,
        )

    def _on_final(self, job: JobRecord, outputs: list[Output]) -> None:
        self.fail()
        self.finals.put((job.job_id, [output.state for output in outputs]))

    def state_of(self, job_id: str) -> tuple[str, str | None] | None:
        answer = self.jobs.answer(job_id)
        return None if answer is None else (answer["state"], answer["status"])


@pytest.fixture
def stage(root: Path, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(root, tmp_path)
    stage.jobs.start()
    yield stage
    stage.jobs.close()
    stage.ledger.close()


def finished(job_id: str, *names: str) -> dict[str, object]:
    return passed_job(job_id, *map(output, names), started_at=NOW - 9, finished_at=NOW - 1)


def test_a_job_that_is_in_no_list_any_more_was_removed_or_interrupted(stage: Stage) -> None:
    stage.jobs.note_queue("p", ["a"], ["b", "c"])
    stage.jobs.note_queue("p", ["b"], [])
    assert [stage.state_of(job_id) for job_id in "abc"] == [
        ("failed", "removed"),
        ("running", "running"),
        ("failed", "removed"),
    ]
    stage.jobs.note_queue("q", [], ["d"])
    assert [stage.state_of(job_id) for job_id in "bd"] == [("failed", "interrupted"), ("running", "queued")]
    assert {stage.finals.get(timeout=60)[0] for _ in "abc"} == {"a", "b", "c"}


def test_a_job_that_was_cut_off_and_is_queued_again_ends_by_its_second_run(stage: Stage) -> None:
    stage.jobs.note_queue("p", ["a"], [])
    stage.jobs.note_queue("q", [], [])
    assert stage.state_of("a") == ("failed", "interrupted")
    assert stage.finals.get(timeout=60)[0] == "a"
    stage.jobs.note_queue("q", [], ["a"])
    assert stage.state_of("a") == ("running", "queued")
    stage.jobs.note_finished([finished("a")])
    assert stage.state_of("a") == ("complete", "success")
    assert stage.finals.get(timeout=60)[0] == "a"


def test_an_id_that_is_no_valid_text_hides_no_other_job(stage: Stage) -> None:
    stage.jobs.note_queue("p", ["half-\ud83d"], ["b", "zero-\0", "long-" + "x" * 500])
    assert stage.state_of("b") == ("running", "queued")
    assert stage.state_of("half-?") == ("running", "running")
    stage.jobs.note_finished([finished("half-\ud83d")])
    stage.jobs.note_queue("p", [], ["b"])
    assert stage.state_of("half-?") == ("complete", "success")
    assert stage.state_of("zero- ") == ("failed", "removed")


def test_a_job_rests_four_times_as_long_as_its_look_up_took(
    stage: Stage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.png").write_bytes(b"picture")
    refresh, calls = Jobs._refresh, []
    moment = 0.0

    def slow_refresh(jobs: Jobs, job_id: str) -> None:
        nonlocal moment
        calls.append(job_id)
        refresh(jobs, job_id)
        if job_id == "a":
            moment += 1 / 16

    monkeypatch.setattr(jobs_module, "time", SimpleNamespace(monotonic=lambda: moment))
    monkeypatch.setattr(Jobs, "_refresh", slow_refresh)
    stage.jobs.note_finished([finished("a", "a.png"), finished("b")])
    assert stage.finals.get(timeout=60)[0] == "b"
    moment += 3 / 16
    stage.jobs.note_path("a.png")
    stage.jobs.note_finished([finished("c")])  # is after "a" in the order
    assert stage.finals.get(timeout=60)[0] == "c"
    assert calls == ["a", "b", "c"], "it rests"
    (root / "a.png").unlink()
    moment += 1 / 16
    assert stage.finals.get(timeout=60)[0] == "a"
    assert calls == ["a", "b", "c", "a"]


def test_a_list_that_was_cut_says_nothing_of_the_jobs_that_it_lacks(stage: Stage) -> None:
    stage.jobs.note_queue("p", [], ["last"])
    stage.jobs.note_queue("p", [], [f"job-{number}" for number in range(MAX_UNFINISHED + 1)])
    assert stage.state_of("last") == ("running", "queued")
    assert stage.state_of(f"job-{MAX_UNFINISHED}") is None


def test_a_removed_job_that_finishes_after_all_is_known_by_its_end(stage: Stage) -> None:
    stage.jobs.note_queue("p", ["a"], [])
    stage.jobs.note_queue("p", [], [])
    assert stage.jobs.note_finished([finished("a"), {"job_id": 7}]) == 1
    assert stage.state_of("a") == ("complete", "success")
    assert stage.jobs.note_finished([finished("a", "late.png")]) == 0


def test_a_removed_job_that_finishes_while_its_end_is_announced_is_announced_by_its_end(
    stage: Stage, root: Path
) -> None:
    (root / "a.png").write_bytes(b"picture")

    def finish() -> None:
        stage.fail = lambda: None
        stage.jobs.note_finished([finished("a", "a.png")])

    stage.fail = finish
    stage.jobs.note_queue("p", ["a"], [])
    stage.jobs.note_queue("p", [], [])
    assert stage.finals.get(timeout=60) == ("a", []), "it was removed"
    (root / "a.png").unlink()
    stage.jobs.note_path("a.png")
    assert stage.finals.get(timeout=60) == ("a", ["vanished"])


def test_a_subscriber_is_called_for_its_job_until_it_unsubscribes(stage: Stage) -> None:
    called, other = threading.Event(), threading.Event()
    unsubscribe = stage.jobs.subscribe("a", called.set)
    stage.jobs.subscribe("b", other.set)
    stage.jobs.note_queue("p", ["a"], [])
    assert called.wait(60)
    unsubscribe()
    called.clear()
    stage.jobs.note_finished([finished("a")])
    assert stage.finals.get(timeout=60) == ("a", [])
    assert not called.is_set()
    assert not other.is_set()
    stage.jobs.close()
    assert other.is_set(), "every subscriber is called at the end"


def test_a_file_is_looked_up_again_when_something_happens_to_it(stage: Stage, root: Path) -> None:
    (root / "a.png").write_bytes(b"picture")
    called: queue.Queue[None] = queue.Queue()
    stage.jobs.subscribe("a", lambda: called.put(None))
    stage.jobs.note_finished([finished("a", "a.png")])
    for _ in range(2):  # when it was added, and when its file was looked up
        called.get(timeout=60)
    assert stage.state_of("a") == ("uploading", "success")
    stage.jobs.note_path("other.png")
    (root / "a.png").unlink()
    stage.jobs.note_path("a.png")
    assert stage.finals.get(timeout=60) == ("a", ["vanished"])


def test_a_file_that_is_deleted_without_an_event_is_missed(
    stage: Stage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "PENDING_SECONDS", 0.01)
    (root / "a.png").write_bytes(b"picture")
    looked_up = threading.Event()
    stage.jobs.subscribe("a", looked_up.set)
    stage.jobs.note_finished([finished("a", "a.png")])
    assert looked_up.wait(60)
    (root / "a.png").unlink()
    assert stage.finals.get(timeout=60) == ("a", ["vanished"])


def test_an_error_is_tried_again_and_a_job_is_announced_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs_module, "_RETRY_SECONDS", 0.01)
    failures = [ValueError("planted"), JobsError("The disk is full.")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    stage.fail = fail
    stage.jobs.note_finished([finished("a")])
    assert stage.finals.get(timeout=60) == ("a", [])
    stage.jobs.note_finished([finished("b")])
    assert stage.finals.get(timeout=60) == ("b", [])
    assert stage.finals.empty()
    assert "The files of a job can't be followed now; trying again soon: The disk is full." in caplog.text
    assert stage.jobs.store.waiting_deliveries() >= 1


def test_a_job_that_a_user_may_still_recover_is_announced_once(stage: Stage, root: Path) -> None:
    (root / "a.png").write_bytes(b"picture")
    stage.ledger.add_to_baseline([stat_version(root, "a.png").fingerprint])
    called: queue.Queue[None] = queue.Queue()
    stage.jobs.subscribe("a", lambda: called.put(None))
    stage.jobs.note_finished([finished("a", "a.png")])
    assert stage.finals.get(timeout=60) == ("a", ["baseline"])
    stage.jobs.note_path("a.png")
    for _ in range(3):  # when it was added, and each time that its file was looked up
        called.get(timeout=60)
    assert stage.finals.empty()


def test_open_jobs_go_on_after_a_restart_and_old_ones_are_forgotten(
    stage: Stage, root: Path, tmp_path: Path
) -> None:
    store = stage.jobs.store
    (root / "a.png").write_bytes(b"picture")
    stage.jobs.note_finished([finished("a", "a.png")])
    store.add([JobRecord("old", "finished", status="success", finished_at=NOW - KEPT_SECONDS - 1)])
    store.close_job("old", "success")
    stage.jobs.close()
    stage.ledger.close()
    again = Stage(root, tmp_path)
    again.jobs.start()
    try:
        assert again.state_of("old") is None
        (root / "a.png").unlink()
        again.jobs.note_path("a.png")
        assert again.finals.get(timeout=60) == ("a", ["vanished"])
    finally:
        again.jobs.close()
        again.ledger.close()
