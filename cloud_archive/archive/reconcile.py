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
from pathlib import Path

from ..errors import CloudArchiveError
from ..files import FileVersion, SkipReason, clock_tick_ns
from ..intake.selection import Selection
from ..intake.walk import stable_inodes, walk
from ..ledger.doubts import Doubts
from ..ledger.ledger import COMPARE_WITH_BUCKET, FIRST_START, FIRST_START_BEGUN, Ledger
from .unarchived import Tally, batches, skip_reason, without_row

logger = logging.getLogger("cloud_archive.reconcile")

BASELINE_BATCH = 20_000  # files that are noted as older in one commit
POLL_SECONDS = 2.0  # between two scans where no events come
COST_FACTOR = 20  # a scan that took t seconds is not repeated by itself before 20 t: at most 5 % of a core


class Reconciler:
    """Runs scans one at a time on the thread that calls `run`.

    Args:
        on_new: called with the relative path of each file that the ledger does not know.
        on_doubts: called after each scan that found files which were touched since they were archived, and after
            the first that finds none any more.
        on_done: called after a scan that found something, or other troubles than the one before, and after the first.
        backfill: `missed`, `all` or `none`.
        interval_seconds: about how often; 0 = only when asked.
        polling: whether no events come, so that scans take their place.
        started_at: seconds since 1970; what is younger is never part of the baseline.
        news: how many events there were so far; see `clean_at`.
        root_trouble: returns why the directory is not the one that the ledger knows; None where it is.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        selection: Selection,
        *,
        on_new: Callable[[str], None],
        on_doubts: Callable[[Doubts], None],
        on_done: Callable[[], None],
        backfill: str,
        interval_seconds: float,
        polling: Callable[[], bool],
        started_at: float,
        news: Callable[[], int] = lambda: 0,
        root_trouble: Callable[[], str | None] = lambda: None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._selection = selection
        self._on_new = on_new
        self._on_doubts = on_doubts
        self._on_done = on_done
        self._inodes = stable_inodes(root)
        self._doubtful_files = 0  # as the last scan found
        self._backfill = backfill
        self._interval_seconds = interval_seconds
        self._polling = polling
        self._started_at = started_at
        self._news = news
        self._root_trouble = root_trouble
        self._poll_seconds = poll_seconds
        self._turn = threading.Condition()
        self._asked = 1  # the first scan is asked for by the start itself
        self._begun = 0
        self._done = 0
        self._found = 0
        self._stopping = False
        self._unheard = False  # somebody waited for a scan, and gave up before it ended
        self._cost_seconds = 0.0
        self.processor_seconds = 0.0  # of the last scan
        self.clean_at: int | None = None  # `news` when the last scan began, if that found nothing to archive
        self.clean_until = 0.0  # monotonic; looking again before that would take more than 5 % of a core
        self.ended = 0.0  # monotonic, of the last scan
        self.tally = Tally()
        # Hashes of batches in which nothing was new, with what else was in them and how many are archived, for as long
        # as nobody has written to the ledger since.
        self._quiet: dict[int, tuple[Tally, int]] = {}
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
            How many files it found that the ledger did not know, or that must be hashed to know.

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
                self._unheard = True
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
    def root_is_known(self) -> bool:
        """Whether the last scan found the known directory, and could read it."""
        return "" not in self._problems

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
            begin, processor, news_before = time.monotonic(), time.thread_time(), self._news()
            problems: dict[str, str] = {}
            tally = self.tally
            try:
                found, tally = self._scan(problems)
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
                news, self._unheard = news or self._unheard, False
                news = news or tally != self.tally
                self.tally = tally
                told_first = self.first_done
                self._problems = problems
                self.ended = time.monotonic()
                self._cost_seconds = self.ended - begin
                self.clean_at = None if found or problems or self._stopping else news_before
                self.clean_until = self.ended + self._cost_seconds * COST_FACTOR
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

    def _scan(self, problems: dict[str, str]) -> tuple[int, Tally]:
        """Returns how many files were new, and what else is there."""
        if not self._root.is_dir():
            raise CloudArchiveError(f"The watched directory {self._root} is not there.")

        def on_error(path: str, reason: str) -> None:
            problems[path] = f"{path or self._root} cannot be looked through: {reason}."

        stranger = self._root_trouble()
        if stranger is not None:
            problems[""] = stranger
            return self._scan_stranger(on_error), self.tally
        first = not self.first_done
        if first and self._backfill == "all":
            self._ledger.clear_baseline()
        known_before = self._ledger.recall(FIRST_START) is not None
        baseline = first and (self._backfill == "none" or (self._backfill == "missed" and not known_before))
        young = self._started_at
        if first and self._backfill == "missed" and not known_before:
            # An earlier first start may have been killed before its scan ended: what came after it is new.
            young = min(young, float(self._ledger.recall(FIRST_START_BEGUN) or young))
        # Of what a lost ledger knew, mtimes say which files are older than the first start.
        interrupted = young < self._started_at and self._ledger.recall(COMPARE_WITH_BUCKET) is None
        found = 0
        old: list[int] = []
        total, doubts = Tally(), Doubts()
        generation = self._ledger.generation()
        before: dict[int, tuple[Tally, int]] = (
            self._quiet if generation is not None and generation == self._quiet_in and not first else {}
        )
        self._quiet, self._quiet_in = {}, generation
        files = walk(
            self._root,
            self._selection.wants_directory,
            on_error,
            on_skipped=lambda path, reason: total.count(
                SkipReason.OWN if self._selection.is_own(path) else reason, False
            ),
        )
        for batch in batches(files):
            if self._stopping:
                break
            mark = hash(
                tuple([(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in batch])
            )
            if mark in before:
                self._quiet[mark] = before[mark]
                total.add(before[mark][0])
                doubts.same += before[mark][1]
                continue
            if first and self._selection.unmatched:
                for path, _ in batch:
                    self._selection.note_match(path)
            told = False
            tally = Tally()
            doubtful, same = doubts.files, doubts.same
            for fingerprint, path, stat, is_old in without_row(
                batch, self._ledger, self._selection, doubts, inodes=self._inodes
            ):
                reason = skip_reason(self._selection, path, stat)
                if not is_old and baseline and _is_older(stat, young, by_change=interrupted):
                    old.append(fingerprint)
                    is_old = True
                tally.count(reason, is_old)
                wanted = reason is None or reason is SkipReason.EMPTY
                if not is_old and wanted and self._is_news(fingerprint, stat.st_size):
                    self._on_new(path)
                    found += bool(stat.st_size)
                    told = True
            if len(old) >= BASELINE_BATCH:
                self._ledger.add_to_baseline(old)
                old = []
            total.add(tally)
            if not told and doubts.files == doubtful:
                self._quiet[mark] = (tally, doubts.same - same)
        if self._stopping:
            return found, self.tally
        if old:
            self._ledger.add_to_baseline(old)
        if first:
            if not known_before:
                self._ledger.remember(FIRST_START, str(self._started_at))
            self.first_done = True
        if doubts.files or self._doubtful_files:
            self._doubtful_files = doubts.files
            self._on_doubts(doubts)
        return found + doubts.urgent, total

    def doubtful_paths(self) -> Iterator[str]:
        """Walk through the directory and yield the files that were touched since they were archived."""
        for batch in batches(walk(self._root, self._selection.wants_directory)):
            doubts = Doubts()
            without_row(batch, self._ledger, self._selection, doubts, inodes=self._inodes)
            yield from doubts.paths

    def _scan_stranger(self, on_error: Callable[[str, str], None]) -> int:
        """Hint only what was written since the start: the rest of an unknown directory may be anybody's."""
        found = 0
        self._quiet = {}
        for batch in batches(walk(self._root, self._selection.wants_directory, on_error)):
            for _, path, stat, is_old in without_row(
                batch, self._ledger, self._selection, Doubts(), inodes=self._inodes
            ):
                if is_old or not stat.st_size or _is_older(stat, self._started_at):
                    continue
                if skip_reason(self._selection, path, stat) is None:
                    self._on_new(path)
                    found += 1
        return found

    def _is_news(self, fingerprint: int, size_bytes: int) -> bool:
        """An empty file is told of once: it never gets a row, and there is nothing in it to wait for."""
        if size_bytes:
            return True
        told = fingerprint in self._empty
        self._empty.add(fingerprint)
        return not told


def _is_older(stat: os.stat_result, moment: float, *, by_change: bool = False) -> bool:
    """Return whether the file was written before `moment`, for sure: in doubt it is new.

    Args:
        by_change: its change time must be older, too: a file that came since then may have an old mtime, and no
            event told this process of it.
    """
    written_ns = FileVersion.of_stat("", stat).touched_ns if by_change else stat.st_mtime_ns
    return written_ns + clock_tick_ns(written_ns) < int(moment * 1e9)
