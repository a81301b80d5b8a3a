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

logger = logging.getLogger("cloud_archive.archiver")

CHECK_SECONDS = 10.0


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
    problem = ""
    while not stopping.wait(CHECK_SECONDS):
        if not may_ask():
            continue
        try:
            finish_interrupted_prune(ledger, store, lambda gone: record_deletions(settings, store, gone))
            problem = ""
        except CloudArchiveError as error:
            if str(error) != problem:
                logger.warning("An interrupted prune can't be finished now: %s", error)
            problem = str(error)
