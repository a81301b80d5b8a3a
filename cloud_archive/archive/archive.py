"""The archive of one directory: start, pause, drain and stop it, pass requests on, and return its state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config.settings import Settings
from ..errors import CloudArchiveError, LedgerError, RequestRefused
from ..intake.selection import OwnPaths, Selection
from ..ledger.history import newest_archived
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import Ledger
from ..ledger.rows import FileState
from ..store.base import ObjectStore
from .changes import ChangeSignal
from .connection import ConnectionVerifier
from .directory_watch import DirectoryWatch
from .event_recorder import EventRecorder
from .events import Event, FileArchived, FileGone, FileSeen, ScanEnded, UploadFailed, UploadProgressed
from .gate import Closed
from .metrics import Gauges, NullRecorder, Recorder
from .pipeline import FIRST_SCAN_SECONDS, Pipeline
from .remainder import Remainder
from .safety import Safety
from .session import MAX_RECENT, Session, recent_upload
from .status import Status
from .status_builder import StatusBuilder
from .submission import Submission, Submissions
from .unarchived import UnarchivedFile, unarchived_files

logger = logging.getLogger("cloud_archive.archiver")

DRAIN_POLL_SECONDS = 0.2
# How long a drain waits for files that can't be read, and how often it tries. A virus scanner's lock is shorter.
UNREADABLE_SECONDS = 5.0
UNREADABLE_RETRY_SECONDS = 1.0
MAX_REMAINING = 1000


class Archiver:
    """Archives one directory. It can be started and stopped repeatedly; `submit` also works while it is stopped.

    Args:
        ledger: open, and used by this process alone; the caller closes it.
        store: `close` closes it.
        on_change: called when the status may have changed, often, from any thread.
        started_at: seconds since 1970; files with an older mtime belong to the backlog. Default: now.
        session: the counters to continue with; default: new ones.
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
        own: OwnPaths | None = None,
    ) -> None:
        self.settings = settings
        self.root = root
        self.ledger = ledger
        self.store = store
        self.session_id = session_id
        self.session = session = session or _new_session(ledger)
        self.own = own
        self.remainder = Remainder()  # as of the last `stop`
        self.known_root = KnownRoot(root, ledger)
        self._selection = Selection(settings.include, settings.exclude, own)
        self._lifecycle_lock = threading.RLock()
        self._scanned_at_end = False  # whether the scan of the last `drain` was complete
        self._warming_up = False
        ledger.release_all(retry_failed=True)
        self._signal = ChangeSignal(on_change)
        # Called with the path of each file that was archived, failed or is gone, from any thread.
        self.on_file: Callable[[str], None] = lambda path: None
        self._connection = ConnectionVerifier(store, self._signal.notify_waiters)
        self.pipeline = Pipeline(
            settings,
            root,
            ledger,
            store,
            selection=self._selection,
            known_root=self.known_root,
            session=session,
            session_id=session_id,
            started_at=time.time() if started_at is None else started_at,
            on_event=self._on_event,
        )
        self.safety = Safety(self.pipeline, self._signal)
        self._recorder = EventRecorder(session, metrics or NullRecorder(), self.pipeline.gate)
        self._submissions = Submissions(root, ledger, self.pipeline, self._signal, session_id=session_id)
        self._status = StatusBuilder(
            settings,
            root,
            ledger,
            pipeline=self.pipeline,
            connection=self._connection,
            selection=self._selection,
            known_root=self.known_root,
            session=session,
            session_id=session_id,
        )

    # --- life cycle

    def start(self) -> None:
        """Start watching; no-op if the directory is watched already. CloudArchiveError: it does not exist."""
        with self._lifecycle_lock:
            if self.pipeline.watch is not None:
                return
            if not self.root.is_dir():
                raise CloudArchiveError(f"The watched directory {self.root} does not exist.")
            self.safety.forget()
            self._connection.start(wait_seconds=FIRST_SCAN_SECONDS)
            self.pipeline.start()
        self._signal.announce()

    def pause(self) -> None:
        """See `Pipeline.pause`."""
        with self._lifecycle_lock:
            if self.pipeline.pause():
                logger.info("Stopped watching %s", self.root)
        self._signal.notify_waiters()

    def stop(self, timeout_seconds: float) -> list[str]:
        """Stop watching, wait for uploads under way, and set `remainder`.

        Return paths of files that are not in the bucket yet, also of files that are still written to; 1,000 at most.
        LedgerError: the ledger can't be read. The archiver has stopped, but `remainder` is not set.
        """
        with self._lifecycle_lock:
            unsettled = self.pipeline.stop(timeout_seconds)
        rows = self.remaining()
        paths = dict.fromkeys(rows)
        for path in paths:
            unsettled.pop(path, None)  # a later version of a file that waits
        remaining = [*unsettled, *paths][:MAX_REMAINING]
        totals = self.ledger.totals()
        tally = self.pipeline.tally
        self.remainder = Remainder(
            files=totals.open.files - (len(rows) - len(paths)) + len(unsettled) + tally.unseen,
            size_bytes=totals.open.size_bytes + sum(unsettled.values()),
            baseline_files=tally.baseline,
            pruned_files=totals.pruned.files,
            scanned=self._scanned_at_end,
            leaves_new_files=self.settings.backfill == "none" and bool(unsettled or tally.unseen),
        )
        self._signal.announce()
        return remaining

    def drain(self, timeout_seconds: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Scan a last time, then find no further files, and upload the pending ones. The scan may be incomplete.

        Does not wait for files with a writer, for those that only `retry` retries, nor for those that still can't be
        read after `UNREADABLE_SECONDS`. While nothing is watched, only uploads under way finish.

        Args:
            cancelled: returns whether the caller no longer waits. A scan ends first.

        Returns:
            Whether all other files that were found are in the bucket; while nothing is watched, whether all files are.
        """
        watch = self.pipeline.watch
        deadline = time.monotonic() + timeout_seconds
        if watch is None:
            return self._drain_paused(deadline, cancelled)
        self._scanned_at_end = watch.stop_finding(deadline)
        next_retry = time.monotonic()
        last_retry = next_retry + UNREADABLE_SECONDS
        while not cancelled():
            now = time.monotonic()
            unreadable = now < last_retry
            if unreadable and now >= next_retry:
                watch.retry_unreadable()
                next_retry = now + UNREADABLE_RETRY_SECONDS
            if not (
                watch.settling_files(unreadable=unreadable)  # first, because settled files move to the ledger
                or self._unfinished_files(unreadable=unreadable)
                or self.pipeline.active()
                or watch.settling_files(unreadable=unreadable)  # a file that changed during its upload
            ):
                return True
            closed = self.pipeline.gate.closed
            left = deadline - time.monotonic()
            if left <= 0 or (closed is not None and not closed.failure.transient):
                return False  # no time is left, or only a user can make the store accept uploads
            self._signal.wait(min(left, DRAIN_POLL_SECONDS))
        return False

    def _unfinished_files(self, *, unreadable: bool) -> int:
        """Return how many files of the ledger will be archived without a user's help; 1 if it can't be read now."""
        try:
            totals = self.ledger.totals()
            count = totals.unfinished.files
            if unreadable or count != totals.waiting.files:
                return count
            rows = self.ledger.rows(states=(FileState.FAILED,), limit=MAX_REMAINING)
        except LedgerError:
            return 1
        return count - sum(row.next_try is not None and row.code == "FileUnreadable" for row in rows)

    def _drain_paused(self, deadline: float, cancelled: Callable[[], bool]) -> bool:
        """Wait for the uploads under way, then scan. Return what `drain` returns."""
        while not cancelled() and self.pipeline.active() and (left := deadline - time.monotonic()) > 0:
            self._signal.wait(min(left, DRAIN_POLL_SECONDS))
        try:
            tally = self.pipeline.count_unarchived(max(0.1, deadline - time.monotonic()))
            self._scanned_at_end = True
            return tally.unseen == 0 and not self.pipeline.has_work()
        except CloudArchiveError as error:
            logger.warning("%s", error)
            return False

    def close(self) -> None:
        """Close the store. The archiver must be stopped."""
        self._connection.stop()
        self.store.close()

    def warm_up(self) -> None:
        """Load the store's client in the background, once."""
        if not self._warming_up:
            self._warming_up = True
            threading.Thread(target=self.store.warm_up, name="cloud-archive-warm-up", daemon=True).start()

    # --- events

    def _on_event(self, event: Event) -> None:
        if isinstance(event, (UploadProgressed, FileSeen)):
            self._signal.announce()
            return
        if isinstance(event, FileArchived):
            self._connection.confirm()
        elif isinstance(event, UploadFailed):
            self._submissions.note_failure(event)
        elif isinstance(event, ScanEnded) and self._connection.failure is None:
            self._connection.request_now()
        self._recorder.record(event)
        if isinstance(event, (FileArchived, UploadFailed, FileGone)):
            self.on_file(event.claim.version.path)
        self._signal.notify_waiters()

    # --- requests

    def submit(self, path: str, timeout_seconds: float) -> Submission:
        """See `Submissions.submit`."""
        return self._submissions.submit(path, timeout_seconds)

    def rescan(self, timeout_seconds: float = 60.0) -> int:
        """See `Reconciler.now`. CloudArchiveError: also if nothing is watched."""
        return self._watch().reconciler.now(timeout_seconds)

    def archive_baseline(self) -> int:
        """Begin to archive the baseline, too. Return how many files it has.

        Raises:
            CloudArchiveError: nothing is watched, the first scan has not ended, or the ledger can't be written.
        """
        watch = self._watch()
        if not watch.reconciler.first_done:
            raise CloudArchiveError(
                "The first scan of the directory is still running: try again when it has finished."
            )
        count = watch.reconciler.tally.baseline
        self.ledger.clear_baseline()
        watch.scan_again("older files are to be archived")
        return count

    def _watch(self) -> DirectoryWatch:
        """Return the watch. RequestRefused: 409, nothing is watched."""
        if self.pipeline.watch is None:
            raise RequestRefused(409, "The archive is stopped: start it first.")
        return self.pipeline.watch

    def retry(self) -> int:
        """As `WorkerPool.retry`, and try to read unreadable files again. Return how many files are tried again."""
        count = self.pipeline.retry()
        watch = self.pipeline.watch
        if watch is not None:
            count += watch.retry_unreadable()
        self._connection.request_now()
        self._signal.notify_waiters()
        return count

    def flush(self, timeout_seconds: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """See `Safety.flush`."""
        return self.safety.flush(timeout_seconds, cancelled)

    # --- state

    def status(self, *, scan: bool = True, recent: bool = False, heartbeat: bool = False) -> Status:
        """Return the status as it is now.

        Args:
            scan: decide whether it is safe to stop, which may need a scan. False: `safe_to_stop` is False.
            recent, heartbeat: see `Safety.safe_to_stop`.
        """
        return self._status.status(
            lambda: scan and self.safety.safe_to_stop(recent=recent, heartbeat=heartbeat)
        )

    def gauges(self) -> Gauges:
        """Return the numbers that the metrics show, as they are now, without a scan."""
        return self._status.gauges()

    def is_own(self, path: str) -> bool:
        """Return whether the file at `path`, relative to the watched directory, belongs to this program."""
        self._selection.refresh_own()
        return self._selection.is_own(path)

    def unarchived_files(self) -> Iterator[UnarchivedFile]:
        """See `unarchived_files`; what can't be read is passed over."""
        return unarchived_files(self.root, self._selection, self.ledger, lambda path, why: None)

    def remaining(self) -> list[str]:
        """Return the paths of the ledger's files that are not in the bucket yet, newest first, 1,000 at most."""
        states = (FileState.PENDING, FileState.UPLOADING, FileState.FAILED)
        return [row.version.path for row in self.ledger.rows(states=states, limit=MAX_REMAINING)]

    @property
    def changes(self) -> int:
        """For `wait_for_change`: how many changes there were so far."""
        return self._signal.count

    def wait_for_change(self, seen: int, timeout_seconds: float) -> None:
        """Return once `changes` differs from `seen`, or after this time."""
        self._signal.wait(timeout_seconds, seen)

    @property
    def refusal(self) -> Closed | None:
        """See `Gate.closed`."""
        return self.pipeline.gate.closed

    @property
    def ledger_problem(self) -> str | None:
        """See `Pipeline.ledger_problem`."""
        return self.pipeline.ledger_problem

    @property
    def running(self) -> bool:
        """Whether the directory is watched."""
        return self.pipeline.watch is not None

    @property
    def has_scanned(self) -> bool:
        """Whether the first scan has ended, or failed for the whole directory; True while nothing is watched."""
        watch = self.pipeline.watch
        return watch is None or watch.reconciler.first_done or not watch.reconciler.root_is_known


def _new_session(ledger: Ledger) -> Session:
    session = Session()
    session.begin_with([recent_upload(row) for row in reversed(newest_archived(ledger, MAX_RECENT))])
    return session
