"""Queue complete files for upload, many in one commit."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from ..errors import CloudArchiveError
from ..files import FileVersion
from ..intake.settle_entry import CompleteFile
from ..intake.settle_queue import SettleQueue
from ..ledger.ledger import Ledger
from ..ledger.rows import Totals

logger = logging.getLogger("cloud_archive.archiver")

COMMIT_WAIT_SECONDS = 0.2  # how long `count` waits for a commit
RETRY_SECONDS = 1.0  # until files that could not be committed are tried again
MAX_FILES_A_COMMIT = 1000


class EnqueueLoop:
    """Queues complete files on the thread that calls `run`. The other methods are safe from any thread.

    Args:
        settling: counts each file until it is in the ledger.
        enqueue: commits versions as pending, and returns how many were new. CloudArchiveError: they can't be committed
            now.
        on_queued: called with the versions that were committed together, if any of them was new.
        on_rewritten: called with the path of each file that a row or the baseline knows and that a program wrote to.
        stopping: set once the archive stops; then a failed commit is not retried.
    """

    def __init__(
        self,
        ledger: Ledger,
        settling: SettleQueue,
        *,
        enqueue: Callable[[list[FileVersion]], int],
        on_queued: Callable[[list[FileVersion]], None],
        on_rewritten: Callable[[str], None],
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._settling = settling
        self._enqueue = enqueue
        self._on_queued = on_queued
        self._on_rewritten = on_rewritten
        self._stopping = stopping
        self.problem: str | None = None  # why the last commit failed; None if it succeeded
        self.uncommitted: list[FileVersion] = []  # what could not be committed before the stop
        self._complete: queue.SimpleQueue[CompleteFile | None] = queue.SimpleQueue()
        self._committing = threading.Lock()

    def put(self, file: CompleteFile) -> None:
        """Let `run` queue this file. Return at once."""
        self._complete.put(file)

    def end(self) -> None:
        """Let `run` return after the files that were put so far."""
        self._complete.put(None)

    def count(self) -> tuple[Totals, int, int]:
        """Return the ledger's totals, and the files and bytes that are not in it yet.

        A commit hides no file, and counts one twice only if it takes longer than `COMMIT_WAIT_SECONDS`.
        """
        quiet = self._committing.acquire(timeout=COMMIT_WAIT_SECONDS)
        try:  # first the files that are not in the ledger yet, so that none is missed
            files, size_bytes = self._settling.pending_files, self._settling.pending_bytes
            return self._ledger.totals(), files, size_bytes
        finally:
            if quiet:
                self._committing.release()

    def run(self) -> None:
        """Queue complete files until `end`; commit those that wait together, `MAX_FILES_A_COMMIT` at most."""
        while True:
            first = self._complete.get()
            if first is None:
                return
            files, ending = [first], False
            while len(files) < MAX_FILES_A_COMMIT:
                try:
                    file = self._complete.get_nowait()
                except queue.Empty:
                    break
                if file is None:
                    ending = True
                    break
                files.append(file)
            self._queue(files)
            if ending:
                return

    def _queue(self, files: list[CompleteFile], *, first_try: bool = True) -> None:
        try:
            added = self._commit(files)
        except Exception:
            if first_try:
                logger.exception("Files could not be queued. They are tried again, one by one.")
                self._stopping.wait(RETRY_SECONDS)
                for file in files:
                    self._queue([file], first_try=False)
            else:
                # An odd file must not delay the others. Each scan finds it again, so it is not safe to stop.
                logger.exception("%s could not be queued", files[0].version.path)
                self._settling.acknowledge([file.version for file in files])
            return
        if added:
            self._on_queued([file.version for file in files])

    def _commit(self, files: list[CompleteFile]) -> int:
        """Commit these files as pending, and return how many were new.

        Retry until the ledger commits them or the archive stops, because the next scan, which would find them again,
        may be far off.
        """
        versions = [file.version for file in files]
        written = {file.version.path for file in files if file.written}
        while True:
            try:
                with self._committing:
                    unknown = {version.path for version in self._ledger.unknown(versions)}
                    added = self._enqueue(versions)
                    for path in written - unknown:
                        self._on_rewritten(path)
                    self._settling.acknowledge(versions)
            except CloudArchiveError as error:
                if self.problem is None:
                    logger.error("%s", error)
                self.problem = str(error)
                if self._stopping.wait(RETRY_SECONDS):
                    self.uncommitted += versions
                    self._settling.acknowledge(versions)
                    return 0
            else:
                self.problem = None
                return added
