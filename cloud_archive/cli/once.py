"""The work of `watch --once`: wait until everything in the directory is archived or has failed for good.

| situation | what it does |
| --- | --- |
| the store refuses (wrong key, no such bucket) | ends at the second refusal, with the cause |
| the store does not answer | ends after `GIVE_UP_SECONDS` without any progress |
| a program still writes to a file | waits while the file grows, then up to `GIVE_UP_SECONDS` |
| another process archives the directory | lets that one do it, and asks it for each file that it leaves alone |
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..archive.engine import Engine
from ..archive.status import State, Status
from ..errors import CloudArchiveError, EngineUnavailable
from ..intake.settle_rules import BEING_WRITTEN, UNREADABLE
from ..intake.walk import scan
from ..ledger.rows import FileState
from .give_up import GIVE_UP_SECONDS, Refusals

if TYPE_CHECKING:
    from ..api.client import LocalEngine

_POLL_SECONDS = 0.1  # until the status is read again, unless something changes before
_REST_SECONDS = (
    0.005  # for each waiting file, at most _POLL_SECONDS: with many, not every change needs a new status
)
_SLICE_SECONDS = 5.0
_PAGE = 1000
_AT_REST = ("stopped", "standby", "unavailable", "not_configured")  # states without progress
_SKIPPED_LISTED = 500


@dataclass(slots=True)
class Result:
    """The result of `watch --once`.

    Attributes:
        failures: (path, cause) of each file that is not in the bucket; the path is empty where all are meant.
        skipped: (path, reason) of the first files that are left out; `skipped_files` counts all of them.
        finished: False if a signal ended it.
    """

    archived: int = 0
    already: int = 0
    total: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_files: int = 0
    finished: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `--json`."""
        return {
            "archived": self.archived,
            "already_archived": self.already,
            "failed": len(self.failures),
            "total": self.total,
            "failures": [{"file": path, "cause": cause} for path, cause in self.failures],
            "skipped_files": self.skipped_files,
            "skipped": [{"file": path, "cause": cause} for path, cause in self.skipped],
        }


class Once:
    """Archive everything in the directory, then end.

    Args:
        engine: started by `service.run_daemon`, with backfill `all`.
        on_status: called now and then with the status.
        give_up_seconds: see `GIVE_UP_SECONDS`.
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
        self.result = Result()

    def stop(self) -> None:
        """Let `run` return soon."""
        self._ending.set()

    def run(self) -> None:
        """Archive everything, and fill in `result`."""
        while not self._ending.is_set():
            changes = self._changes()
            status = self._engine.status(scan=False)
            self._on_status(status.to_json())
            if self._engine.problems:
                self.result.failures += [("", problem) for problem in self._engine.problems]
                break
            if status.state is State.STANDBY:
                if self._use_other_engine():
                    break
            elif self._engine.has_scanned and self._is_over(status):
                break
            self._rest(status, changes)
        self.result.finished = not self._ending.is_set()

    def _changes(self) -> int | None:
        """Return how often something changed so far; None while there is no archiver."""
        with contextlib.suppress(CloudArchiveError):
            return self._engine.archiver().changes
        return None

    def _rest(self, status: Status, changes: int | None) -> None:
        """Wait until something has changed; longer if many files wait."""
        if self._ending.wait(min(_POLL_SECONDS, status.pending_files * _REST_SECONDS)):
            return
        if changes is None:
            self._ending.wait(_POLL_SECONDS)
            return
        with contextlib.suppress(CloudArchiveError):
            self._engine.archiver().wait_for_change(changes, _POLL_SECONDS)

    def _is_over(self, status: Status) -> bool:
        try:
            archiver = self._engine.archiver()
            refusal = archiver.refusal
            if self._refusals.are_final(refusal) and refusal is not None:
                return self._end(status, refusal.failure.sentence)
            # Files that can't be read are tried again and again, but nothing here makes them readable.
            unreadable = [w for w in status.waiting if w.reason == UNREADABLE]
            if status.pending_files == len(unreadable) and not status.active:
                if not archiver.running:
                    return self._end(status, "The archive was stopped.")
                found = archiver.rescan()
                now = self._engine.status(scan=False)
                # A file that is in the bucket but not counted yet is still active.
                if found == 0 and now.pending_files == len(unreadable) and not now.active:
                    return self._end(status, None)
            elif self._stall.seconds(status.to_json()) >= self._give_up_seconds:
                waited = f"Given up after {self._give_up_seconds:.0f} s without success."
                cause = "" if refusal is None else refusal.failure.sentence + " "
                return self._end(status, cause + waited)
        except CloudArchiveError as error:
            if self._ending.is_set():
                return False
            return self._end(status, str(error))
        return False

    def _end(self, status: Status, cause: str | None) -> bool:
        """Fill in the result; `cause` is for files without a cause of their own. Returns True."""
        result = self.result
        found = self._engine.status(scan=False)
        result.archived, result.already = found.uploaded_files, found.already_archived_files
        result.total = found.total_files
        for path, own in self._open_rows():
            result.failures.append((path, own or cause or "It was not archived."))
        for entry in status.waiting:
            own = {
                BEING_WRITTEN: "Another program is still writing to it.",
                UNREADABLE: "It can't be read. Allow this user to read it.",
            }.get(entry.reason, f"It is not complete: {entry.reason}.")
            result.failures.append((entry.path, own))
        if cause and not result.failures:
            result.failures.append(("", cause))
        if found.skipped_files:
            rows, _ = self._engine.files("skipped", "", _SKIPPED_LISTED, None)
            self._note_skipped(found.skipped_files, rows)
        return True

    def _note_skipped(self, count: int, rows: Iterable[Mapping[str, Any]]) -> None:
        self.result.skipped_files = count
        self.result.skipped = [(str(row["path"]), str(row["cause"])) for row in rows]

    def _open_rows(self) -> Iterator[tuple[str, str]]:
        """Return (path, cause) of everything in the ledger that is not archived."""
        ledger = self._engine.archiver().ledger
        states = (FileState.FAILED, FileState.PENDING, FileState.UPLOADING)
        before: int | None = None
        while rows := ledger.rows(states=states, limit=_PAGE, before=before):
            for row in rows:
                cause = f"{row.cause or ''} {row.cure or ''}".strip()
                yield row.version.path, cause if row.state is FileState.FAILED else ""
            before = rows[-1].row

    # --- another process archives the directory

    def _use_other_engine(self) -> bool:
        """Let the engine that owns the directory archive it. Returns False if it ended: then this one takes over."""
        from ..api.client import running_engine

        root = self._engine.root
        try:
            other = running_engine(root, self._engine.environ)
        except EngineUnavailable as error:
            self.result.failures.append(("", str(error)))
            return True
        if other is None:
            return self._stall.elapsed_seconds() >= self._give_up_seconds and self._fail_without_other()
        try:
            return self._flush(other) and self._upload_missing(other)
        except EngineUnavailable:
            return False

    def _fail_without_other(self) -> bool:
        self.result.failures.append(
            (
                "",
                "Another process is archiving this directory. It can't be contacted; it may belong to another user.",
            )
        )
        return True

    def _flush(self, other: LocalEngine) -> bool:
        """Wait while there is progress. Returns False if this command is stopped."""
        part = _SLICE_SECONDS
        while not self._ending.is_set():
            answer = other.call(
                "POST", "/cloud-sync/flush", {"timeout_seconds": part}, timeout_seconds=part + 60
            )
            status = answer.body.get("status") if isinstance(answer.body, dict) else None
            if answer.status == 200:
                return True
            if answer.status != 504 or not isinstance(status, dict):
                self.result.failures.append(("", answer.message))
                return True
            self._on_status(status)
            # The last scan of the directory gets more time.
            part = _SLICE_SECONDS if status.get("pending_files", 1) else self._give_up_seconds
            if self._stall.seconds(status) >= self._give_up_seconds or status.get("state") in _AT_REST:
                self.result.failures.append(("", answer.message))
                return True
        return False

    def _upload_missing(self, other: LocalEngine) -> bool:
        """Ask the running archive for each file from before its first start; it leaves those alone otherwise."""
        from .ledger_view import own_files, selection_of

        root: Path = self._engine.root
        environ = self._engine.environ
        selection = selection_of(environ, own_files(root, environ))
        wanted = {
            version.path: version.size_bytes
            for version in scan(root, selection.wants_directory)
            if version.size_bytes and selection.wants(version.path)
        }
        for row in other.files("archived"):
            if wanted.get(row["path"]) == row["size_bytes"]:
                del wanted[row["path"]]
                self.result.already += 1
        self.result.total = self.result.already + len(wanted)
        skipped = other.status().get("skipped_files", 0)
        if skipped:
            self._note_skipped(skipped, islice(other.files("skipped"), _SKIPPED_LISTED))
        for path in wanted:
            if self._ending.is_set():
                return False
            answer = other.call("POST", "/cloud-sync/upload", {"file_path": path}, timeout_seconds=90)
            if answer.status == 200:
                self.result.archived += 1
            elif answer.status != 404:  # else it is gone by now
                self.result.failures.append((path, answer.message))
        return True


class StallTimer:
    """Measures how long there was no progress: no file ended, was sent further, grew or settled.

    Args:
        clock: seconds from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._since = self._begun
        self._seen: object = None
        self._furthest: dict[str, int] = {}

    def elapsed_seconds(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._begun

    def seconds(self, status: Mapping[str, Any]) -> float:
        """Return the seconds since the last progress, given the status as it is now."""
        done = tuple(
            status[name]
            for name in ("uploaded_files", "already_archived_files", "failed_files", "vanished_files")
        )
        waiting = tuple((entry["path"], entry["size_bytes"]) for entry in status["waiting"])
        seen = (done, waiting)
        moved = seen != self._seen
        self._seen = seen
        for active in status["active"]:
            name, sent = active["path"], active["sent_bytes"]
            if sent > self._furthest.get(name, 0):
                self._furthest[name] = sent
                moved = True
        # Files that only settle become complete by themselves, however long that takes.
        settling = any(w["reason"] not in (BEING_WRITTEN, UNREADABLE) for w in status["waiting"])
        now = self._clock()
        if moved or settling:
            self._since = now
        return now - self._since
