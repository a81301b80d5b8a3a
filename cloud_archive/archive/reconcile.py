"""The scan is the truth: compares the watched directory with the ledger, and hints what the ledger does not know.

Runs at start, about every `interval_seconds`, at once after a lost event, and before anybody is told that it is
safe to stop. One `scandir` pass, rows looked up in bulk; a file that is archived is never looked at again.

At the first start what is already there is remembered as the baseline and left alone (`CLOUD_ARCHIVE_BACKFILL`
`missed`), by fingerprint and not by time: a file that is moved in later with an old date is new, and a clock that
is set back hides nothing.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ..errors import CloudArchiveError
from ..files import fingerprints
from ..intake.selection import Selection
from ..intake.walk import walk
from ..ledger.ledger import FIRST_BEGUN, FIRST_START, Ledger

logger = logging.getLogger("cloud_archive.reconcile")

BATCH = 1000
BASELINE_BATCH = 20_000  # files that are noted as older in one commit
POLL_SECONDS = 2.0  # between two scans where no events come
TICK_NS = 20_000_000
COARSE_NS = 2_000_000_000
COST_FACTOR = 20  # a scan that took t seconds is not repeated by itself before 20 t: at most 5 % of a core


class Reconciler:
    """Runs scans one at a time on the thread that calls `run`.

    Args:
        on_new: called with the relative path of each file that the ledger does not know.
        on_done: called after a scan that found something, or other troubles than the one before, and after the first.
        backfill: `missed`, `all` or `none`.
        interval_seconds: about how often; 0 = only when asked.
        polling: whether no events come, so that scans take their place.
        started_at: seconds since 1970; what is younger is never part of the baseline.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        selection: Selection,
        *,
        on_new: Callable[[str], None],
        on_done: Callable[[], None],
        backfill: str,
        interval_seconds: float,
        polling: Callable[[], bool],
        started_at: float,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._selection = selection
        self._on_new = on_new
        self._on_done = on_done
        self._backfill = backfill
        self._interval_seconds = interval_seconds
        self._polling = polling
        self._started_at = started_at
        self._poll_seconds = poll_seconds
        self._turn = threading.Condition()
        self._asked = 1  # the first scan is asked for by the start itself
        self._begun = 0
        self._done = 0
        self._found = 0
        self._stopping = False
        self._cost_seconds = 0.0
        self.processor_seconds = 0.0  # of the last scan
        # Hashes of batches in which nothing was new, as long as nobody has written to the ledger since.
        self._quiet: set[int] = set()
        self._quiet_in: int | None = None
        self._problems: dict[str, str] = {}
        self._empty: set[int] = set()
        self.first_done = False

    def request(self) -> None:
        """Scan soon; does not wait."""
        with self._turn:
            self._asked += 1
            self._turn.notify_all()

    def now(self, timeout_seconds: float) -> int:
        """Wait for a scan that begins after this call.

        Returns:
            How many files it found that the ledger did not know.

        Raises:
            CloudArchiveError: none ended in time, or the directory could not be read.
        """
        with self._turn:
            self._asked += 1
            ticket = self._asked
            self._turn.notify_all()
            if not self._turn.wait_for(
                lambda: self._done >= ticket or self._stopping, timeout=timeout_seconds
            ):
                raise CloudArchiveError("The watched directory could not be looked through in time.")
            if self._stopping:
                raise CloudArchiveError("The archive is stopping.")
            if self._problems:
                raise CloudArchiveError(next(iter(self._problems.values())))
            return self._found

    def stop(self) -> None:
        """Let `run` return after what it is at."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()

    @property
    def troubles(self) -> tuple[str, ...]:
        """What the last scan could not read."""
        return tuple(self._problems.values())[:5]

    def run(self) -> None:
        """Scan whenever it is asked for or due, until `stop`."""
        told_first = self.first_done
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._stopping or self._asked > self._begun, self._pause())
                if self._stopping:
                    return
                ticket = self._begun = self._asked
            begin, processor = time.monotonic(), time.thread_time()
            problems: dict[str, str] = {}
            try:
                found = self._scan(problems)
            except CloudArchiveError as error:
                if str(error) != self._problems.get(""):  # a directory that is away is looked for every 2 s
                    logger.error("%s", error)
                problems[""] = str(error)
                found = 0
            except Exception as error:
                # A file server that is gone fails in the oddest places (ESTALE, EIO). Whoever waits must hear of it.
                problems[""] = f"The watched directory cannot be looked through: {error}."
                if problems != self._problems:
                    logger.exception("The watched directory could not be looked through")
                found = 0
            with self._turn:
                # Who only listens must not cause a scan that is told to who listens, and so on for ever.
                news = bool(found) or problems != self._problems or self.first_done != told_first
                told_first = self.first_done
                self._problems = problems
                self._cost_seconds = time.monotonic() - begin
                self.processor_seconds = time.thread_time() - processor
                self._found, self._done = found, ticket
                self._turn.notify_all()
            if news:
                self._on_done()

    def _pause(self) -> float | None:
        if self._polling():
            return max(self._poll_seconds, self._cost_seconds * COST_FACTOR)
        if self._interval_seconds == 0:
            return None
        return max(self._interval_seconds * random.uniform(0.8, 1.0), self._cost_seconds * COST_FACTOR)  # noqa: S311

    def _scan(self, problems: dict[str, str]) -> int:
        if not self._root.is_dir():
            raise CloudArchiveError(f"The watched directory {self._root} is not there.")

        def on_error(path: str, reason: str) -> None:
            problems[path] = f"{path or self._root} cannot be looked through: {reason}."

        first = not self.first_done
        if first and self._backfill == "all":
            self._ledger.clear_baseline()
        known_before = self._ledger.recall(FIRST_START) is not None
        baseline = first and (self._backfill == "none" or (self._backfill == "missed" and not known_before))
        young = self._started_at
        if first and self._backfill == "missed" and not known_before:
            # An earlier first start may have been killed before its scan ended: what came after it is new.
            young = min(young, float(self._ledger.recall(FIRST_BEGUN) or young))
        found = 0
        old: list[int] = []
        generation = self._ledger.generation()
        before = (
            self._quiet if generation is not None and generation == self._quiet_in and not first else set()
        )
        self._quiet, self._quiet_in = set(), generation
        for batch in _batches(walk(self._root, self._selection.wants_directory, on_error=on_error)):
            if self._stopping:
                break
            mark = hash(tuple([(path, stat.st_size, stat.st_mtime_ns) for path, stat in batch]))
            if mark in before:
                self._quiet.add(mark)
                continue
            told = False
            for fingerprint, path, stat in _unknown(batch, self._ledger):
                if baseline and _is_older(stat, young):
                    old.append(fingerprint)
                elif self._selection.wants(path) and self._is_news(fingerprint, stat.st_size):
                    self._on_new(path)
                    found += bool(stat.st_size)
                    told = True
            if len(old) >= BASELINE_BATCH:
                self._ledger.add_to_baseline(old)
                old = []
            if not told:
                self._quiet.add(mark)
        if old and not self._stopping:
            self._ledger.add_to_baseline(old)
        if first and not self._stopping:
            if not known_before:
                self._ledger.remember(FIRST_START, str(self._started_at))
            self.first_done = True
        return found

    def _is_news(self, fingerprint: int, size_bytes: int) -> bool:
        """An empty file is told of once: it never gets a row, and there is nothing in it to wait for."""
        if size_bytes:
            return True
        told = fingerprint in self._empty
        self._empty.add(fingerprint)
        return not told

    @staticmethod
    def count_unknown(root: Path, selection: Selection, ledger: Ledger) -> int:
        """How many wanted files the ledger does not know, without telling anybody.

        Raises:
            CloudArchiveError: a directory could not be read.
        """
        problems: list[str] = []
        found = 0
        files = walk(
            root, selection.wants_directory, on_error=lambda path, why: problems.append(f"{path}: {why}")
        )
        for batch in _batches(files):
            unknown = _unknown(batch, ledger)
            found += sum(1 for _, path, stat in unknown if stat.st_size and selection.wants(path))
        if problems:
            raise CloudArchiveError(problems[0])
        return found


def _is_older(stat: os.stat_result, moment: float) -> bool:
    """Return whether the file was written before `moment`, for sure: in doubt it is new.

    Linux stamps files with the time of its last tick, up to 10 ms ago; FAT, and some network filesystems, with whole
    seconds, FAT with even ones only.
    """
    coarse_ns = COARSE_NS if stat.st_mtime_ns % 10**9 == 0 else TICK_NS
    return stat.st_mtime_ns + coarse_ns < int(moment * 1e9)


_Found = tuple[str, os.stat_result]


def _batches(files: Iterator[_Found]) -> Iterator[list[_Found]]:
    while batch := list(islice(files, BATCH)):
        yield batch


def _unknown(batch: list[_Found], ledger: Ledger) -> list[tuple[int, str, os.stat_result]]:
    """Those that the ledger does not know, with their fingerprints."""
    prints = fingerprints(batch)
    unknown = ledger.unknown_marks(prints)
    if not unknown:
        return []
    return [(mark, *found) for mark, found in zip(prints, batch, strict=True) if mark in unknown]
