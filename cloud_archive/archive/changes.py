"""A signal that the archive's state may have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ChangeSignal:
    """Wakes every thread that waits for a change, and calls one listener. Safe to use from any thread.

    Args:
        on_change: called with each change, often; it must return at once.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.condition = threading.Condition()
        self.count = 0  # of changes so far that threads wait for
        self._on_change = on_change

    def announce(self) -> None:
        """Call the listener only: numbers changed, but nothing that a thread waits for."""
        self._on_change()

    def notify_waiters(self) -> None:
        """Wake every thread in `wait`, and call the listener."""
        with self.condition:
            self.count += 1
            self.condition.notify_all()
        self._on_change()

    def wait(self, timeout_seconds: float, seen: int | None = None) -> None:
        """Return at the next `notify_waiters`, or after this time.

        Args:
            seen: `count` as it was; returns at once where it is another by now. Default: as it is.
        """
        with self.condition:
            if seen is None or seen == self.count:
                self.condition.wait(timeout_seconds)
