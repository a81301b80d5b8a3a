"""The executor whose threads never delay the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import CancelledError, wait

import pytest

from cloud_archive.executor import DaemonExecutor


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
