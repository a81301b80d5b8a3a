"""An executor whose threads never delay the end of the process.

At exit the interpreter waits for the threads of `ThreadPoolExecutor` without a limit, even for a request that hangs.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(Executor):
    """Run calls in at most `most` daemon threads, started when they are needed; `name` begins their names."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # calls that wait or run
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Raises RuntimeError after `shutdown`, or if the system starts no thread and none runs."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._calls.put((call, future))
            self._unfinished += 1
            if len(self._threads) < min(self._most, self._unfinished):
                thread = threading.Thread(
                    target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # no more threads
                    if not self._threads:
                        future.cancel()
                        raise
                else:
                    self._threads.append(thread)
        return future

    def _run(self) -> None:
        while (queued := self._calls.get()) is not None:
            queued[0]()
            del queued  # or this thread would keep the bytes that it sent
            with self._lock:
                self._unfinished -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._ended = True
            if cancel_futures:
                while True:
                    try:
                        queued = self._calls.get_nowait()
                    except queue.Empty:
                        break
                    if queued is not None and queued[1].cancel():
                        # Wakes threads in `concurrent.futures.wait`; Python's own executor forgets that.
                        queued[1].set_running_or_notify_cancel()
            for _ in self._threads:
                self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


@contextlib.contextmanager
def unawaited_threads(most: int, name: str) -> Iterator[Executor]:
    """Yield a `DaemonExecutor`. The end of the block cancels calls that wait, and does not wait for those that run."""
    executor = DaemonExecutor(most, name)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def call_within(seconds: float, call: Callable[[], T], name: str) -> T:
    """Return `call()`, made in a daemon thread with this name.

    Raises:
        CallTimeout: it did not end in time. It goes on.
        Exception: what `call` raises.
    """
    with unawaited_threads(1, name) as thread:
        future = thread.submit(call)
        if not wait([future], seconds).done:
            raise CallTimeout
        return future.result()


class CallTimeout(Exception):
    """A call did not end in time."""
