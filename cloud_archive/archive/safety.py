"""Decide whether it is safe to stop: whether every file in the directory is proven.

Skipped and baseline files don't count, nor do those whose objects `prune` deleted. The answer needs a scan, which takes
seconds in a large directory. So one scan may serve several callers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ..errors import CloudArchiveError
from .changes import ChangeSignal
from .directory_watch import DirectoryWatch
from .pipeline import Pipeline
from .reconcile import COST_FACTOR

SCAN_SECONDS = 9.0  # how long a status waits for its turn and a scan; less than the 10 s of its route
PUSH_SCAN_SECONDS = 3.0  # how long a push waits for a scan: after 10 s without a push, a page shows no state
POLLED_SCAN_SECONDS = 1.0  # for a push while the watcher polls: how long the result of a scan counts
SCAN_SHARE = 0.25  # of one core, for the scans of clients that ask again and again
TURN_SECONDS = 4.0  # how long such a client waits before its scan, at most: then 5 s are left for the scan


class Safety:
    """Answers whether it is safe to stop, and waits until it is. Safe to use from any thread."""

    def __init__(self, pipeline: Pipeline, signal: ChangeSignal) -> None:
        self._pipeline = pipeline
        self._signal = signal
        self.next_scan = 0.0  # monotonic; a scan before this time would take more than `SCAN_SHARE`
        # While nothing is watched: the last result, and until when it counts (monotonic).
        self._unwatched_result = (False, 0.0)

    def forget(self) -> None:
        """Forget the last result, because watching starts."""
        self._unwatched_result = (False, 0.0)

    def flush(self, timeout_seconds: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait until it is safe to stop. Return False if the time is up first, or the caller no longer waits.

        Args:
            cancelled: returns whether the caller no longer waits.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self.safe_to_stop(max(0.1, deadline - time.monotonic()), in_turn=False):
                return True
            left = deadline - time.monotonic()
            if left <= 0 or cancelled():
                return False
            self._signal.wait(min(left, 0.5))

    def safe_to_stop(
        self,
        timeout_seconds: float = SCAN_SECONDS,
        *,
        recent: bool = False,
        heartbeat: bool = False,
        in_turn: bool = True,
    ) -> bool:
        """Return whether it is safe to stop now.

        Args:
            timeout_seconds: how long to wait for the turn and a scan; False after that. With at most `SCAN_SECONDS` it
                does not wait for the first scan.
            recent: for pushes that no client requested: the result of the last scan counts while no event has come
                since, and another scan would take more than 5 % of a core (while the watcher polls: for
                `POLLED_SCAN_SECONDS`).
            heartbeat: for pushes without news, and after a flush: the result of the last scan counts while no event has
                come since, and, while the watcher polls, no scan is overdue. While nothing is watched, it is the same
                as `recent`.
            in_turn: if scans would take more than `SCAN_SHARE` of a core, wait before the scan, `TURN_SECONDS` at most.
        """
        if self._pipeline.has_work():
            return False
        watch = self._pipeline.watch
        if (recent or heartbeat) and (known := self._last_result(watch, heartbeat)) is not None:
            return known
        if recent or heartbeat:
            timeout_seconds = min(timeout_seconds, PUSH_SCAN_SECONDS)
        if watch is not None and not watch.reconciler.first_done and timeout_seconds <= SCAN_SECONDS:
            return False  # a first scan may take minutes; a status does not wait for it
        deadline = time.monotonic() + timeout_seconds
        if in_turn and not (recent or heartbeat) and not self._wait_for_turn(watch):
            return False
        began = time.monotonic()
        left = max(0.1, deadline - began)
        if watch is None:
            return self._scan_unwatched(began, left)
        try:
            unseen = watch.reconciler.now(left)
        except CloudArchiveError:
            return False
        self.next_scan = began + watch.reconciler.processor_seconds / SCAN_SHARE
        return unseen == 0 and not self._pipeline.has_work()

    def _scan_unwatched(self, began: float, timeout_seconds: float) -> bool:
        """Scan while nothing is watched, and return whether it is safe to stop. `began`: now, in monotonic seconds."""
        safe = False
        with contextlib.suppress(CloudArchiveError):
            unseen = self._pipeline.count_unarchived(timeout_seconds).unseen
            safe = unseen == 0 and not self._pipeline.has_work()
        cost = time.monotonic() - began
        self.next_scan = began + cost / SCAN_SHARE
        self._unwatched_result = (safe, time.monotonic() + cost * COST_FACTOR)
        return safe

    def still_safe(self) -> bool:
        """Return whether a status that was safe to stop after the last scan still is: no event has come since.

        Does not block, and reads neither ledger nor directory. False while nothing is watched or the watcher polls.
        """
        watch = self._pipeline.watch
        if watch is None or watch.watcher.polling:
            return False
        return watch.reconciler.clean_at_hint == watch.hint_count

    def _last_result(self, watch: DirectoryWatch | None, heartbeat: bool) -> bool | None:
        """Return the result of the last scan if it still counts, else None."""
        now = time.monotonic()
        if watch is None:  # there are neither events nor regular scans
            safe, until = self._unwatched_result
            return safe if now < until else None
        scan = watch.reconciler
        if scan.clean_at_hint != watch.hint_count:
            return None
        if not watch.watcher.polling:
            return True if heartbeat or now < scan.clean_until else None
        until = scan.ended_at + (2 * scan.poll_seconds if heartbeat else POLLED_SCAN_SECONDS)
        return True if now < until else None

    def _wait_for_turn(self, watch: DirectoryWatch | None) -> bool:
        """Wait until another scan fits `SCAN_SHARE`, `TURN_SECONDS` at most. False: there is work, or another watch."""
        until = min(self.next_scan, time.monotonic() + TURN_SECONDS)
        while (left := until - time.monotonic()) > 0:
            self._signal.wait(min(left, 0.2))
            if self._pipeline.watch is not watch or self._pipeline.has_work():
                return False
        return True
