"""Find the files of one directory, and queue each once it is complete:

    watcher ─ hints ─┐
    scan ─ truth ────┴─► settle ─► enqueue ─► ledger: pending
    scan, enqueue ─► recheck ─► ledger: pending (rewritten files)

Each stage has a thread of its own, which `check_threads` replaces if it dies.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..config.settings import Settings
from ..errors import CloudArchiveError
from ..files import FileVersion, HintKind
from ..intake.open_files import has_writer
from ..intake.selection import Selection
from ..intake.settle_entry import CompleteFile, WaitingFile
from ..intake.settle_queue import SettleQueue
from ..intake.settle_rules import BEING_WRITTEN, UNREADABLE, QuietTimes
from ..intake.settle_thread import SettleThread
from ..intake.walk import network_filesystem
from ..intake.watcher import Watcher
from ..ledger.doubts import Doubts
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import Ledger
from ..text import format_duration
from .enqueue_loop import EnqueueLoop
from .events import FileSeen, OnEvent, ScanEnded, StatusChanged
from .recheck import Rechecker
from .reconcile import Reconciler
from .session import Session

logger = logging.getLogger("cloud_archive.archiver")

SETTLE_LOCAL_SECONDS = 2.0  # the default settle time
SETTLE_NETWORK_SECONDS = 10.0  # the default settle time on network filesystems
STOP_SECONDS = 2.0  # how long to wait for the end of a watcher that started after it was stopped
WATCHES_SECONDS = 0.5  # how long the first scan waits for the watches; if they are set later, it is repeated
LATE_SECONDS = 30.0  # a scan is late after this time, and after three times as long as the last one
_SHOWN_UNREADABLE = 10
_SCAN = "cloud-archive-scan"


class DirectoryWatch:
    """Watcher, scan, settle queue, enqueue loop and rechecker of one directory. It can be started only once.

    Args:
        session: gets notices about empty files, and files that look incomplete.
        started_at: see `BaselineBuilder`.
        enqueue: see `EnqueueLoop`.
        on_queued: see `EnqueueLoop`; also called with an empty list after `Rechecker` queued a version.
        on_event: receives FileSeen, ScanEnded and StatusChanged, from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        ledger: Ledger,
        selection: Selection,
        *,
        known_root: KnownRoot,
        session: Session,
        started_at: float,
        enqueue: Callable[[list[FileVersion]], int],
        on_queued: Callable[[list[FileVersion]], None],
        on_event: OnEvent,
    ) -> None:
        self._settings = settings
        self._root = root
        self._ledger = ledger
        self._selection = selection
        self._session = session
        self._on_queued = on_queued
        self._on_event = on_event
        self.stopping = threading.Event()
        self.finding_stopped = False
        self.hint_count = 0  # hints and calls of `scan_again` so far; two at once may count as one
        self._queue = self._make_queue()
        self.settle_thread = SettleThread(self._queue)
        self.enqueue_loop = self._make_enqueue_loop(enqueue)
        self.watcher = Watcher(root, mode=settings.watch, on_hint=self._on_hint, on_lost=self.scan_again)
        self.reconciler = Reconciler(
            root,
            ledger,
            selection,
            on_new=self.let_settle,
            on_doubts=self._on_doubts,
            on_done=lambda: on_event(ScanEnded()),
            backfill=settings.backfill,
            interval_seconds=settings.rescan_seconds,
            polling=lambda: self.watcher.polling,
            started_at=started_at,
            hint_count=lambda: self.hint_count,
            root_problem=known_root.find_problem,
        )
        self.rechecker = self._make_rechecker()
        self._watches_changed = threading.Condition()
        self._watches_set = False  # True also after they could not be set
        self._watch_setter: threading.Thread | None = None
        self._scan_began_first = False  # the first scan began before the watches were set
        self._threads: dict[str, threading.Thread] = {}
        self._loops: dict[str, Callable[[], None]] = {
            "cloud-archive-intake": self.enqueue_loop.run,
            _SCAN: self._scan,
            "cloud-archive-recheck": self.rechecker.run,
        }

    def _make_enqueue_loop(self, enqueue: Callable[[list[FileVersion]], int]) -> EnqueueLoop:
        return EnqueueLoop(
            self._ledger,
            self._queue,
            enqueue=enqueue,
            on_queued=self._on_queued,
            on_rewritten=lambda path: self.rechecker.put(path, written=True),
            stopping=self.stopping,
        )

    def _make_rechecker(self) -> Rechecker:
        return Rechecker(
            self._root,
            self._ledger,
            doubtful_paths=self.reconciler.doubtful_paths,
            on_unknown=self.let_settle,
            on_queued=lambda: self._on_queued([]),
            on_settled=lambda: self._on_event(StatusChanged()),
        )

    def _make_queue(self) -> SettleQueue:
        seconds = self._settings.settle_seconds
        # A settle time from the settings replaces `QuietTimes.unsure` too.
        quiet = None if seconds is None else QuietTimes(unsure=seconds)
        if seconds is None:
            seconds = SETTLE_NETWORK_SECONDS if network_filesystem(self._root) else SETTLE_LOCAL_SECONDS
        return SettleQueue(
            self._root,
            settle_seconds=seconds,
            on_complete=self._on_complete,
            on_empty=self._on_empty,
            on_unreadable=self._on_unreadable,
            quiet=quiet,
        )

    # --- life cycle

    def add_loop(self, name: str, loop: Callable[[threading.Event], None]) -> None:
        """Also run `loop(stopping)`, in a thread of this name. Call it before `start`."""
        self._loops[name] = lambda: loop(self.stopping)

    def start(self) -> None:
        """Start all threads."""
        self.settle_thread.start()
        self._watch_setter = threading.Thread(
            target=self._set_watches, name="cloud-archive-watches", daemon=True
        )
        self._watch_setter.start()
        for name, loop in self._loops.items():
            self._start(name, loop)

    def _set_watches(self) -> None:
        """Set the watches, in a thread of its own, because that takes long in a large tree."""
        try:
            self.watcher.start(self._on_watches_set)
        finally:
            with self._watches_changed:
                self._watches_set = True
                self._watches_changed.notify_all()
        if self.finding_stopped or self.stopping.is_set():
            # Stopping the watcher before it started had no effect.
            self.watcher.stop(STOP_SECONDS)
        else:
            logger.info("Archiving %s: %s", self._root, self.watcher.description)

    def _on_watches_set(self) -> None:
        with self._watches_changed:
            self._watches_set = True
            self._watches_changed.notify_all()
            scan_began_first = self._scan_began_first
        if scan_began_first:
            self.scan_again("files may have changed after the first scan, before the watches were set")

    def _scan(self) -> None:
        with self._watches_changed:
            self._watches_changed.wait_for(lambda: self._watches_set, WATCHES_SECONDS)
            self._scan_began_first = not self._watches_set
        self.reconciler.run()

    def _start(self, name: str, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        # Only now, because `check_threads` takes a thread that has not started for a dead one.
        self._threads[name] = thread

    def stop(self, deadline: float) -> None:
        """Stop all threads: first those that find files, then those that queue them, so that no file is lost.

        After `deadline` (monotonic seconds) it waits 0.1 s at most for each thread that still runs.
        """

        def seconds_left() -> float:
            return max(0.1, deadline - time.monotonic())

        self.stopping.set()
        self.reconciler.stop()
        self.rechecker.stop()
        self.watcher.stop(seconds_left())
        self.settle_thread.stop(seconds_left())
        self.enqueue_loop.end()
        for thread in (self._watch_setter, *self._threads.values()):
            if thread is not None and thread.is_alive():
                thread.join(seconds_left())

    def stop_finding(self, deadline: float) -> bool:
        """Stop the watcher, and scan a last time. The files found until then are still queued once they are complete.

        Return whether the scan ended before `deadline` (monotonic seconds) and could read the whole directory.
        """
        self.finding_stopped = True
        self.watcher.stop(max(0.1, deadline - time.monotonic()))
        try:
            self.reconciler.now(max(0.1, deadline - time.monotonic()))
        except CloudArchiveError as error:
            logger.warning("%s", error)
            return False
        finally:
            self._loops.pop(_SCAN, None)  # it ends now, and is not replaced
            self.reconciler.stop()
        return True

    def check_threads(self) -> None:
        """Replace threads that died, and repair the watcher; no-op once this watch stops. Call it every few seconds."""
        self.watcher.check()
        if self.stopping.is_set():
            return
        for name, loop in list(self._loops.items()):
            thread = self._threads.get(name)
            if thread is not None and not thread.is_alive():
                logger.error("%s died and is replaced", name)
                self._start(name, loop)
        if not self.settle_thread.alive:
            logger.error("The settle thread died and is replaced")
            settle_thread = SettleThread(self._queue)
            settle_thread.start()
            self.settle_thread = settle_thread
            self.reconciler.request()

    # --- what a status shows

    def settling_files(self, *, unreadable: bool) -> int:
        """Return how many files are to be queued or hashed, without those being written.

        `unreadable`: count the files that can't be read, too.
        """
        quiet = [w for w in self._queue.waiting() if self._is_settling(w, unreadable)]
        return len(quiet) + self._queue.handed_files + self.rechecker.settling(unreadable=unreadable)

    def _is_settling(self, file: WaitingFile, unreadable: bool) -> bool:
        if file.reason == UNREADABLE:
            return unreadable
        # The writer may have closed the file since the settle queue checked it.
        return file.reason != BEING_WRITTEN or has_writer(self._root, file.path) is False

    def retry_unreadable(self) -> int:
        """Try at once to read the files that could not be read. Return how many; does not wait."""
        unreadable = self._queue.unreadable()
        for path, _ in unreadable:
            self.let_settle(path)
        return len(unreadable) + self.rechecker.retry_unreadable()

    @property
    def rewritten_files(self) -> int:
        """How many archived or queued files may hold new bytes, so that it is not safe to stop."""
        return self._queue.rewritten_files + self.rechecker.waiting

    @property
    def unqueued_files(self) -> int:
        """How many files were found, and are not in the ledger yet."""
        return self._queue.pending_files

    @property
    def unreadable_files(self) -> int:
        """How many of the unqueued files can't be read now."""
        return self._queue.unreadable_files

    def waiting(self) -> tuple[WaitingFile, ...]:
        """Return the files that are not complete yet, without empty ones."""
        return self._queue.waiting()

    def problems(self) -> list[str]:
        """Return sentences about what keeps files from being found or read now."""
        unreadable = [_unreadable_sentence(*each) for each in self._queue.unreadable()[-_SHOWN_UNREADABLE:]]
        late = filter(None, [self.late_scan])
        return [*self.reconciler.problems, *late, *self.rechecker.problems[-_SHOWN_UNREADABLE:], *unreadable]

    @property
    def late_scan(self) -> str:
        """Say that the scan under way is late; empty if it is not, or if it is the first one."""
        scan = self.reconciler
        began = scan.scan_began
        seconds = 0.0 if began is None or not scan.first_done else time.monotonic() - began
        if seconds <= max(LATE_SECONDS, 3 * scan.cost_seconds):
            return ""
        return (
            f"The scan of the watched directory has not ended after {format_duration(seconds)}. Check that its disk or"
            " network share answers."
        )

    @property
    def slow_scan(self) -> str:
        """Say that a status did not wait for the end of a scan; empty unless `Reconciler.timed_out`."""
        if not self.reconciler.timed_out:
            return ""
        return (
            "A scan of the watched directory takes longer than a status waits, so it is not known yet whether it is"
            " safe to stop. `cloud-archive flush` waits for the end of the scan."
        )

    # --- from a hint to a complete file

    def let_settle(self, path: str) -> None:
        """Have this file queued for upload once it is complete."""
        self.settle_thread.hint(path, HintKind.SCANNED)

    def forget(self, version: FileVersion) -> None:
        """Don't queue this version, because it is claimed already."""
        self._queue.forget(version, time.monotonic())

    def _on_hint(self, path: str, kind: HintKind) -> None:
        self._selection.refresh_own()
        if self._selection.wants(path):
            self.hint_count += 1
            self.settle_thread.hint(path, kind)
            self._on_event(FileSeen())

    def scan_again(self, reason: str) -> None:
        """Scan soon, and return at once. Until that scan has ended, the results of earlier scans don't count."""
        logger.info("Scanning the whole directory: %s", reason)
        self.hint_count += 1
        self.reconciler.request()

    def _on_doubts(self, doubts: Doubts) -> None:
        if doubts.is_whole_tree or doubts.files > len(doubts.paths):
            self.rechecker.sweep(doubts.files, urgent=not doubts.is_whole_tree)
        else:
            self.rechecker.sweep(0, urgent=False)
            for path in doubts.paths:
                self.rechecker.put(path, written=False)

    def _on_complete(self, file: CompleteFile) -> None:
        self._selection.refresh_own()
        # Since the file was found, this program may have begun to log into it.
        if self._selection.is_own(file.version.path):
            self._queue.acknowledge([file.version])
            return
        if file.looks_incomplete:
            self._session.notice(
                f"{file.version.path} looks incomplete, but has stopped changing: it is archived as it is."
            )
        self.enqueue_loop.put(file)

    def _on_empty(self, path: str) -> None:
        self._session.notice(f"{path} is empty and was not archived.")

    def _on_unreadable(self, path: str, reason: str) -> None:
        logger.warning("%s", _unreadable_sentence(path, reason))
        self._on_event(StatusChanged())


def _unreadable_sentence(path: str, reason: str) -> str:
    return f"{path} can't be read: {reason}. It will be retried."
