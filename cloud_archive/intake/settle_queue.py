"""Hold files until they are complete.

Hints say that a file may be new or changed. The queue checks each file when it is due, by the rules of
`settle_rules`, and hands over each version that is complete. The caller passes the time and starts the thread.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FileUnreadable, FileVanished
from ..files import FileVersion, HintKind, stat_version
from .containers import ContainerState, inspect_container
from .open_files import has_writer
from .settle_entry import CompleteFile, Entry, WaitingFile
from .settle_rules import (
    BEING_WRITTEN,
    FIRST_INTERVAL_SECONDS,
    UNREADABLE,
    Complete,
    FileSigns,
    QuietTimes,
    SettleRules,
)

_log = logging.getLogger("cloud_archive.settle")

# The limits of one poll(), so that a stop or a new hint does not wait for a backlog.
_BATCH_FILES = 256
_BATCH_SECONDS = 0.1
_SHORTEST_WAIT_SECONDS = 0.01
# A late hint (the scan of a new folder after a file's close event) must not hand a version over again. After this
# time it may, because the scan is the truth.
_REMEMBERED_SECONDS = 30.0
_REMEMBERED_FILES = 50_000


class SettleQueue:
    """Hold files until they are complete.

    Args:
        on_complete: called with each complete file; call `acknowledge` once the next stage holds it. If it raises,
            the file is offered again.
        on_empty: called with the path of a file that stays empty, once per version.
        on_unreadable: called with a path and the system's reason, once until the file could be read; the queue keeps
            trying.
        clock: monotonic seconds; measures how long checks take. The current time comes with each call.
        settle_seconds, writer_of, inspect, quiet, wall_clock: see `SettleRules`.

    `hint` does no input or output; call it from any thread. A callback may call every method but `poll`.
    """

    def __init__(
        self,
        root: Path,
        *,
        settle_seconds: float,
        on_complete: Callable[[CompleteFile], None],
        on_empty: Callable[[str], None],
        on_unreadable: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        writer_of: Callable[[Path, str], bool | None] = has_writer,
        inspect: Callable[[BinaryIO, str, int], ContainerState] = inspect_container,
        quiet: QuietTimes | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._rules = SettleRules(
            root,
            settle_seconds=settle_seconds,
            writer_of=writer_of,
            inspect=inspect,
            quiet=quiet,
            wall_clock=wall_clock,
        )
        self._on_complete = on_complete
        self._on_empty = on_empty
        self._on_unreadable = on_unreadable
        self._clock = clock
        self._lock = threading.Lock()
        self._poll_lock = threading.Lock()
        self._files: dict[str, Entry] = {}
        self._heap: list[tuple[float, int, str]] = []  # (due_at, ticket, path)
        self._tickets = itertools.count(1)
        self._pending_files = self._pending_bytes = self._handed_files = 0
        # The versions handed over, with the time, oldest first; and the empty files that were reported.
        self._handed: OrderedDict[str, tuple[FileVersion, float]] = OrderedDict()
        self._empty: OrderedDict[str, FileVersion] = OrderedDict()
        self._unreadable: dict[str, str] = {}  # path to the system's reason, while the file can't be read
        self._rewritten: set[str] = set()  # written to since their last hand-over
        self._open: OrderedDict[str, None] = OrderedDict()  # created while we watched, and not closed since

    # --- from any thread

    def hint(self, path: str, kind: HintKind, now: float) -> None:
        """Note that the file may be new or changed."""
        closed_or_moved = kind in (HintKind.CLOSED, HintKind.MOVED)
        with self._lock:
            if kind is HintKind.CREATED:
                self._remember(self._open, path, None)
            elif kind is HintKind.CLOSED:
                self._open.pop(path, None)
            entry = self._files.get(path)
            new = entry is None
            if entry is None:
                entry = self._files[path] = Entry(closed_or_moved, now, handed_over=path in self._handed)
                self._pending_files += entry.pending_files
            if kind.is_write:
                entry.written = True
                if path in self._handed:
                    self._rewritten.add(path)
            entry.in_new_folder |= kind is HintKind.IN_NEW_FOLDER
            if closed_or_moved:
                entry.closed = kind is HintKind.CLOSED
            was_empty = entry.version is not None and not entry.version.size_bytes
            if new:
                pass
            elif closed_or_moved or was_empty:
                # A program may have written to it, so the quiet time starts now.
                entry.closed_or_moved |= closed_or_moved
                entry.changed_at = now
                entry.interval_seconds = FIRST_INTERVAL_SECONDS
                self._update(entry, None, handed_over=entry.handed_over)
            elif entry.reason != UNREADABLE and kind is not HintKind.IN_NEW_FOLDER:
                return
            self._schedule(path, entry, now)

    def waiting(self) -> tuple[WaitingFile, ...]:
        """Return the files that are not complete yet, without empty ones, in the order of their first hints."""
        with self._lock:
            return tuple(
                WaitingFile(path, entry.version.size_bytes if entry.version else 0, entry.reason)
                for path, entry in self._files.items()
                if entry.version is None or entry.version.size_bytes
            )

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the path of each file that can't be read now, and the system's reason, newest last."""
        with self._lock:
            return list(self._unreadable.items())

    def forget(self, version: FileVersion, now: float) -> None:
        """Forget a version that the next stage holds already; no-op if a check has found another one."""
        with self._lock:
            entry = self._files.get(version.path)
            if entry is None or entry.version in (None, version):
                self._drop(version.path)
                self._remember(self._handed, version.path, (version, now))

    def acknowledge(self, versions: Sequence[FileVersion]) -> None:
        """Stop counting versions that the next stage holds."""
        with self._lock:
            self._handed_files -= len(versions)
            self._pending_files -= len(versions)
            self._pending_bytes -= sum(version.size_bytes for version in versions)

    @property
    def pending_files(self) -> int:
        """How many files wait, or were handed over and not acknowledged.

        Files that were not checked yet count; empty ones don't. A hint for a file that was handed over lately counts
        only once a check finds another version.
        """
        with self._lock:  # a hand-over takes the file away and adds it again
            return self._pending_files

    @property
    def unreadable_files(self) -> int:
        """How many of the pending files can't be read now."""
        with self._lock:
            return sum(self._files[path].pending_files for path in self._unreadable)

    @property
    def rewritten_files(self) -> int:
        """How many files were written to since their hand-over, and will be checked again."""
        return len(self._rewritten)

    @property
    def pending_bytes(self) -> int:
        """The total size of the pending files at their last checks."""
        with self._lock:
            return self._pending_bytes

    @property
    def handed_files(self) -> int:
        """How many files were handed over and not acknowledged."""
        return self._handed_files

    # --- from the polling thread

    def poll(self, now: float) -> float | None:
        """Check files that are due, and hand over those that are complete.

        Return the seconds until the next call is due; None = only after the next hint.
        """
        with self._poll_lock:
            began = self._clock()
            for _ in range(_BATCH_FILES):
                with self._lock:
                    due = self._next_due(now)
                if due is None:
                    break
                # Checks may be slow, so each starts later than `now`.
                self._check_safely(*due, now + (self._clock() - began))
                if self._clock() - began > _BATCH_SECONDS:
                    break
            with self._lock:
                self._forget_old(now)
                self._discard_stale()
                if self._heap:
                    return max(0.0, self._heap[0][0] - now)
                return _REMEMBERED_SECONDS if self._handed else None

    def _check_safely(self, path: str, entry: Entry, ticket: int, now: float) -> None:
        try:
            self._check(path, entry, ticket, now)
        except FileVanished:
            self._remove(path, ticket)
        except FileUnreadable as error:
            self._set_aside(path, entry, ticket, error.reason, now)
        except Exception as error:
            # An unexpected error in one file must neither lose it nor delay the others.
            _log.exception("Checking %r failed; it is tried again.", path)
            self._set_aside(path, entry, ticket, str(error) or type(error).__name__, now)

    def _check(self, path: str, entry: Entry, ticket: int, now: float) -> None:
        version = stat_version(self._root, path)
        with self._lock:
            if entry.ticket != ticket:
                return  # a hint came in between
            before = entry.version
            last = self._handed.get(path)
            handed_over = last is not None and last[0] == version and now - last[1] < _REMEMBERED_SECONDS
            self._update(entry, version, handed_over=handed_over)
            if before is not None and before != version:
                # Written to without a close: from now on only the quiet time or the next close counts. A changed
                # mtime alone comes from copying tools, which set it right after the close.
                if (before.size_bytes, before.inode) != (version.size_bytes, version.inode):
                    entry.closed_or_moved = entry.in_new_folder = False
                entry.changed_at = now
                entry.interval_seconds = FIRST_INTERVAL_SECONDS
            if handed_over and not entry.written:
                self._drop(path)
                return
            signs = FileSigns(
                closed_or_moved=entry.closed_or_moved,
                closed=entry.closed,
                in_new_folder=entry.in_new_folder,
                created_and_open=path in self._open,
                quiet_seconds=now - entry.changed_at,
                interval_seconds=entry.interval_seconds,
            )
        decision = self._rules.decide(version, signs)
        if isinstance(decision, Complete):
            self._hand_over(path, entry, ticket, version, decision, now)
            return
        with self._lock:
            if entry.ticket == ticket:
                self._unreadable.pop(path, None)
                entry.reason = decision.reason
                if decision.reason == BEING_WRITTEN:
                    entry.interval_seconds = decision.seconds
                self._schedule(path, entry, now + max(decision.seconds, _SHORTEST_WAIT_SECONDS))

    def _hand_over(
        self, path: str, entry: Entry, ticket: int, version: FileVersion, complete: Complete, now: float
    ) -> None:
        try:
            unchanged = stat_version(self._root, path) == version
        except (FileVanished, FileUnreadable):
            unchanged = False
        with self._lock:
            if entry.ticket != ticket:
                return
            if not unchanged:
                self._schedule(path, entry, now)
                return
            empty_reported = version.size_bytes == 0 and self._empty.get(path) == version
            self._drop(path)
            if complete.no_writer:
                self._open.pop(path, None)  # closed before its folder was watched
            if version.size_bytes == 0:
                self._remember(self._empty, path, version)
            else:
                self._empty.pop(path, None)
                self._remember(self._handed, path, (version, now))
                # It counts here until the next stage acknowledges it, so that it is always counted somewhere.
                self._handed_files += 1
                self._pending_files += 1
                self._pending_bytes += version.size_bytes
        try:
            if version.size_bytes:
                self._on_complete(CompleteFile(version, complete.looks_incomplete, entry.written))
            elif not empty_reported:
                self._on_empty(path)
        except Exception:
            # For example, the ledger was locked.
            _log.exception("Handing over %r failed; it is tried again.", path)
            self._take_back(path, entry, version, now)

    def _take_back(self, path: str, entry: Entry, version: FileVersion, now: float) -> None:
        """Queue a file again, because `on_complete` or `on_empty` failed."""
        with self._lock:
            self._handed.pop(path, None)
            self._empty.pop(path, None)
            if path not in self._files:
                again = self._files[path] = Entry(entry.closed_or_moved, entry.changed_at)
                again.closed, again.in_new_folder = entry.closed, entry.in_new_folder
                again.written = entry.written
                self._pending_files += 1
                self._update(again, version)
                again.interval_seconds = min(entry.interval_seconds * 2, self._rules.quiet.unreadable)
                self._schedule(path, again, now + again.interval_seconds)
        if version.size_bytes:
            self.acknowledge([version])  # last, so that the file is always counted

    def _set_aside(self, path: str, entry: Entry, ticket: int, reason: str, now: float) -> None:
        with self._lock:
            if entry.ticket != ticket:
                return
            report = path not in self._unreadable
            self._unreadable[path] = reason
            entry.reason = UNREADABLE
            self._schedule(path, entry, now + self._rules.quiet.unreadable)
        if report:
            try:
                self._on_unreadable(path, reason)
            except Exception:
                _log.exception("%r can't be read, and reporting it failed.", path)

    def _remove(self, path: str, ticket: int) -> None:
        with self._lock:
            entry = self._files.get(path)
            if entry is not None and entry.ticket == ticket:
                self._drop(path)
                self._open.pop(path, None)

    # --- with the lock held

    def _schedule(self, path: str, entry: Entry, due_at: float) -> None:
        entry.due_at = due_at
        entry.ticket = next(self._tickets)
        heapq.heappush(self._heap, (due_at, entry.ticket, path))
        # A file that is closed again and again fills the heap with stale items.
        if len(self._heap) > 1000 + 4 * len(self._files):
            self._heap = [
                (each.due_at, each.ticket, name) for name, each in self._files.items() if each.ticket
            ]
            heapq.heapify(self._heap)

    def _discard_stale(self) -> None:
        while self._heap:
            _, ticket, path = self._heap[0]
            if path in self._files and self._files[path].ticket == ticket:
                return
            heapq.heappop(self._heap)

    def _next_due(self, now: float) -> tuple[str, Entry, int] | None:
        self._discard_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, ticket, path = heapq.heappop(self._heap)
        return path, self._files[path], ticket

    def _update(self, entry: Entry, version: FileVersion | None, *, handed_over: bool = False) -> None:
        files, size_bytes = entry.pending_files, entry.pending_bytes
        entry.version = version
        entry.handed_over = handed_over
        self._pending_files += entry.pending_files - files
        self._pending_bytes += entry.pending_bytes - size_bytes

    def _drop(self, path: str) -> None:
        entry = self._files.pop(path, None)
        self._rewritten.discard(path)
        self._unreadable.pop(path, None)
        if entry is not None:
            entry.ticket = 0
            self._pending_files -= entry.pending_files
            self._pending_bytes -= entry.pending_bytes

    @staticmethod
    def _remember(places: OrderedDict[str, Any], path: str, value: object) -> None:
        places[path] = value
        places.move_to_end(path)
        if len(places) > _REMEMBERED_FILES:
            places.popitem(last=False)

    def _forget_old(self, now: float) -> None:
        while self._handed and now - next(iter(self._handed.values()))[1] >= _REMEMBERED_SECONDS:
            self._handed.popitem(last=False)
