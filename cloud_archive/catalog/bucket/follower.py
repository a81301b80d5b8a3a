"""Follow what other machines write: every 30 s while somebody views the catalog, else every 5 minutes. One thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import CloudArchiveError

if TYPE_CHECKING:
    from .sync import CatalogSync

logger = logging.getLogger("cloud_archive.catalog")

VIEWED_SECONDS = 30.0  # between two passes while somebody views the catalog
IDLE_SECONDS = 300.0  # between two passes at other times
VIEWER_SECONDS = 60.0  # so long after `note_viewer` somebody counts as viewing
FULL_SECONDS = 3600.0  # between two listings of everything
STOP_SECONDS = 5.0


class Follower:
    """Runs passes of a CatalogSync.

    Args:
        first_after_seconds: how long the first pass waits, unless somebody views: at start other requests are more
            urgent.
        may_read: returns whether nothing uploads now; not asked while somebody views.
        on_pass: called in the thread after each pass that did not fail.
    """

    def __init__(
        self,
        make_sync: Callable[[], CatalogSync],
        *,
        first_after_seconds: float = VIEWED_SECONDS,
        may_read: Callable[[], bool] = lambda: True,
        on_pass: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_sync = make_sync
        self._sync: CatalogSync | None = None
        self._may_read = may_read
        self._on_pass = on_pass
        self._clock = clock
        self._changed = threading.Condition()
        self._stopping = False
        self._viewed_at: float | None = None
        self._next_at = clock() + first_after_seconds
        self._passed_at: float | None = None  # when the last pass ended
        self._full_at: float | None = None  # when everything was listed last
        self._progress = (0, 0)
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="cloud-archive-follower", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Have the thread end after the file that it reads, and wait up to `timeout_seconds` for that."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def note_viewer(self) -> None:
        """Have the next pass come soon, because somebody views the catalog."""
        now = self._clock()
        with self._changed:
            self._viewed_at = now
            soonest = now if self._passed_at is None else max(now, self._passed_at + VIEWED_SECONDS)
            if soonest < self._next_at:
                self._next_at = soonest
                self._changed.notify_all()

    def status(self) -> dict[str, object]:
        """Return `others` of `catalog status`."""
        done, total = self._progress
        state = "waiting" if self._full_at is None else "complete"
        return {
            "state": "loading" if self._busy and total else state,
            "loaded_files": done,
            "known_files": total,
            "trouble": self.trouble,
        }

    def left_rows(self) -> int | None:
        """Return about how many rows are still to be read; 0: not known yet; None: none, or see `trouble`."""
        left = self._sync.progress.left_rows if self._busy and self._sync is not None else 0
        return left if left or (self._full_at is None and self.trouble is None) else None

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (left := self.seconds_until_next()) > 0:
                    self._changed.wait(left)
                if self._stopping:
                    return
            self.run_pass()

    def seconds_until_next(self) -> float:
        """Return the seconds until the next pass is due; 0 or less: now."""
        return self._next_at - self._clock()

    def run_pass(self) -> None:
        """Read what is new; a failure becomes `trouble`."""
        self._pass()
        with self._changed:
            self._passed_at = self._clock()
            self._next_at = self._passed_at + (VIEWED_SECONDS if self._is_viewed() else IDLE_SECONDS)

    def _is_viewed(self) -> bool:
        return self._viewed_at is not None and self._clock() - self._viewed_at < VIEWER_SECONDS

    def _may_go_on(self) -> bool:
        return not self._stopping and (self._is_viewed() or self._may_read())

    def _pass(self) -> None:
        began = self._clock()
        recent = self._full_at is not None and began - self._full_at < FULL_SECONDS
        self._busy = True
        try:
            self._sync = self._sync or self._make_sync()
            result = self._sync.sync(
                recent=recent, may_go_on=self._may_go_on, on_progress=self._note_progress
            )
            self._progress = (result.files, result.files + result.left)
            if result.replaced:
                self._full_at = None  # what replaced these files may be in any month
            elif not recent and not result.left:
                self._full_at = began
            self.trouble = result.troubles[0] if result.left and result.troubles else None
            self._on_pass()
        except Exception as error:
            if not isinstance(error, (CloudArchiveError, OSError)):
                logger.exception("Reading the catalog in the bucket failed")
            if not self._stopping and str(error) != self.trouble:
                logger.warning("The catalog can't be read from the bucket now: %s", error)
            self.trouble = str(error)
        finally:
            self._busy = False

    def _note_progress(self, done: int, total: int) -> None:
        self._progress = (done, total)
