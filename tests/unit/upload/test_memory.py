"""The budget of bytes in memory, with threads that wait on each other and never on time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cloud_archive.upload.memory import ByteBudget
from tests.servers import wait_until

DEADLINE = 60.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as found:
        yield found


class Holder:
    """A thread that holds so many bytes until it is told to let go."""

    def __init__(self, pool: ThreadPoolExecutor, budget: ByteBudget, size_bytes: int) -> None:
        self.has = threading.Event()
        self._go = threading.Event()
        self.end: Future[None] = pool.submit(self._hold, budget, size_bytes)

    def _hold(self, budget: ByteBudget, size_bytes: int) -> None:
        with budget.hold(size_bytes):
            self.has.set()
            assert self._go.wait(DEADLINE)

    def let_go(self) -> None:
        self._go.set()
        self.end.result(DEADLINE)


def wait_for_requests(budget: ByteBudget, count: int) -> None:
    """Return once `count` requests wait for memory."""
    wait_until(lambda: len(budget._queue) == count, f"{count} wait")


def test_what_does_not_fit_waits_until_there_is_room(pool: ThreadPoolExecutor) -> None:
    budget = ByteBudget(10)
    first, second = Holder(pool, budget, 6), Holder(pool, budget, 4)
    assert first.has.wait(DEADLINE)
    assert second.has.wait(DEADLINE)
    third = Holder(pool, budget, 1)
    wait_for_requests(budget, 1)
    assert not third.has.is_set()
    second.let_go()
    assert third.has.wait(DEADLINE)
    first.let_go()
    third.let_go()
    assert budget.held_bytes == 0


def test_a_body_larger_than_the_budget_goes_alone(pool: ThreadPoolExecutor) -> None:
    budget = ByteBudget(10)
    small = Holder(pool, budget, 1)
    assert small.has.wait(DEADLINE)
    large = Holder(pool, budget, 1000)
    wait_for_requests(budget, 1)
    small.let_go()
    assert large.has.wait(DEADLINE)
    other = Holder(pool, budget, 1)
    wait_for_requests(budget, 1)
    assert not other.has.is_set()
    large.let_go()
    assert other.has.wait(DEADLINE)
    other.let_go()


def test_a_large_body_is_not_passed_by_small_ones(pool: ThreadPoolExecutor) -> None:
    budget = ByteBudget(10)
    first = Holder(pool, budget, 5)
    assert first.has.wait(DEADLINE)
    large = Holder(pool, budget, 8)
    wait_for_requests(budget, 1)
    small = Holder(pool, budget, 2)
    wait_for_requests(budget, 2)
    assert not small.has.is_set(), "it would fit, but came later"
    first.let_go()
    assert large.has.wait(DEADLINE)
    assert small.has.wait(DEADLINE)
    large.let_go()
    small.let_go()


def test_who_needs_nothing_does_not_wait(pool: ThreadPoolExecutor) -> None:
    budget = ByteBudget(10)
    first = Holder(pool, budget, 10)
    assert first.has.wait(DEADLINE)
    second = Holder(pool, budget, 1)
    wait_for_requests(budget, 1)
    with budget.hold(0):
        pass
    first.let_go()
    second.let_go()


def test_room_comes_back_from_a_block_that_fails() -> None:
    budget = ByteBudget(10)
    with pytest.raises(ValueError, match="broken"), budget.hold(10):
        raise ValueError("broken")
    assert budget.held_bytes == 0


def test_many_threads_never_hold_more_than_the_budget(pool: ThreadPoolExecutor) -> None:
    budget, most, lock, held = ByteBudget(100), 0, threading.Lock(), 0

    def use(size_bytes: int) -> None:
        nonlocal most, held
        with budget.hold(size_bytes):
            with lock:
                held += size_bytes
                most = max(most, held)
            with lock:
                held -= size_bytes

    list(pool.map(use, [number % 60 + 1 for number in range(600)]))
    assert most <= 100
    assert budget.held_bytes == 0
