"""The gate before the store: it decides when uploads may start, and how many may run in parallel.

If the store refuses every upload or does not answer, the gate closes: the queue waits, and one file at a time is tried,
with growing pauses, until the store accepts one. If the store asks for fewer requests, or stops answering in the middle
of one, the gate halves the number of parallel uploads, and lets only one run if that happens again before a success.
The number then recovers step by step (additive increase, multiplicative decrease, as in RFC 5681, section 3.1).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import NamedTuple

from ..errors import Failure

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
RECOVER_AFTER = 20  # successes until one more parallel upload is allowed, after the number was reduced
LONGEST_RETRY_AFTER_SECONDS = 300.0  # the longest pause that a store can ask for


def backoff_seconds(
    attempts: int, *, first: float, longest: float, jitter: Callable[[], float] = random.random
) -> float:
    """Return an exponential pause in seconds; half of it is random, so that many machines don't retry in step.

    Args:
        attempts: how many have failed so far, at least 1.
        first: seconds after the first failure, before jitter.
        longest: the cap in seconds.
        jitter: returns a number from 0 to 1.
    """
    pause = min(longest, first * 2.0 ** min(attempts - 1, 40))
    return pause * (0.5 + 0.5 * jitter())


class Closed(NamedTuple):
    """Why the gate is closed, until when (in monotonic seconds), and after how many refusals in a row."""

    failure: Failure
    until: float
    refusals: int


class Gate:
    """Admits uploads to the store, `most` in parallel if nothing limits them. Safe to use from any thread.

    It reads no clock and never sleeps: callers pass the time, in seconds of one monotonic clock.
    """

    def __init__(self, most: int, *, jitter: Callable[[], float] = random.random) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._allowed = most
        self._inside = 0
        self._trial: int | None = None  # the thread that tries while the gate is closed
        self._closed: Closed | None = None
        self._closed_by_throttle = False
        self._successes = 0
        self._successes_since_change = 0
        self._jitter = jitter

    def enter(self, now: float) -> float | None:
        """Ask to upload one file. None: begin, then call `leave`. A number: ask again after so many seconds."""
        with self._lock:
            if self._closed is not None:
                if now < self._closed.until:
                    return self._closed.until - now
                if self._trial is not None:
                    return LONGEST_PAUSE_SECONDS  # one trial at a time; its end wakes the waiting threads
                # An upload that began before the gate closed is no trial, because it may take an hour.
                self._trial = threading.get_ident()
            elif self._inside >= self._allowed:
                return LONGEST_PAUSE_SECONDS
            self._inside += 1
            return None

    def leave(self) -> None:
        """Note that an upload is over. Call it in the thread that called `enter`."""
        with self._lock:
            self._inside -= 1
            if self._trial == threading.get_ident():
                self._trial = None

    def note_success(self) -> bool:
        """Note that the store accepted or proved an object. Return whether the gate opened or lets one more in."""
        with self._lock:
            opened, self._closed = self._closed is not None, None
            self._successes += 1
            self._successes_since_change += 1
            if self._allowed < self._most and self._successes_since_change >= RECOVER_AFTER:
                self._allowed += 1
                self._successes_since_change = 0
                return True
            return opened

    def note_refusal(
        self, failure: Failure, now: float, *, retry_after_seconds: float | None = None
    ) -> float:
        """Close the gate, or keep it closed for longer. Return the seconds until the next trial.

        Args:
            retry_after_seconds: how long the store asked to wait; None = it did not.
        """
        with self._lock:
            refusals = 1
            # Uploads that run in parallel fail together: that is one refusal.
            in_pause = self._closed is not None and now < self._closed.until
            if self._closed is not None:
                refusals = self._closed.refusals + (0 if in_pause else 1)
            if failure.throttled and not (in_pause and self._closed_by_throttle):
                self._allowed = max(1, self._allowed // 2) if refusals == 1 else 1
                self._successes_since_change = 0
            self._closed_by_throttle = failure.throttled or (in_pause and self._closed_by_throttle)
            pause = backoff_seconds(
                refusals, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS, jitter=self._jitter
            )
            if retry_after_seconds is not None:
                pause = max(pause, min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))
            until = now + pause
            if self._closed is not None and now < self._closed.until:
                until = max(until, self._closed.until)
            self._closed = Closed(failure, until, refusals)
            return until - now

    def end_pause(self) -> None:
        """Let one upload try now. The gate stays closed until an upload succeeds."""
        with self._lock:
            if self._closed is not None:
                self._closed = self._closed._replace(until=float("-inf"))

    @property
    def closed(self) -> Closed | None:
        """Why uploads wait for the store; None while the gate is open."""
        with self._lock:
            return self._closed

    @property
    def narrowed(self) -> bool:
        """Whether fewer uploads may run than there are workers, so that some workers may have to wait."""
        with self._lock:
            return self._closed is not None or self._allowed < self._most

    @property
    def successes(self) -> int:
        """How many objects the store has accepted or proved since the start."""
        with self._lock:
            return self._successes
