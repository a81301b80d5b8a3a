"""Files that are not archived are counted and listed: left out by the settings, or older than the archive."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.archive.unarchived import unarchived_files
from cloud_archive.archive.unwatched import count_unarchived
from cloud_archive.errors import CloudArchiveError, RequestRefused
from cloud_archive.intake.selection import Selection
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import archiving, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until

OLD_SECONDS = 1_600_000_000
posix = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links and pipes")


def write(root: Path, *paths: str, body: bytes = b"body", old: bool = False) -> None:
    for path in paths:
        local = root / path
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(body)
        if old:
            os.utime(local, (OLD_SECONDS, OLD_SECONDS))


def is_idle(engine: Engine) -> bool:
    return engine.status(scan=False).state.value == "idle"


def list_files(engine: Engine, state: str, query: str = "") -> dict[str, str]:
    """Path to reason, over all pages."""
    found: dict[str, str] = {}
    cursor: str | None = None
    while True:
        rows, cursor = engine.files(state, query, 2, cursor)
        found |= {row["path"]: row["reason"] for row in rows}
        assert {row["state"] for row in rows} <= {state}
        assert all(row["cause"] for row in rows)
        if cursor is None:
            return found


@posix
def test_every_file_that_is_left_out_is_counted_and_listed_with_its_reason(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    write(
        root,
        "a.png",
        ".hidden.png",
        ".cache/x.png",
        ".cache/y.png",
        "half.png.part",
        "notes.txt",
        "raw/a.png",
    )
    write(root, "empty.png", body=b"")
    write(elsewhere, "b.png")
    (root / "linked").symlink_to(elsewhere, target_is_directory=True)
    (root / "link.png").symlink_to(elsewhere / "b.png")
    os.mkfifo(root / "pipe")
    environ = {"CLOUD_ARCHIVE_INCLUDE": "@media", "CLOUD_ARCHIVE_EXCLUDE": "raw/"}
    expected = {
        ".hidden.png": "hidden",
        ".cache/": "hidden",
        "half.png.part": "temporary",
        "notes.txt": "not_included",
        "raw/a.png": "excluded",
        "empty.png": "empty",
        "linked": "link",
        "link.png": "link",
        "pipe": "not_a_file",
    }
    with engine_on(
        root, MemoryStore(), tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="all", **environ
    ) as engine:
        wait_until(
            lambda: engine.status(scan=False).uploaded_files == 1 and is_idle(engine), "a.png is archived"
        )
        status = engine.status()
        assert status.skipped_files == len(expected)
        assert list_files(engine, "skipped") == expected
        assert list_files(engine, "skipped", "LINK") == {"linked": "link", "link.png": "link"}
        assert status.safe_to_stop, "files that are left out are not waited for"

        (root / "notes.txt").unlink()
        assert engine.status().skipped_files == len(expected) - 1
        engine.stop_watching()
        write(root, "more.txt")
        assert engine.status().skipped_files == len(expected), "also while stopped"
        with pytest.raises(RequestRefused):
            engine.files("skipped", "", 10, "?")


def test_what_is_left_out_is_the_same_after_a_scan_that_found_nothing_new(tmp_path: Path) -> None:
    """The scan passes over batches in which nothing was new, and still counts what is in them."""
    root = tmp_path / "root"
    write(root, "a.txt", "b.txt")
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_INCLUDE="@media") as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        for _ in range(3):
            archiver.rescan()
            assert archiver.status(scan=False).skipped_files == 2


def test_an_include_pattern_that_matches_nothing_is_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.png", "b.txt")
    include = "*.pngg, *.txt"
    with archiving(
        root, MemoryStore(), CLOUD_ARCHIVE_BACKFILL="all", CLOUD_ARCHIVE_INCLUDE=include
    ) as archiver:
        wait_until(lambda: archiver.status(scan=False).uploaded_files == 1, "b.txt is archived")
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        (warning,) = archiver.status().errors
        assert "'*.pngg'" in warning
        assert "1 file matched no pattern" in warning
        write(root, "c.pngg")
        wait_until(lambda: archiver.status(scan=False).uploaded_files == 2, "c.pngg is archived")
        assert archiver.status().errors == ()


def test_files_that_were_archived_before_count_as_matched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.png", "b.txt")
    for _ in range(2):
        with archiving(
            root, MemoryStore(), CLOUD_ARCHIVE_BACKFILL="all", CLOUD_ARCHIVE_INCLUDE="*.png"
        ) as archiver:
            assert archiver.flush(60)
            wait_until(lambda: archiver.status(scan=False).state.value == "idle", "it is idle")
            assert archiver.status().errors == ()


def test_where_every_file_is_wanted_no_pattern_is_suspect(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.png")
    with archiving(
        root, MemoryStore(), CLOUD_ARCHIVE_BACKFILL="all", CLOUD_ARCHIVE_INCLUDE="*.png, *.mp4"
    ) as archiver:
        assert archiver.flush(60)
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "it is idle")
        assert archiver.status().errors == ()


# --- older than the first start


def test_files_from_before_the_first_start_are_counted_listed_and_archived_when_asked(tmp_path: Path) -> None:
    root, store = tmp_path / "root", MemoryStore()
    write(root, "a.png", "b.png", "sub/c.png", ".DS_Store", old=True)
    with engine_on(root, store, tmp_path / "state") as engine:
        wait_until(lambda: is_idle(engine), "the first scan")
        status = engine.status()
        assert (status.baseline_files, status.skipped_files, status.safe_to_stop) == (3, 1, True)
        assert list_files(engine, "baseline") == dict.fromkeys(["a.png", "b.png", "sub/c.png"], "baseline")
        assert engine.archive_baseline() == "3 older files are being archived."
        wait_until(lambda: engine.status(scan=False).uploaded_files == 3, "they are archived")
        wait_until(lambda: engine.status().baseline_files == 0, "none is left")
    assert set(store.objects) == {"out/a.png", "out/b.png", "out/sub/c.png"}


def test_a_later_start_still_counts_the_files_from_before_the_first(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.png", "b.png", old=True)
    for _ in range(2):
        with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
            wait_until(lambda: is_idle(engine), "the first scan")
            assert engine.status().baseline_files == 2
    (root / "a.png").unlink()
    with engine_on(root, MemoryStore(), tmp_path / "state") as engine:
        wait_until(lambda: is_idle(engine), "the first scan")
        assert engine.status().baseline_files == 1, "one is gone"


def test_an_archive_that_never_watched_has_a_status(tmp_path: Path) -> None:
    with archiving(tmp_path / "root", MemoryStore(), start=False) as archiver:
        write(tmp_path / "root", ".a.png")
        assert archiver.status(scan=False).skipped_files == 0
        assert archiver.status().skipped_files == 1


def test_a_stopped_archive_says_that_it_must_be_started_first(tmp_path: Path) -> None:
    with (
        archiving(tmp_path / "root", MemoryStore(), start=False) as archiver,
        pytest.raises(CloudArchiveError),
    ):
        archiver.archive_baseline()


def test_files_are_counted_and_listed_without_an_archive(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.png", ".b.png")
    ledger = Ledger(None)
    ledger.open()
    try:
        tally = count_unarchived(root, Selection(), ledger)
        assert (tally.unseen, tally.baseline, tally.skipped_files) == (1, 0, 1)
        files = {
            file.path: file.state for file in unarchived_files(root, Selection(), ledger, lambda *_: None)
        }
        assert files == {"a.png": "unseen", ".b.png": "skipped"}
    finally:
        ledger.close()
