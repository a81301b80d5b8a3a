"""The workers: claim, upload, mark; what to do after each way an attempt can end.

| how it ended | what happens |
| --- | --- |
| proven in the bucket | archived; the gate opens |
| the file is gone | vanished, counted and shown |
| the file changed meanwhile | pending again, settles first |
| the system refuses to read it | failed, tried again (1 s doubling to 60 s) |
| a key cannot be made, or the store refuses this file for good | failed until `retry` or a restart |
| the store failed in a way that may pass | failed with a next try; the gate closes for a moment |
| the store refuses everybody | the same: the queue waits behind the gate, and goes on by itself |
| the ledger cannot be written | nothing is sent; tried again |
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from .errors import (
    CloudArchiveError,
    Failure,
    FileChanged,
    FileProblem,
    FileUnreadable,
    FileVanished,
    KeyRejected,
    LedgerError,
    Scope,
    StoreError,
)
from .files import stat_version, to_local
from .gate import LONGEST_PAUSE_SECONDS, Gate, backoff_seconds
from .ledger import Claim, Ledger
from .threads import DaemonExecutor
from .upload import Job, Outcome, Uploader
from .writers import has_writer

logger = logging.getLogger("cloud_archive.worker")

HOLD_CHANGED_SECONDS = 2.0  # a changed file settles meanwhile, and its new version takes the row over
SWEEP_SECONDS = 10.0  # until an abort that failed is tried again
OLDEST_EVERY = 4  # every fourth claim takes what waits longest, so that nothing starves


@dataclass(frozen=True, slots=True)
class ActiveUpload:
    """One upload under way; sizes in bytes."""

    path: str
    size_bytes: int
    sent_bytes: int
    key: str | None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    seen_at: float | None = None


class Observer:
    """What the pool tells; every method may be called from any worker thread. Does nothing by itself."""

    def on_archived(self, claim: Claim, outcome: Outcome) -> None:
        """Proven in the bucket and committed."""

    def on_failed(self, claim: Claim, error: CloudArchiveError, next_try: float | None) -> None:
        """An attempt failed; committed."""

    def on_vanished(self, claim: Claim) -> None:
        """The file is gone."""

    def on_changed(self, path: str) -> None:
        """The file was written to: it must settle again."""

    def on_progress(self) -> None:
        """Something moved; called often."""

    def on_ended(self) -> None:
        """An upload is over, however it ended, and everybody has been told."""


@dataclass(slots=True)
class _Active:
    claim: Claim
    sent_bytes: int = 0
    key: str | None = None


class WorkerPool:
    """`count` threads that take claims from the ledger and bring files into the bucket.

    Args:
        ledger: where claims come from.
        make_uploader: called with the executor for parts.
        root: the watched directory.
        count: parallel uploads, 1 to 64.
        name: of this process's session; goes into the claims.
        observer: is told what happened.
        clock: monotonic seconds.
        wall_clock: seconds since 1970, for next tries.
    """

    def __init__(
        self,
        ledger: Ledger,
        make_uploader: Callable[[Executor], Uploader],
        root: Path,
        *,
        count: int,
        name: str,
        observer: Observer,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._root = root
        self._count = count
        self._name = name
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock
        self.gate = gate or Gate(count)
        self._wake = threading.Condition()
        self._work_signal = 0
        self._stopping = False
        self._cut_off = False  # what is under way lost the threads that send its parts
        self._threads: dict[int, threading.Thread] = {}
        self._active: dict[int, _Active] = {}
        self._active_lock = threading.Lock()
        self._refused_rows: dict[int, int] = {}
        self._sweeping = threading.Lock()
        self._parts = DaemonExecutor(max(1, min(count, 8)), "cloud-archive-part")
        self._uploader = make_uploader(self._parts)
        self.ledger_trouble: str | None = None

    # --- life

    def start(self) -> None:
        """Start the threads."""
        for index in range(self._count):
            self._start(index)

    def _start(self, index: int) -> None:
        thread = threading.Thread(
            target=self._run, args=(index,), name=f"cloud-archive-worker-{index}", daemon=True
        )
        self._threads[index] = thread
        thread.start()

    def check(self) -> None:
        """Replace threads that died. Called every few seconds."""
        if self._stopping:
            return
        for index, thread in list(self._threads.items()):
            if not thread.is_alive():
                logger.error("Worker %d died and is replaced", index)
                self._start(index)

    def stop(self, timeout_seconds: float) -> bool:
        """No new claims; wait for the uploads under way.

        Returns:
            Whether all ended in time. Those that did not are taken up again at the next start.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        deadline = self._clock() + timeout_seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - self._clock()))
        ended = not any(thread.is_alive() for thread in self._threads.values())
        with self._wake:  # uploads that were asked for run on threads of their own
            ended &= self._wake.wait_for(lambda: not self._active, max(0.0, deadline - self._clock()))
        self._cut_off = True
        self._parts.shutdown(wait=False, cancel_futures=True)
        return ended

    def kick(self) -> None:
        """There is something to do."""
        with self._wake:
            self._work_signal += 1
            self._wake.notify_all()

    def retry(self) -> int:
        """Failed files go back to the queue, and the gate lets one try at once."""
        count = self._ledger.retry_failed()
        self._refused_rows.clear()
        self.gate.open_now()
        self.kick()
        return count

    def active(self) -> tuple[ActiveUpload, ...]:
        """The uploads under way now."""
        with self._active_lock:
            return tuple(
                ActiveUpload(
                    a.claim.version.path, a.claim.version.size_bytes, a.sent_bytes, a.key, a.claim.seen_at
                )
                for a in self._active.values()
            )

    # --- the loop

    def _run(self, index: int) -> None:
        claims = 0
        while True:
            with self._wake:
                seen = self._work_signal
                if self._stopping:
                    return
            pause = self.gate.enter(self._clock())
            if pause is None:
                try:
                    claims += 1
                    pause = self._once(index, oldest=self._takes_oldest(index, claims))
                finally:
                    self.gate.leave()
                    # Somebody may wait for the place; not where nothing was found to do, for then the others would
                    # find nothing either, and all would wake each other for ever.
                    if not pause and self.gate.narrowed:
                        self.kick()
            if pause:
                with self._wake:
                    self._wake.wait_for(
                        lambda seen=seen: self._stopping or self._work_signal != seen,  # type: ignore[misc]
                        timeout=pause,
                    )

    def _takes_oldest(self, index: int, claims: int) -> bool:
        """Spread over the workers, so that it holds with one worker as with 64."""
        return (index + claims) % OLDEST_EVERY == 0 and self.gate.closed is None

    def _once(self, index: int, *, oldest: bool) -> float:
        """Claim and upload one file. Returns seconds to wait before asking again, 0 = at once."""
        try:
            claim = self._ledger.claim(f"{self._name}/{index}", oldest=oldest)
            self.ledger_trouble = None
            if claim is None:
                return self._sweep() or self._until_due()
            self.work(claim)
        except LedgerError as error:
            if self._stopping:
                return 0
            if self.ledger_trouble is None:
                logger.error("%s", error)
            self.ledger_trouble = str(error)
            return backoff_seconds(3, first=1.0, longest=LONGEST_PAUSE_SECONDS)
        return 0

    def _sweep(self) -> float:
        """With nothing else to do: abort the multipart uploads whose abort failed or was cut off by a kill."""
        if not self._sweeping.acquire(blocking=False):
            return 0.0
        try:
            abandoned = self._ledger.abandoned()
            if not abandoned:
                return 0.0
            for key, upload_id in abandoned:
                self._uploader.tidy(key, upload_id)
            return SWEEP_SECONDS if self._ledger.abandoned(1) else 0.0
        finally:
            self._sweeping.release()

    def _until_due(self) -> float:
        due = self._ledger.next_due()
        return 60.0 if due is None else min(60.0, max(0.05, due - self._wall_clock()))

    # --- one claim

    def work(self, claim: Claim) -> CloudArchiveError | None:
        """Upload one claimed version and mark how it ended. Returns why it is not archived, or None.

        Raises:
            LedgerError: the end could not be committed.
        """
        active = _Active(claim)
        with self._active_lock:
            self._active[claim.row] = active
        try:
            return self._work(claim, active)
        except BaseException:
            # Should the row still say that somebody uploads it, nobody else would before the next start.
            self._ledger.give_up(claim)
            raise
        finally:
            # Only now: whoever finds no upload under way finds it counted as well.
            with self._active_lock:
                del self._active[claim.row]
            with self._wake:
                self._wake.notify_all()  # `stop` may wait for the last one
            self._observer.on_ended()

    def _work(self, claim: Claim, active: _Active) -> CloudArchiveError | None:
        try:
            outcome = self._uploader.upload(
                _job(self._root, claim), _ClaimJournal(self._ledger, claim, active), self._progress(active)
            )
            self._ledger.mark_archived(
                claim,
                key=outcome.key,
                sha256=outcome.sha256,
                etag=outcome.etag,
                wrote=outcome.ours or not outcome.already,
            )
        except FileVanished as error:
            self._vanished(claim)
            return error
        except FileChanged as error:
            self._changed(claim)
            return error
        except LedgerError:
            raise
        except CloudArchiveError as error:
            self._failed(claim, error)
            return error
        except Exception as error:
            if self._cut_off:
                self._ledger.release(claim)
                return CloudArchiveError("The archive was stopped.")
            logger.exception("Archiving %s failed in a way that should not be", claim.version.path)
            wrapped = CloudArchiveError(f"An internal error: {type(error).__name__}.")
            self._failed(claim, wrapped)
            return wrapped
        self._refused_rows.pop(claim.row, None)
        if self.gate.passed():
            self._ledger.wake_waiting()
            self.kick()
        self._observer.on_archived(claim, outcome)
        if outcome.changed:
            self._observer.on_changed(claim.version.path)
        return None

    def _progress(self, active: _Active) -> Callable[[int], None]:
        def moved(sent: int) -> None:
            active.sent_bytes = min(sent, active.claim.version.size_bytes)
            self._observer.on_progress()

        return moved

    def _vanished(self, claim: Claim) -> None:
        """There is nothing left to archive."""
        self._drop_multipart(claim)
        self._ledger.mark_vanished(claim)
        self._observer.on_vanished(claim)

    def _drop_multipart(self, claim: Claim) -> None:
        if claim.upload_id and claim.key:
            self._ledger.abandon_multipart(claim, claim.key, claim.upload_id)
            self._uploader.abandon(claim.key, claim.upload_id)

    def _changed(self, claim: Claim) -> None:
        """The bytes of this version are gone; what the file holds now is, or becomes, a version of its own."""
        path = claim.version.path
        try:
            now = stat_version(self._root, path)
        except FileProblem:
            now = None  # the next attempt tells what is the matter
        if now is not None and now.size_bytes == 0 and has_writer(to_local(self._root, path)) is not True:
            self._vanished(claim)
            return
        other = now is not None and now.fingerprint != claim.version.fingerprint
        if now is not None and other and not self._ledger.unknown([now]):
            # A row of its own has it already (it came while this one was being sent, or the file went back to what
            # it was before), so that nothing would ever take this row over.
            self._drop_multipart(claim)
            self._ledger.drop(claim)
        else:
            self._ledger.release(claim, hold_seconds=HOLD_CHANGED_SECONDS)
        self._observer.on_changed(path)

    def _failed(self, claim: Claim, error: CloudArchiveError) -> None:
        code, cure, pause = self._judge(claim, error)
        next_try = None if pause is None else self._wall_clock() + pause
        self._ledger.mark_failed(claim, code=code, cause=_cause(error), cure=cure, next_try=next_try)
        self._observer.on_failed(claim, error, next_try)

    def _judge(self, claim: Claim, error: CloudArchiveError) -> tuple[str, str, float | None]:
        """(code, cure, seconds until the next try or None for never)."""
        if isinstance(error, StoreError):
            return error.failure.code, error.failure.cure, self._judge_store(claim, error)
        if isinstance(error, KeyRejected):
            return "KeyRejected", "Rename the file or shorten the prefix, then retry.", None
        if isinstance(error, FileUnreadable):
            pause = backoff_seconds(claim.attempts, first=1.0, longest=60.0)
            return "FileUnreadable", "Allow this user to read the file.", pause
        return "InternalError", "", backoff_seconds(claim.attempts, first=1.0, longest=300.0)

    def _judge_store(self, claim: Claim, error: StoreError) -> float | None:
        failure: Failure = error.failure
        if failure.scope is Scope.FILE:
            if not failure.passing:
                return None
            return backoff_seconds(claim.attempts, first=0.5, longest=300.0)
        successes = self.gate.successes
        if not failure.passing and self._refused_rows.setdefault(claim.row, successes) < successes:
            # The store took other files between two refusals of this one: it is this file's own trouble.
            return None
        return self.gate.refused(failure, self._clock(), retry_after_seconds=error.retry_after_seconds)


@dataclass(frozen=True, slots=True)
class _ClaimJournal:
    """`upload.Journal` on the ledger."""

    ledger: Ledger
    claim: Claim
    active: _Active

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        self.ledger.record_attempt(self.claim, sha256=sha256, base_key=base_key, key=key)
        self.active.key = key

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        self.ledger.record_multipart(self.claim, upload_id, part_size_bytes)

    def abandon(self, key: str, upload_id: str) -> None:
        self.ledger.abandon_multipart(self.claim, key, upload_id)


def _job(root: Path, claim: Claim) -> Job:
    return Job(
        root=root,
        version=claim.version,
        token=claim.token,
        base_key=claim.base_key,
        key=claim.key,
        sha256=claim.sha256,
        upload_id=claim.upload_id,
        part_size_bytes=claim.part_size_bytes,
    )


def _cause(error: CloudArchiveError) -> str:
    return error.failure.cause if isinstance(error, StoreError) else str(error)
