"""The archiver: wires watcher, settle queue, ledger, workers and store for one watched directory, and only it does.

    watcher ─ hints ─┐
    scan ─ truth ────┼─► settle ─► intake ─► ledger: pending ─► workers ─► store ─► ledger: archived
    submit ──────────┘

A stage knows nothing of the next: it is given a callback here. Every thread is named, waits on an event, is
started and stopped by `Archiver`, and is replaced by its keeper when it dies.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .bucket_index import BucketIndex
from .console import size
from .errors import CloudArchiveError, FileVanished, StoreError
from .files import FileVersion, HintKind, stat_version
from .gate import Closed
from .keys import PrefixTemplate, object_key
from .ledger import COMPARE, Ledger
from .ledger_rows import Claim, FileRow, FileState, Totals
from .metrics import Gauges, NullRecorder, Recorder
from .operations.free import Freed, Freer, FreeReport, Limits
from .reconcile import COST_FACTOR, Reconciler
from .selection import Selection
from .settings import Settings
from .settle import BEING_WRITTEN, UNREADABLE, SettleQueue, SettleThread, WaitingFile
from .status import (
    ActiveFile,
    Destination,
    Session,
    State,
    Status,
    WaitingEntry,
    failure_sentences,
)
from .store import ObjectStore
from .upload import Outcome, Proof, Uploader
from .watcher import Watcher, network_filesystem, scan
from .worker import ActiveUpload, Observer, WorkerPool
from .writers import has_writer

logger = logging.getLogger("cloud_archive.archiver")

# How long what was there before waits for the first scan: while both compete for the interpreter, and while the SDK
# is imported, a scan takes several times as long, and what it finds decides what goes first.
FIRST_SCAN_SECONDS = 2.0
LOOK_SECONDS = 10.0  # how long a status waits for its look at the directory
LOOK_SHARE = 0.25  # of one core, that looks may take together where somebody asks again and again
LOOK_TURN_SECONDS = 5.0  # how long a status waits for that at the most
LONGEST_COMMIT_SECONDS = 0.2  # how long counting waits for a commit, so that no file is counted twice
KEEPER_SECONDS = 2.0  # how often threads, the watch and the root are looked after
SETTLE_LOCAL_SECONDS = 2.0
SETTLE_NETWORK_SECONDS = 10.0
FREE_SECONDS = 15.0  # between two looks at what may be removed here, where the settings ask for that
_SHOWN_FAILURES = 40
_SHOWN_WAITING = 50
_SHOWN_UNREADABLE = 10


@dataclass(frozen=True, slots=True)
class Submission:
    """How an upload that was asked for stands: archived, or still queued, or failed with `error`."""

    row: FileRow | None
    error: CloudArchiveError | None = None

    @property
    def archived(self) -> bool:
        """Proven in the bucket."""
        return self.row is not None and self.row.state is FileState.ARCHIVED


class Archiver(Observer):
    """Archives one directory. Can be started and stopped again and again; `submit` works while stopped.

    Args:
        settings: where to, and how.
        root: the watched directory.
        ledger: open, and this process's alone.
        store: where to.
        session_id: of this process.
        on_change: told, from any thread and often, that the status may have changed.
        started_at: seconds since 1970; what is older belongs to the backlog.
        metrics: is told what Prometheus counts.
        session: goes on with these counters; new ones where it is not given.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        ledger: Ledger,
        store: ObjectStore,
        *,
        session_id: str,
        on_change: Callable[[], None] = lambda: None,
        started_at: float | None = None,
        metrics: Recorder | None = None,
        session: Session | None = None,
    ) -> None:
        self.settings = settings
        self.root = root
        self.ledger = ledger
        self.store = store
        self.session_id = session_id
        self.session = session or Session()
        self.metrics: Recorder = metrics or NullRecorder()
        self._on_change = on_change
        self._started_at = time.time() if started_at is None else started_at
        self._template = PrefixTemplate.parse(settings.prefix)
        self._selection = Selection(settings.include, settings.exclude)
        self._life = threading.RLock()
        self._changed = threading.Condition()
        self._run: _Run | None = None
        # Why uploads that somebody waits for failed; kept no longer, since a traceback keeps the bytes of its frames.
        self._ended: dict[int, CloudArchiveError | None] = {}
        self._ended_lock = threading.Lock()
        self._clean_look: tuple[_Run | None, int] | None = (
            None  # a look that found all safe, and the news before it
        )
        self._clean_until = 0.0
        self._next_look = 0.0
        self._accepted_on_word = False
        self._told_refusals = 0  # how many the log last told of, since the store took anything
        self._draining = False
        self._warm = False
        self._index: BucketIndex | None = None
        if ledger.recall(COMPARE) is not None:
            self._index = BucketIndex(store, self._template.static_head, self._wanted_files)
        ledger.release_all(retry_failed=True)
        self._pool = self._make_pool()

    # --- life

    def start(self) -> None:
        """Start watching; where it already does, nothing happens.

        Raises:
            CloudArchiveError: the watched directory is not there.
        """
        with self._life:
            if self._run is not None:
                return
            if not self.root.is_dir():
                raise CloudArchiveError(f"The watched directory {self.root} does not exist.")
            self._run = _Run(self)
            self._pool.start(hold_seconds=FIRST_SCAN_SECONDS)
            self._run.start()
            logger.info("Archiving %s: %s", self.root, self._run.watcher.description)
        self._on_change()

    def stop(self, timeout_seconds: float) -> list[str]:
        """Stop watching, wait for uploads under way, keep the rest for later.

        Returns:
            Paths that are not in the bucket yet, those that somebody still writes to included; 1,000 at most.
        """
        unsettled: list[str] = []
        with self._life:
            run, self._run = self._run, None
            deadline = time.monotonic() + timeout_seconds
            if run is not None:
                run.stop(deadline)
                unsettled = [w.path for w in run.waiting() if w.size_bytes]
            # Also while nothing is watched: an upload that was asked for may be under way.
            if not self._pool.stop(max(0.0, deadline - time.monotonic())):
                logger.warning("Some uploads did not end in time; they go on at the next start")
            self._pool = self._make_pool(gate_of=self._pool)
        remaining = list(dict.fromkeys(unsettled + self.remaining()))[:1000]
        self._on_change()
        return remaining

    def drain(self, timeout_seconds: float) -> bool:
        """Look through the directory once more, take nothing new after that, and finish what is pending.

        Files that somebody still writes to are not waited for, nor those that only a `retry` can help.

        Returns:
            Whether everything else is in the bucket.
        """
        run = self._run
        if run is None:
            return self.ledger.totals().open.files == 0
        deadline = time.monotonic() + timeout_seconds
        self._draining = True
        run.take_no_more(deadline)
        while self._draining:
            settling = run.settling_files  # before the ledger, which is where they go from here
            totals = self.ledger.totals()
            unfinished = totals.pending.files + totals.uploading.files + totals.waiting.files
            if not unfinished and not settling:
                return True
            closed = self._pool.gate.closed
            left = deadline - time.monotonic()
            if left <= 0 or (closed is not None and not closed.failure.passing):
                return False  # no time, or no sense: the store refuses until somebody does something
            with self._changed:
                self._changed.wait(min(left, 0.2))
        return False

    def stop_draining(self) -> None:
        """Let `drain` return now."""
        self._draining = False
        self._tell()

    def close(self) -> None:
        """Let go of the store. The archiver must be stopped; the ledger is the caller's to close."""
        self.store.close()

    @property
    def refusal(self) -> Closed | None:
        """Why uploads wait for the store, or None while it takes them."""
        return self._pool.gate.closed

    @property
    def ledger_trouble(self) -> str | None:
        """Why nothing can be committed, as far as somebody tried; None while all is well."""
        return self._pool.ledger_trouble

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._run is not None

    def remaining(self) -> list[str]:
        """Paths that the ledger knows and the bucket does not have yet, newest first, 1,000 at most."""
        rows = self.ledger.rows(states=(FileState.PENDING, FileState.UPLOADING, FileState.FAILED), limit=1000)
        return [row.version.path for row in rows]

    def _make_pool(self, gate_of: WorkerPool | None = None) -> WorkerPool:
        return WorkerPool(
            self.ledger,
            self._make_uploader,
            self.root,
            count=self.settings.workers,
            name=self.session_id,
            observer=self,
            gate=gate_of.gate if gate_of else None,
        )

    def _make_uploader(self, parts: Executor) -> Uploader:
        return Uploader(
            self.store,
            make_key=self.key_for,
            session_id=self.session_id,
            rename=self.settings.conflict_rename,
            parts=parts,
            on_aborted=self.ledger.forget_abandoned,
            elsewhere=self._elsewhere,
        )

    def _wanted_files(self) -> Iterator[FileVersion]:
        return (v for v in scan(self.root, self._selection.wants_directory) if self._selection.wants(v.path))

    def _elsewhere(self, path: str, size_bytes: int) -> list[str]:
        index = self._index
        return [] if index is None else index.candidates(path, size_bytes)

    def look_after_index(self) -> None:
        """Once all that was here when a ledger was lost is in the bucket, there is nothing more to look for there."""
        run = self._run
        if self._index is None or run is None or not run.reconciler.first_done or self._something_waits():
            return
        self.ledger.remember(COMPARE, None)
        self._index = None

    def key_for(self, path: str) -> str:
        """The object key that a path gets if its first attempt is made now."""
        prefix = self._template.render(datetime.now(), self.session_id)  # local time, as the contract says
        return object_key(prefix, path)

    # --- what the stages tell

    def on_archived(self, claim: Claim, outcome: Outcome) -> None:
        """See `worker.Observer`."""
        version = claim.version
        found_there = outcome.already and not outcome.ours
        self._takes_again()
        self.session.archived(version, outcome.key, already=found_there)
        self.metrics.archived(version.size_bytes, already=found_there, seen_at=claim.seen_at)
        took = "" if claim.seen_at is None else f", {max(0.0, time.time() - claim.seen_at):.1f} s"
        what = "Found" if found_there else "Archived"
        logger.info("%s %s as %s (%s%s)", what, version.path, outcome.key, size(version.size_bytes), took)
        if outcome.proof is Proof.ACCEPTED and not self._accepted_on_word:
            self._accepted_on_word = True
            self.session.notice(
                "This key may not read from the bucket and the store confirms no checksums:"
                " uploads are accepted on the store's word. Allow s3:GetObject to have them proven."
            )
        self._tell()

    def on_failed(self, claim: Claim, error: CloudArchiveError, next_try: float | None) -> None:
        """See `worker.Observer`."""
        with self._ended_lock:
            if claim.row in self._ended:
                self._ended[claim.row] = error
        self.metrics.failed(error, claim.version.size_bytes, again=next_try is not None)
        what = "is tried again" if next_try is not None else "waits for a retry"
        said = f" [{error.said}]" if isinstance(error, StoreError) and error.said else ""
        level = logging.WARNING if self._is_news(error, next_try) else logging.DEBUG
        logger.log(level, "%s %s: %s%s", claim.version.path, what, error, said)
        self._tell()

    def _is_news(self, error: CloudArchiveError, next_try: float | None) -> bool:
        """A store that is away for a night fails one trial after another: the first is told of, the 2nd, 4th, 8th …"""
        closed = self._pool.gate.closed
        if closed is None or next_try is None or not isinstance(error, StoreError):
            return True
        if error.failure.code != closed.failure.code:
            return True
        with self._ended_lock:
            if closed.refusals == self._told_refusals or closed.refusals & (closed.refusals - 1):
                return False
            self._told_refusals = closed.refusals
        return True

    def _takes_again(self) -> None:
        with self._ended_lock:
            told, self._told_refusals = self._told_refusals, 0
        if told:
            logger.info("The store takes uploads again")

    def on_vanished(self, claim: Claim) -> None:
        """See `worker.Observer`."""
        self.session.vanished()
        self.metrics.vanished(claim.version.size_bytes)
        self.session.notice(f"{claim.version.path} was gone before it could be archived.")
        self._tell()

    def on_changed(self, path: str) -> None:
        """See `worker.Observer`."""
        run = self._run
        if run is not None:
            run.settle.hint(path, HintKind.SCANNED)

    def on_progress(self) -> None:
        """See `worker.Observer`."""
        self._on_change()

    def on_ended(self) -> None:
        """See `worker.Observer`."""
        self._tell()

    def _on_scanned(self) -> None:
        self._pool.go()
        self.warm_up()
        self._tell()

    def warm_up(self) -> None:
        """So that the first upload need not wait for what the store's client takes to load. Returns at once."""
        if not self._warm:
            self._warm = True
            threading.Thread(target=self.store.warm_up, name="cloud-archive-warm-up", daemon=True).start()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._on_change()

    def enqueue(self, versions: list[FileVersion]) -> int:
        """Complete versions go to the ledger, what is older than this process behind the rest.

        Returns:
            How many were new to it.
        """
        fresh = [v for v in versions if v.mtime_ns >= self._started_at * 1e9]
        backlog = [v for v in versions if v.mtime_ns < self._started_at * 1e9]
        added = self.ledger.add(fresh, priority=0) if fresh else 0
        added += self.ledger.add(backlog, priority=1) if backlog else 0
        return added

    def on_enqueued(self, versions: list[FileVersion]) -> None:
        """There is something to upload, and some of it may be more urgent than a backlog."""
        self._pool.kick(urgent=any(v.mtime_ns >= self._started_at * 1e9 for v in versions))
        self._tell()

    # --- asked for

    def submit(self, path: str, timeout_seconds: float) -> Submission:
        """Archive one file now, whether watching or not, and wait for it.

        Args:
            path: relative to the watched directory.
            timeout_seconds: how long to wait; after that it goes on by itself while watching.

        Raises:
            FileVanished: there is no such file.
        """
        deadline = time.monotonic() + timeout_seconds
        while has_writer(self.root / path):
            if time.monotonic() >= deadline:
                return Submission(None)
            with self._changed:
                self._changed.wait(0.2)
        version = stat_version(self.root, path)
        self.ledger.add([version], priority=-1)
        claim = self.ledger.claim_version(f"{self.session_id}/asked", version)
        found = self.ledger.find(version)
        if found is None:
            return Submission(None, FileVanished(path))
        with self._ended_lock:
            self._ended[found.row] = None
        try:
            if claim is not None:
                worker = threading.Thread(
                    target=self._work_on, args=(claim,), name=f"cloud-archive-asked-{claim.row}", daemon=True
                )
                worker.start()
                worker.join(max(0.0, deadline - time.monotonic()))
            row = self._wait_for(version, deadline)
        finally:
            with self._ended_lock:
                error = self._ended.pop(found.row, None)
        if row is None or row.state is FileState.VANISHED:
            return Submission(row, error or FileVanished(path))
        return Submission(row, error)

    def _work_on(self, claim: Claim) -> None:
        try:
            error = self._pool.work(claim)
        except CloudArchiveError as trouble:
            error = trouble
        with self._ended_lock:
            if error is not None and claim.row in self._ended:
                self._ended[claim.row] = error
        del error
        self._tell()

    def _wait_for(self, version: FileVersion, deadline: float) -> FileRow | None:
        while True:
            with self._changed:
                row = self.ledger.find(version)
                if row is None or row.state not in (FileState.PENDING, FileState.UPLOADING):
                    return row
                left = deadline - time.monotonic()
                if left <= 0:
                    return row
                self._changed.wait(min(left, 1.0))

    def rescan(self, timeout_seconds: float = 60.0) -> int:
        """Reconcile now. Returns how many files were new to the ledger.

        Raises:
            CloudArchiveError: it does not watch, or the directory cannot be read.
        """
        run = self._run
        if run is None:
            raise CloudArchiveError("The archive is stopped: start it first.")
        return run.reconciler.now(timeout_seconds)

    def retry(self) -> int:
        """Failed files go back to the queue. Returns how many."""
        count = self._pool.retry()
        self._tell()
        return count

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until it is safe to stop; False where the time is up first."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self.safe_to_stop(max(0.1, deadline - time.monotonic()), in_turn=False):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                self._changed.wait(min(left, 0.5))

    def safe_to_stop(
        self, timeout_seconds: float = LOOK_SECONDS, *, recent: bool = False, in_turn: bool = True
    ) -> bool:
        """Whether everything that is in the directory at this moment is proven in the bucket.

        Args:
            recent: a look since which no event came will do, as long as looks would cost more than 5 % of a core
                otherwise. For pushes, which nobody asked for; whoever asks gets a look of their own.
            in_turn: wait a little where the last look at a large directory was a moment ago.
        """
        if self._something_waits():
            return False
        run = self._run
        # Where no events come, nothing would tell that a look is out of date.
        if recent and run is not None and not run.watcher.polling and self._clean_look == (run, run.news):
            still_good = time.monotonic() < self._clean_until
            if still_good:
                return True
        if in_turn and not recent and not self._comes_to_turn(run):
            return False
        news = 0 if run is None else run.news
        began = time.monotonic()
        try:
            if run is not None:
                if not run.reconciler.first_done and timeout_seconds <= LOOK_SECONDS:
                    return False  # a first scan may take minutes; whoever only looks does not wait for it
                unseen = run.reconciler.now(timeout_seconds)
            else:
                unseen = Reconciler.count_unknown(self.root, self._selection, self.ledger)
        except CloudArchiveError:
            return False
        cost = run.reconciler.processor_seconds if run is not None else time.monotonic() - began
        self._next_look = began + cost / LOOK_SHARE
        safe = unseen == 0 and not self._something_waits()
        self._clean_look = (run, news) if safe else None
        self._clean_until = began + (time.monotonic() - began) * (COST_FACTOR + 1)
        return safe

    def _comes_to_turn(self, run: _Run | None) -> bool:
        """Wait until one more look is no more than its share. False as soon as the answer is no, look or not."""
        until = min(self._next_look, time.monotonic() + LOOK_TURN_SECONDS)
        while (left := until - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait(min(left, 0.2))
            if self._run is not run or self._something_waits():
                return False
        return True

    def _something_waits(self) -> bool:
        totals, waiting, _ = self._count()
        # What is in the bucket and not counted yet is not over.
        return totals.open.files > 0 or waiting > 0 or bool(self._pool.active())

    def _count(self) -> tuple[Totals, int, int]:
        """What the ledger holds, and the files and bytes that are not in it yet: each file once, and none missed."""
        run = self._run
        return (self.ledger.totals(), 0, 0) if run is None else run.count()

    # --- looking

    def status(self, *, look: bool = True, recent: bool = False) -> Status:
        """A snapshot.

        Args:
            look: look at the directory before saying that it is safe to stop; without, it is never said.
            recent: see `safe_to_stop`.
        """
        run = self._run
        totals, settling, settling_bytes = self._count()
        # Counted last: where nothing waits and no upload is under way, everything is counted.
        active = self._pool.active()
        counters = self.session.counters()
        unfinished = totals.pending.files + totals.uploading.files + totals.waiting.files
        pending_bytes = (
            totals.pending.size_bytes
            + totals.uploading.size_bytes
            + totals.waiting.size_bytes
            + settling_bytes
        )
        pending = unfinished + settling
        failed = totals.failed.files - totals.waiting.files
        unsent_bytes = max(0, pending_bytes - sum(a.sent_bytes for a in active))
        rate = counters.rate_bytes_per_second
        safe = look and self.safe_to_stop(recent=recent)
        return Status(
            running=run is not None,
            session_id=self.session_id,
            state=self._state(run, pending, settling, runnable=totals.pending.files, active=bool(active)),
            total_files=counters.uploaded + counters.already + pending + failed,
            uploaded_files=counters.uploaded,
            failed_files=failed,
            already_archived_files=counters.already,
            pending_files=pending,
            pending_bytes=pending_bytes,
            vanished_files=counters.vanished,
            last_upload_time=counters.last_upload_time,
            errors=self._errors(),
            recent_uploads=counters.recent,
            safe_to_stop=safe,
            active=self._shown(active),
            waiting=self._waiting(run),
            rate_bytes_per_second=rate,
            seconds_left=int(unsent_bytes / rate) + 1 if rate and pending_bytes else None,
            destination=self.destination,
            watched_directory=str(self.root),
            watching=run.watcher.description if run else "",
            keeps_local_files=self.settings.delete_local_after_seconds is None
            and self.settings.min_free_disk_bytes is None,
        )

    def _shown(self, active: tuple[ActiveUpload, ...]) -> tuple[ActiveFile, ...]:
        """One for each worker at the most; small ones that were sent wait beside them for their commit."""
        first = sorted(active, key=lambda a: a.sent_bytes >= a.size_bytes)[: self.settings.workers]
        return tuple(ActiveFile(a.name, a.size_bytes, a.sent_bytes, a.key or "", a.path) for a in first)

    def gauges(self) -> Gauges:
        """What metrics show of this moment, without a look at the directory."""
        run = self._run
        totals, settling, settling_bytes = self._count()
        waits = [a.seen_at for a in self._pool.active() if a.seen_at is not None]
        oldest = self.ledger.oldest_waiting()
        return Gauges(
            totals,
            settling_files=settling,
            settling_bytes=settling_bytes,
            oldest_seen_at=min([*waits, *([] if oldest is None else [oldest])], default=None),
            watching=run is not None and run.reconciler.first_done,
            problem=run is not None and bool(run.troubles()),
        )

    @property
    def destination(self) -> Destination:
        """Endpoint, bucket and prefix as users see them."""
        settings = self.settings
        return Destination(settings.endpoint_label, settings.bucket, settings.prefix)

    def _state(self, run: _Run | None, pending: int, settling: int, *, runnable: int, active: bool) -> State:
        if run is None:
            return State.STOPPED
        if not run.reconciler.first_done:
            return State.STARTING
        if pending == 0:
            return State.IDLE
        closed = self._pool.gate.closed is not None
        if not settling and (closed or (runnable == 0 and not active)):
            return State.RETRYING
        return State.UPLOADING

    def _waiting(self, run: _Run | None) -> tuple[WaitingEntry, ...]:
        if run is None:
            return ()
        return tuple(
            WaitingEntry(w.path.rpartition("/")[2], w.size_bytes, w.reason, w.path)
            for w in run.waiting()[:_SHOWN_WAITING]
        )

    def _errors(self) -> tuple[str, ...]:
        found = list(self.session.notices)
        run = self._run
        if run is not None:
            found += run.troubles()
        rows = self.ledger.rows(states=(FileState.FAILED,), limit=_SHOWN_FAILURES)
        closed = self._pool.gate.closed
        if closed is not None:
            # Those rows say what the gate says; the sentence itself stands once, at the end.
            rows = [row for row in rows if row.next_try is None or row.code != closed.failure.code]
        found += failure_sentences(rows)
        if self._pool.ledger_trouble:
            found.append(self._pool.ledger_trouble)
        if closed is not None:
            found.append(closed.failure.sentence)
        return tuple(found[-50:])


class _Run:
    """The stages of one life between `start` and `stop`."""

    def __init__(self, archiver: Archiver) -> None:
        settings = archiver.settings
        self._archiver = archiver
        self._pool = archiver._pool
        self._selection = archiver._selection
        self._stop = threading.Event()
        self._takes_no_more = False
        self._network = network_filesystem(archiver.root)
        self._intake: queue.SimpleQueue[FileVersion | None] = queue.SimpleQueue()
        self._committing = threading.Lock()
        self._unreadable: dict[str, str] = {}  # path to sentence; gone once it is readable, or is gone itself
        self.news = 0  # events so far; two at once may count as one, which is still news
        self._queue = self._make_queue()
        self.settle = SettleThread(self._queue)
        self.watcher = Watcher(
            archiver.root,
            mode=settings.watch,
            on_hint=self._on_hint,
            on_lost=self._on_lost,
        )
        self.reconciler = Reconciler(
            archiver.root,
            archiver.ledger,
            self._selection,
            on_new=lambda path: self.settle.hint(path, HintKind.SCANNED),
            on_done=archiver._on_scanned,
            backfill=settings.backfill,
            interval_seconds=settings.rescan_seconds,
            polling=lambda: self.watcher.polling,
            started_at=archiver._started_at,
        )
        self._threads: dict[str, threading.Thread] = {}
        self._bodies = {
            "cloud-archive-intake": self._take_in,
            "cloud-archive-scan": self.reconciler.run,
        }
        limits = Limits(settings.delete_local_after_seconds, settings.min_free_disk_bytes)
        if not limits.off:
            self._freer = Freer(
                archiver.ledger,
                archiver.store,
                archiver.root,
                limits,
                has_writer=has_writer,
                clock=time.time,
                on_freed=self._on_freed,
            )
            self._bodies["cloud-archive-free"] = self._free
        self._keeper = threading.Thread(target=self._keep, name="cloud-archive-keeper", daemon=True)

    def _make_queue(self) -> SettleQueue:
        settings = self._archiver.settings
        seconds = settings.settle_seconds
        if seconds is None:
            seconds = SETTLE_NETWORK_SECONDS if self._network else SETTLE_LOCAL_SECONDS
        return SettleQueue(
            self._archiver.root,
            settle_seconds=seconds,
            on_complete=self._on_complete,
            on_empty=self._on_empty,
            on_unreadable=self._on_unreadable,
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
        self.watcher.stop(left())
        self.settle.stop(left())
        self._intake.put(None)
        self._keeper.join(left())
        for thread in self._threads.values():
            thread.join(left())

    def take_no_more(self, deadline: float) -> None:
        """One last scan, then neither events nor scans."""
        self._takes_no_more = True
        self.watcher.stop(max(0.1, deadline - time.monotonic()))
        try:
            self.reconciler.now(max(0.1, min(10.0, deadline - time.monotonic())))
        except CloudArchiveError as error:
            logger.warning("%s", error)
        self.reconciler.stop()

    @property
    def settling_files(self) -> int:
        """Those that will be complete by themselves: nobody writes to them any more."""
        # A writer that has just gone may not have been noticed yet.
        quiet = [
            w
            for w in self._queue.waiting()
            if w.reason != BEING_WRITTEN or has_writer(self._archiver.root / w.path) is False
        ]
        return len(quiet) + self._queue.handed_files

    def count(self) -> tuple[Totals, int, int]:
        """What the ledger holds, and the files and bytes that are not complete, or not in it yet.

        While nothing is committed from here, no file is in both. A ledger that hangs is not waited for: then a file
        may be counted twice, but none is missed, since what is on its way is counted first.
        """
        quiet = self._committing.acquire(timeout=LONGEST_COMMIT_SECONDS)
        try:
            files, size_bytes = self._queue.pending_files, self._queue.pending_bytes
            return self._archiver.ledger.totals(), files, size_bytes
        finally:
            if quiet:
                self._committing.release()

    def waiting(self) -> tuple[WaitingFile, ...]:
        """The files that are not complete yet."""
        return self._queue.waiting()

    def troubles(self) -> list[str]:
        """What a user should know about watching, for as long as it is so."""
        found = list(self.reconciler.troubles)
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
            self._archiver._on_change()

    def _on_lost(self, reason: str) -> None:
        logger.info("Looking through the whole directory: %s", reason)
        self.news += 1
        self.reconciler.request()

    def _on_complete(self, version: FileVersion, looked_partial: bool) -> None:
        if looked_partial:
            self._archiver.session.notice(
                f"{version.path} looks incomplete, but nobody writes to it any more: archived as it is."
            )
        self._intake.put(version)

    def _on_empty(self, path: str) -> None:
        self._archiver.session.notice(f"{path} is empty and was not archived.")

    def _on_unreadable(self, path: str, reason: str) -> None:
        sentence = f"{path} cannot be read: {reason}. It is tried again."
        logger.warning("%s", sentence)
        self._unreadable[path] = sentence
        self._archiver._tell()

    # --- threads

    def _take_in(self) -> None:
        """Complete files go to the ledger, as many at once as have come."""
        while True:
            first = self._intake.get()
            if first is None:
                return
            versions, ending = [first], False
            while len(versions) < 1000:
                try:
                    version = self._intake.get_nowait()
                except queue.Empty:
                    break
                if version is None:
                    ending = True
                    break
                versions.append(version)
            self._enqueue(versions)
            if ending:
                return

    def _enqueue(self, versions: list[FileVersion]) -> None:
        """Again and again until the ledger takes them: what was handed over once is not soon offered again."""
        while True:
            try:
                with self._committing:
                    added = self._archiver.enqueue(versions)
                    self._queue.taken(versions)
            except CloudArchiveError as error:
                if self._pool.ledger_trouble is None:
                    logger.error("%s", error)
                self._pool.ledger_trouble = str(error)
                if self._stop.wait(1.0):
                    self._queue.taken(versions)
                    return  # not in the ledger, so the next start's scan finds them
            except BaseException:
                self._queue.taken(versions)  # this thread is replaced, and a scan finds them again
                raise
            else:
                self._pool.ledger_trouble = None
                if added:
                    self._archiver.on_enqueued(versions)
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
                self._archiver.session.withdraw(told)
                if said:
                    logger.warning("%s", said)
                    self._archiver.session.notice(said)
                told = said
                self._archiver._tell()

    def _on_freed(self, freed: Freed) -> None:
        self._archiver.metrics.freed(freed.size_bytes)

    def _keep(self) -> None:
        """Look after the watch, the threads and what is due."""
        waiting = -1
        while not self._stop.wait(KEEPER_SECONDS):
            try:
                if not self._takes_no_more:
                    self._look_after_watching()
                self._pool.check()
                if self._archiver.ledger.wake_due():
                    self._pool.kick()
                active = self._pool.active()
                self._archiver.look_after_index()
                self._archiver.session.sample(sum(a.sent_bytes for a in active), time.monotonic())
                # What stops waiting without being archived (it is gone, it is empty) is told of by nobody else.
                waiting, before = self._queue.pending_files, waiting
                if waiting != before:
                    self._archiver._tell()
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
