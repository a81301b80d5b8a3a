"""Tell waiting threads and a listener that the archive's state may have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ChangeSignal:
    """Wakes every thread that waits for a change, and calls one listener. Safe to use from any thread.

    Args:
        on_change: the listener; called at each change, often, from any thread. It must return at once.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._condition = threading.Condition()
        self.count = 0  # calls of `notify_waiters` so far
        self._on_change = on_change

    def announce(self) -> None:
        """Call the listener only: a status shows other numbers, but no thread waits for them."""
        self._on_change()

    def notify_waiters(self) -> None:
        """Wake every thread in `wait`, and call the listener."""
        with self._condition:
            self.count += 1
            self._condition.notify_all()
        self._on_change()

    def wait(self, timeout_seconds: float, seen: int | None = None) -> None:
        """Return at the next `notify_waiters`, or after this time.

        Args:
            seen: return at once if `count` differs from it.
        """
        with self._condition:
            if seen is None or seen == self.count:
                self._condition.wait(timeout_seconds)
