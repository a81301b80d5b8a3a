"""Decide whether a file is complete: its writer has finished.

The evidence, strongest first:

1. The file was closed after writing, or renamed into place, and nothing reopened it for a short time. The time is
   shorter if its container looks complete. A file in a new folder may have been closed before the folder was watched,
   so there it counts as closed if no process has it open for writing.
2. The file is known only from a created event or a scan. Then size, mtime and inode must stay unchanged for the
   settle time, and no process may have the file open for writing.
3. Its container looks complete. A file whose container looks incomplete is archived as it is, once no process writes
   to it and it has stayed unchanged for a time.

The system can't always tell whether a process writes (another user's file, network filesystems). Then a file that was
created while we watched and has not been closed, or whose container looks incomplete, waits for
`QuietTimes.partial_unsure`; one of an unknown format that was not closed waits for `QuietTimes.unsure`.

No deadline ends the wait for a writer that the system names, because half a file must never be archived.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..beneath import open_file
from ..errors import FileUnreadable, FileVanished
from ..files import FileVersion
from .containers import ContainerState, inspect_container
from .open_files import has_writer

BEING_WRITTEN = "being written"
QUIET_TIME = "may still change"
LOOKS_INCOMPLETE = "looks incomplete"
UNREADABLE = "unreadable"
FIRST_INTERVAL_SECONDS = 0.1
"""Base of the intervals between checks of a file that has a writer; each is 1.5 times as long as the one before."""
ROUNDING_SECONDS = 1e-6
"""Tolerance for the rounding of sums of times."""


class QuietTimes(NamedTuple):
    """How long a file must stay unchanged, in seconds.

    Attributes:
        closed_whole: closed or renamed, and its container looks complete.
        closed: closed, or renamed and without a writer, in a format that doesn't show its end.
        closed_incomplete: closed or renamed, its container looks incomplete, and no process writes to it.
        partial_unsure: its container looks incomplete, or it was created and not closed, and the system can't tell
            whether a process writes to it.
        unsure: not closed, or renamed since, in a format that doesn't show its end, and the system can't tell whether a
            process writes to it. The settle time applies where it is longer.
        empty: the file has no bytes.
        unreadable: between two attempts to read it.
        longest_interval: the longest time between two checks of a readable file, unless the settle time is longer.
    """

    closed_whole: float = 0.1
    closed: float = 0.5
    closed_incomplete: float = 0.5
    partial_unsure: float = 600.0
    unsure: float = 10.0
    empty: float = 10.0
    unreadable: float = 60.0
    longest_interval: float = 2.0


class FileSigns(NamedTuple):
    """What the queue knows about a file from its events.

    Attributes:
        closed_or_moved: it was closed after writing, or renamed, and no check has found another size or inode since.
        closed: the last of these events was a close.
        in_new_folder: a scan found it in a new folder, so that its close may have come before the folder was watched,
            and no check has found another size or inode since.
        created_and_open: it was created while we watched, and has not been closed.
        quiet_seconds: how long it has stayed unchanged.
        interval_seconds: how long it last waited for a writer; after each change `FIRST_INTERVAL_SECONDS`.
    """

    closed_or_moved: bool
    closed: bool
    in_new_folder: bool
    created_and_open: bool
    quiet_seconds: float
    interval_seconds: float


class Complete(NamedTuple):
    """The file is complete.

    Attributes:
        looks_incomplete: its container looks incomplete; it is archived as it is.
        no_writer: the system says that no process writes to it.
    """

    looks_incomplete: bool
    no_writer: bool


class Wait(NamedTuple):
    """The file is not complete yet: why, and when to check it again."""

    reason: str
    seconds: float


class SettleRules:
    """Decide whether files are complete. Holds no state; safe to use from any thread.

    Args:
        settle_seconds: how long a file that is known only from a created event or a scan must stay unchanged.
        writer_of: whether a process writes to a file, on a network filesystem also one of another machine; None = the
            system can't tell.
        wall_clock: seconds since 1970, compared with the files' own timestamps.
    """

    def __init__(
        self,
        root: Path,
        *,
        settle_seconds: float,
        writer_of: Callable[[Path, str], bool | None] = has_writer,
        inspect: Callable[[BinaryIO, str, int], ContainerState] = inspect_container,
        quiet: QuietTimes | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._settle_seconds = settle_seconds
        self._writer_of = writer_of
        self._inspect = inspect
        self._wall_clock = wall_clock
        self.quiet = quiet or QuietTimes()

    def decide(self, version: FileVersion, signs: FileSigns) -> Complete | Wait:
        """Return whether this version is complete, or how long to wait.

        Raises:
            FileVanished: the file is missing, or Windows knows it by another name (a short one, for example).
            FileUnreadable: the file can't be read.
        """
        quiet = self.quiet
        path, quiet_seconds = version.path, signs.quiet_seconds
        if version.size_bytes == 0:
            return self._decide_empty(path, quiet_seconds)
        missed_close = signs.in_new_folder and not signs.closed_or_moved
        if missed_close and self._writer_of(self._root, path) is False:
            signs = signs._replace(closed_or_moved=True, closed=True)
        shortest = quiet.closed_whole if signs.closed_or_moved else self._settle_seconds
        is_quiet = quiet_seconds >= shortest - ROUNDING_SECONDS
        age = 0.0 if is_quiet else self._age(version)
        writer = self._writer_of(self._root, path) if is_quiet or age >= self._settle_seconds else None
        if writer is False:  # the file's own timestamps count, so that an old backlog need not wait
            quiet_seconds = max(quiet_seconds, age)
        if quiet_seconds < shortest - ROUNDING_SECONDS:
            # The quiet time begins at the check that finds a change. With a check half way, a file that has stopped
            # growing waits for 1.5 settle times at most, not for two.
            step = shortest if signs.closed_or_moved else shortest / 2
            return Wait(QUIET_TIME, min(shortest - quiet_seconds, step))
        may_have_writer = quiet_seconds < quiet.partial_unsure - ROUNDING_SECONDS
        if writer is True or (writer is None and signs.created_and_open and may_have_writer):
            return Wait(BEING_WRITTEN, min(signs.interval_seconds * 1.5, quiet.longest_interval))
        try:
            with open_file(self._root, path) as stream:
                container = self._inspect(stream, version.name, version.size_bytes)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileVanished(path) from error
        except OSError as error:
            raise FileUnreadable(path, error.strerror or str(error)) from error
        incomplete = container is ContainerState.INCOMPLETE
        needed = self._needed_seconds(signs, container, no_writer=writer is False)
        if quiet_seconds < needed - ROUNDING_SECONDS:
            reason = LOOKS_INCOMPLETE if incomplete else QUIET_TIME
            return Wait(reason, min(needed - quiet_seconds, max(shortest, quiet.longest_interval)))
        return Complete(incomplete, no_writer=writer is False)

    def _decide_empty(self, path: str, quiet_seconds: float) -> Complete | Wait:
        left = self.quiet.empty - quiet_seconds
        if left > ROUNDING_SECONDS:
            return Wait(QUIET_TIME, min(left, self._settle_seconds / 2))
        writer = self._writer_of(self._root, path)
        if writer is True:
            return Wait(BEING_WRITTEN, self.quiet.longest_interval)
        return Complete(looks_incomplete=False, no_writer=writer is False)

    def _needed_seconds(self, signs: FileSigns, container: ContainerState, *, no_writer: bool) -> float:
        """Return how long the file must stay unchanged; `no_writer`: the system says that no process writes to it."""
        quiet = self.quiet
        if container is ContainerState.COMPLETE:
            return quiet.closed_whole if signs.closed_or_moved else self._settle_seconds
        if container is ContainerState.INCOMPLETE:
            if not no_writer:
                return quiet.partial_unsure
            return quiet.closed_incomplete if signs.closed_or_moved else self._settle_seconds
        if signs.closed_or_moved and (no_writer or signs.closed):
            return quiet.closed
        return self._settle_seconds if no_writer else max(self._settle_seconds, quiet.unsure)

    def _age(self, version: FileVersion) -> float:
        """Return how long the file has stayed unchanged by its own timestamps, in seconds; 0 if they are not known."""
        return self._wall_clock() - version.touched_ns / 1e9 if version.changed_ns else 0.0
