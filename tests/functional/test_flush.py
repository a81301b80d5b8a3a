"""`Archiver.flush` ends when its time is up, or when its caller gave up."""

from __future__ import annotations

import threading
from pathlib import Path

from cloud_archive.archive.archive import Archiver
from cloud_archive.errors import StoreError
from cloud_archive.store.failures import explain
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore
from tests.servers import wait_until


class AwayStore(MemoryStore):
    def put(self, key: str, body: bytes, **_: object) -> None:  # type: ignore[override]
        raise StoreError("PutObject", key, explain("ServiceUnavailable"), status=503)


def test_twenty_given_up_flushes_end_and_the_next_one_ends_in_its_own_time(tmp_path: Path) -> None:
    root = tmp_path / "output"
    with archiving(root, AwayStore()) as archiver:
        (root / "a.png").write_bytes(b"a")
        wait_until(
            lambda: archiver.ledger.totals().pending.files + archiver.ledger.totals().failed.files > 0,
            "it waits",
        )
        cancelled = threading.Event()
        waiting = [threading.Thread(target=flush, args=(archiver, cancelled), daemon=True) for _ in range(20)]
        for thread in waiting:
            thread.start()
        cancelled.set()
        wait_until(lambda: not any(thread.is_alive() for thread in waiting), "all of them ended")
        assert not archiver.flush(0.5)


def flush(archiver: Archiver, cancelled: threading.Event) -> None:
    assert not archiver.flush(3600, cancelled.is_set)
