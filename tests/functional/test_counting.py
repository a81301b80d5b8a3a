"""A file is counted as archived before the status says that nothing is left. Real threads, a store in memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.archive import Archiver
from cloud_archive.archive.events import Event, FileArchived
from cloud_archive.cli.once import Once
from tests.functional.archives import archiving, engine_on
from tests.memory_store import MemoryStore


class SlowCount:
    """Delays the count of archived files until `go` is set, as a busy machine may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.reached = threading.Event()
        on_event = Archiver._on_event

        def count_later(archiver: Archiver, event: Event) -> None:
            if isinstance(event, FileArchived):
                self.reached.set()
                self.go.wait(60)
            on_event(archiver, event)

        monkeypatch.setattr(Archiver, "_on_event", count_later)


def test_a_file_that_is_not_counted_yet_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCount(monkeypatch)
    with archiving(tmp_path / "output", MemoryStore()) as archiver:
        (archiver.root / "a.bin").write_bytes(b"a")
        assert slow.reached.wait(60)
        assert archiver.ledger.totals().archived.files == 1
        assert not archiver.safety.safe_to_stop()
        slow.go.set()
        assert archiver.flush(60)
        assert archiver.status().uploaded_files == 1


def test_once_counts_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCount(monkeypatch)
    with engine_on(tmp_path / "output", MemoryStore(), tmp_path / "state") as engine:
        (engine.root / "a.bin").write_bytes(b"a")
        assert slow.reached.wait(60)
        once = Once(engine)
        seen: list[int] = []
        looked = threading.Event()

        def show(status: Any) -> None:
            seen.append(status["pending_files"])
            if len(seen) > 2:
                looked.set()

        once._on_status = show
        thread = threading.Thread(target=once.run)
        thread.start()
        assert looked.wait(60) or not thread.is_alive()
        slow.go.set()
        thread.join(60)
        assert (once.result.archived, once.result.total) == (1, 1)


def test_once_ends_with_the_last_file_and_not_at_its_next_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.cli.once._POLL_SECONDS", 3600.0)
    with engine_on(tmp_path / "output", MemoryStore(), tmp_path / "state") as engine:
        (engine.root / "a.bin").write_bytes(b"a")
        once = Once(engine)
        thread = threading.Thread(target=once.run, daemon=True)
        thread.start()
        thread.join(60)
        assert (once.result.archived, once.result.total) == (1, 1)
