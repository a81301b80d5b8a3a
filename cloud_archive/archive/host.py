"""Open, reopen and close the archive of one directory; after a fault, show it and try again."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from ..config.settings import Settings, load_settings
from ..errors import CloudArchiveError, LedgerError, RequestRefused, SettingsError
from ..ledger.recovery import IN_MEMORY_NOTICE
from ..redaction import redact, secret_values
from ..text import end_sentence
from .ledger_keeper import LedgerKeeper
from .open_archive import READERS_SECONDS, ArchiveParts, OpenArchive
from .ownership import Ownership
from .remainder import Remainder
from .session import Session

logger = logging.getLogger("cloud_archive.engine")

READY_SECONDS = 10.0  # how long a call waits while the archive is being opened
LEDGER_STOP_SECONDS = 10.0  # for uploads under way before the ledger is closed, and for the keeper at the end


class ArchiveHost:
    """Holds the archive of one directory, once this process owns the directory.

    Args:
        make_root: make the watched directory if it is missing.
        on_begin: called once this process holds the lock and the archiver exists; again after each reopening.
        on_standby: called if another engine holds the lock at the start.
    """

    def __init__(
        self,
        parts: ArchiveParts,
        ownership: Ownership,
        *,
        make_root: bool,
        on_begin: Callable[[], None],
        on_standby: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._ownership = ownership
        self._make_root = make_root
        self._on_begin = on_begin
        self._on_standby = on_standby
        self._lock = threading.RLock()
        self._keeper = LedgerKeeper(lambda: self.opened, self.reopen, ownership.closing)
        self._fault_may_pass = False  # the last failure to begin was an expected one, such as a full disk
        self.opened: OpenArchive | None = None
        self.settings: Settings | None = None
        self.problems: list[str] = []  # why there is no archiver, or why it does not watch
        self.wants_to_run = False
        self._settled = threading.Event()  # not set while the archive is being opened, and before `start`
        self.remainder: Remainder | None = None  # what is not in the bucket after `close`; None = not known

    def start(self, *, autostart: bool | None) -> None:
        """Read the settings and begin. A fault is put into `problems`, and not raised.

        `autostart`: whether to watch; None = as CLOUD_ARCHIVE_AUTOSTART says.
        """
        try:
            self._begin_or_stand_by(autostart)
        finally:
            self._settled.set()

    def _begin_or_stand_by(self, autostart: bool | None) -> None:
        try:
            self.settings = load_settings(self._parts.environ)
        except SettingsError as error:
            self.problems = list(error.sentences)
            for problem in self.problems:
                logger.error("%s", problem)
            return
        if self.settings.endpoint_remark:
            logger.info("%s", self.settings.endpoint_remark)
        for sentence in self.settings.misspelt:
            logger.warning("%s", sentence)
        self.wants_to_run = self.settings.autostart if autostart is None else autostart
        if self._try_to_begin():
            return
        if not self.problems:
            self._on_standby()
            logger.info("Another process is archiving %s: standing by", self._parts.root)
        self._stand_by()

    def start_watching(self) -> bool:
        """Watch the directory from now on, or once that is possible. Return False if it is watched already.

        Raises:
            CloudArchiveError: there is no archiver, or the directory is missing.
        """
        try:
            self.archive()
        finally:
            self.wants_to_run = True  # only now, because `start` sets it, too
        with self._lock:  # not while `reopen` replaces the archiver
            archiver = self.archive().archiver
            if archiver.running:
                return False
            self._make_root_if_wanted()
            archiver.start()
            self.problems = []
        return True

    def keep_from_watching(self) -> OpenArchive:
        """Don't begin to watch by itself any more, also after a fault or as standby. Return what `archive` returns."""
        try:
            return self.archive()
        finally:
            self.wants_to_run = False  # only now, because `start` sets it, too

    @property
    def is_about_to_watch(self) -> bool:
        """Whether the archive is being opened, and will then watch the directory."""
        return self.wants_to_run and not self._settled.is_set()

    def archive(self) -> OpenArchive:
        """Return the open archive. While it is being opened, wait up to `READY_SECONDS`.

        Raises:
            CloudArchiveError: there is none; the message says why.
        """
        self._settled.wait(READY_SECONDS)
        opened = self.opened
        if opened is not None:
            return opened
        if self._ownership.closing.is_set():
            raise RequestRefused(503, "The archive is stopping.")
        if self.problems:
            raise CloudArchiveError(" ".join(end_sentence(problem) for problem in self.problems))
        if self._ownership.stands_by:
            raise CloudArchiveError("Another process is archiving this directory: send the request there.")
        raise CloudArchiveError("The archive is not ready yet.")

    # --- beginning

    def _stand_by(self) -> None:
        self._ownership.stand_by(self._try_to_begin, failed=lambda: bool(self.problems))

    def _try_to_begin(self) -> bool:
        """Begin, or start watching if a fault has prevented that. Return False if it must be tried again."""
        with self._lock:  # not while `reopen` replaces the archiver
            opened = self.opened
            try:
                if opened is not None:
                    if self.wants_to_run:
                        opened.archiver.start()
                        self.problems = []
                elif not self._take_over():
                    if self._fault_may_pass:
                        self.problems = []  # another engine holds the lock now, so this one stands by
                    return False
            except Exception as error:
                self._show_failure(error)
            return not self.problems

    def _take_over(self) -> bool:
        """Take the lock and begin. Return False if another engine keeps the lock."""
        if self._ownership.state_directory is None:
            self._ownership.prepare()
        self._make_root_if_wanted()
        if not self._ownership.acquire():
            return False
        try:
            self._open()
        except BaseException:
            self._close_and_release()
            raise
        return True

    def _open(self, session: Session | None = None) -> None:
        """Open the ledger and start the archiver. This process must hold the lock."""
        assert self.settings is not None
        assert self._ownership.state_directory is not None
        self._settled.clear()
        try:
            opened = self._parts.open(
                self.settings,
                self._ownership.state_directory,
                unlocked=self._ownership.unlocked,
                session=session,
            )
            with self._lock:
                self.opened = opened
            self.problems = []
            self._on_begin()
            self._keeper.start()
            if self.wants_to_run and not self._ownership.closing.is_set():
                try:
                    opened.archiver.start()
                except CloudArchiveError as error:
                    self._show_problem(str(error))
            else:
                opened.archiver.warm_up()
        finally:
            self._settled.set()
        self._parts.on_change()

    def _make_root_if_wanted(self) -> None:
        """CloudArchiveError: the watched directory is missing and can't be made."""
        if not self._make_root:
            return
        try:
            self._parts.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise CloudArchiveError(
                f"The watched directory {self._parts.root} can't be made: {reason}."
            ) from error

    def _show_failure(self, error: Exception) -> None:
        """Show why this process failed to begin."""
        self._fault_may_pass = isinstance(error, (CloudArchiveError, OSError))
        if self._fault_may_pass:
            self._show_problem(str(error))
        else:
            self._show_problem(f"The archive can't start: {_cause(error)}", error)

    def _show_problem(self, sentence: str, error: Exception | None = None) -> None:
        """Show a fault in the status, and log it, with the traceback of `error`, unless it is shown already."""
        sentence = redact(sentence, secret_values(self._parts.environ))
        if self.problems != [sentence]:
            logger.error("%s", sentence, exc_info=error)
        self.problems = [sentence]
        self._parts.on_change()

    def _close_and_release(self) -> None:
        """Close what is open, and release the lock, so that a healthy standby can take over."""
        with self._lock:
            opened, self.opened = self.opened, None
        if opened is not None:
            with contextlib.suppress(LedgerError):
                opened.archiver.stop(LEDGER_STOP_SECONDS)
            opened.close()
        self._ownership.release()

    # --- reopening

    def reopen(self, save_as: Path | None) -> None:
        """Replace ledger and archiver, and keep the session, so that its counters continue.

        Args:
            save_as: save the ledger to this path first, because it is in memory or its file was deleted.
        """
        with self._lock:
            opened = self.opened
            if opened is None or self._ownership.closing.is_set():
                return
            archiver, ledger = opened.archiver, opened.ledger
            if archiver.running and not self._parts.root.is_dir():
                return  # an archiver can continue while its directory is missing, but can't start
            logger.warning("Reopening the ledger.")
            with contextlib.suppress(LedgerError):
                archiver.stop(LEDGER_STOP_SECONDS)
            if save_as is not None:
                try:
                    ledger.save(save_as)
                except LedgerError as error:
                    logger.error("%s", error)
                    if self.wants_to_run:
                        archiver.start()
                    return
            in_memory = [each for each in archiver.session.notices if each.endswith(IN_MEMORY_NOTICE)]
            for notice in (*in_memory, *opened.catalog.notices, *opened.open_jobs.notices):
                archiver.session.withdraw(notice)
            opened.close_readers()
            self._settled.clear()  # so that `archive` waits for the new one
            archiver.close()
            ledger.close()
            try:
                self._open(archiver.session)
            except Exception as error:
                self._close_and_release()
                self._show_failure(error)
            if self.problems:
                self._stand_by()

    # --- the end

    def close(self, grace_seconds: float) -> list[str]:
        """Stop the archiver (see `Archiver.stop`), close everything and release the lock. Set `remainder`.

        `grace_seconds` is for uploads under way; catalog and jobs get up to `READERS_SECONDS` more.
        """
        self._ownership.close()
        self._keeper.join(LEDGER_STOP_SECONDS)
        with self._lock:
            opened, self.opened = self.opened, None
        remaining: list[str] = []
        if opened is not None:
            try:
                remaining = opened.archiver.stop(grace_seconds)
                self.remainder = opened.archiver.remainder
            except LedgerError as error:
                logger.error("%s", error)
            opened.close(min(grace_seconds, READERS_SECONDS))
        self._ownership.release()
        return remaining


def _cause(error: Exception) -> str:
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return (
            "the system allows no more threads. Raise its limit: pids.max of the container, or `ulimit -u`."
        )
    return f"{type(error).__name__}: {error}."
