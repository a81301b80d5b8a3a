"""Trying again what may pass: an operation that asks a hundred thousand times meets a refusal now and then.

Uploads have retries of their own, durable ones; these are for looking, reading and deleting, and end with the
operation.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from ..errors import StoreError

T = TypeVar("T")

TRIES = 5
FIRST_PAUSE_SECONDS = 0.25  # doubles: 4 s in all
LONGEST_PAUSE_SECONDS = 30.0


def with_retries(
    call: Callable[[], T], *, tries: int = TRIES, pause: Callable[[float], object] | None = None
) -> T:
    """Call, and again after a growing pause where the store failed in a way that may pass.

    Args:
        tries: calls at the most.
        pause: waits so many seconds; for tests.

    Raises:
        StoreError: the last one, or the first that cannot pass.
    """
    for number in range(1, tries + 1):
        try:
            return call()
        except StoreError as error:
            if not error.failure.passing or number == tries:
                raise
            seconds = FIRST_PAUSE_SECONDS * 2.0 ** (number - 1) * (0.5 + random.random())  # noqa: S311
            asked = error.retry_after_seconds or 0.0
            (pause or threading.Event().wait)(min(LONGEST_PAUSE_SECONDS, max(seconds, asked)))
    raise AssertionError("unreachable")
