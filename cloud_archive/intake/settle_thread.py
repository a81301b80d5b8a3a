"""Run a `SettleQueue` in a thread."""

from __future__ import annotations

import logging
import threading
import time

from ..files import HintKind
from .settle_queue import SettleQueue

_log = logging.getLogger("cloud_archive.settle")

_PAUSE_AFTER_ERROR_SECONDS = 1.0


class SettleThread:
    """Poll a `SettleQueue` whenever a file is due or a hint comes."""

    def __init__(self, queue: SettleQueue) -> None:
        self._queue = queue
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud-archive-settle", daemon=True)

    def hint(self, path: str, kind: HintKind) -> None:
        """See `SettleQueue.hint`."""
        self._queue.hint(path, kind, time.monotonic())
        self._wake.set()

    def start(self) -> None:
        """Start the thread; call this once."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop the thread after the files that it is checking, and return whether it ended in time."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                seconds = self._queue.poll(time.monotonic())
            except Exception:
                _log.exception("Checking the waiting files failed; it is tried again.")
                seconds = _PAUSE_AFTER_ERROR_SECONDS
            self._wake.wait(seconds)
