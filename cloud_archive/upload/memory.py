"""Limit the bytes that all uploads together hold in memory.

A file of up to 8 MiB is read whole before it is sent, and so is a part of a larger file if the request or the proof
needs all its bytes at once. Without a limit, 64 workers would hold half a gigabyte.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

# Six bodies or parts of 8 MiB: the engine stays below 150 MB with 8 workers, and below 200 MB with 64 (measured).
BUDGET_BYTES = 48 * 1024 * 1024
# Smaller blocks are used again by glibc; see `process.limit_glibc_memory`.
MIN_BUFFER_BYTES = 1024 * 1024
# Buffers have multiples of this size, so that files of about one size can use the same ones.
STEP_BYTES = 256 * 1024


class ByteBudget:
    """Grant memory in the order of the requests, so that small ones never overtake a large one. Thread-safe.

    A request for more than the limit waits until nothing is held, and gets the whole budget.
    """

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0
        self._turn = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Hold `size_bytes` of memory during the block; wait until they are free."""
        wanted = min(size_bytes, self._limit_bytes)
        self._take(wanted)
        try:
            yield
        finally:
            with self._turn:
                self.held_bytes -= wanted
                self._turn.notify_all()

    def _take(self, wanted: int) -> None:
        with self._turn:
            # A request for 0 bytes, as for reading a large file, need not wait for its turn.
            if not wanted or (not self._queue and self.held_bytes + wanted <= self._limit_bytes):
                self.held_bytes += wanted
                return
            me = object()
            self._queue.append(me)
            try:
                self._turn.wait_for(
                    lambda: self._queue[0] is me and self.held_bytes + wanted <= self._limit_bytes
                )
                self.held_bytes += wanted
            finally:
                self._queue.remove(me)
                self._turn.notify_all()  # the next one may fit as well


class Buffers:
    """Memory for whole files, used again: the system takes longer to provide fresh memory than to read a file into it.

    Thread-safe.

    Args:
        limit_bytes: unused buffers are given up where all together would be larger.
    """

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._unused: list[bytearray] = []
        self._total_bytes = 0

    @contextmanager
    def lend(self, size_bytes: int) -> Iterator[memoryview | None]:
        """Lend memory of this size during the block; None for small sizes, for which fresh memory is quick."""
        if size_bytes < MIN_BUFFER_BYTES:
            yield None
            return
        buffer = self._take(size_bytes)
        lent = memoryview(buffer)[:size_bytes]
        try:
            yield lent
        finally:
            self._give_back(buffer, lent)

    def give_up(self) -> None:
        """Give up the unused buffers."""
        with self._lock:
            self._total_bytes -= sum(map(len, self._unused))
            self._unused.clear()

    def _take(self, size_bytes: int) -> bytearray:
        wanted = -(-size_bytes // STEP_BYTES) * STEP_BYTES
        with self._lock:
            for index in reversed(range(len(self._unused))):  # the processor may still cache the newest
                if size_bytes <= len(self._unused[index]) <= wanted + STEP_BYTES:
                    return self._unused.pop(index)
            while self._unused and self._total_bytes + wanted > self._limit_bytes:
                self._total_bytes -= len(self._unused.pop(0))
            self._total_bytes += wanted
        return bytearray(wanted)

    def _give_back(self, buffer: bytearray, lent: memoryview) -> None:
        size_bytes = len(buffer)
        try:
            lent.release()
            buffer.append(buffer.pop())  # changing its size fails while anything has a view of it
        except BufferError:  # a request that was given up may still read it
            with self._lock:
                self._total_bytes -= size_bytes
        else:
            with self._lock:
                self._unused.append(buffer)
