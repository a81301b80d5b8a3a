"""The signal that wakes waiting threads and calls the listener."""

from __future__ import annotations

import threading

from cloud_archive.archive.changes import ChangeSignal


def test_a_change_wakes_every_waiting_thread_and_calls_the_listener() -> None:
    told: list[int] = []
    signal = ChangeSignal(lambda: told.append(1))
    woken = threading.Semaphore(0)

    def wait() -> None:
        with signal._condition:
            ready.release()
            signal._condition.wait(3600)
        woken.release()

    ready = threading.Semaphore(0)
    for _ in range(2):
        threading.Thread(target=wait, daemon=True).start()
        assert ready.acquire(timeout=60)
    signal.notify_waiters()
    assert woken.acquire(timeout=60)
    assert woken.acquire(timeout=60)
    assert told == [1]


def test_an_announcement_only_calls_the_listener() -> None:
    told: list[int] = []
    signal = ChangeSignal(lambda: told.append(1))
    signal.announce()
    assert told == [1]
    assert signal.count == 0, "no thread in `wait` returns"


def test_a_thread_that_missed_a_change_does_not_wait_for_the_next() -> None:
    signal = ChangeSignal(lambda: None)
    seen = signal.count
    signal.notify_waiters()
    returned = threading.Event()

    def wait() -> None:
        signal.wait(3600, seen)
        returned.set()

    threading.Thread(target=wait, daemon=True).start()
    assert returned.wait(60)
