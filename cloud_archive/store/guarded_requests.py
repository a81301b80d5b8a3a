"""Wait for asynchronous requests, and cancel them if an answer fills the memory.

obstore reads an error's body whole, whatever its size; only an asynchronous request can be cancelled meanwhile.

A single request needs no event loop: obstore's thread completes its future and wakes the thread that waits for it. This
saves two switches between threads. Requests of several steps run on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")

MAX_GROWTH_BYTES = 128 * 1024 * 1024
CHECK_SECONDS = 0.05
MAX_SECONDS = 60.0  # of a single request; a last resort, because obstore's own time limit is shorter


class AnswerTooLarge(Exception):
    """The memory grew too much while the answer was read, or obstore did not report its end in time."""


class Cancelled(Exception):
    """`close` was called before the request had ended."""


class GuardedRequests:
    """Run asynchronous requests for threads that wait for them. Thread-safe.

    Args:
        memory_bytes: returns the memory that this process holds.
        max_growth_bytes: by how much it may grow while requests are under way; default: `MAX_GROWTH_BYTES`.
        max_seconds: after this time a single request is cancelled, if obstore has not ended it.
    """

    def __init__(
        self,
        memory_bytes: Callable[[], int] | None = None,
        max_growth_bytes: int | None = None,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self._max_seconds = max_seconds
        self._memory_bytes = memory_bytes or resident_bytes
        self._max_growth_bytes = MAX_GROWTH_BYTES if max_growth_bytes is None else max_growth_bytes
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._under_way: set[asyncio.Future[Any]] = set()  # on the event loop
        self._is_checking = False
        self._bytes_before = 0
        self._waited_for: set[asyncio.Future[Any]] = set()  # single requests, without the loop
        self._too_large: set[asyncio.Future[Any]] = set()  # cancelled for that
        self._measured = (-CHECK_SECONDS, 0)  # when the memory was measured last, and what it was

    def run(
        self, request: Callable[[], Awaitable[T]], *, meanwhile: Callable[[], object] = lambda: None
    ) -> T:
        """Run a request of several steps on the event loop, where `request` is called, and return its result.

        Args:
            meanwhile: called in this thread once the request is scheduled.

        Raises:
            AnswerTooLarge, Cancelled: see there.
            Exception: what the request raises.
        """
        with self._lock:  # so that `close` cancels each request that was scheduled on the loop that it ends
            loop = self._started()
            answer = asyncio.run_coroutine_threadsafe(self._guarded(request), loop)
        meanwhile()
        try:
            return answer.result()
        except concurrent.futures.CancelledError:
            raise Cancelled from None  # `close` was called before the request had begun

    def wait_for(
        self, begin: Callable[[], Awaitable[T]], *, meanwhile: Callable[[], object] = lambda: None
    ) -> T:
        """Run a single request of obstore without an event loop, and return its result.

        Args:
            begin: begins the request and returns its future; called in this thread.
            meanwhile: called in this thread once the request has begun.

        Raises:
            AnswerTooLarge, Cancelled: see there.
            Exception: what the request raises.
        """
        bytes_before = self._measure()
        deadline = time.monotonic() + self._max_seconds
        answer = _begun(begin)
        self._waited_for.add(answer)
        try:
            meanwhile()
            ended = threading.Lock()
            ended.acquire()
            answer.add_done_callback(lambda _: ended.release())
            while not ended.acquire(timeout=CHECK_SECONDS):
                too_large = self._measure() - bytes_before > self._max_growth_bytes
                if too_large or time.monotonic() > deadline:
                    self._cancel_too_large(answer)
            return cast("T", answer.result())
        except asyncio.CancelledError:
            raise self._cause_of_cancelling(answer) from None
        finally:
            self._waited_for.discard(answer)
            self._too_large.discard(answer)

    def _cancel_too_large(self, answer: asyncio.Future[Any]) -> None:
        # Not as the message of `cancel`: a task does not pass it on in Python 3.10.
        self._too_large.add(answer)
        answer.cancel()

    def _cause_of_cancelling(self, answer: asyncio.Future[Any]) -> Exception:
        return AnswerTooLarge() if answer in self._too_large else Cancelled()

    def _measure(self) -> int:
        """Return the memory that this process holds, as it was at most `CHECK_SECONDS` ago."""
        moment, found = self._measured
        if time.monotonic() - moment >= CHECK_SECONDS:
            found = self._memory_bytes()
            self._measured = time.monotonic(), found
        return found

    def close(self) -> None:
        """Cancel the requests that are under way, and end the event loop's thread. The next `run` starts a new one."""
        for answer in tuple(self._waited_for):
            answer.cancel()
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        """Return the event loop; start its thread if none runs. Call it with the lock held."""
        if self._loop is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_run, args=(loop,), name="cloud-archive-requests", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads
                loop.close()
                raise
            self._loop, self._thread = loop, thread
            self._is_checking = False  # the timer of an earlier loop has ended with it
        return self._loop

    async def _guarded(self, request: Callable[[], Awaitable[T]]) -> T:
        self._check_from_now()
        answer = asyncio.ensure_future(request())
        self._under_way.add(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            raise self._cause_of_cancelling(answer) from None
        finally:
            self._under_way.discard(answer)
            self._too_large.discard(answer)

    def _check_from_now(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._bytes_before = self._memory_bytes()
            asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        self._is_checking = bool(self._under_way)
        if not self._is_checking:
            return
        if self._memory_bytes() - self._bytes_before > self._max_growth_bytes:
            for answer in self._under_way:
                self._cancel_too_large(answer)
        asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check)


class _InPlace:
    """Stands in for an event loop: runs each callback at once in the thread that schedules it."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast("asyncio.AbstractEventLoop", self))

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *values: object, context: object = None) -> None:
        callback(*values)

    call_soon_threadsafe = call_soon

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """No-op: nobody waits for a request that was cancelled."""


_IN_PLACE = cast("asyncio.AbstractEventLoop", _InPlace())


def _begun(begin: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
    """Begin a request and return its future, whose callbacks run in the thread that ends it."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(_IN_PLACE)
    try:
        return cast("asyncio.Future[Any]", begin())
    finally:
        asyncio._set_running_loop(before)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        loop.close()


def resident_bytes() -> int:
    """Return the memory that this process holds; on Windows and macOS its peak."""
    if sys.platform == "win32":
        return _windows_peak_bytes()
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:  # macOS has no /proc, and gives only the peak, in bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _windows_peak_bytes() -> int:
    # Two 32-bit numbers, then eight sizes, the first of which is the peak:
    # https://learn.microsoft.com/windows/win32/api/psapi/ns-psapi-process_memory_counters
    counters = (ctypes.c_size_t * 10)()
    kernel: Any = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009 - there is none on other systems
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
    size = 8 + 8 * ctypes.sizeof(ctypes.c_size_t)
    if not kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), counters, size):
        return 0
    return int(counters[8 // ctypes.sizeof(ctypes.c_size_t)])
