"""The pipeline that brings every file into the bucket:

    for path in watch(root) or scan(root):           # DirectoryWatch: hints and truth
        ledger.add(settle(path))                     # Pipeline.enqueue: pending, committed
    while claim := gate.admit(ledger.claim):         # WorkerPool
        ledger.finish(claim, uploader.upload(claim)) # ClaimUploads: archived | failed(next try) | vanished

The queue and the workers also work while nothing is watched: uploads under way finish, and users can upload files.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..config.settings import Settings
from ..errors import CloudArchiveError
from ..executor import CallTimeout, call_within
from ..files import FileVersion
from ..intake.selection import Selection
from ..intake.walk import scan
from ..keys import PrefixTemplate, object_key
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import COMPARE_WITH_BUCKET, Ledger
from ..ledger.rows import Claim, Totals
from ..scope import KeyScope
from ..store.base import ObjectStore
from ..upload.lost_keys import BucketIndex
from ..upload.uploader import Uploader
from .active_uploads import ActiveUpload
from .directory_watch import DirectoryWatch
from .events import Event, FileModified, FilesQueued, OnEvent, ScanEnded, StatusChanged
from .gate import Gate
from .given_up import GivenUpRetries, retry_gone_files
from .interrupted_prune import finish_prunes
from .session import Session
from .unarchived import Tally
from .unwatched import count_unarchived
from .workers import WorkerPool

logger = logging.getLogger("cloud_archive.archiver")

# How long uploads of the backlog wait for the first scan: they would make it several times slower, and it finds the new
# files that go first.
FIRST_SCAN_SECONDS = 2.0
PAUSE_SECONDS = 2.0  # how long a pause waits for the threads that watch; a scan under way may end later
KEEPER_SECONDS = 2.0  # between two checks of threads, watcher and due retries
SIZES_SECONDS = 1.0  # how long a stop waits for the sizes of files, at least


class Work(NamedTuple):
    """What is known, and not proven yet.

    Attributes:
        has_arrivals: whether any file is on its way to the ledger, or must be hashed before it is safe to stop.
        totals: of the ledger.
        unqueued_files, unqueued_bytes: of files that are not in the ledger yet; see `EnqueueLoop.count`.
        active: the uploads under way.
    """

    has_arrivals: bool
    totals: Totals
    unqueued_files: int
    unqueued_bytes: int
    active: tuple[ActiveUpload, ...]

    @property
    def is_left(self) -> bool:
        """Whether any known file is still to be archived, or must be hashed before it is safe to stop."""
        return self.has_arrivals or self.totals.open.files > 0 or self.unqueued_files > 0 or bool(self.active)


class Pipeline:
    """Brings the files of one directory into the bucket.

    Args:
        ledger: open, and used by this process alone.
        session: gets samples for the rates, and notices.
        started_at: seconds since 1970; files with an older mtime belong to the backlog.
        on_event: receives every event except FileModified, from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        ledger: Ledger,
        store: ObjectStore,
        *,
        selection: Selection,
        known_root: KnownRoot,
        session: Session,
        session_id: str,
        started_at: float,
        on_event: OnEvent,
    ) -> None:
        self._settings = settings
        self._root = root
        self._ledger = ledger
        self._store = store
        self._selection = selection
        self._known_root = known_root
        self._session = session
        self._session_id = session_id
        self._started_at = started_at
        self._report = on_event
        self._template = PrefixTemplate.parse(settings.prefix)
        self._stopped_tally = Tally()  # of the last scan, while nothing is watched
        self.watch: DirectoryWatch | None = None  # None while nothing is watched
        self._last_watch: DirectoryWatch | None = None  # the same, but kept when it stops
        self.gate = Gate(settings.workers)
        # After the loss of a ledger: finds files that the bucket may hold under another key.
        self._bucket_index: BucketIndex | None = None
        if ledger.recall(COMPARE_WITH_BUCKET) is not None:
            self._bucket_index = BucketIndex(store, KeyScope(self._template), self._wanted_files)
        self._pool = self._make_pool()

    # --- life cycle

    def start(self) -> None:
        """Watch the directory and upload what is queued. Nothing may be watched yet."""
        watch = DirectoryWatch(
            self._settings,
            self._root,
            self._ledger,
            self._selection,
            known_root=self._known_root,
            session=self._session,
            started_at=self._started_at,
            enqueue=self.enqueue,
            on_queued=self._on_queued,
            on_event=self._on_event,
        )
        watch.add_loop("cloud-archive-keeper", lambda stopping: self._keep(watch, stopping))
        watch.add_loop("cloud-archive-prunes", self._finish_prunes)
        if self._settings.frees_local_files:
            from .freeing import FreeingLoop

            freeing = FreeingLoop(
                self._settings,
                self._root,
                self._ledger,
                self._store,
                known_root=self._known_root,
                session=self._session,
                on_event=self._on_event,
            )
            watch.add_loop("cloud-archive-free", freeing.run)
        self.watch = self._last_watch = watch
        try:
            self._pool.start(hold_seconds=FIRST_SCAN_SECONDS)
            watch.start()
        except BaseException:
            self.pause()  # otherwise a half-started watch would count as watching
            raise

    def pause(self) -> bool:
        """Stop watching and begin no further upload; those under way go on. Return whether anything was watched."""
        watch, self.watch = self.watch, None
        self._pool.pause()
        if watch is None:
            return False
        self._stopped_tally = watch.reconciler.tally
        watch.stop(time.monotonic() + PAUSE_SECONDS)
        # Of the new files of the last scan, some are in the ledger by now.
        self._stopped_tally = replace(
            self._stopped_tally,
            unseen=watch.unqueued_files + len(watch.enqueue_loop.uncommitted) + watch.rechecker.waiting,
        )
        return True

    def stop(self, timeout_seconds: float) -> dict[str, int]:
        """Stop watching and wait for the uploads under way.

        Return path and size in bytes of each file that was seen and is not in the ledger, and of each archived file
        that may hold new bytes, without those of a sweep.
        """
        deadline = time.monotonic() + timeout_seconds
        unsettled: dict[str, int] = {}
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.stop(deadline)
            # The new files of the last scan are settling, or in the ledger. A sweep names no files, so only `unseen`
            # counts them.
            self._stopped_tally = replace(watch.reconciler.tally, unseen=watch.rechecker.swept_files)
        # Also if nothing is watched: an upload that a user asked for may be under way.
        if not self._pool.stop(max(0.0, deadline - time.monotonic())):
            logger.warning("Some uploads did not end in time; they continue at the next start")
        self._pool = self._make_pool()
        if watch is not None:
            # 0 is an unknown size, such as of a file that was not checked yet.
            unsettled = {w.path: w.size_bytes for w in watch.waiting()}
            unsettled |= dict.fromkeys(watch.rechecker.waiting_paths(), 0)
            unsettled |= {version.path: version.size_bytes for version in watch.enqueue_loop.uncommitted}
            left = max(SIZES_SECONDS, deadline - time.monotonic())
            # A network share may hang, or no thread can be started.
            with contextlib.suppress(CallTimeout, RuntimeError):
                unsettled = call_within(left, partial(self._measured, unsettled), "cloud-archive-sizes")
        return unsettled

    def _measured(self, sizes: dict[str, int]) -> dict[str, int]:
        sizes = {path: size or _size_now(self._root / path) for path, size in sizes.items()}
        return {path: size for path, size in sizes.items() if size}

    # --- the queue

    def enqueue(self, versions: list[FileVersion]) -> int:
        """Commit complete versions as pending; return how many were new. Those of the backlog get a lower priority."""
        fresh = [v for v in versions if self._is_fresh(v)]
        backlog = [v for v in versions if not self._is_fresh(v)]
        added = self._ledger.add(fresh, priority=0) if fresh else 0
        added += self._ledger.add(backlog, priority=1) if backlog else 0
        return added

    def _on_queued(self, versions: list[FileVersion]) -> None:
        self._pool.kick(urgent=any(self._is_fresh(v) for v in versions))
        self._report(FilesQueued())

    def _is_fresh(self, version: FileVersion) -> bool:
        return version.mtime_ns >= self._started_at * 1e9

    def upload(self, claim: Claim) -> CloudArchiveError | None:
        """Upload one claimed version in this thread; see `ClaimUploads.upload`."""
        return self._pool.upload(claim)

    def retry(self) -> int:
        """See `WorkerPool.retry`."""
        return self._pool.retry()

    # --- what a status shows

    @property
    def ledger_problem(self) -> str | None:
        """Why the last attempt to commit failed; None if it succeeded."""
        watch = self.watch
        return self._pool.ledger_problem or (None if watch is None else watch.enqueue_loop.problem)

    @property
    def tally(self) -> Tally:
        """Counts of the files without a row, of the last scan."""
        watch = self.watch
        return self._stopped_tally if watch is None else watch.reconciler.tally

    def count_unarchived(self, timeout_seconds: float) -> Tally:
        """See `count_unarchived`; while nothing is watched.

        CloudArchiveError: also if the directory is not the known one, the time is up, or watching has started.
        """
        deadline = time.monotonic() + timeout_seconds

        def interrupted() -> bool:
            return self.watch is not None or time.monotonic() > deadline

        self._known_root.check()
        self._stopped_tally = count_unarchived(self._root, self._selection, self._ledger, interrupted)
        return self._stopped_tally

    def active(self) -> tuple[ActiveUpload, ...]:
        """See `WorkerPool.active`."""
        return self._pool.active()

    def work(self) -> Work:
        """Return what is known and not proven yet; does not scan the directory."""
        watch = self.watch
        # Meanwhile a file may move from settling to hashing, or back. `rewritten_files` counts those to be hashed, so
        # it is read twice.
        has_arrivals = watch is not None and bool(
            watch.rewritten_files or watch.unqueued_files or watch.rewritten_files
        )
        count = (self._ledger.totals(), 0, 0) if watch is None else watch.enqueue_loop.count()
        # After the totals: an upload stays active until they and the session's counters include its result.
        active = self._pool.active()
        if watch is not None and watch.unqueued_files:  # again: a file that changed during its upload settles
            has_arrivals = True
        return Work(has_arrivals, *count, active)

    def has_work(self) -> bool:
        """See `Work.is_left`."""
        return self.work().is_left

    # --- the parts

    def key_for(self, path: str) -> str:
        """Return the object key that `path` gets if its first attempt is made now."""
        prefix = self._template.render(datetime.now(), self._session_id)  # local time, as users see it
        return object_key(prefix, path)

    def _make_pool(self) -> WorkerPool:
        return WorkerPool(
            self._ledger,
            self._make_uploader,
            self._root,
            count=self._settings.workers,
            name=self._session_id,
            on_event=self._on_event,
            gate=self.gate,
            check_root=self._known_root.check,
        )

    def _make_uploader(self, parts: Executor) -> Uploader:
        return Uploader(
            self._store,
            self._root,
            make_key=self.key_for,
            session_id=self._session_id,
            rename=self._settings.conflict_rename,
            part_executor=parts,
            on_aborted=self._ledger.forget_abandoned,
            elsewhere=self._keys_elsewhere,
            conflicts=self._ledger.conflicts,
        )

    def _keys_elsewhere(self, path: str, size_bytes: int) -> list[str]:
        index = self._bucket_index
        return [] if index is None else index.candidates(path, size_bytes)

    def _wanted_files(self) -> Iterator[FileVersion]:
        return (v for v in scan(self._root, self._selection.wants_folder) if self._selection.wants(v.path))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, FileModified):
            if self._last_watch is not None:  # once it has stopped, the file only counts in `stop`
                self._last_watch.let_settle(event.path)
            return
        if isinstance(event, ScanEnded):
            self._pool.end_hold()
        self._report(event)

    # --- regular checks

    def _keep(self, watch: DirectoryWatch, stopping: threading.Event) -> None:
        """Check threads and due retries every few seconds, until `stopping` is set."""
        unqueued, checked_at, problem = -1, 0.0, ""
        given_up = GivenUpRetries(self._ledger)
        while not stopping.wait(KEEPER_SECONDS):
            try:
                watch.check_threads()
                self._pool.replace_dead_threads()
                if self._ledger.requeue_due():
                    self._pool.kick()
                scan = watch.reconciler
                if scan.ended_at and scan.root_is_known:
                    # Between two scans a `flush` may wait for a given-up file that was deleted.
                    before_at, checked_at = checked_at, scan.ended_at
                    if retry_gone_files(self._ledger, self._root, only_if_few=checked_at == before_at):
                        self._pool.kick()
                if self.gate.closed is None and given_up.run_once(time.monotonic()):
                    self._pool.kick()
                active = self._pool.active()
                self.forget_bucket_index()
                self._session.sample(sum(a.sent_bytes for a in active), time.monotonic())
                # A file that leaves the settle queue without being queued (deleted, or empty) causes no other event.
                unqueued, before = watch.unqueued_files, unqueued
                if unqueued != before:
                    self._report(StatusChanged())
                problem = ""
            except CloudArchiveError as error:
                if str(error) != problem:
                    logger.error("%s", error)
                problem = str(error)
            except Exception:
                logger.exception("A regular check of the archive failed")

    def _finish_prunes(self, stopping: threading.Event) -> None:
        finish_prunes(
            self._settings, self._ledger, self._store, stopping, may_ask=lambda: self.gate.closed is None
        )

    def forget_bucket_index(self) -> None:
        """Stop comparing with the bucket once all files from before the loss of the ledger are archived."""
        watch = self.watch
        if self._bucket_index is None or watch is None or not watch.reconciler.first_done or self.has_work():
            return
        self._ledger.remember(COMPARE_WITH_BUCKET, None)
        self._bucket_index = None


def _size_now(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # deleted meanwhile
        return 0
