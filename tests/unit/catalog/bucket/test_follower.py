"""Following the others: when passes are due, and what becomes of troubles."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cloud_archive.catalog.bucket.follower import FULL_SECONDS, IDLE_SECONDS, VIEWED_SECONDS, Follower
from cloud_archive.catalog.bucket.sync import CatalogSync, SyncProgress, SyncResult
from cloud_archive.errors import CatalogError
from tests.servers import wait_until


class Passes(CatalogSync):
    """Counts the passes; a test says what each does."""

    def __init__(self) -> None:
        self.recent: list[bool] = []
        self.work: Callable[[], SyncResult] = SyncResult
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        self.ended = threading.Event()

    def sync(self, *, recent: bool = False, **more: Any) -> SyncResult:
        self.recent.append(recent)
        self.on_progress = more.get("on_progress", self.on_progress)
        self.ended.set()
        return self.work()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def passes() -> Passes:
    return Passes()


def test_a_pass_is_due_each_five_minutes_and_each_half_minute_while_somebody_looks(passes: Passes) -> None:
    clock = Clock()
    follower = Follower(lambda: passes, clock=clock, first_after_seconds=30.0)
    assert follower.seconds_until_next() == 30.0
    follower.note_viewer()
    assert follower.seconds_until_next() == 0.0  # nothing was read yet: at once
    follower.run_pass()
    assert follower.seconds_until_next() == VIEWED_SECONDS
    clock.now += 100.0  # nobody has looked for more than a minute
    follower.run_pass()
    assert follower.seconds_until_next() == IDLE_SECONDS
    clock.now += 10.0
    follower.note_viewer()
    assert follower.seconds_until_next() == VIEWED_SECONDS - 10.0
    clock.now += 100.0
    follower.note_viewer()
    assert follower.seconds_until_next() <= 0.0
    assert passes.recent == [False, True]
    clock.now += FULL_SECONDS
    follower.run_pass()
    assert passes.recent[-1] is False  # now and then everything is listed, for files that came late


def test_what_goes_wrong_is_shown_and_tried_again(passes: Passes, caplog: pytest.LogCaptureFixture) -> None:
    follower = Follower(lambda: passes, clock=Clock())

    def fail() -> SyncResult:
        raise CatalogError("no room on the disk")

    passes.work = fail
    follower.run_pass()
    assert follower.status()["trouble"] == "no room on the disk"
    follower.run_pass()
    assert caplog.messages == ["The catalog can't be read from the bucket now: no room on the disk"]
    passes.work = lambda: SyncResult(files=1, left=2, troubles=["one can't be read now"])
    follower.run_pass()
    assert follower.status()["trouble"] == "one can't be read now"
    passes.work = SyncResult
    follower.run_pass()
    assert (follower.status()["trouble"], follower.status()["state"]) == (None, "complete")
    assert passes.recent == [False] * 4  # none of the first three has read everything


def test_files_that_were_replaced_while_they_were_read_are_found_by_the_next_pass(passes: Passes) -> None:
    """What replaced them may lie in an old month, which a pass over the last days does not list."""
    follower = Follower(lambda: passes, clock=Clock())
    passes.work = lambda: SyncResult(files=1, replaced=1)
    follower.run_pass()
    passes.work = SyncResult
    follower.run_pass()
    follower.run_pass()
    assert passes.recent == [False, False, True]
    passes.work = lambda: SyncResult(replaced=1)
    follower.run_pass()
    follower.run_pass()
    assert passes.recent[3:] == [True, False]


def test_rows_are_left_until_everything_was_listed_once(passes: Passes) -> None:
    follower = Follower(lambda: passes, clock=Clock())
    assert follower.left_rows() == 0, "not known yet"
    passes.progress = SyncProgress(rows=10, read_bytes=1000, known_bytes=4000)
    seen: list[int | None] = []

    def work() -> SyncResult:
        seen.append(follower.left_rows())
        return SyncResult()

    passes.work = work
    follower.run_pass()
    assert (seen, follower.left_rows()) == ([30], None)


def test_a_complete_pass_has_loaded_every_file_that_is_known(passes: Passes) -> None:
    follower = Follower(lambda: passes, clock=Clock())

    def counts() -> tuple[object, ...]:
        status = follower.status()
        return status["state"], status["loaded_files"], status["known_files"]

    def work(left: int) -> SyncResult:
        passes.on_progress(2, 5)
        assert counts() == ("loading", 2, 5)
        return SyncResult(files=5 - left, left=left)

    passes.work = lambda: work(1)
    follower.run_pass()
    assert counts() == ("waiting", 4, 5)
    passes.work = lambda: work(0)
    follower.run_pass()
    assert counts() == ("complete", 5, 5)


def test_the_thread_waits_until_somebody_looks_and_ends_when_it_is_stopped(passes: Passes) -> None:
    follower = Follower(lambda: passes, first_after_seconds=3600.0)
    follower.start()
    assert passes.recent == []
    follower.note_viewer()
    assert passes.ended.wait(60)
    follower.stop()
    wait_until(lambda: not follower._thread.is_alive(), "ended")
    assert len(passes.recent) == 1
