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
        self.uncommitted: list[FileVersion] = []  # what could not be committed before the end
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

        No file is counted twice, unless a commit takes longer than `COMMIT_WAIT_SECONDS`. None is missed, because
        files that are not in the ledger yet are counted first.
        """
        quiet = self._committing.acquire(timeout=COMMIT_WAIT_SECONDS)
        try:
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
            self._commit([file.version for file in files], {f.version.path for f in files if f.written})
            if ending:
                return

    def _commit(self, versions: list[FileVersion], written: set[str]) -> None:
        """Queue these versions.

        Retry until the ledger commits them or the archive stops, because the next scan, which would find them again,
        may be far off.

        Args:
            written: paths of files that a program wrote to; `on_rewritten` gets those whose version the ledger knows.
        """
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
                if self._stopping.wait(1.0):
                    self.uncommitted += versions  # the next start's scan finds them
                    self._settling.acknowledge(versions)
                    return
            except BaseException:
                self._settling.acknowledge(versions)  # this thread is replaced, and a scan finds them again
                raise
            else:
                self.problem = None
                if added:
                    self._on_queued(versions)
                return
