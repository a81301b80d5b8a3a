"""State, logs and locks inside the watched directory are never archived, and the archive becomes idle despite them."""

from __future__ import annotations

import logging
import logging.handlers
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive import own_files
from cloud_archive.cli.ledger_view import read_ledger_view
from cloud_archive.errors import RequestRefused
from cloud_archive.ledger.recovery import move_aside
from cloud_archive.own_files import OwnFiles, note_own_file
from tests.functional.archives import ENVIRON, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Log into the watched directory as `watch --log-file` does; the log rotates every 200 bytes."""
    path = tmp_path / "output/logs/archive.log"
    path.parent.mkdir(parents=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=200, backupCount=3)
    logger = logging.getLogger("cloud_archive")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield path
    logger.removeHandler(handler)
    logger.setLevel(level)
    handler.close()


@pytest.mark.parametrize("state", ["output/state", "output", "output/.cloud-archive-state"])
def test_own_files_in_the_watched_directory_are_never_archived(tmp_path: Path, log: Path, state: str) -> None:
    root, store = tmp_path / "output", MemoryStore()
    environ = {**ENVIRON, "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path / state)}
    for number in range(2):
        with engine_on(root, store, tmp_path / state, CLOUD_ARCHIVE_WATCH="native") as engine:
            wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
            (root / f"{number}.bin").write_bytes(b"%d" % number)
            for _ in range(20):
                logging.getLogger("cloud_archive.test").info("a line that makes the log rotate")
            assert engine.flush(60), engine.status(scan=False)
            assert log.with_name("archive.log.1").exists()
            with pytest.raises(RequestRefused):
                engine.upload("logs/archive.log")
        # A command without an engine must find out by itself where the engine logged to.
        assert read_ledger_view(root, environ).unarchived_files == 0
    assert sorted(store.bodies()) == ["out/0.bin", "out/1.bin"]


def test_the_log_of_a_standby_in_the_watched_directory_is_never_archived(tmp_path: Path) -> None:
    """The standby is another process than the engine that archives."""
    root, state, store = tmp_path / "output", tmp_path / "state", MemoryStore()
    log = root / "logs/standby.log"
    with engine_on(root, store, state) as engine:
        assert engine.flush(60)
        environ = {**os.environ, **ENVIRON, "CLOUD_ARCHIVE_STATE_DIR": str(state)}
        command = [sys.executable, "-m", "cloud_archive", "watch", str(root), "--log-file", str(log)]
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as standby:
            try:
                wait_until(lambda: log.is_file() and "standing by" in log.read_text(), "a standby")
                (root / "a.bin").write_bytes(b"a")
                assert engine.flush(60), engine.status()
            finally:
                standby.terminate()
        assert engine.flush(60), engine.status()
        assert engine.rescan() == "0 new or changed files found."
        assert engine.status().skipped_files == 0
    assert sorted(store.bodies()) == ["out/a.bin"]


def test_a_log_is_known_to_every_thread_that_has_refreshed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another thread reads the list at that moment: a hint for the log comes as soon as it is made."""
    root = tmp_path / "output"
    root.mkdir()
    own = OwnFiles(root, tmp_path / "state")
    note_own_file(root / "logs/standby.log")
    real, known = own_files._noted_logs, []

    def refresh() -> None:
        own.refresh()
        known.append("logs/standby.log" in own)

    def read_slowly(notes: Path) -> list[str]:
        monkeypatch.setattr(own_files, "_noted_logs", real)
        second = threading.Thread(target=refresh)
        second.start()
        second.join(60)
        return real(notes)

    monkeypatch.setattr(own_files, "_noted_logs", read_slowly)
    refresh()
    assert known == [True, True]


@pytest.mark.parametrize("name", ["ledger.sqlite3", "catalog.sqlite3", "jobs.sqlite3"])
def test_a_damaged_database_that_was_kept_is_an_own_file(tmp_path: Path, name: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / (name + suffix)).write_bytes(b"damaged")
    move_aside(tmp_path / name)
    own = OwnFiles(tmp_path, tmp_path)
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert len(kept) == 3
    assert [file for file in kept if file not in own] == []
