"""Requests that are cancelled where an answer fills the memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from cloud_archive.store.guarded_requests import AnswerTooLarge, GuardedRequests, resident_bytes


class Memory:
    """Stands for what the system says."""

    def __init__(self) -> None:
        self.bytes = 1000
        self.on_call: Callable[[], object] = lambda: None

    def __call__(self) -> int:
        self.on_call()
        return self.bytes


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def requests(memory: Memory) -> Iterator[GuardedRequests]:
    made = GuardedRequests(memory, max_growth_bytes=50)
    yield made
    made.close()


async def answer() -> str:
    return "answer"


async def refuse() -> str:
    raise ValueError("refused")


async def forever() -> str:
    await asyncio.Event().wait()
    return "never"


def test_a_request_answers_and_raises_as_it_would_without_a_guard(requests: GuardedRequests) -> None:
    assert requests.run(answer) == "answer"
    with pytest.raises(ValueError, match="refused"):
        requests.run(refuse)


def test_a_request_is_cancelled_once_the_memory_has_grown_too_much(
    requests: GuardedRequests, memory: Memory
) -> None:
    async def grow() -> str:
        memory.bytes += 51
        return await forever()

    with pytest.raises(AnswerTooLarge):
        requests.run(grow)


def test_memory_within_the_limit_cancels_nothing(requests: GuardedRequests, memory: Memory) -> None:
    async def grow() -> str:
        memory.bytes += 50
        checked = asyncio.Event()
        memory.on_call = checked.set
        await checked.wait()
        return "answer"

    assert requests.run(grow) == "answer"


def test_closing_ends_what_is_under_way_and_the_next_request_starts_anew(requests: GuardedRequests) -> None:
    began = threading.Event()
    ended: list[BaseException] = []

    async def wait() -> str:
        began.set()
        return await forever()

    def run() -> None:
        try:
            requests.run(wait)
        except AnswerTooLarge as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(60)
    running = requests._thread
    assert running is not None
    requests.close()
    thread.join(60)
    assert len(ended) == 1
    assert not running.is_alive()
    assert requests.run(answer) == "answer"


def test_this_system_tells_the_memory_of_the_process() -> None:
    assert 1024 * 1024 < resident_bytes() < 1024**4


def test_work_beside_a_request_is_done_while_it_waits(requests: GuardedRequests) -> None:
    done = threading.Event()

    async def wait_for_it() -> bool:
        return await asyncio.to_thread(done.wait, 60)

    assert requests.run(wait_for_it, meanwhile=done.set)
