"""How long there was no progress."""

from __future__ import annotations

from typing import Any

from cloud_archive.cli.once import StallTimer
from cloud_archive.intake.settle_rules import BEING_WRITTEN, UNREADABLE


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def status(**changes: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("uploaded_files", "already_archived_files", "failed_files", "vanished_files"), 0)
    return {**counts, "waiting": [], "active": [], **changes}


def sending(sent_bytes: int) -> dict[str, Any]:
    return status(active=[{"path": "a.png", "sent_bytes": sent_bytes}])


def waiting(reason: str, size_bytes: int = 1) -> dict[str, Any]:
    return status(waiting=[{"path": "a.png", "size_bytes": size_bytes, "reason": reason}])


def seconds(*statuses: dict[str, Any]) -> list[float]:
    """Return what the timer says of statuses that come ten seconds apart."""
    clock = Clock()
    timer = StallTimer(clock)
    found = []
    for one in statuses:
        found.append(timer.seconds(one))
        clock.now += 10
    assert timer.elapsed_seconds() == 10 * len(statuses)
    return found


def test_without_a_change_the_time_adds_up() -> None:
    assert seconds(status(), status(), status()) == [0, 10, 20]


def test_a_file_that_ended_in_any_way_is_progress() -> None:
    for name in ("uploaded_files", "already_archived_files", "failed_files", "vanished_files"):
        assert seconds(status(), status(), status(**{name: 1}), status(**{name: 1})) == [0, 10, 0, 10]


def test_bytes_are_progress_only_beyond_what_was_sent_before() -> None:
    assert seconds(sending(5), sending(5), sending(6)) == [0, 10, 0]
    assert seconds(sending(5), sending(0), sending(5)) == [0, 10, 20], "a retry sends the same again"


def test_a_file_that_is_written_to_is_progress_while_it_grows() -> None:
    growing = [waiting(BEING_WRITTEN, size) for size in (1, 2, 2)]
    assert seconds(*growing) == [0, 0, 10]
    assert seconds(*[waiting(UNREADABLE)] * 3) == [0, 10, 20]


def test_a_file_that_settles_needs_no_help() -> None:
    assert seconds(*[waiting("It changed less than 2 s ago.")] * 3) == [0, 0, 0]
