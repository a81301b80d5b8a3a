"""The work of `watch --once`: wait until everything in the directory is archived or has failed for good.

| situation | what it does |
| --- | --- |
| the store refuses (wrong key, no such bucket) | ends at the second refusal, with the cause |
| the store does not answer | ends after `GIVE_UP_SECONDS` without any progress |
| a program still writes to a file | waits while the file grows, then up to `GIVE_UP_SECONDS` |
| a file can't be read | does not wait for it |
| another process archives the directory | lets that one do it; see `other_engine` |
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..archive.engine import Engine
from ..archive.session import Session
from ..archive.status import State, Status
from ..errors import CloudArchiveError
from ..intake.settle_rules import BEING_WRITTEN, UNREADABLE
from ..ledger.rows import FileState
from ..text import end_sentence
from .give_up import GIVE_UP_SECONDS, Refusals, StallTimer
from .once_result import MAX_SKIPPED_LISTED, Result
from .other_engine import OtherEngine

_POLL_SECONDS = 0.1  # until the status is read again, unless something changes before
# The longest pause that ignores changes. Otherwise thousands of files would mean thousands of statuses.
_REST_SECONDS = 0.25
_PAGE = 1000


class Once:
    """Archive everything in the directory, then end.

    Args:
        engine: started by `service.run_daemon`.
        on_status: called now and then with the status.
        give_up_seconds: see `GIVE_UP_SECONDS`.

    Attributes:
        result: empty until `run` has returned. If a signal ended it, call `note_end` too.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        on_status: Callable[[Mapping[str, Any]], None] = lambda _: None,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self._engine = engine
        self._on_status = on_status
        self._give_up_seconds = give_up_seconds
        self._ending = threading.Event()
        self._stall = StallTimer()
        self._refusals = Refusals()
        self._other = OtherEngine(
            engine.root,
            engine.environ,
            ending=self._ending,
            on_status=on_status,
            give_up_seconds=give_up_seconds,
        )
        self._session: Session | None = None
        self.result = Result()

    def stop(self) -> None:
        """Let `run` return soon."""
        self._ending.set()

    def run(self) -> None:
        while not self._ending.is_set():
            changes = self._changes()
            status = self._engine.status(scan=False)
            self._on_status(status.to_json())
            result = self._find_result(status)
            if result is not None:
                self.result = result
                break
            self._rest(status, changes)
        self.result.finished = not self._ending.is_set()

    def note_end(self, remaining: Sequence[str]) -> None:
        """Correct the result after a signal ended `run` and the engine has closed: it went on archiving meanwhile.

        Args:
            remaining: paths of the files that are not archived.
        """
        result, left = self.result, self._engine.remainder
        known = {path for path, _ in result.failures}
        result.failures += [
            (path, "Stopped before it was archived.") for path in remaining if path not in known
        ]
        if self._session is None or left is None:  # another engine archives the directory
            return
        counters = self._session.counters()
        result.archived, result.already = counters.uploaded, counters.already
        result.total = result.archived + result.already + left.files
        result.finished = left.scanned and not left.files

    def _find_result(self, status: Status) -> Result | None:
        """Return the result; None while there is something left to do."""
        if self._engine.problems:
            return Result(failures=[("", problem) for problem in self._engine.problems])
        if status.state is State.STANDBY:
            return self._other.archive_all()
        return self._own_result(status) if self._engine.has_scanned else None

    def _changes(self) -> int | None:
        """Return how often something changed so far; None while there is no archiver."""
        with contextlib.suppress(CloudArchiveError):
            archiver = self._engine.archiver()
            self._session = archiver.session
            return archiver.changes
        return None

    def _rest(self, status: Status, changes: int | None) -> None:
        """Pause for half the time that all files but the last probably still take, then wait for a change."""
        finished = status.uploaded_files + status.already_archived_files
        left_seconds = (status.pending_files - 1) * self._stall.elapsed_seconds() / max(1, finished)
        if self._ending.wait(max(0.0, min(_REST_SECONDS, left_seconds / 2))):
            return
        if changes is None:
            self._ending.wait(_POLL_SECONDS)
            return
        with contextlib.suppress(CloudArchiveError):
            self._engine.archiver().wait_for_change(changes, _POLL_SECONDS)

    def _own_result(self, status: Status) -> Result | None:
        """Return the result of this engine; None while it can still archive something."""
        try:
            archiver = self._engine.archiver()
            refusal = archiver.refusal
            if self._refusals.are_final(refusal) and refusal is not None:
                return self._make_result(status, refusal.failure.sentence)
            # Files that can't be read are tried again and again, but nothing here makes them readable.
            unreadable = [entry for entry in status.waiting if entry.reason == UNREADABLE]
            if status.pending_files == len(unreadable) and not status.active:
                if not archiver.running:
                    return self._make_result(status, "The archive was stopped.")
                found = archiver.rescan()
                now = self._engine.status(scan=False)
                # Each scan finds the unreadable files again. A file that is in the bucket but not counted yet is still
                # active.
                if found <= len(unreadable) == now.pending_files and not now.active:
                    return self._make_result(status)
            elif self._stall.seconds(status.to_json()) >= self._give_up_seconds:
                waited = f"Given up after {self._give_up_seconds:.0f} s without success."
                unanswered = "The store did not answer. " if status.active else ""
                cause = unanswered if refusal is None else refusal.failure.sentence + " "
                return self._make_result(status, cause + waited)
        except CloudArchiveError as error:
            if self._ending.is_set():
                return None
            result = self._make_result(status)
            result.failures.append(("", str(error)))  # such as a folder that can't be read
            return result
        return None

    def _make_result(self, status: Status, cause: str = "") -> Result:
        """Return what was archived and what was not; `cause` is for files without a cause of their own."""
        now = self._engine.status(scan=False)
        result = Result(now.uploaded_files, now.already_archived_files, now.total_files)
        for path, own in self._open_rows():
            result.failures.append((path, own or cause or "It was not archived."))
        for entry in status.waiting:
            own = {
                BEING_WRITTEN: "Another program is still writing to it.",
                UNREADABLE: "It can't be read. Allow this user to read it.",
            }.get(entry.reason, f"It {entry.reason}.")
            result.failures.append((entry.path, own))
        if cause and not result.failures:
            result.failures.append(("", cause))
        if now.skipped_files:
            rows, _ = self._engine.files("skipped", "", MAX_SKIPPED_LISTED, None)
            result.note_skipped(now.skipped_files, rows)
        return result

    def _open_rows(self) -> Iterator[tuple[str, str]]:
        """Yield (path, cause) of everything in the ledger that is still to be archived."""
        ledger = self._engine.archiver().ledger
        states = (FileState.FAILED, FileState.PENDING, FileState.UPLOADING)
        before: int | None = None
        while rows := ledger.rows(states=states, limit=_PAGE, before=before):
            for row in rows:
                cause = f"{end_sentence(row.cause or '')} {row.cure or ''}".strip()
                yield row.version.path, cause if row.state is FileState.FAILED else ""
            before = rows[-1].row
