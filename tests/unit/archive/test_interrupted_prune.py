"""The thread of an archive that finishes interrupted prunes."""

from __future__ import annotations

import threading
from pathlib import Path

from cloud_archive.archive.interrupted_prune import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, finish_prunes
from cloud_archive.config.settings import load_settings
from cloud_archive.ledger.deletions import begin_deletions, forget_other_destinations
from cloud_archive.ledger.ledger import Ledger
from tests.memory_store import MemoryStore, refuse

ENVIRON = {
    "S3_BUCKET": "bucket",
    "S3_ENDPOINT_URL": "http://here:1",
    "S3_ACCESS_KEY_ID": "k",
    "S3_SECRET_ACCESS_KEY": "s",
}


class Waits(threading.Event):
    """Is set after ten waits, which take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        if len(self.pauses) == 10:
            self.set()
        return self.is_set()


def test_a_store_that_does_not_say_what_is_there_is_asked_less_and_less_often(tmp_path: Path) -> None:
    settings = load_settings(ENVIRON)
    store, waits = MemoryStore(), Waits()
    store.on_call = lambda operation, key: refuse("403", 403, key)
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=lambda: 1000.0)
    ledger.open()
    forget_other_destinations(ledger, settings.destination)
    begin_deletions(ledger, {"a.png": ()}, since=0.0)
    ledger.clock = lambda: 2000.0
    finish_prunes(settings, ledger, store, waits, may_ask=lambda: True)
    ledger.close()
    assert waits.pauses[0] == 0.0
    assert FIRST_PAUSE_SECONDS / 2 <= waits.pauses[1] <= FIRST_PAUSE_SECONDS <= waits.pauses[2]
    assert LONGEST_PAUSE_SECONDS / 2 <= waits.pauses[-1] <= LONGEST_PAUSE_SECONDS
