"""When a command gives up on a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..archive.gate import Closed
from ..intake.settle_rules import BEING_WRITTEN, UNREADABLE

GIVE_UP_SECONDS = 60.0  # without progress; see `StallTimer`
REFUSALS = 2  # in a row, of a kind that waiting does not cure


class Refusals:
    """Counts refusals in a row. One alone proves nothing: a store that is just starting may refuse, too."""

    def __init__(self) -> None:
        self._first: int | None = None

    def are_final(self, closed: Closed | None) -> bool:
        """Return whether `REFUSALS` came in a row. Call it with each state of the gate; None: it is open."""
        if closed is None or closed.failure.transient:
            self._first = None
            return False
        if self._first is None or closed.refusals < self._first:
            self._first = closed.refusals
        return closed.refusals - self._first + 1 >= REFUSALS


class StallTimer:
    """Measures how long there was no progress: no file ended, was sent further, grew or settled."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._since = self._begun
        self._seen: object = None
        self._furthest: dict[str, int] = {}

    def elapsed_seconds(self) -> float:
        """Return the seconds since this timer was made."""
        return self._clock() - self._begun

    def seconds(self, status: Mapping[str, Any]) -> float:
        """Return the seconds since the last progress; call it with each status."""
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
        settling = any(entry["reason"] not in (BEING_WRITTEN, UNREADABLE) for entry in status["waiting"])
        now = self._clock()
        if moved or settling:
            self._since = now
        return now - self._since
