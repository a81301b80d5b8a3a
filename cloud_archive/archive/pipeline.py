"""The stages of one life of an archiver, between its start and its stop, and the threads that they need.

    watcher ─ hints ─┐
    scan ─ truth ────┼─► settle ─► intake ─► ledger: pending
    submit ──────────┘

A stage knows nothing of the next: it is given a callback here. Every thread is named, waits on an event, and is
replaced by the keeper when it dies.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from pathlib import Path
from typing import Protocol

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
from ..ledger.rows import Totals
from ..maintenance.free import Freed, FreeReport, Limits, LocalCleaner
from ..store.base import ObjectStore
from .metrics import Recorder
from .recheck import Rechecker
from .reconcile import Reconciler
from .session import Session
from .workers import WorkerPool

logger = logging.getLogger("cloud_archive.archiver")

LONGEST_COMMIT_SECONDS = 0.2  # how long counting waits for a commit, so that no file is counted twice
KEEPER_SECONDS = 2.0  # how often threads, the watch and the root are looked after
SETTLE_LOCAL_SECONDS = 2.0
SETTLE_NETWORK_SECONDS = 10.0
FREE_SECONDS = 15.0  # between two looks at what may be removed here, where the settings ask for that
_SHOWN_UNREADABLE = 10


class Home(Protocol):
    """What the stages ask of the archiver that they belong to, and tell it; from any thread."""

    settings: Settings
    root: Path
    ledger: Ledger
    store: ObjectStore
    session: Session
    metrics: Recorder
    known_root: KnownRoot

    def changed(self) -> None:
        """The status may have changed; called often."""

    def tell(self) -> None:
        """Something is over: whoever waits looks again."""

    def on_scanned(self) -> None:
        """A scan brought news, or was the first."""

    def enqueue(self, versions: list[FileVersion]) -> int:
        """Complete versions go to the ledger. Returns how many were new to it."""

    def on_enqueued(self, versions: list[FileVersion]) -> None:
        """They are committed."""

    def look_after_index(self) -> None:
        """Called every few seconds."""


class Stages:
    """Watcher, scan, settle queue and intake of one directory.

    Args:
        home: the home.
        pool: the workers, which are the archiver's to start and stop.
        selection: which files are wanted.
        started_at: seconds since 1970; what is younger is never part of the baseline.
    """

    def __init__(self, home: Home, pool: WorkerPool, selection: Selection, started_at: float) -> None:
        settings = home.settings
        self._home = home
        self._pool = pool
        self._selection = selection
        self._stop = threading.Event()
        self._takes_no_more = False
        self._network = network_filesystem(home.root)
        self._intake: queue.SimpleQueue[CompleteFile | None] = queue.SimpleQueue()
        self._committing = threading.Lock()
        self._unreadable: dict[str, str] = {}  # path to sentence; gone once it is readable, or is gone itself
        self.news = 0  # events so far; two at once may count as one, which is still news
        self._queue = self._make_queue()
        self.settle = SettleThread(self._queue)
        self.watcher = Watcher(
            home.root,
            mode=settings.watch,
            on_hint=self._on_hint,
            on_lost=self._on_lost,
        )
        self.reconciler = Reconciler(
            home.root,
            home.ledger,
            self._selection,
            on_new=lambda path: self.settle.hint(path, HintKind.SCANNED),
            on_doubts=self._on_doubts,
            on_done=home.on_scanned,
            backfill=settings.backfill,
            interval_seconds=settings.rescan_seconds,
            polling=lambda: self.watcher.polling,
            started_at=started_at,
            news=lambda: self.news,
            root_trouble=home.known_root.trouble,
        )
        self.rechecker = Rechecker(
            home.root,
            home.ledger,
            doubtful_paths=self.reconciler.doubtful_paths,
            on_unknown=lambda path: self.settle.hint(path, HintKind.SCANNED),
            on_queued=lambda: home.on_enqueued([]),
            on_settled=home.tell,
        )
        self._threads: dict[str, threading.Thread] = {}
        self._bodies = {
            "cloud-archive-intake": self._take_in,
            "cloud-archive-scan": self.reconciler.run,
            "cloud-archive-recheck": self.rechecker.run,
        }
        limits = Limits(
            settings.delete_local_after_seconds, settings.min_free_disk_bytes, age_from_archiving=True
        )
        if not limits.off:
            self._freer = LocalCleaner(
                home.ledger,
                home.store,
                home.root,
                limits,
                has_writer=has_writer,
                clock=time.time,
                on_freed=self._on_freed,
                check_root=home.known_root.check,
            )
            self._bodies["cloud-archive-free"] = self._free
        self._keeper = threading.Thread(target=self._keep, name="cloud-archive-keeper", daemon=True)

    def _make_queue(self) -> SettleQueue:
        settings = self._home.settings
        seconds = settings.settle_seconds
        if seconds is None:
            seconds = SETTLE_NETWORK_SECONDS if self._network else SETTLE_LOCAL_SECONDS
        return SettleQueue(
            self._home.root,
            settle_seconds=seconds,
            on_complete=self._on_complete,
            on_empty=self._on_empty,
            on_unreadable=self._on_unreadable,
            # A settle time that was set counts for all files whose format doesn't tell.
            quiet=None if settings.settle_seconds is None else QuietTimes(unsure=settings.settle_seconds),
        )

    def start(self) -> None:
        self.settle.start()
        self.watcher.start()
        for name in self._bodies:
            self._start(name)
        self._keeper.start()

    def _start(self, name: str) -> None:
        self._threads[name] = threading.Thread(target=self._bodies[name], name=name, daemon=True)
        self._threads[name].start()

    def stop(self, deadline: float) -> None:
        """Watcher, then scan, settle and intake, so that nothing new arrives behind a stopped stage."""

        def left() -> float:
            return max(0.1, deadline - time.monotonic())

        self._stop.set()
        self.reconciler.stop()
        self.rechecker.stop()
        self.watcher.stop(left())
        self.settle.stop(left())
        self._intake.put(None)
        self._keeper.join(left())
        for thread in self._threads.values():
            thread.join(left())

    def take_no_more(self, deadline: float) -> bool:
        """One last scan, then neither events nor scans. Returns whether that scan came to its end."""
        self._takes_no_more = True
        self.watcher.stop(max(0.1, deadline - time.monotonic()))
        try:
            self.reconciler.now(max(0.1, min(10.0, deadline - time.monotonic())))
        except CloudArchiveError as error:
            logger.warning("%s", error)
            return False
        finally:
            self.reconciler.stop()
        return True

    @property
    def settling_files(self) -> int:
        """Those that will be complete by themselves: nobody writes to them any more."""
        # A writer that has just gone may not have been noticed yet.
        quiet = [
            w
            for w in self._queue.waiting()
            if w.reason != BEING_WRITTEN or has_writer(self._home.root, w.path) is False
        ]
        return len(quiet) + self._queue.handed_files + self.rechecker.settling

    @property
    def rewritten_files(self) -> int:
        """How many archived files may hold new bytes, and must be hashed before it is safe to stop."""
        return self._queue.rewritten_files + self.rechecker.waiting

    def count(self) -> tuple[Totals, int, int]:
        """What the ledger holds, and the files and bytes that are not complete, or not in it yet.

        While nothing is committed from here, no file is in both. A ledger that hangs is not waited for: then a file
        may be counted twice, but none is missed, since what is on its way is counted first.
        """
        quiet = self._committing.acquire(timeout=LONGEST_COMMIT_SECONDS)
        try:
            files, size_bytes = self._queue.pending_files, self._queue.pending_bytes
            return self._home.ledger.totals(), files, size_bytes
        finally:
            if quiet:
                self._committing.release()

    def waiting(self) -> tuple[WaitingFile, ...]:
        """The files that are not complete yet."""
        return self._queue.waiting()

    def troubles(self) -> list[str]:
        """What a user should know about watching, for as long as it is so."""
        found = [*self.reconciler.troubles, *self.rechecker.troubles[-_SHOWN_UNREADABLE:]]
        if self._unreadable:
            still = {each.path for each in self._queue.waiting() if each.reason == UNREADABLE}
            for path in tuple(self._unreadable):
                if path not in still:
                    self._unreadable.pop(path, None)
            found += list(self._unreadable.values())[-_SHOWN_UNREADABLE:]
        return found

    # --- hints

    def _on_hint(self, path: str, kind: HintKind) -> None:
        if self._selection.wants(path):
            self.news += 1
            self.settle.hint(path, kind)
            self._home.changed()

    def _on_lost(self, reason: str) -> None:
        logger.info("Looking through the whole directory: %s", reason)
        self.news += 1
        self.reconciler.request()

    def _on_complete(self, file: CompleteFile) -> None:
        if file.looks_partial:
            self._home.session.notice(
                f"{file.version.path} looks incomplete, but nobody writes to it any more: archived as it is."
            )
        self._intake.put(file)

    def _on_doubts(self, doubts: Doubts) -> None:
        if doubts.is_whole_tree or doubts.files > len(doubts.paths):
            self.rechecker.sweep(doubts.files, hurry=not doubts.is_whole_tree)
        else:
            self.rechecker.sweep(0, hurry=False)
            for path in doubts.paths:
                self.rechecker.put(path, written=False)

    def _on_empty(self, path: str) -> None:
        self._home.session.notice(f"{path} is empty and was not archived.")

    def _on_unreadable(self, path: str, reason: str) -> None:
        sentence = f"{path} cannot be read: {reason}. It is tried again."
        logger.warning("%s", sentence)
        self._unreadable[path] = sentence
        self._home.tell()

    # --- threads

    def _take_in(self) -> None:
        """Complete files go to the ledger, as many at once as have come."""
        while True:
            first = self._intake.get()
            if first is None:
                return
            files, ending = [first], False
            while len(files) < 1000:
                try:
                    file = self._intake.get_nowait()
                except queue.Empty:
                    break
                if file is None:
                    ending = True
                    break
                files.append(file)
            self._enqueue([file.version for file in files], {f.version.path for f in files if f.written})
            if ending:
                return

    def _enqueue(self, versions: list[FileVersion], written: set[str]) -> None:
        """Again and again until the ledger takes them: what was handed over once is not soon offered again.

        Args:
            written: paths of files that a program wrote to; where the ledger knows such a file, its bytes are hashed.
        """
        while True:
            try:
                with self._committing:
                    unknown = {version.path for version in self._home.ledger.unknown(versions)}
                    added = self._home.enqueue(versions)
                    for path in written - unknown:
                        self.rechecker.put(path, written=True)
                    self._queue.acknowledge(versions)
            except CloudArchiveError as error:
                if self._pool.ledger_trouble is None:
                    logger.error("%s", error)
                self._pool.ledger_trouble = str(error)
                if self._stop.wait(1.0):
                    self._queue.acknowledge(versions)
                    return  # not in the ledger, so the next start's scan finds them
            except BaseException:
                self._queue.acknowledge(versions)  # this thread is replaced, and a scan finds them again
                raise
            else:
                self._pool.ledger_trouble = None
                if added:
                    self._home.on_enqueued(versions)
                return

    def _free(self) -> None:
        """Remove here what is proven in the bucket, as far as the settings ask for it."""
        told = ""
        while not self._stop.wait(FREE_SECONDS):
            try:
                said = _stays(self._freer.run_once(self._stop))
            except (CloudArchiveError, OSError) as error:
                said = f"Local files are not removed just now: {error}"
            if said != told:
                self._home.session.withdraw(told)
                if said:
                    logger.warning("%s", said)
                    self._home.session.notice(said)
                told = said
                self._home.tell()

    def _on_freed(self, freed: Freed) -> None:
        self._home.metrics.freed(freed.size_bytes)

    def _keep(self) -> None:
        """Look after the watch, the threads and what is due."""
        waiting = -1
        while not self._stop.wait(KEEPER_SECONDS):
            try:
                if not self._takes_no_more:
                    self._look_after_watching()
                self._pool.replace_dead_threads()
                if self._home.ledger.requeue_due():
                    self._pool.kick()
                active = self._pool.active()
                self._home.look_after_index()
                self._home.session.sample(sum(a.sent_bytes for a in active), time.monotonic())
                # What stops waiting without being archived (it is gone, it is empty) is told of by nobody else.
                waiting, before = self._queue.pending_files, waiting
                if waiting != before:
                    self._home.tell()
            except CloudArchiveError as error:
                logger.error("%s", error)
            except Exception:
                logger.exception("Looking after the archive failed")

    def _look_after_watching(self) -> None:
        self.watcher.check()
        if self._stop.is_set():
            return  # they end because they were told to
        for name, thread in list(self._threads.items()):
            if not thread.is_alive():
                logger.error("%s died and is replaced", name)
                self._start(name)
        if not self.settle.alive:
            logger.error("The settle thread died and is replaced")
            self.settle = SettleThread(self._queue)
            self.settle.start()
            self.reconciler.request()


def _stays(report: FreeReport) -> str:
    """What a user should know after a run that freed local disk; empty where all is well."""
    count = len(report.unproven)
    if not count:
        return ""
    what = f"{report.unproven[0]} stays" if count == 1 else f"{count} files stay"
    return (
        f"{what} on this disk: the bucket does not hold what was archived there."
        " Run `cloud-archive verify --repair`."
    )
