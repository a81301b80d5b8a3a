"""What the settle queue knows about a file, and what it reports."""

from __future__ import annotations

from typing import NamedTuple

from ..files import FileVersion
from .settle_rules import FIRST_INTERVAL_SECONDS, QUIET_TIME


class WaitingFile(NamedTuple):
    """A file that is not complete yet, and one of the reasons of `settle_rules`."""

    path: str
    size_bytes: int
    reason: str


class CompleteFile(NamedTuple):
    """A file that is complete.

    Attributes:
        looks_incomplete: its container looks incomplete; it is archived as it is.
        written: a program wrote to it or put it there, so its bytes may be new even if size and mtime are not.
    """

    version: FileVersion
    looks_incomplete: bool
    written: bool


class Entry:
    """What the queue knows about one path."""

    __slots__ = (
        *("changed_at", "closed", "closed_or_moved", "due_at", "handed_over", "in_new_folder"),
        *("interval_seconds", "reason", "ticket", "version", "written"),
    )

    def __init__(self, closed_or_moved: bool, now: float, *, handed_over: bool = False) -> None:
        self.closed_or_moved = closed_or_moved  # as in FileSigns
        self.closed = False  # as in FileSigns
        self.in_new_folder = False  # as in FileSigns
        self.written = False  # a program wrote to it or put it there since its last hand-over
        self.changed_at = now  # when a check last found a change, or a hint last restarted the quiet time
        self.due_at = now
        self.ticket = 0  # of its valid entry in the heap; every hint that matters issues a new one
        self.version: FileVersion | None = None  # at the last check
        self.interval_seconds = FIRST_INTERVAL_SECONDS
        self.reason = QUIET_TIME
        self.handed_over = handed_over  # recently, and no check has found another version since

    @property
    def pending_files(self) -> int:
        """What the entry adds to `SettleQueue.pending_files`: 0 if the file is empty or was handed over, else 1."""
        is_empty = self.version is not None and self.version.size_bytes == 0
        return 0 if self.handed_over or is_empty else 1

    @property
    def pending_bytes(self) -> int:
        """What the entry adds to `SettleQueue.pending_bytes`: its size at the last check; 0 if it was handed over."""
        return self.version.size_bytes if self.version is not None and not self.handed_over else 0
