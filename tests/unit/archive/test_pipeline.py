"""The pipeline as a whole: real threads, a real ledger, a store in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.functional.archives import engine_on, until
from tests.memory_store import MemoryStore


def test_listeners_hear_that_a_file_that_never_settled_is_gone(tmp_path: Path, root: Path) -> None:
    settings = {"CLOUD_ARCHIVE_SETTLE_SECONDS": "1", "CLOUD_ARCHIVE_RESCAN_SECONDS": "0"}
    with engine_on(root, MemoryStore(), tmp_path / "state", **settings) as engine:
        pushed: list[dict[str, Any]] = []
        engine.subscribe(pushed.append)
        until(lambda: bool(pushed) and pushed[-1]["safe_to_stop"], "safe")
        with (root / "a.png").open("wb") as file:
            file.write(b"a")
            file.flush()
            until(lambda: not pushed[-1]["safe_to_stop"], "it waits")
            (root / "a.png").unlink()
        until(lambda: bool(pushed[-1]["safe_to_stop"]), "safe again")
