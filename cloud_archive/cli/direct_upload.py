"""Archive single files without an engine: the same ledger (in memory), workers, naming and proof."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..archive.events import Event, FileArchived, FileGone, FileModified, UploadFailed
from ..archive.gate import Closed
from ..archive.workers import WorkerPool
from ..config.settings import Settings
from ..errors import CloudArchiveError, FileProblem, StoreError
from ..executor import CallTimeout, call_within
from ..files import FileVersion, stat_version
from ..intake.open_files import has_writer
from ..keys import PrefixTemplate, object_key
from ..ledger.ledger import Ledger
from ..ledger.rows import Claim
from ..store.base import ObjectStore
from ..store.s3 import S3Store
from ..upload.outcome import Outcome
from ..upload.uploader import Uploader
from .give_up import GIVE_UP_SECONDS, Refusals

_POLL_SECONDS = 0.1
_ABORT_SECONDS = 5.0  # at the end, for all unfinished multipart uploads


@dataclass(frozen=True, slots=True)
class Item:
    """A file to archive: where it is, and its path below the prefix."""

    local: Path
    path: str


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The result of one file: `key` if it was archived, else `cause`; `already` if the bucket held its bytes before."""

    key: str | None = None
    sha256: str | None = None
    size_bytes: int = 0
    already: bool = False
    cause: str = ""


class DirectUpload:
    """Archives files.

    Args:
        session_id: for the prefix and the objects' metadata.
        on_done: called once for each item, by the thread that calls `run`.
        on_bytes: called about ten times a second with the bytes sent so far.
        give_up_seconds: see `GIVE_UP_SECONDS`.
    """

    def __init__(
        self,
        settings: Settings,
        items: Sequence[Item],
        *,
        session_id: str,
        on_done: Callable[[Item, UploadResult], None] = lambda item, found: None,
        on_bytes: Callable[[int], None] = lambda sent: None,
        make_store: Callable[[Settings], ObjectStore] = S3Store,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self._settings = settings
        # The ledger knows each file by its absolute path, because these files share no directory.
        self._items = {item.local.as_posix(): item for item in items}
        self._session_id = session_id
        self._on_done = on_done
        self._on_bytes = on_bytes
        self._give_up_seconds = give_up_seconds
        self._template = PrefixTemplate.parse(settings.prefix)
        self._store = make_store(settings)
        self._ledger = Ledger(None)
        self._lock = threading.Lock()
        self._results: dict[str, UploadResult] = {}
        self._reported = 0  # of the results
        self._last_error: dict[str, CloudArchiveError] = {}
        self._changed: set[str] = set()
        self._done_bytes = 0

    def run(self) -> Mapping[Item, UploadResult]:
        """Archive the files and return the result of each. A KeyboardInterrupt aborts uploads under way."""
        from ..daemon.process import raise_open_files_limit

        raise_open_files_limit()
        self._ledger.open()
        pool = WorkerPool(
            self._ledger,
            self._make_uploader,
            Path("/"),
            count=min(self._settings.workers, max(1, len(self._items))),
            name=self._session_id,
            on_event=self._on_event,
        )
        try:
            unqueued = set(self._items)
            pool.start()
            self._wait(pool, unqueued)
        finally:
            pool.stop(2.0)
            with contextlib.suppress(CallTimeout):
                call_within(_ABORT_SECONDS, self._abandon_multiparts, "cloud-archive-abort")
            self._store.close()
            self._ledger.close()
            self._report()
        return {item: self._results[path] for path, item in self._items.items()}

    def _make_uploader(self, parts: Executor | None) -> Uploader:
        return Uploader(
            self._store,
            Path("/"),
            make_key=self._key_for,
            session_id=self._session_id,
            rename=self._settings.conflict_rename,
            part_executor=parts,
            on_aborted=self._ledger.forget_abandoned,
        )

    def _abandon_multiparts(self) -> None:
        """Abort unfinished multipart uploads, because no later run knows this ledger."""
        uploader = self._make_uploader(None)
        self._ledger.release_all(retry_failed=True)
        while (claim := self._ledger.claim("ending")) is not None:
            if claim.key and claim.upload_id:
                uploader.abort(claim.key, claim.upload_id)
        for key, upload_id in self._ledger.abandoned(1000):
            uploader.abort(key, upload_id)

    def _key_for(self, path: str) -> str:
        prefix = self._template.render(datetime.now(), self._session_id)  # local time, as users see it
        return object_key(prefix, self._items[path].path)

    # --- waiting

    def _wait(self, pool: WorkerPool, unqueued: set[str]) -> None:
        since, furthest, done, refusals = time.monotonic(), 0, -1, Refusals()
        unqueued_bytes = 0
        while len(self._results) < len(self._items):
            self._report()
            if self._queue(unqueued):
                pool.kick()
            sent = self._done_bytes + sum(active.sent_bytes for active in pool.active())
            self._on_bytes(sent)
            size_bytes = sum(current_size_bytes(Path(path)) for path in unqueued)
            if sent > furthest or len(self._results) > done or size_bytes != unqueued_bytes:
                since, furthest, done = time.monotonic(), max(sent, furthest), len(self._results)
                unqueued_bytes = size_bytes
            closed = pool.gate.closed
            if refusals.are_final(closed):
                return self._give_up(closed, "")
            if time.monotonic() - since >= self._give_up_seconds:
                waited = f" Given up after {self._give_up_seconds:.0f} s without success."
                return self._give_up(closed, waited)
            time.sleep(_POLL_SECONDS)
            if self._ledger.requeue_due():
                pool.kick()
        return None

    def _queue(self, unqueued: set[str]) -> bool:
        """Queue the files that no program writes to any more, as they are now."""
        with self._lock:
            unqueued |= self._changed
            self._changed.clear()
        ready: list[FileVersion] = []
        for path in [path for path in self._items if path in unqueued]:
            if has_writer(Path("/"), path):
                continue
            unqueued.discard(path)
            try:
                version = stat_version(Path("/"), path)
            except FileProblem as error:
                self._end(path, UploadResult(cause=_cause(error)))
                continue
            ready.append(version)
        return bool(ready) and self._ledger.add(ready) > 0

    def _give_up(self, closed: Closed | None, waited: str) -> None:
        for path in self._items:
            if path in self._results:
                continue
            error = self._last_error.get(path)
            if error is not None:
                cause = _cause(error)
            elif closed is not None:
                cause = closed.failure.sentence
            else:
                cause = (
                    "A program is still writing to it."
                    if has_writer(Path("/"), path)
                    else "The store did not answer."
                )
            self._end(path, UploadResult(cause=cause + waited))

    def _end(self, path: str, found: UploadResult) -> None:
        with self._lock:
            self._results.setdefault(path, found)

    def _report(self) -> None:
        with self._lock:
            new = list(self._results.items())[self._reported :]
        for path, found in new:
            self._reported += 1
            self._on_done(self._items[path], found)

    # --- what the workers report

    def _on_event(self, event: Event) -> None:
        if isinstance(event, FileArchived):
            self._note_archived(event.claim, event.outcome)
        elif isinstance(event, UploadFailed):
            self._note_failed(event)
        elif isinstance(event, FileGone):
            cause = "It was deleted or emptied before it was archived."
            self._end(event.claim.version.path, UploadResult(cause=cause))
        elif isinstance(event, FileModified):
            with self._lock:
                self._changed.add(event.path)

    def _note_archived(self, claim: Claim, outcome: Outcome) -> None:
        if outcome.changed:
            return  # its newer version is still to come
        version = claim.version
        self._done_bytes += version.size_bytes
        already = outcome.already and not outcome.ours
        self._end(version.path, UploadResult(outcome.key, outcome.sha256, version.size_bytes, already))

    def _note_failed(self, failed: UploadFailed) -> None:
        path = failed.claim.version.path
        self._last_error[path] = failed.error
        if failed.next_try is None:
            self._end(path, UploadResult(cause=_cause(failed.error)))


def current_size_bytes(file: Path) -> int:
    """Return the size of `file`; 0 if it is gone by now, which `DirectUpload` reports."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


def _cause(error: CloudArchiveError) -> str:
    message = f" [{error.store_message}]" if isinstance(error, StoreError) and error.store_message else ""
    return f"{error}{message}"
