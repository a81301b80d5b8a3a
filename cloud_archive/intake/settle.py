"""When is a file complete? `SettleQueue` decides, as a plain function of a monotonic clock.

Hints say that a file exists or was closed; the queue looks at it when its time has come, never before, and hands
over each version once. The signs, strongest first:

1. closed after writing, or renamed into place: nothing reopens it for a short time, shorter where its container
   looks whole;
2. known only from a created event or a scan: size, mtime and inode stand still for `settle_seconds`, and no process
   has it open for writing;
3. its container looks whole. One that does not is archived as it is after a long quiet time without a writer.

Some files' writers the system doesn't tell of (another user's file, some network filesystems). There a file that was
created under our watch and not closed yet counts as being written, a container that isn't whole waits until it is or
has stood still for ten minutes, and a file whose format can't tell waits `QuietTimes.unsure`.

The wall clock and the mtime's own value play no part. There is no deadline after which half a file goes out: a file
whose writer stays waits for ever.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..beneath import open_file
from ..errors import FileUnreadable, FileVanished
from ..files import FileVersion, HintKind, stat_version
from .containers import ContainerState
from .containers import inspect_container as look_at_container
from .open_files import has_writer

_log = logging.getLogger("cloud_archive.settle")

T = TypeVar("T")

BEING_WRITTEN = "being written"
QUIET_TIME = "quiet time"
LOOKS_INCOMPLETE = "looks incomplete"
UNREADABLE = "unreadable"

# One call of poll() looks at no more files, and begins no further look after this time, so that a stop or a fresh
# hint never waits for a backlog.
_BATCH_FILES = 256
_BATCH_SECONDS = 0.1
# What is due is due, whatever a sum of floats makes of it.
_ROUNDING = 1e-6
# Versions handed over are remembered this long, because a late hint (the scan of a directory that was new, after
# the close event of a file in it) must not hand them over again; and no longer, because the scan is the truth.
_REMEMBERED_SECONDS = 30.0
_REMEMBERED_FILES = 50_000


@dataclass(frozen=True, slots=True)
class QuietTimes:
    """How long a file must stand still, in seconds.

    Attributes:
        closed_whole: closed or renamed, and its container looks whole.
        closed: closed or renamed, and the container cannot tell.
        closed_partial: closed or renamed, its container looks incomplete, and the system says that nobody writes.
        partial: looks incomplete, and the system says that nobody writes.
        partial_unsure: looks incomplete, or was created and never closed, and the system cannot tell whether
            somebody writes.
        unsure: never closed, the container cannot tell, and the system cannot tell whether somebody writes; the
            settle time where that is longer.
        empty: has no bytes.
        unreadable: between two tries to read it.
        longest_look: the longest time between two looks at a file whose writer stays.
    """

    closed_whole: float = 0.1
    closed: float = 0.5
    closed_partial: float = 0.5
    partial: float = 30.0
    partial_unsure: float = 600.0
    unsure: float = 10.0
    empty: float = 10.0
    unreadable: float = 60.0
    longest_look: float = 2.0


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that is not complete yet, and why (one of the reasons above)."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class CompleteFile:
    """A file that is complete.

    Attributes:
        looks_partial: its container looks incomplete; it is archived as it is.
        written: a program wrote to it or put it there, so that its bytes may be new whatever its times say.
    """

    version: FileVersion
    looks_partial: bool
    written: bool


class _Waiting:
    """What the queue knows of one path."""

    __slots__ = (
        *("changed", "closed", "due", "interval", "known", "reason", "reported", "seen", "strong", "ticket"),
        "written",
    )

    def __init__(self, strong: bool, now: float, *, known: bool = False) -> None:
        self.strong = strong  # a close or a rename was its last sign
        self.closed = False  # a close was
        self.written = False  # a program wrote to it or put it there since it was handed over last
        self.changed = now  # when it was last seen to change, or hinted as closed
        self.due = now
        self.ticket = 0  # the valid one of its entries in the heap; every hint that matters issues a new one
        self.seen: FileVersion | None = None
        self.interval = 0.1  # until the next look while its writer stays
        self.reason = QUIET_TIME
        self.reported = False  # as unreadable
        self.known = known  # it was handed over not long ago, and no look has found another version since

    @property
    def files(self) -> int:
        """How many it counts for: an empty one is none, and one that was handed over counts behind this queue."""
        return 0 if self.known or (self.seen is not None and self.seen.size_bytes == 0) else 1

    @property
    def size_bytes(self) -> int:
        """As last seen."""
        return self.seen.size_bytes if self.seen is not None and not self.known else 0


class SettleQueue:
    """Files on their way to being complete.

    Args:
        root: the watched directory.
        settle_seconds: how long a file that is known only from a created event or a scan must stand still (2 on
            local filesystems, 10 on network ones).
        on_complete: called with each complete file, which is then marked as `taken`. If it raises, the file is
            offered again.
        on_empty: called once with the path of a file that stays empty.
        on_unreadable: called once with a path and the system's reason; the file is tried again by itself.
        clock: monotonic seconds; measures how long looks take, the time itself comes with each call.
        writer_of: whether somebody writes to a file (None = cannot tell). On network filesystems None is the only
            true answer, since another machine may write.
        look: what a container says; see `containers.look`.
        quiet: the times to stand still.
        wall_clock: seconds since 1970, to be compared with the files' own timestamps.

    `hint` does no input or output and may be called from any thread; `poll` by one thread at a time. No callback is
    called with a lock held.
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
        look: Callable[[BinaryIO, str, int], ContainerState] = look_at_container,
        quiet: QuietTimes | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._wall_clock = wall_clock
        self._settle_seconds = settle_seconds
        self._on_complete = on_complete
        self._on_empty = on_empty
        self._on_unreadable = on_unreadable
        self._clock = clock
        self._writer_of = writer_of
        self._look = look
        self._quiet = quiet or QuietTimes()
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._files: dict[str, _Waiting] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._tickets = itertools.count(1)
        self._pending_files = 0
        self._pending_bytes = 0
        self._handed_files = 0
        # path -> (version, when), oldest first: what was handed over, and what was reported as empty
        self._done: OrderedDict[str, tuple[FileVersion, float]] = OrderedDict()
        self._empty: OrderedDict[str, FileVersion] = OrderedDict()
        self._rewritten: set[str] = set()  # written to since they were handed over
        self._open: OrderedDict[str, None] = OrderedDict()  # created under our watch and not closed since

    # --- from any thread

    def hint(self, path: str, kind: HintKind, now: float) -> None:
        """There may be something new about this file. Quick: takes a lock, touches no file."""
        strong = kind in (HintKind.CLOSED, HintKind.MOVED)
        with self._lock:
            if kind is HintKind.CREATED:
                self._remember(self._open, path, None)
            elif kind is HintKind.CLOSED:
                self._open.pop(path, None)
            waiting = self._files.get(path)
            new = waiting is None
            if waiting is None:
                waiting = self._files[path] = _Waiting(strong, now, known=path in self._done)
                self._pending_files += waiting.files
            if kind.is_write:
                waiting.written = True
                if path in self._done:
                    self._rewritten.add(path)
            if strong:
                waiting.closed = kind is HintKind.CLOSED
            if new:
                pass
            elif strong:
                # It was written to: its quiet time starts now, from whatever it is now.
                waiting.strong = True
                waiting.changed = now
                waiting.interval = 0.1
                self._count(waiting, None, known=waiting.known)
            elif waiting.reason != UNREADABLE:
                return
            self._schedule(path, waiting, now)

    def forget(self, path: str) -> None:
        """Drop whatever is known of this path."""
        with self._lock:
            self._drop(path)
            self._done.pop(path, None)
            self._empty.pop(path, None)
            self._open.pop(path, None)

    def waiting(self) -> tuple[WaitingFile, ...]:
        """The files that are not complete yet, without empty ones, in the order they were first hinted."""
        with self._lock:
            return tuple(
                WaitingFile(path, waiting.seen.size_bytes if waiting.seen else 0, waiting.reason)
                for path, waiting in self._files.items()
                if waiting.seen is None or waiting.seen.size_bytes
            )

    def taken(self, versions: Sequence[FileVersion]) -> None:
        """The next stage has these for good: they no longer count here."""
        with self._lock:
            self._handed_files -= len(versions)
            self._pending_files -= len(versions)
            self._pending_bytes -= sum(version.size_bytes for version in versions)

    @property
    def pending_files(self) -> int:
        """How many files wait or were handed over and not taken yet.

        Empty ones do not count, one that was not looked at yet does; a late hint of one that was handed over does
        not, until a look finds another version of it.
        """
        return self._pending_files

    @property
    def rewritten_files(self) -> int:
        """How many were written to since they were handed over, and are to be handed over again."""
        return len(self._rewritten)

    @property
    def pending_bytes(self) -> int:
        """Their size together, as last seen."""
        return self._pending_bytes

    @property
    def handed_files(self) -> int:
        """How many were handed over and not taken yet."""
        return self._handed_files

    # --- from the polling thread

    def poll(self, now: float) -> float | None:
        """Look at the files whose time has come, and hand over those that are complete.

        Returns:
            Seconds until something is due (0 where more is due than one call looks at), None where nothing waits.
        """
        with self._polling:
            began = self._clock()
            for _ in range(_BATCH_FILES):
                with self._lock:
                    entry = self._next_due(now)
                if entry is None:
                    break
                path, waiting, ticket = entry
                # A look may have been slow: what comes after it is seen later than `now`.
                self._settle_safely(path, waiting, ticket, now + (self._clock() - began))
                if self._clock() - began > _BATCH_SECONDS:
                    break
            with self._lock:
                self._forget_old(now)
                self._discard_stale()
                return max(0.0, self._heap[0][0] - now) if self._heap else None

    def _settle_safely(self, path: str, waiting: _Waiting, ticket: int, now: float) -> None:
        try:
            self._settle(path, waiting, ticket, now)
        except Exception as error:
            # Whatever is odd about one file, it must neither be lost nor hold up another.
            _log.exception("could not look at %r", path)
            self._set_aside(path, waiting, ticket, str(error) or type(error).__name__, now)

    def _settle(self, path: str, waiting: _Waiting, ticket: int, now: float) -> None:
        """One look at one file: complete, or due again later."""
        try:
            seen = stat_version(self._root, path)
        except FileVanished:
            self._finish(path, ticket)
            return
        except FileUnreadable as error:
            self._set_aside(path, waiting, ticket, error.reason, now)
            return
        with self._lock:
            if waiting.ticket != ticket:
                return  # a hint or forget() came in between
            before = waiting.seen
            done = self._done.get(path)
            handed = done is not None and done[0] == seen and now - done[1] < _REMEMBERED_SECONDS
            self._count(waiting, seen, known=handed)
            if before is not None and before != seen:
                # Written to without a close: from here on only standing still counts, or its next close. A new
                # mtime alone is what a copy that keeps times sets just after its close.
                if (before.size_bytes, before.inode) != (seen.size_bytes, seen.inode):
                    waiting.strong = False
                waiting.changed = now
                waiting.interval = 0.1
            if handed and not waiting.written:
                self._drop(path)
                return
            quiet_seconds = now - waiting.changed
        due_in = self._due_in(path, waiting, seen, quiet_seconds)
        if isinstance(due_in, _Verdict):
            self._hand_over(path, waiting, ticket, seen, due_in, now)
        elif isinstance(due_in, FileUnreadable):
            self._set_aside(path, waiting, ticket, due_in.reason, now)
        else:
            with self._lock:
                if waiting.ticket == ticket:
                    waiting.reported = False
                    waiting.reason, seconds = due_in
                    self._schedule(path, waiting, now + max(seconds, 0.01))

    def _due_in(
        self, path: str, waiting: _Waiting, seen: FileVersion, quiet_seconds: float
    ) -> _Verdict | FileUnreadable | tuple[str, float]:
        """What holds this version back and for how long, or what it is. Called without the lock."""
        quiet = self._quiet
        if seen.size_bytes == 0:
            left = quiet.empty - quiet_seconds
            if left > _ROUNDING:
                return (QUIET_TIME, min(left, self._settle_seconds / 2))
            if self._writer_of(self._root, path) is True:
                return (BEING_WRITTEN, quiet.longest_look)
            return _Verdict(partial=False)
        shortest = quiet.closed_whole if waiting.strong else self._settle_seconds
        if quiet_seconds < shortest - _ROUNDING:
            quiet_seconds = self._proven_age(path, seen, quiet_seconds)
        if quiet_seconds < shortest - _ROUNDING:
            # One look on the way tells when it last changed, so that a file that grows is not late by double.
            step = shortest if waiting.strong else shortest / 2
            return (QUIET_TIME, min(shortest - quiet_seconds, step))
        writer = self._writer_of(self._root, path)
        if writer is True or (
            writer is None and path in self._open and quiet_seconds < quiet.partial_unsure - _ROUNDING
        ):
            waiting.interval = min(waiting.interval * 1.5, quiet.longest_look)
            return (BEING_WRITTEN, waiting.interval)
        try:
            with open_file(self._root, path) as stream:
                container = self._look(stream, seen.name, seen.size_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return (QUIET_TIME, 0.0)  # the next stat tells
        except OSError as error:
            return FileUnreadable(path, error.strerror or str(error))
        partial = container is ContainerState.PARTIAL
        needed = self._quiet_needed(waiting, container, sure=writer is False)
        if quiet_seconds < needed - _ROUNDING:
            reason = LOOKS_INCOMPLETE if partial else QUIET_TIME
            return (reason, min(needed - quiet_seconds, max(shortest, quiet.longest_look)))
        return _Verdict(partial)

    def _quiet_needed(self, waiting: _Waiting, container: ContainerState, *, sure: bool) -> float:
        """Return how long the file must stand still, in seconds.

        Args:
            sure: the system says that no process writes to it.
        """
        quiet = self._quiet
        if container is ContainerState.WHOLE:
            return quiet.closed_whole if waiting.strong else self._settle_seconds
        if container is ContainerState.PARTIAL:
            if not sure:
                return quiet.partial_unsure
            return quiet.closed_partial if waiting.strong else quiet.partial
        if waiting.strong and (sure or waiting.closed):
            return quiet.closed
        return self._settle_seconds if sure else max(self._settle_seconds, quiet.unsure)

    def _proven_age(self, path: str, seen: FileVersion, quiet_seconds: float) -> float:
        """How long it stands still by its own timestamps, where the system says that nobody writes.

        An old backlog need not be watched standing still all over again. A clock that is wrong cannot harm: without
        the system's word the timestamps count for nothing.
        """
        age = self._wall_clock() - seen.touched_ns / 1e9 if seen.changed_ns else 0.0
        if age < self._settle_seconds or self._writer_of(self._root, path) is not False:
            return quiet_seconds
        return max(quiet_seconds, age)

    def _hand_over(
        self,
        path: str,
        waiting: _Waiting,
        ticket: int,
        seen: FileVersion,
        verdict: _Verdict,
        now: float,
    ) -> None:
        try:
            unchanged = stat_version(self._root, path) == seen
        except (FileVanished, FileUnreadable):
            unchanged = False
        with self._lock:
            if waiting.ticket != ticket:
                return
            if not unchanged:
                self._schedule(path, waiting, now)
                return
            known_empty = seen.size_bytes == 0 and self._empty.get(path) == seen
            self._drop(path)
            if seen.size_bytes == 0:
                self._remember(self._empty, path, seen)
            else:
                self._empty.pop(path, None)
                self._done[path] = (seen, now)
                self._done.move_to_end(path)
                # Counted until it is taken, so that nobody finds it nowhere in between.
                self._handed_files += 1
                self._pending_files += 1
                self._pending_bytes += seen.size_bytes
        try:
            if seen.size_bytes:
                self._on_complete(CompleteFile(seen, verdict.partial, waiting.written))
            elif not known_empty:
                self._on_empty(path)
        except Exception:
            # The next stage could not take it (a ledger that is locked, say): it is offered again.
            _log.exception("could not hand over %r", path)
            if seen.size_bytes:
                self.taken([seen])
            with self._lock:
                self._done.pop(path, None)
                self._empty.pop(path, None)
                if path not in self._files:
                    again = self._files[path] = _Waiting(waiting.strong, waiting.changed)
                    again.closed, again.written = waiting.closed, waiting.written
                    self._pending_files += 1
                    self._count(again, seen)
                    again.interval = min(waiting.interval * 2, self._quiet.unreadable)
                    self._schedule(path, again, now + again.interval)

    def _set_aside(self, path: str, waiting: _Waiting, ticket: int, reason: str, now: float) -> None:
        with self._lock:
            if waiting.ticket != ticket:
                return
            report, waiting.reported = not waiting.reported, True
            waiting.reason = UNREADABLE
            self._schedule(path, waiting, now + self._quiet.unreadable)
        if report:
            try:
                self._on_unreadable(path, reason)
            except Exception:
                _log.exception("could not report %r as unreadable", path)

    def _finish(self, path: str, ticket: int) -> None:
        with self._lock:
            waiting = self._files.get(path)
            if waiting is not None and waiting.ticket == ticket:
                self._drop(path)
                self._open.pop(path, None)

    # --- with the lock held

    def _schedule(self, path: str, waiting: _Waiting, due: float) -> None:
        waiting.due = due
        waiting.ticket = next(self._tickets)
        heapq.heappush(self._heap, (due, waiting.ticket, path))
        if len(self._heap) > 1000 + 4 * len(self._files):  # hints of a file that is closed time and again
            self._heap = [(each.due, each.ticket, name) for name, each in self._files.items() if each.ticket]
            heapq.heapify(self._heap)

    def _discard_stale(self) -> None:
        while self._heap:
            _, ticket, path = self._heap[0]
            waiting = self._files.get(path)
            if waiting is not None and waiting.ticket == ticket:
                return
            heapq.heappop(self._heap)

    def _next_due(self, now: float) -> tuple[str, _Waiting, int] | None:
        self._discard_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, ticket, path = heapq.heappop(self._heap)
        return path, self._files[path], ticket

    def _count(self, waiting: _Waiting, seen: FileVersion | None, *, known: bool = False) -> None:
        """Remember what was seen; the sums follow."""
        files, size_bytes = waiting.files, waiting.size_bytes
        waiting.seen = seen
        waiting.known = known
        self._pending_files += waiting.files - files
        self._pending_bytes += waiting.size_bytes - size_bytes

    def _drop(self, path: str) -> None:
        waiting = self._files.pop(path, None)
        self._rewritten.discard(path)
        if waiting is not None:
            waiting.ticket = 0
            self._pending_files -= waiting.files
            self._pending_bytes -= waiting.size_bytes

    @staticmethod
    def _remember(places: OrderedDict[str, T], path: str, what: T) -> None:
        places[path] = what
        if len(places) > _REMEMBERED_FILES:
            places.popitem(last=False)

    def _forget_old(self, now: float) -> None:
        while self._done:
            path, (_, when) = next(iter(self._done.items()))
            if now - when < _REMEMBERED_SECONDS and len(self._done) <= _REMEMBERED_FILES:
                return
            del self._done[path]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The file has stood still for long enough."""

    partial: bool


class SettleThread:
    """The thread around a `SettleQueue`: it waits until something is due or hinted."""

    def __init__(
        self,
        queue: SettleQueue,
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str = "cloud-archive-settle",
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def hint(self, path: str, kind: HintKind) -> None:
        """There may be something new about this file. Quick, from any thread."""
        self._queue.hint(path, kind, self._clock())
        self._wake.set()

    def start(self) -> None:
        """Start the thread; once only."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """End the thread after the look it is at; True if it ended in time. Waiting files stay in the queue."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                seconds = self._queue.poll(self._clock())
            except Exception:
                _log.exception("looking at waiting files failed; trying again")
                seconds = 1.0
            self._wake.wait(seconds)
