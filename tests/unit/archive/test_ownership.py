"""The lock, standing by and the hand-over."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import open_archive
from cloud_archive.ledger.recovery import open_ledger
from tests.functional.archives import engine_on, until
from tests.memory_store import MemoryStore


def test_a_lock_that_cannot_be_made_is_no_other_engine(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state directory on a read-only disk: archive without it, rather than stand by for nobody."""
    from filelock import FileLock

    def refuse(self: Any, *args: Any, **how: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state") as engine:
        status = engine.status(look=False)
        assert status.state.value != "standby"
        assert any("No lock could be made" in error for error in status.errors)


def test_a_standby_outlives_a_fault_that_passes(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, store = tmp_path / "state", MemoryStore()
    failed = threading.Event()
    real = open_ledger

    def failing(*arguments: Any, **named: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **named)

    with engine_on(root, MemoryStore(), state) as first:
        until(lambda: first.status(look=False).state.value == "idle", "it archives")
        with engine_on(root, store, state) as standby:
            assert standby.status().state.value == "standby"
            monkeypatch.setattr(open_archive, "open_ledger", failing)
            first.close(5)
            assert failed.wait(10)
            until(lambda: standby.status(look=False).running, "it takes over after all")
            assert standby.problems == ()
            (root / "after.bin").write_bytes(b"after")
            assert standby.flush(20)
    assert store.bodies() == {"out/after.bin": b"after"}
