"""Follow ComfyUI's jobs: find what becomes of their files, wake calls that wait, and announce each job's end.

The plugin passes on which jobs are queued and running, and each finished job with the files that it wrote. One thread
follows the finished ones; the pipeline's events wake it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CloudArchiveError
from ..intake.selection import Selection
from ..ledger.ledger import Ledger
from ..text import clean_text
from .answers import is_final, job_json
from .records import JobRecord, Output, finished_job
from .resolve import OPEN_STATES, RECOVERABLE_STATES, Resolver
from .store import JobStore

logger = logging.getLogger("cloud_archive.jobs")

STOP_SECONDS = 5.0
KEPT_SECONDS = 90 * 86_400.0  # `start` forgets closed jobs that ended longer ago
MAX_UNFINISHED = 1000  # how many queued jobs are noted
# How often jobs with pending files are refreshed: a file that is deleted before the ledger holds it causes no event.
PENDING_SECONDS = 60.0
EMPTY_SECONDS = 10.0  # a file that is still empty after this is left out, as the archive does
_RETRY_SECONDS = 15.0  # after an error, unless an event comes earlier
# A refresh reads the state of all files of a job, and each archived file asks for one. So a job rests after a refresh
# for four times as long as that took, 2 s at most: one with thousands of files doesn't fill a core.
_REST_FACTOR = 4.0
_MAX_REST_SECONDS = 2.0
_ENDED = "ComfyUI ended before it finished this job."
_REMOVED = "This job was removed from ComfyUI's queue."

OnFinal = Callable[[JobRecord, "list[Output]"], None]


class Jobs:
    """The jobs of one archive. Every method but `note_path` and `subscribe` may block.

    Args:
        store: opened by `start`.
        root: the watched directory.
        on_final: called once for each job, in this object's thread, when every file is proven or has failed. After a
            kill or an error, or if a removed or interrupted job runs after all, it may be called again.
        on_announced: called after a webhook may have been queued.
        message_id: returns a new id for a job's webhook; None: no webhook is sent.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: JobStore,
        root: Path,
        ledger: Ledger,
        selection: Selection,
        *,
        on_final: OnFinal = lambda job, outputs: None,
        on_announced: Callable[[], None] = lambda: None,
        message_id: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._resolver = Resolver(store, root, ledger, selection)
        self._on_final = on_final
        self._on_announced = on_announced
        self._message_id = message_id
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open_paths: dict[str, set[str]] = {}  # path to the ids of jobs that wait for it
        self._paths_of: dict[str, set[str]] = {}  # id of a job to its open paths
        self._dirty: dict[str, None] = {}  # ids of jobs to refresh, in order
        # By job id: when to refresh a job with an empty or a pending file again.
        self._with_empty: dict[str, float] = {}
        self._with_pending: dict[str, float] = {}
        # By job id: when a job that was just refreshed ends its rest.
        self._resting: dict[str, float] = {}
        self._subscribers: dict[str, set[Callable[[], None]]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="cloud-archive-job-files", daemon=True)

    def start(self) -> None:
        """Open the store, and follow its open jobs. JobsError: it can't be opened."""
        self.store.open()
        self.store.forget(self._clock() - KEPT_SECONDS)
        for job in self.store.open_jobs():
            self._follow(job)
        self._thread.start()

    def close(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """End the thread, wait up to `timeout_seconds` for that, call every subscriber, and close the store."""
        with self._lock:
            self._stopping = True
            self._changed.notify_all()
            callbacks = [callback for found in self._subscribers.values() for callback in found]
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        for callback in callbacks:
            callback()
        self.store.close()

    # --- what ComfyUI and the pipeline report

    def note_finished(self, jobs: Iterable[Mapping[str, Any]]) -> int:
        """Store finished jobs as ComfyUI's process passes them on, and return how many. JobsError: it is not possible.

        Jobs that were passed on before are left out.
        """
        now = self._clock()
        records = [record for job in jobs if (record := finished_job(job, now)) is not None]
        added = set(self.store.add(records))
        for record in records:
            if record.job_id in added:
                self._follow(record)
                # Its files may be proven already, while the thread is busy with other jobs.
                self._notify(record.job_id)
        return len(added)

    def note_queue(self, process: str, running: Sequence[str], queued: Sequence[str]) -> None:
        """Note which jobs a ComfyUI process is running and has queued.

        Call `note_finished` with its finished jobs before. Then an unfinished job that is in neither list will never
        finish: it was removed from the queue, or its process has ended.
        """
        now = self._clock()
        known = self.store.unfinished()
        listed = {clean_text(job_id): "queued" for job_id in queued[:MAX_UNFINISHED]}
        listed |= {clean_text(job_id): "running" for job_id in running}
        is_complete = len(queued) < MAX_UNFINISHED
        changes = {
            job_id: (state, process)
            for job_id, state in listed.items()
            if known.get(job_id) != (state, process)
        }
        if changes:
            self.store.note_unfinished(changes, now)
        for job_id, (_, owner) in known.items():
            if job_id in listed or (owner == process and not is_complete):
                continue
            status, error = ("removed", _REMOVED) if owner == process else ("interrupted", _ENDED)
            if self.store.end_unfinished(job_id, status, error, now):
                self._refresh_later(job_id)
        for job_id in changes:
            self._notify(job_id)

    def note_path(self, path: str) -> None:
        """Note that something happened to a file. Quick, because the pipeline calls it for every file."""
        if path in self._open_paths:
            with self._lock:
                for job_id in self._open_paths.get(path, ()):
                    self._dirty[job_id] = None
                self._changed.notify_all()

    # --- answers

    def answer(self, job_id: str) -> dict[str, Any] | None:
        """Return the answer about a job; None: it is not known. A file that one answer calls archived stays archived.

        Raises:
            JobsError, LedgerError: the store or the ledger can't be read, or the store can't be written.
        """
        job = self.store.find(job_id)
        return None if job is None else job_json(job, self._resolve(job))

    def wants_links(self, job_id: str) -> bool:
        """Return whether the job's webhook carries links."""
        job = self.store.find(job_id)
        return job is not None and job.options.urls

    def subscribe(self, job_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, in any thread, whenever this job may have changed. Return a function that ends this."""
        with self._lock:
            self._subscribers.setdefault(job_id, set()).add(callback)

        def unsubscribe() -> None:
            with self._lock:
                callbacks = self._subscribers.get(job_id, set())
                callbacks.discard(callback)
                if not callbacks:
                    self._subscribers.pop(job_id, None)

        return unsubscribe

    # --- following

    def _follow(self, job: JobRecord) -> None:
        self._follow_paths(job.job_id, [output for output in job.outputs if output.state is None])
        self._refresh_later(job.job_id)

    def _refresh_later(self, job_id: str) -> None:
        with self._lock:
            self._dirty[job_id] = None
            self._changed.notify_all()

    def _notify(self, job_id: str) -> None:
        with self._lock:
            callbacks = list(self._subscribers.get(job_id, ()))
        for callback in callbacks:
            callback()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._stopping and (job_id := self._due_job(now := time.monotonic())) is None:
                    self._changed.wait(self._seconds_to_next(now))
                if self._stopping or job_id is None:
                    return
                del self._dirty[job_id]
            started = time.monotonic()
            try:
                self._refresh(job_id)
            except CloudArchiveError as error:
                self._postpone(job_id, str(error))
            except Exception as error:
                logger.exception("A job could not be followed")
                self._postpone(job_id, type(error).__name__)
            else:
                now = time.monotonic()
                self._resting[job_id] = now + min(_MAX_REST_SECONDS, _REST_FACTOR * (now - started))

    def _due_job(self, now: float) -> str | None:
        """Return the id of a job to refresh at `now` (monotonic seconds); None: there is none. Needs the lock."""
        for timed in (self._with_empty, self._with_pending):
            self._dirty |= {job_id: None for job_id, due in timed.items() if due <= now}
        self._resting = {job_id: end for job_id, end in self._resting.items() if end > now}
        return next((job_id for job_id in self._dirty if job_id not in self._resting), None)

    def _seconds_to_next(self, now: float) -> float | None:
        """Return the seconds until a job is due even if no event comes; None: no job will be.

        Args:
            now: as given to `_due_job`, so that a job that becomes due in between is not forgotten.
        """
        times = [
            due for timed in (self._with_empty, self._with_pending) for due in timed.values() if due > now
        ]
        times += [self._resting[job_id] for job_id in self._dirty]  # all of them rest, or one would be due
        return max(0.0, min(times) - now) if times else None

    def _postpone(self, job_id: str, cause: str) -> None:
        """Wait for a pause or the next event, then let this job be refreshed again."""
        with self._lock:
            if self._stopping:
                return
            logger.warning("The files of a job can't be followed now; trying again soon: %s", cause)
            self._changed.wait(_RETRY_SECONDS)
            self._dirty[job_id] = None

    def _refresh(self, job_id: str) -> None:
        """Store what became of a job's files, announce its end, and call its subscribers."""
        now = time.monotonic()
        due = self._with_empty.pop(job_id, now + EMPTY_SECONDS)
        self._with_pending.pop(job_id, None)
        job = self.store.find(job_id)
        if job is None or job.state != "finished":
            return
        outputs = self._resolve(job, stays_empty=due <= now)
        if any(output.state == "pending" for output in outputs):
            self._with_pending[job_id] = now + PENDING_SECONDS
        if any(output.state == "pending" and output.size_bytes == 0 for output in outputs):
            self._with_empty[job_id] = due if due > now else now + EMPTY_SECONDS
        self._follow_paths(
            job_id, [output for output in outputs if output.state in (*OPEN_STATES, *RECOVERABLE_STATES)]
        )
        if is_final(job_json(job, outputs)):
            if not job.announced:
                self._on_final(job, outputs)
                self.store.announce(job_id, job.status, self._message_id(), self._clock())
                self._on_announced()
            if not any(output.state in RECOVERABLE_STATES for output in outputs):
                self.store.close_job(job_id, job.status)
        self._notify(job_id)

    def _resolve(self, job: JobRecord, *, stays_empty: bool = False) -> list[Output]:
        """Return what became of a job's files, and store the results that can't change any more."""
        outputs = [self._resolver.resolve(job, output, stays_empty=stays_empty) for output in job.outputs]
        final = [
            resolved
            for stored, resolved in zip(job.outputs, outputs, strict=True)
            if stored.state is None and resolved.state not in (*OPEN_STATES, *RECOVERABLE_STATES)
        ]
        if final and not self.store.read_only:
            self.store.set_results(job.job_id, final)
        return outputs

    def _follow_paths(self, job_id: str, outputs: Sequence[Output]) -> None:
        """Follow these files from now on, and no other file of this job."""
        paths = {output.path for output in outputs if output.path is not None}
        with self._lock:
            for path in self._paths_of.pop(job_id, set()) - paths:
                ids = self._open_paths.get(path, set())
                ids.discard(job_id)
                if not ids:
                    self._open_paths.pop(path, None)
            for path in paths:
                self._open_paths.setdefault(path, set()).add(job_id)
            if paths:
                self._paths_of[job_id] = paths
