"""The archiver's life cycle."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.archive.archive import Archiver
from cloud_archive.config.settings import load_settings
from cloud_archive.ledger.ledger import Ledger
from tests.memory_store import MemoryStore


def test_a_drain_waits_for_a_file_that_was_not_checked_yet(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came a moment before SIGTERM: its size is not known yet, and that does not make it empty."""
    monkeypatch.setattr("cloud_archive.intake.settle_queue.SettleQueue.poll", lambda self, now: None)
    settings = load_settings({"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b", "S3_BUCKET": "c-c"})
    archiver = Archiver(settings, root, ledger, MemoryStore(), session_id="s")
    archiver.start()
    try:
        (root / "a.png").write_bytes(b"a")
        archiver.rescan(10)
        assert not archiver.drain(0.3)
    finally:
        archiver.stop(60)
