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
