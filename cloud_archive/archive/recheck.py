"""Hash the doubtful files, which may hold other bytes than the ledger says: those that were closed after writing, or
whose inode or change time differ. A program can rewrite a file with the same size and set its mtime back.

Equal bytes update the row; other bytes are queued as a new version.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from pathlib import Path

from ..errors import CloudArchiveError, FileUnreadable, FileVanished
from ..files import FileVersion, hash_file, stat_version
from ..intake.open_files import has_writer
from ..ledger.doubts import queue_rewritten, record_unchanged
from ..ledger.ledger import Ledger
from ..ledger.rows import FileState

logger = logging.getLogger("cloud_archive.recheck")

LATER_SECONDS = 1.0  # until a file that is being written or uploaded is checked again
UNREADABLE_SECONDS = 60.0  # until a file that could not be read is checked again
REST_FACTOR = 4.0  # in the background: rest four times as long as the file took, so use a fifth of a core


class RecheckResult(Enum):
    """The result of comparing one file with its row."""

    # The bytes are the archived ones, an upload will read them anyway, or the file is gone.
    SETTLED = auto()
    QUEUED = auto()  # queued for upload: the bytes differ, or there is only a baseline entry
    UNKNOWN = auto()  # the ledger does not know the file's present size and mtime, so the file must settle
    # Check again later: it is being written or uploaded, it or its row changed meanwhile, or the hashing was stopped.
    LATER = auto()


def recheck(
    ledger: Ledger,
    root: Path,
    path: str,
    *,
    written: bool = True,
    stopping: Callable[[], bool] = lambda: False,
) -> RecheckResult:
    """Hash a file and compare it with the row of its size and mtime.

    Args:
        written: a program wrote to it. False: hash it only if its inode or change time differ.
        stopping: called during the hashing; True ends it with `RecheckResult.LATER`.

    Raises:
        FileUnreadable: the system refuses to read it.
        LedgerError: the ledger can't be read or written.
    """
    try:
        version = stat_version(root, path)
        row = ledger.find(version)
        if row is None or row.state is FileState.VANISHED:
            return _without_row(ledger, version)
        if row.state in (FileState.PENDING, FileState.FAILED):
            return RecheckResult.SETTLED
        if row.state is FileState.UPLOADING or has_writer(root, path):
            return RecheckResult.LATER
        if not written and version == row.version:
            return RecheckResult.SETTLED  # it was hashed meanwhile
        moment = time.time()
        found = hash_file(root, path, stopping=stopping)
    except FileVanished:
        return RecheckResult.SETTLED
    if found is None:
        return RecheckResult.LATER
    read, sha256 = found
    if not read.has_same_size_and_mtime(row.version):
        return RecheckResult.UNKNOWN
    if sha256 == row.sha256:
        record_unchanged(ledger, row, read.as_read_at(moment))
        return RecheckResult.SETTLED
    if not queue_rewritten(ledger, row, read.as_read_at(moment)):
        return RecheckResult.LATER
    logger.info("%s holds other bytes under the same size and time: queued as a new version", path)
    return RecheckResult.QUEUED


def _without_row(ledger: Ledger, version: FileVersion) -> RecheckResult:
    """Queue a file that has only a baseline entry; return UNKNOWN if it has none.

    Such a file is older (see `BaselineBuilder`), or its row was compacted, and a program wrote to it since.
    """
    if ledger.unknown([version]):
        return RecheckResult.UNKNOWN
    return RecheckResult.QUEUED if ledger.add([version], priority=-1) else RecheckResult.SETTLED


class Rechecker:
    """Checks doubtful files one by one on the thread that calls `run`.

    Args:
        doubtful_paths: yields the doubtful files of the directory, for `sweep`, until its argument returns True.
        on_unknown: called with the path of a file that must settle.
        on_queued: called after a version was queued.
        on_settled: called after the last file that `put` brought was checked, and after each sweep.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        *,
        doubtful_paths: Callable[[Callable[[], bool]], Iterator[str]],
        on_unknown: Callable[[str], None],
        on_queued: Callable[[], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._doubtful_paths = doubtful_paths
        self._on_unknown = on_unknown
        self._on_queued = on_queued
        self._on_settled = on_settled
        self._wake = threading.Condition()
        self._due: dict[str, float] = {}  # path to the time of its next check, in monotonic seconds
        self._written: set[str] = set()  # those of them that a program wrote to
        self._unreadable: dict[str, str] = {}  # path to sentence
        self._sweep_due = False
        self._sweep_files = 0
        self._sweep_is_urgent = False
        self._stopping = False

    @property
    def waiting(self) -> int:
        """How many files must be hashed before it is safe to stop."""
        return len(self._due) + self.swept_files

    @property
    def swept_files(self) -> int:
        """How many of the `waiting` files an urgent sweep is to hash. Their paths are not kept."""
        return self._sweep_files if self._sweep_is_urgent else 0

    def waiting_paths(self) -> list[str]:
        """Return the paths of the `waiting` files, without the `swept_files`."""
        with self._wake:
            return list(self._due)

    def settling(self, *, unreadable: bool) -> int:
        """Return how many of the `waiting` files have no known writer; `swept_files` count without a check.

        `unreadable`: count the files that can't be read, too.
        """
        with self._wake:
            paths = [path for path in self._due if unreadable or path not in self._unreadable]
        return self.swept_files + sum(not has_writer(self._root, path) for path in paths)

    def retry_unreadable(self) -> int:
        """Try at once to hash the files that could not be read. Return how many; does not wait."""
        with self._wake:
            now = time.monotonic()
            # A copy, because the thread that hashes changes `_unreadable` without the lock.
            retried = {path: now for path in list(self._unreadable) if path in self._due}
            self._due |= retried
            self._wake.notify_all()
            return len(retried)

    @property
    def unchecked_files(self) -> int:
        """How many files are still to be hashed, including those of a sweep that is not urgent."""
        return len(self._due) + self._sweep_files

    @property
    def problems(self) -> tuple[str, ...]:
        """Why some files can't be hashed."""
        return tuple(self._unreadable.values())

    def put(self, path: str, *, written: bool) -> None:
        """Check this file soon. Return at once; safe from any thread. `written`: see `recheck`."""
        with self._wake:
            if written:
                self._written.add(path)
            if written or path not in self._due:
                self._due[path] = time.monotonic()
                self._wake.notify_all()

    def sweep(self, files: int, *, urgent: bool) -> None:
        """Let `run` hash all files that `doubtful_paths` yields. Return at once.

        Args:
            files: about how many these are; 0 = no sweep.
            urgent: it is not safe to stop before the end of the sweep. False: rest long between two files.
        """
        with self._wake:
            self._sweep_files, self._sweep_is_urgent = files, urgent
            self._sweep_due |= files > 0
            self._wake.notify_all()

    def stop(self) -> None:
        """Let `run` return soon. The next start's first scan finds the files that were not hashed."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def run(self) -> None:
        """Hash doubtful files, until `stop`."""
        while True:
            with self._wake:
                path = self._next()
                while path is None and not self._sweep_due and not self._stopping:
                    self._wake.wait(self._pause())
                    path = self._next()
                if self._stopping:
                    return
            if path is not None:
                self._check_due(path)
                continue
            try:
                self._sweep()
            except CloudArchiveError as error:  # the ledger can't be read: begin the sweep again
                logger.info("%s", error)
                with self._wake:
                    self._sweep_due = True
                    self._wake.wait_for(lambda: self._stopping, LATER_SECONDS)

    def _next(self) -> str | None:
        now = time.monotonic()
        with self._wake:
            return next((path for path, due in self._due.items() if due <= now), None)

    def _pause(self) -> float | None:
        return max(0.01, min(self._due.values()) - time.monotonic()) if self._due else None

    def _check_due(self, path: str) -> None:
        """Check one file of `_due`: remove it from there, or set the time of its next check."""
        began = time.monotonic()
        again: float | None = None
        with self._wake:
            written = path in self._written
            self._written.discard(path)
        try:
            if self._check(path, written=written) is RecheckResult.LATER:
                again = began + LATER_SECONDS
            self._unreadable.pop(path, None)
        except FileUnreadable as error:
            self._unreadable[path] = f"{error}. It may have changed since it was archived."
            again = began + UNREADABLE_SECONDS
        except Exception:
            # An odd file must neither be lost nor delay the others.
            logger.exception("%s could not be compared with the archive", path)
            again = began + UNREADABLE_SECONDS
        with self._wake:
            if again is not None:
                self._due[path] = again
                self._written |= {path} if written else set()
            elif self._due[path] <= began:  # if later, it was written to again meanwhile
                del self._due[path]
            over = not self._due
        if over:
            self._on_settled()

    def _check(self, path: str, *, written: bool) -> RecheckResult:
        result = recheck(self._ledger, self._root, path, written=written, stopping=lambda: self._stopping)
        if result is RecheckResult.UNKNOWN:
            self._on_unknown(path)
        elif result is RecheckResult.QUEUED:
            self._on_queued()
        return result

    def _sweep(self) -> None:
        """Hash all doubtful files. A later scan finds again those that can't be hashed now."""
        self._sweep_due = False
        for path in self._doubtful_paths(lambda: self._stopping):
            while (due := self._next()) is not None and not self._stopping:
                self._check_due(due)
            began = time.monotonic()
            try:
                self._check(path, written=False)
            except CloudArchiveError as error:
                logger.info("%s", error)
            except Exception:
                logger.exception("%s could not be compared with the archive", path)
            with self._wake:
                self._sweep_files = max(0, self._sweep_files - 1)
                if not self._sweep_is_urgent:
                    rest_seconds = REST_FACTOR * (time.monotonic() - began)
                    self._wake.wait_for(lambda: self._stopping or self._next() is not None, rest_seconds)
                if self._stopping:
                    return
        with self._wake:
            if self._stopping:
                return
            if not self._sweep_due:  # otherwise it is the number of the next sweep
                self._sweep_files = 0
        self._on_settled()
