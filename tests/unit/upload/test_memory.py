"""The budget of bytes in memory, with threads that wait on each other and never on time; and buffers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cloud_archive.upload.memory import MIN_BUFFER_BYTES, STEP_BYTES, Buffers, ByteBudget
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


# --- buffers

IMAGE_BYTES = 1_500_000


def lend_new(buffers: Buffers, size_bytes: int = IMAGE_BYTES) -> bool:
    """Borrow memory and write to it. Return whether it is fresh."""
    with buffers.lend(size_bytes) as lent:
        assert lent is not None
        assert len(lent) == size_bytes
        was_used, lent[0] = lent[0], 1
    return not was_used


def test_a_small_file_gets_no_buffer() -> None:
    with Buffers().lend(MIN_BUFFER_BYTES - 1) as lent:
        assert lent is None


def test_a_buffer_is_used_again_for_a_file_of_about_its_size() -> None:
    buffers = Buffers()
    assert lend_new(buffers)
    assert not lend_new(buffers)
    assert not lend_new(buffers, IMAGE_BYTES - STEP_BYTES // 2)
    assert lend_new(buffers, IMAGE_BYTES + STEP_BYTES), "too large for it"
    assert lend_new(buffers, IMAGE_BYTES * 3)


def test_two_files_at_once_have_two_buffers() -> None:
    buffers = Buffers()
    with buffers.lend(IMAGE_BYTES):
        assert lend_new(buffers)
    assert lend_new(buffers), "the first one was not written to"
    assert not lend_new(buffers)


def test_a_buffer_that_a_request_still_reads_is_not_used_again() -> None:
    buffers = Buffers()
    with buffers.lend(IMAGE_BYTES) as lent:
        assert lent is not None
        lent[0] = 7
        read_by_a_request = memoryview(lent)
    assert lend_new(buffers)
    assert read_by_a_request[0] == 7


def test_unused_buffers_are_given_up() -> None:
    buffers = Buffers()
    assert lend_new(buffers)
    buffers.give_up()
    assert lend_new(buffers)


def test_unused_buffers_make_room_for_others_within_the_limit() -> None:
    buffers = Buffers(4 * MIN_BUFFER_BYTES)
    assert lend_new(buffers, 2 * MIN_BUFFER_BYTES)
    assert lend_new(buffers, 3 * MIN_BUFFER_BYTES)
    assert lend_new(buffers, 2 * MIN_BUFFER_BYTES)
    assert lend_new(buffers, MIN_BUFFER_BYTES)
    assert not lend_new(buffers, 2 * MIN_BUFFER_BYTES), "both fit"
