"""When a command gives up on a store that refuses, or that makes no progress."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cloud_archive.archive.gate import Closed
from cloud_archive.cli.give_up import Refusals, StallTimer
from cloud_archive.intake.settle_rules import BEING_WRITTEN, QUIET_TIME, UNREADABLE
from cloud_archive.store.failures import explain

DENIED = replace(explain("AccessDenied"), transient=False)


def refused(times: int, *, transient: bool = False) -> Closed:
    return Closed(failure=replace(DENIED, transient=transient), until=0.0, refusals=times)


def test_two_refusals_in_a_row_are_final() -> None:
    refusals = Refusals()
    assert not refusals.are_final(refused(1))
    assert not refusals.are_final(refused(1)), "the same one, seen again"
    assert refusals.are_final(refused(2))


def test_what_waiting_cures_and_an_open_gate_begin_the_count_anew() -> None:
    refusals = Refusals()
    assert not refusals.are_final(refused(1))
    assert not refusals.are_final(refused(2, transient=True))
    assert not refusals.are_final(refused(3)), "the first after a store that was away proves nothing"
    assert not refusals.are_final(None)
    assert not refusals.are_final(refused(1))
    assert refusals.are_final(refused(2))


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
    assert seconds(*[waiting(QUIET_TIME)] * 3) == [0, 0, 0]
