"""The files from before the first start, which are left alone.

They are known by fingerprint and not by time: a file that is moved in later with an old date is new, and a clock that
is set back hides nothing.
"""

from __future__ import annotations

import os
from array import array

from ..files import FileVersion, clock_tick_ns
from ..ledger.ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, Ledger
from .unarchived import FoundFile

BASELINE_BATCH = 1_000_000  # files that are held in memory, at 8 bytes each
LONGEST_TICK_SECONDS = 2.0  # of `clock_tick_ns`


class BaselineBuilder:
    """Adds old files to the baseline during the first scan of a process.

    Args:
        ledger: keeps the baseline.
        backfill: `all` clears the baseline; `none` adds every old file; `missed` does so at the first start only.
        started_at: seconds since 1970; younger files are never part of the baseline.
    """

    def __init__(self, ledger: Ledger, *, backfill: str, started_at: float) -> None:
        self._ledger = ledger
        self._started_at = started_at
        self._fingerprints = array("q")
        if backfill == "all":
            ledger.clear_baseline()
        self._started_before = ledger.recall(FIRST_START) is not None
        first_start = backfill == "missed" and not self._started_before
        self._adds = backfill == "none" or first_start
        self._before = started_at
        if first_start:
            # An earlier first start may have been killed before its scan ended: files that came after it are new.
            self._before = min(started_at, float(ledger.recall(FIRST_START_BEGUN) or started_at))
        # After a lost ledger, mtimes say which files are older than the first start.
        interrupted = self._before < started_at
        self._by_change = interrupted and ledger.recall(COMPARE_WITH_BUCKET) is None

    def add_old(
        self, files: list[tuple[int, FoundFile]]
    ) -> tuple[list[FoundFile], list[tuple[int, FoundFile]]]:
        """Add those of the files that are old.

        Args:
            files: without a row or baseline entry, with their fingerprints.

        Returns:
            The old files, and the others.
        """
        if not self._adds:
            return [], files
        before, by_change = self._before, self._by_change
        # As good as `is_older` for nearly all files, at a fifth of its cost.
        surely_ns = -1 << 63 if by_change else int((before - LONGEST_TICK_SECONDS) * 1e9)
        old, young = [], []
        for entry in files:
            fingerprint, file = entry
            if file[1].st_mtime_ns < surely_ns or is_older(file[1], before, by_change=by_change):
                self._fingerprints.append(fingerprint)
                old.append(file)
            else:
                young.append(entry)
        return old, young

    def commit(self, *, at_least: int = BASELINE_BATCH) -> None:
        """Commit what was added, if that is `at_least` so many files: the more at once, the fewer pages are written."""
        if len(self._fingerprints) >= at_least:
            self._ledger.add_to_baseline(self._fingerprints)
            self._fingerprints = array("q")

    def finish(self) -> None:
        """Commit the rest, and that the first start is over."""
        self.commit(at_least=1)
        if not self._started_before:
            self._ledger.remember(FIRST_START, str(self._started_at))


def is_older(stat: os.stat_result, moment: float, *, by_change: bool = False) -> bool:
    """Return whether the file was certainly written before `moment`; in doubt it is new.

    Args:
        moment: seconds since 1970.
        by_change: the change time must be older, too: a file that came since may have an old mtime, and no event
            reported it to this process.
    """
    written_ns = FileVersion.of_stat("", stat).touched_ns if by_change else stat.st_mtime_ns
    return written_ns + clock_tick_ns(written_ns) < int(moment * 1e9)
