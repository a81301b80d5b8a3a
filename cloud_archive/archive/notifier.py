"""Push the status to listeners when it has changed, at most four times a second.

During a backlog the status changes all the time. Then it is pushed once a second: in ComfyUI's process, each push
interrupts the thread that computes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..errors import CloudArchiveError

logger = logging.getLogger("cloud_archive.engine")

PUSH_SECONDS = 0.25  # from a change to its push
QUICK_PUSHES = 8  # after so many pushes in a row, `STEADY_SECONDS` replaces `PUSH_SECONDS`
STEADY_SECONDS = 1.0  # from a change to its push, until nothing changes while a push is made
StatusCallback = Callable[[dict[str, Any]], None]


class Notifier:
    """Pushes the status soon after it has changed. Without a listener it builds no status.

    Args:
        snapshot: returns the status as JSON; called from the notifier's thread.
    """

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._callbacks: list[StatusCallback] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="cloud-archive-notify", daemon=True)

    def start(self) -> None:
        """Start the thread. No-op if it runs."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for its end, 5 s at most."""
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def notify(self) -> None:
        """Push the status soon. Return at once; safe from any thread."""
        if not self._changed.is_set():
            self._changed.set()

    def subscribe(self, callback: StatusCallback) -> Callable[[], None]:
        """Call `callback` with each status, in the notifier's thread. Return a function that unsubscribes it."""
        with self._lock:
            self._callbacks.append(callback)
        self.notify()

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def _run(self) -> None:
        pushes_in_a_row = 0
        while True:
            pushes_in_a_row = pushes_in_a_row + 1 if self._changed.is_set() else 0
            self._changed.wait()
            if self._stopping.wait(PUSH_SECONDS if pushes_in_a_row < QUICK_PUSHES else STEADY_SECONDS):
                return
            self._changed.clear()
            if not self._callbacks:
                continue
            try:
                status = self._snapshot()
            except CloudArchiveError as error:
                if self._stopping.wait(STEADY_SECONDS):
                    return  # the engine closed the ledger while the status was built
                logger.warning("%s", error)
                continue
            except Exception:
                logger.exception("The status could not be built, so it is not pushed")
                continue
            with self._lock:  # now, because a listener may have unsubscribed while the status was built
                callbacks = list(self._callbacks)
            for callback in callbacks:
                try:
                    callback(status)
                except Exception:
                    logger.exception("A listener failed")
