"""Open a directory's ledger and store, and make the archiver that uses them."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..catalog.catalog import Catalog
from ..config.settings import VARIABLES, Settings
from ..errors import LedgerError
from ..jobs.jobs import Jobs
from ..ledger.ledger import Ledger
from ..ledger.recovery import open_ledger, remember_log_files
from ..own_files import OwnFiles
from ..state import FALLBACK_NAME
from ..store.base import Capabilities, ObjectStore
from .archive import Archiver
from .destination import destination_notices
from .metrics import Recorder
from .open_jobs import OpenJobs, open_jobs
from .session import Session

logger = logging.getLogger("cloud_archive.engine")

StoreFactory = Callable[..., ObjectStore]

READERS_SECONDS = 5.0  # how long to wait for the threads of catalog and jobs, which may wait for the store
MIN_CATALOG_SECONDS = 0.5  # which a flush gives the catalog, also once its own time is up


class OpenArchive(NamedTuple):
    """An archiver and its ledger, and what reads that ledger: the catalog, and the list of ComfyUI's jobs."""

    archiver: Archiver
    ledger: Ledger
    catalog: Catalog
    open_jobs: OpenJobs

    @property
    def jobs(self) -> Jobs:
        """ComfyUI's jobs."""
        return self.open_jobs.jobs

    def close_readers(self, timeout_seconds: float = READERS_SECONDS) -> None:
        """Close jobs and catalog, which read the ledger; wait up to `timeout_seconds` for their threads."""
        deadline = time.monotonic() + timeout_seconds
        self.open_jobs.close(timeout_seconds)
        self.catalog.close(max(0.0, deadline - time.monotonic()))

    def drain(self, timeout_seconds: float, cancelled: Callable[[], bool]) -> bool:
        """Drain the archiver, then flush the catalog in the time that is left. Return what `Archiver.drain` does.

        Args:
            cancelled: returns True once the caller no longer waits.
        """
        deadline = time.monotonic() + timeout_seconds
        drained = self.archiver.drain(timeout_seconds, cancelled)
        self.catalog.flush(max(0.0, deadline - time.monotonic()), cancelled)
        return drained

    def flush(self, timeout_seconds: float, cancelled: Callable[[], bool]) -> bool:
        """Flush archiver and catalog; see `Safety.flush` and `Catalog.flush`. Return whether both succeeded in time.

        Files may come while the catalog is written, so after that flush both again. The catalog always has
        `MIN_CATALOG_SECONDS`, so that a complete one does not fail for lack of time.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.archiver.flush(max(0.0, deadline - time.monotonic()), cancelled):
            written = self.catalog.written_batches
            left = deadline - time.monotonic()
            if not self.catalog.flush(max(MIN_CATALOG_SECONDS, left), cancelled):
                return False
            if self.catalog.written_batches == written:
                return True
        return False

    def close(self, timeout_seconds: float = READERS_SECONDS) -> None:
        """Close catalog, jobs, store and ledger. The archiver must be stopped. For the time see `close_readers`."""
        self.close_readers(timeout_seconds)
        self.archiver.close()
        if self.ledger.saved_as is not None:
            with contextlib.suppress(LedgerError):
                self.ledger.save(self.ledger.saved_as)
        self.ledger.close()


class ArchiveParts(NamedTuple):
    """What every archiver of one engine is made from.

    Attributes:
        backfill: used if CLOUD_ARCHIVE_BACKFILL is not set.
        session_started_at: when the engine started, in seconds since 1970.
        on_change, started_at, session_id, metrics: see `Archiver`.
    """

    root: Path
    environ: Mapping[str, str]
    backfill: str | None
    make_store: StoreFactory
    session_id: str
    session_started_at: float
    started_at: float
    metrics: Recorder
    on_change: Callable[[], None]

    def open(
        self, settings: Settings, state_directory: Path, *, unlocked: bool, session: Session | None
    ) -> OpenArchive:
        """Open the ledger, catalog and jobs in `state_directory`, and make an archiver, which is not started.

        Args:
            unlocked: no lock could be made; a notice says so.
            session: the counters to continue with; None = new ones.

        Raises:
            CloudArchiveError, OSError: a part can't be opened.
        """
        ledger, notices, content_lost = open_ledger(state_directory, root=self.root, began=self.started_at)
        with contextlib.ExitStack() as opened:  # closes what was opened, if a later part can't be
            opened.callback(ledger.close)
            settings = self._with_backfill(settings, content_lost=content_lost)
            notices += destination_notices(ledger, settings.destination)
            store = self._open_store(settings, ledger)
            opened.callback(store.close)
            archiver = Archiver(
                settings,
                self.root,
                ledger,
                store,
                session_id=self.session_id,
                on_change=self.on_change,
                started_at=self.started_at,
                metrics=self.metrics,
                session=session,
                own=OwnFiles(self.root, state_directory, _own_logs(ledger)),
            )
            catalog = Catalog(
                state_directory,
                self.root,
                settings,
                ledger,
                store,
                session=(self.session_id, self.session_started_at),
            )
            opened.callback(catalog.close)
            catalog.start()
            jobs = open_jobs(settings, self.root, state_directory, archiver, catalog)
            opened.pop_all()
        for notice in [
            *notices,
            *catalog.notices,
            *jobs.notices,
            *_state_notices(state_directory, unlocked=unlocked),
        ]:
            archiver.session.notice(notice)
        return OpenArchive(archiver, ledger, catalog, jobs)

    def _with_backfill(self, settings: Settings, *, content_lost: bool) -> Settings:
        """Return the settings with the backfill to use. If the old ledger's content is lost, `missed` becomes `all`."""
        if self.backfill is not None and VARIABLES["backfill"].find(self.environ) is None:
            settings = replace(settings, backfill=cast(Any, self.backfill))
        if content_lost and settings.backfill == "missed":
            settings = replace(settings, backfill="all")
        return settings

    def _open_store(self, settings: Settings, ledger: Ledger) -> ObjectStore:
        """Return the store, with the capabilities that earlier sessions found for this destination."""
        name = f"capabilities of {settings.destination}"
        text = ledger.recall(name)
        known = Capabilities.from_json(json.loads(text)) if text else None

        def remember(found: Capabilities) -> None:
            try:
                ledger.remember(name, json.dumps(found.to_json()))
            except LedgerError as error:
                logger.warning("%s", error)

        return self.make_store(settings, capabilities=known, on_capabilities=remember)


def _state_notices(state_directory: Path, *, unlocked: bool) -> list[str]:
    notices = []
    if unlocked:
        notices.append(
            "No lock could be made, neither in the state directory nor for this machine."
            " Make sure that no second archive runs for this directory."
        )
    if state_directory.name == FALLBACK_NAME:
        notices.append(
            f"The state is kept in {state_directory}, because the usual state directory could not be used, now or"
            " at an earlier start. Set CLOUD_ARCHIVE_STATE_DIR to keep it elsewhere."
        )
        logger.warning("%s", notices[-1])
    return notices


def _own_logs(ledger: Ledger) -> list[Path]:
    """Return the log files of this process, and those that the ledger remembers of earlier ones."""
    handlers = logging.getLogger("cloud_archive").handlers
    logs = [Path(each.baseFilename) for each in handlers if isinstance(each, logging.FileHandler)]
    try:
        return remember_log_files(ledger, logs)
    except LedgerError as error:
        logger.warning("%s", error)
        return logs
