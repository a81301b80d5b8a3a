"""Scan the watched directory, compare it with the ledger, and report the new and the doubtful files."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from ..errors import CloudArchiveError
from ..executor import unawaited_threads
from ..files import SkipReason
from ..intake.selection import Selection
from ..intake.walk import stable_inodes, walk
from ..ledger.doubts import Doubts
from ..ledger.ledger import Ledger
from .baseline import BaselineBuilder, is_older
from .scan_record import BatchCounts, ScanRecord
from .unarchived import (
    BATCH,
    FoundFile,
    LookedUpBatch,
    Tally,
    batches,
    look_up,
    may_hold_wanted,
    moved_sentence,
    skip_reason,
    unscanned_sentence,
)

logger = logging.getLogger("cloud_archive.reconcile")

POLL_SECONDS = 2.0  # between two scans while the watcher polls
SHOWN_PROBLEMS = 5  # of a scan, in the status and in the log
MAX_SCANS_IN_A_ROW = 3  # while files or folders are moved or removed during each
COST_FACTOR = 20  # a scan of t seconds is not repeated unasked before 20 t: at most 5 % of a core


class Reconciler:
    """Runs scans one at a time on the thread that calls `run`.

    Args:
        on_new: called with the relative path of each file that is to be archived and that the ledger does not know,
            and once with that of each empty file.
        on_doubts: called after each scan that found files which were touched since they were archived, and after the
            first one that finds none any more.
        on_done: called after the first scan, and after each scan with news: it found something, its tally or problems
            differ from the last one's, or a call of `now` timed out meanwhile.
        backfill, started_at: see `BaselineBuilder`.
        interval_seconds: about how often to scan, unless polling; 0 = only when asked.
        polling: returns whether the watcher polls, so that scans replace events.
        hint_count: returns how many events have come so far; see `clean_at_hint`.
        root_problem: returns why the directory is not the one that the ledger knows; None if it is.
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
        hint_count: Callable[[], int] = lambda: 0,
        root_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._selection = selection
        self._on_new = on_new
        self._on_doubts = on_doubts
        self._on_done = on_done
        self._inodes = stable_inodes(root)
        self._doubtful_files = 0  # how many the last scan found
        self._backfill = backfill
        self._interval_seconds = interval_seconds
        self._polling = polling
        self._started_at = started_at
        self._hint_count = hint_count
        self._root_problem = root_problem
        self._turn = threading.Condition()
        self._asked = 1  # requests so far; the start is the first
        self._begun = 0  # the last request that a scan has begun for
        self._done = 0  # the last request whose scan has ended
        self._found = 0  # by the last scan; see `now`
        self._stopping = False
        self.timed_out = False  # a call of `now` has timed out since the last scan ended
        self.cost_seconds = 0.0  # of the last scan
        self.scan_began: float | None = None  # monotonic; when the scan under way began
        self.processor_seconds = 0.0  # of the last scan; without the look-ups that another thread makes
        # `hint_count` when the last scan began, if that scan was complete and found nothing.
        self.clean_at_hint: int | None = None
        self.clean_until = 0.0  # monotonic; a scan before this time would take more than 5 % of a core
        self.ended_at = 0.0  # monotonic; when the last scan ended
        self.tally = Tally()
        self._record = ScanRecord(ledger, selection, inodes=self._inodes)
        self._problems: dict[str, str] = {}  # of the last scan, by path; "" is the watched directory
        self._vanished: list[str] = []  # what was moved or removed during the last scan
        self._empty: set[int] = set()  # fingerprints of empty files that were reported
        self.first_done = False

    def request(self) -> None:
        """Scan soon. Return at once."""
        with self._turn:
            self._asked += 1
            self._turn.notify_all()

    def now(self, timeout_seconds: float) -> int:
        """Wait for a scan that begins after this call.

        Returns:
            How many files it found that the ledger does not know, or that must be hashed before it is safe to stop.

        Raises:
            CloudArchiveError: no scan ended in time, it is not complete (see `problems`), or `stop` was called.
        """
        with self._turn:
            self._asked += 1
            ticket = self._asked
            self._turn.notify_all()
            if not self._turn.wait_for(
                lambda: self._done >= ticket or self._stopping, timeout=timeout_seconds
            ):
                self.timed_out = True
                raise CloudArchiveError("The watched directory could not be scanned in time.")
            if self._stopping:
                raise CloudArchiveError("The archive is stopping.")
            if self._problems:
                raise CloudArchiveError(next(iter(self._problems.values())))
            return self._found

    def stop(self) -> None:
        """Let `run` return after the batch of files that it is working on."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()

    @property
    def root_is_known(self) -> bool:
        """Whether the last scan could read the watched directory and the ledger, and the directory is the known one."""
        return "" not in self._problems

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the last scan is not complete; SHOWN_PROBLEMS sentences at most."""
        return tuple(self._problems.values())[:SHOWN_PROBLEMS]

    def run(self) -> None:
        """Scan when asked or when due, until `stop`."""
        first_reported = self.first_done
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._stopping or self._asked > self._begun, self._pause())
                if self._stopping:
                    return
                ticket = self._begun = self._asked
            began, processor, hints_before = time.monotonic(), time.thread_time(), self._hint_count()
            self.scan_began = began
            problems: dict[str, str] = {}
            found, tally, unexpected = 0, self.tally, None
            try:
                found, tally = self._scan_until_still(problems)
            except CloudArchiveError as error:
                problems = {"": str(error)}
            except Exception as error:
                # A lost file server raises errors in odd places (ESTALE, EIO). Waiting threads must learn of it.
                problems, unexpected = {"": f"The watched directory can't be scanned: {error}."}, error
            for path, problem in list(problems.items())[:SHOWN_PROBLEMS]:
                if problem not in (self._problems.get(path), moved_sentence(path)):
                    logger.error("%s", problem, exc_info=unexpected)
            with self._turn:
                # Each report makes listeners ask for the status, which may scan again.
                news = (
                    bool(found)
                    or problems != self._problems
                    or self.first_done != first_reported
                    or self.timed_out
                    or tally != self.tally
                )
                self.timed_out = False
                self.tally = tally
                first_reported = self.first_done
                self._problems = problems
                self.scan_began = None
                self.ended_at = time.monotonic()
                self.cost_seconds = self.ended_at - began
                self.clean_at_hint = None if found or problems or self._stopping else hints_before
                self.clean_until = self.ended_at + self.cost_seconds * COST_FACTOR
                self.processor_seconds = time.thread_time() - processor
                self._found, self._done = found, ticket
                self._turn.notify_all()
            if news:
                self._on_done()

    @property
    def poll_seconds(self) -> float:
        """The pause between two scans while the watcher polls."""
        return max(POLL_SECONDS, self.cost_seconds * COST_FACTOR)

    def _pause(self) -> float | None:
        """Return the seconds until a scan is due; None = only when asked."""
        if self._polling():
            return self.poll_seconds
        if self._interval_seconds == 0:
            return None
        return max(self._interval_seconds * random.uniform(0.8, 1.0), self.cost_seconds * COST_FACTOR)  # noqa: S311

    def _scan_until_still(self, problems: dict[str, str]) -> tuple[int, Tally]:
        """Scan, and again if anything was moved or removed meanwhile: the scan may have missed it at its new place.

        Args:
            problems: see `_scan`; gets one more sentence if that happened in each of `MAX_SCANS_IN_A_ROW` scans.
        """
        for _ in range(MAX_SCANS_IN_A_ROW):
            self._vanished.clear()
            found, tally = self._scan(problems)
            if not self._vanished or problems or self._stopping:
                return found, tally
        problems[self._vanished[0]] = moved_sentence(self._vanished[0])
        return found, tally

    def _scan(self, problems: dict[str, str]) -> tuple[int, Tally]:
        """Scan once.

        Args:
            problems: gets a sentence for each folder or file that can't be read, by path; "" is the watched directory.

        Returns:
            The number that `now` returns, and the counts of the files without a row.

        Raises:
            CloudArchiveError: the watched directory is missing, or the ledger can't be read or written.
        """
        if not self._root.is_dir():
            raise CloudArchiveError(f"The watched directory {self._root} is missing.")

        def on_error(path: str, reason: str) -> None:
            problems[path] = unscanned_sentence(self._root, path, reason)

        unknown_root = self._root_problem()
        if unknown_root is not None:
            problems[""] = unknown_root
            return self._scan_unknown_root(on_error), self.tally
        baseline: BaselineBuilder | None = None
        if not self.first_done:
            baseline = BaselineBuilder(self._ledger, self._root, self._backfill, started_at=self._started_at)
        found, total, doubts = 0, Tally(), Doubts()
        self._selection.refresh_own()
        self._record.begin()
        files = batches(self._walk(total, on_error))
        with contextlib.closing(self._looked_up(self._noted(files))) as looked_up:
            for digest, batch in looked_up:
                if self._stopping:
                    return found, self.tally
                if isinstance(batch, BatchCounts):
                    total.add(batch.tally)
                    doubts.same += batch.same
                    continue
                counts, reported = self._scan_batch(batch, baseline, doubts)
                total.add(counts.tally)
                found += reported
                if counts.is_known:
                    self._record.keep(digest, counts)
        if self._stopping:
            return found, self.tally
        if baseline is not None:
            baseline.finish()
        self._record.save()
        if not self.first_done:
            self.tally = total  # first, because others read it as soon as `first_done` is set
            self.first_done = True
        if doubts.files or self._doubtful_files:
            self._doubtful_files = doubts.files
            self._on_doubts(doubts)
        return found + doubts.urgent, total

    def _walk(self, total: Tally, on_error: Callable[[str, str], None]) -> Iterator[FoundFile]:
        """Walk through the directory. Count what is left out in `total`; add what vanished meanwhile to `_vanished`."""
        return walk(
            self._root,
            self._selection.wants_folder,
            on_error,
            on_skipped=lambda path, reason: total.count(
                SkipReason.OWN if self._selection.is_own(path) else reason, False
            ),
            on_vanished=lambda path: (
                self._vanished.append(path) if may_hold_wanted(self._selection, path) else None
            ),
            again=self._asked > 1 or self._polling(),  # events will do until somebody asks for a scan
        )

    def _noted(self, found: Iterator[list[FoundFile]]) -> Iterator[list[FoundFile]]:
        """Yield the batches unchanged; during the first scan, note which include patterns match a file."""
        for batch in found:
            if not self.first_done and self._selection.unmatched:
                for path, _ in batch:
                    self._selection.note_match(path)
            yield batch

    def _looked_up(
        self, found: Iterator[list[FoundFile]]
    ) -> Generator[tuple[bytes, LookedUpBatch | BatchCounts], None, None]:
        """Yield each batch's hash, and what the record of the last scan or else the ledger knows of it, in order.

        A thread looks a full batch up while the next one is read.
        """
        ahead: tuple[bytes, Future[LookedUpBatch]] | None = None
        baseline_likely = False
        with unawaited_threads(1, "cloud-archive-scan-ledger") as executor:
            for batch in found:
                digest = self._record.hash_of(batch)
                counts = self._record.find(digest, first=not self.first_done)
                call = partial(
                    look_up, batch, self._ledger, inodes=self._inodes, baseline_likely=baseline_likely
                )
                following: tuple[bytes, Future[LookedUpBatch]] | None = None
                if counts is None and len(batch) >= BATCH:  # a shorter batch is the last one
                    following = digest, executor.submit(call)
                if ahead is not None:
                    looked_up = ahead[1].result()
                    baseline_likely = len(looked_up.known.baseline) > len(looked_up.files) // 2
                    yield ahead[0], looked_up
                ahead = following
                if counts is not None:
                    yield digest, counts
                elif following is None:
                    yield digest, call()
            if ahead is not None:
                yield ahead[0], ahead[1].result()

    def _scan_batch(
        self, batch: LookedUpBatch, baseline: BaselineBuilder | None, doubts: Doubts
    ) -> tuple[BatchCounts, int]:
        """Report the new files of a batch, and add its old ones to the baseline.

        Return what the batch holds, and how many files were reported, without empty ones.
        """
        batch.add_doubts(doubts, self._selection)
        tally, reported, is_known = Tally(), 0, not (batch.known.open or batch.known.doubtful)
        tally.count_older(batch.older, self._selection)
        unknown = batch.unknown
        if unknown and baseline is not None:
            older, unknown = baseline.add_old(unknown)
            tally.count_older(older, self._selection)
        for fingerprint, (path, stat) in unknown:
            reason = skip_reason(self._selection, path, stat)
            tally.count(reason, False)
            is_known &= reason not in (None, SkipReason.OWN)  # a log of ours may become another program's
            wanted = reason is None or reason is SkipReason.EMPTY
            if wanted and self._needs_report(fingerprint, stat.st_size):
                self._on_new(path)
                reported += bool(stat.st_size)
        return BatchCounts(tally, batch.known.same, is_known), reported

    def doubtful_paths(self, stopping: Callable[[], bool]) -> Iterator[str]:
        """Walk through the directory and yield the files that were touched since they were archived.

        It ends early once `stopping` returns True; `stop` does not end it.
        """
        for batch in batches(walk(self._root, self._selection.wants_folder)):
            if stopping():
                return
            yield from look_up(batch, self._ledger, inodes=self._inodes).doubtful_paths(self._selection)

    def _scan_unknown_root(self, on_error: Callable[[str, str], None]) -> int:
        """Report the files written since the start, and return how many.

        The others of an unknown directory may not be the user's.
        """
        found = 0
        for batch in batches(walk(self._root, self._selection.wants_folder, on_error)):
            if self._stopping:
                break
            for _, (path, stat) in look_up(batch, self._ledger, inodes=self._inodes).unknown:
                if not stat.st_size or is_older(stat, self._started_at):
                    continue
                if skip_reason(self._selection, path, stat) is None:
                    self._on_new(path)
                    found += 1
        return found

    def _needs_report(self, fingerprint: int, size_bytes: int) -> bool:
        """Return whether to report this file. An empty one is reported only once, because it never gets a row."""
        if size_bytes:
            return True
        reported_before = fingerprint in self._empty
        self._empty.add(fingerprint)
        return not reported_before
