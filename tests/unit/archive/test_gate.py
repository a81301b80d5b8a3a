"""The gate, with time moved by hand."""

from __future__ import annotations

import threading

from cloud_archive.archive.gate import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    RECOVER_AFTER,
    Gate,
    backoff_seconds,
)
from cloud_archive.store.failures import explain

AWAY = explain("ConnectionRefused")
BUSY = explain("SlowDown")


def gate(most: int = 8) -> Gate:
    return Gate(most, jitter=lambda: 1.0)


def test_an_open_gate_lets_as_many_in_as_there_are_places() -> None:
    it = gate(2)
    assert it.enter(0) is None
    assert it.enter(0) is None
    assert it.enter(0) is not None
    it.leave()
    assert it.enter(0) is None


def test_a_refusal_closes_it_for_a_moment_and_then_one_may_try() -> None:
    it = gate()
    it.enter(0)
    assert it.note_refusal(AWAY, 0) == FIRST_PAUSE_SECONDS
    it.leave()
    assert it.enter(0.1) == FIRST_PAUSE_SECONDS - 0.1
    assert it.enter(1) is None
    assert it.enter(1) is not None, "one trial at a time"


def test_pauses_grow_to_their_cap_and_no_further() -> None:
    it, now, pauses = gate(), 0.0, []
    for _ in range(9):
        assert it.enter(now) is None
        pauses.append(it.note_refusal(AWAY, now))
        it.leave()
        now += pauses[-1]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_uploads_that_fail_together_count_as_one_refusal() -> None:
    it = gate()
    for _ in range(8):
        it.enter(0)
    for _ in range(8):
        it.note_refusal(AWAY, 0.01)
        it.leave()
    closed = it.closed
    assert closed is not None
    assert closed.refusals == 1


def test_a_success_opens_it_and_says_so_once() -> None:
    it = gate()
    it.enter(0)
    it.note_refusal(AWAY, 0)
    assert it.note_success() is True
    assert it.note_success() is False
    assert it.closed is None


def test_end_pause_lets_one_upload_try_now() -> None:
    it = gate()
    it.enter(0)
    it.note_refusal(AWAY, 0)
    it.leave()
    it.end_pause()
    assert it.enter(0) is None


def test_slow_down_halves_the_uploads_and_success_brings_them_back() -> None:
    it = gate(8)
    it.enter(0)
    it.note_refusal(BUSY, 0)
    it.leave()
    it.note_success()
    assert sum(it.enter(100) is None for _ in range(20)) == 4
    for _ in range(4 * RECOVER_AFTER):
        it.note_success()
    assert sum(it.enter(100) is None for _ in range(20)) == 4, "all eight places again"
    assert not it.narrowed


def test_a_wait_that_the_store_asks_for_is_kept() -> None:
    it = gate()
    it.enter(0)
    assert it.note_refusal(BUSY, 0, retry_after_seconds=40) == 40


def test_backoff_leaves_half_to_chance() -> None:
    assert backoff_seconds(3, first=1, longest=60, jitter=lambda: 0.0) == 2
    assert backoff_seconds(3, first=1, longest=60, jitter=lambda: 1.0) == 4
    assert backoff_seconds(5000, first=1, longest=60, jitter=lambda: 1.0) == 60


def test_a_success_that_makes_room_for_one_more_says_so() -> None:
    """Otherwise a thread that waits to be let in would sleep until its pause ends."""
    it = gate(8)
    it.enter(0)
    it.note_success()
    it.note_refusal(BUSY, 0)
    found = [count for count in range(1, 9 * RECOVER_AFTER) if it.note_success()]
    assert found == [1, *(times * RECOVER_AFTER for times in (1, 2, 3, 4))], "the first one opens the gate"


def test_uploads_that_are_throttled_at_the_same_time_halve_once() -> None:
    it = gate(8)
    for _ in range(8):
        it.enter(0)
    for _ in range(8):
        it.note_refusal(BUSY, 0.01)
        it.leave()
    it.note_success()
    assert sum(it.enter(100) is None for _ in range(20)) == 4


def test_a_link_too_slow_for_so_many_uploads_gets_fewer() -> None:
    for code in ("RequestTimeout", "ReadTimeout"):
        it = gate(8)
        it.enter(0)
        it.note_refusal(explain(code), 0)
        it.leave()
        it.note_success()
        assert sum(it.enter(100) is None for _ in range(20)) == 4


def test_a_long_upload_under_way_does_not_keep_the_closed_gate_from_trying() -> None:
    gate = Gate(8, jitter=lambda: 1.0)
    entered: list[float | None] = []
    long_one = threading.Thread(target=lambda: entered.append(gate.enter(0)))
    long_one.start()
    long_one.join()
    assert gate.enter(0) is None
    gate.note_refusal(explain("ConnectionRefused"), 0)
    gate.leave()
    assert gate.enter(1) is None, "the one that is still inside is no trial"
    assert gate.enter(1) is not None, "one trial at a time"
