"""Finish a `prune` of this archive that was killed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..catalog.bucket.tombstones import record_deletions
from ..config.settings import Settings
from ..errors import CloudArchiveError
from ..ledger.ledger import Ledger
from ..maintenance.interrupted_prune import finish_interrupted_prune
from ..store.base import ObjectStore
from .gate import backoff_seconds

logger = logging.getLogger("cloud_archive.archiver")

CHECK_SECONDS = 10.0  # between two checks
FIRST_PAUSE_SECONDS = 20.0  # after a check that failed
LONGEST_PAUSE_SECONDS = 300.0  # after several
_DENIED = (
    "The store does not say which objects are there. Run `prune`, or allow s3:ListBucket to this access key."
)


def finish_prunes(
    settings: Settings,
    ledger: Ledger,
    store: ObjectStore,
    stopping: threading.Event,
    *,
    may_ask: Callable[[], bool],
) -> None:
    """Find out every few seconds whether a `prune` was killed, and finish it; until `stopping` is set.

    `may_ask` returns whether the store may be asked now.
    """
    before, failures = "", 0
    pause = 0.0  # because `watch --once` may end soon
    while not stopping.wait(pause):
        pause = CHECK_SECONDS
        if not may_ask():
            continue
        try:
            allowed = finish_interrupted_prune(
                ledger,
                store,
                lambda gone: record_deletions(settings, store, gone),
                destination=settings.destination,
                stopped=stopping.is_set,
            )
            problem = "" if allowed else _DENIED
        except CloudArchiveError as error:
            problem = str(error)
        if problem not in ("", before):
            logger.warning("An interrupted prune can't be finished now: %s", problem)
        before = problem
        failures = failures + 1 if problem else 0
        if problem:
            pause = backoff_seconds(failures, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
