"""The archiver of one directory: its life, what can be asked of it, what it tells.

    stages: watcher, scan, settle, intake ─► ledger: pending ─► workers ─► store ─► ledger: archived

The stages (stages.py) and the workers (worker.py) know nothing of each other: both tell the archiver what happened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..config.settings import Settings
from ..errors import CloudArchiveError, FileUnreadable, FileVanished, StoreError
from ..files import FileVersion, HintKind, stat_version
from ..intake.open_files import has_writer
from ..intake.selection import Selection
from ..intake.walk import scan
from ..keys import PrefixTemplate, object_key
from ..ledger.history import newest_archived
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import COMPARE_WITH_BUCKET, Ledger
from ..ledger.rows import Claim, FileRow, FileState, Totals
from ..scope import KeyScope
from ..store.base import ObjectStore
from ..store.evidence import Proof
from ..text import count_noun, format_bytes
from ..upload.attempt import Outcome, Uploader
from ..upload.lost_keys import BucketIndex
from .active_uploads import ActiveUpload
from .connection import Connection
from .events import Event, FileArchived, FileGone, FileModified, UploadFailed, UploadProgressed
from .gate import Closed
from .metrics import Gauges, NullRecorder, Recorder
from .pipeline import Stages
from .recheck import recheck
from .reconcile import COST_FACTOR
from .session import MOST_RECENT, Session, recent_upload
from .status import ActiveFile, Destination, State, Status, WaitingEntry, failure_sentences
from .unarchived import Tally, UnarchivedFile, take_stock, unarchived_files, unmatched_sentences
from .workers import WorkerPool

logger = logging.getLogger("cloud_archive.archiver")

# How long what was there before waits for the first scan: while both compete for the interpreter, and while the SDK
# is imported, a scan takes several times as long, and what it finds decides what goes first.
FIRST_SCAN_SECONDS = 2.0
PAUSE_SECONDS = 2.0  # how long stopping waits for a scan under way; it ends by itself after that
LOOK_SECONDS = 10.0  # how long a status waits for its look at the directory
PUSH_LOOK_SECONDS = 3.0  # how long a push waits for it: pushes are heartbeats, too
JUST_NOW_SECONDS = 1.0
LOOK_SHARE = 0.25  # of one core, that looks may take together where somebody asks again and again
LOOK_TURN_SECONDS = 5.0  # how long a status waits for that at the most
_SHOWN_FAILURES = 40
_SHOWN_WAITING = 50


@dataclass(frozen=True, slots=True)
class Submission:
    """How an upload that was asked for stands: archived, or still queued, or failed with `error`.

    Attributes:
        already: it was archived before it was asked for.
    """

    row: FileRow | None
    error: CloudArchiveError | None = None
    already: bool = False

    @property
    def archived(self) -> bool:
        """Proven in the bucket."""
        return self.row is not None and self.row.state is FileState.ARCHIVED


@dataclass(frozen=True, slots=True)
class Left:
    """What is not in the bucket at the end.

    Attributes:
        files: those that are to be archived, failed ones included.
        size_bytes: of those whose size is known.
        baseline_files: those from before the first start, which are left alone.
        looked: whether the directory was looked through at the end; else there may be more.
    """

    files: int = 0
    size_bytes: int = 0
    baseline_files: int = 0
    looked: bool = False

    @property
    def sentence(self) -> str:
        """The last line of a daemon: whether everything is in the bucket."""
        if self.files:
            verb, them = ("is", "it") if self.files == 1 else ("are", "them")
            return (
                f"{count_noun(self.files, 'file')} ({format_bytes(self.size_bytes)}) {verb} not in the bucket yet;"
                f" the next start goes on with {them}."
            )
        if not self.looked:
            return (
                "Everything that was seen is in the bucket, but the directory was not looked through at the end:"
                " run `cloud-archive status` to see whether there is more."
            )
        if self.baseline_files:
            return (
                "Everything since the first start is in the bucket."
                f" {count_noun(self.baseline_files, 'older file')} {'is' if self.baseline_files == 1 else 'are'} not:"
                " see `cloud-archive upload --baseline`."
            )
        return "Everything is in the bucket."


class Archiver:
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
        own: see `Selection`.
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
        own: Container[str] = (),
    ) -> None:
        self.settings = settings
        self.root = root
        self.ledger = ledger
        self.store = store
        self.session_id = session_id
        if session is None:
            session = Session()
            session.begin_with([recent_upload(row) for row in reversed(newest_archived(ledger, MOST_RECENT))])
        self.session = session
        self.metrics: Recorder = metrics or NullRecorder()
        self._on_change = on_change
        self._started_at = time.time() if started_at is None else started_at
        self._template = PrefixTemplate.parse(settings.prefix)
        self.own = own
        self._selection = Selection(settings.include, settings.exclude, own)
        self._life = threading.RLock()
        self._changed = threading.Condition()
        self._run: Stages | None = None
        # Why uploads that somebody waits for failed; kept no longer, since a traceback keeps the bytes of its frames.
        self._ended: dict[int, CloudArchiveError | None] = {}
        self._ended_lock = threading.Lock()
        # While it does not watch: the last look, whether all was safe then, and until when (monotonic) that counts.
        self._paused_tally = Tally()
        self._paused_look = (False, 0.0)
        self._next_look = 0.0
        self._accepted_on_word = False
        self._told_refusals = 0  # how many the log last told of, since the store took anything
        self._paused_tally = Tally()  # what lay beside the ledger when somebody last looked while stopped
        self._draining = False
        self._looked_at_end = False  # the directory was looked through after the last file was taken
        self.left = Left()  # what is not in the bucket when it stopped
        self._warm = False
        self._connection = Connection(store, self.tell)
        self._index: BucketIndex | None = None
        if ledger.recall(COMPARE_WITH_BUCKET) is not None:
            self._index = BucketIndex(store, KeyScope(self._template), self._wanted_files)
        ledger.release_all(retry_failed=True)
        self.known_root = KnownRoot(root, ledger)
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
            self._paused_look = (False, 0.0)
            self._run = Stages(self, self._pool, self._selection, self._started_at)
            self._pool.start(hold_seconds=FIRST_SCAN_SECONDS)
            self._connection.start(wait_seconds=FIRST_SCAN_SECONDS)
            self._run.start()
            logger.info("Archiving %s: %s", self.root, self._run.watcher.description)
        self._on_change()

    def pause(self) -> None:
        """Stop watching, and begin no further upload. Does not wait for uploads under way; `start` resumes."""
        with self._life:
            run, self._run = self._run, None
            self._pool.pause()
            if run is not None:
                self._paused_tally = run.reconciler.tally
                run.stop(time.monotonic() + PAUSE_SECONDS)
                logger.info("Stopped watching %s", self.root)
        self.tell()

    def stop(self, timeout_seconds: float) -> list[str]:
        """Stop watching, wait for uploads under way, keep the rest for later.

        Returns:
            Paths that are not in the bucket yet, those that somebody still writes to included; 1,000 at most.
        """
        unsettled: dict[str, int] = {}
        with self._life:
            run, self._run = self._run, None
            deadline = time.monotonic() + timeout_seconds
            if run is not None:
                run.stop(deadline)
                # What is unseen settles, or is in the ledger by now.
                self._paused_tally = replace(run.reconciler.tally, unseen=0)
                unsettled = {w.path: w.size_bytes for w in run.waiting() if w.size_bytes}
            # Also while nothing is watched: an upload that was asked for may be under way.
            if not self._pool.stop(max(0.0, deadline - time.monotonic())):
                logger.warning("Some uploads did not end in time; they go on at the next start")
            self._pool = self._make_pool(gate_of=self._pool)
        remaining = list(dict.fromkeys([*unsettled, *self.remaining()]))[:1000]
        count = self.ledger.totals().open
        tally = self._paused_tally
        self.left = Left(
            files=count.files + len(unsettled) + tally.unseen,
            size_bytes=count.size_bytes + sum(unsettled.values()),
            baseline_files=tally.baseline,
            looked=self._looked_at_end,
        )
        self._on_change()
        return remaining

    def drain(self, timeout_seconds: float) -> bool:
        """Look through the directory once more, take nothing new after that, and finish what is pending.

        Files that somebody still writes to are not waited for, nor those that only a `retry` can help.

        Returns:
            Whether everything else is in the bucket.
        """
        run = self._run
        deadline = time.monotonic() + timeout_seconds
        self._draining = True
        if run is None:
            return self._drain_paused(deadline)
        self._looked_at_end = run.take_no_more(deadline)
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

    def _drain_paused(self, deadline: float) -> bool:
        """Finish the uploads that were under way when it was paused."""
        while self._draining and self._pool.active() and (left := deadline - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait(min(left, 0.2))
        try:
            self._paused_tally = take_stock(self.root, self._selection, self.ledger)
        except CloudArchiveError as error:
            logger.warning("%s", error)
            return False
        self._looked_at_end = True
        return self._paused_tally.unseen == 0 and not self._something_waits()

    def stop_draining(self) -> None:
        """Let `drain` return now."""
        self._draining = False
        self.tell()

    def close(self) -> None:
        """Let go of the store. The archiver must be stopped; the ledger is the caller's to close."""
        self._connection.stop()
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

    @property
    def has_scanned(self) -> bool:
        """Whether the directory was looked through since the start, can't be for now, or nothing watches it."""
        run = self._run
        return run is None or run.reconciler.first_done or not run.reconciler.root_is_known

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
            on_event=self._on_event,
            gate=gate_of.gate if gate_of else None,
            check_root=self.known_root.check,
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
            conflicts=self.ledger.conflicts,
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
        self.ledger.remember(COMPARE_WITH_BUCKET, None)
        self._index = None

    def key_for(self, path: str) -> str:
        """The object key that a path gets if its first attempt is made now."""
        prefix = self._template.render(datetime.now(), self.session_id)  # local time, as the contract says
        return object_key(prefix, path)

    # --- what the stages tell

    def _on_event(self, event: Event) -> None:
        if isinstance(event, UploadProgressed):
            self._on_change()
            return
        if isinstance(event, FileArchived):
            self._note_archived(event.claim, event.outcome)
        elif isinstance(event, UploadFailed):
            self._note_failed(event.claim, event.error, event.next_try)
        elif isinstance(event, FileGone):
            self._note_gone(event.claim)
        elif isinstance(event, FileModified):
            run = self._run
            if run is not None:
                run.settle.hint(event.path, HintKind.SCANNED)
            return
        self.tell()

    def _note_archived(self, claim: Claim, outcome: Outcome) -> None:
        version = claim.version
        found_there = outcome.already and not outcome.ours
        self._connection.confirm()
        self._takes_again()
        self.session.archived(version, outcome.key, already=found_there)
        self.metrics.archived(version.size_bytes, already=found_there, seen_at=claim.seen_at)
        took = "" if claim.seen_at is None else f", {max(0.0, time.time() - claim.seen_at):.1f} s"
        what = "Found" if found_there else "Archived"
        logger.info(
            "%s %s as %s (%s%s)", what, version.path, outcome.key, format_bytes(version.size_bytes), took
        )
        if outcome.proof is Proof.ACCEPTED and not self._accepted_on_word:
            self._accepted_on_word = True
            self.session.notice(
                "This key may not read from the bucket and the store confirms no checksums:"
                " uploads are accepted on the store's word. Allow s3:GetObject to have them proven."
            )

    def _note_failed(self, claim: Claim, error: CloudArchiveError, next_try: float | None) -> None:
        with self._ended_lock:
            if claim.row in self._ended:
                self._ended[claim.row] = error
        self.metrics.failed(error, claim.version.size_bytes, again=next_try is not None)
        what = "is tried again" if next_try is not None else "waits for a retry"
        said = f" [{error.said}]" if isinstance(error, StoreError) and error.said else ""
        level = logging.WARNING if self._is_news(error, next_try) else logging.DEBUG
        logger.log(level, "%s %s: %s%s", claim.version.path, what, error, said)

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

    def _note_gone(self, claim: Claim) -> None:
        self.session.vanished()
        self.metrics.vanished(claim.version.size_bytes)
        self.session.notice(f"{claim.version.path} was gone before it could be archived.")

    def on_scanned(self) -> None:
        """See `stages.Home`."""
        self._pool.go()
        if self._connection.failure is None:
            self._connection.go()
        self.tell()

    def warm_up(self) -> None:
        """So that the first upload need not wait for what the store's client takes to load. Returns at once."""
        if not self._warm:
            self._warm = True
            threading.Thread(target=self.store.warm_up, name="cloud-archive-warm-up", daemon=True).start()

    def changed(self) -> None:
        """See `stages.Home`."""
        self._on_change()

    def tell(self) -> None:
        """See `stages.Home`."""
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
        self.tell()

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
        while has_writer(self.root, path):
            if time.monotonic() >= deadline:
                return Submission(None)
            with self._changed:
                self._changed.wait(0.2)
        version = stat_version(self.root, path)
        known = self.ledger.find(version)
        if known is not None and known.state is FileState.ARCHIVED:
            try:
                recheck(self.ledger, self.root, path)
            except FileUnreadable as unreadable:
                return Submission(None, unreadable)
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
        return Submission(row, error, already=found.state is FileState.ARCHIVED)

    def _work_on(self, claim: Claim) -> None:
        try:
            error = self._pool.upload(claim)
        except CloudArchiveError as trouble:
            error = trouble
        with self._ended_lock:
            if error is not None and claim.row in self._ended:
                self._ended[claim.row] = error
        del error
        self.tell()

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

    def archive_baseline(self) -> int:
        """Archive also what was there before the first start. Returns how many files that are, without waiting.

        Raises:
            CloudArchiveError: it does not watch, or the first scan has not ended.
        """
        run = self._run
        if run is None:
            raise CloudArchiveError("The archive is stopped: start it first.")
        if not run.reconciler.first_done:
            raise CloudArchiveError("The first scan of the directory has not ended yet: try again after it.")
        count = run.reconciler.tally.baseline
        self.ledger.clear_baseline()
        run.reconciler.request()
        return count

    def retry(self) -> int:
        """Failed files go back to the queue. Returns how many."""
        count = self._pool.retry()
        self._connection.go()
        self.tell()
        return count

    def flush(self, timeout_seconds: float, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until it is safe to stop; False where the time is up first, or nobody waits any more."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self.safe_to_stop(max(0.1, deadline - time.monotonic()), in_turn=False):
                return True
            left = deadline - time.monotonic()
            if left <= 0 or given_up():
                return False
            with self._changed:
                self._changed.wait(min(left, 0.5))

    def safe_to_stop(
        self,
        timeout_seconds: float = LOOK_SECONDS,
        *,
        recent: bool = False,
        heartbeat: bool = False,
        in_turn: bool = True,
    ) -> bool:
        """Whether everything that is in the directory at this moment is proven in the bucket.

        Args:
            timeout_seconds: for a scan of the directory.
            recent: for pushes, which nobody asked for: the last scan counts as long as no event has come since and
                another one would take more than 5 % of a core.
            heartbeat: for pushes without news: the last scan counts as long as no event has come since.
            in_turn: wait a little where the last scan of a large directory was a moment ago.
        """
        if self._something_waits():
            return False
        run = self._run
        if (recent or heartbeat) and (known := self._last_look(run, heartbeat)) is not None:
            return known
        if recent or heartbeat:
            timeout_seconds = min(timeout_seconds, PUSH_LOOK_SECONDS)
        elif in_turn and not self._comes_to_turn(run):
            return False
        began = time.monotonic()
        try:
            if run is not None:
                if not run.reconciler.first_done and timeout_seconds <= LOOK_SECONDS:
                    return False  # a first scan may take minutes; whoever only looks does not wait for it
                unseen = run.reconciler.now(timeout_seconds)
            else:
                self.known_root.check()
                self._paused_tally = take_stock(self.root, self._selection, self.ledger)
                unseen = self._paused_tally.unseen
        except CloudArchiveError:
            return False
        cost = run.reconciler.processor_seconds if run is not None else time.monotonic() - began
        self._next_look = began + cost / LOOK_SHARE
        safe = unseen == 0 and not self._something_waits()
        if run is None:
            self._paused_look = (safe, time.monotonic() + cost * COST_FACTOR)
        return safe

    def _last_look(self, run: Stages | None, heartbeat: bool) -> bool | None:
        """What the last look at the directory says of this moment; None where it is out of date."""
        now = time.monotonic()
        if run is None:  # no event would tell, and no scan comes by itself
            safe, until = self._paused_look
            return safe if now < until else None
        scan = run.reconciler
        if scan.clean_at != run.news:
            return None
        if not heartbeat and now >= (
            scan.ended + JUST_NOW_SECONDS if run.watcher.polling else scan.clean_until
        ):
            return None
        return True

    def _comes_to_turn(self, run: Stages | None) -> bool:
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
        run = self._run
        if run is not None and run.rewritten_files:
            return True
        # What is in the bucket and not counted yet is not over.
        return totals.open.files > 0 or waiting > 0 or bool(self._pool.active())

    def _count(self) -> tuple[Totals, int, int]:
        """What the ledger holds, and the files and bytes that are not in it yet: each file once, and none missed."""
        run = self._run
        return (self.ledger.totals(), 0, 0) if run is None else run.count()

    # --- looking

    def status(self, *, look: bool = True, recent: bool = False, heartbeat: bool = False) -> Status:
        """A snapshot.

        Args:
            look: look at the directory before saying that it is safe to stop; without, it is never said.
            recent, heartbeat: see `safe_to_stop`.
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
        safe = look and self.safe_to_stop(recent=recent, heartbeat=heartbeat)
        tally = self._paused_tally if run is None else run.reconciler.tally
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
            skipped_files=tally.skipped_files,
            baseline_files=tally.baseline,
            unchecked_files=0 if run is None else run.rechecker.unchecked_files,
            retrying_files=totals.waiting.files + totals.tried.files,
            unsent_bytes=unsent_bytes,
            archived_files=totals.archived.files,
            archived_bytes=totals.archived.size_bytes,
            last_upload_time=counters.last_upload_time,
            errors=self._errors(),
            recent_uploads=counters.recent,
            safe_to_stop=safe,
            active=self._shown(active),
            waiting=self._waiting(run),
            rate_bytes_per_second=counters.rate_bytes_per_second if pending else 0,
            seconds_left=counters.seconds_left(pending, unsent_bytes),
            destination=self.destination,
            watched_directory=str(self.root),
            watching=run.watcher.description if run else "",
            connection_verified=self._connection.verified,
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

    def unarchived_files(self) -> Iterator[UnarchivedFile]:
        """Every file in the directory that has no row in the ledger; looks at the directory anew."""
        return unarchived_files(self.root, self._selection, self.ledger, lambda path, why: None)

    @property
    def destination(self) -> Destination:
        """Endpoint, bucket and prefix as users see them."""
        settings = self.settings
        return Destination(settings.endpoint_label, settings.bucket, settings.prefix)

    def _state(
        self, run: Stages | None, pending: int, settling: int, *, runnable: int, active: bool
    ) -> State:
        if run is None:
            return State.STOPPED
        if not run.reconciler.root_is_known:
            return State.RETRYING
        if not run.reconciler.first_done:
            return State.STARTING
        if not self._connection.verified:
            return State.STARTING if self._connection.failure is None else State.RETRYING
        if pending == 0:
            return State.IDLE
        closed = self._pool.gate.closed is not None
        if not settling and (closed or (runnable == 0 and not active)):
            return State.RETRYING
        return State.UPLOADING

    def _waiting(self, run: Stages | None) -> tuple[WaitingEntry, ...]:
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
            found += unmatched_sentences(self._selection, run.reconciler.tally)
        elif (trouble := self.known_root.trouble()) is not None:
            found.append(trouble)
        rows = self.ledger.rows(states=(FileState.FAILED,), limit=_SHOWN_FAILURES)
        closed = self._pool.gate.closed
        if closed is not None:
            # Those rows say what the gate says; the sentence itself stands once, at the end.
            rows = [row for row in rows if row.next_try is None or row.code != closed.failure.code]
        found += failure_sentences(rows)
        if self._pool.ledger_trouble:
            found.append(self._pool.ledger_trouble)
        unverified = self._connection.failure
        if unverified is not None and (closed is None or closed.failure.code != unverified.code):
            found.append(unverified.sentence)
        if closed is not None:
            found.append(closed.failure.sentence)
        return tuple(found[-50:])
