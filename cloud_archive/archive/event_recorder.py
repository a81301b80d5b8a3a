"""Count and log the events of the pipeline."""

from __future__ import annotations

import logging
import threading
import time

from ..errors import CloudArchiveError, StoreError
from ..ledger.rows import Claim
from ..store.evidence import Proof
from ..text import format_bytes
from ..upload.outcome import Outcome
from .events import Event, FileArchived, FileGone, LocalFileFreed, UploadFailed
from .gate import Gate
from .metrics import Recorder
from .session import Session

logger = logging.getLogger("cloud_archive.archiver")


class EventRecorder:
    """Turns events into counters, metrics, notices and log lines. Safe to use from any thread."""

    def __init__(self, session: Session, metrics: Recorder, gate: Gate) -> None:
        self._session = session
        self._metrics = metrics
        self._gate = gate
        self._lock = threading.Lock()
        # `Closed.refusals` when a refusal was last logged as a warning; 0 after a success.
        self._logged_refusals = 0
        self._warned_without_proof = False

    def record(self, event: Event) -> None:
        """Count and log this event; no-op for most kinds of events."""
        if isinstance(event, FileArchived):
            self._archived(event.claim, event.outcome)
        elif isinstance(event, UploadFailed):
            self._failed(event.claim, event.error, event.next_try)
        elif isinstance(event, FileGone):
            self._session.vanished()
            self._metrics.vanished(event.claim.version.size_bytes)
            self._session.notice(f"{event.claim.version.path} was deleted or emptied before it was archived.")
        elif isinstance(event, LocalFileFreed):
            self._metrics.freed(event.size_bytes)

    def _archived(self, claim: Claim, outcome: Outcome) -> None:
        version = claim.version
        already = outcome.already and not outcome.ours
        with self._lock:
            logged, self._logged_refusals = self._logged_refusals, 0
        if logged:
            logger.info("The store accepts uploads again")
        self._session.archived(version, outcome.key, already=already)
        self._metrics.archived(version.size_bytes, already=already, seen_at=claim.seen_at)
        took = "" if claim.seen_at is None else f", {max(0.0, time.time() - claim.seen_at):.1f} s"
        what = "Already archived" if already else "Archived"
        logger.info(
            "%s %s as %s (%s%s)", what, version.path, outcome.key, format_bytes(version.size_bytes), took
        )
        if outcome.proof is Proof.ACCEPTED and not self._warned_without_proof:
            self._warned_without_proof = True
            self._session.notice(
                "These credentials may not read from the bucket, and the store confirms no checksums,"
                " so an upload counts as archived once the store has accepted it."
                " Allow s3:GetObject to have uploads proven."
            )

    def _failed(self, claim: Claim, error: CloudArchiveError, next_try: float | None) -> None:
        self._metrics.failed(error, claim.version.size_bytes, again=next_try is not None)
        what = "will be retried" if next_try is not None else "waits until this is fixed"
        message = f" [{error.store_message}]" if isinstance(error, StoreError) and error.store_message else ""
        level = logging.WARNING if self._is_news(error, next_try) else logging.DEBUG
        logger.log(level, "%s %s: %s%s", claim.version.path, what, error, message)

    def _is_news(self, error: CloudArchiveError, next_try: float | None) -> bool:
        """Return whether to log this failure as a warning.

        While the store refuses every upload, one trial after another fails: the 1st, 2nd, 4th, 8th … is news.
        """
        closed = self._gate.closed
        if closed is None or next_try is None or not isinstance(error, StoreError):
            return True
        if error.failure.code != closed.failure.code:
            return True
        with self._lock:
            if closed.refusals == self._logged_refusals or closed.refusals & (closed.refusals - 1):
                return False
            self._logged_refusals = closed.refusals
        return True
