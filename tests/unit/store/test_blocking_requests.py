"""Blocking requests whose connections are ended where an answer fills the memory."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from cloud_archive.store.blocking_requests import BlockingRequests, end_connections
from cloud_archive.store.guarded_requests import AnswerTooLarge, Cancelled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's sockets")


class Store:
    """Accepts one connection; `ask` connects, and blocks until the store sends or the connection ends."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted: socket.socket | None = None

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        if self.accepted is not None:
            self.accepted.close()
        self.accepted, _ = self._listener.accept()
        return connection

    def ask(self, connected: Callable[[], object] = lambda: None) -> str:
        with self.connect() as connection:
            connected()
            answer = connection.recv(100).decode()
            if not answer:
                raise ConnectionError
            return answer

    def answer(self) -> None:
        assert self.accepted is not None
        self.accepted.sendall(b"answer")

    def close(self) -> None:
        self._listener.close()
        if self.accepted is not None:
            self.accepted.close()


class Memory:
    """Stands for what the system says."""

    def __init__(self) -> None:
        self.bytes = 1000
        self.on_call: Callable[[], object] = lambda: None

    def __call__(self) -> int:
        self.on_call()
        return self.bytes

    def grow(self) -> None:
        self.bytes += 51


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.close()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def requests(memory: Memory) -> Iterator[BlockingRequests]:
    made = BlockingRequests(memory, max_growth_bytes=50)
    yield made
    made.close()


def test_a_request_answers_and_raises_as_it_would_without_a_guard(
    requests: BlockingRequests, store: Store
) -> None:
    def refuse() -> None:
        raise ValueError("refused")

    assert requests.run(lambda: store.ask(store.answer), port=store.port) == "answer"
    with pytest.raises(ValueError, match="refused"):
        requests.run(refuse, port=store.port)


def test_a_request_ends_once_the_memory_has_grown_too_much(
    requests: BlockingRequests, store: Store, memory: Memory
) -> None:
    for _ in range(2):  # the second one begins while the thread that measures waits
        with pytest.raises(AnswerTooLarge):
            requests.run(lambda: store.ask(memory.grow), port=store.port)


def test_memory_that_grew_before_a_request_does_not_count(
    requests: BlockingRequests, store: Store, memory: Memory
) -> None:
    measured = threading.Event()

    def measure() -> None:
        memory.on_call = measured.set

    def answer_after_a_check() -> None:
        measure()
        assert measured.wait(60)
        store.answer()

    assert requests.run(lambda: store.ask(answer_after_a_check), port=store.port) == "answer"
    memory.on_call = lambda: None
    requests.close()
    memory.grow()
    measured.clear()
    assert requests.run(lambda: store.ask(answer_after_a_check), port=store.port) == "answer"


def test_closing_ends_what_is_under_way_and_the_next_request_is_guarded_too(
    requests: BlockingRequests, store: Store, memory: Memory
) -> None:
    with pytest.raises(Cancelled):
        requests.run(lambda: store.ask(requests.close), port=store.port)
    with pytest.raises(AnswerTooLarge):
        requests.run(lambda: store.ask(memory.grow), port=store.port)


def test_the_thread_ends_if_it_is_closed_just_before_it_looks_for_requests(
    requests: BlockingRequests, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch_until_closed() -> None:
        thread, busy, closing = requests._thread, requests._busy, requests._closing
        assert thread is not None
        clear = busy.clear

        def close_and_clear() -> None:
            closing.set()
            busy.set()
            requests._under_way.clear()
            clear()

        monkeypatch.setattr(busy, "clear", close_and_clear)
        thread.join(60)
        assert not thread.is_alive()
        store.answer()

    assert requests.run(lambda: store.ask(watch_until_closed), port=store.port) == "answer"


def test_connections_to_other_ports_stay(store: Store) -> None:
    other = Store()
    try:
        with store.connect() as ended, other.connect() as kept:
            end_connections(store.port)
            assert ended.recv(100) == b""
            other.answer()
            assert kept.recv(100) == b"answer"
    finally:
        other.close()
