"""Files whose bytes change while size and mtime stay as the ledger has them. Real files and a real ledger."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from cloud_archive.archive import recheck
from cloud_archive.archive.archive import Archiver
from cloud_archive.errors import FileUnreadable
from cloud_archive.files import UNSURE_NS, clock_tick_ns, hash_file, stat_version
from cloud_archive.ledger.doubts import WHOLE_TREE_FILES
from cloud_archive.ledger.ledger import Ledger
from tests.functional.archives import archiving as archiving_what_is_new
from tests.functional.archives import wait_for_watches
from tests.memory_store import MemoryStore
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")

OLD_NS = 1_700_000_000_123_456_789


def write(path: Path, body: bytes, mtime_ns: int = OLD_NS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def rewrite_in_place(path: Path, body: bytes) -> None:
    """Write other bytes into the same file and restore its times, as `cp -p` and editors do."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(body)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)


def replace_file(path: Path, body: bytes) -> None:
    """Rename a new file with the same times over it, as `rsync -t` does."""
    before = path.stat()
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_bytes(body)
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)
    assert path.stat().st_size == before.st_size


# With backfill, so that it does not matter whether a file is older than the first scan.
archiving = partial(archiving_what_is_new, CLOUD_ARCHIVE_BACKFILL="all")

REWRITE = pytest.mark.parametrize("rewrite", [rewrite_in_place, replace_file])
Rewrite = Callable[[Path, bytes], None]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that are hashed again."""
    paths: list[str] = []
    real = hash_file

    def noted(root: Path, path: str, *, stopping: Callable[[], bool]) -> object:
        paths.append(path)
        return real(root, path, stopping=stopping)

    monkeypatch.setattr(recheck, "hash_file", noted)
    return paths


def puts(store: MemoryStore) -> int:
    return sum(operation == "PutObject" for operation, *_ in store.calls)


@REWRITE
@pytest.mark.parametrize("watch", ["native", "poll"])
def test_bytes_that_are_written_under_the_same_size_and_time_are_archived(
    tmp_path: Path, rewrite: Rewrite, watch: str
) -> None:
    store = MemoryStore()
    with archiving(tmp_path / "output", store, CLOUD_ARCHIVE_WATCH=watch) as archiver:
        write(archiver.root / "a.bin", b"first!")
        assert archiver.flush(60)
        rewrite(archiver.root / "a.bin", b"second")
        assert archiver.flush(60)
        assert store.bodies() == {"out/a.bin": b"first!", "out/a (1).bin": b"second"}
        rewrite(archiver.root / "a.bin", b"third!")
        assert archiver.flush(60)
        rewrite(archiver.root / "a.bin", b"first!")
        assert archiver.flush(60)
    assert store.bodies() == {
        "out/a.bin": b"first!",
        "out/a (1).bin": b"second",
        "out/a (2).bin": b"third!",
    }


@REWRITE
def test_bytes_that_are_rewritten_while_nothing_runs_are_archived(tmp_path: Path, rewrite: Rewrite) -> None:
    store, root = MemoryStore(), tmp_path / "output"
    with archiving(root, store) as archiver:
        write(root / "a.bin", b"first!")
        assert archiver.flush(60)
    rewrite(root / "a.bin", b"second")
    with archiving(root, store, start=False) as archiver:
        assert not archiver.safety.safe_to_stop(), "these bytes are not hashed yet"
        archiver.start()
        assert archiver.flush(60)
    assert store.bodies() == {"out/a.bin": b"first!", "out/a (1).bin": b"second"}


def test_a_file_whose_attributes_alone_changed_is_hashed_once_and_not_sent(
    tmp_path: Path, hashed: list[str]
) -> None:
    store, root = MemoryStore(), tmp_path / "output"
    # Without events: one that comes late has its file hashed.
    with archiving(root, store, CLOUD_ARCHIVE_WATCH="poll") as archiver:
        for name in ("a.bin", "b.bin", "c.bin"):
            write(root / name, name.encode())
        assert archiver.flush(60)
        assert hashed == []
    (root / "a.bin").chmod(0o600)
    shutil.copy2(root / "b.bin", root / ".b.fresh")
    (root / ".b.fresh").replace(root / "b.bin")
    touched_ns = stat_version(root, "b.bin").touched_ns
    # Hashed within the tick of its last change it would have to be hashed again.
    wait_until(lambda: time.time_ns() > touched_ns + 2 * clock_tick_ns(touched_ns), "its tick is over")
    for _ in range(2):
        with archiving(root, store) as archiver:
            assert archiver.flush(60)
            assert archiver.status().unchecked_files == 0
        assert sorted(hashed) == ["a.bin", "b.bin"]
    assert len(store.bodies()) == puts(store) == 3


def test_a_file_that_is_closed_after_writing_is_hashed_whatever_its_timestamps_say(
    tmp_path: Path, hashed: list[str]
) -> None:
    """Writes through a memory map may change no timestamp until the system writes them back."""
    root = tmp_path / "output"
    root.mkdir()
    write(root / "a.bin", b"first!")  # no event tells of this write
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(60)
        wait_for_watches(archiver)
        before = (root / "a.bin").stat()
        (root / "a.bin").open("r+b").close()
        assert (root / "a.bin").stat().st_ctime_ns == before.st_ctime_ns
        wait_until(lambda: hashed == ["a.bin"], "it is hashed")
        assert archiver.flush(60)


def test_a_file_of_the_baseline_is_archived_once_it_is_written_to(tmp_path: Path) -> None:
    store, root = MemoryStore(), tmp_path / "output"
    root.mkdir()
    for name in ("a.bin", "b.bin"):
        write(root / name, name.encode())
    with archiving_what_is_new(root, store) as archiver:
        assert archiver.flush(60)
        assert store.bodies() == {}
        wait_for_watches(archiver)
        rewrite_in_place(root / "a.bin", b"A.BIN")
        wait_until(lambda: store.bodies() == {"out/a.bin": b"A.BIN"}, "it is archived")


def test_a_file_that_is_requested_by_name_is_hashed(tmp_path: Path) -> None:
    store, root = MemoryStore(), tmp_path / "output"
    with archiving(root, store, start=False) as archiver:
        write(root / "a.bin", b"first!")
        assert archiver.submit("a.bin", 60).archived
        rewrite_in_place(root / "a.bin", b"second")
        assert archiver.submit("a.bin", 60).archived
        assert archiver.submit("a.bin", 60).archived
    assert store.bodies() == {"out/a.bin": b"first!", "out/a (1).bin": b"second"}


def copy_tree(root: Path) -> None:
    shutil.copytree(root, root.with_name("copy"))  # keeps times, not inodes
    shutil.rmtree(root)
    root.with_name("copy").rename(root)


def change_owner(root: Path) -> None:
    for path in root.iterdir():
        os.chown(path, os.getuid(), os.getgid())


@pytest.mark.parametrize("change", [copy_tree, change_owner])
def test_a_tree_that_changed_as_a_whole_is_no_alarm_and_is_hashed_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    store, root = MemoryStore(), tmp_path / "output"
    count = WHOLE_TREE_FILES + 50
    with archiving(root, store) as archiver:
        for number in range(count):
            write(root / f"{number:03}.bin", b"%03d" % number)
        assert archiver.flush(60)
    change(root)
    write(root / "007.bin", b"bad")
    real, held = hash_file, True

    def slow(root: Path, path: str, *, stopping: Callable[[], bool]) -> object:
        wait_until(lambda: not held or stopping(), "the test has read the status")
        return real(root, path, stopping=stopping)

    monkeypatch.setattr(recheck, "hash_file", slow)
    monkeypatch.setattr(recheck, "REST_FACTOR", 0.0)
    with archiving(root, store) as archiver:
        assert archiver.flush(60), "size and time count for the status"
        wait_until(lambda: archiver.status().connection_verified, "the store has answered")
        status = archiver.status()
        assert (status.safe_to_stop, status.state.value, status.unchecked_files) == (True, "idle", count)
        assert len(store.bodies()) == count
        held = False
        wait_until(lambda: archiver.status().unchecked_files == 0, "all are hashed")
        assert archiver.flush(60)
        assert store.bodies()["out/007 (1).bin"] == b"bad"
        assert len(store.bodies()) == count + 1


def downgrade_ledger(ledger: Path) -> None:
    """Turn the ledger into one of version 0.9: without change times, known batches and deletions."""
    with closing(sqlite3.connect(ledger)) as db:
        for name in ("known_row_added", "known_row_changed", "known_row_removed", "known_older_removed"):
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DROP TABLE known_batches")
        db.execute("DROP TABLE deletions")
        db.execute("DELETE FROM meta WHERE name = 'known_epoch'")
        for name in ("files_tried", "files_restored"):
            db.execute(f"DROP INDEX {name}")
        db.execute("ALTER TABLE files DROP COLUMN ctime_offset")
        db.execute("PRAGMA user_version = 3")
        db.commit()


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 35), reason="DROP COLUMN")
def test_a_ledger_of_the_version_before_goes_on_and_only_doubtful_files_are_hashed(
    tmp_path: Path, hashed: list[str]
) -> None:
    store, root, path = MemoryStore(), tmp_path / "output", tmp_path / "ledger.sqlite3"
    with archiving(root, store) as archiver:
        for number in range(300):
            write(root / f"{number:03}.bin", b"%03d" % number, time.time_ns() - 10**12 - number)
        (root / "fresh.bin").write_bytes(b"with the change time of its write")
        assert archiver.flush(60)
    downgrade_ledger(path)
    rewrite_in_place(root / "007.bin", b"bad")
    replace_file(root / "008.bin", b"BAD")
    (root / "009.bin").chmod(0o600)
    hashed.clear()
    with archiving(root, store) as archiver:
        assert archiver.flush(60)
    assert sorted(set(hashed)) == ["007.bin", "008.bin", "009.bin"]
    assert {key for key in store.bodies() if "(" in key} == {"out/007 (1).bin", "out/008 (1).bin"}
    assert len(store.bodies()) == 303


def test_a_file_read_within_the_tick_of_its_last_write_is_hashed_again(
    tmp_path: Path, hashed: list[str]
) -> None:
    """As on FAT, whose clock ticks every 2 s: a second write in the same tick leaves no trace."""
    root = tmp_path / "output"

    def stored_change(archiver: Archiver) -> int | None:
        return archiver.ledger.rows()[0].version.changed_ns

    # Without events: one that comes late has the file hashed.
    with archiving(root, MemoryStore(), CLOUD_ARCHIVE_WATCH="poll") as archiver:
        write(root / "a.bin", b"first!", (time.time_ns() + 10**9) // 10**9 * 10**9)
        assert archiver.flush(60)
        wait_until(lambda: archiver.flush(5) and stored_change(archiver) != UNSURE_NS, "its tick is over")
        assert hashed
        assert archiver.flush(60)
        hashed.clear()
        assert archiver.flush(60)
        assert hashed == []
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    assert ledger.rows()[0].version.changed_ns == (root / "a.bin").stat().st_ctime_ns
    ledger.close()


def test_a_file_that_cannot_be_hashed_keeps_the_status_from_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recheck, "UNREADABLE_SECONDS", 0.2)
    store, root = MemoryStore(), tmp_path / "output"
    with archiving(root, store) as archiver:
        write(root / "a.bin", b"first!")
        assert archiver.flush(60)
        real = hash_file

        def refused(root: Path, path: str, *, stopping: Callable[[], bool]) -> object:
            raise FileUnreadable(path, "Permission denied")

        monkeypatch.setattr(recheck, "hash_file", refused)
        rewrite_in_place(root / "a.bin", b"second")
        wait_until(
            lambda: any("a.bin" in error for error in archiver.status(scan=False).errors), "it is named"
        )
        status = archiver.status()
        assert (status.safe_to_stop, status.unchecked_files) == (False, 1)
        monkeypatch.setattr(recheck, "hash_file", real)
        assert archiver.flush(60)
        assert archiver.status().errors == ()
    assert store.bodies() == {"out/a.bin": b"first!", "out/a (1).bin": b"second"}
