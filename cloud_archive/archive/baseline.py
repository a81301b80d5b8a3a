"""The baseline: older files, which are not archived.

With CLOUD_ARCHIVE_BACKFILL=missed these are the files from before the first start, with `none` those from before any
start. The baseline holds fingerprints and no times. So a file that is moved in later with an old mtime counts as new,
and setting the clock back hides no file. With `none`, such a file is added at the next start if it has no row by then.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path

from ..files import FileVersion, clock_tick_ns
from ..intake.walk import network_filesystem
from ..ledger.ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, Ledger
from .unarchived import FoundFile

# How many fingerprints are held in memory, at 8 bytes each. Storing more at once writes fewer pages.
MAX_FINGERPRINTS = 1_000_000
LONGEST_TICK_SECONDS = 2.0  # the largest result of `clock_tick_ns`
SERVER_CLOCK_SECONDS = 300.0  # how far a file server's clock, which sets the files' times, may be behind ours


class BaselineBuilder:
    """Adds old files to the baseline during the first scan after each start of watching.

    Args:
        backfill: `none` adds every old file; `missed` does that at the first start only; `all` adds none, and clears
            the baseline.
        started_at: when ComfyUI or this process started, in seconds since 1970.
    """

    def __init__(self, ledger: Ledger, root: Path, backfill: str, *, started_at: float) -> None:
        self._ledger = ledger
        self._started_at = started_at
        self._fingerprints = array("q")
        if backfill == "all":
            ledger.clear_baseline()
        self._started_before = ledger.recall(FIRST_START) is not None
        first_start = backfill == "missed" and not self._started_before
        self._adds = backfill == "none" or first_start
        self._moment = started_at  # files written before it are old
        if first_start:
            # An earlier first start may have been killed before its scan ended. Files written after it began are new.
            self._moment = min(started_at, float(ledger.recall(FIRST_START_BEGUN) or started_at))
        if network_filesystem(root) is not None:
            self._moment -= SERVER_CLOCK_SECONDS
        # A file with an old mtime may have been moved in since that moment, so the change time counts, too. After the
        # loss of a ledger it doesn't: old files may have been touched since.
        self._by_change = ledger.recall(COMPARE_WITH_BUCKET) is None

    def add_old(
        self, files: list[tuple[int, FoundFile]]
    ) -> tuple[list[FoundFile], list[tuple[int, FoundFile]]]:
        """Add the old ones among these files, which have neither row nor baseline entry. Return them, and the others.

        Each file comes with its fingerprint. Many are committed at once, the last ones by `finish`.
        """
        if not self._adds:
            return [], files
        moment, by_change = self._moment, self._by_change
        # Files with earlier times are old for sure: this decides nearly all, at a fraction of the cost of `is_older`.
        sure_ns = int((moment - LONGEST_TICK_SECONDS) * 1e9)
        old, young = [], []
        for entry in files:
            fingerprint, file = entry
            stat = file[1]
            surely_old = stat.st_mtime_ns < sure_ns and stat.st_ctime_ns < sure_ns
            if surely_old or is_older(stat, moment, by_change=by_change):
                self._fingerprints.append(fingerprint)
                old.append(file)
            else:
                young.append(entry)
        if len(self._fingerprints) >= MAX_FINGERPRINTS:
            self._commit()
        return old, young

    def _commit(self) -> None:
        self._ledger.add_to_baseline(self._fingerprints)
        self._fingerprints = array("q")

    def finish(self) -> None:
        """Commit the rest, and record that the first start is complete."""
        if self._fingerprints:
            self._commit()
        if not self._started_before:
            self._ledger.remember(FIRST_START, str(self._started_at))


def is_older(stat: os.stat_result, moment: float, *, by_change: bool = False) -> bool:
    """Return whether the file's mtime is certainly before `moment` (seconds since 1970); in doubt, return False.

    Args:
        by_change: the change time must be earlier, too. Here a tick matters only if it is coarse, because an engine
            that starts at `moment` reports `running` more than a fine tick later.
    """
    moment_ns = int(moment * 1e9)
    if stat.st_mtime_ns + clock_tick_ns(stat.st_mtime_ns) >= moment_ns:
        return False
    if not by_change:
        return True
    changed_ns = FileVersion.of_stat("", stat).changed_ns
    if changed_ns % 10**9 == 0:
        changed_ns += clock_tick_ns(changed_ns)
    return changed_ns < moment_ns
