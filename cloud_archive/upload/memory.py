"""A limit on the bytes that all uploads together hold in memory.

A body of up to 8 MiB is read whole before it is sent, and so is each part of a larger file. Sixty-four workers, or
several large files at once, would hold half a gigabyte of them in a machine whose memory is wanted for models.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

# Six bodies or parts of 8 MiB: with them the engine stays below 150 MB, and at a tenth of a second for each request
# that is still half a gigabyte in a second.
BUDGET_BYTES = 48 * 1024 * 1024


class ByteBudget:
    """Hands out room in the order of the requests, so that small bodies never keep a large one waiting.

    What is larger than the whole budget gets all of it, alone. Thread-safe.

    Args:
        limit_bytes: held at once by all threads together.
    """

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._turn = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Wait for room, keep it during the block, and give it back however the block ends."""
        wanted = min(size_bytes, self._limit_bytes)
        self._take(wanted)
        try:
            yield
        finally:
            with self._turn:
                self._held_bytes -= wanted
                self._turn.notify_all()

    @property
    def held_bytes(self) -> int:
        """Held now."""
        with self._turn:
            return self._held_bytes

    def _take(self, wanted: int) -> None:
        with self._turn:
            # Nothing at all, as the reading of a large file asks for, has no need of a turn.
            if not wanted or (not self._queue and self._held_bytes + wanted <= self._limit_bytes):
                self._held_bytes += wanted
                return
            me = object()
            self._queue.append(me)
            try:
                self._turn.wait_for(
                    lambda: self._queue[0] is me and self._held_bytes + wanted <= self._limit_bytes
                )
                self._held_bytes += wanted
            finally:
                self._queue.remove(me)
                self._turn.notify_all()  # the next one may fit as well
