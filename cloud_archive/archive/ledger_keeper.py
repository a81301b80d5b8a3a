"""Reopen the ledger if it keeps failing, if its file was deleted, or if it is in memory and its disk can be written."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import LedgerError
from ..ledger.ledger import Ledger
from ..private_files import NotPrivate, make_private_directory
from .open_archive import OpenArchive

logger = logging.getLogger("cloud_archive.engine")

LEDGER_SECONDS = 10.0  # between two checks
FAILED_CHECKS = 3  # after so many in a row the ledger is reopened


class LedgerKeeper:
    """Checks the ledger every `LEDGER_SECONDS` in a thread of its own, until `closing` is set.

    Args:
        opened: returns the open archive; None if there is none.
        reopen: see `ArchiveHost.reopen`.
    """

    def __init__(
        self,
        opened: Callable[[], OpenArchive | None],
        reopen: Callable[[Path | None], None],
        closing: threading.Event,
    ) -> None:
        self._opened = opened
        self._reopen = reopen
        self._closing = closing
        self._failed_checks = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="cloud-archive-ledger-keeper", daemon=True)
            thread.start()
            self._thread = thread  # only now, because a thread that could not start can't be joined

    def join(self, timeout_seconds: float) -> None:
        """Wait for the end of the thread, for which `closing` must be set."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._closing.wait(LEDGER_SECONDS):
            try:
                self.check()
            except Exception:
                logger.exception("The check of the ledger failed")

    def check(self) -> None:
        """Check the ledger once, and reopen it if that is due."""
        opened = self._opened()
        if opened is None:
            self._failed_checks = 0
            return
        failing = _fails(opened, by_writing=self._failed_checks > 0)
        self._failed_checks = self._failed_checks + 1 if failing else 0
        if self._failed_checks >= FAILED_CHECKS:
            self._failed_checks = 0
            self._reopen(None)
        elif (path := _unsaved(opened.ledger)) is not None and _can_be_saved(opened.ledger, path):
            logger.warning("The ledger was in memory, or its file was deleted: it is saved as %s.", path)
            self._reopen(path)


def _fails(opened: OpenArchive, *, by_writing: bool) -> bool:
    """Return whether the ledger is damaged or can't be read.

    Also tries to write if `by_writing`, or if the last commit failed.
    """
    if opened.ledger.damaged:
        return True
    try:
        if by_writing or opened.archiver.ledger_problem is not None:
            opened.ledger.probe()
        else:
            opened.ledger.totals()
    except LedgerError:
        return True
    return False


def _unsaved(ledger: Ledger) -> Path | None:
    """Return where a ledger is to be saved that is in memory, or whose file was deleted; None if it is on its disk."""
    # Not `Path.exists`, which may raise an error.
    if ledger.path is not None and not os.path.exists(ledger.path):  # noqa: PTH110
        ledger.saved_as = ledger.path  # stays set, because a file saved there is a copy
    return ledger.saved_as


def _can_be_saved(ledger: Ledger, path: Path) -> bool:
    """Return whether the ledger can be saved. Tried first, because reopening stops the archive."""
    try:
        make_private_directory(path.parent, keep_mode=True)  # it may have been deleted, too
        if not path.exists():
            for suffix in ("-wal", "-shm"):  # of the deleted file; SQLite would take them for the new one's
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        ledger.save(path)
    except (LedgerError, NotPrivate, OSError) as error:
        logger.debug("%s", error)
        return False
    return True
