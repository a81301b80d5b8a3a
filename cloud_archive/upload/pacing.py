"""Decide how many parts of a large file are under way at once.

On a slow line, parts that are sent in parallel all end at about the same time, so an interruption loses all of them.
There parts are sent in order: each begins when three quarters of the one before are sent. On a fast line they are sent
in parallel, because one connection alone may not fill it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

QUICK_SECONDS = 1.0
"""Parts are sent in parallel if one takes less than this with the line for itself, because it is cheap to resend."""

MAX_PARTS_UNDER_WAY = 8  # of one upload, under way at once
# After parallel parts were no faster, this many parts go in order before parallel ones are tried again.
PARTS_IN_ORDER = 8
GAIN = 1.5  # on a slow line, parts stay parallel only if they are this many times as fast


class Line:
    """What the uploads to one store have learned about the connection to it; `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.turn = threading.Condition()
        self.echoes_checksum = False  # whether the store answers a part with the SHA-256 that it computed
        self.is_wide = False  # whether parts are sent in parallel
        self.under_way = 0  # parts of all uploads
        self._seconds_alone = 0.0  # that a part takes with a slow line for itself; 0: not known
        self._parts_in_order = 0

    def learn(self, part: PartProgress, *, overlapped: bool) -> None:
        """Choose parallel or in order, by how long the part took that has just arrived. Call this with `turn` held.

        `overlapped`: exactly one other part was under way as well, of the same upload.
        """
        seconds = (self.clock() - part.began) / ((part.parts_at_begin + self.under_way) / 2)
        if seconds < QUICK_SECONDS:
            self.is_wide, self._seconds_alone = True, 0.0
        elif self.is_wide:
            if not self._seconds_alone or seconds * GAIN > self._seconds_alone:
                self.is_wide, self._parts_in_order = False, PARTS_IN_ORDER
        elif self._parts_in_order:
            self._parts_in_order -= 1
        elif overlapped and part.kept_its_speed(self.clock()):
            self.is_wide, self._seconds_alone = True, 2 * part.half_seconds


@dataclass(slots=True)
class PartProgress:
    """A part under way. Times are in seconds of the line's clock; 0: not reached yet."""

    size_bytes: int
    began: float = 0.0
    parts_at_begin: int = 0  # under way when it began, itself included
    sent_bytes: int = 0
    quarter: float = 0.0
    three_quarters: float = 0.0

    @property
    def half_seconds(self) -> float:
        """How long the middle half took, usually with the line for itself."""
        return self.three_quarters - self.quarter

    def kept_its_speed(self, now: float) -> bool:
        """Return whether the last quarter was as fast as before, although the next part was sent as well.

        On a full line each of two connections gets half the speed, so the quarter takes as long as the half before it.
        """
        return 0 < now - self.three_quarters < 0.9 * self.half_seconds


class PartPacer:
    """Decide when the parts of one upload may begin. Thread-safe."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._parts: dict[int, PartProgress] = {}
        self._is_over = False

    def wait_for_turn(self, number: int, size_bytes: int) -> bool:
        """Wait until this part may be queued, and return True; False: a part has failed, so no other may begin."""
        with self._line.turn:
            self._line.turn.wait_for(lambda: self._is_over or self._may_begin())
            if not self._is_over:
                self._parts[number] = PartProgress(size_bytes)
            return not self._is_over

    def begin(self, number: int) -> None:
        """Note that a part's bytes are about to be sent."""
        with self._line.turn:
            part = self._parts[number]
            self._line.under_way += 1
            part.began, part.parts_at_begin = self._line.clock(), self._line.under_way

    def sent(self, number: int, count: int) -> None:
        with self._line.turn:
            part = self._parts[number]
            part.sent_bytes += count
            if not part.quarter and part.sent_bytes * 4 >= part.size_bytes:
                part.quarter = self._line.clock()
            if not part.three_quarters and part.sent_bytes * 4 >= part.size_bytes * 3:
                part.three_quarters = self._line.clock()
                self._line.turn.notify_all()

    def end(self, number: int, *, arrived: bool) -> None:
        """Note that a part has arrived, or never will."""
        with self._line.turn:
            part = self._parts.pop(number)
            if arrived:
                self._line.learn(part, overlapped=len(self._parts) == 1 and self._line.under_way == 2)
            else:
                self._is_over = True
            if part.parts_at_begin:
                self._line.under_way -= 1
            self._line.turn.notify_all()

    def _may_begin(self) -> bool:
        if self._line.is_wide:
            return len(self._parts) < MAX_PARTS_UNDER_WAY
        return len(self._parts) < 2 and all(part.three_quarters for part in self._parts.values())
