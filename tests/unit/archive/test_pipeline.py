"""The pipeline as a whole: real threads, a real ledger, a store in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_archive.intake.settle_entry import WaitingFile
from tests.functional.archives import archiving, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def test_a_push_shows_that_a_file_that_never_settled_is_gone(tmp_path: Path, root: Path) -> None:
    settings = {"CLOUD_ARCHIVE_SETTLE_SECONDS": "1", "CLOUD_ARCHIVE_RESCAN_SECONDS": "0"}
    with engine_on(root, MemoryStore(), tmp_path / "state", **settings) as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        wait_until(lambda: bool(pushed) and pushed[-1]["safe_to_stop"], "safe")
        with (root / "a.png").open("wb") as file:
            file.write(b"a")
            file.flush()
            wait_until(lambda: not pushed[-1]["safe_to_stop"], "it waits")
            (root / "a.png").unlink()
        wait_until(lambda: bool(pushed[-1]["safe_to_stop"]), "safe again")


def test_a_file_that_was_empty_at_its_last_check_counts_at_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archiving(root, MemoryStore()) as archiver:
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.watcher.stop(60)
        waiting = [WaitingFile(name, 0, "") for name in ("late.png", "empty.png", "gone.png")]
        monkeypatch.setattr(watch, "waiting", lambda: waiting)
        (root / "late.png").write_bytes(b"abc")
        (root / "empty.png").touch()
        assert archiver.pipeline.stop(60) == {"late.png": 3}
