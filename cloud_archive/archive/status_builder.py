"""Build the status that users see, and the gauges for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..catalog.identity import asset_id
from ..config.settings import Settings
from ..intake.selection import Selection
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import Ledger
from ..ledger.rows import FileState
from .active_uploads import ActiveUpload
from .connection import ConnectionVerifier
from .directory_watch import DirectoryWatch
from .metrics import Gauges
from .pipeline import Pipeline, Work
from .session import RecentUpload, Session
from .status import MAX_ERRORS, ActiveFile, Destination, State, Status, WaitingEntry, failure_sentences
from .unarchived import unmatched_sentences

_SHOWN_FAILURES = 40
_SHOWN_WAITING = 50


class StatusBuilder:
    """Builds `Status` and `Gauges`. Safe to use from any thread."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        ledger: Ledger,
        *,
        pipeline: Pipeline,
        connection: ConnectionVerifier,
        selection: Selection,
        known_root: KnownRoot,
        session: Session,
        session_id: str,
    ) -> None:
        self._settings = settings
        self._root = root
        self._ledger = ledger
        self._pipeline = pipeline
        self._connection = connection
        self._selection = selection
        self._known_root = known_root
        self._session = session
        self._session_id = session_id

    def status(self, is_safe: Callable[[], bool]) -> Status:
        """Return the status as it is now.

        Args:
            is_safe: returns whether it is safe to stop. It may scan, so it is called before state, errors and tally are
                read, which a scan changes.
        """
        pipeline = self._pipeline
        watch = pipeline.watch
        work = pipeline.work()
        totals, active = work.totals, work.active
        counters = self._session.counters()
        pending = totals.unfinished.files + work.unqueued_files
        pending_bytes = totals.unfinished.size_bytes + work.unqueued_bytes
        failed = totals.given_up_files
        unsent_bytes = max(0, pending_bytes - sum(a.sent_bytes for a in active))
        # A status that counts pending files is never safe, even if the last one has just been archived.
        safe = not work.is_left and is_safe()
        tally = pipeline.tally
        state = self._state(watch, work)
        errors = self._errors(watch)
        if watch is not None and state is State.IDLE and not safe and watch.slow_scan:
            errors = (*errors, watch.slow_scan)[-MAX_ERRORS:]
        return Status(
            running=watch is not None and self._ledger.survives_kill,
            session_id=self._session_id,
            state=state,
            total_files=counters.uploaded + counters.already + pending + failed,
            uploaded_files=counters.uploaded,
            failed_files=failed,
            already_archived_files=counters.already,
            pending_files=pending,
            pending_bytes=pending_bytes,
            vanished_files=counters.vanished,
            skipped_files=tally.skipped_files,
            baseline_files=tally.baseline,
            unchecked_files=0 if watch is None else watch.rechecker.unchecked_files,
            retrying_files=totals.waiting.files + totals.tried.files,
            unsent_bytes=unsent_bytes,
            archived_files=totals.archived.files,
            archived_bytes=totals.archived.size_bytes,
            pruned_files=totals.pruned.files,
            last_upload_time=counters.last_upload_time,
            errors=errors,
            recent_uploads=self._with_assets(counters.recent),
            safe_to_stop=safe,
            active=self._active_files(active),
            waiting=_waiting_entries(watch),
            rate_bytes_per_second=counters.rate_bytes_per_second if pending else 0,
            seconds_left=counters.seconds_left(pending, unsent_bytes),
            destination=destination_of(self._settings),
            watched_directory=str(self._root),
            watching=watch.watcher.description if watch else "",
            connection_verified=self._connection.verified,
            keeps_local_files=not self._settings.frees_local_files,
            overwrite_risk=self._overwrite_risk(),
        )

    def _with_assets(self, recent: tuple[RecentUpload, ...]) -> tuple[RecentUpload, ...]:
        """Add the asset's id to each upload, so that pages can show its thumbnail."""
        settings = self._settings
        if "off" in (settings.catalog, settings.gallery):
            return recent
        return tuple(one._replace(asset_id=str(asset_id(settings.bucket, one.s3_key))) for one in recent)

    def _overwrite_risk(self) -> str:
        settings = self._settings
        no_risk = not settings.conflict_rename or "{session_id}" in settings.prefix
        return "" if no_risk else self._connection.overwritable

    def gauges(self) -> Gauges:
        """Return the numbers that the metrics show, as they are now."""
        watch = self._pipeline.watch
        work = self._pipeline.work()
        seen_at = [a.seen_at for a in work.active if a.seen_at is not None]
        oldest = self._ledger.oldest_waiting()
        return Gauges(
            work.totals,
            unqueued_files=work.unqueued_files,
            unqueued_bytes=work.unqueued_bytes,
            oldest_seen_at=min([*seen_at, *([] if oldest is None else [oldest])], default=None),
            watching=watch is not None and watch.reconciler.first_done,
            problem=watch is not None and bool(watch.problems()),
            has_work=work.is_left,
        )

    def _active_files(self, active: tuple[ActiveUpload, ...]) -> tuple[ActiveFile, ...]:
        """Return the uploads to show, those with unsent bytes first; at most one per worker.

        There may be more, because the small files of a group stay active until the group's commit.
        """
        first = sorted(active, key=lambda a: a.sent_bytes >= a.size_bytes)[: self._settings.workers]
        return tuple(ActiveFile(a.name, a.size_bytes, a.sent_bytes, a.key or "", a.path) for a in first)

    def _state(self, watch: DirectoryWatch | None, work: Work) -> State:
        if watch is None:
            return State.STOPPED
        if watch.late_scan or not watch.reconciler.root_is_known:
            return State.RETRYING
        if not watch.reconciler.first_done:
            return State.STARTING
        if not self._connection.verified:
            return State.STARTING if self._connection.failure is None else State.RETRYING
        if work.totals.unfinished.files + work.unqueued_files == 0:
            return State.IDLE
        settling = work.unqueued_files > watch.unreadable_files
        uploading = self._pipeline.gate.closed is None and (work.totals.pending.files or work.active)
        return State.UPLOADING if settling or uploading else State.RETRYING

    def _errors(self, watch: DirectoryWatch | None) -> tuple[str, ...]:
        found = list(self._session.notices)
        if watch is not None:
            found += watch.problems()
            found += unmatched_sentences(self._selection, watch.reconciler.tally)
        elif (problem := self._known_root.find_problem()) is not None:
            found.append(problem)
        rows = self._ledger.rows(states=(FileState.FAILED,), limit=_SHOWN_FAILURES)
        closed = self._pipeline.gate.closed
        if closed is not None:
            # The failure that closed the gate is shown once, at the end, and not for each file.
            rows = [row for row in rows if row.next_try is None or row.code != closed.failure.code]
        found += failure_sentences(rows)
        ledger_problem = self._pipeline.ledger_problem
        if ledger_problem:
            found.append(ledger_problem)
        unverified = self._connection.failure
        if unverified is not None and (closed is None or closed.failure.code != unverified.code):
            found.append(unverified.sentence)
        if closed is not None:
            found.append(closed.failure.sentence)
        return tuple(found[-MAX_ERRORS:])


def destination_of(settings: Settings) -> Destination:
    """Return endpoint, bucket and prefix as users see them."""
    return Destination(*map(settings.shown, (settings.endpoint_label, settings.bucket, settings.prefix)))


def _waiting_entries(watch: DirectoryWatch | None) -> tuple[WaitingEntry, ...]:
    if watch is None:
        return ()
    return tuple(
        WaitingEntry(w.path.rpartition("/")[2], w.size_bytes, w.reason, w.path)
        for w in watch.waiting()[:_SHOWN_WAITING]
    )
