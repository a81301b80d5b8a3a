"""Upload one claimed file and commit the result.

| how the attempt ended | what the ledger records |
| --- | --- |
| proven in the bucket | archived |
| the file is gone, or was emptied | vanished |
| the file changed during the upload | pending again; its new version takes over the row once it has settled |
| the same, and the ledger knows the new version already (a row or the baseline) | the row is deleted |
| the archive stopped, and the upload was cut off | pending again |
| anything else | failed, with the next try from `RetryPolicy` |
| the ledger can't be written | nothing; the next call that claims, or `requeue_due`, releases this claim |
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import CloudArchiveError, FileChanged, FileProblem, FileVanished, LedgerError, RootReplaced
from ..files import stat_version
from ..intake.open_files import has_writer
from ..ledger.ledger import Ledger
from ..ledger.rows import Claim, ProvenUpload
from ..upload.outcome import Outcome
from ..upload.uploader import Uploader
from .active_uploads import ActiveUploads, UploadProgress
from .events import (
    FileArchived,
    FileGone,
    FileModified,
    OnEvent,
    UploadFailed,
    UploadProgressed,
    UploadsEnded,
)
from .retry_policy import RetryPolicy

logger = logging.getLogger("cloud_archive.worker")

HOLD_CHANGED_SECONDS = 2.0  # meanwhile the changed file settles, and its new version takes over the row

Send = Callable[["ClaimJournal", Callable[[int], None]], Outcome]


class ClaimUploads:
    """Uploads claimed files and commits the outcomes. Safe to use from several threads; a claim belongs to one thread.

    Methods that commit raise LedgerError if they can't.

    Args:
        on_event: receives the result of each claim in the thread that uploads it, and UploadProgressed from any thread.
        check_root: raises RootReplaced if the watched directory is not the known one.
        on_more_admitted: called when the gate has opened, or lets one more upload in.
    """

    def __init__(
        self,
        ledger: Ledger,
        uploader: Uploader,
        root: Path,
        policy: RetryPolicy,
        *,
        on_event: OnEvent,
        check_root: Callable[[], None],
        on_more_admitted: Callable[[], None],
    ) -> None:
        self.ledger = ledger
        self.uploader = uploader
        self.active = ActiveUploads()
        self.cut_off = False  # set when the workers stop: then no further part of an upload under way is sent
        self._root = root
        self._policy = policy
        self._on_event = on_event
        self._check_root = check_root
        self._on_more_admitted = on_more_admitted

    def upload(self, claim: Claim) -> CloudArchiveError | None:
        """Upload one claimed version and commit the outcome. Return why it is not archived; None if it is."""
        try:
            outcome = self.attempt(claim, partial(self.uploader.upload, claim))
            if isinstance(outcome, CloudArchiveError):
                return outcome
            self.finish([(claim, outcome)])
        except BaseException:
            # Otherwise the row would stay claimed until a restart.
            self.ledger.release_later(claim)
            raise
        finally:
            self.end([claim])
        return None

    def attempt(self, claim: Claim, send: Send, *, recorded: bool = False) -> Outcome | CloudArchiveError:
        """Make one attempt, and return the proof or why it failed. Commit a failure; `finish` commits a success.

        Args:
            send: uploads and proves; called with the journal and a callback for the bytes sent so far.
            recorded: the ledger has already recorded the attempt with the base key (`record_attempts`).
        """
        progress = self.active.begin(claim)
        try:
            outcome = send(ClaimJournal(self.ledger, claim, progress, recorded), self._reporter(progress))
            # Now, not in `finish`: the gate must count this success before the next upload of a group is refused.
            codes = self._policy.store_accepted()
            if codes is not None:
                self.ledger.requeue_waiting(codes)
                self._on_more_admitted()
            return outcome
        except LedgerError:
            raise
        except CloudArchiveError as error:
            self.fail(claim, error)
            return error
        except Exception as error:
            if self.cut_off:
                self.ledger.release(claim)
                return CloudArchiveError("The archive was stopped.")
            logger.exception("Archiving %s failed in an unexpected way", claim.version.path)
            internal = CloudArchiveError(f"An internal error: {type(error).__name__}.")
            self._mark_failed(claim, internal)
            return internal

    def finish(self, done: Sequence[tuple[Claim, Outcome]]) -> None:
        """Record in one commit that the bucket holds these files, and report each."""
        self.ledger.mark_all_archived(
            [
                ProvenUpload(c, o.key, o.sha256, o.etag, o.ours or not o.already, o.base_key, o.read)
                for c, o in done
            ]
        )
        again = set[int]()
        for claim, outcome in done:
            again |= self._policy.archived(claim.row)
            self._on_event(FileArchived(claim, outcome))
            if outcome.changed:
                self._on_event(FileModified(claim.version.path))
        if again and self.ledger.retry_rows(sorted(again)):
            self._on_more_admitted()

    def fail(self, claim: Claim, error: CloudArchiveError) -> None:
        """Commit why this version is not in the bucket, and report it."""
        if isinstance(error, FileVanished):
            self._mark_vanished(claim)
        elif isinstance(error, FileChanged):
            self._requeue_changed(claim)
        else:
            self._mark_failed(claim, error)

    def end(self, claims: Sequence[Claim]) -> None:
        """Remove the uploads of these claims from the active ones.

        Call it after the results were reported: a status without active uploads must have counted all of them.
        """
        self.active.end(claims)
        self._on_event(UploadsEnded())

    def _reporter(self, progress: UploadProgress) -> Callable[[int], None]:
        def report(sent_bytes: int) -> None:
            progress.sent_bytes = min(sent_bytes, progress.claim.version.size_bytes)
            self._on_event(UploadProgressed())

        return report

    def _mark_vanished(self, claim: Claim) -> None:
        try:
            self._check_root()
        except RootReplaced as error:
            self._mark_failed(claim, error)
            return
        self._drop_multipart(claim)
        self.ledger.mark_vanished(claim)
        self._on_event(FileGone(claim))

    def _requeue_changed(self, claim: Claim) -> None:
        """End the claim, because the file changed. A file that is empty now and has no known writer counts as gone."""
        path = claim.version.path
        try:
            now = stat_version(self._root, path)
        except FileProblem:
            now = None  # the next attempt reports why
        if now is not None and now.size_bytes == 0 and has_writer(self._root, path) is not True:
            self._mark_vanished(claim)
            return
        other = now is not None and now.fingerprint != claim.version.fingerprint
        if now is not None and other and not self.ledger.unknown([now]):
            # The present version was queued during the upload, or the file is again as it was before: no later
            # version would take over this row.
            self._drop_multipart(claim)
            self.ledger.drop(claim)
        else:
            self.ledger.release(claim, hold_seconds=HOLD_CHANGED_SECONDS)
        self._on_event(FileModified(path))

    def _mark_failed(self, claim: Claim, error: CloudArchiveError) -> None:
        decision = self._policy.decide(claim, error)
        self.ledger.mark_failed(
            claim,
            code=decision.code,
            cause=decision.cause,
            cure=decision.cure,
            next_try=decision.next_try,
        )
        self._on_event(UploadFailed(claim, error, decision.next_try))

    def _drop_multipart(self, claim: Claim) -> None:
        if claim.upload_id and claim.key:
            self.ledger.abandon_multipart(claim, claim.key, claim.upload_id)
            self.uploader.abort(claim.key, claim.upload_id)


@dataclass(slots=True)
class ClaimJournal:
    """A `Journal` (upload/outcome.py) for one claim, kept in the ledger; see `ClaimUploads.attempt` for `recorded`."""

    ledger: Ledger
    claim: Claim
    progress: UploadProgress
    recorded: bool = False

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None:
        if not (self.recorded and key == base_key):
            self.ledger.record_attempt(self.claim, sha256=sha256, base_key=base_key, key=key)
            self.recorded = False  # the ledger has this key now, and the base key may follow
        self.progress.key = key

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        self.ledger.record_multipart(self.claim, upload_id, part_size_bytes)

    def abandon(self, key: str, upload_id: str) -> None:
        self.ledger.abandon_multipart(self.claim, key, upload_id)
