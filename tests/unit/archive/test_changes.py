"""Waking whoever waits for a change, and telling the listener."""

from __future__ import annotations

import threading

from cloud_archive.archive.changes import ChangeSignal


def test_a_change_wakes_every_waiting_thread_and_tells_the_listener() -> None:
    told: list[int] = []
    signal = ChangeSignal(lambda: told.append(1))
    woken = threading.Semaphore(0)

    def wait() -> None:
        with signal.condition:
            ready.release()
            signal.condition.wait(60)
        woken.release()

    ready = threading.Semaphore(0)
    for _ in range(2):
        threading.Thread(target=wait, daemon=True).start()
        assert ready.acquire(timeout=60)
    signal.notify_waiters()
    assert woken.acquire(timeout=60)
    assert woken.acquire(timeout=60)
    assert told == [1]


def test_an_announcement_tells_the_listener_only() -> None:
    told: list[int] = []
    signal = ChangeSignal(lambda: told.append(1))
    signal.announce()
    assert told == [1]
    signal.wait(0.01)
    assert told == [1]
