"""Limit how much all uploads together send in a second (`CLOUD_ARCHIVE_MAX_BANDWIDTH`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MAX_PIECE_BYTES = 256 * 1024
MIN_PIECE_BYTES = 16 * 1024


class Throttle:
    """Let each caller wait as long as the bytes of earlier callers take at this rate. Thread-safe.

    Unused time is not saved up, so no burst follows a pause.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = clock()

    @property
    def piece_bytes(self) -> int:
        """How much to send at once: what 0.1 s allows, but 16 to 256 KiB, so that the flow stays even."""
        return max(MIN_PIECE_BYTES, min(MAX_PIECE_BYTES, self._rate // 10))

    def take(self, size_bytes: int) -> None:
        """Wait until `size_bytes` bytes may be sent."""
        with self._lock:
            now = self._clock()
            begin = max(self._free_at, now)
            self._free_at = begin + size_bytes / self._rate
        if begin > now:
            self._sleep(begin - now)
