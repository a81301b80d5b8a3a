"""The engine, which routes and commands call to archive one directory. It always has a status."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..catalog.catalog import Catalog
from ..config.settings import load_settings
from ..errors import CloudArchiveError, FileVanished, LedgerError, RequestRefused
from ..jobs.records import with_relative_folders
from ..maintenance.shared_check import CheckAnswer, SharedCheck
from ..store.s3 import S3Store
from ..text import count_noun, end_sentence
from .archive import Archiver
from .file_pages import Page, ledger_page, unarchived_page
from .host import ArchiveHost
from .job_answers import job_answer
from .metrics import NOT_COUNTED, NullRecorder, recorder
from .notifier import Notifier, StatusCallback
from .open_archive import ArchiveParts, StoreFactory
from .ownership import Ownership
from .remainder import Remainder
from .status import MAX_ERRORS, Destination, State, Status
from .status_builder import destination_of
from .upload_request import UploadAnswer, contained_path, upload_answer

if TYPE_CHECKING:
    from ..sharing.share import ShareOrder


class Engine:
    """The facade behind the routes and the command.

    Don't call it in an event loop: a method may block, unless its docstring says that it does not.

    Args:
        state_base, prefer_environment, machine_wide: see `Ownership`.
        environ: the environment variables with the settings; default: those of this process.
        make_root: make the watched directory if it is missing.
        backfill: used if CLOUD_ARCHIVE_BACKFILL is not set.
        parent_started_at: when ComfyUI started, in seconds since 1970: what it wrote since then is new.
        orphaned: returns whether the process that this engine serves has ended; such an engine hands over when asked.
        counts_metrics: if False, prometheus-client is not loaded, and `metrics_text` raises RequestRefused.
    """

    def __init__(
        self,
        root: Path,
        *,
        state_base: Path | None = None,
        environ: Mapping[str, str] | None = None,
        make_root: bool = False,
        backfill: str | None = None,
        parent_started_at: float | None = None,
        make_store: StoreFactory = S3Store,
        orphaned: Callable[[], bool] = lambda: False,
        prefer_environment: bool = False,
        machine_wide: bool = True,
        counts_metrics: bool = True,
    ) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - symlinks stay as they are
        self.session_id = str(uuid.uuid4())
        started_at = time.time()
        self.machine_wide = machine_wide
        self._environ = os.environ if environ is None else environ
        self._notifier = Notifier(self._push_status)
        self._metrics = recorder() if counts_metrics else NullRecorder(NOT_COUNTED)
        self._hurry = threading.Event()  # set when no caller waits for a drain any longer
        self._check = SharedCheck(lambda: load_settings(self._environ))
        self.ownership = Ownership(
            self.root,
            self._environ,
            state_base=state_base,
            prefer_environment=prefer_environment,
            machine_wide=machine_wide,
            orphaned=orphaned,
        )
        self._host = ArchiveHost(
            ArchiveParts(
                root=self.root,
                environ=self._environ,
                backfill=backfill,
                make_store=make_store,
                session_id=self.session_id,
                session_started_at=started_at,
                started_at=min(started_at, parent_started_at or started_at),
                metrics=self._metrics,
                on_change=self._notifier.notify,
            ),
            self.ownership,
            make_root=make_root,
            on_begin=lambda: self.on_begin(),
            on_standby=lambda: self.on_standby(),
        )
        self.on_begin: Callable[[], None] = lambda: None  # see `ArchiveHost`
        self.on_standby: Callable[[], None] = lambda: None  # see `ArchiveHost`

    # --- life cycle

    def prepare(self) -> Path:
        """See `Ownership.prepare`."""
        return self.ownership.prepare()

    def start(self, *, autostart: bool | None = None) -> None:
        """See `ArchiveHost.start`."""
        self._notifier.start()
        self._host.start(autostart=autostart)

    def drain(self, timeout_seconds: float) -> bool:
        """See `OpenArchive.drain`; True if there is no archiver."""
        opened = self._host.opened
        return True if opened is None else opened.drain(timeout_seconds, self._hurry.is_set)

    def write_catalog(self, timeout_seconds: float) -> None:
        """See `Catalog.flush`; `stop_draining` ends it."""
        opened = self._host.opened
        if opened is not None:
            opened.catalog.flush(timeout_seconds, self._hurry.is_set)

    def stop_draining(self) -> None:
        """Let `drain` and `write_catalog` return soon, also later ones. Does not block."""
        self._hurry.set()

    def close(self, grace_seconds: float = 30.0) -> list[str]:
        """See `ArchiveHost.close`."""
        remaining = self._host.close(grace_seconds)
        self._notifier.stop()
        return remaining

    def request_handover(self) -> bool:
        """See `Ownership.agree_to_handover`; also ends a drain."""
        if not self.ownership.agree_to_handover():
            return False
        self.stop_draining()
        return True

    def wait_for_handover(self) -> None:
        """See `Ownership.wait_for_handover`."""
        self.ownership.wait_for_handover()

    # --- state

    @property
    def state_directory(self) -> Path | None:
        """The state directory; None before `prepare`."""
        return self.ownership.state_directory

    @property
    def remainder(self) -> Remainder | None:
        """See `ArchiveHost.remainder`."""
        return self._host.remainder

    @property
    def handed_over(self) -> bool:
        """See `Ownership.handed_over`."""
        return self.ownership.handed_over

    @property
    def has_scanned(self) -> bool:
        """See `Archiver.has_scanned`; False while there is no archiver."""
        opened = self._host.opened
        return opened is not None and opened.archiver.has_scanned

    @property
    def will_replace_ledger(self) -> bool:
        """Whether the ledger is in memory, and will replace the file on disk."""
        opened = self._host.opened
        return opened is not None and opened.ledger.saved_as is not None

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables with the settings."""
        return self._environ

    @property
    def problems(self) -> tuple[str, ...]:
        """Why there is no archiver, or why it does not watch; empty if there is no such fault."""
        return tuple(self._host.problems)

    def archiver(self) -> Archiver:
        """Return the archiver. CloudArchiveError: there is none; the message says why."""
        return self._host.archive().archiver

    def status(self, scan: bool = True, *, recent: bool = False, heartbeat: bool = False) -> Status:
        """See `Archiver.status`. If there is no archiver, or the ledger can't be read, the status says why."""
        opened = self._host.opened
        if opened is None:
            return self._status_without_archiver()
        archiver = opened.archiver
        about_to_watch = self._host.is_about_to_watch  # asked first: then a watch can't begin unseen
        try:
            found = archiver.status(scan=scan, recent=recent, heartbeat=heartbeat)
        except LedgerError as error:
            return Status(
                running=archiver.running,
                session_id=self.session_id,
                state=State.UNAVAILABLE,
                errors=(str(error),),
                destination=destination_of(archiver.settings),
                watched_directory=str(self.root),
                keeps_local_files=not archiver.settings.frees_local_files,
            )
        webhooks = opened.open_jobs.problems()
        return replace(
            found,
            state=State.STARTING if about_to_watch and found.state is State.STOPPED else found.state,
            errors=(*self._host.problems, *found.errors, *webhooks)[-MAX_ERRORS:],
            waiting_webhooks=opened.open_jobs.waiting_webhooks(),
            unwritten_rows=opened.catalog.unwritten_rows(),
        )

    def _status_without_archiver(self) -> Status:
        problems, settings = self._host.problems, self._host.settings
        if settings is None:
            state = State.NOT_CONFIGURED if problems else State.STARTING
        elif problems:
            state = State.UNAVAILABLE
        else:
            state = State.STANDBY if self.ownership.stands_by else State.STARTING
        errors = list(problems)
        if state is State.STANDBY:
            errors.append("Another process is archiving this directory. This one takes over when it ends.")
        return Status(
            running=False,
            session_id=self.session_id,
            state=state,
            errors=tuple(errors),
            destination=Destination() if settings is None else destination_of(settings),
            watched_directory=str(self.root),
            keeps_local_files=settings is None or not settings.frees_local_files,
        )

    def still_safe(self) -> bool:
        """See `Safety.still_safe`; False while there is no archiver. Does not block."""
        opened = self._host.opened
        return opened is not None and opened.archiver.safety.still_safe()

    def subscribe(self, callback: StatusCallback) -> Callable[[], None]:
        """See `Notifier.subscribe`. Does not block."""
        return self._notifier.subscribe(callback)

    def _push_status(self) -> dict[str, Any]:
        return self.status(recent=True).to_json()

    # --- routes; each may raise CloudArchiveError, whose message says why

    def start_watching(self) -> str:
        """`POST /cloud-sync/start`."""
        return f"Archiving {self.root}." if self._host.start_watching() else "Already archiving."

    def stop_watching(self) -> str:
        """`POST /cloud-sync/stop`: does not wait for uploads under way, which finish."""
        try:
            opened = self._host.keep_from_watching()
        except CloudArchiveError as error:  # nothing is watched
            return f"Already stopped. {end_sentence(str(error))}"
        archiver = opened.archiver
        was_running = archiver.running
        archiver.pause()
        opened.catalog.write_soon()
        status = archiver.status(scan=False)
        active = len(status.active)
        parts = ["Stopped." if was_running else "Already stopped."]
        if active:
            parts.append(f"{count_noun(active, 'upload')} in progress will finish.")
        if (waiting := status.pending_files - active) > 0:
            parts.append(f"{count_noun(waiting, 'file')} will wait until you start again.")
        return " ".join(parts)

    def upload(self, file_path: str, timeout_seconds: float = 20.0) -> UploadAnswer:
        """`POST /cloud-sync/upload`: archive one file and wait. RequestRefused: no file there can be archived."""
        path = contained_path(self.root, file_path)
        archiver = self.archiver()
        if archiver.is_own(path):
            raise RequestRefused(403, "This is one of Cloud Archive's own files, which are never archived.")
        try:
            found = archiver.submit(path, timeout_seconds)
        except FileVanished:
            raise RequestRefused(404, f"File not found: {file_path}") from None
        return upload_answer(path, found)

    def rescan(self, accept_root: bool = False) -> str:
        """`POST /cloud-sync/rescan`. `accept_root`: first accept the directory that is there now as the known one."""
        archiver = self.archiver()
        if accept_root:
            archiver.known_root.accept()
            if not archiver.running:
                return f"Accepted {self.root}."
        found = archiver.rescan()
        return f"{count_noun(found, 'new or changed file')} found."

    def retry(self) -> str:
        """`POST /cloud-sync/retry`."""
        count = self.archiver().retry()
        return f"Retrying {count_noun(count, 'file')}." if count else "Nothing to retry."

    def archive_baseline(self) -> str:
        """`POST /cloud-sync/backfill`: begin to archive the baseline, too."""
        count = self.archiver().archive_baseline()
        return f"{count_noun(count, 'older file')} {'is' if count == 1 else 'are'} being archived."

    def flush(self, timeout_seconds: float = 60.0, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """`POST /cloud-sync/flush`: see `OpenArchive.flush`."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            opened = self._host.archive()
            try:
                return opened.flush(max(0.0, deadline - time.monotonic()), cancelled)
            except LedgerError:
                if self._host.archive() is opened:
                    raise
                # The ledger was reopened, so its archive is another one now.

    def why_catalog_incomplete(self) -> str | None:
        """See `Catalog.why_incomplete`."""
        opened = self._host.opened
        return None if opened is None else opened.catalog.why_incomplete()

    def files(self, state: str | None, query: str, limit: int, cursor: str | None) -> Page:
        """`GET /cloud-sync/files`: see `ledger_page` and `unarchived_page`."""
        archiver = self.archiver()
        if state in ("skipped", "baseline", "unarchived"):
            return unarchived_page(archiver.unarchived_files(), state, query, limit, cursor)
        return ledger_page(archiver.ledger, state, query, limit, cursor)

    def catalog(self) -> Catalog:
        """Return the catalog of the open archive. CloudArchiveError: there is none; the message says why."""
        return self._host.archive().catalog

    def add_jobs(self, jobs: Sequence[Mapping[str, Any]], queue: Mapping[str, Any] | None = None) -> None:
        """`POST /engine/jobs`: store the jobs that ComfyUI has finished, and note its queue.

        `queue`: `process`, and the jobs that are `running` and `queued` now; None = not known.
        """
        opened = self._host.archive()
        if jobs:
            jobs = with_relative_folders(jobs, self.root)
            opened.jobs.note_finished(jobs)
            opened.catalog.add_jobs(jobs)
        if queue is not None:
            opened.jobs.note_queue(queue["process"], queue["running"], queue["queued"])

    def job(
        self, job_id: str, *, urls: bool = False, only_machine: Callable[[], str | None] = lambda: None
    ) -> dict[str, Any]:
        """`GET /cloud-sync/jobs/{prompt_id}`: see `job_answer`."""
        return job_answer(self._host.archive(), job_id, urls=urls, only_machine=only_machine)

    def watch_job(self, job_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, from any thread, when this job may have changed. Return a function that ends this."""
        return self._host.archive().jobs.subscribe(job_id, callback)

    def share(
        self, ids: Sequence[uuid.UUID], order: ShareOrder, cancelled: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """`POST /cloud-sync/share`: see `sharing.share`. RequestRefused: 404, there is no such asset."""
        from ..sharing.share import share

        opened = self._host.archive()
        assets = [opened.catalog.asset(identity) for identity in ids]

        def picture(asset: Mapping[str, Any]) -> tuple[bytes, str] | None:
            found = opened.catalog.thumbnail(uuid.UUID(asset["id"]))
            return (found.data, found.mime_type)

        archiver = opened.archiver
        prefix = archiver.settings.prefix
        return share(archiver.store, prefix, assets, order, picture=picture, cancelled=cancelled)

    def check(self) -> Future[CheckAnswer]:
        """`POST /cloud-sync/check`: start the check, or join the one that runs. Does not block."""
        return self._check.begin()

    def last_check(self) -> CheckAnswer:
        """`GET /cloud-sync/check`. Does not block."""
        return self._check.last

    def report(self, by: Literal["hour", "day"], last: int) -> list[dict[str, Any]]:
        """`GET /cloud-sync/report`: see `chart_rows`."""
        from ..maintenance.report import chart_rows

        return chart_rows(self.archiver().ledger, by, last, time.time())

    def metrics_text(self) -> str:
        """`GET /cloud-sync/metrics`: see `Recorder.text`."""
        opened = self._host.opened
        if opened is None:
            return self._metrics.text(None)
        waiting = opened.open_jobs.waiting_webhooks()
        return self._metrics.text(opened.archiver.gauges()._replace(waiting_webhooks=waiting))
