"""The thread around a settle queue."""

from __future__ import annotations

import threading

import pytest

from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.intake.settle_thread import SettleThread

from .settle_bench import SCANNED, Bench


def test_the_thread_hands_over_a_complete_file_and_ends(bench: Bench) -> None:
    done = threading.Event()
    queue = SettleQueue(
        bench.root,
        settle_seconds=0.05,
        on_complete=lambda file: done.set(),
        on_empty=lambda path: None,
        on_unreadable=lambda path, reason: None,
    )
    thread = SettleThread(queue)
    assert not thread.alive
    thread.start()
    assert thread.alive
    bench.write("a.bin")
    thread.hint("a.bin", SCANNED)
    assert done.wait(60)
    assert thread.stop(60)
    assert not thread.alive


def test_the_thread_goes_on_after_a_poll_that_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    polled = threading.Event()

    def fail(now: float) -> float | None:
        if polled.is_set():
            second.set()
        polled.set()
        raise RuntimeError("odd")

    second = threading.Event()
    monkeypatch.setattr(bench.queue, "poll", fail)
    thread = SettleThread(bench.queue)
    thread.start()
    assert polled.wait(60)
    thread.hint("a", SCANNED)
    assert second.wait(60)
    assert thread.alive
    assert thread.stop(60)
