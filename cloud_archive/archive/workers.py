"""The workers: claim, upload, mark; what to do after each way an attempt can end.

| how it ended | what happens |
| --- | --- |
| proven in the bucket | archived; the gate opens |
| the file is gone | vanished, counted and shown |
| the whole watched directory is away, or is another one | failed, tried again (1 s doubling to 10 s) |
| the file changed meanwhile | pending again, settles first |
| the system refuses to read it | failed, tried again (1 s doubling to 60 s) |
| a key cannot be made, or the store refuses this file for good | failed until `retry` or a restart |
| the store failed in a way that may pass | failed with a next try; the gate closes for a moment |
| the store refuses everybody | the same: the queue waits behind the gate, and goes on by itself |
| the ledger cannot be written | nothing is sent; tried again |

Many small files that wait are taken several at once: one commit for all claims, one for all keys, one for all proofs,
so that a disk whose fsync is slow does not set the pace. On a slow link, or when something more urgent has come, those
not begun yet go back to the queue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import (
    CloudArchiveError,
    Failure,
    FailureScope,
    FileChanged,
    FileProblem,
    FileUnreadable,
    FileVanished,
    KeyRejected,
    LedgerError,
    RootReplaced,
    StoreError,
)
from ..files import stat_version
from ..intake.open_files import has_writer
from ..ledger.ledger import Ledger
from ..ledger.rows import Attempt, Claim, ProvenUpload
from ..upload.attempt import Outcome, Prepared, Uploader
from ..upload.source import Job
from .executor import DaemonExecutor
from .gate import LONGEST_PAUSE_SECONDS, Gate, backoff_seconds

logger = logging.getLogger("cloud_archive.worker")

HOLD_CHANGED_SECONDS = 2.0  # a changed file settles meanwhile, and its new version takes the row over
SWEEP_SECONDS = 10.0  # until an abort that failed is tried again
BATCH_FILES = 16
OPEN_FILES = 128  # held by all workers together in batches; macOS allows a process 256 unless asked for more
BATCH_BYTES = 1024 * 1024
BATCH_SECONDS = 1.0  # after that, what was taken with others and not begun goes back
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
        check_root: raises RootReplaced where the watched directory is not the known one.
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
        check_root: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._root = root
        self._count = count
        self._name = name
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock
        self._check_root = check_root
        self.gate = gate or Gate(count)
        self._wake = threading.Condition()
        self._work_signal = 0
        self._stopping = False
        self._paused = False
        self._held_until = 0.0
        self._cut_off = False  # what is under way lost the threads that send its parts
        self._threads: dict[int, threading.Thread] = {}
        self._active: dict[str, _Active] = {}  # by the claim's name: a row may be taken again at once
        self._hurries = 0  # how often something more urgent than a backlog has come
        self._active_lock = threading.Lock()
        self._refused_rows: dict[int, int] = {}
        self._store_codes: set[str] = set()  # failures of the store, not of a file, since it last took one
        self._sweeping = threading.Lock()
        self._sweep_due = clock() + SWEEP_SECONDS
        self._parts = DaemonExecutor(max(1, min(count, 8)), "cloud-archive-part")
        self._uploader = make_uploader(self._parts)
        self.ledger_trouble: str | None = None

    # --- life

    def start(self, *, hold_seconds: float = 0.0) -> None:
        """Start the threads, or let them claim again after `pause`.

        Args:
            hold_seconds: they claim nothing before `go`, something urgent, or the end of this time.
        """
        self._held_until = self._clock() + hold_seconds
        with self._wake:
            self._paused = False
            self._wake.notify_all()
        if not self._threads:
            for index in range(self._count):
                self._start(index)

    def pause(self) -> None:
        """Claim nothing new until `start`. Uploads under way finish; does not wait for them."""
        with self._wake:
            self._paused = True
            self._wake.notify_all()

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

    def go(self) -> None:
        """Whatever was to come first is over: see `start`."""
        with self._wake:
            self._held_until = 0.0
            self._wake.notify_all()

    def kick(self, *, urgent: bool = False) -> None:
        """There is something to do; `urgent`: before any backlog."""
        with self._wake:
            self._work_signal += 1
            if urgent:
                self._held_until = 0.0
            self._hurries += urgent
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
                while not self._stopping and (self._paused or self._held_until > self._clock()):
                    self._wake.wait(None if self._paused else max(0.0, self._held_until - self._clock()))
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
                        lambda seen=seen: (  # type: ignore[misc]
                            self._stopping or self._paused or self._work_signal != seen
                        ),
                        timeout=pause,
                    )

    def _takes_oldest(self, index: int, claims: int) -> bool:
        """Spread over the workers, so that it holds with one worker as with 64."""
        return (index + claims) % OLDEST_EVERY == 0 and self.gate.closed is None

    def _once(self, index: int, *, oldest: bool) -> float:
        """Claim and upload what comes next. Returns seconds to wait before asking again, 0 = at once."""
        try:
            if self._clock() >= self._sweep_due:
                self._sweep()
            claims = self._claim(f"{self._name}/{index}", oldest=oldest)
            self.ledger_trouble = None
            if not claims:
                return self._sweep() or self._until_due()
            if len(claims) == 1:
                self.work(claims[0])
            else:
                self._work_several(claims)
        except LedgerError as error:
            if self._stopping:
                return 0
            if self.ledger_trouble is None:
                logger.error("%s", error)
            self.ledger_trouble = str(error)
            return backoff_seconds(3, first=1.0, longest=LONGEST_PAUSE_SECONDS)
        return 0

    def _claim(self, claimant: str, *, oldest: bool) -> list[Claim]:
        if oldest or self.gate.narrowed:
            claim = self._ledger.claim(claimant, oldest=oldest)
            return [] if claim is None else [claim]
        most = max(1, min(BATCH_FILES, OPEN_FILES // self._count))
        return self._ledger.claim_several(claimant, most=most, among=self._count, size_bytes=BATCH_BYTES)

    def _sweep(self) -> float:
        """Abort the multipart uploads whose abort failed or was cut off by a kill.

        With nothing else to do, and every few seconds where there is always something.
        """
        self._sweep_due = self._clock() + SWEEP_SECONDS
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
        try:
            ended = self._upload(claim, partial(self._uploader.upload, _job(self._root, claim)))
            if isinstance(ended, CloudArchiveError):
                return ended
            self._archived([(claim, ended)])
        except BaseException:
            # Should the row still say that somebody uploads it, nobody else would before the next start.
            self._ledger.give_up(claim)
            raise
        finally:
            self._over([claim])
        return None

    def _work_several(self, claims: list[Claim]) -> None:
        """Upload small versions that were never tried before, with one commit for each step of all of them."""
        until, hurries = self._clock() + BATCH_SECONDS, self._hurries
        waiting = {claim.name: claim for claim in claims}  # neither sent nor marked yet
        done: list[tuple[Claim, Outcome]] = []
        try:
            with contextlib.ExitStack() as files:
                # All at once: whoever waits for more while he holds some may wait for ever.
                files.enter_context(self._uploader.room([_job(self._root, claim) for claim in claims]))
                ready = self._prepare(waiting, files)
                self._ledger.record_attempts(
                    [Attempt(c, p.content.sha256, p.base_key, p.base_key) for c, p in ready]
                )
                for claim, prepared in ready:
                    if self._stopping or self._paused or self.gate.narrowed or self._hurries != hurries:
                        break
                    if self._clock() > until:
                        break
                    ended = self._upload(claim, partial(self._uploader.send, prepared), noted=True)
                    del waiting[claim.name]
                    if isinstance(ended, Outcome):
                        done.append((claim, ended))
            self._archived(done)
            self._ledger.unclaim(list(waiting.values()))
        except BaseException:
            for claim in (*waiting.values(), *(claim for claim, _ in done)):
                self._ledger.give_up(claim)
            raise
        finally:
            self._over(claims)

    def _prepare(
        self, waiting: dict[str, Claim], files: contextlib.ExitStack
    ) -> list[tuple[Claim, Prepared]]:
        """Read and hash them all; whose file is not what it was is marked, and waits no more."""
        ready: list[tuple[Claim, Prepared]] = []
        for claim in list(waiting.values()):
            try:
                prepared = files.enter_context(self._uploader.prepare(_job(self._root, claim)))
            except CloudArchiveError as error:
                self._ended(claim, error)
                del waiting[claim.name]
            else:
                ready.append((claim, prepared))
        return ready

    def _upload(
        self,
        claim: Claim,
        send: Callable[[_ClaimJournal, Callable[[int], None]], Outcome],
        *,
        noted: bool = False,
    ) -> Outcome | CloudArchiveError:
        """How the attempt ended; where not in the bucket, that is marked."""
        active = _Active(claim)
        with self._active_lock:
            self._active[claim.name] = active
        try:
            outcome = send(_ClaimJournal(self._ledger, claim, active, noted), self._progress(active))
            # At once: a refusal of the next one must find the gate as this one left it.
            if self.gate.passed():
                with self._active_lock:
                    codes, self._store_codes = self._store_codes, set()
                self._ledger.requeue_waiting(codes)
                self.kick()
            return outcome
        except LedgerError:
            raise
        except CloudArchiveError as error:
            self._ended(claim, error)
            return error
        except Exception as error:
            if self._cut_off:
                self._ledger.release(claim)
                return CloudArchiveError("The archive was stopped.")
            logger.exception("Archiving %s failed in a way that should not be", claim.version.path)
            wrapped = CloudArchiveError(f"An internal error: {type(error).__name__}.")
            self._failed(claim, wrapped)
            return wrapped

    def _over(self, claims: Sequence[Claim]) -> None:
        """Only now, when everybody has been told: whoever finds no upload under way finds it counted as well."""
        with self._active_lock:
            for claim in claims:
                self._active.pop(claim.name, None)
        with self._wake:
            self._wake.notify_all()  # `stop` may wait for the last one
        self._observer.on_ended()

    def _ended(self, claim: Claim, error: CloudArchiveError) -> None:
        """Mark why it is not in the bucket."""
        if isinstance(error, FileVanished):
            self._vanished(claim)
        elif isinstance(error, FileChanged):
            self._changed(claim)
        else:
            self._failed(claim, error)

    def _archived(self, done: Sequence[tuple[Claim, Outcome]]) -> None:
        """The bucket has them: commit that and tell."""
        self._ledger.mark_all_archived(
            [
                ProvenUpload(c, o.key, o.sha256, o.etag, o.ours or not o.already, o.base_key, o.read)
                for c, o in done
            ]
        )
        for claim, outcome in done:
            self._refused_rows.pop(claim.row, None)
            self._observer.on_archived(claim, outcome)
            if outcome.changed:
                self._observer.on_changed(claim.version.path)

    def _progress(self, active: _Active) -> Callable[[int], None]:
        def moved(sent: int) -> None:
            active.sent_bytes = min(sent, active.claim.version.size_bytes)
            self._observer.on_progress()

        return moved

    def _vanished(self, claim: Claim) -> None:
        """There is nothing left to archive, unless the whole directory is away."""
        try:
            self._check_root()
        except RootReplaced as error:
            self._failed(claim, error)
            return
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
        if now is not None and now.size_bytes == 0 and has_writer(self._root, path) is not True:
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
        if isinstance(error, RootReplaced):
            return "RootReplaced", "", backoff_seconds(claim.attempts, first=1.0, longest=10.0)
        return "InternalError", "", backoff_seconds(claim.attempts, first=1.0, longest=300.0)

    def _judge_store(self, claim: Claim, error: StoreError) -> float | None:
        failure: Failure = error.failure
        if failure.scope is FailureScope.FILE:
            if not failure.passing:
                return None
            return backoff_seconds(claim.attempts, first=0.5, longest=300.0)
        successes = self.gate.successes
        if not failure.passing and self._refused_rows.setdefault(claim.row, successes) < successes:
            # The store took other files between two refusals of this one: it is this file's own trouble.
            return None
        with self._active_lock:
            self._store_codes.add(failure.code)
        return self.gate.refused(failure, self._clock(), retry_after_seconds=error.retry_after_seconds)


@dataclass(frozen=True, slots=True)
class _ClaimJournal:
    """`upload.Journal` on the ledger; `noted`: the first key is committed already, with those of others."""

    ledger: Ledger
    claim: Claim
    active: _Active
    noted: bool = False

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        if not (self.noted and key == base_key):
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
