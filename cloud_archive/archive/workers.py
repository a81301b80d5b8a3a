"""The upload threads: each claims files from the ledger, uploads them, and waits when there is nothing to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from ..errors import CloudArchiveError, LedgerError
from ..executor import DaemonExecutor
from ..ledger.ledger import Ledger
from ..ledger.rows import Claim
from ..upload.uploader import Uploader
from .active_uploads import ActiveUpload
from .claim_uploads import ClaimUploads
from .events import OnEvent, ignore
from .gate import Gate, backoff_seconds
from .retry_policy import RetryPolicy
from .upload_groups import GROUP_FILES, group_bytes, group_size, upload_group

logger = logging.getLogger("cloud_archive.worker")

ABORT_SECONDS = 10.0  # until a failed abort of a multipart upload is retried
GROUP_SECONDS = 1.0  # after this time the rest of a group goes back to the queue
LEDGER_PAUSE_SECONDS = 4.0  # at most, after the ledger failed
OLDEST_EVERY = 4  # every fourth claim takes the file that has waited longest, so that none starves


class WorkerPool:
    """`count` threads that claim files from the ledger and upload them.

    Args:
        make_uploader: called with the executor for the parts of large files.
        count: parallel uploads, 1 to 64.
        name: the beginning of the claims' names: the session id.
        on_event, check_root: see `ClaimUploads`.
        gate: default: a new one, open for `count` uploads.
        clock: monotonic seconds.
        wall_clock: seconds since 1970, for the times of next tries.
    """

    def __init__(
        self,
        ledger: Ledger,
        make_uploader: Callable[[Executor], Uploader],
        root: Path,
        *,
        count: int,
        name: str,
        on_event: OnEvent = ignore,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        check_root: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._count = count
        self._name = name
        self._clock = clock
        self._wall_clock = wall_clock
        self.gate = gate or Gate(count)
        self.ledger_problem: str | None = None  # why the last commit failed; None if it succeeded
        self._wake = threading.Condition()
        self._kicks = 0
        self._urgent_kicks = 0
        self._most_in_time = GROUP_FILES  # how many small files a worker uploads within `GROUP_SECONDS`
        self._stopping = False
        self._paused = False
        self._held_until = 0.0
        self._threads: dict[int, threading.Thread] = {}
        self._aborting = threading.Lock()
        self._abort_due = clock() + ABORT_SECONDS
        self._parts = DaemonExecutor(max(1, min(count, 8)), "cloud-archive-part")
        self._policy = RetryPolicy(self.gate, clock=clock, wall_clock=wall_clock)
        self._uploads = ClaimUploads(
            ledger,
            make_uploader(self._parts),
            root,
            self._policy,
            on_event=on_event,
            check_root=check_root,
            on_more_admitted=self.kick,
        )

    # --- life cycle

    def start(self, *, hold_seconds: float = 0.0) -> None:
        """Start the threads, or let them claim again after `pause`.

        They claim nothing before `end_hold`, an urgent `kick`, or the end of `hold_seconds`.
        """
        self._held_until = self._clock() + hold_seconds
        with self._wake:
            self._paused = False
            self._wake.notify_all()
        for index in range(self._count):
            if index not in self._threads or not self._threads[index].is_alive():
                self._start(index)

    def _start(self, index: int) -> None:
        thread = threading.Thread(
            target=self._run, args=(index,), name=f"cloud-archive-worker-{index}", daemon=True
        )
        thread.start()
        # Only now, because `replace_dead_threads` takes a thread that has not started for a dead one.
        self._threads[index] = thread

    def pause(self) -> None:
        """Claim nothing new until `start`. Does not wait for uploads under way, which finish."""
        with self._wake:
            self._paused = True
            self._wake.notify_all()

    def replace_dead_threads(self) -> None:
        """Start a new thread for each that died."""
        if self._stopping:
            return
        for index, thread in list(self._threads.items()):
            if not thread.is_alive():
                logger.error("Worker %d died and is replaced", index)
                self._start(index)

    def stop(self, timeout_seconds: float) -> bool:
        """Claim nothing more, and wait for the uploads under way. Return whether all ended in time."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        deadline = self._clock() + timeout_seconds
        for thread in self._threads.values():
            if thread.is_alive():
                thread.join(max(0.0, deadline - self._clock()))
        ended = not any(thread.is_alive() for thread in self._threads.values())
        # Uploads that users asked for run in threads of their own.
        ended &= self._uploads.active.wait_until_none(max(0.0, deadline - self._clock()))
        self._uploads.cut_off = True
        self._parts.shutdown(wait=False, cancel_futures=True)
        return ended

    # --- called by others

    def end_hold(self) -> None:
        """End the hold of `start`."""
        with self._wake:
            self._held_until = 0.0
            self._wake.notify_all()

    def kick(self, *, urgent: bool = False) -> None:
        """Wake the threads, because there may be something to upload.

        `urgent`: it goes before the backlog, so the hold of `start` ends, and groups stop for it.
        """
        with self._wake:
            self._kicks += 1
            if urgent:
                self._held_until = 0.0
            self._urgent_kicks += urgent
            self._wake.notify_all()

    def retry(self) -> int:
        """Requeue failed files, and let one upload try at once.

        Return how many were requeued, or while the gate is closed how many files wait for the store.
        """
        count = self._ledger.retry_failed()
        if self.gate.closed is not None:
            count = self._ledger.totals().open.files
        self._policy.retry_all()
        self.kick()
        return count

    def active(self) -> tuple[ActiveUpload, ...]:
        """See `ActiveUploads.snapshot`."""
        return self._uploads.active.snapshot()

    def upload(self, claim: Claim) -> CloudArchiveError | None:
        """See `ClaimUploads.upload`."""
        return self._uploads.upload(claim)

    def upload_several(self, claims: list[Claim]) -> None:
        """Upload these small files as one group; see `upload_group`."""
        urgent_kicks = self._urgent_kicks
        began: list[float] = []  # when each upload began, or was to begin

        def interrupted() -> bool:
            began.append(self._clock())
            return (
                self._stopping
                or self._paused
                or self.gate.narrowed
                or self._urgent_kicks != urgent_kicks
                or began[-1] - began[0] > GROUP_SECONDS
            )

        tried = upload_group(self._uploads, claims, interrupted=interrupted)
        seconds = began[-1] - began[0] if began else 0.0
        if seconds > GROUP_SECONDS:
            # The rest was read and hashed in vain. A group of two shows when the store has become faster.
            self._most_in_time = max(2, tried)
        elif seconds < GROUP_SECONDS / 2:
            self._most_in_time = max(self._most_in_time, min(GROUP_FILES, 2 * len(claims)))

    def claim(self, claimant: str, *, oldest: bool) -> list[Claim]:
        """Claim the next files: several small ones, one, or none. `oldest`: only the one that has waited longest."""
        if oldest or self.gate.narrowed:
            # A proxy may refuse a single file as if the store were away: the others must have their turn.
            is_closed = self.gate.closed is not None
            claim = self._ledger.claim(claimant, oldest=oldest, least_tried=is_closed)
            return [] if claim is None else [claim]
        most = min(group_size(self._count), self._most_in_time)
        return self._ledger.claim_several(
            claimant, most=most, among=self._count, size_bytes=group_bytes(self._count)
        )

    def abort_abandoned(self) -> float:
        """Abort the multipart uploads whose abort failed, or was prevented by a kill.

        Return the seconds until the next call; 0 if none is left, or another thread aborts them now.
        """
        self._abort_due = self._clock() + ABORT_SECONDS
        if not self._aborting.acquire(blocking=False):
            return 0.0
        try:
            abandoned = self._ledger.abandoned()
            if not abandoned:
                return 0.0
            for key, upload_id in abandoned:
                self._uploads.uploader.abort_unless_in_use(key, upload_id)
            return ABORT_SECONDS if self._ledger.abandoned(1) else 0.0
        finally:
            self._aborting.release()

    # --- the threads

    def _run(self, index: int) -> None:
        claims = 0
        while True:
            with self._wake:
                while not self._stopping and (self._paused or self._held_until > self._clock()):
                    self._wake.wait(None if self._paused else max(0.0, self._held_until - self._clock()))
                kicks = self._kicks
                if self._stopping:
                    return
            pause = self.gate.enter(self._clock())
            if pause is None:
                try:
                    claims += 1
                    pause = self._work(index, oldest=self._takes_oldest(index, claims))
                finally:
                    self.gate.leave()
                    # Another thread may wait to be let in. Wake it only if there was something to do: else all
                    # threads would wake each other endlessly.
                    if not pause and self.gate.narrowed:
                        self.kick()
            if pause:
                with self._wake:
                    self._wake.wait_for(
                        lambda kicks=kicks: (  # type: ignore[misc]
                            self._stopping or self._paused or self._kicks != kicks
                        ),
                        timeout=pause,
                    )

    def _takes_oldest(self, index: int, claims: int) -> bool:
        return (index + claims) % OLDEST_EVERY == 0 and self.gate.closed is None

    def _work(self, index: int, *, oldest: bool) -> float:
        """Claim and upload the next files. Return the seconds to wait before the next call."""
        try:
            if self._clock() >= self._abort_due:
                self.abort_abandoned()
            claims = self.claim(f"{self._name}/{index}", oldest=oldest)
            self.ledger_problem = None
            if not claims:
                return self.abort_abandoned() or self._until_due()
            if len(claims) == 1:
                self.upload(claims[0])
            else:
                self.upload_several(claims)
        except LedgerError as error:
            if self._stopping:
                return 0
            if self.ledger_problem is None:
                logger.error("%s", error)
            self.ledger_problem = str(error)
            return backoff_seconds(1, first=LEDGER_PAUSE_SECONDS, longest=LEDGER_PAUSE_SECONDS)
        return 0

    def _until_due(self) -> float:
        due = self._ledger.next_due()
        return 60.0 if due is None else min(60.0, max(0.05, due - self._wall_clock()))
