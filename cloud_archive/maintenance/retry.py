"""Retry requests that failed for a moment, in long operations such as verify, restore and prune."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from ..errors import StoreError

T = TypeVar("T")

MAX_TRIES = 5
FIRST_PAUSE_SECONDS = 0.25  # doubles each time: 2 to 6 s in total, if the store does not ask for more
LONGEST_PAUSE_SECONDS = 30.0


def with_retries(call: Callable[[], T], *, pause: Callable[[float], object] | None = None) -> T:
    """Call, and retry with a growing pause if the store failed in a way that may pass.

    Args:
        pause: waits for a number of seconds; returns True to end the retries.

    Raises:
        StoreError: the last error, or the first one that is not transient.
    """
    for number in range(1, MAX_TRIES + 1):
        try:
            return call()
        except StoreError as error:
            if not error.failure.transient or number == MAX_TRIES:
                raise
            seconds = FIRST_PAUSE_SECONDS * 2.0 ** (number - 1) * (0.5 + random.random())  # noqa: S311
            requested = error.retry_after_seconds or 0.0
            if (pause or threading.Event().wait)(min(LONGEST_PAUSE_SECONDS, max(seconds, requested))):
                raise
    raise AssertionError("unreachable")
