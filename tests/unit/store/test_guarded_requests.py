"""Requests that are cancelled where an answer fills the memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from cloud_archive.store.guarded_requests import AnswerTooLarge, Cancelled, GuardedRequests, resident_bytes


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
        except Cancelled as error:
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


def test_a_request_that_was_made_just_before_closing_is_cancelled_too(
    requests: GuardedRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, go_on, scheduled = threading.Event(), threading.Event(), threading.Event()
    ended: list[type[BaseException]] = []

    async def keep_busy() -> str:
        busy.set()
        go_on.wait(60)  # blocks the event loop, so that the next request and `close` come in one step of it
        return await forever()

    def run(request: Callable[[], Awaitable[str]], meanwhile: Callable[[], object]) -> None:
        try:
            requests.run(request, meanwhile=meanwhile)
        except BaseException as error:
            ended.append(type(error))

    threads = [threading.Thread(target=run, args=(keep_busy, lambda: None), daemon=True)]
    threads[0].start()
    assert busy.wait(60)
    threads.append(threading.Thread(target=run, args=(forever, scheduled.set), daemon=True))
    threads[1].start()
    assert scheduled.wait(60)
    loop = requests._loop
    assert loop is not None
    schedule = loop.call_soon_threadsafe

    def then_go_on(callback: Callable[..., object]) -> None:
        schedule(callback)
        if callback == loop.stop:
            go_on.set()

    monkeypatch.setattr(loop, "call_soon_threadsafe", then_go_on)
    threads.append(threading.Thread(target=requests.close, daemon=True))
    threads[2].start()
    for thread in threads:
        thread.join(60)
    assert ended == [Cancelled, Cancelled]
    assert not any(thread.is_alive() for thread in threads)


def test_after_closing_the_memory_is_checked_as_before(requests: GuardedRequests, memory: Memory) -> None:
    began = threading.Event()

    async def begin() -> str:
        began.set()
        return await forever()

    def close() -> None:
        assert began.wait(60)
        requests.close()

    with pytest.raises(Cancelled):
        requests.run(begin, meanwhile=close)

    async def grow() -> str:
        memory.bytes += 51
        return await asyncio.wait_for(forever(), 60)

    with pytest.raises(AnswerTooLarge):
        requests.run(grow)


def test_this_system_tells_the_memory_of_the_process() -> None:
    assert 1024 * 1024 < resident_bytes() < 1024**4


def test_work_beside_a_request_is_done_while_it_waits(requests: GuardedRequests) -> None:
    done = threading.Event()

    async def wait_for_it() -> bool:
        return await asyncio.to_thread(done.wait, 60)

    assert requests.run(wait_for_it, meanwhile=done.set)


# --- a single request, without an event loop


class Single:
    """A request whose future is settled by another thread, as obstore does."""

    def __init__(self, settle: Callable[[asyncio.Future[str]], object] = lambda future: None) -> None:
        self._settle = settle
        self.future: asyncio.Future[str] | None = None

    def begin(self) -> asyncio.Future[str]:
        loop = asyncio.get_running_loop()
        future = self.future = loop.create_future()
        threading.Thread(target=loop.call_soon_threadsafe, args=(self._settle, future)).start()
        return future


def test_a_single_request_answers_and_raises(requests: GuardedRequests) -> None:
    assert requests.wait_for(Single(lambda future: future.set_result("answer")).begin) == "answer"
    with pytest.raises(ValueError, match="refused"):
        requests.wait_for(Single(lambda future: future.set_exception(ValueError("refused"))).begin)
    assert requests._thread is None, "no event loop was needed"


def test_an_answer_that_came_before_it_was_waited_for_is_returned(requests: GuardedRequests) -> None:
    settled = threading.Event()

    def settle(future: asyncio.Future[str]) -> None:
        future.set_result("answer")
        settled.set()

    assert requests.wait_for(Single(settle).begin, meanwhile=lambda: settled.wait(60)) == "answer"


def test_a_single_request_is_cancelled_once_the_memory_has_grown_too_much(
    requests: GuardedRequests, memory: Memory
) -> None:
    single = Single()

    def grow() -> None:
        memory.bytes += 51

    with pytest.raises(AnswerTooLarge):
        requests.wait_for(single.begin, meanwhile=grow)
    assert single.future is not None
    assert single.future.cancelled()


def test_memory_within_the_limit_cancels_no_single_request(requests: GuardedRequests, memory: Memory) -> None:
    checked = threading.Event()

    def settle(future: asyncio.Future[str]) -> None:
        assert checked.wait(60)
        future.set_result("answer")

    def grow() -> None:
        memory.bytes += 50
        memory.on_call = checked.set

    assert requests.wait_for(Single(settle).begin, meanwhile=grow) == "answer"


def test_a_single_request_that_never_ends_is_cancelled(memory: Memory) -> None:
    single = Single()
    with pytest.raises(AnswerTooLarge):
        GuardedRequests(memory, max_seconds=0).wait_for(single.begin)
    assert single.future is not None
    assert single.future.cancelled()


def test_closing_cancels_a_single_request(requests: GuardedRequests) -> None:
    with pytest.raises(Cancelled):
        requests.wait_for(Single().begin, meanwhile=requests.close)


def test_a_single_request_may_be_made_where_an_event_loop_runs(requests: GuardedRequests) -> None:
    async def ask() -> bool:
        running = asyncio.get_running_loop()
        requests.wait_for(Single(lambda future: future.set_result("answer")).begin)
        return asyncio.get_running_loop() is running

    assert asyncio.run(ask())


def test_without_a_thread_for_the_event_loop_the_next_request_tries_again(
    requests: GuardedRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="new thread"):
            requests.run(answer)
    assert requests.run(answer) == "answer"
