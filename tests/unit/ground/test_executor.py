"""The executor whose threads never delay the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, wait

import pytest

from cloud_archive.executor import CallTimeout, DaemonExecutor, call_within, unawaited_threads


def test_calls_run_side_by_side_and_no_more_than_asked_for() -> None:
    executor = DaemonExecutor(3, "test")
    both = threading.Barrier(3)
    futures = [executor.submit(both.wait, 60) for _ in range(3)]
    assert sorted(future.result(60) for future in futures) == [0, 1, 2]
    assert [executor.submit(pow, number, 2).result(60) for number in range(50)] == [n * n for n in range(50)]
    assert len(executor._threads) == 3
    executor.shutdown()
    assert not any(thread.is_alive() for thread in executor._threads)


def test_an_error_reaches_the_waiting_thread() -> None:
    with DaemonExecutor(1, "test") as executor, pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(60)


def test_calls_cut_off_by_shutdown_end_every_wait_for_them() -> None:
    executor = DaemonExecutor(1, "test")
    go_on = threading.Event()
    futures = [executor.submit(go_on.wait, 60) for _ in range(4)]
    executor.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    assert wait(futures, 60).not_done == set()
    with pytest.raises(CancelledError):
        futures[-1].result()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)


def test_a_thread_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = (
        "import time; from cloud_archive.executor import DaemonExecutor;"
        "DaemonExecutor(1, 'test').submit(time.sleep, 600)"
    )
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)


def test_an_error_in_the_block_waits_for_no_call() -> None:
    go_on, begun = threading.Event(), threading.Event()
    calls: list[Future[bool]] = []

    def hang() -> bool:
        begun.set()
        return go_on.wait(60)

    def fail_beside() -> None:
        with unawaited_threads(1, "test") as threads:
            calls.extend(threads.submit(hang) for _ in range(2))
            assert begun.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_beside()
    assert [call.done() for call in calls] == [False, True]
    assert calls[1].cancelled()
    go_on.set()
    assert calls[0].result(60)


def test_a_call_with_a_time_limit_returns_raises_or_goes_on() -> None:
    assert call_within(60, lambda: 8, "test") == 8
    with pytest.raises(ZeroDivisionError):
        call_within(60, lambda: divmod(1, 0), "test")
    go_on, ended = threading.Event(), threading.Event()

    def late() -> None:
        go_on.wait(60)
        ended.set()

    with pytest.raises(CallTimeout):
        call_within(0, late, "test")
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(60)


@pytest.fixture
def thread_limit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many more threads the system starts, as in a container with a limit of processes."""
    left = [0]
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    return left


def test_where_the_system_starts_no_more_threads_calls_wait_for_those_that_run(
    thread_limit: list[int],
) -> None:
    thread_limit[0] = 1
    go_on = threading.Event()
    with DaemonExecutor(4, "test") as executor:
        first, second = executor.submit(go_on.wait, 60), executor.submit(pow, 2, 3)
        go_on.set()
        assert (first.result(60), second.result(60)) == (True, 8)


def test_a_call_that_got_no_thread_at_all_is_refused_and_never_runs(thread_limit: list[int]) -> None:
    ran: list[int] = []
    executor = DaemonExecutor(4, "test")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        executor.submit(ran.append, 1)
    thread_limit[0] = 1
    executor.submit(ran.append, 2).result(60)
    executor.shutdown()
    assert ran == [2]
