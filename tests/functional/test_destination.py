"""Another bucket or endpoint than at the last start, on a real ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore


def test_a_new_bucket_is_logged_once_and_only_if_files_were_archived(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def start(bucket: str, *names: str) -> list[str]:
        caplog.clear()
        with engine_on(root, MemoryStore(), tmp_path / "state", S3_BUCKET=bucket) as engine:
            for name in names:
                (root / name).write_bytes(name.encode())
            assert engine.flush(60)
        return [message for message in caplog.messages if message.startswith("The destination was")]

    assert start("first") == []
    assert start("second", "a.png", "b.png") == [], "nothing was archived to the first bucket"
    assert start("second") == []
    (message,) = start("third")
    assert "/second and is " in message
    assert "/third now. The ledger still counts 2 files as archived, from before this change." in message
    assert "verify --repair" in message
    assert start("third") == []
