"""Delete local files that are proven in the bucket, within the limits of the settings."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ..config.settings import Settings
from ..errors import CloudArchiveError
from ..intake.open_files import has_writer
from ..ledger.known_root import KnownRoot
from ..ledger.ledger import Ledger
from ..maintenance.free import FreedFile, FreeReport, Limits, LocalCleaner
from ..store.base import ObjectStore
from .events import LocalFileFreed, OnEvent, StatusChanged
from .session import Session

logger = logging.getLogger("cloud_archive.archiver")

FREE_SECONDS = 15.0  # the pause between two runs


class FreeingLoop:
    """Runs `LocalCleaner` every few seconds on the thread that calls `run`.

    Args:
        session: shows why files could not be deleted.
        on_event: receives LocalFileFreed for each deleted file, and StatusChanged when that notice changes.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        ledger: Ledger,
        store: ObjectStore,
        *,
        known_root: KnownRoot,
        session: Session,
        on_event: OnEvent,
    ) -> None:
        self._session = session
        self._on_event = on_event
        self._cleaner = LocalCleaner(
            ledger,
            store,
            root,
            Limits.of_settings(settings),
            has_writer=has_writer,
            clock=time.time,
            on_freed=self._on_freed,
            check_root=known_root.check,
        )

    def run(self, stopping: threading.Event) -> None:
        """Delete files every `FREE_SECONDS`, until `stopping` is set."""
        shown = ""
        while not stopping.wait(FREE_SECONDS):
            try:
                notice = _unproven_notice(self._cleaner.run_once(stopping))
            except (CloudArchiveError, OSError) as error:
                notice = f"Local files can't be removed now: {error}"
            if notice != shown:
                self._session.withdraw(shown)
                if notice:
                    logger.warning("%s", notice)
                    self._session.notice(notice)
                shown = notice
                self._on_event(StatusChanged())

    def _on_freed(self, freed: FreedFile) -> None:
        self._on_event(LocalFileFreed(freed.size_bytes))


def _unproven_notice(report: FreeReport) -> str:
    """Return a notice about files that stay for lack of proof; empty if there are none."""
    count = len(report.unproven)
    if not count:
        return ""
    what = f"{report.unproven[0]} stays" if count == 1 else f"{count} files stay"
    return (
        f"{what} on this disk: it is not proven that the bucket holds what was archived."
        " Run `cloud-archive verify --repair`."
    )
