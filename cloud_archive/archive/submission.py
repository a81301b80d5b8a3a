"""Archive one file now because a user asks for it, and wait for the result."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import CloudArchiveError, FileChanged, FileProblem, FileUnreadable, FileVanished, StoreError
from ..files import FileVersion, stat_version
from ..intake.open_files import has_writer
from ..ledger.ledger import Ledger
from ..ledger.rows import Claim, FileRow, FileState
from .changes import ChangeSignal
from .events import UploadFailed
from .pipeline import Pipeline
from .recheck import RecheckResult, recheck


class Submission(NamedTuple):
    """The result of one request: archived, still queued, or failed with `error`.

    Attributes:
        row: the file's row; None if there is none. If `error` is None too, a program still writes to the file.
        already: the file was archived before the request.
    """

    row: FileRow | None
    error: CloudArchiveError | None = None
    already: bool = False

    @property
    def archived(self) -> bool:
        """Whether the file is proven in the bucket."""
        return self.row is not None and self.row.state is FileState.ARCHIVED


@dataclass(eq=False, slots=True)
class _Request:
    """A request that waits for a version, by its fingerprint, and the error of the version's last upload."""

    fingerprint: int
    error: CloudArchiveError | None = None


class Submissions:
    """Archives single files, whether the directory is watched or not. Safe to use from any thread."""

    def __init__(
        self, root: Path, ledger: Ledger, pipeline: Pipeline, signal: ChangeSignal, *, session_id: str
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._pipeline = pipeline
        self._signal = signal
        self._session_id = session_id
        self._lock = threading.Lock()
        # An error is kept only while a request waits for it: its traceback keeps the bytes that its frames hold.
        self._requests: list[_Request] = []

    def submit(self, path: str, timeout_seconds: float) -> Submission:
        """Archive one file now and wait for it. FileVanished: there is no such file.

        After `timeout_seconds` the upload continues in the background; a file that a program still writes to is not
        queued.
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            version = self._wait_for_writers(path, deadline)
        except FileUnreadable as unreadable:
            return Submission(None, unreadable)
        if version is None:
            return Submission(None)
        request = _Request(version.fingerprint)
        with self._lock:
            # Before the claim, so that it gets the error of whichever thread claims the version.
            self._requests.append(request)
        try:
            return self._archive(version, request, deadline)
        finally:
            with self._lock:
                self._requests.remove(request)

    def _wait_for_writers(self, path: str, deadline: float) -> FileVersion | None:
        """Return the present version once no program writes to the file; None if the time is up first.

        If this version is archived, its bytes were compared with the archived ones. Raises as `stat_version` does.
        """
        while True:
            if not has_writer(self._root, path):
                version = stat_version(self._root, path)
                known = self._ledger.find(version)
                if known is None or known.state is not FileState.ARCHIVED:
                    return version
                if recheck(self._ledger, self._root, path) not in (
                    RecheckResult.LATER,
                    RecheckResult.UNKNOWN,
                ):
                    return version
            if time.monotonic() >= deadline:
                return None
            self._signal.wait(0.2)

    def _archive(self, version: FileVersion, request: _Request, deadline: float) -> Submission:
        """Queue this version, upload it unless another thread does, and wait for the result."""
        self._ledger.add([version], priority=-1)
        found = self._ledger.find(version)
        if found is None:
            return Submission(None, self._why_without_row(version.path))
        claim = self._ledger.claim_version(f"{self._session_id}/asked", version)
        self._signal.announce()  # until bytes are sent, no event says that it is not safe to stop
        if claim is not None:
            if (watch := self._pipeline.watch) is not None:
                watch.forget(version)  # otherwise a status would count the file twice until it has settled
            worker = threading.Thread(
                target=self._upload, args=(claim,), name=f"cloud-archive-asked-{claim.row}", daemon=True
            )
            try:
                worker.start()
            except RuntimeError:  # no more threads
                self._ledger.release_later(claim)
                raise
            worker.join(max(0.0, deadline - time.monotonic()))
        row = self._wait_for(version, request, deadline)
        error = request.error
        if row is None:
            return Submission(None, error or self._why_without_row(version.path))
        if row.state is FileState.VANISHED:
            return Submission(row, error or FileVanished(version.path))
        closed = self._pipeline.gate.closed
        if error is None and closed is not None and row.state is not FileState.ARCHIVED:
            error = StoreError("PutObject", row.key, closed.failure)  # the store refuses every file now
        return Submission(row, error, already=found.state is FileState.ARCHIVED)

    def _why_without_row(self, path: str) -> CloudArchiveError:
        """Return why a queued version has no row any more: a newer version replaced it, or the file can't be read."""
        try:
            stat_version(self._root, path)
        except FileProblem as problem:
            return problem
        return FileChanged(path)

    def note_failure(self, event: UploadFailed) -> None:
        """Give the error to the requests that wait for this version."""
        self._keep(event.claim, event.error)

    def _upload(self, claim: Claim) -> None:
        try:
            error = self._pipeline.upload(claim)
        except CloudArchiveError as raised:
            error = raised
        if error is not None:
            self._keep(claim, error)
        del error
        self._signal.notify_waiters()

    def _keep(self, claim: Claim, error: CloudArchiveError) -> None:
        fingerprint = claim.version.fingerprint
        with self._lock:
            for request in self._requests:
                if request.fingerprint == fingerprint:
                    request.error = error

    def _wait_for(self, version: FileVersion, request: _Request, deadline: float) -> FileRow | None:
        """Return the row of this version once its upload is over, or as it is when the time is up."""
        while True:
            seen = self._signal.count
            row = self._ledger.find(version)
            if row is None or row.state not in (FileState.PENDING, FileState.UPLOADING, FileState.FAILED):
                return row
            # The ledger holds a failure a moment before the request has its error.
            if row.state is FileState.FAILED and request.error is not None:
                return row
            left = deadline - time.monotonic()
            if left <= 0:
                return row
            self._signal.wait(min(left, 1.0), seen)
